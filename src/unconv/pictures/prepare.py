"""Prepare whatever a user gives for a network: a picture by its preprocessing, an array of any channels by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unconv.errors import DtypeError, PictureError, ShapeError
from unconv.pictures.decode import Source, open_picture, reading
from unconv.pictures.measured import samples_and_axes
from unconv.pictures.npy import MAGIC, read_npy
from unconv.pictures.preparation import takes_colour
from unconv.pictures.preprocess import Preprocess
from unconv.pictures.tiff import read_tiff
from unconv.pictures.tiff_pages import is_tiff
from unconv.pictures.transforms import transform


def prepare(source: Source, preprocess: Callable[..., Any] | None, size: tuple[int, ...]) -> tuple[Tensor, str]:
    """Return one image (C, samples..) for a network, and what came and how it was converted, in words.

    Networks of one channel or three take pictures, and arrays as pictures; all others take the samples of an array, a
    file `.npy` or a TIFF, channels first or last.

    Args:
        preprocess: None: samples are taken as they are.
        size: (C, samples..) that the network takes; of its lengths only their number counts.

    Raises:
        PictureError: it cannot be read. ShapeError, DtypeError: it does not fit the network.
        As `unconv.pictures.transforms.transform`.
    """
    channels, axes = size[0], len(size) - 1
    own = preprocess is not None and not isinstance(preprocess, Preprocess)
    array = _array_in(source)
    if axes == 2 and preprocess is not None and (channels in (1, 3) or (own and array is None)):
        picture = open_picture(source if array is None else _as_picture(array))  # type: ignore[arg-type]
        came, wanted = picture.mode, "L" if channels == 1 and not (own and takes_colour(preprocess)) else "RGB"
        return transform(preprocess, picture.convert(wanted), channels), _converted(came, wanted, channels)
    if array is None:
        array = _samples_of_file(source, size)
    values, words = _samples(array, channels, axes)
    if preprocess is None:
        return values, words
    return transform(preprocess, values, channels, axes), words


def _array_in(source: Source) -> np.ndarray[Any, Any] | None:
    """Return the array that a source is, or that a file `.npy` holds, known by its content; None for a picture."""
    if isinstance(source, np.ndarray):
        return source
    if not isinstance(source, str | Path):
        return None
    path = Path(source)
    with reading("image", path):
        with path.open("rb") as file:
            begins = file.read(len(MAGIC))
        return read_npy(path) if begins == MAGIC else None


def _as_picture(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Put the channels of a picture last."""
    channels_first = array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[-1] not in (1, 3, 4)
    return np.moveaxis(array, 0, -1) if channels_first else array


def _converted(came: str, given: str, channels: int) -> str:
    """Say what became of a picture's colours."""
    if came == "L":
        return "grey picture" if given == "L" else "grey picture, its one channel taken three times"
    if given == "L" or channels == 1:
        return "colour picture converted to grey"
    return "colour picture"


def _samples_of_file(source: Source, size: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Return all samples of a picture with as many channels as it has, if a network takes two axes and other channels."""
    channels, axes = size[0], len(size) - 1
    wanted = f"({channels}, {', '.join('DHW'[-axes:])})"
    if axes != 2:
        raise ShapeError(
            f"image: a picture came, but a network with input_size {size} takes no pictures; pass a preprocessed tensor "
            f"{wanted}, or an array {wanted}, from the command line as a file .npy."
        )
    if isinstance(source, str | Path):
        with reading("image", source):
            with Path(source).open("rb") as file:
                begins = file.read(26)
            array = read_tiff(Path(source))[0] if is_tiff(begins) else _array_of(source)
    else:
        array = _array_of(source)
    found = array.shape[-1] if array.ndim == 3 else 1
    if channels not in array.shape:
        raise ShapeError(
            f"image: a picture of {found} channel{'s' if found > 1 else ''} came, but the network takes {channels} channels. "
            f"Pass an array {wanted}, from the command line as a file .npy or a TIFF of {channels} bands; or preprocess, a "
            f"function that makes {channels} channels of a picture."
        )
    return array


def _array_of(source: Source) -> np.ndarray[Any, Any]:
    array = samples_and_axes(source)[0]
    return array if isinstance(array, np.ndarray) else array.numpy()


def _samples(array: np.ndarray[Any, Any], channels: int, axes: int) -> tuple[Tensor, str]:
    """Lay samples channels first; unsigned integers of 8 and 16 bits from 0 to 1, as in a picture, others as they are."""
    came, wanted = array.shape, f"({channels}, {', '.join('DHW'[-axes:])})"
    while array.ndim > axes + 1 and len(array) == 1:
        array = array[0]
    laid = ""
    if array.ndim == axes and channels == 1:
        array = array[None]
    elif array.ndim == axes + 1 and len(array) == channels:
        laid = ", channels first"
    elif array.ndim == axes + 1 and array.shape[-1] == channels:
        array, laid = np.moveaxis(array, -1, 0), ", channels last"
    else:
        last = wanted.replace(f"({channels}, ", "(").replace(")", f", {channels})")
        raise ShapeError(f"image: an array of {came} came, but {wanted} or {last} was needed, one image. Pass one.")
    if 0 in array.shape or array.dtype.kind not in "buif":
        raise DtypeError(
            f"image: an array of {came}, {array.dtype}, came, but samples, integers or floats, were needed. Pass some."
        )
    whole = array.dtype.kind == "u" and array.dtype.itemsize <= 2
    peak = float(np.iinfo(array.dtype).max) if whole else 1.0
    values = torch.from_numpy(np.array(array, dtype=np.float64 if array.dtype.itemsize > 4 else np.float32, order="C"))
    if not torch.isfinite(values).all():
        raise PictureError("image: the array holds NaN or infinite samples. Fill them in first.")
    done = f", divided by {peak:g}" if whole else ""
    return values / peak, f"array {' × '.join(map(str, came))} of {array.dtype}{laid}{done}"
