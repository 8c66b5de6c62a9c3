"""Tensors in a file: described first, and read only after their sizes have been checked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import BinaryIO

import torch
from torch import Tensor

from unconv.networks.model_files import Unfit, shown

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex128, torch.complex64, torch.bool),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    )
}
"""The number types that are read, by torch's names."""


@dataclass(frozen=True)
class Extent:
    """A run of bytes in a file: its start and its length."""

    start: int
    size: int


@dataclass(frozen=True)
class Stored:
    """The description of a tensor in a file.

    Args:
        what: torch's name of its number type, or what else it is, such as "a sparse tensor".
        extent: the bytes of its storage; None if it is not a dense tensor.
        offset: index of its first sample in the storage.
        stride: step from one sample to the next along each axis, in samples.
    """

    what: str
    shape: tuple[int, ...] = ()
    extent: Extent | None = None
    offset: int = 0
    stride: tuple[int, ...] = ()

    @property
    def dtype(self) -> torch.dtype:
        """The number type of its samples."""
        return DTYPES[self.what]

    @property
    def last(self) -> int:
        """Index of its last sample in the storage; `offset` - 1 if it has no samples."""
        steps = sum((length - 1) * step for length, step in zip(self.shape, self.stride, strict=True))
        return self.offset + steps if 0 not in self.shape else self.offset - 1


def contiguous(shape: Iterable[int]) -> tuple[int, ...]:
    """Return the strides of a contiguous tensor."""
    lengths = tuple(shape)
    return tuple(math.prod(lengths[axis + 1 :]) for axis in range(len(lengths)))


def read_stored(file: BinaryIO, state: Mapping[str, Stored]) -> dict[str, Tensor]:
    """Read tensors, allocating no more memory than the file has bytes.

    Raises:
        Unfit: a tensor is larger than its storage, two of its samples share bytes, or two different tensors do. Two
            names for the same tensor (tied weights) are allowed.
    """
    # Everything is checked before samples are read: a stride of 0 lets a few bytes announce a tensor of any size.
    views: dict[Extent, dict[Stored, str]] = {}
    for key, stored in state.items():
        assert stored.extent is not None
        _refuse_overlap(key, stored)
        views.setdefault(stored.extent, {}).setdefault(stored, key)
    for extent, tensors in views.items():
        if len(tensors) > 1:
            _refuse_sharing(extent, tensors)
    storages = {extent: _bytes(file, extent) for extent in views}
    return {key: _tensor(storages, stored) for key, stored in state.items()}


def _refuse_overlap(key: str, stored: Stored) -> None:
    assert stored.extent is not None
    if (stored.last + 1) * stored.dtype.itemsize > stored.extent.size:
        raise Unfit(f"{shown(key)} of {stored.shape} needs more bytes than its {stored.extent.size:,}")
    # From the smallest stride up: samples are distinct if each axis steps beyond all that the axes before it reach.
    reach = 0
    for step, length in sorted(zip(stored.stride, stored.shape, strict=True)):
        if length > 1 and 0 not in stored.shape:
            if step <= reach:
                raise Unfit(f"several samples of {shown(key)} share one address (strides {stored.stride} of {stored.shape})")
            reach += (length - 1) * step


def _refuse_sharing(extent: Extent, tensors: Mapping[Stored, str]) -> None:
    """Refuse tensors that share some samples of one storage; disjoint views of a larger tensor are allowed."""
    occupied = torch.zeros(extent.size, dtype=torch.bool)
    for stored, key in tensors.items():
        width = stored.dtype.itemsize
        size, stride = (*stored.shape, width), (*(step * width for step in stored.stride), 1)
        samples = occupied.as_strided(size, stride, stored.offset * width)
        if samples.any():
            raise Unfit(f"{shown(key)} shares bytes with another tensor")
        samples.fill_(True)


def _bytes(file: BinaryIO, extent: Extent) -> Tensor:
    samples = torch.empty(extent.size, dtype=torch.uint8)
    file.seek(extent.start)
    view, done = memoryview(samples.numpy().data), 0
    while done < extent.size and (count := file.readinto(view[done:])):  # type: ignore[attr-defined]
        done += count
    if done < extent.size:
        raise Unfit("it ended while it was being read")
    return samples


def _tensor(storages: Mapping[Extent, Tensor], stored: Stored) -> Tensor:
    assert stored.extent is not None
    storage, dtype = storages[stored.extent], stored.dtype
    samples = storage[: len(storage) // dtype.itemsize * dtype.itemsize].view(dtype)
    return samples.as_strided(stored.shape, stored.stride, stored.offset)
