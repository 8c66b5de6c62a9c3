"""Reading and writing samples by their positions."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from unconv.errors import ShapeError
from unconv.networks.onnx.operators.table import Setting, axis_of, bounded, choose, integers, known, numbers, operator


@operator("Slice", settings=("starts", "ends", "axes", "steps"))
def slices(x: Tensor, starts: Setting, ends: Setting, axes: Setting | None = None, steps: Setting | None = None) -> Tensor:
    """Return a part of each axis, as numpy's slices."""
    firsts, lasts = integers(starts), integers(ends)
    along = list(range(len(firsts))) if axes is None else integers(axes)
    pitches = [1] * len(firsts) if steps is None else integers(steps)
    if len({len(firsts), len(lasts), len(along), len(pitches)}) > 1 or 0 in pitches:
        raise ShapeError("its starts, ends, axes and steps must have the same length, and no step may be 0")
    for axis, first, last, step in zip(along, firsts, lasts, pitches, strict=True):
        x = _slice(x, axis_of(axis, x.ndim), range(x.shape[axis])[first:last:step])
    return x


def _slice(x: Tensor, axis: int, positions: range) -> Tensor:
    if positions == range(x.shape[axis]):
        return x
    before = (slice(None),) * axis
    if positions.step > 0 or not positions:
        return x[(*before, slice(positions.start, max(positions.stop, positions.start), max(positions.step, 1)))]
    # torch has no negative steps: take the same samples forwards and flip them.
    return x[(*before, slice(positions[-1], positions[0] + 1, -positions.step))].flip(axis)


def _from_start(indices: Tensor, n: int) -> Tensor:
    """Return indices counted from the start; negative ones count from the end."""
    indices = indices.long()
    return torch.where(indices < 0, indices + n, indices)


@operator("Gather", scalars=("indices",))
def gather(x: Tensor, indices: Tensor | Sequence[int] | int, *, axis: int = 0) -> Tensor:
    """Return the samples at the given positions along an axis."""
    axis = axis_of(axis, x.ndim)
    if isinstance(indices, int):
        return x.select(axis, indices)
    if not isinstance(indices, Tensor):
        (position,) = indices
        return x.narrow(axis, position, 1)
    positions = _from_start(indices, x.shape[axis])
    shape = bounded([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])
    picked = x.index_select(axis, positions.reshape(-1))
    return picked if indices.ndim == 1 else picked.reshape(shape)


@operator("GatherElements")
def gather_elements(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    """Return for each index the sample at that position along an axis."""
    axis = axis_of(axis, x.ndim)
    return x.gather(axis, _from_start(indices, x.shape[axis]))


@operator("GatherND")
def gather_nd(x: Tensor, indices: Tensor, *, batch_dims: int = 0) -> Tensor:
    """Return parts of a tensor, each selected by an index along its first axes."""
    batch, count = x.shape[:batch_dims], indices.shape[-1]
    picked = x.reshape(prod(batch), *x.shape[batch_dims:])
    rows = indices.reshape(prod(batch), -1, count)
    first = torch.arange(prod(batch), device=x.device)[:, None]
    along = [_from_start(rows[..., k], picked.shape[1 + k]) for k in range(count)]
    shape = (*indices.shape[:-1], *x.shape[batch_dims + count :])
    return picked[(first, *along)].reshape(bounded(shape))


_REDUCTIONS = {"none": None, "add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@operator("Scatter", "ScatterElements")
def scatter_elements(x: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0, reduction: str = "none") -> Tensor:
    """Return x with each update written at the position of its index along an axis."""
    axis = axis_of(axis, x.ndim)
    how = choose("reduction", reduction, _REDUCTIONS)
    positions = _from_start(indices, x.shape[axis])
    return x.scatter(axis, positions, updates) if how is None else x.scatter_reduce(axis, positions, updates, how)


@operator("ScatterND")
def scatter_nd(x: Tensor, indices: Tensor, updates: Tensor, *, reduction: str = "none") -> Tensor:
    """Return x with each part of the updates written at its index along the first axes."""
    count = indices.shape[-1]
    how = choose("reduction", reduction, _REDUCTIONS)
    rows = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=indices.device)
    for k in range(count):
        rows = rows * x.shape[k] + _from_start(indices[..., k], x.shape[k])
    length = prod(x.shape[count:])
    flat, parts = x.reshape(-1, length), updates.reshape(-1, length)
    positions = rows.reshape(-1, 1).expand(parts.shape)
    result = flat.scatter(0, positions, parts) if how is None else flat.scatter_reduce(0, positions, parts, how)
    return result.reshape(x.shape)


@operator("OneHot", settings=("depth",))
def one_hot(indices: Tensor, depth: Setting, values: Tensor, *, axis: int = -1) -> Tensor:
    """Return values[1] at the index along a new axis of `depth` entries, values[0] elsewhere."""
    count = int(numbers(depth)[0])
    axis = axis_of(axis, indices.ndim + 1)
    bounded([*indices.shape, count])
    positions = torch.arange(count, device=indices.device).view(-1, *[1] * (indices.ndim - axis))
    matches = _from_start(indices, count).unsqueeze(axis) == positions
    return torch.where(matches, values[1], values[0])


@operator("ReverseSequence")
def reverse_sequence(x: Tensor, lengths: Tensor, *, batch_axis: int = 1, time_axis: int = 0) -> Tensor:
    """Return each row with its first samples reversed, as many as its length."""
    rows, times = axis_of(batch_axis, x.ndim), axis_of(time_axis, x.ndim)
    time = torch.arange(x.shape[times], device=x.device)
    ends = lengths.long()[:, None]
    positions = torch.where(time < ends, ends - 1 - time, time)  # (batch, time)
    shape = [x.shape[axis] if axis in (rows, times) else 1 for axis in range(x.ndim)]
    positions = (positions if rows < times else positions.mT).reshape(shape).expand(x.shape)
    return x.gather(times, positions)


@operator("Compress")
def compress(x: Tensor, condition: Tensor, *, axis: int | None = None) -> Tensor:
    """Return the samples whose condition is true, along an axis or of the flattened tensor."""
    positions = known(condition).reshape(-1).nonzero()[:, 0]
    flat = x.reshape(-1) if axis is None else x
    return flat.index_select(0 if axis is None else axis_of(axis, x.ndim), positions)
