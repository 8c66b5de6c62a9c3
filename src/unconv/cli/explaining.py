"""Read the options of `unconv explain` and make the explanation."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, cast

import typer

from unconv.cli.parsing import read_grid, read_lengths, read_paddings, read_place
from unconv.errors import nearest
from unconv.explain.choices import EXERCISES, VIEW_WORDS, Language, View

if TYPE_CHECKING:
    from torch import Tensor

    from unconv.explain.explanation import Illustration

_POOL = ("output", "dilation", "view")
OPERATIONS = {
    "conv1d_transpose": ("duplicates",),
    "conv2d_transpose": ("duplicates",),
    "unpool_max": _POOL,
    "unpool_avg": _POOL,
}
"""The operations, each with the options that do not apply to it."""


@dataclass(frozen=True)
class Choice:
    """The options of the command line; None for an option that was not given."""

    input: str | None
    kernel: str | None
    stride: str | None
    padding: str | None
    output: str | None
    dilation: str | None
    duplicates: str | None
    view: str | None


def exercise_help() -> str:
    """Return the exercises in words, for the help."""
    return "; ".join(f"{name}, {exercise.words}" for name, exercise in EXERCISES.items())


def view_help() -> str:
    """Return the views in words, for the help."""
    return "; ".join(f"{name}, {words}" for name, words in VIEW_WORDS.items())


def language_of(text: str) -> Language:
    """Return the language that an option names."""
    if text not in ("en", "zh"):
        raise typer.BadParameter(f"--language {text!r}: write en or zh.")
    return cast(Language, text)


def explained(operation: str, choice: Choice) -> Illustration:
    """Return the explanation of an operation, or of an exercise with options in place of its own arguments."""
    exercise = EXERCISES.get(operation)
    name = exercise.operation if exercise else operation
    if name not in OPERATIONS:
        *first, last = OPERATIONS
        raise typer.BadParameter(
            f"{operation!r} cannot be explained. Nearest: {nearest(operation, [*OPERATIONS, *EXERCISES])}. Write "
            f"{', '.join(first)} or {last}, or an exercise: {', '.join(EXERCISES)}."
        )
    _refuse_meaningless(operation, name, choice)
    if choice.view is not None and choice.view not in VIEW_WORDS:
        raise typer.BadParameter(f"--view {choice.view!r}: write one of {', '.join(VIEW_WORDS)}.")
    defaults = exercise and {"input": exercise.input, "kernel": exercise.kernel, "size": exercise.size}
    stride = choice.stride or str(exercise.strides if exercise else 2)
    padding = choice.padding or (exercise.padding if exercise else "SAME")
    if name.startswith("unpool"):
        return _pool(name, choice, defaults or {}, stride, padding)
    return _convolution(1 if name == "conv1d_transpose" else 2, choice, defaults or {}, stride, padding)


def position_of(text: str, explanation: Illustration) -> tuple[int, int] | int:
    """Return the position in `text`: row,column or, along a single axis, a number."""
    return int(text) if explanation.grid[0] == 1 and text.isdecimal() and len(text) < 10 else read_place(text)


def _refuse_meaningless(operation: str, name: str, choice: Choice) -> None:
    for field in fields(choice):
        if field.name in OPERATIONS[name] and getattr(choice, field.name) is not None:
            raise typer.BadParameter(f"--{field.name} does not apply to {operation}. Leave it out.")


def _convolution(axes: int, choice: Choice, defaults: dict[str, Any], stride: str, padding: str) -> Illustration:
    from unconv import explain, ops

    image = _image("--input", choice.input, defaults.get("input"), "2x2" if axes == 2 else "3", axes)
    filters = _kernel(choice.kernel, defaults.get("kernel"), axes, image.shape[-1])
    settings = (
        read_lengths("--stride", stride),
        read_paddings(padding, axes),
        read_lengths("--dilation", choice.dilation or "1"),
    )
    # An exercise keeps its own output size only while nothing else is changed: with other settings it may be impossible.
    is_changed = any((choice.input, choice.kernel, choice.stride, choice.padding, choice.dilation))
    if choice.output is not None:
        size = read_lengths("--output", choice.output)
        if len(size) > axes:
            raise typer.BadParameter(
                f"--output {choice.output!r}: write {'a height and a width: 4x5' if axes == 2 else 'one number'}."
            )
        size = size * (axes + 1 - len(size)) if len(size) == 1 else size
    elif defaults and not is_changed:
        size = defaults["size"]
    else:  # SAME: the largest legal size, input times stride; otherwise the smallest
        legal = ops.legal_output_sizes(tuple(image.shape[1:-1]), tuple(filters.shape[:-2]), *settings)
        size = tuple((sizes[-1] if settings[1] == "SAME" else sizes[0]) if sizes else 0 for sizes in legal)
    explain_function = explain.explain_conv1d_transpose if axes == 1 else explain.explain_conv2d_transpose
    strides, pads, dilations = settings
    view = cast(View, choice.view or "steps")
    return explain_function(image, filters, (1, *size, 1), strides, pads, dilations=dilations, view=view)


def _pool(name: str, choice: Choice, defaults: dict[str, Any], stride: str, padding: str) -> Illustration:
    from unconv import ops

    explain_function = ops.explain_unpool_max if name == "unpool_max" else ops.explain_unpool_avg
    image = _image("--input", choice.input, defaults.get("input"), "4x4", 2)
    window = read_lengths("--kernel", choice.kernel or str(defaults.get("kernel", 2)))
    duplicates = choice.duplicates or "sum"
    return explain_function(image, window, read_lengths("--stride", stride), read_paddings(padding, 2), duplicates)


def _image(option: str, text: str | None, exercise_values: Any, default: str, axes: int) -> Tensor:
    """Return the input that an option describes, (1, samples.., channels); otherwise the exercise's or the default one."""
    import torch

    if text is None and exercise_values is not None:
        values = torch.tensor(exercise_values, dtype=torch.float32)
        return values[None] if values.ndim == axes + 1 else values[None, ..., None]
    text = text or default
    if "," not in text and ";" not in text:
        lengths = read_lengths(option, text)
        if axes == 1 and len(lengths) == 1:
            return _counting(lengths)[None, :, None]
        if len(lengths) == axes + 1:
            return _counting(lengths)[None]
    grid = read_grid(option, text)
    if axes == 1 and len(grid) > 1:
        raise typer.BadParameter(f"{option} {text!r}: write a length, 3, or one row of numbers, 1,2,3.")
    return grid[None, :, :, None] if axes == 2 else grid[:, :, None]


def _kernel(text: str | None, exercise_values: Any, axes: int, channels: int) -> Tensor:
    """Return the kernel that an option describes, [kernel.., 1, channels]; rows of values serve every channel."""
    import torch

    if text is None and exercise_values is not None:
        kernel = torch.tensor(exercise_values, dtype=torch.float32)
        return kernel[..., None, None].expand(*kernel.shape, 1, channels)
    text = text or "3"
    if "," not in text and ";" not in text:
        lengths = read_lengths("--kernel", text)
        if len(lengths) <= axes:
            return _counting((*lengths * (axes + 1 - len(lengths)), 1, channels))
    kernel = _image("--kernel", text, None, text, axes)[0]
    return kernel[..., None].expand(*kernel.shape, channels)


def _counting(shape: tuple[int, ...]) -> Tensor:
    """Return a tensor of this shape that counts 1, 2, 3.."""
    import torch

    count = 1
    for length in shape:
        count *= length
    if count > 10**6:
        raise typer.BadParameter(f"{'x'.join(map(str, shape))}: this is more than 1000 x 1000 numbers. Write fewer.")
    return torch.arange(1.0, count + 1).reshape(shape)
