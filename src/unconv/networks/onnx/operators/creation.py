"""Tensors made from a shape or from numbers, and weights that were stored in few bits."""

from __future__ import annotations

from math import ceil

import torch
from torch import Tensor

from unconv.errors import ShapeError
from unconv.networks.onnx.operators.table import Setting, axis_of, bounded, integers, known, operator


@operator("Shape")
def shape(x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    """The lengths of the axes."""
    return torch.tensor(list(x.shape)[start:end], dtype=torch.int64, device="cpu")


@operator("Size")
def size(x: Tensor) -> Tensor:
    """How many samples there are."""
    return torch.tensor(x.numel(), dtype=torch.int64, device="cpu")


@operator("ConstantOfShape", settings=("shape",))
def constant_of_shape(shape: Setting, *, value: Tensor | None = None) -> Tensor:
    """One number everywhere; 0 by default."""
    number = torch.zeros(1, device="cpu") if value is None else value
    return number.reshape(()).expand(bounded(integers(shape)))


@operator("Range")
def arange(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    """Numbers from `start` on, `delta` apart, below `limit`."""
    first, last, step = (known(number).reshape(()).item() for number in (start, limit, delta))
    if step == 0:
        raise ShapeError("its numbers are 0 apart")
    (count,) = bounded([max(ceil((last - first) / step), 0)], 2**24)
    return torch.arange(count, device=start.device).to(start.dtype) * delta + start


@operator("EyeLike", types=("dtype",))
def eye_like(x: Tensor, *, dtype: Tensor | None = None, k: int = 0) -> Tensor:
    """1 on a diagonal, 0 elsewhere."""
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
    """(x - zero_point) scale: numbers stored in few bits."""

    def spread(settings: Tensor) -> Tensor:
        if settings.ndim == 1 and settings.numel() > 1:
            return settings.view(-1, *[1] * (x.ndim - 1 - axis_of(axis, x.ndim)))
        if settings.ndim > 1 and block_size:
            along = axis_of(axis, x.ndim)
            bounded([settings.numel(), block_size])
            return settings.repeat_interleave(block_size, along).narrow(along, 0, x.shape[along])
        return settings

    kind = (scale if output_dtype is None else output_dtype).dtype
    shifted = x.to(kind) if zero_point is None else x.to(kind) - spread(zero_point).to(kind)
    return shifted * spread(scale).to(kind)
