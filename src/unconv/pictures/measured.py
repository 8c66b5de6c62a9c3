"""Pictures as measured: every depth kept, in the source's own units, and given back in the kind they came in.

`images` makes pictures to look at, at 8 bits. Undoing a blur needs all that was measured: 16 bits, floats, stacks.
"""

from __future__ import annotations

import io
import math
import re
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from unconv.errors import DtypeError, NonFinite, PictureError, ShapeError, UnconvError
from unconv.files import write
from unconv.pictures.decode import DAMAGE, Source
from unconv.pictures.tiff import check_size, encode_tiff, read_tiff

_SINGLE = ("uint8", "int8", "uint16", "int16", "float16", "bfloat16", "float32")  # exact in float32
_DOUBLE = ("uint32", "int32", "uint64", "int64", "float64")  # in float64, integers up to 2**53
_ORDER = "NCDHW"  # of the axes of `Measured.samples`


@dataclass(frozen=True, eq=False)
class Measured:
    """A picture's samples, and how to give a result back in the same kind.

    Attributes:
        samples: floating, in the source's own units (uint8 0..255, uint16 0..65535, floats as they are), float32
            where that is exact and float64 otherwise. Separate pictures and channels come first, the axes that a
            blur runs over last: (H, W), (C, H, W), (N, H, W), (N, C, H, W), (D, H, W), (C, D, H, W).
        axes: what the axes of `samples` are, such as "CHW": N pictures, C channels, D depth, H height, W width.
        given: the same of the source, alpha among its channels.
        dtype: of the source: numpy's, or torch's where it was a tensor.
        alpha: the transparency, as `samples` with one channel; None without.
        mode: of the PIL picture it was; None where it was none.
    """

    samples: Tensor
    axes: str
    given: str
    dtype: np.dtype[Any] | torch.dtype
    alpha: Tensor | None = None
    mode: str | None = None

    @property
    def spatial(self) -> tuple[int, ...]:
        """Lengths of the axes a blur runs over: (H, W), or (D, H, W) for a volume."""
        return tuple(self.samples.shape[-3 if "D" in self.axes else -2 :])

    @property
    def colour(self) -> bool:
        """It is red, green and blue."""
        return "C" in self.axes and self.samples.shape[self.axes.index("C")] == 3

    @property
    def peak(self) -> float | None:
        """The largest value its type holds, such as 255 or 65535; None for floats, which do not say."""
        bounds = _bounds(self.dtype)
        return None if bounds is None else bounds[1]

    def like(self, samples: Tensor) -> Any:
        """`samples` in the kind, type and layout of the source: a tensor, an array (also for a file) or a PIL picture.

        For types of integers they are rounded and clipped to the type's range; floats are not touched. Alpha is put
        back unchanged.

        Args:
            samples: laid as `self.samples`; height, width and depth may differ where there is no alpha.

        Raises:
            ShapeError: other axes than `self.samples`.
            NonFinite: NaN where the source's type is of integers.
        """
        leading = len(self.axes) - len(self.spatial)
        came, needed = tuple(samples.shape), tuple(self.samples.shape)
        fits = len(came) == len(needed) and came[:leading] == needed[:leading]
        if not fits or (self.alpha is not None and came != needed):
            raise ShapeError(
                f"like: samples are {came}, but the picture is {needed} ({self.axes}). Give back as many axes and channels"
                + (" and the same size, since it has an alpha channel." if fits else " as came.")
            )
        if self.alpha is not None:
            samples = torch.cat([samples, self.alpha.to(samples.device)], self.axes.index("C"))
        samples = _typed(samples, self.dtype).permute(_inverse(_order(self.given)))
        if isinstance(self.dtype, torch.dtype):
            return samples.to(self.samples.device)
        array = samples.detach().cpu().numpy().astype(self.dtype, order="C")
        return array if self.mode is None else Image.fromarray(array)


