"""PSFs in `.mat` files of MATLAB 7.3, which are HDF5: arrays of numbers and cells of such, by the library h5py."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unconv.errors import PictureError, UnconvError

_MOST_CELLS = 4096
_INSIDE = "#refs#"  # where MATLAB keeps what cells hold


def read_hdf5(path: Path, name: str | None, chosen: Any) -> np.ndarray[Any, Any]:
    """Return one array of numbers.

    Args:
        chosen: takes the path, pairs of names and shapes as a dictionary, and `name`; returns one of the names.

    Raises:
        PictureError: h5py is missing, or the file is damaged.
    """
    try:
        h5py = importlib.import_module("h5py")
    except ImportError as error:
        raise PictureError(
            f'psf: {path} is of MATLAB 7.3 (HDF5), which h5py reads. Install it with pip install "unconv[matlab]", or save the '
            'file with "-v7".'
        ) from error
    try:
        with h5py.File(path, "r") as file:
            arrays = dict(_arrays(h5py, file))
            found = arrays[chosen(path, {key: tuple(array.shape[::-1]) for key, array in arrays.items()}, name)]
            return np.asarray(found[()]).T
    except UnconvError:
        raise
    except Exception as error:  # of a damaged file h5py raises whatever HDF5 came upon
        raise PictureError(f"psf: {path} is damaged or cut off: {error}.") from error


def _arrays(h5py: Any, file: Any) -> Iterator[tuple[str, Any]]:
    """Yield arrays of numbers by their names, those in cells by the name and their number, from 1."""
    for key in file:
        if key == _INSIDE or type(file.get(key, getlink=True)) is not h5py.HardLink:  # others lead out of the file
            continue
        thing = file[key]
        if isinstance(thing, h5py.Dataset) and h5py.check_ref_dtype(thing.dtype) is not None:
            if math.prod(thing.shape) <= _MOST_CELLS:
                cells = (file[reference] for reference in thing[()].ravel() if reference)
                yield from ((f"{key}:{number}", cell) for number, cell in enumerate(cells, 1) if _is_plain(h5py, cell))
        elif _is_plain(h5py, thing):
            yield key, thing


def _is_plain(h5py: Any, thing: Any) -> bool:
    """Whether something is real numbers that lie in the file."""
    return (
        isinstance(thing, h5py.Dataset)
        and thing.dtype.kind in "iuf"
        and not (thing.is_virtual or thing.external)
        and "MATLAB_empty" not in thing.attrs
        and b"char" not in bytes(thing.attrs.get("MATLAB_class", b""))
        and thing.ndim >= 2
    )
