"""Tensors created from a shape or from numbers, and weights stored in few bits."""

from __future__ import annotations

from math import ceil

import torch
from torch import Tensor

from unconv.errors import ShapeError
from unconv.networks.onnx.operators.table import Setting, axis_of, bounded, integers, known, operator


@operator("Shape")
def shape(x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    """Return the lengths of the axes."""
    return torch.tensor(list(x.shape)[start:end], dtype=torch.int64, device="cpu")


@operator("Size")
def size(x: Tensor) -> Tensor:
    """Return the number of samples."""
    return torch.tensor(x.numel(), dtype=torch.int64, device="cpu")


@operator("ConstantOfShape", settings=("shape",))
def constant_of_shape(shape: Setting, *, value: Tensor | None = None) -> Tensor:
    """Return a tensor of one number; 0 by default."""
    number = torch.zeros(1, device="cpu") if value is None else value
    return number.reshape(()).expand(bounded(integers(shape)))


@operator("Range")
def arange(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    """Return the numbers from `start` to below `limit`, `delta` apart."""
    first, last, step = (known(number).reshape(()).item() for number in (start, limit, delta))
    if step == 0:
        raise ShapeError("its delta is 0, but another step was needed")
    (count,) = bounded([max(ceil((last - first) / step), 0)], 2**24)
    return torch.arange(count, device=start.device).to(start.dtype) * delta + start


@operator("EyeLike", types=("dtype",))
def eye_like(x: Tensor, *, dtype: Tensor | None = None, k: int = 0) -> Tensor:
    """Return 1 on a diagonal, 0 elsewhere."""
    rows, columns = (torch.arange(n, device=x.device) for n in x.shape)
    return (columns - rows[:, None] == k).to((x if dtype is None else dtype).dtype)


@operator("DequantizeLinear", types=("output_dtype",))
def dequantize(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: Tensor | None = None,
) -> Tensor:
    """Return (x - zero_point) scale, for numbers stored in few bits."""

    # A scale for all, for each entry of an axis, or for each block of `block_size` entries: bring it to the shape of x.
    def spread(settings: Tensor) -> Tensor:
        if settings.ndim == 1 and settings.numel() > 1:
            return settings.view(-1, *[1] * (x.ndim - 1 - axis_of(axis, x.ndim)))
        if settings.ndim > 1 and block_size:
            along = axis_of(axis, x.ndim)
            bounded([settings.numel(), block_size])
            return settings.repeat_interleave(block_size, along).narrow(along, 0, x.shape[along])
        return settings

    dtype = (scale if output_dtype is None else output_dtype).dtype
    shifted = x.to(dtype) if zero_point is None else x.to(dtype) - spread(zero_point).to(dtype)
    return shifted * spread(scale).to(dtype)