def measured(source: Source, *, axes: str | None = None) -> Measured:
    """A picture, a stack or a volume with all its samples, in its own units.

    Files: 8-bit ones as Pillow reads them, upright, palettes and CMYK as RGB, of an animation the first frame; PNG
    with 16 bits, grey or colour; TIFF of any depth and of several pages (what Pillow cannot keep needs tifffile, the
    extra `image`); `.npy`. JPEG 2000, AVIF and colour PPM come at the 8 bits that Pillow reads them at.

    Without `axes`, three axes are read like this. An array whose last axis is 1 to 4 long has channels last; any
    other is a stack of separate pictures. A tensor whose first axis is 1 or 3 long has channels first; else one whose
    last axis is 3 long has channels last; any other is a stack. Four axes are a stack of pictures with channels.
    Of 2 or 4 channels the last is alpha, kept apart.

    Args:
        source: a file, a PIL picture, an array or a tensor; integers, or floats in which NaN says "not observed".
            Integers of 64 bits must lie within 2**53, where float64 is exact.
        axes: one letter for each axis of `source`: H and W, D for the depth of one volume, C for channels, N for
            separate pictures ("NHW", "DHW", "NCHW", "HWC", "NNHW").

    Raises:
        PictureError: absent, no picture, damaged, a decompression bomb, infinite samples, integers beyond 2**53.
        ShapeError: axes that cannot be told, or not those that `axes` says.
        DtypeError: bool, complex or no numbers.

    Example:
        >>> deep = measured(np.array([[0, 65535]], dtype=np.uint16))
        >>> deep.samples, deep.peak
        (tensor([[    0., 65535.]]), 65535.0)
        >>> deep.like(deep.samples / 2)
        array([[    0, 32768]], dtype=uint16)
    """
    values, known, mode = _taken(source)
    given = _named(tuple(values.shape), axes, known or _guessed(tuple(values.shape), isinstance(values, Tensor)))
    samples = _floating(values).permute(_order(given))
    infinite = int(torch.isinf(samples).sum())
    if infinite:
        raise PictureError(f"measured: {infinite} of {samples.numel()} samples are infinite. Set them to NaN: not observed.")
    order = "".join(sorted(given, key=_ORDER.index))
    alpha = None
    if "C" in given and samples.shape[order.index("C")] in (2, 4):
        at = order.index("C")
        samples, alpha = samples.split([samples.shape[at] - 1, 1], at)
    return Measured(samples, order, given, values.dtype, alpha, mode)


def save(picture: np.ndarray[Any, Any] | Tensor | Image.Image, path: str | Path, *, axes: str | None = None) -> None:
    """Write what `Measured.like` gives, whole or not at all, in a format that keeps its type; nothing is scaled.

    uint8 goes into any format of Pillow, uint16 into PNG or TIFF, every type and every stack into TIFF or .npy.

    Args:
        picture: an array, a tensor or a PIL picture; its axes are read as in `measured`.
        path: its ending says the format.
        axes: as in `measured`.

    Raises:
        PictureError: the format cannot hold the type or the stack, or tifffile is needed and absent.
        UnconvError: the file cannot be written.
    """
    write(Path(path), encoded(picture, path, axes=axes))


def encoded(picture: np.ndarray[Any, Any] | Tensor | Image.Image, path: str | Path, *, axes: str | None = None) -> bytes:
    """The bytes that `save` writes; its arguments and errors."""
    path, suffix = Path(path), Path(path).suffix.lower()
    values, known, _ = _taken(picture) if not isinstance(picture, str | Path) else _no_picture(picture)
    given = _named(tuple(values.shape), axes, known or _guessed(tuple(values.shape), isinstance(values, Tensor)))
    array = _array(values)
    if suffix == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        return buffer.getvalue()
    array = array.transpose(sorted(range(array.ndim), key=lambda axis: "NDHWC".index(given[axis])))
    pages = array.ndim - 2 - ("C" in given)
    channels = "C" in given and array.shape[-1] > 1
    array = array[..., 0] if "C" in given and not channels else array
    if pages > 1 or (pages and suffix not in (".tif", ".tiff")):
        raise PictureError(
            f"save: {path.name} cannot hold a picture of shape {array.shape} ({given}). Save it as .npy or .tif."
        )
    return _encoded(np.ascontiguousarray(array), path, bool(pages), channels)


def _no_picture(picture: str | Path) -> Any:
    raise DtypeError(f"save: picture is the path {picture}; an array, tensor or PIL picture was needed. Pass it first.")


