"""Follow what each axis of each value is: the batch, channels, or samples along one of the image's axes.

The axes of the image are known, and each step changes them in its own way: a convolution puts channels second, a reduction
removes axes, a view splits or merges them. So a value that has lost its channels is not mistaken for a vector of channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any, Literal

import torch
from torch._ops import OpOverload

from unconv.reverse.rules.linear import LINEAR
from unconv.reverse.tape.step import Step, Tape, Value

aten = torch.ops.aten

Axis = int | Literal["batch", "channels", "other"]
"""What an axis is; a number means samples along that axis of the image's maps."""

Axes = tuple[Axis, ...]

_VIEWS = {aten.view.default, aten._unsafe_view.default}
_SQUEEZES = {aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims}
_SELECTIONS = {aten.select.int, aten.unbind.int}
_ORDERS = {aten.permute.default, aten.transpose.int, aten.t.default}
_FOLDED = ("other",)
_INSERTIONS = {aten.stack.default, aten.unsqueeze.default}
_CONVOLUTIONS = {aten.convolution.default}
_LINEAR_LAYERS = {aten.addmm.default, aten.mm.default, LINEAR}


def axes_of(tape: Tape) -> dict[int, Axes]:
    """Return the axes of each value on the tape, by the value's index."""
    by_value: dict[int, Axes] = {tape.value.index: ("batch", "channels", *range(tape.image.ndim - 2))}
    for step in tape.steps:
        for output in step.outputs:
            if output is not None:
                axes = _output_axes(step, output, by_value)
                alone = axes[:1] == _FOLDED and output.shape[0] == 1 and "batch" not in axes
                by_value[output.index] = ("batch", *axes[1:]) if alone else axes
    return by_value


def _output_axes(step: Step, output: Value, by_value: Mapping[int, Axes]) -> Axes:
    """Return the axes of an output."""
    # The operations that change axes in their own way come first; by the count of axes all others can be told apart.
    source = step.inputs[0] if len(step.inputs) == 1 else max(step.inputs, key=lambda value: len(value.shape))
    axes, shape = by_value[source.index], output.shape
    if step.operation in _VIEWS:
        return _viewed(source.shape, axes, shape)
    if step.operation in _ORDERS:
        return tuple(axes[k] for k in _order(step, len(axes)))
    if step.operation in _INSERTIONS:
        position = step.args[1] % len(shape)
        return (*axes[:position], "other", *axes[position:])
    if len(shape) < len(axes):
        return _remaining(step, axes, source.shape, shape)
    if len(shape) > len(axes):
        if step.operation is aten.expand.default:
            return (*_others(len(shape) - len(axes)), *axes)
        unknown: Axes = ("batch", "channels", *_others(len(shape) - 2))  # such as maps put together from patches
        return unknown[: len(shape)]
    if step.operation in _CONVOLUTIONS:  # an input axis of channels elsewhere than second is an axis of the map now
        rest: list[Axis] = ["other" if axis == "channels" else axis for axis in axes]
        return (rest[0], "channels", *rest[2:])
    if step.operation in _LINEAR_LAYERS:  # mixes channels, or samples if the channels are another axis
        return (*axes[:-1], "other" if "channels" in axes[:-1] else "channels")
    return axes


def _remaining(step: Step, axes: Axes, before: Sequence[int], after: Sequence[int]) -> Axes:
    """Return the axes that remain when a step removes some."""
    removed = _removed(step, before)
    remaining = tuple(axis for k, axis in enumerate(axes) if k not in removed)
    lengths = tuple(n for k, n in enumerate(before) if k not in removed)
    if len(remaining) == len(after) and (lengths == tuple(after) or step.operation not in _SQUEEZES | _SELECTIONS):
        return remaining
    unknown: Axes = ("batch", *_others(len(after) - 1))
    return unknown[: len(after)]


def _others(count: int) -> list[Axis]:
    return ["other"] * count


def _removed(step: Step, before: Sequence[int]) -> set[int]:
    """Return which axes of its first argument a step removes; all of them if it names none."""
    rank, operation = len(before), step.operation
    if operation is aten.squeeze.default:
        return {k for k, n in enumerate(before) if n == 1}
    keywords = _keywords(operation, step.args)
    along = keywords.get("dim", keywords.get("dims"))
    if along is None:
        return set(range(rank))
    removed = {axis % rank for axis in (along if isinstance(along, list | tuple) else [along])}
    return {k for k in removed if before[k] == 1} if operation in _SQUEEZES else removed


def _keywords(operation: OpOverload, args: Sequence[Any]) -> dict[str, Any]:
    return {argument.name: value for argument, value in zip(operation._schema.arguments, args, strict=True)}


def _order(step: Step, rank: int) -> list[int]:
    if step.operation is aten.permute.default:
        return [axis % rank for axis in step.args[1]]
    order = list(range(rank))
    if rank > 1:
        a, b = (0, 1) if step.operation is aten.t.default else (axis % rank for axis in step.args[1:])
        order[a], order[b] = b, a
    return order


def _viewed(before: Sequence[int], axes: Axes, after: Sequence[int]) -> Axes:
    """Return the axes of a view: runs of axes with equally many samples before and after hold the same samples."""
    viewed, mixed = _others(len(after)), list[int]()
    for old, new in _runs(before, after) if prod(before) else ():
        if [before[k] for k in old] == [after[k] for k in new]:
            run = [axes[k] for k in old]
        else:
            parts = [axes[k] for k in old if before[k] != 1] or [axes[k] for k in old] or ["other"]
            merged = parts[0] if len(set(parts)) == 1 else _merged(parts)
            long = [k for k in new if after[k] != 1] or new
            run = [merged if k in long else "other" for k in new]
            mixed += long if "channels" in parts and merged != "channels" else []
        for k, axis in zip(new, run, strict=True):
            viewed[k] = axis
    # Channels merged with samples become entries of a vector, unless some channels remain, as in a pixel shuffle.
    if not {"channels", "other"} & set(viewed):
        viewed = ["other" if k in mixed else axis for k, axis in enumerate(viewed)]
    return tuple(viewed)


def _merged(parts: Sequence[Axis]) -> Axis:
    """Return what several axes are once they are merged; samples stay samples if they come first, as in a pixel shuffle."""
    samples = {axis for axis in parts if isinstance(axis, int)}
    if not samples:
        return "channels" if "channels" in parts and "other" not in parts else "other"
    return samples.pop() if len(samples) == 1 and parts[0] in samples else "other"


def _runs(before: Sequence[int], after: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the shortest runs of axes before and after a view that hold the same samples."""
    at = to = 0
    while at < len(before) or to < len(after):
        old, new = [at] if at < len(before) else [], [to] if to < len(after) else []
        while prod(before[k] for k in old) != prod(after[k] for k in new):
            if prod(before[k] for k in old) < prod(after[k] for k in new):
                old.append(at + len(old))
            else:
                new.append(to + len(new))
        at, to = at + len(old), to + len(new)
        yield old, new
