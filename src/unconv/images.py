"""Pictures: files and arrays to tensors and back. The one place that decodes what strangers wrote.

Every picture comes out upright (EXIF), at 8 bits, in RGB or grey: transparency is laid over white,
deeper samples are scaled and not cut, of several frames the first is taken.
"""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from unconv.errors import PictureError, ShapeError, UnconvError

_LARGE = 50_000_000  # pixels that a resized picture may have

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


@dataclass(frozen=True)
class Preprocess:
    """From a picture to what a network wants: resize, crop the centre, scale, normalise.

    Args:
        size: (height, width) cropped from the centre; None keeps all.
        resize: the short side before the crop, in pixels; None: just large enough for the crop.
        mean, std: per channel, in units of `scale`; one of each makes the picture grey.
        scale: what white is: 1, or 255 for networks from Caffe.
        bgr: blue first.
    """

    size: tuple[int, int] | None = None
    resize: int | None = None
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    scale: float = 1.0
    bgr: bool = False

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3):
            raise ShapeError(
                f"Preprocess: {len(self.mean)} means and {len(self.std)} standard deviations; pictures have 1 or 3 "
                "channels. For other networks pass a preprocessed tensor."
            )
        numbers = (*self.mean, *self.std, self.scale)
        if not np.isfinite(numbers).all() or 0 in self.std or self.scale <= 0:
            raise ShapeError(
                f"Preprocess: mean {self.mean}, std {self.std}, scale {self.scale}; all must be finite, "
                "no std zero and the scale positive."
            )
        if any(n < 1 for n in (*(self.size or ()), *([] if self.resize is None else [self.resize]))):
            raise ShapeError(f"Preprocess: size {self.size}, resize {self.resize}; lengths must be at least 1 pixel.")

    @classmethod
    def like(cls, known: Any, size: tuple[int, int]) -> Preprocess:
        """What is known of another preprocessing: torchvision's presets tell all; `size` where it does not."""
        if isinstance(known, cls):
            return known
        crop, short = getattr(known, "crop_size", None), getattr(known, "resize_size", None)
        mean = tuple(getattr(known, "mean", None) or (0.0, 0.0, 0.0))
        std = tuple(getattr(known, "std", None) or (1.0,) * len(mean))
        return cls((crop[0], crop[-1]) if crop else size, short[0] if short else None, mean, std)

    def __call__(self, picture: Image.Image) -> Tensor:
        """(C, height, width), float32."""
        picture = picture.convert("L" if len(self.mean) == 1 else "RGB")
        short = self.resize or self._short_side(picture)
        if short:
            picture = vision.resize(self._middle(picture, short / min(picture.size)), [short])
        if self.size:
            picture = vision.center_crop(picture, list(self.size))
        tensor: Tensor = vision.pil_to_tensor(picture).float() / 255 * self.scale
        tensor = tensor.flip(0) if self.bgr else tensor
        normalised: Tensor = vision.normalize(tensor, list(self.mean), list(self.std))
        return normalised

    def _short_side(self, picture: Image.Image) -> int | None:
        if self.size is None:
            return None
        grow = max(self.size[0] / picture.height, self.size[1] / picture.width)
        return -int(-min(picture.size) * grow // 1)

    def _middle(self, picture: Image.Image, grow: float) -> Image.Image:
        """The picture, or, where it is thin and would grow out of bounds, its middle that the crop can see."""
        if picture.width * picture.height * grow**2 < _LARGE:
            return picture
        if self.size is None:
            raise PictureError(f"Preprocess: {picture.size} grows {grow:.3g} times, beyond {_LARGE} pixels. Crop it first.")
        height, width = (max(1, -int(-n / grow // 1)) for n in self.size)
        middle: Image.Image = vision.center_crop(picture, [min(height, picture.height), min(width, picture.width)])
        return middle


def shown(image: Tensor, preprocess: Callable[..., Any] | None) -> Tensor:
    """A preprocessed image (C, H, W) as it looked, between 0 and 1: the normalisation is undone.

    Where `preprocess` does not tell its mean and std, the range of the image's own values is shown.
    """
    image = image.detach().float().cpu()
    mean, std = getattr(preprocess, "mean", None), getattr(preprocess, "std", None)
    if mean is None or std is None or len(mean) != len(image):
        low, high = image.min(), image.max()
        return (image - low) / (high - low).clamp(min=1e-12)
    axes = [-1] + [1] * (image.ndim - 1)
    image = image * torch.tensor(std).view(axes) + torch.tensor(mean).view(axes)
    image = image / getattr(preprocess, "scale", 1.0)
    return (image.flip(0) if getattr(preprocess, "bgr", False) else image).clamp(0, 1)


def picture_of(image: Tensor) -> Image.Image:
    """(C, H, W) between 0 and 1 as a picture; other channel counts than 1 and 3 are averaged."""
    image = image if len(image) in (1, 3) else image.mean(0, keepdim=True)
    array = (image.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return Image.fromarray(array[0] if len(array) == 1 else np.ascontiguousarray(array.transpose(1, 2, 0)))


def signed_picture(signal: Tensor, scale: float) -> Image.Image:
    """A signed signal (C, H, W): mid-grey is zero, `scale` is white, `-scale` is black."""
    return picture_of(signal.detach().float() / (2 * scale or 1.0) + 0.5)


def common_scale(signals: Sequence[Tensor]) -> float:
    """One scale for a grid of signals: 99 in 100 of their samples that are not zero lie within it.

    The few largest would otherwise leave the rest too pale to see; they are drawn as white or black.
    """
    magnitudes = [signal.detach().abs().flatten() for signal in signals]
    kept = torch.cat([m[m > 0].float() for m in magnitudes]) if magnitudes else torch.empty(0)
    if not len(kept):
        return 0.0
    thinned = kept[:: 1 + len(kept) // 2**22]  # a few million samples tell as much as all
    return float(thinned.kthvalue(max(1, round(0.99 * len(thinned)))).values)


def cut(image: Tensor, box: Sequence[int]) -> Tensor:
    """(C, h, w): what `image` (C, H, W) has in `box`, firsts then ends; zero outside it."""
    axes = len(box) // 2
    out = image.new_zeros(len(image), *(end - start for start, end in zip(box[:axes], box[axes:], strict=True)))
    takes, puts = overlap(box, image.shape[1:])
    out[(slice(None), *takes)] = image[(slice(None), *puts)]
    return out


def overlap(box: Sequence[int], size: Sequence[int]) -> tuple[list[slice], list[slice]]:
    """Where `box` and an image of `size` overlap: in the box's own samples, and in the image's."""
    axes = len(size)
    takes, puts = [], []
    for start, end, n in zip(box[:axes], box[axes:], size, strict=True):
        low = min(max(start, 0), n)
        high = max(min(end, n), low)
        takes.append(slice(min(low - start, end - start), max(high - start, 0)))
        puts.append(slice(low, high))
    return takes, puts


def grid(tiles: Sequence[Image.Image], columns: int, gap: int = 4) -> Image.Image:
    """Pictures in rows, each centred in a cell of the largest's size."""
    width, height = max(tile.width for tile in tiles), max(tile.height for tile in tiles)
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    size = (columns * (width + gap) - gap, rows * (height + gap) - gap)
    canvas = Image.new("RGB", size, "white")
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        x = column * (width + gap) + (width - tile.width) // 2
        y = row * (height + gap) + (height - tile.height) // 2
        canvas.paste(tile, (x, y))
    return canvas


def png(image: Image.Image) -> bytes:
    """The picture as a PNG file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: to a temporary name beside it, then moved."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        raise UnconvError(f"write: cannot write {path}: {error.strerror}. Choose another folder.") from error
    finally:
        if partial.is_file():
            partial.unlink()
