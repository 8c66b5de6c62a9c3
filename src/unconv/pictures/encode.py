"""Encode pictures into files that keep every sample, or refuse and name a format that does."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unconv.errors import DtypeError, PictureError
from unconv.files import write
from unconv.kinds import checks_kinds_but
from unconv.pictures.axes import is_alpha
from unconv.pictures.fits import encoded_fits, refuse_unfit_fits
from unconv.pictures.measured import Measured, array_of, samples_and_axes
from unconv.pictures.metadata import EXIF, NOTHING, Metadata, metadata_of
from unconv.pictures.options import left_out, options, png_info
from unconv.pictures.pnm import encoded_pnm, refuse_channels
from unconv.pictures.tiff_layout import TiffLayout
from unconv.pictures.tiff_tags import tagged
from unconv.pictures.tiff_writing import has_library, refuse_without_library, refuse_without_writer, tiff_by_library, written

_Encoder = Callable[[np.ndarray[Any, Any]], bytes]
_METRES = 0.0254  # of an inch
_TIFF = (".tif", ".tiff")
_FEW = 4  # the most channels that other formats hold
_PNM, _LARGEST = (".pgm", ".ppm", ".pnm"), 65535  # and the value of white, if the metadata has none
_FITS = (".fits", ".fit", ".fts")
_SURE = (*_TIFF, ".png", ".npy")  # these hold all that `_encoder` accepts; other formats refuse some modes and sizes


@checks_kinds_but("picture")
def save(
    picture: np.ndarray[Any, Any] | Tensor | Image.Image,
    path: str | Path,
    *,
    axes: str | None = None,
    metadata: Metadata | None = None,
) -> None:
    """Write a picture to a file in its own type, completely or not at all; nothing is scaled.

    uint8 can be saved in every format of Pillow, uint16 in PNG or TIFF, every type and every stack in TIFF or .npy. JPEG is
    written at quality 95, or with the source's quantisation table if that is finer, and colour is not subsampled. WebP is
    written without loss.

    Args:
        picture: an array, a tensor or a PIL picture, such as `Measured.like` returns; its axes are read as in `measured`.
        path: the file; its ending chooses the format.
        axes: as in `measured`.
        metadata: the metadata to write, such as `measured(path).metadata`; by default that of a PIL picture. If the format
            cannot hold all of it, a `UserWarning` says what is left out.

    Raises:
        PictureError: the format cannot hold the type or the stack, or tifffile is needed and missing.
        UnconvError: the file cannot be written.
    """
    write(Path(path), encoded(picture, path, axes=axes, metadata=metadata))


@checks_kinds_but("picture")
def encoded(
    picture: np.ndarray[Any, Any] | Tensor | Image.Image,
    path: str | Path,
    *,
    axes: str | None = None,
    metadata: Metadata | None = None,
) -> bytes:
    """Return the bytes that `save` would write. Its arguments and errors are the same."""
    if isinstance(picture, str | Path):
        raise DtypeError(
            f"save: picture is the path {picture}, but an array, tensor or PIL picture was needed. Pass it before the path."
        )
    values, letters = samples_and_axes(picture, axes)
    if metadata is None:
        metadata = metadata_of(picture) if isinstance(picture, Image.Image) else NOTHING
    if isinstance(picture, Image.Image) or "A" in (axes or ""):
        metadata = replace(metadata, alpha=True)
    _warn_of_loss(Path(path), metadata)
    array, encode = _encoder(array_of(values), letters, Path(path), metadata)
    return encode(array)


def refuse_unfit(picture: Measured, path: str | Path) -> None:
    """Refuse, before any work is done, a file that could not hold the result: raise what `save` would raise.

    The picture itself is not encoded, so this is cheap.

    Args:
        picture: the source; the result is to have its type and size, as `Measured.like` returns it.
        path: the file; its ending chooses the format.

    Raises:
        PictureError: as in `save`.
    """
    path = Path(path)
    # An array without memory passes through the code that will encode the real one, so that both refuse the same.
    zero = torch.zeros((), dtype=picture.dtype) if isinstance(picture.dtype, torch.dtype) else np.zeros((), picture.dtype)
    array, encode = _encoder(np.broadcast_to(array_of(zero), picture.shape), picture.given, path, picture.metadata)
    if path.suffix.lower() not in _SURE:
        # Only the library that writes these formats knows how long a side and which channels they allow: strips are tried.
        for strip in (array[:16], array[:, :16]):
            encode(strip)


def png(image: Image.Image) -> bytes:
    """Return the bytes of a PNG file of the picture."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _warn_of_loss(path: Path, metadata: Metadata) -> None:
    """Warn if the format cannot hold all of the picture's metadata."""
    lost = left_out(_form(path) or "", metadata)
    if lost:
        warnings.warn(
            f"save: {path.name} cannot hold these metadata of the picture: {', '.join(lost)}. Save it as .png, .jpg or .tif.",
            UserWarning,
            stacklevel=4,
        )