def _taken(source: Source) -> tuple[np.ndarray[Any, Any] | Tensor, str | None, str | None]:
    """The samples in their own type and layout; their axes where the source knows them; the mode of a PIL picture."""
    if isinstance(source, Tensor):
        return source.detach(), None, None
    if isinstance(source, np.ma.MaskedArray):
        raise DtypeError("measured: a masked array would lose its mask. Pass source.astype(float).filled(numpy.nan).")
    if isinstance(source, np.ndarray):
        return source, None, None
    if not isinstance(source, Image.Image | str | Path):
        raise DtypeError(f"measured: source is a {type(source).__name__}; a path, PIL picture, array or tensor was needed.")
    what = "the picture" if isinstance(source, Image.Image) else str(source)
    try:
        if isinstance(source, Image.Image):
            bands = _bands(source)
            return (array := np.asarray(bands)), "HWC"[: array.ndim], bands.mode
        return *_read(Path(source)), None
    except UnconvError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise PictureError(
            f"measured: {what} unpacks to more than {Image.MAX_IMAGE_PIXELS} pixels; refused as a decompression bomb. "
            "Make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it."
        ) from error
    except DAMAGE as error:
        raise PictureError(f"measured: {what} is not a picture, or is damaged or cut off: {error}.") from error


def _read(path: Path) -> tuple[np.ndarray[Any, Any], str | None]:
    if not path.is_file():
        what = f"{str(path)!r} is a folder; a picture file was needed" if path.exists() else f"there is no file {path}"
        raise PictureError(f"measured: {what}.")
    with path.open("rb") as file:
        start = file.read(26)
    if start.startswith(b"\x93NUMPY"):
        return np.array(np.load(path, mmap_mode="r", allow_pickle=False)), None  # mapped, a false length is refused
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return _pages(path) or read_tiff(path)
        with path.open("rb") as file, Image.open(file) as image:
            if image.format == "PNG" and start[24] == 16:
                return _deep_png(path, start)
            array = np.asarray(_bands(image))
    return array, "HWC"[: array.ndim]


def _deep_png(path: Path, start: bytes) -> tuple[np.ndarray[Any, Any], str]:
    """PNG with 16 bits a sample, of which Pillow's usual way drops 8 in colour; `start`: its first 26 bytes."""
    content, colour = path.read_bytes(), start[25]
    if colour == 0:
        return _png_bytes(content).astype(np.uint16), "HW"
    if colour == 4:  # grey and alpha: four bytes a pixel, filtered as those of 8-bit RGBA are
        header = b"IHDR" + start[16:24] + b"\x08\x06" + content[26:29]
        content = content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]
        return np.ascontiguousarray(_png_bytes(content)).view(">u2").astype(np.uint16), "HWC"
    # Pillow takes the first byte of each sample as big-endian's high one, the second as little-endian's.
    mode = "RGB" if colour == 2 else "RGBA"
    high, low = (_png_bytes(content, f"{mode};16{order}").astype(np.uint16) for order in "BL")
    return high << 8 | low, "HWC"


def _png_bytes(content: bytes, raw: str | None = None) -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(content)) as opened:
        image: Any = opened
        if raw is not None:
            decoder, box, offset, _ = image.tile[0]
            image.tile = [(decoder, box, offset, raw)]
        image.load()
        return np.asarray(ImageOps.exif_transpose(image))


def _pages(path: Path) -> tuple[np.ndarray[Any, Any], str] | None:
    """All pages of a TIFF file, upright; None where Pillow would not keep every sample of it."""
    arrays: list[np.ndarray[Any, Any]] = []
    with path.open("rb") as file:
        try:
            image: Any = Image.open(file)
        except UnidentifiedImageError:
            return None
        pixels, pages = math.prod(image.size), image.n_frames
        check_size(str(path), pixels, pages, pixels * pages, path.stat().st_size)
        for page in range(pages):
            image.seek(page)
            if not _is_kept(image.tag_v2):
                return None
            if not image.tag_v2.get(254, 0) & 1 or not page:  # a small copy of another page
                arrays.append(np.asarray(_bands(image)))
    if len({(array.shape, array.dtype) for array in arrays}) > 1:
        shapes = sorted({array.shape for array in arrays})
        raise PictureError(f"measured: the pages of {path} differ: {shapes}. Save one kind in a file of its own.")
    layout = "HWC"[: arrays[0].ndim]
    return (arrays[0], layout) if len(arrays) == 1 else (np.stack(arrays), "N" + layout)


