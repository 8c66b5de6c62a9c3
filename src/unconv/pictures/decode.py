"""Pictures to look at: what strangers wrote, decoded.

Every picture comes out upright (EXIF), at 8 bits, in RGB or grey: transparency is laid over white,
deeper samples are scaled and not cut, of several frames the first is taken.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from unconv.errors import PictureError, ShapeError, UnconvError

Source = str | Path | Image.Image | np.ndarray[Any, Any] | Tensor
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


def open_picture(source: str | Path | Image.Image | np.ndarray[Any, Any]) -> Image.Image:
    """An upright 8-bit picture in mode RGB or L.

    Args:
        source: a file, a PIL picture, or an array (height, width) or (height, width, 1, 3 or 4) of
            uint8, uint16, bool, or floats between 0 and 1.

    Raises:
        PictureError: absent, no picture, damaged or cut off, or of more pixels than
            `PIL.Image.MAX_IMAGE_PIXELS` (a decompression bomb).
        ShapeError: an array of another shape.
    """
    what = str(source) if isinstance(source, str | Path) else "the picture"
    try:
        return _decode(source)
    except UnconvError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise PictureError(
            f"open_picture: {what} unpacks to more than {Image.MAX_IMAGE_PIXELS} pixels; refused as a decompression "
            "bomb. Make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it."
        ) from error
    except DAMAGE as error:
        raise PictureError(f"open_picture: {what} is not a picture, or is damaged or cut off: {error}.") from error


def _decode(source: str | Path | Image.Image | np.ndarray[Any, Any]) -> Image.Image:
    if isinstance(source, np.ndarray):
        return _plain(Image.fromarray(_eight_bits(source)))
    if isinstance(source, Image.Image):
        return _plain(source)
    path = Path(source)
    if not path.is_file():
        what = f"{str(path)!r} is a folder; a picture file was needed" if path.exists() else f"there is no file {path}"
        raise PictureError(f"open_picture: {what}.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        # Opened by name, Pillow 13 maps a turned grey TIFF into memory at the wrong size.
        with path.open("rb") as file, Image.open(file) as image:
            return _plain(image)


def _plain(image: Image.Image) -> Image.Image:
    """Upright, 8 bits, RGB or L."""
    if 0 in image.size:
        raise PictureError(f"open_picture: the picture has no pixels; its size is {image.size}.")
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(_sixteen_bits(np.asarray(image))))
    if image.mode == "F":
        return Image.fromarray(_eight_bits(np.asarray(image)))
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        under = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(under, rgba).convert("RGB")
    if image.mode == "L":
        return image.copy()
    return image.convert("L" if image.mode == "1" else "RGB")


def _sixteen_bits(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What Pillow opens a 16-bit file as, 16 or 32 bits wide, in uint16."""
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 65535:
        raise PictureError(f"open_picture: samples run from {low} to {high}; 16 bits hold 0 to 65535. Scale them first.")
    return array.astype(np.uint16)


def _eight_bits(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Samples scaled to uint8; (H, W, 1) loses its last axis."""
    if array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ShapeError(
            f"picture: an array of shape {array.shape} is no picture; pass (height, width) or (height, width, 3). "
            "For another number of channels pass a preprocessed tensor (C, H, W)."
        )
    array = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    return (_unit_range(array) * 255).round().astype(np.uint8)


def _unit_range(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Samples between 0 and 1, by what their type can hold."""
    if array.dtype == bool:
        return array.astype(np.float32)
    if array.dtype.kind == "u" and array.dtype.itemsize <= 2:
        return array / np.float64(np.iinfo(array.dtype).max)
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
