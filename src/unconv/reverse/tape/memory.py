"""Which memory tensors lie in, and what of it was written since they were last seen.

A tensor that shares its memory with another changes when the other is written, and no operation tells of it. Memory is
known by its storage, not by the tensors seen so far: a view that was made before the recording, or behind torch's back
(`.data`), is found as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef


def storage_of(tensor: Tensor) -> int | None:
    """Return a number for the memory that a tensor lies in, as long as it lives; None for one that has no single memory."""
    return tensor.untyped_storage()._cdata if tensor.layout is torch.strided else None


def tensors_in(found: Any) -> Iterator[Tensor]:
    """Yield the tensors among arguments or results: quicker than torch's trees, of lists, tuples and dictionaries alone."""
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, list | tuple):
        for part in found:
            yield from tensors_in(part)
    elif isinstance(found, dict):
        yield from tensors_in(list(found.values()))


def overlaps_itself(tensor: Tensor) -> bool:
    """Whether samples of a tensor may share memory with each other: a write into one would change the others."""
    if tensor.layout is not torch.strided or tensor.is_contiguous():
        return False
    reach = 0
    for stride, length in sorted((s, n) for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1):
        if stride <= reach:
            return True
        reach += stride * (length - 1)
    return False


@dataclass
class Write:
    """What was written in place, and where in its memory.

    Args:
        time: values with a lower index are older.
        where: the place that wrote.
        value: what was written, as far as the recording knows: a value, or a constant.
    """

    time: int
    where: str
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    dtype: torch.dtype
    value: Any = None

    def taken_by(self, tensor: Tensor) -> Tensor | None:
        """For each sample of a tensor in the same memory, which sample of what was written it is now, or -1; None if unlike."""
        if tensor.dtype != self.dtype or self.value is None:
            return None
        samples = tensor.untyped_storage().nbytes() // tensor.element_size()
        known = torch.full((samples,), -1, dtype=torch.int64, device=tensor.device)
        count = torch.arange(prod(self.size), device=tensor.device).view(self.size)
        torch.as_strided(known, self.size, self.stride, self.offset).copy_(count)
        return torch.as_strided(known, tensor.shape, tensor.stride(), tensor.storage_offset()).contiguous()


class Memory:
    """Where the image lies, what of it was written, and which steps hold a reference into it, by storage."""

    def __init__(self) -> None:
        self.written: dict[int, list[Write]] = {}
        self._live: dict[int, StorageWeakRef] = {}  # so that a storage's number is never given to another one
        self._used: dict[int, set[int]] = {}

    def live(self, tensor: Tensor) -> None:
        """Note that the image reached a tensor."""
        storage = storage_of(tensor)
        if storage is not None and storage not in self._live:
            self._live[storage] = StorageWeakRef(tensor.untyped_storage())

    def holds_live(self, storages: set[int]) -> bool:
        """Whether the image reached a tensor in one of these."""
        return not storages.isdisjoint(self._live)

    def write(self, tensor: Tensor, time: int, where: str) -> None:
        """Note that `tensor` is written: values that are older than `time` no longer tell what its memory holds."""
        storage = storage_of(tensor)
        if storage is not None:
            self.live(tensor)
            layout = (tuple(tensor.shape), tuple(tensor.stride()), int(tensor.storage_offset()), tensor.dtype)
            self.written.setdefault(storage, []).append(Write(time, where, *layout))

    def told(self, tensor: Tensor, value: Any) -> None:
        """Note what the last write into a tensor has written."""
        writes = self.written.get(storage_of(tensor) or -1)
        if writes and (writes[-1].size, writes[-1].offset) == (tuple(tensor.shape), tensor.storage_offset()):
            writes[-1].value = value

    def written_after(self, tensor: Tensor, time: int) -> list[Write]:
        """Return what was written into the memory of a tensor since it was last known, at `time`."""
        storage = storage_of(tensor) if self.written else None
        return [write for write in self.written.get(storage, ()) if time < write.time] if storage is not None else []

    def use(self, tensors: Iterable[Tensor], step: int) -> None:
        """Note that a step refers to tensors, which must stay as they are."""
        for tensor in tensors:
            storage = storage_of(tensor)
            if storage is not None:
                self._used.setdefault(storage, set()).add(step)

    def released(self, storages: set[int]) -> set[int]:
        """Return the steps that refer to memory about to be written, which they are to copy."""
        return set[int]().union(*(self._used.pop(storage, ()) for storage in storages))
