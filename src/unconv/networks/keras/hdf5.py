"""HDF5 files of weights, checked before Keras reads them: plain numbers in the file's own bytes, and no byte used twice.

HDF5 can refer to other files of the machine (external links, external storage, virtual datasets), and announce more numbers
than it contains (chunks, compression, values never written). Keras writes none of these.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from unconv.networks.model_files import Unfit, shown, size_of
from unconv.networks.opened import library

_MOST_OBJECTS = 200_000
_MOST_DEPTH = 64
_MOST_ATTRIBUTE = 1 << 24  # bytes
_REST = 1 << 20, 1 << 14  # bytes of a file besides its datasets: a fixed number, and more for each object


@dataclass(frozen=True)
class Dataset:
    """A dataset: its bytes in the file, its shape, and whether it is in floating point."""

    name: str
    start: int
    size: int
    shape: tuple[int, ...]
    floating: bool


def check_hdf5(file: BinaryIO, total: int | None = None) -> list[Dataset]:
    """Check a file of weights and return its datasets.

    Args:
        file: the file, or a copy of it in memory.
        total: its size in bytes; None: ask the system.

    Raises:
        Unfit: it is damaged, or refers to anything except its own bytes.
    """
    h5py = library("h5py", "keras")
    total = size_of(file) if total is None else total
    try:
        with h5py.File(file, "r") as root:
            objects = list(_objects(h5py, root))
            addresses = {h5py.h5o.get_info(item.id).addr for _, item in objects}
            datasets = [_dataset(h5py, name, item) for name, item in objects if isinstance(item, h5py.Dataset)]
    except Unfit:
        raise
    except Exception as error:  # h5py raises anything for a damaged file
        raise Unfit("it is not a complete HDF5 file") from error
    _refuse_overlap([entry for entry in datasets if entry.size], addresses, total)
    used = sum(entry.size for entry in datasets)
    if total > used + _REST[0] + _REST[1] * len(objects):
        raise Unfit(f"it has {total:,} bytes, but its numbers take {used:,}")
    return datasets


def _objects(h5py: Any, root: Any) -> Iterator[tuple[str, Any]]:
    """Yield all groups and datasets with their paths; each must be reached by exactly one hard link."""
    addresses = {h5py.h5o.get_info(root.id).addr}
    stack = [("", root, 0)]
    while stack:
        path, group, depth = stack.pop()
        yield path, group
        _refuse_large_attributes(path, group)
        if not isinstance(group, h5py.Group):
            continue
        for name in group:
            inner = f"{path}/{name}"
            link = group.get(name, getlink=True)  # before the object: opening a soft or external link would follow it
            if type(link) is not h5py.HardLink:
                raise Unfit(f"{shown(inner)} is a link out of its group ({type(link).__name__})")
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in addresses or len(addresses) > _MOST_OBJECTS or depth > _MOST_DEPTH:
                raise Unfit(f"{shown(inner)} is reached twice, is nested too deep, or is one of too many objects")
            if not isinstance(item, h5py.Group | h5py.Dataset):
                raise Unfit(f"{shown(inner)} is neither a group nor a dataset")
            addresses.add(address)
            stack.append((inner, item, depth + 1))


def _refuse_large_attributes(path: str, item: Any) -> None:
    for name in item.attrs:
        attribute = item.attrs.get_id(name)
        if math.prod(attribute.shape) * max(attribute.dtype.itemsize, attribute.get_type().get_size()) > _MOST_ATTRIBUTE:
            raise Unfit(f"the attribute {shown(name)} of {shown(path or '/')} is too large")


def _dataset(h5py: Any, name: str, dataset: Any) -> Dataset:
    """Return a dataset's description; it must be plain numbers in one contiguous piece."""
    layout, size = dataset.id.get_create_plist().get_layout(), dataset.id.get_storage_size()
    if dataset.external or dataset.is_virtual:
        raise Unfit(f"{shown(name)} lies in another file")
    if layout != h5py.h5d.CONTIGUOUS or not _is_plain(h5py, dataset.id.get_type()):
        raise Unfit(f"{shown(name)} of type {dataset.dtype} is not plain numbers in one piece, as Keras writes them")
    needed = math.prod(dataset.shape) * dataset.dtype.itemsize if dataset.shape is not None else -1
    if needed != size:
        raise Unfit(f"{shown(name)} of {dataset.shape} needs {needed:,} bytes, but {size:,} are there")
    floating = dataset.dtype.kind in "fV"
    return Dataset(name, dataset.id.get_offset() or 0, size, tuple(dataset.shape), floating)


def _is_plain(h5py: Any, kind: Any) -> bool:
    """Say whether a type is one that Keras writes: little-endian numbers, booleans, or bfloat16 as two opaque bytes."""
    h5t = h5py.h5t
    plain = [h5t.IEEE_F16LE, h5t.IEEE_F32LE, h5t.IEEE_F64LE]
    plain += [getattr(h5t, f"STD_{sign}{bits}LE") for sign in "IU" for bits in (8, 16, 32, 64)]
    if any(kind.equal(allowed) for allowed in plain):
        return True
    if isinstance(kind, h5t.TypeEnumID):
        return bool(kind.equal(h5t.py_create(bool, logical=True)))
    return isinstance(kind, h5t.TypeOpaqueID) and kind.get_size() == 2


def _refuse_overlap(datasets: list[Dataset], addresses: set[int], total: int) -> None:
    """Refuse datasets that overlap each other or the header of another object, or lie beyond the end of the file."""
    ranges = sorted(
        [(entry.start, entry.size, entry.name) for entry in datasets] + [(address, 1, "a group") for address in addresses]
    )
    end = 0
    for start, size, name in ranges:
        if start < end or start + size > total:
            raise Unfit(f"{shown(name)} overlaps another object, or lies beyond the end of the file")
        end = start + size
