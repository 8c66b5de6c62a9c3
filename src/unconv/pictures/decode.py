"""Decode pictures: `reading` guards every file that a stranger wrote, `open_picture` makes a picture to look at.

A picture to look at is upright (EXIF), has 8 bits a sample, and is RGB or grey: transparency is laid over white,
deeper samples are scaled and not cut, the first of several frames is taken. `measured` keeps all samples instead.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from unconv.errors import PictureError, ShapeError, UnconvError
from unconv.pictures.colours import from_inks
from unconv.pictures.formats import bomb, opened, refuse_cut, refuse_cut_in, refuse_other, strictly

Source = str | Path | Image.Image | np.ndarray[Any, Any] | Tensor
"""A picture: a file, a PIL picture, an array, or a tensor, which is taken as already preprocessed."""
# What decoders raise on damaged files, each in its own way.
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    RuntimeError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
)


@contextmanager
def reading(
    where: str, source: object, fault: str = "is not a picture, or is damaged or cut off", name: str = "the picture"
) -> Iterator[None]:
    """Guard the reading of `source`: whatever goes wrong inside becomes a `PictureError` that names `where`.

    Args:
        where: the caller, as messages name it.
        source: a path, which must be that of a file; anything else is called `name`.
        fault: what a message says of a source that a decoder gives up on.

    Raises:
        PictureError: the file is missing, is a folder, is damaged, or holds more pixels than
            `PIL.Image.MAX_IMAGE_PIXELS` (a decompression bomb).
    """
    path = Path(source) if isinstance(source, str | Path) else None
    what = name if path is None else str(source)
    try:
        if path is not None:
            refuse_missing(where, path)
        with strictly():
            yield
    except UnconvError:
        raise  # ours are PictureErrors, and so OSErrors, already
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise bomb(where, what, f"more than {Image.MAX_IMAGE_PIXELS} pixels") from error
    except DAMAGE as error:
        raise PictureError(f"{where}: {what} {fault}: {error}.") from error


def refuse_missing(where: str, path: Path) -> None:
    """Refuse a path that is not that of a file.

    Raises:
        PictureError: it is a folder, or there is nothing.
    """
    try:
        found = path.is_file()
    except (OSError, ValueError) as error:  # a name too long, or with a zero byte
        raise PictureError(f"{where}: {str(path)[:60]!r} can be no file's name: {error}.") from error
    if not found:
        kind = "a folder" if path.is_dir() else "no regular file"
        what = f"{str(path)!r} is {kind}; a picture file was needed" if path.exists() else f"there is no file {path}"
        raise PictureError(f"{where}: {what}.")


def upright(where: str, image: Image.Image) -> Image.Image:
    """Load a picture and turn it as its EXIF orientation says; colours premultiplied by alpha are divided again.

    Raises:
        PictureError: it has no pixels.
    """
    refuse_other(where, image)
    if 0 in image.size:
        raise PictureError(f"{where}: the picture has no pixels; its size is {image.size}.")
    image.load()
    image = ImageOps.exif_transpose(image)
    return image.convert(image.mode.upper()) if image.mode in ("La", "RGBa") else image


def bands(where: str, image: Image.Image) -> Image.Image:
    """Convert a picture to L, LA, RGB, RGBA, I;16, I or F, whichever has all its samples; upright.

    Raises:
        PictureError: it has no pixels.
    """
    image = upright(where, image)
    if image.mode in ("LA", "RGBA", "F") or image.mode.startswith("I"):
        return image
    if image.has_transparency_data:
        return image.convert("LA" if image.mode in ("1", "L") else "RGBA")
    if image.mode == "CMYK":
        return from_inks(image)
    return image if image.mode in ("L", "RGB") else image.convert("L" if image.mode == "1" else "RGB")


def open_picture(source: str | Path | Image.Image | np.ndarray[Any, Any]) -> Image.Image:
    """Return an upright 8-bit picture in mode RGB or L.

    Args:
        source: a file, a PIL picture, or an array (height, width) or (height, width, 1, 3 or 4) of
            uint8, uint16, bool, or floats between 0 and 1.

    Raises:
        PictureError: missing, no picture, damaged or cut off, or of more pixels than
            `PIL.Image.MAX_IMAGE_PIXELS` (a decompression bomb).
        ShapeError: an array of another shape.
    """
    with reading("open_picture", source):
        if isinstance(source, np.ndarray):
            return _plain(Image.fromarray(_eight_bits(source)))
        if isinstance(source, Image.Image):
            return _plain(source)
        # Opened by name, Pillow 13 maps a turned grey TIFF into memory at the wrong size.
        refuse_cut("open_picture", Path(source))
        with Path(source).open("rb") as file, opened(file) as image:
            return _plain(image)


def picture_in(data: bytes, name: str) -> Image.Image:
    """As `open_picture`, of a file's content.

    Args:
        name: as messages call it.

    Raises:
        PictureError: as `open_picture`.
    """
    with reading("open_picture", None, name=name):
        if not data:
            raise PictureError(f"open_picture: {name} is empty; a picture file was needed.")
        refuse_cut_in("open_picture", Path(name), io.BytesIO(data), len(data))
        with opened(io.BytesIO(data)) as image:
            return _plain(image)


def _plain(image: Image.Image) -> Image.Image:
    """Convert a picture to 8 bits, RGB or L, upright; never the caller's own object."""
    image = upright("open_picture", image)
    if image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(_sixteen_bits(np.asarray(image))))
    if image.mode == "F":
        return Image.fromarray(_eight_bits(np.asarray(image)))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        under = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(under, rgba).convert("RGB")
    if image.mode == "L":
        return image.copy()
    return image.convert("L" if image.mode == "1" else "RGB")


def _sixteen_bits(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Convert to uint16 what Pillow opens a 16-bit file as, which may be 32 bits wide."""
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 65535:
        raise PictureError(f"open_picture: samples run from {low} to {high}; 16 bits hold 0 to 65535. Scale them first.")
    return array.astype(np.uint16)


def _eight_bits(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Scale samples to uint8; (H, W, 1) loses its last axis."""
    if array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ShapeError(
            f"picture: an array of shape {array.shape} is no picture; pass (height, width) or (height, width, 3). "
            "For another number of channels pass a preprocessed tensor (C, H, W)."
        )
    array = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    return (_unit_range(array) * 255).round().astype(np.uint8)


def _unit_range(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Scale samples to between 0 and 1, by the largest value that their type can hold."""
    if array.dtype == bool:
        return array.astype(np.float32)
    if array.dtype.kind == "u" and array.dtype.itemsize <= 2:
        return array / np.float64(np.iinfo(array.dtype).max)
    # A wider integer is seldom used to its end: dividing by its largest value would turn most pictures black.
    if not np.issubdtype(array.dtype, np.floating):
        raise PictureError(
            f"picture: samples of {array.dtype} do not say what white is; uint8, uint16, bool, or floats between 0 and 1 do. "
            "Convert them first, or pass a preprocessed tensor."
        )
    values = array.astype(np.float64)
    if not np.isfinite(values).all():
        raise PictureError("picture: it holds NaN or infinite samples. Fill them in first.")
    if values.min() < 0 or values.max() > 1:
        raise PictureError(
            f"picture: samples of {array.dtype} run from {values.min():g} to {values.max():g}; floats must lie between 0 "
            "and 1. Scale them first, or pass a preprocessed tensor."
        )
    return values
