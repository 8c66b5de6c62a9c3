"""Operators that rearrange samples and change none."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from unconv.errors import ShapeError, counted
from unconv.networks.onnx.operators.table import Setting, axis_of, bounded, choose, integers, operator


@operator("Reshape", settings=("shape",))
def reshape(x: Tensor, shape: Setting, *, allowzero: int = 0) -> Tensor:
    """Return the samples in another shape; 0 keeps the length of that axis."""
    lengths = integers(shape)
    if not allowzero:
        if any(n == 0 and axis >= x.ndim for axis, n in enumerate(lengths)):
            raise ShapeError(
                f"it reshapes {tuple(x.shape)} to {tuple(lengths)}, but a 0 has no axis whose length it could keep"
            )
        lengths = [n or x.shape[axis] for axis, n in enumerate(lengths)]
    return x.reshape(lengths)


@operator("Flatten")
def flatten(x: Tensor, *, axis: int = 1) -> Tensor:
    """Return x with two axes: those before `axis` flattened, and those from it on."""
    axis = axis + x.ndim if axis < 0 else axis
    if axis == 1 and x.ndim > 1 and x.shape[0]:
        return x.flatten(1)
    return x.reshape(prod(x.shape[:axis]), prod(x.shape[axis:]))


@operator("Squeeze", settings=("axes",))
def squeeze(x: Tensor, axes: Setting | None = None) -> Tensor:
    """Remove axes of one sample: those named, or all."""
    if axes is None:
        return x.squeeze()
    along = [axis_of(axis, x.ndim) for axis in integers(axes)]
    if any(x.shape[axis] != 1 for axis in along):
        raise ShapeError(f"it removes the axes {tuple(along)} of {tuple(x.shape)}, but each must have one sample")
    return x.squeeze(along)


@operator("Unsqueeze", settings=("axes",))
def unsqueeze(x: Tensor, axes: Setting) -> Tensor:
    """Return x with new axes of one sample."""
    new_axes = integers(axes)
    rank = x.ndim + len(new_axes)
    for axis in sorted(axis_of(axis, rank) for axis in new_axes):
        x = x.unsqueeze(axis)
    return x


@operator("Transpose")
def transpose(x: Tensor, *, perm: Sequence[int] | None = None) -> Tensor:
    """Return the axes in another order; by default reversed."""
    return x.permute(*(range(x.ndim)[::-1] if perm is None else perm))


@operator("Concat")
def concat(*inputs: Tensor, axis: int = 1) -> Tensor:
    """Return the inputs joined along an axis."""
    return torch.cat(inputs, axis)


@operator("Split", settings=("split",))
def split(
    x: Tensor, split: Setting | None = None, *, axis: int = 0, num_outputs: int | None = None, outputs: int
) -> tuple[Tensor, ...]:
    """Return parts along an axis: of the given lengths, or equal except for a shorter last one."""
    axis = axis_of(axis, x.ndim)
    if split is not None:
        return tuple(x.split(integers(split), axis))
    count, n = outputs, x.shape[axis]
    if num_outputs not in (None, count):
        raise ShapeError(f"its num_outputs is {num_outputs}, but it names {counted(count, 'output')}")
    longest = -(-n // count)
    lengths = [min(longest, max(n - longest * part, 0)) for part in range(count)]
    return tuple(x.split(lengths, axis))


@operator("Expand", settings=("shape",))
def expand(x: Tensor, shape: Setting) -> Tensor:
    """Return x repeated along axes of one sample, as numpy broadcasts two shapes."""
    return x.expand(bounded(torch.broadcast_shapes(x.shape, bounded(integers(shape)))))


@operator("Tile", settings=("repeats", "axis"))
def tile(x: Tensor, repeats: Setting, axis: Setting | None = None) -> Tensor:
    """Return x repeated along each axis; up to opset 5 along a single one."""
    counts = integers(repeats)
    if axis is not None:
        (along,) = integers(axis)
        counts = [counts[0] if k == axis_of(along, x.ndim) else 1 for k in range(x.ndim)]
    if len(counts) != x.ndim:
        raise ShapeError(f"it repeats {tuple(x.shape)} by {tuple(counts)}, but one number for each axis was needed")
    bounded(n * count for n, count in zip(x.shape, bounded(counts), strict=True))
    return x.repeat(counts)


@operator("DepthToSpace")
def depth_to_space(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """Return channels rearranged as blocks of samples."""
    if choose("mode", mode, {"CRD": True, "DCR": False}):
        return F.pixel_shuffle(x, blocksize)
    n, channels, height, width = x.shape
    blocks = x.reshape(n, blocksize, blocksize, -1, height, width)
    if channels % blocksize**2:
        raise ShapeError(
            f"it has {counted(channels, 'channel')}, but blocks of {blocksize} by {blocksize} need a multiple of {blocksize**2}"
        )
    return blocks.permute(0, 3, 4, 1, 5, 2).reshape(n, -1, height * blocksize, width * blocksize)


@operator("SpaceToDepth")
def space_to_depth(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """Return blocks of samples rearranged as channels."""
    n, channels, height, width = x.shape
    blocks = x.reshape(n, channels, height // blocksize, blocksize, width // blocksize, blocksize)
    order = choose("mode", mode, {"DCR": (0, 3, 5, 1, 2, 4), "CRD": (0, 1, 3, 5, 2, 4)})
    return blocks.permute(*order).reshape(n, -1, height // blocksize, width // blocksize)


@operator("Trilu", settings=("k",))
def triangle(x: Tensor, k: Setting = 0, *, upper: int = 1) -> Tensor:
    """Return the upper or lower triangle of each matrix."""
    (diagonal,) = integers(k)
    diagonal = max(min(diagonal, 2**31), -(2**31))
    return x.triu(diagonal) if upper else x.tril(diagonal)
