"""Read PSFs from `.mat` files of MATLAB 7.3 (HDF5) with the library h5py: arrays of numbers, and cells of such arrays."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unconv.errors import PictureError, UnconvError

_MOST_CELLS = 4096
_INSIDE = "#refs#"  # the group in which MATLAB stores the contents of cells


def read_hdf5(path: Path, name: str | None, chosen: Any) -> np.ndarray[Any, Any]:
    """Return one array of numbers.

    Args:
        chosen: a function that takes the path, a dictionary from names to shapes, and `name`, and returns one of the names.

    Raises:
        PictureError: h5py is missing, or the file is damaged.
    """
    try:
        h5py = importlib.import_module("h5py")
    except ImportError as error:
        raise PictureError(
            f'psf: {path} is a file of MATLAB 7.3 (HDF5), which only h5py reads. Run: pip install "unconv[matlab]", or save '
            'the file with "-v7".'
        ) from error
    try:
        with h5py.File(path, "r") as file:
            arrays = dict(_arrays(h5py, file))
            array = arrays[chosen(path, {key: tuple(each.shape[::-1]) for key, each in arrays.items()}, name)]
            return np.asarray(array[()]).T
    except UnconvError:
        raise
    except Exception as error:  # for a damaged file h5py raises exceptions of many kinds
        raise PictureError(f"psf: {path} is damaged or cut off: {error}.") from error


def _arrays(h5py: Any, file: Any) -> Iterator[tuple[str, Any]]:
    """Yield names and arrays of numbers; an array in a cell is named by the cell array and its number, from 1."""
    for key in file:
        if key == _INSIDE or type(file.get(key, getlink=True)) is not h5py.HardLink:  # other links may lead out of the file
            continue
        item = file[key]
        if isinstance(item, h5py.Dataset) and h5py.check_ref_dtype(item.dtype) is not None:
            if math.prod(item.shape) <= _MOST_CELLS:
                cells = (file[reference] for reference in item[()].ravel() if reference)
                yield from ((f"{key}:{number}", cell) for number, cell in enumerate(cells, 1) if _is_plain(h5py, cell))
        elif _is_plain(h5py, item):
            yield key, item


def _is_plain(h5py: Any, item: Any) -> bool:
    """Return whether an object is an array of real numbers stored in the file itself."""
    return (
        isinstance(item, h5py.Dataset)
        and item.dtype.kind in "iuf"
        and not (item.is_virtual or item.external)
        and "MATLAB_empty" not in item.attrs
        and b"char" not in bytes(item.attrs.get("MATLAB_class", b""))
        and item.ndim >= 2
    )
