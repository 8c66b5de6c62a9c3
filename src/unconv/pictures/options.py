"""Choose how Pillow writes each format: as exactly as the format allows, and with the picture's metadata."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin

from unconv.pictures.metadata import Metadata, tiff_tags

_XMP_TAG, _IPTC_TAG = 700, 33723
_LONGEST = 65_000  # bytes of content in a segment, whose length is stated in 16 bits
_INCH = 2
_PACKED = {
    5: "tiff_lzw",
    8: "tiff_adobe_deflate",
    32773: "packbits",
    32946: "tiff_deflate",
}  # TIFF's numbers of compressions, by Pillow's names
_QUALITY, _SUM = (
    95,
    369,
)  # of a JPEG, and the sum of its quantisation steps for brightness: the finer of two tables has the smaller sum


def options(form: str, metadata: Metadata, width: int, height: int) -> dict[str, Any]:
    """Return Pillow's `save` options for a picture of this size in the format `form`."""
    make = _OPTIONS.get(form)
    return {} if make is None else {name: value for name, value in make(metadata, width, height).items() if value is not None}


def left_out(form: str, metadata: Metadata) -> list[str]:
    """Return the names of the metadata that the format `form` cannot hold."""
    supported = _HOLDS.get(form, ())
    present = {
        "colour profile": metadata.icc,
        "EXIF": metadata.exif,
        "XMP": metadata.xmp,
        "IPTC": metadata.iptc,
        "resolution": metadata.resolution,
    }
    return [name for name, value in present.items() if value and name not in supported]


def png_info(metadata: Metadata) -> PngImagePlugin.PngInfo:
    """Return the PNG chunks for which Pillow has no options."""
    info = PngImagePlugin.PngInfo()
    for name, content in metadata.chunks:
        if not (name == b"sRGB" and metadata.icc):  # a PNG may hold only one of the two
            info.add(name, content)
    if metadata.xmp:
        info.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode("utf-8", "replace"))
    return info


def _png(metadata: Metadata, width: int, height: int) -> dict[str, Any]:
    info = metadata.info(width, height)
    own = {name: info.get(name) for name in ("icc_profile", "exif", "dpi")}
    return {**own, "pnginfo": png_info(metadata)}


def _jpeg(metadata: Metadata, width: int, height: int) -> dict[str, Any]:
    tables = metadata.tables
    # A restored picture has finer detail than its source: tables coarser than these would remove it again.
    finer = tables and sum(tables[0]) <= _SUM
    steps: dict[str, Any] = {"qtables": [list(table) for table in tables]} if finer else {"quality": _QUALITY}
    info = metadata.info(width, height)
    if "dpi" in info:
        info["dpi"] = tuple(round(value) for value in info["dpi"])
    return {**info, **steps, "subsampling": 0, "extra": _photoshop_segment(metadata.iptc)}


def _photoshop_segment(iptc: bytes | None) -> bytes | None:
    """Return the JPEG segment that holds IPTC as Photoshop writes it; None if there is no IPTC, or too much."""
    if iptc is None or len(iptc) > _LONGEST:
        return None
    padded = iptc + bytes(len(iptc) % 2)
    content = b"Photoshop 3.0\0" + b"8BIM" + struct.pack(">HHI", 0x0404, 0, len(iptc)) + padded
    return b"\xff\xed" + struct.pack(">H", len(content) + 2) + content


def _webp(metadata: Metadata, width: int, height: int) -> dict[str, Any]:
    # Without `exact`, libwebp changes the colours of transparent pixels to those that compress best.
    return {**_with_resolution_in_exif(metadata, width, height), "lossless": True, "exact": True}


def _avif(metadata: Metadata, width: int, height: int) -> dict[str, Any]:
    return {**_with_resolution_in_exif(metadata, width, height), "quality": 100, "subsampling": "4:4:4"}


def _with_resolution_in_exif(metadata: Metadata, width: int, height: int) -> dict[str, Any]:
    """Return the options of a format that can state the resolution only in EXIF."""
    info = metadata.info(width, height)
    dpi = info.pop("dpi", None)
    info.pop("comment", None)
    if dpi and "exif" not in info:
        exif = Image.Exif()
        exif[ExifTags.Base.XResolution], exif[ExifTags.Base.YResolution] = dpi
        exif[ExifTags.Base.ResolutionUnit] = _INCH
        info["exif"] = exif.tobytes()
    return info


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
    compression = None if metadata.layout is None else _PACKED.get(metadata.layout.pages[0].compression)
    return {"tiffinfo": tags, "icc_profile": metadata.icc, "dpi": metadata.resolution, "compression": compression}


def _bmp(metadata: Metadata, _width: int, _height: int) -> dict[str, Any]:
    return {"dpi": metadata.resolution}


_OPTIONS: dict[str, Callable[[Metadata, int, int], dict[str, Any]]] = {
    "PNG": _png, "JPEG": _jpeg, "WEBP": _webp, "AVIF": _avif, "TIFF": _tiff, "BMP": _bmp,
}  # fmt: skip
_ALL = ("colour profile", "EXIF", "XMP", "resolution")
_HOLDS = {"PNG": _ALL, "JPEG": (*_ALL, "IPTC"), "WEBP": _ALL, "AVIF": _ALL, "TIFF": (*_ALL, "IPTC"), "BMP": ("resolution",)}
