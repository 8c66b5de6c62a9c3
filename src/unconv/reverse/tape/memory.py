"""Which storage tensors lie in, and which parts of it were written since they were recorded.

A tensor that shares its memory with another changes when the other is written, and no operation shows it. So writes are
noted by storage, not by tensor: a view that was made before the recording, or through `.data`, is covered too.
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
    """Return a number for a tensor's storage, unique while it lives; None for a tensor without one, such as a sparse one."""
    return tensor.untyped_storage()._cdata if tensor.layout is torch.strided else None


def tensors_in(tree: Any) -> Iterator[Tensor]:
    """Yield the tensors in arguments or results; faster than `tree_leaves`, as it knows three kinds of trees only."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, list | tuple):
        for part in tree:
            yield from tensors_in(part)
    elif isinstance(tree, dict):
        yield from tensors_in(list(tree.values()))


def overlaps_itself(tensor: Tensor) -> bool:
    """Whether samples of a tensor may share memory, so that writing one would change another."""
    if tensor.layout is not torch.strided or tensor.is_contiguous():
        return False
    # With the axes sorted by stride, no two samples meet if each stride is longer than all shorter axes reach together.
    reach = 0
    for stride, length in sorted((s, n) for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1):
        if stride <= reach:
            return True
        reach += stride * (length - 1)
    return False


@dataclass
class Write:
    """A write in place, and which part of the storage it covered.

    Args:
        time: values with a lower index are older.
        where: the place that wrote.
        value: the value or the constant that was written; None where the recording does not know it.
    """

    time: int
    where: str
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    dtype: torch.dtype
    value: Any = None

    def source_index(self, tensor: Tensor) -> Tensor | None:
        """Return, for each sample of a tensor in this storage, the index of the written sample it now holds; -1 for none.

        None where that is not known: the value is unknown, or the tensor has another type.
        """
        if tensor.dtype != self.dtype or self.value is None:
            return None
        samples = tensor.untyped_storage().nbytes() // tensor.element_size()
        written = torch.full((samples,), -1, dtype=torch.int64, device=tensor.device)
        count = torch.arange(prod(self.size), device=tensor.device).view(self.size)
        torch.as_strided(written, self.size, self.stride, self.offset).copy_(count)
        return torch.as_strided(written, tensor.shape, tensor.stride(), tensor.storage_offset()).contiguous()


class Memory:
    """Which storages the image reached, what was written into them, and which steps refer to them."""

    def __init__(self) -> None:
        self.written: dict[int, list[Write]] = {}
        self._live: dict[int, StorageWeakRef] = {}  # so that a storage's number is never given to another one
        self._used: dict[int, set[int]] = {}

    def live(self, tensor: Tensor) -> None:
        """Note that the image reached a tensor."""
        storage = storage_of(tensor)
        if storage is not None and storage not in self._live:
            self._live[storage] = StorageWeakRef(tensor.untyped_storage())

    def any_live(self, storages: set[int]) -> bool:
        """Whether the image reached a tensor in one of these storages."""
        return not storages.isdisjoint(self._live)

    def write(self, tensor: Tensor, time: int, where: str) -> None:
        """Note that `tensor` is written: values older than `time` no longer describe what its memory holds."""
        storage = storage_of(tensor)
        if storage is not None:
            self.live(tensor)
            layout = (tuple(tensor.shape), tuple(tensor.stride()), int(tensor.storage_offset()), tensor.dtype)
            self.written.setdefault(storage, []).append(Write(time, where, *layout))

    def note_written(self, tensor: Tensor, value: Any) -> None:
        """Note which value or constant the last write into a tensor has written."""
        writes = self.written.get(storage_of(tensor) or -1)
        if writes and (writes[-1].size, writes[-1].offset) == (tuple(tensor.shape), tensor.storage_offset()):
            writes[-1].value = value

    def written_after(self, tensor: Tensor, time: int) -> list[Write]:
        """Return the writes into a tensor's storage after `time`, at which its value was recorded."""
        storage = storage_of(tensor) if self.written else None
        return [write for write in self.written.get(storage, ()) if time < write.time] if storage is not None else []

    def use(self, tensors: Iterable[Tensor], step: int) -> None:
        """Note that a step refers to tensors, which must stay as they are."""
        for tensor in tensors:
            storage = storage_of(tensor)
            if storage is not None:
                self._used.setdefault(storage, set()).add(step)

    def release(self, storages: set[int]) -> set[int]:
        """Return the steps that refer to storages about to be written, and must copy them first."""
        return set[int]().union(*(self._used.pop(storage, ()) for storage in storages))
