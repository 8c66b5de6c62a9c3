"""Decode pictures: `reading` guards against damaged and hostile files, `open_picture` returns a picture for display.

A picture for display is upright (EXIF), has 8 bits a sample, and is RGB or grey: transparent pixels are laid over white,
deeper samples are scaled and not clipped, and only the first of several frames is read. `measured` keeps all samples.
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
"""A picture: a file, a PIL picture, an array, or a tensor, which is used as already preprocessed."""
# The errors that the various decoders raise on damaged files.
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
    """Guard the reading of `source`: an error raised inside becomes a `PictureError` that names `where`.

    Args:
        where: the caller, as messages name it.
        source: the path of an existing file, or anything else, which messages then call `name`.
        fault: what the message says about a source that a decoder cannot read.

    Raises:
        PictureError: the file is missing, is a folder, is damaged, or has more pixels than
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
        raise  # our own PictureErrors are OSErrors, too, which `DAMAGE` would wrap a second time
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise bomb(where, what, f"more than {Image.MAX_IMAGE_PIXELS} pixels") from error
    except DAMAGE as error:
        raise PictureError(f"{where}: {what} {fault}: {error}.") from error


def refuse_missing(where: str, path: Path) -> None:
    """Refuse a path that does not lead to a regular file.

    Raises:
        PictureError: nothing is there, or a folder or device is.
    """
    try:
        is_file = path.is_file()
    except (OSError, ValueError) as error:  # a name too long, or with a zero byte
        raise PictureError(f"{where}: {str(path)[:60]!r} cannot be a file's name: {error}.") from error
    if not is_file:
        kind = "a folder" if path.is_dir() else "not a regular file"
        what = f"{str(path)!r} is {kind}; a picture file was needed" if path.exists() else f"there is no file {path}"
        raise PictureError(f"{where}: {what}.")


def upright(where: str, image: Image.Image) -> Image.Image:
    """Load a picture, rotate it by its EXIF orientation, and divide colours premultiplied by alpha.

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
    """Convert a picture to L, LA, RGB, RGBA, I;16, I or F, whichever keeps all its samples, and make it upright.

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
        PictureError: the file is missing, not a picture, damaged or cut off, or has more pixels than
            `PIL.Image.MAX_IMAGE_PIXELS` (a decompression bomb).
        ShapeError: the array has another shape.
    """
    with reading("open_picture", source):
        if isinstance(source, np.ndarray):
            return _plain(Image.fromarray(_eight_bits(source)))
        if isinstance(source, Image.Image):
            return _plain(source)
        # Not opened by name: Pillow 13 then maps a rotated grey TIFF into memory at the wrong size.
        refuse_cut("open_picture", Path(source))
        with Path(source).open("rb") as file, opened(file) as image:
            return _plain(image)


def picture_in(data: bytes, name: str) -> Image.Image:
    """Return the picture in a file's content, as `open_picture` does.

    Args:
        name: the file's name in messages.

    Raises:
        PictureError: as in `open_picture`.
    """
    with reading("open_picture", None, name=name):
        if not data:
            raise PictureError(f"open_picture: {name} is empty; a picture file was needed.")
        refuse_cut_in("open_picture", Path(name), io.BytesIO(data), len(data))
        with opened(io.BytesIO(data)) as image:
            return _plain(image)


def _plain(image: Image.Image) -> Image.Image:
    """Return an upright copy with 8 bits a sample, RGB or L; never the caller's own object."""
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
    """Convert the samples of a 16-bit file to uint16; Pillow may open them as 32-bit integers."""
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 65535:
        raise PictureError(f"open_picture: samples run from {low} to {high}, but 0 to 65535 was needed. Scale them first.")
    return array.astype(np.uint16)


def _eight_bits(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Scale samples to uint8; an array (H, W, 1) loses its last axis."""
    if array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ShapeError(
            f"picture: an array of shape {array.shape} came, but (height, width) or (height, width, 3) was needed. "
            "For another number of channels pass a preprocessed tensor (C, H, W)."
        )
    array = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    return (_unit_range(array) * 255).round().astype(np.uint8)


def _unit_range(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Scale samples to the range 0 to 1, by the largest value that their type can hold."""
    if array.dtype == bool:
        return array.astype(np.float32)
    if array.dtype.kind == "u" and array.dtype.itemsize <= 2:
        return array / np.float64(np.iinfo(array.dtype).max)
    # Wider integer types are seldom used up to their largest value: dividing by it would turn most pictures black.
    if not np.issubdtype(array.dtype, np.floating):
        raise PictureError(
            f"picture: samples of {array.dtype} came, which do not say what white is; uint8, uint16, bool, or floats between "
            "0 and 1 were needed. Convert them first, or pass a preprocessed tensor."
        )
    values = array.astype(np.float64)
    if not np.isfinite(values).all():
        raise PictureError("picture: it holds NaN or infinite samples. Fill them in first.")
    if values.min() < 0 or values.max() > 1:
        raise PictureError(
            f"picture: samples of {array.dtype} run from {values.min():g} to {values.max():g}, but floats between 0 and 1 "
            "were needed. Scale them first, or pass a preprocessed tensor."
        )
    return values
