"""Which memory tensors lie in, and what of it was written since they were last seen.

A tensor that shares its memory with another changes when the other is written, and no operation tells of it. Memory is
known by its storage, not by the tensors seen so far: a view that was made before the recording, or behind torch's back
(`.data`), is found as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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


class Memory:
    """Where the image lies, what of it was written, and which steps hold a reference into it, by storage."""

    def __init__(self) -> None:
        self.written: dict[int, tuple[int, str]] = {}
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
            self.written[storage] = (time, where)

    def written_after(self, tensor: Tensor, time: int) -> str | None:
        """Return where the memory of a tensor, last known at `time`, was written since then."""
        storage = storage_of(tensor) if self.written else None
        when, where = self.written.get(storage, (-1, "")) if storage is not None else (-1, "")
        return where if time < when else None

    def use(self, tensors: Iterable[Tensor], step: int) -> None:
        """Note that a step refers to tensors, which must stay as they are."""
        for tensor in tensors:
            storage = storage_of(tensor)
            if storage is not None:
                self._used.setdefault(storage, set()).add(step)

    def released(self, storages: set[int]) -> set[int]:
        """Return the steps that refer to memory about to be written, which they are to copy."""
        return set[int]().union(*(self._used.pop(storage, ()) for storage in storages))