def _form(path: Path) -> str | None:
    """Return Pillow's name of the format that a file's ending stands for; None if it knows none."""
    return Image.registered_extensions().get(path.suffix.lower())


def _encoder(
    array: np.ndarray[Any, Any], letters: str, path: Path, metadata: Metadata
) -> tuple[np.ndarray[Any, Any], _Encoder]:
    """Return the samples laid out for the format of `path`, and the function that encodes them.

    The choice depends only on the shape and the type of `array`, so that `refuse_unfit` can pass a stand-in.
    """
    suffix, kind = path.suffix.lower(), array.dtype.name
    if suffix == ".npy":
        return array, _encode_npy
    if suffix in _FITS:
        refuse_unfit_fits(kind, path.name)
        return array, partial(encoded_fits, given=letters, rest=metadata.fits)
    if suffix in _TIFF:
        return array, _tiff(array, letters, path, metadata)
    # All formats except .npy have pages first, channels last, and no channel axis for grey.
    array, channels = _laid_out(array, letters)
    if array.ndim > 2 + (channels > 1) or channels > _FEW:
        raise PictureError(
            f"save: {path.name} cannot hold a picture of shape {array.shape} ({letters}). Save it as .npy or .tif."
        )
    if suffix in _PNM and (kind == "uint16" or (kind == "uint8" and metadata.white)):
        refuse_channels(channels, path.name)
        return array, partial(encoded_pnm, white=metadata.white or _LARGEST, name=path.name)
    if suffix == ".png" and kind == "uint16":
        return array, partial(_encode_deep_png, metadata=metadata)
    if kind == "uint8":
        return array, _pillow(path, metadata)
    better = ".png, .tif or .npy" if kind == "uint16" else ".tif or .npy"
    raise PictureError(
        f"save: {path.name} cannot hold samples of {kind}. Save it as {better}, which keep them all, or scale them to uint8."
    )


def _laid_out(array: np.ndarray[Any, Any], letters: str) -> tuple[np.ndarray[Any, Any], int]:
    """Return the samples with pages first, channels last and no channel axis for grey, and the number of channels."""
    array = array.transpose(sorted(range(array.ndim), key=lambda axis: "NDHWC".index(letters[axis])))
    channels = array.shape[-1] if "C" in letters else 1
    return (array[..., 0] if "C" in letters and channels == 1 else array), channels