def _is_kept(tags: Any) -> bool:
    """Pillow keeps these bits and this kind of sample, and no page hides behind the first (ImageJ, tifffile)."""
    bits, kinds = tags.get(258, (1,)), set(tags.get(339, (1,)))
    hidden = re.search(r"^images=|\"truncated\": true|<OME ", str(tags.get(270, "")), re.M)
    return not hidden and ((max(bits) <= 8 and kinds == {1}) or (bits, kinds) in [((16,), {1}), ((32,), {2}), ((32,), {3})])


def _bands(image: Image.Image) -> Image.Image:
    """Upright, in L, LA, RGB, RGBA, I;16, I or F; of a type that has all its samples."""
    if 0 in image.size:
        raise PictureError(f"measured: the picture has no pixels; its size is {image.size}.")
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode in ("La", "RGBa"):
        return image.convert(image.mode.upper())
    if image.mode in ("LA", "RGBA", "F") or image.mode.startswith("I"):
        return image
    if image.has_transparency_data:
        return image.convert("LA" if image.mode in ("1", "L") else "RGBA")
    return image if image.mode in ("L", "RGB") else image.convert("L" if image.mode == "1" else "RGB")


def _guessed(shape: tuple[int, ...], tensor: bool) -> str:
    """The axes of a shape, by the rule that `measured` states; "" where there is none."""
    *_, first, _, last = (0, 0, 0, *shape)
    first_is, last_is = (first in (1, 3), last == 3) if tensor else (False, last in (1, 2, 3, 4))
    if len(shape) == 2:
        return "HW"
    if len(shape) == 3:
        return "CHW" if first_is else "HWC" if last_is else "NHW"
    if len(shape) == 4:
        return "NCHW" if first_is else "NHWC" if last_is else ""
    return ""


def _named(shape: tuple[int, ...], axes: str | None, known: str) -> str:
    """The axes, checked: those said, else those known."""
    said = known if axes is None else axes
    if not said:
        raise ShapeError(
            f"measured: what the {len(shape)} axes of {shape} are cannot be told; a picture is (H, W), (H, W, 3) or "
            '(N, H, W). Say it, such as axes="NHW" or axes="DHW".'
        )
    counts = {letter: said.count(letter) for letter in _ORDER}
    if sum(counts.values()) != len(said) or (counts["H"], counts["W"]) != (1, 1) or counts["C"] > 1 or counts["D"] > 1:
        raise ShapeError(f"measured: axes is {said!r}; H and W once, C and D at most once, N for the rest was needed.")
    if len(said) != len(shape):
        raise ShapeError(f"measured: axes is {said!r}, {len(said)} letters, but the picture is {shape}. Name each of its axes.")
    if 0 in shape:
        raise ShapeError(f"measured: the picture is {shape} and has no samples. Pass one that has some.")
    if counts["C"] and shape[said.index("C")] not in (1, 2, 3, 4):
        raise ShapeError(
            f"measured: {shape} ({said}) has {shape[said.index('C')]} channels, but 1 to 4 (grey or RGB, alpha) were needed. "
            "For other channels write N in place of C."
        )
    return said


def _order(given: str) -> list[int]:
    """Which axes of the source make those of `samples`."""
    return sorted(range(len(given)), key=lambda axis: _ORDER.index(given[axis]))


def _inverse(order: list[int]) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)


