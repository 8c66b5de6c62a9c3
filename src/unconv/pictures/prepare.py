"""Prepare what a user passes to a network: a picture by the preprocessing, an array with any number of channels as it is."""

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
    """Return one image (C, samples..) for a network, and a sentence on what the source was and how it was converted.

    Networks of one or three channels take pictures, and read arrays as pictures. All others take the samples of an array,
    a `.npy` file or a TIFF, channels first or last.

    Args:
        preprocess: the network's; with None samples are used as they are.
        size: (C, samples..) that the network takes. Only the number of its lengths matters, not their values.

    Raises:
        PictureError: the source cannot be read.
        ShapeError, DtypeError: it does not fit the network.
        Also the errors of `unconv.pictures.transforms.transform`.
    """
    channels, axes = size[0], len(size) - 1
    is_foreign = preprocess is not None and not isinstance(preprocess, Preprocess)
    array = _array_in(source)
    if axes == 2 and preprocess is not None and (channels in (1, 3) or (is_foreign and array is None)):
        picture = open_picture(source if array is None else _as_picture(array))  # type: ignore[arg-type]
        mode, needed_mode = picture.mode, "L" if channels == 1 and not (is_foreign and takes_colour(preprocess)) else "RGB"
        return transform(preprocess, picture.convert(needed_mode), channels), _converted(mode, needed_mode, channels)
    if array is None:
        array = _samples_of_file(source, size)
    values, words = _samples(array, channels, axes)
    if preprocess is None:
        return values, words
    return transform(preprocess, values, channels, axes), words


def _array_in(source: Source) -> np.ndarray[Any, Any] | None:
    """Return the array that a source is, or that a `.npy` file holds, recognised by its content; None for a picture."""
    if isinstance(source, np.ndarray):
        return source
    if not isinstance(source, str | Path):
        return None
    path = Path(source)
    with reading("image", path):
        with path.open("rb") as file:
            start = file.read(len(MAGIC))
        return read_npy(path) if start == MAGIC else None


def _as_picture(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the picture with its channels last."""
    channels_first = array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[-1] not in (1, 3, 4)
    return np.moveaxis(array, 0, -1) if channels_first else array


def _converted(mode: str, needed_mode: str, channels: int) -> str:
    """Describe how a picture's colours were converted."""
    if mode == "L":
        return "grey picture" if needed_mode == "L" else "grey picture, its one channel repeated three times"
    if needed_mode == "L" or channels == 1:
        return "colour picture converted to grey"
    return "colour picture"


def _samples_of_file(source: Source, size: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Return a picture's samples with all its channels, for a network that takes (C, H, W) with a C other than 1 or 3."""
    channels, axes = size[0], len(size) - 1
    needed_shape = f"({channels}, {', '.join('DHW'[-axes:])})"
    if axes != 2:
        raise ShapeError(
            f"image: a picture came, but a network with input_size {size} takes no pictures. Pass a preprocessed tensor "
            f"{needed_shape}, or an array {needed_shape} (on the command line, a .npy file)."
        )
    if isinstance(source, str | Path):
        with reading("image", source):
            with Path(source).open("rb") as file:
                start = file.read(26)
            # Pillow reads no TIFF with more bands than CMYK has; `read_tiff` reads any number.
            array = read_tiff(Path(source))[0] if is_tiff(start) else _array_of(source)
    else:
        array = _array_of(source)
    picture_channels = array.shape[-1] if array.ndim == 3 else 1
    if channels not in array.shape:
        came = f"{picture_channels} channel{'s' if picture_channels > 1 else ''}"
        raise ShapeError(
            f"image: a picture of {came} came, but the network takes {channels} channels. "
            f"Pass an array {needed_shape} (on the command line, a .npy file or a TIFF of {channels} bands), or as preprocess "
            f"a function that turns a picture into {channels} channels."
        )
    return array


def _array_of(source: Source) -> np.ndarray[Any, Any]:
    array = samples_and_axes(source)[0]
    return array if isinstance(array, np.ndarray) else array.numpy()


def _samples(array: np.ndarray[Any, Any], channels: int, axes: int) -> tuple[Tensor, str]:
    """Return the samples, channels first; uint8 and uint16 are scaled to 0..1, as in a picture, other types are not."""
    shape, needed_shape = array.shape, f"({channels}, {', '.join('DHW'[-axes:])})"
    while array.ndim > axes + 1 and len(array) == 1:  # a batch of one image is that image
        array = array[0]
    layout = ""
    if array.ndim == axes and channels == 1:
        array = array[None]
    elif array.ndim == axes + 1 and len(array) == channels:
        layout = ", channels first"
    elif array.ndim == axes + 1 and array.shape[-1] == channels:
        array, layout = np.moveaxis(array, -1, 0), ", channels last"
    else:
        needed_last = needed_shape.replace(f"({channels}, ", "(").replace(")", f", {channels})")
        raise ShapeError(
            f"image: an array of {shape} came, but one image, {needed_shape} or {needed_last}, was needed. Pass one."
        )
    if 0 in array.shape or array.dtype.kind not in "buif":
        raise DtypeError(
            f"image: an array of {shape}, {array.dtype}, came, but one with integer or floating samples was needed."
        )
    # White is the largest value of these two types, as in pictures; other types do not say what white is.
    is_scaled = array.dtype.kind == "u" and array.dtype.itemsize <= 2
    peak = float(np.iinfo(array.dtype).max) if is_scaled else 1.0
    values = torch.from_numpy(np.array(array, dtype=np.float64 if array.dtype.itemsize > 4 else np.float32, order="C"))
    if not torch.isfinite(values).all():
        raise PictureError("image: the array holds NaN or infinite samples. Fill them in first.")
    scaling = f", divided by {peak:g}" if is_scaled else ""
    return values / peak, f"array {' × '.join(map(str, shape))} of {array.dtype}{layout}{scaling}"
