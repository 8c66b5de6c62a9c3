"""Read `.npy` files as data only: the header is matched against a pattern, never evaluated, and nothing is unpickled."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

MAGIC = b"\x93NUMPY"
_LONGEST = 65_535  # bytes of a header; version 1 cannot state more
_MOST_AXES = 32
_HEADER = re.compile(r"\{(.*)\}\s*", re.DOTALL)
_ENTRY = re.compile(
    r"""['"](?:descr['"]\s*:\s*['"](?P<descr>[<>|=]?[a-zA-Z]\d{0,9})['"]"""
    r"""|fortran_order['"]\s*:\s*(?P<fortran>True|False)"""
    r"""|shape['"]\s*:\s*\((?P<shape>[\dL,\s]{0,2000})\))\s*(?:,\s*|$)"""
)


def read_npy(path: Path, most: int | None = None) -> np.ndarray[Any, Any]:
    """Return the array of numbers in a `.npy` file, in the type it is stored as.

    Args:
        most: the largest number of samples allowed; None for any number.

    Raises:
        ValueError: the file is cut off or damaged, holds more than one array, no numbers, or too many.
    """
    with path.open("rb") as file:
        dtype, fortran, shape = npy_header(file, path.stat().st_size)
        if most is not None and math.prod(shape) > most:
            raise ValueError(f"it holds an array of {shape}, but at most {most} samples are allowed. Crop it")
        array = np.fromfile(file, dtype, math.prod(shape))
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def npy_in(data: bytes) -> np.ndarray[Any, Any]:
    """Return the array in the content of a `.npy` file, as `read_npy` does."""
    file = io.BytesIO(data)
    dtype, fortran, shape = npy_header(file, len(data))
    # A bytearray, since an array on bytes cannot be written to.
    array = np.frombuffer(bytearray(file.read()), dtype)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def npy_header(file: BinaryIO, size: int) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    """Return the type of an array, whether it is in Fortran order, and its shape; leave `file` at its samples.

    Args:
        size: of the file, in bytes.

    Raises:
        ValueError: the file is cut off or damaged, holds more than one array, or no numbers.
    """
    start = file.read(12)
    version = start[6:7]
    if start[:6] != MAGIC or version not in (b"\1", b"\2", b"\3"):
        raise ValueError("it does not begin as a .npy file does, or its format version is not 1, 2 or 3")
    begin, width = (10, 2) if version == b"\1" else (12, 4)
    length = int.from_bytes(start[8 : 8 + width], "little")
    if length > _LONGEST or begin + length > size:
        raise ValueError(f"its header of {length} bytes is cut off or too long")
    file.seek(begin)
    dtype, fortran, shape = _parsed(file.read(length).decode("utf-8" if version == b"\3" else "latin-1"))
    # Exactly as many bytes as announced: fewer mean a file cut off, more a second array, which would be lost.
    announced = math.prod(shape) * dtype.itemsize
    if announced != size - begin - length:
        raise ValueError(f"it announces {shape} of {dtype}, {announced} bytes, but holds {size - begin - length}")
    return dtype, fortran, shape


def _parsed(header: str) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    """Return the type, whether the array is in Fortran order, and the shape.

    Source:
        numpy.lib.format, version 2.4: "Format Version 1.0".
    """
    body = _HEADER.fullmatch(header)
    text, at = body[1].strip() if body else "", 0
    entries: dict[str, str] = {}
    while entry := _ENTRY.match(text, at):
        entries |= {key: value for key, value in entry.groupdict().items() if value is not None}
        at = entry.end()
    if at < len(text) or len(entries) != 3:
        raise ValueError(f"its header, {header[:80]!r}, is not that of one array of plain numbers")
    return _dtype(entries["descr"]), entries["fortran"] == "True", _shape(entries["shape"])


def _dtype(text: str) -> np.dtype[Any]:
    order, kind, width = re.fullmatch(r"(\W?)(\w)(\d*)", text).groups()  # type: ignore[union-attr]  # as _ENTRY says
    if kind not in "biufc" or not 1 <= int(width or 0) <= 32:
        raise ValueError(f"it holds samples of {text!r}; integers or floats were needed. Convert them")
    return np.dtype(f"{order}{kind}{int(width)}")


def _shape(text: str) -> tuple[int, ...]:
    lengths = [part.strip().removesuffix("L") for part in text.split(",")]
    lengths = lengths[:-1] if not lengths[-1] else lengths  # the comma of (5,)
    if len(lengths) > _MOST_AXES or not all(part.isdecimal() and len(part) < 20 for part in lengths):
        raise ValueError(f"its shape, ({text[:60]}), is not one")
    return tuple(int(part) for part in lengths)
