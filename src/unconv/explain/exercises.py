"""The classic exercises on transposed convolution and unpooling, by name."""

from __future__ import annotations

import torch

from unconv.errors import NoSuchUnit, nearest
from unconv.explain.choices import EXERCISES, Exercise, Language, View
from unconv.explain.conv_transpose import Explanation, explain_conv1d_transpose, explain_conv2d_transpose
from unconv.explain.unpool import PoolExplanation, explain_unpool_max
from unconv.kinds import checks_kinds_but


@checks_kinds_but("view", "language")
def explain_exercise(name: str, view: View = "steps", language: Language = "en") -> Explanation | PoolExplanation:
    """Return the explanation of one of the classic exercises.

    Args:
        name: "ones", "unpool", "odd" or "digits".
        view: as for `explain_conv2d_transpose`; unpooling has only "steps".
        language: the language of the words, "en" or "zh".

    Raises:
        NoSuchUnit: a name that no exercise has.
        DtypeError: another view or language, or a name that is not a string.

    Example:
        >>> explain_exercise("digits").output.flatten().tolist()
        [1.0, 10.0, 102.0, 20.0, 203.0, 30.0]
    """
    exercise = exercise_of(name)
    input = torch.tensor(exercise.input, dtype=torch.float32)
    if exercise.operation == "unpool_max":
        return explain_unpool_max(input[None], exercise.kernel, exercise.strides, exercise.padding, language=language)
    kernel = torch.tensor(exercise.kernel, dtype=torch.float32)
    explain = explain_conv1d_transpose if exercise.operation == "conv1d_transpose" else explain_conv2d_transpose
    shape = (1, *exercise.size, 1)
    settings = (exercise.strides, exercise.padding)
    return explain(input[None, ..., None], kernel[..., None, None], shape, *settings, view=view, language=language)


def exercise_of(name: str) -> Exercise:
    """Return the exercise with this name, or refuse the name and list the nearest ones."""
    if name not in EXERCISES:
        raise NoSuchUnit(f"explain_exercise: there is no exercise {name!r}. Pass one of {nearest(name, EXERCISES)}.")
    return EXERCISES[name]
