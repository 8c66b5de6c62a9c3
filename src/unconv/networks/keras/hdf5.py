"""HDF5 files of weights, looked through before Keras reads them: their own bytes only, each once, as plain numbers.

HDF5 can point at other files of the machine (external links, external storage, virtual datasets), and announce more numbers
than it holds (chunks, compression, values never written). Keras writes none of that.
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
_MOST_NOTES = 1 << 24  # bytes of one attribute
_REST = 1 << 20, 1 << 14  # bytes of a file beside its numbers, and more of them for each object


@dataclass(frozen=True)
class Numbers:
    """A dataset: where its numbers lie in the file, and of which kind they are."""

    name: str
    start: int
    size: int
    shape: tuple[int, ...]
    floating: bool


def check_hdf5(file: BinaryIO, total: int | None = None) -> list[Numbers]:
    """Look through a file of weights and return what numbers it holds.

    Args:
        file: the file, or a copy of it in memory.
        total: its size in bytes; None: ask the system.

    Raises:
        Unfit: it is damaged, or refers to anything but its own bytes.
    """
    h5py = library("h5py", "keras")
    total = size_of(file) if total is None else total
    try:
        with h5py.File(file, "r") as opened:
            objects = list(_objects(h5py, opened))
            addresses = {h5py.h5o.get_info(thing.id).addr for _, thing in objects}
            numbers = [_numbers(h5py, name, thing) for name, thing in objects if isinstance(thing, h5py.Dataset)]
    except Unfit:
        raise
    except Exception as error:  # of a damaged file h5py raises whatever HDF5 came upon
        raise Unfit("it is no whole HDF5 file") from error
    _refuse_overlap([entry for entry in numbers if entry.size], addresses, total)
    held = sum(entry.size for entry in numbers)
    if total > held + _REST[0] + _REST[1] * len(objects):
        raise Unfit(f"it has {total:,} bytes, but numbers of {held:,}")
    return numbers


def _objects(h5py: Any, root: Any) -> Iterator[tuple[str, Any]]:
    """Go through all groups and datasets; each must be reached by one plain link."""
    seen = {h5py.h5o.get_info(root.id).addr}
    left = [("", root, 0)]
    while left:
        path, group, depth = left.pop()
        yield path, group
        _refuse_notes(path, group)
        if not isinstance(group, h5py.Group):
            continue
        for name in group:
            inner = f"{path}/{name}"
            link = group.get(name, getlink=True)  # before the object: opening a soft or external link would follow it
            if type(link) is not h5py.HardLink:
                raise Unfit(f"{shown(inner)} is a link out of its group ({type(link).__name__})")
            thing = group[name]
            address = h5py.h5o.get_info(thing.id).addr
            if address in seen or len(seen) > _MOST_OBJECTS or depth > _MOST_DEPTH:
                raise Unfit(f"{shown(inner)} is reached twice, or is one of too many")
            if not isinstance(thing, h5py.Group | h5py.Dataset):
                raise Unfit(f"{shown(inner)} is neither a group nor numbers")
            seen.add(address)
            left.append((inner, thing, depth + 1))


def _refuse_notes(path: str, thing: Any) -> None:
    for name in thing.attrs:
        note = thing.attrs.get_id(name)
        if math.prod(note.shape) * max(note.dtype.itemsize, note.get_type().get_size()) > _MOST_NOTES:
            raise Unfit(f"the note {shown(name)} on {shown(path or '/')} is too large")


def _numbers(h5py: Any, name: str, dataset: Any) -> Numbers:
    """Return where a dataset lies, once it is plain numbers in one piece."""
    layout, size = dataset.id.get_create_plist().get_layout(), dataset.id.get_storage_size()
    if dataset.external or dataset.is_virtual:
        raise Unfit(f"{shown(name)} lies in another file")
    if layout != h5py.h5d.CONTIGUOUS or not _is_plain(h5py, dataset.id.get_type()):
        raise Unfit(f"{shown(name)} of type {dataset.dtype} is not plain numbers in one piece, as Keras writes them")
    needed = math.prod(dataset.shape) * dataset.dtype.itemsize if dataset.shape is not None else -1
    if needed != size:
        raise Unfit(f"{shown(name)} of {dataset.shape} needs {needed:,} bytes, but {size:,} are there")
    floating = dataset.dtype.kind in "fV"
    return Numbers(name, dataset.id.get_offset() or 0, size, tuple(dataset.shape), floating)


def _is_plain(h5py: Any, kind: Any) -> bool:
    """Say whether a type is one that Keras writes, bit for bit: numbers, truth values, or bfloat16 as two bytes."""
    h5t = h5py.h5t
    plain = [h5t.IEEE_F16LE, h5t.IEEE_F32LE, h5t.IEEE_F64LE]
    plain += [getattr(h5t, f"STD_{sign}{bits}LE") for sign in "IU" for bits in (8, 16, 32, 64)]
    if any(kind.equal(known) for known in plain):
        return True
    if isinstance(kind, h5t.TypeEnumID):
        return bool(kind.equal(h5t.py_create(bool, logical=True)))
    return isinstance(kind, h5t.TypeOpaqueID) and kind.get_size() == 2


def _refuse_overlap(numbers: list[Numbers], addresses: set[int], total: int) -> None:
    """Refuse numbers that lie over each other, over the description of another object, or beyond the file's end."""
    marks = sorted([(entry.start, entry.size, entry.name) for entry in numbers] + [(at, 1, "a group") for at in addresses])
    end = 0
    for start, size, name in marks:
        if start < end or start + size > total:
            raise Unfit(f"{shown(name)} lies over another, or beyond the end of the file")
        end = start + size
