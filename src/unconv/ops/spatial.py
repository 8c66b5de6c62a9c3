"""Tensors (N, C, samples..) along their spatial axes: cut out a part, add zeros at the end, or make an empty one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional as F

exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)  # torch 2.6 has the latter only


def images(planes: Tensor) -> int:
    """Return the number of images that a choice or a limit may depend on: 1 in an exported program, which takes any number."""
    return 1 if exporting() else planes.shape[0]


def traced(*tensors: Tensor) -> bool:
    """Return whether values cannot be read: while compiling, under `vmap`, on meta and fake tensors, in a CUDA graph."""
    if torch.compiler.is_compiling() or (tensors[0].is_cuda and torch.cuda.is_current_stream_capturing()):
        return True
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor
    return any(tensor.is_meta or isinstance(tensor, FakeTensor) or wrapped(tensor) for tensor in tensors)


def cut(planes: Tensor, first: Sequence[int], size: Sequence[int]) -> Tensor:
    """Return `size` samples from `first` on, along the spatial axes."""
    parts: tuple[Any, ...] = tuple(slice(start, start + n) for start, n in zip(first, size, strict=True))
    return planes[(..., *parts)]


def grown(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """Return a tensor of `shape`: the given one, with zeros added at the end of each axis."""
    if 0 in shape:  # `F.pad` of torch 2.6 refuses to make an empty axis
        return nothing(shape, tensor)
    return F.pad(tensor, [edge for n, m in zip(reversed(shape), reversed(tensor.shape), strict=True) for edge in (0, n - m)])


def nothing(shape: Sequence[int], *sources: Tensor) -> Tensor:
    """Return an empty tensor of `shape`, through which gradients still reach `sources`."""
    first, *others = (source.reshape(-1)[:0].reshape(tuple(shape)) for source in sources)
    return sum(others, start=first)
