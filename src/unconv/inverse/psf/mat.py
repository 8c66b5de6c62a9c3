"""Read PSFs from `.mat` files of MATLAB 4 to 7.2: arrays of numbers, and cells of such arrays.

The format is parsed here because scipy's reader crashes on a file with a few flipped bits.

Source:
    MathWorks, "MAT-File Format" (R2019b), chapter 1.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from unconv.errors import PictureError, ShapeError, nearest
from unconv.inverse.psf.makers import MOST_SAMPLES
from unconv.inverse.psf.mat_hdf5 import read_hdf5
from unconv.pictures.decode import reading

_HEADER, _HEAD = 128, 1 << 12  # bytes in the file's header, and at the start of an array that contain its name and shape
_MATRIX, _PACKED, _COMPLEX = 14, 15, 0x800
_CELL, _MOST_CELLS = 1, 4096  # the class of cell arrays, and the most cells in one
_MOST_BYTES = 8 * MOST_SAMPLES  # in all cells of an array together
_MOST_AXES = 32
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_LEVEL_4 = ("f8", "f4", "i4", "i2", "u2", "u1")


@dataclass(frozen=True)
class _Array:
    """An array of numbers in a file, and the function that reads its values, in column order."""

    name: str
    shape: tuple[int, ...]
    values: Callable[[], np.ndarray[Any, Any]]


def read_mat(path: Path, name: str | None) -> np.ndarray[Any, Any]:
    """Return one array of numbers.

    Args:
        name: needed if there are several arrays. "kernels:3" is the third cell of `kernels`, or the third page of that array
            if it has three axes; "3" is the same of the only array.

    Raises:
        PictureError: the file is damaged or cut off, or has no such array; or it is of MATLAB 7.3, and h5py is missing.
        ShapeError: the array is too large for a PSF.
    """
    fault = "is not a .mat file, or is damaged or cut off"
    with reading("psf", path, fault), path.open("rb") as file:
        size, header = path.stat().st_size, file.read(_HEADER)
        if header[124:128] in (b"\0\2IM", b"\2\0MI"):
            array = read_hdf5(path, name, _chosen)
        else:
            level_5 = header[124:128] in (b"\0\1IM", b"\1\0MI")
            arrays = {array.name: array for array in (_level_5 if level_5 else _level_4)(file, size, header)}
            chosen = arrays[_chosen(path, {key: array.shape for key, array in arrays.items()}, name)]
            values = chosen.values()
            if values.size != math.prod(chosen.shape):
                raise ValueError(f"{chosen.name} is {chosen.shape}, but has {values.size} values")
            array = values.reshape(chosen.shape, order="F")
    page = _page(name)
    return array[..., page - 1] if page and array.ndim == 3 and 0 < page <= array.shape[2] else array


def _page(name: str | None) -> int:
    """Return the number at the end of a name such as "kernels:3"; 0 if there is none."""
    number = (name or "").rpartition(":")[2]
    return int(number) if number.isdecimal() and len(number) < 6 else 0


def _chosen(path: Path, shapes: dict[str, tuple[int, ...]], name: str | None) -> str:
    """Return the name of the requested array, or of the only one."""
    chosen = next(iter(shapes)) if name is None and len(shapes) == 1 else name
    if chosen is not None and chosen not in shapes and _page(chosen):
        chosen = _numbered(chosen, shapes) or chosen
    if chosen is None or chosen not in shapes:
        fault = f"has no array {name!r}" if name else "does not say which array is the PSF"
        listing = ", ".join(f"{key} {shape}" for key, shape in shapes.items()) or "no arrays"
        listing = listing if len(listing) < 1000 else nearest(name or "", shapes)
        example = f"{path.name}:{next(iter(shapes), 'NAME')}"
        raise PictureError(f"psf: {path} {fault}; it has {listing}. Pass name=, or write {example!r} for the file.")
    if math.prod(shapes[chosen]) > MOST_SAMPLES:
        raise ShapeError(
            f"psf: {chosen} in {path} is {shapes[chosen]}, but at most {MOST_SAMPLES} samples are allowed. Crop it."
        )
    return chosen


def _numbered(name: str, shapes: dict[str, tuple[int, ...]]) -> str | None:
    """Return the array that a number refers to: a cell of the only cell array, or the array with such a page."""
    base, _, number = name.rpartition(":")
    cells = {key.partition(":")[0] for key in shapes if ":" in key}
    if not base and len(cells) == 1 and f"{next(iter(cells))}:{number}" in shapes:
        return f"{next(iter(cells))}:{number}"
    volumes = [
        key for key, shape in shapes.items() if len(shape) == 3 and (key == base or not base) and _page(name) <= shape[2]
    ]
    return volumes[0] if len(volumes) == 1 else None


def _level_4(file: BinaryIO, size: int, _header: bytes) -> Iterator[_Array]:
    """Yield the arrays of a file of MATLAB 4; five numbers and a name precede each."""
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(20)
        # The first number is small in the right byte order, and gives the machine's order, the type and the content.
        order = "<" if len(head) == 20 and int.from_bytes(head[:4], "little") < 1000 else ">"
        kind, rows, columns, imaginary, length = struct.unpack(f"{order}5i", head)
        machine, (_, numbers, content) = kind // 1000, (kind // 100 % 10, kind // 10 % 10, kind % 10)
        if machine != (order == ">") or numbers > 5 or content > 2 or min(rows, columns, imaginary) < 0 or not 0 < length < 200:
            raise ValueError(f"there is no array at byte {at}")
        name = file.read(length).split(b"\0")[0].decode("latin-1")
        start, stored = at + 20 + length, np.dtype(order + _LEVEL_4[numbers])
        at = start + rows * columns * stored.itemsize * (2 if imaginary else 1)
        if at > size:
            raise ValueError(f"{name} ends at byte {at}, but the file has {size} bytes")
        if content == 0 and not imaginary:
            yield _Array(name, (rows, columns), partial(_values, file, start, stored, rows * columns))


def _values(file: BinaryIO, start: int, stored: np.dtype[Any], count: int) -> np.ndarray[Any, Any]:
    file.seek(start)
    return np.frombuffer(file.read(count * stored.itemsize), stored)


def _level_5(file: BinaryIO, size: int, header: bytes) -> Iterator[_Array]:
    """Yield the arrays of numbers of a file of MATLAB 5 to 7.2; each is one element, compressed or not."""
    order, at = "<" if header.endswith(b"IM") else ">", _HEADER
    while at < size:
        file.seek(at)
        tag = file.read(8)
        if len(tag) < 8:
            raise ValueError("its last array is cut off")
        kind, length = struct.unpack(f"{order}2I", tag)
        start, at = at + 8, at + 8 + length
        if at > size:
            raise ValueError(f"an array in it ends at byte {at}, but it has {size} bytes")
        if kind in (_MATRIX, _PACKED):
            head = _content(file, start, length, kind, _HEAD)
            # Only the head is unpacked here; the values of the chosen array alone are read later, by its `values`.
            description = _described(head, order, kind == _PACKED)
            if description is None:
                yield from _cells(partial(_content, file, start, length, kind, _MOST_BYTES), head, order, kind == _PACKED)
            else:
                name, shape, result, begin = description
                most = begin + 8 * math.prod(shape) + 16
                yield _Array(name, shape, partial(_numbers, file, start, length, kind, most, begin, order, result))


def _content(file: BinaryIO, start: int, length: int, kind: int, most: int) -> bytes:
    """Return the first `most` bytes of an element, decompressed if need be; its own tag then comes first."""
    file.seek(start)
    if kind == _MATRIX:
        return file.read(min(length, most))
    return zlib.decompressobj().decompress(file.read(length), most)


def _cells(read: Callable[[], bytes], head: bytes, order: str, packed: bool) -> Iterator[_Array]:
    """Yield the arrays of numbers in a cell array, named by it and their number, from 1; nothing if it is no cell array."""
    kind, name, _, at = _opening(head, order, packed)
    if kind != _CELL or not name:
        return
    content, number = read(), 0
    while at < len(content):
        (inner, inside), at = _element(content, at, order)
        number += 1
        if number > _MOST_CELLS:
            raise ValueError(f"{name} has more than {_MOST_CELLS} cells")
        description = _described(inside, order, packed=False, named=False) if inner == _MATRIX and inside else None
        if description is not None:
            _, shape, result, begin = description
            yield _Array(f"{name}:{number}", shape, partial(_values_at, inside, begin, order, result))


def _opening(content: bytes, order: str, packed: bool) -> tuple[int, str, tuple[int, ...], int]:
    """Return an array's class with the flag of complex numbers, its name, its shape, and the offset of its content."""
    at = 0
    if packed:
        (kind,) = struct.unpack_from(f"{order}I", content)
        if kind != _MATRIX:
            return 0, "", (), 0
        at = 8
    flags, at = _element(content, at, order)
    (word,) = struct.unpack_from(f"{order}I", flags[1])
    if word & 0xFF not in (*_CLASSES, _CELL):
        return 0, "", (), 0  # objects have another layout
    lengths, at = _element(content, at, order)
    name, at = _element(content, at, order)
    shape = struct.unpack(f"{order}{len(lengths[1]) // 4}i", lengths[1])
    if not 2 <= len(shape) <= _MOST_AXES or min(shape) < 0:
        raise ValueError(f"an array in it has the shape {shape[:4]}")
    return word & (0xFF | _COMPLEX), name[1].decode("latin-1"), shape, at