def _floating(values: np.ndarray[Any, Any] | Tensor) -> Tensor:
    """The same values, float32 or float64, whichever is exact; on the device of `values`."""
    name = _name(values.dtype)
    if name not in (*_SINGLE, *_DOUBLE):
        hint = {
            "bool": "Is it a mask? Else convert it to uint8",
            "complex64": "Pass its magnitude",
            "complex128": "Pass its magnitude",
        }
        raise DtypeError(f"measured: samples are {name}; integers or floats were needed. {hint.get(name, 'Convert them')}.")
    kind = torch.float32 if name in _SINGLE else torch.float64
    if isinstance(values, Tensor):
        samples = values.to(kind)
    else:
        samples = torch.from_numpy(np.array(values, dtype=_name(kind), order="C"))
    if name.endswith("int64") and int(samples.abs().max()) >= 2**53:
        raise PictureError(f"measured: samples of {name} reach beyond 2**53, where float64 is not exact. Scale them first.")
    return samples


def _typed(samples: Tensor, dtype: np.dtype[Any] | torch.dtype) -> Tensor:
    """Rounded and clipped where `dtype` is of integers, else only converted; float64 where torch lacks the type."""
    bounds = _bounds(dtype)
    if bounds is not None:
        holes = int(torch.isnan(samples).sum())
        if holes:
            raise NonFinite(
                f"like: {holes} of {samples.numel()} samples are NaN, which {dtype} cannot hold. Fill them in first."
            )
        samples = samples.double().round().clamp(*bounds)
    return samples.to(dtype) if isinstance(dtype, torch.dtype) else samples.double()


def _bounds(dtype: np.dtype[Any] | torch.dtype) -> tuple[float, float] | None:
    """The least and the largest value of a type of integers, as floats that it holds; None for floats."""
    name = _name(dtype)
    if "int" not in name:
        return None
    info = np.iinfo(name)
    largest = float(info.max)
    return float(info.min), largest if int(largest) == info.max else math.nextafter(largest, 0)


def _name(dtype: np.dtype[Any] | torch.dtype) -> str:
    return str(dtype).removeprefix("torch.") if isinstance(dtype, torch.dtype) else dtype.name


def _array(values: np.ndarray[Any, Any] | Tensor) -> np.ndarray[Any, Any]:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        return np.asarray((values.float() if values.dtype == torch.bfloat16 else values).numpy())
    return values


def _encoded(array: np.ndarray[Any, Any], path: Path, pages: bool, channels: bool) -> bytes:
    """(H, W), (H, W, C), or in TIFF pages of either, as the bytes of a file."""
    suffix, kind = path.suffix.lower(), array.dtype.name
    if suffix in (".tif", ".tiff"):
        simple = kind == "uint8" or (kind in ("uint16", "float32") and not channels)
        return _pillow(list(array) if pages else [array], path) if simple else encode_tiff(array, channels)
    if suffix == ".png" and kind == "uint16":
        return _encode_png(array)
    if kind == "uint8":
        return _pillow([array], path)
    better = ".png, .tif or .npy" if kind == "uint16" else ".tif or .npy"
    raise PictureError(
        f"save: {path.name} cannot hold samples of {kind}. Save as {better}, which keep them all, or scale them to uint8."
    )


def _pillow(pages: list[np.ndarray[Any, Any]], path: Path) -> bytes:
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind not in Image.SAVE:
        raise PictureError(f"save: {path.name} ends in {path.suffix!r}, which names no format. Save it as .png, .tif or .npy.")
    first, *others = (Image.fromarray(page.astype(page.dtype.newbyteorder("="), copy=False)) for page in pages)
    buffer = io.BytesIO()
    try:
        first.save(buffer, kind, **({"save_all": True, "append_images": others} if others else {}))
    except (OSError, ValueError, KeyError) as error:
        raise PictureError(
            f"save: {path.name} cannot hold a picture of mode {first.mode}: {error}. Save it as .png."
        ) from error
    return buffer.getvalue()


def _encode_png(array: np.ndarray[Any, Any]) -> bytes:
    """(H, W) or (H, W, 2, 3 or 4), uint16, as PNG with 16 bits a sample, which Pillow does not write in colour.

    Source:
        W3C, "Portable Network Graphics (PNG) Specification" (third edition), sec. 5, 9.2 (filter 2, Up), 11.2.
    """
    height, width = array.shape[:2]
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[array[0, 0].size]
    rows = array.astype(">u2").reshape(height, -1).view(np.uint8)
    rows = np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1]))
    packed = zlib.compress(np.insert(rows, 0, 2, axis=1).tobytes())
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", packed), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