def _tiff(array: np.ndarray[Any, Any], letters: str, path: Path, metadata: Metadata) -> _Encoder:
    """Return an encoder of TIFF: Pillow's if it can write such samples unchanged, since tifffile is an optional extra."""
    layout, kind = metadata.layout, array.dtype.name
    flat, channels = _laid_out(array, letters)
    size = array.shape[letters.index("H")], array.shape[letters.index("W")]
    pages = flat.ndim - 2 - (channels > 1)
    axes = "N" * pages + "HWC"[: 2 + (channels > 1)]

    def alpha(array: np.ndarray[Any, Any]) -> bool:
        return channels in (2, 4) and (is_alpha(array, -1) if metadata.alpha is None else metadata.alpha)

    def library(array: np.ndarray[Any, Any]) -> bytes:
        return tiff_by_library(array, axes, alpha(array))

    simple = pages <= 1 and channels <= _FEW and (kind == "uint8" or (kind in ("uint16", "float32") and channels == 1))
    if layout is not None and layout.fits(array.shape, letters) and not (simple and layout.plain):
        refuse_without_writer()
        return tagged(lambda array: _in_source_layout(array, letters, layout, library), metadata, *size)
    if not simple:
        refuse_without_library(f"save: Pillow cannot write {array.dtype} of shape {flat.shape} to TIFF")
        return tagged(lambda array: library(_laid_out(array, letters)[0]), metadata, *size)
    pillow = _pillow(path, metadata, bool(pages))

    def encode(array: np.ndarray[Any, Any]) -> bytes:
        array = _laid_out(array, letters)[0]
        # Pillow would mark the last of 2 or 4 channels as alpha.
        other = channels in (2, 4) and not alpha(array) and has_library()
        return (library if other else pillow)(array)

    return encode


def _in_source_layout(array: np.ndarray[Any, Any], letters: str, layout: TiffLayout, library: _Encoder) -> bytes:
    """Encode TIFF in the source's layout; if its tags are damaged, warn and leave them out, so that the result is not lost."""
    try:
        return written(array, letters, layout)
    except (ValueError, TypeError, LookupError, ArithmeticError, struct.error) as error:
        warnings.warn(
            f"save: the axes and tags of the source TIFF file are damaged and were left out: {error}.",
            UserWarning,
            stacklevel=5,
        )
        return library(_laid_out(array, letters)[0])


def _encode_npy(array: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _pillow(path: Path, metadata: Metadata, paged: bool = False) -> _Encoder:
    """Return Pillow's encoder for the ending of `path`; with `paged` the first axis counts pages."""
    form = _form(path)
    if form not in Image.SAVE:
        raise PictureError(
            f"save: {path.name} ends in {path.suffix!r}, which is no known format's ending. Save it as .png, .tif or .npy."
        )

    def encode(array: np.ndarray[Any, Any]) -> bytes:
        pages = list(array) if paged else [array]
        first, *others = (Image.fromarray(page.astype(page.dtype.newbyteorder("="), copy=False)) for page in pages)
        if form == "GIF" and first.mode != "L":  # Pillow would reduce it to 256 colours without a warning
            raise PictureError(
                f"save: {path.name} cannot hold a picture of mode {first.mode}; GIF holds 256 colours. Save it as .png."
            )
        buffer = io.BytesIO()
        rest: dict[str, Any] = {"save_all": True, "append_images": others} if others else {}
        try:
            first.save(buffer, form, **rest, **options(form, metadata, *first.size))
        except (OSError, ValueError, KeyError) as error:
            raise PictureError(
                f"save: {path.name} cannot hold a picture of mode {first.mode}: {error}. Save it as .png."
            ) from error
        return buffer.getvalue()

    return encode


def _encode_deep_png(array: np.ndarray[Any, Any], metadata: Metadata) -> bytes:
    """Encode uint16 samples, (H, W) or (H, W, 2, 3 or 4), as PNG with 16 bits a sample, which Pillow cannot do in colour.

    Source:
        W3C, "Portable Network Graphics (PNG) Specification" (third edition), sec. 5, 9.2 (filter 2, Up), 11.2, 11.3.
    """
    height, width = array.shape[:2]
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[array[0, 0].size]
    rows = array.astype(">u2", order="C").reshape(height, -1).view(np.uint8)
    # Filter Up stores the difference from the row above, byte by byte and modulo 256: small differences compress well.
    rows = np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1]))
    compressed = zlib.compress(np.insert(rows, 0, 2, axis=1).tobytes())
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))]
    if metadata.icc:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.icc)))
    chunks += [(chunk[0], chunk[1]) for chunk in png_info(metadata).chunks]
    if metadata.resolution:
        chunks.append((b"pHYs", struct.pack(">IIB", *(round(value / _METRES) for value in metadata.resolution), 1)))
    exif = metadata.exif_of(width, height)
    if exif:
        chunks.append((b"eXIf", exif.removeprefix(EXIF)))
    chunks += [(b"IDAT", compressed), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
