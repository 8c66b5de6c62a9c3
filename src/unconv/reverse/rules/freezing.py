"""Freeze a step: replace it in methods that treat gates and statistics as constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from unconv.reverse.tape.step import Step, Value

aten = torch.ops.aten

Kind = Literal["gates", "norms", "skipped"]
"""The kinds of frozen steps: a gate, a norm's statistics, or a norm that the paper skips."""


Origin = Literal["said", "gate", "activation"]
"""What a factor of a product is: a gate because the user says so, a gate by its history, or the output of an activation."""


@dataclass(frozen=True)
class Freezing:
    """What a freezer needs to know of the tape.

    Args:
        origins: what each value is as a factor of a product, by its index; None: a signal.
        skip: skip local response norms, as in the paper.
        fresh: the first index that no value has yet.
    """

    origins: Mapping[int, Origin | None]
    skip: bool
    fresh: int


@dataclass(frozen=True)
class Freezer:
    """How an operation is frozen.

    Args:
        rewrite: from the step to its kind and the steps that replace it; None: it stays as it is.
        refusal: from a step that stayed as it is to why it cannot be run backwards; None if it can.
    """

    rewrite: Callable[[Step, Freezing], tuple[Kind, list[Step]] | None]
    refusal: Callable[[Step], str | None] = lambda _step: None


def times(step: Step, factor: float | Tensor) -> Step:
    """Return the step as a product with a constant."""
    x = next(argument for argument in step.args if isinstance(argument, Value))
    return replace(step, operation=aten.mul.Tensor, args=(x, factor), inputs=(x,), outputs=step.outputs[:1], kept=None)


def with_constant(step: Step, position: int) -> Step:
    """Return the step with the argument at `position` as a constant: its recorded value, which the rule kept."""
    entered = iter(step.kept)
    recorded = [next(entered) if isinstance(argument, Value) else None for argument in step.args]
    args = tuple(recorded[k] if k == position else argument for k, argument in enumerate(step.args))
    inputs = tuple(argument for argument in args if isinstance(argument, Value))
    return replace(step, args=args, inputs=inputs, kept=None)
