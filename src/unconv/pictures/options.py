"""How Pillow is to write each format: as exactly as that can be, and with what the picture's file said beside the samples."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin

from unconv.pictures.metadata import Metadata, tiff_tags

_XMP_TAG, _IPTC_TAG = 700, 33723
_LONGEST = 65_000  # bytes of a segment, less what stands before them
_INCH = 2
_PACKED = {5: "tiff_lzw", 8: "tiff_adobe_deflate", 32773: "packbits", 32946: "tiff_deflate"}  # ways to compress TIFF
_QUALITY, _SUM = 95, 369  # of a JPEG, and what its steps for brightness come to: the sum tells the finer of two tables


def options(form: str, metadata: Metadata, width: int, height: int) -> dict[str, Any]:
    """Return the options with which Pillow writes a picture of such a size in the format `form`."""
    make = _OPTIONS.get(form)
    return {} if make is None else {name: value for name, value in make(metadata, width, height).items() if value is not None}


def left_out(form: str, metadata: Metadata) -> list[str]:
    """Name what `form` cannot hold of what a picture's file said."""
    holds = _HOLDS.get(form, ())
    there = {
        "colour profile": metadata.icc,
        "EXIF": metadata.exif,
        "XMP": metadata.xmp,
        "IPTC": metadata.iptc,
        "resolution": metadata.resolution,
    }
    return [name for name, value in there.items() if value and name not in holds]


def png_info(metadata: Metadata) -> PngImagePlugin.PngInfo:
    """Return the chunks of a PNG that Pillow has no options for."""
    info = PngImagePlugin.PngInfo()
    for name, content in metadata.chunks:
        if not (name == b"sRGB" and metadata.icc):  # of the two a PNG may hold one
            info.add(name, content)
    if metadata.xmp:
        info.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode("utf-8", "replace"))
    return info


def _png(metadata: Metadata, width: int, height: int) -> dict[str, Any]:
    found = metadata.info(width, height)
    kept = {name: found.get(name) for name in ("icc_profile", "exif", "dpi")}
    return {**kept, "pnginfo": png_info(metadata)}


def _jpeg(metadata: Metadata, width: int, height: int) -> dict[str, Any]:
    tables = metadata.tables
    # A restored picture has finer detail than the one that came: coarser tables than these would take it again.
    finer = tables and sum(tables[0]) <= _SUM
    steps: dict[str, Any] = {"qtables": [list(table) for table in tables]} if finer else {"quality": _QUALITY}
    found = metadata.info(width, height)
    if "dpi" in found:
        found["dpi"] = tuple(round(value) for value in found["dpi"])
    return {**found, **steps, "subsampling": 0, "extra": _press(metadata.iptc)}


def _press(iptc: bytes | None) -> bytes | None:
    """Return the segment of a JPEG that holds IPTC, as Photoshop writes it; None if there is none, or it is too long."""
    if iptc is None or len(iptc) > _LONGEST:
        return None
    padded = iptc + bytes(len(iptc) % 2)
    part = b"Photoshop 3.0\0" + b"8BIM" + struct.pack(">HHI", 0x0404, 0, len(iptc)) + padded
    return b"\xff\xed" + struct.pack(">H", len(part) + 2) + part


def _webp(metadata: Metadata, width: int, height: int) -> dict[str, Any]:
    # Exact: else the colours of transparent pixels are set to what packs well.
    return {**_held_by_exif(metadata, width, height), "lossless": True, "exact": True}


def _avif(metadata: Metadata, width: int, height: int) -> dict[str, Any]:
    return {**_held_by_exif(metadata, width, height), "quality": 100, "subsampling": "4:4:4"}


def _held_by_exif(metadata: Metadata, width: int, height: int) -> dict[str, Any]:
    """Return what a format takes that tells of samples an inch in EXIF or nowhere."""
    found = metadata.info(width, height)
    dpi = found.pop("dpi", None)
    found.pop("comment", None)
    if dpi and "exif" not in found:
        exif = Image.Exif()
        exif[ExifTags.Base.XResolution], exif[ExifTags.Base.YResolution] = dpi
        exif[ExifTags.Base.ResolutionUnit] = _INCH
        found["exif"] = exif.tobytes()
    return found


def _tiff(metadata: Metadata, width: int, height: int) -> dict[str, Any]:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tiff_tags(metadata.exif_of(width, height)).items():
        tags[tag] = value
    if metadata.iptc:
        tags[_IPTC_TAG] = metadata.iptc
        tags.tagtype[_IPTC_TAG] = 7
    if metadata.xmp:
        tags[_XMP_TAG] = metadata.xmp
        tags.tagtype[_XMP_TAG] = 1
    packed = None if metadata.layout is None else _PACKED.get(metadata.layout.pages[0].compression)
    return {"tiffinfo": tags, "icc_profile": metadata.icc, "dpi": metadata.resolution, "compression": packed}


def _bmp(metadata: Metadata, _width: int, _height: int) -> dict[str, Any]:
    return {"dpi": metadata.resolution}


_OPTIONS: dict[str, Callable[[Metadata, int, int], dict[str, Any]]] = {
    "PNG": _png, "JPEG": _jpeg, "WEBP": _webp, "AVIF": _avif, "TIFF": _tiff, "BMP": _bmp,
}  # fmt: skip
_ALL = ("colour profile", "EXIF", "XMP", "resolution")
_HOLDS = {"PNG": _ALL, "JPEG": (*_ALL, "IPTC"), "WEBP": _ALL, "AVIF": _ALL, "TIFF": (*_ALL, "IPTC"), "BMP": ("resolution",)}
