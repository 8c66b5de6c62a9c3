"""Reverse rules of operations that cut a map or join maps: slices, splits, concatenations."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from unconv.reverse.rules.table import adjoint, along, full_map, full_maps, local, rule
from unconv.reverse.spans import FAR, Sights, Spans
from unconv.reverse.tape.step import Step, Value
from unconv.reverse.window import Reach, Window, cropped, join, slices

aten = torch.ops.aten


def _axis(step: Step, position: int, rank: int, axes: int) -> int | None:
    """Return the axis of the map a step works along, counted from 0; below 0: channels; None: the batch, or no map."""
    along = step.args[position] % rank
    return None if along == 0 or rank < axes + 1 else along - (rank - axes)


def _slice_reach(step: Step, axes: int) -> Reach | None:
    (source, *_), (out, *_) = step.inputs, step.outputs
    rank = len(source.shape)
    if out is not None and out.shape == source.shape and rank > axes:  # all samples: torch 2.6 records [:] before other indices
        return local(step, axes)
    axis = _axis(step, 1, rank, axes)
    if axis is None or out is None or 0 in out.shape:
        return None
    if axis < 0:
        return local(step, axes)
    n, (start, _end, every) = source.shape[axis - axes], step.args[2:]
    strides, paddings = [1] * axes, [0] * axes
    strides[axis], paddings[axis] = every, -min(max(start + n if (start or 0) < 0 else start or 0, 0), n)
    return Reach(tuple(strides), tuple(paddings), (1,) * axes)


@rule(aten.slice.Tensor, reach=_slice_reach, role="move")
def sliced(step: Step, r: Window) -> Window | list[Window | None]:
    """Send the slice back to where it was cut out."""
    source = step.inputs[0]
    axes = 0 if r.corner is None else r.corner.shape[1]
    reach = _slice_reach(step, axes) if axes else None
    if reach is None:
        return adjoint(step, full_map(step, r))
    if reach == local(step, axes):
        return adjoint(step, r)
    spread = _spread_apart(r.values, reach.stride)
    return r.below(reach, source.shape, lambda needless: cropped(spread, needless).clone())


def _spread_apart(values: Tensor, strides: Sequence[int]) -> Tensor:
    """Return the values with zeros between, so that neighbours are `strides` apart along the last axes."""
    lengths = [(n - 1) * s + 1 for n, s in zip(values.shape[-len(strides) :], strides, strict=True)]
    out = values.new_zeros(*values.shape[: -len(strides)], *lengths)
    out[slices([slice(None, None, stride) for stride in strides])] = values
    return out


def _offsets(lengths: Sequence[int]) -> list[int]:
    return [0, *accumulate(lengths)][:-1]


def _cat_offsets(step: Step, axis: int) -> list[int]:
    """Return where on the map above each part that depends on the image begins."""
    parts = step.args[0]
    firsts = _offsets([part.shape[axis] for part in parts])
    return [first for first, part in zip(firsts, parts, strict=True) if isinstance(part, Value)]


def _cat_reach(step: Step, axes: int) -> Sights:
    out = step.outputs[0]
    assert out is not None
    axis = _axis(step, 1, len(out.shape), axes)
    if axis is None or any(len(value.shape) != len(out.shape) for value in step.inputs):
        return None
    if axis < 0:
        return local(step, axes)
    units = [torch.arange(n) for n in out.shape[-axes:]]
    sights = list[Spans]()
    for value, offset in zip(step.inputs, _cat_offsets(step, axis - axes), strict=True):
        position = units[axis] - offset
        outside = (position < 0) | (position >= value.shape[axis - axes])
        first, last = ([*units[:axis], position.masked_fill(outside, far), *units[axis + 1 :]] for far in (FAR, -FAR))
        sights.append(Spans(tuple(first), tuple(last), (Fraction(1),) * axes))
    return tuple(sights)


@rule(aten.cat.default, reach=_cat_reach, turn=along(1), gate="kept")
def put_together(step: Step, r: Window) -> list[Window | None]:
    """Send each part the signal from its position in the joined map."""
    axes, out = 0 if r.corner is None else r.corner.shape[1], step.outputs[0]
    assert out is not None
    axis = _axis(step, 1, len(out.shape), axes) if axes else None
    constants = any(isinstance(argument, torch.Tensor) for argument in tree_leaves(step.args))  # of the full map's size
    if axis is None or (axis < 0 and constants) or any(len(value.shape) != len(out.shape) for value in step.inputs):
        return adjoint(step, full_map(step, r))
    if axis < 0:
        return adjoint(step, r)
    pairs = zip(step.inputs, _cat_offsets(step, axis - axes), strict=True)
    return [_shifted(r, axis, -offset, value.shape) for value, offset in pairs]


def _split_offsets(step: Step, axis: int) -> list[int]:
    lengths = [0 if output is None else output.shape[axis] for output in step.outputs]
    return _offsets(lengths)


def _split_reach(step: Step, axes: int) -> Sights:
    source = step.inputs[0]
    axis = _axis(step, 2, len(source.shape), axes)
    if axis is None:
        return None
    if axis < 0:
        return local(step, axes)
    ones, paddings = (1,) * axes, [0] * axes
    sights = list[Reach]()
    for offset in _split_offsets(step, axis - axes):
        paddings[axis] = -offset
        sights.append(Reach(ones, tuple(paddings), ones))
    return tuple(sights) if len(sights) > 1 else sights[0]


@rule(aten.split.Tensor, aten.split_with_sizes.default, reach=_split_reach, role="move")
def split_up(step: Step, *signals: Window | None) -> list[Window | None]:
    """Send each part back to where it was cut out."""
    source = step.inputs[0]
    ranks = {signal.corner.shape[1] for signal in signals if signal and signal.corner is not None}
    axis = _axis(step, 2, len(source.shape), *ranks) if len(ranks) == 1 else None
    if axis is None or any(signal is not None and signal.corner is None for signal in signals):
        return adjoint(step, *full_maps(step, signals))
    if axis < 0:
        return adjoint(step, *signals)
    total: Window | None = None
    (axes,) = ranks
    for signal, offset in zip(signals, _split_offsets(step, axis - axes), strict=True):
        part = signal and _shifted(signal, axis, offset, source.shape)
        total = join(total, part, source.shape) if part else total
    return [total]


def _shifted(r: Window, axis: int, by: int, shape: Sequence[int]) -> Window | None:
    """Return the signal moved by `by` samples along an axis of a map of `shape`; None if it then lies off the map."""
    assert r.corner is not None
    shift = torch.zeros(r.corner.shape[1], dtype=torch.int64)
    shift[axis] = by
    corner = r.corner + shift
    on_map = (corner + torch.tensor(r.lengths) > 0) & (corner < torch.tensor(shape[-len(r.lengths) :]))
    if not on_map.all(1).any():
        return None
    return Window(r.values.clone(), corner).inside(shape)
