"""What the axes of each value are: the batch, channels, or samples along one of the image's axes.

The image says what its axes are, and each step what it makes of them: a convolution puts channels second, a reduction
takes axes away, a view splits or merges them. So a value that has lost its channels is not taken for a vector of them.
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
"""What an axis is; a number stands for samples along that axis of the image's maps."""

Axes = tuple[Axis, ...]

_VIEWS = {aten.view.default, aten._unsafe_view.default}
_SQUEEZES = {aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims}
_TAKEN = {aten.select.int, aten.unbind.int}
_ORDERS = {aten.permute.default, aten.transpose.int, aten.t.default}
_ALONE = ("other",)
_MORE = {aten.stack.default, aten.unsqueeze.default}
_SECOND = {aten.convolution.default}
_LAST = {aten.addmm.default, aten.mm.default, LINEAR}


def axes_of(tape: Tape) -> dict[int, Axes]:
    """Return what the axes of each value on the tape are, by the value's index."""
    known: dict[int, Axes] = {tape.value.index: ("batch", "channels", *range(tape.image.ndim - 2))}
    for step in tape.steps:
        for output in step.outputs:
            if output is not None:
                made = _made(step, output, known)
                alone = made[:1] == _ALONE and output.shape[0] == 1 and "batch" not in made
                known[output.index] = ("batch", *made[1:]) if alone else made
    return known


def _made(step: Step, output: Value, known: Mapping[int, Axes]) -> Axes:
    """Return what the axes of an output are."""
    source = step.inputs[0] if len(step.inputs) == 1 else max(step.inputs, key=lambda value: len(value.shape))
    axes, shape = known[source.index], output.shape
    if step.operation in _VIEWS:
        return _viewed(source.shape, axes, shape)
    if step.operation in _ORDERS:
        return tuple(axes[k] for k in _order(step, len(axes)))
    if step.operation in _MORE:
        at = step.args[1] % len(shape)
        return (*axes[:at], "other", *axes[at:])
    if len(shape) < len(axes):
        return _fewer(step, axes, source.shape, shape)
    if len(shape) > len(axes):
        if step.operation is aten.expand.default:
            return (*_others(len(shape) - len(axes)), *axes)
        unknown: Axes = ("batch", "channels", *_others(len(shape) - 2))  # put together from patches
        return unknown[: len(shape)]
    if step.operation in _SECOND:  # what were channels before is a map's axis now, if it is still there
        rest: list[Axis] = ["other" if axis == "channels" else axis for axis in axes]
        return (rest[0], "channels", *rest[2:])
    if step.operation in _LAST:  # mixes channels, or, where these stand elsewhere, samples
        return (*axes[:-1], "other" if "channels" in axes[:-1] else "channels")
    return axes


def _fewer(step: Step, axes: Axes, before: Sequence[int], after: Sequence[int]) -> Axes:
    """Return what is left of axes some of which a step takes away."""
    gone = _gone(step, before)
    left = tuple(axis for k, axis in enumerate(axes) if k not in gone)
    lengths = tuple(n for k, n in enumerate(before) if k not in gone)
    if len(left) == len(after) and (lengths == tuple(after) or step.operation not in _SQUEEZES | _TAKEN):
        return left
    unknown: Axes = ("batch", *_others(len(after) - 1))
    return unknown[: len(after)]


def _others(count: int) -> list[Axis]:
    return ["other"] * count


def _gone(step: Step, before: Sequence[int]) -> set[int]:
    """Return which axes of its first argument a step takes away, where it can be told."""
    rank, operation = len(before), step.operation
    if operation is aten.squeeze.default:
        return {k for k, n in enumerate(before) if n == 1}
    named = _named(operation, step.args)
    along = named.get("dim", named.get("dims"))
    if along is None:
        return set(range(rank))
    gone = {axis % rank for axis in (along if isinstance(along, list | tuple) else [along])}
    return {k for k in gone if before[k] == 1} if operation in _SQUEEZES else gone


def _named(operation: OpOverload, args: Sequence[Any]) -> dict[str, Any]:
    return {argument.name: given for argument, given in zip(operation._schema.arguments, args, strict=True)}


def _order(step: Step, rank: int) -> list[int]:
    if step.operation is aten.permute.default:
        return [axis % rank for axis in step.args[1]]
    order = list(range(rank))
    if rank > 1:
        a, b = (0, 1) if step.operation is aten.t.default else (axis % rank for axis in step.args[1:])
        order[a], order[b] = b, a
    return order


def _viewed(before: Sequence[int], axes: Axes, after: Sequence[int]) -> Axes:
    """Return what the axes of a view are: runs of axes before and after that hold as many samples are the same samples."""
    made, mixed = _others(len(after)), list[int]()
    for old, new in _runs(before, after) if prod(before) else ():
        if [before[k] for k in old] == [after[k] for k in new]:
            found = [axes[k] for k in old]
        else:
            known = [axes[k] for k in old if before[k] != 1] or [axes[k] for k in old] or ["other"]
            whole = known[0] if len(set(known)) == 1 else _merged(known)
            long = [k for k in new if after[k] != 1] or new
            found = [whole if k in long else "other" for k in new]
            mixed += long if "channels" in known and whole != "channels" else []
        for k, axis in zip(new, found, strict=True):
            made[k] = axis
    # Channels that went in among the samples are entries of a vector, unless it was some of them, as in a pixel shuffle.
    if not {"channels", "other"} & set(made):
        made = ["other" if k in mixed else axis for k, axis in enumerate(made)]
    return tuple(made)


def _merged(known: Sequence[Axis]) -> Axis:
    """Return what an axis is that several were put into: samples stay samples when channels are moved among them."""
    samples = {axis for axis in known if isinstance(axis, int)}
    if not samples:
        return "channels" if "channels" in known and "other" not in known else "other"
    return samples.pop() if len(samples) == 1 and known[0] in samples else "other"


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