def _described(
    content: bytes, order: str, packed: bool, named: bool = True
) -> tuple[str, tuple[int, ...], np.dtype[Any], int] | None:
    """Return an array's name, shape, type and the offset of its values; None if these are not real numbers."""
    kind, name, shape, at = _opening(content, order, packed)
    if kind not in _CLASSES or (named and not name):  # an array without a name is MATLAB's own data
        return None
    return name, shape, np.dtype(_CLASSES[kind]), at


def _element(content: bytes, at: int, order: str) -> tuple[tuple[int, bytes], int]:
    """Return the type and the bytes of the element at offset `at`, and the offset of the next."""
    kind, length = struct.unpack_from(f"{order}2I", content, at)
    start, end = at + 8, at + 8 + -(-length // 8) * 8
    if kind >> 16:  # a small element: its data lies where others have their length
        kind, length, start, end = kind & 0xFFFF, min(kind >> 16, 4), at + 4, at + 8
    if start + length > len(content):
        raise ValueError("an array in it is cut off")
    return (kind, content[start : start + length]), end


def _numbers(
    file: BinaryIO, start: int, length: int, kind: int, most: int, begin: int, order: str, result: np.dtype[Any]
) -> np.ndarray[Any, Any]:
    """Return the values of an array."""
    return _values_at(_content(file, start, length, kind, most), begin, order, result)


def _values_at(content: bytes, begin: int, order: str, result: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Return the values of an array, which the file may store in a smaller type."""
    (values_kind, values), _ = _element(content, begin, order)
    if values_kind not in _STORED:
        raise ValueError(f"its values have the unknown type {values_kind}")
    stored = np.dtype(order + _STORED[values_kind])
    if len(values) % stored.itemsize:
        raise ValueError("its values are cut off")
    return np.frombuffer(values, stored).astype(result)
