"""Tensors (N, C, samples..) along their spatial axes: a part, zeros at the end, or no values at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F


def cut(planes: Tensor, first: Sequence[int], size: Sequence[int]) -> Tensor:
    """Return `size` samples from `first` on, along the spatial axes."""
    parts: tuple[Any, ...] = tuple(slice(start, start + n) for start, n in zip(first, size, strict=True))
    return planes[(..., *parts)]


def grown(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """Fill a tensor up to `shape` with zeros at the end of each axis."""
    if 0 in shape:  # `F.pad` of torch 2.6 refuses to make an empty axis
        return nothing(shape, tensor)
    return F.pad(tensor, [edge for n, m in zip(reversed(shape), reversed(tensor.shape), strict=True) for edge in (0, n - m)])


def nothing(shape: Sequence[int], *sources: Tensor) -> Tensor:
    """Return a tensor of a shape without values, through which gradients still reach `sources`."""
    first, *others = (source.reshape(-1)[:0].reshape(tuple(shape)) for source in sources)
    return sum(others, start=first)
