"""List the pictures that are rows of an array, in memory or in a `.npy` or `.npz` file."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from unconv.errors import PictureError, ShapeError, counted
from unconv.pictures.npy import npy_header, npy_in
from unconv.scan.listed import Entry, Pictures

_NAMES = ("images", "x", "X", "data", "arr_0")
_LABELS = ("labels", "y", "Y", "label", "targets")
Array = np.ndarray[Any, Any]


def stack(array: Any, where: str = "", labels: Any = None) -> Pictures:
    """List the pictures along the first axis of an array, (N, H, W), (N, H, W, channels) or (N, channels, samples..).

    Raises:
        ShapeError: the array has fewer than two axes, or not as many labels as rows.
    """
    if array.ndim < 2:
        raise ShapeError(f"pictures: an array of {tuple(array.shape)} came, but (pictures, ..) was needed. Stack them first.")
    if labels is not None and len(labels) != len(array):
        raise ShapeError(
            f"pictures: {counted(len(array), 'picture')} but {counted(len(labels), 'label')} came. Pass one label for each."
        )
    names = [None] * len(array) if labels is None else [str(label) for label in np.asarray(labels).tolist()]
    entries = [Entry(str(row), where, row, -1, names[row]) for row in range(len(array))]
    return Pictures("array", where, entries, lambda entry: np.array(array[entry.offset]))


def npy(file: Path) -> Pictures:
    """List the pictures of a stack in a `.npy` file, which is mapped into memory and not read at once."""
    try:
        with file.open("rb") as opened:
            dtype, fortran, shape = npy_header(opened, file.stat().st_size)
            offset = opened.tell()
        array = np.memmap(file, dtype, "r", offset, shape, "F" if fortran else "C")
    except (OSError, ValueError) as error:
        raise PictureError(f"pictures: {file} is not a complete .npy file of numbers: {error}.") from error
    return stack(array, str(file))


def npz(file: Path) -> Pictures:
    """List the pictures in a `.npz` file: its array `images`, `x` or `data`, or its largest; `labels` or `y` are its labels."""
    try:
        with zipfile.ZipFile(file) as archive:
            arrays = {
                name.removesuffix(".npy"): npy_in(archive.read(name)) for name in archive.namelist() if _numbers(archive, name)
            }
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise PictureError(f"pictures: {file} is not a complete .npz file of numbers: {error}.") from error
    stacks = {name: array for name, array in arrays.items() if array.ndim >= 3}
    name = next((name for name in _NAMES if name in stacks), max(stacks, key=lambda name: stacks[name].size, default=None))
    if name is None:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "no arrays of numbers"
        raise PictureError(f"pictures: {file} holds {shapes}, but a stack of pictures (N, H, W, 3) was needed. Save one.")
    labels = next((arrays[key] for key in _LABELS if key in arrays and arrays[key].shape == arrays[name].shape[:1]), None)
    return stack(stacks[name], str(file), labels)


def _numbers(archive: zipfile.ZipFile, name: str) -> bool:
    """Return whether a member is an array of numbers; those of text and objects are skipped."""
    with archive.open(name) as member:
        try:
            npy_header(member, archive.getinfo(name).file_size)  # type: ignore[arg-type]
        except ValueError:
            return False
    return True
