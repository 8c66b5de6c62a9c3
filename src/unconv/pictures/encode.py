"""Encode pictures: bytes of a file that keep every sample, or a refusal that names a format that would."""

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
_FEW = 4  # channels that other formats hold
_PNM, _LARGEST = (".pgm", ".ppm", ".pnm"), 65535  # which white is where nothing says it
_FITS = (".fits", ".fit", ".fts")
_SURE = (*_TIFF, ".png", ".npy")  # hold whatever `_encoder` lets through; other formats refuse some modes and sizes


@checks_kinds_but("picture")
def save(
    picture: np.ndarray[Any, Any] | Tensor | Image.Image,
    path: str | Path,
    *,
    axes: str | None = None,
    metadata: Metadata | None = None,
) -> None:
    """Write what `Measured.like` gives, whole or not at all, in a format that keeps its type; nothing is scaled.

    uint8 goes into any format of Pillow, uint16 into PNG or TIFF, every type and every stack into TIFF or .npy. JPEG is
    written at quality 95, or by the steps of the file that came where these are finer, and with all samples of colour;
    WebP without loss.

    Args:
        picture: an array, a tensor or a PIL picture; its axes are read as in `measured`.
        path: its ending says the format.
        axes: as in `measured`.
        metadata: what the picture's file said, such as `measured(path).metadata`; by default what a PIL picture knows.
            A format that cannot hold all of it brings a `UserWarning`.

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
    """Return the bytes that `save` writes; its arguments and errors."""
    if isinstance(picture, str | Path):
        raise DtypeError(f"save: picture is the path {picture}; an array, tensor or PIL picture was needed. Pass it first.")
    values, given = samples_and_axes(picture, axes)
    if metadata is None:
        metadata = metadata_of(picture) if isinstance(picture, Image.Image) else NOTHING
    if isinstance(picture, Image.Image) or "A" in (axes or ""):
        metadata = replace(metadata, alpha=True)
    _warn_of_loss(Path(path), metadata)
    array, encode = _encoder(array_of(values), given, Path(path), metadata)
    return encode(array)


def refuse_unfit(picture: Measured, path: str | Path) -> None:
    """Refuse what `save` would refuse, before there is anything to save: a file that cannot hold such a picture.

    The picture itself is not encoded, so that this costs next to nothing.

    Args:
        picture: the source; the result is to have its type and size, as `Measured.like` gives it back.
        path: its ending says the format.

    Raises:
        PictureError: the same that `save` raises.
    """
    path = Path(path)
    # An array without memory goes through the code that encodes the real one, so that the two cannot drift apart.
    zero = torch.zeros((), dtype=picture.dtype) if isinstance(picture.dtype, torch.dtype) else np.zeros((), picture.dtype)
    array, encode = _encoder(np.broadcast_to(array_of(zero), picture.shape), picture.given, path, picture.metadata)
    if path.suffix.lower() not in _SURE:
        # Of these only the library that writes them knows what they hold: how long a side, and which channels.
        for strip in (array[:16], array[:, :16]):
            encode(strip)


def png(image: Image.Image) -> bytes:
    """Return the picture as a PNG file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _warn_of_loss(path: Path, metadata: Metadata) -> None:
    """Warn if a format cannot hold what is known of the picture beside its samples."""
    lost = left_out(_form(path) or "", metadata)
    if lost:
        warnings.warn(
            f"save: {path.name} cannot hold what the picture's file said: {', '.join(lost)}. Save it as .png, .jpg or .tif.",
            UserWarning,
            stacklevel=4,
        )


def _form(path: Path) -> str | None:
    """Return Pillow's name of the format that a file's ending says."""
    return Image.registered_extensions().get(path.suffix.lower())


def _encoder(array: np.ndarray[Any, Any], given: str, path: Path, metadata: Metadata) -> tuple[np.ndarray[Any, Any], _Encoder]:
    """Choose how `path` holds such samples: they laid out for it, and the function that makes them the bytes of a file.

    Only the shape and the type of `array` count, so that a stand-in tells as much.
    """
    suffix, kind = path.suffix.lower(), array.dtype.name
    if suffix == ".npy":
        return array, _encode_npy
    if suffix in _FITS:
        refuse_unfit_fits(kind, path.name)
        return array, partial(encoded_fits, given=given, rest=metadata.fits)
    if suffix in _TIFF:
        return array, _tiff(array, given, path, metadata)
    # Pages first, channels last, and no channel axis for grey: how all formats but .npy are laid out.
    array, channels = _laid_out(array, given)
    if array.ndim > 2 + (channels > 1) or channels > _FEW:
        raise PictureError(
            f"save: {path.name} cannot hold a picture of shape {array.shape} ({given}). Save it as .npy or .tif."
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
        f"save: {path.name} cannot hold samples of {kind}. Save as {better}, which keep them all, or scale them to uint8."
    )


