"""PSFs in `.mat` files: what the file announces is bounded and counted before scipy reads one array of it."""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from unconv.errors import PictureError, ShapeError, UnconvError, nearest
from unconv.inverse.psf.makers import MOST_SAMPLES
from unconv.pictures.decode import reading

_NUMBERS = ("double", "single", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
_MOST_BYTES = 16 * MOST_SAMPLES  # of all that a file holds, unpacked
_HEADER, _PACKED, _CHUNK = 128, 15, 1 << 20


def read_mat(path: Path, name: str | None) -> np.ndarray[Any, Any]:
    """Return one array of numbers.

    Args:
        name: which; needed where there are several.

    Raises:
        PictureError: the file is damaged, cut off or too large, of MATLAB 7.3, or holds no such array.
        ShapeError: the array is too large for a PSF.
        UnconvError: scipy is not installed.
    """
    try:
        from scipy.io.matlab import MatReadError, loadmat, whosmat
    except ImportError as error:
        raise UnconvError(f"psf: {path} needs scipy. Install it with pip install scipy, or save the array as .npy.") from error
    with reading("psf", path, "is not a .mat file, or is damaged or cut off"):
        _refuse_cut(path)
        try:
            shapes = {key: shape for key, shape, kind in whosmat(path) if kind in _NUMBERS}
            found = _chosen(path, shapes, name)
            return np.asarray(loadmat(path, variable_names=[found])[found])
        except NotImplementedError as error:
            raise PictureError(f'psf: {path} is of MATLAB 7.3 (HDF5). Save it with "-v7" instead.') from error
        except MatReadError as error:
            raise ValueError(str(error)) from error


def _chosen(path: Path, shapes: dict[str, tuple[int, ...]], name: str | None) -> str:
    """Choose the array that is asked for, or the only one."""
    found = next(iter(shapes)) if name is None and len(shapes) == 1 else name
    if found is None or found not in shapes:
        asked = f"holds no {name!r}" if name else "does not say which array is the PSF"
        there = nearest(name, shapes) if name else ", ".join(f"{key} {shape}" for key, shape in shapes.items())
        raise PictureError(f"psf: {path} {asked}; it holds {there or 'no arrays'}. Pass name=.")
    if math.prod(shapes[found]) > MOST_SAMPLES:
        raise ShapeError(
            f"psf: {found} in {path} is {shapes[found]}, but at most {MOST_SAMPLES} samples were allowed for. Crop it."
        )
    return found


def _refuse_cut(path: Path) -> None:
    """Go through what a file of MATLAB 5 to 7.2 holds, to its end.

    Raises:
        ValueError: its end is missing, or it unpacks to too much.

    Source:
        MathWorks, "MAT-File Format" (R2019b), chapter 1: Level 5.
    """
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise ValueError(f"it is {size} bytes long, but at most {_MOST_BYTES} were allowed for")
    with path.open("rb") as file:
        header = file.read(_HEADER)
        if header[124:128] not in (b"\0\1IM", b"\1\0MI"):
            return  # of MATLAB 4, which scipy reads by the lengths of its arrays; or of 7.3
        order: Literal["little", "big"] = "little" if header[126:] == b"IM" else "big"
        at, room = _HEADER, _MOST_BYTES
        while at < size:
            file.seek(at)
            tag = file.read(8)
            kind, length = (int.from_bytes(part, order) for part in (tag[:4], tag[4:]))
            at += 8 + length
            if len(tag) < 8 or at > size:
                raise ValueError(f"an array in it ends at {at}, but it has {size} bytes")
            if kind == _PACKED:
                room -= _unpacked(file, length, room)


def _unpacked(file: BinaryIO, length: int, room: int) -> int:
    """Count the bytes that `length` bytes unpack to; none of them are kept."""
    stream, count, content = zlib.decompressobj(), 0, file.read(length)
    while not stream.eof:
        found = len(stream.decompress(content, _CHUNK))
        content, count = stream.unconsumed_tail, count + found
        if count > room or (not found and not content):
            raise ValueError(f"an array in it is cut off, or unpacks to more than {_MOST_BYTES} bytes")
    return count