def _laid_out(array: np.ndarray[Any, Any], given: str) -> tuple[np.ndarray[Any, Any], int]:
    """Return the samples with pages first, channels last and no channel axis for grey, and the number of channels."""
    array = array.transpose(sorted(range(array.ndim), key=lambda axis: "NDHWC".index(given[axis])))
    channels = array.shape[-1] if "C" in given else 1
    return (array[..., 0] if "C" in given and channels == 1 else array), channels


def _tiff(array: np.ndarray[Any, Any], given: str, path: Path, metadata: Metadata) -> _Encoder:
    """Return the encoder of TIFF: that of Pillow where it writes such samples as they are, since tifffile is an extra."""
    layout, kind = metadata.layout, array.dtype.name
    flat, channels = _laid_out(array, given)
    size = array.shape[given.index("H")], array.shape[given.index("W")]
    pages = flat.ndim - 2 - (channels > 1)
    axes = "N" * pages + "HWC"[: 2 + (channels > 1)]

    def alpha(array: np.ndarray[Any, Any]) -> bool:
        return channels in (2, 4) and (is_alpha(array, -1) if metadata.alpha is None else metadata.alpha)

    def library(array: np.ndarray[Any, Any]) -> bytes:
        return tiff_by_library(array, axes, alpha(array))

    simple = pages <= 1 and channels <= _FEW and (kind == "uint8" or (kind in ("uint16", "float32") and channels == 1))
    if layout is not None and layout.fits(array.shape, given) and not (simple and layout.plain):
        refuse_without_writer()
        return tagged(lambda array: _as_it_came(array, given, layout, library), metadata, *size)
    if not simple:
        refuse_without_library(f"save: {array.dtype} of shape {flat.shape} is beyond what Pillow writes into TIFF")
        return tagged(lambda array: library(_laid_out(array, given)[0]), metadata, *size)
    pillow = _pillow(path, metadata, bool(pages))

    def encode(array: np.ndarray[Any, Any]) -> bytes:
        array = _laid_out(array, given)[0]
        # Pillow would call the last of 2 or 4 channels alpha.
        other = channels in (2, 4) and not alpha(array) and has_library()
        return (library if other else pillow)(array)

    return encode


def _as_it_came(array: np.ndarray[Any, Any], given: str, layout: TiffLayout, library: _Encoder) -> bytes:
    """Encode TIFF laid out as another file was; if tags of that are damaged, warn, and leave them out: the work is done."""
    try:
        return written(array, given, layout)
    except (ValueError, TypeError, LookupError, ArithmeticError, struct.error) as error:
        warnings.warn(
            f"save: the axes and tags of the TIFF file that came are left out; they are damaged: {error}.",
            UserWarning,
            stacklevel=5,
        )
        return library(_laid_out(array, given)[0])


def _encode_npy(array: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _pillow(path: Path, metadata: Metadata, paged: bool = False) -> _Encoder:
    """Return the encoder of Pillow for the ending of `path`; with `paged` the first axis is that of pages."""
    form = _form(path)
    if form not in Image.SAVE:
        raise PictureError(f"save: {path.name} ends in {path.suffix!r}, which names no format. Save it as .png, .tif or .npy.")

    def encode(array: np.ndarray[Any, Any]) -> bytes:
        pages = list(array) if paged else [array]
        first, *others = (Image.fromarray(page.astype(page.dtype.newbyteorder("="), copy=False)) for page in pages)
        if form == "GIF" and first.mode != "L":
            raise PictureError(f"save: {path.name} holds 256 colours, and the picture has more. Save it as .png.")
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
    """Encode (H, W) or (H, W, 2, 3 or 4), uint16, as PNG with 16 bits a sample, which Pillow does not write in colour.

    Source:
        W3C, "Portable Network Graphics (PNG) Specification" (third edition), sec. 5, 9.2 (filter 2, Up), 11.2, 11.3.
    """
    height, width = array.shape[:2]
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[array[0, 0].size]
    rows = array.astype(">u2", order="C").reshape(height, -1).view(np.uint8)
    # Filter Up stores what changes from the row above, byte by byte and modulo 256: neighbours are alike, and pack well.
    rows = np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1]))
    packed = zlib.compress(np.insert(rows, 0, 2, axis=1).tobytes())
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))]
    if metadata.icc:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.icc)))
    chunks += [(chunk[0], chunk[1]) for chunk in png_info(metadata).chunks]
    if metadata.resolution:
        chunks.append((b"pHYs", struct.pack(">IIB", *(round(value / _METRES) for value in metadata.resolution), 1)))
    exif = metadata.exif_of(width, height)
    if exif:
        chunks.append((b"eXIf", exif.removeprefix(EXIF)))
    chunks += [(b"IDAT", packed), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
