"""What a picture's file says beside the samples: its colours' profile, EXIF, XMP, how many samples an inch, how JPEG packed it.

All of it goes with a picture through whatever is done to the samples, and into the file of the result.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin

from unconv.pictures.fits import Fits
from unconv.pictures.tiff_layout import TiffLayout

Table = tuple[int, ...]

EXIF = b"Exif\0\0"
"""What stands before EXIF in most files."""
_XMP_TAG, _ICC_TAG = 700, 34675
_WIDTHS, _HEIGHTS = (256, 0xA002), (257, 0xA003)  # of the picture, in the first list of tags and in EXIF's own
_LETTERS = {1: "B", 3: "H", 4: "I"}  # of the types of EXIF's values that are whole numbers without a sign
_RATIO = 5
_RESOLUTION = (ExifTags.Base.XResolution, ExifTags.Base.YResolution)
_MOST_TAGS = 4096
# Tags of TIFF that say how a file's samples are laid out, not what the picture is: they belong to the file that came.
_LAYOUT = {*range(254, 267), 273, *range(277, 282), 284, *range(288, 294), 297, 301, 317, *range(320, 326), *range(330, 348)}
_LAYOUT |= {*range(512, 522), *range(529, 533), _XMP_TAG, 32997, 33421, 33422, 34377, 34675, 37724, 50838, 50839}
_DESCRIPTION = 270
_IPTC = 0x0404  # of Photoshop's parts
_OTHERS_WORDS = ("ImageJ=", "<?xml", "<OME", '{"shape')  # descriptions for programs, of a file's pages
_UNKNOWN_AS = ("XML:com.adobe.xmp", "Raw profile type")  # texts in PNG that hold what is kept elsewhere
_ORIENTATION = (
    (rb'(tiff:Orientation=")[2-8]"', rb'\g<1>1"'),
    (rb"(<tiff:Orientation>\s*)[2-8](\s*<)", rb"\g<1>1\g<2>"),
)


@dataclass(frozen=True)
class Metadata:
    """What a file says of a picture beside the samples; upright, as these are.

    Attributes:
        icc: the profile of its colours.
        exif: as it stands behind the mark of EXIF, its orientation 1, without the preview of the picture before.
        xmp: as text of XML, its orientation 1.
        resolution: samples an inch, across and down.
        iptc: captions and keywords of the press.
        comment: of a JPEG.
        chunks: of a PNG that say what its colours are, and texts: names and contents.
        tables: by which a JPEG quantised, brightness first, each row by row.
        white: the largest value that a sample may have, where that is not the type's own, as 4095 of 12 bits.
        alpha: whether the last of 2 or 4 channels is alpha; None where nobody said.
        layout: how a TIFF file lays out its pages, and their tags.
        fits: what a FITS file holds beside the image.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    resolution: tuple[float, float] | None = None
    iptc: bytes | None = None
    comment: bytes | None = None
    chunks: tuple[tuple[bytes, bytes], ...] = ()
    tables: tuple[Table, ...] = ()
    white: int | None = None
    alpha: bool | None = None
    layout: TiffLayout | None = None
    fits: Fits | None = None

    def with_history(self, history: str) -> Metadata:
        """Return the same, to be written by those formats that say so with how the picture came about."""
        return self if self.fits is None else replace(self, fits=replace(self.fits, history=history))

    def finer(self, factor: int) -> Metadata:
        """Return the same for the picture with `factor` samples for each one along an axis: the paper stays as large."""
        if factor == 1:
            return self
        exif, inch = self.exif, self.resolution
        return replace(
            self,
            exif=None if exif is None else changed(exif, {}, finer=factor),
            resolution=None if inch is None else (inch[0] * factor, inch[1] * factor),
        )

    def exif_of(self, width: int, height: int) -> bytes | None:
        """Return `exif` with the size of the picture that it goes with, behind its mark; None if there is none."""
        if self.exif is None:
            return None
        return EXIF + changed(self.exif, dict.fromkeys(_WIDTHS, width) | dict.fromkeys(_HEIGHTS, height))

    def info(self, width: int, height: int) -> dict[str, Any]:
        """Return what Pillow keeps in a picture's `info`, under its names."""
        found = {
            "icc_profile": self.icc,
            "exif": self.exif_of(width, height),
            "xmp": self.xmp,
            "dpi": self.resolution,
            "comment": self.comment,
        }
        return {name: value for name, value in found.items() if value}


NOTHING = Metadata()


def metadata_of(image: Image.Image) -> Metadata:
    """Return what Pillow knows of a picture that it has loaded; what is damaged is left out, and the profile of inks."""
    info = image.info
    tags = image.getexif()
    swapped = tags.get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8) and image.format != "TIFF"
    dpi = _resolution(info.get("dpi")) or _resolution_in(tags)
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp")
    xmp = xmp.encode() if isinstance(xmp, str) else xmp
    comment = info.get("comment")
    return Metadata(
        icc=None if image.mode == "CMYK" else info.get("icc_profile") or None,
        exif=_exif(image),
        xmp=_upright_xmp(xmp) if isinstance(xmp, bytes) and xmp else None,
        resolution=dpi[::-1] if dpi and swapped else dpi,
        iptc=_iptc(image),
        comment=comment if isinstance(comment, bytes) and image.format in ("JPEG", "MPO") else None,
        chunks=_chunks(image),
        tables=tuple(tuple(table) for _, table in sorted((getattr(image, "quantization", None) or {}).items())),
    )


def metadata_of_tiff(path: Path) -> Metadata:
    """Return what a TIFF file says of its first picture, whoever decodes that; nothing if Pillow cannot read its tags."""
    try:
        with path.open("rb") as file:
            if file.read(4)[2:] in (b"+\0", b"\0+"):  # BigTIFF, whose tags Pillow reads only with the picture
                with Image.open(file, formats=["TIFF"]) as image:
                    return _of_tags(image.getexif())
            file.seek(0)
            tags = Image.Exif()
            tags.load_from_fp(file)
            return _of_tags(tags)
    except Exception:  # of damaged tags that are not needed to decode samples
        return NOTHING


def _of_tags(tags: Image.Exif) -> Metadata:
    """Return what the tags of a TIFF file's first page say."""
    dpi = _resolution_in(tags)
    icc, xmp = (bytes(found) if isinstance(found := tags.get(tag), bytes) else None for tag in (_ICC_TAG, _XMP_TAG))
    return Metadata(
        icc=icc or None,
        exif=_upright_exif(_described(tags)),
        xmp=_upright_xmp(xmp) if xmp else None,
        resolution=dpi[::-1] if dpi and tags.get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8) else dpi,
    )


def changed(exif: bytes, values: dict[int, int], *, preview: bool = True, finer: int = 1) -> bytes:
    """Return EXIF in which some tags have other values, all else byte for byte: makers' notes hold places in it.

    Args:
        values: of tags that are there; others are not added.
        preview: whether the small picture that EXIF may hold stays.
        finer: what samples an inch, or a centimetre, are multiplied by.

    Raises:
        ValueError: it is damaged.
    """
    raw = bytearray(exif)
    try:
        order = {b"II": "<", b"MM": ">"}[exif[:2]]
        (at,) = struct.unpack_from(f"{order}I", raw, 4)
        end, inner = _changed_list(raw, order, at, values, finer)
        if inner:
            _changed_list(raw, order, inner, values, finer)
        if not preview and end + 4 <= len(raw):
            struct.pack_into(f"{order}I", raw, end, 0)
    except (struct.error, KeyError) as error:
        raise ValueError(f"its EXIF is damaged: {error}") from error
    return bytes(raw)


def _changed_list(raw: bytearray, order: str, at: int, values: dict[int, int], finer: int) -> tuple[int, int]:
    """Change one list of tags in place; return where it ends, and where EXIF's own list is."""
    (count,) = struct.unpack_from(f"{order}H", raw, at)
    if count > _MOST_TAGS:
        raise ValueError(f"its EXIF is damaged: it has {count} tags")
    inner = 0
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(f"{order}HHI", raw, entry)
        if tag == ExifTags.IFD.Exif:
            (inner,) = struct.unpack_from(f"{order}I", raw, entry + 8)
        elif tag in _RESOLUTION and (kind, number) == (_RATIO, 1):
            (place,) = struct.unpack_from(f"{order}I", raw, entry + 8)
            (above,) = struct.unpack_from(f"{order}I", raw, place)
            struct.pack_into(f"{order}I", raw, place, above * finer)
        elif tag in values and kind in _LETTERS and number == 1:
            letter = _LETTERS[kind]
            if values[tag] < 256 ** struct.calcsize(letter):
                struct.pack_into(f"{order}{letter}", raw, entry + 8, values[tag])
    return at + 2 + 12 * count, inner


def _exif(image: Image.Image) -> bytes | None:
    raw = image.info.get("exif")
    if isinstance(raw, bytes):
        return _upright_exif(raw)
    found = image.getexif()  # of TIFF, of text in PNG, or set by hand
    return _upright_exif(_described(found) if isinstance(image, TiffImagePlugin.TiffImageFile) else found)


def _iptc(image: Image.Image) -> bytes | None:
    """Return what a JPEG holds of IPTC, within Photoshop's part of it."""
    parts = image.info.get("photoshop")
    found = parts.get(_IPTC) if isinstance(parts, dict) else None
    return found if isinstance(found, bytes) and found else None


def _upright_exif(exif: bytes | Image.Exif) -> bytes | None:
    """Return EXIF with the orientation 1 and without the mark before it; None if there is none, or it is damaged."""
    if not isinstance(exif, bytes):
        exif = exif.tobytes() if len(exif) else b""
    raw = exif.removeprefix(EXIF)
    try:
        return changed(raw, {ExifTags.Base.Orientation: 1}, preview=False) if raw else None
    except ValueError:
        return None


def _described(tags: Image.Exif) -> Image.Exif:
    """Return a TIFF page's tags without those of its layout."""
    kept = Image.Exif()
    for tag, value in tags.items():
        if tag not in _LAYOUT and not (tag == _DESCRIPTION and str(value).startswith(_OTHERS_WORDS)):
            kept[tag] = tags.get_ifd(tag) if tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo) else value
    return kept


def _resolution(dpi: Any) -> tuple[float, float] | None:
    try:
        across, down = (float(value) for value in dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if 0 < across < 1e6 and 0 < down < 1e6 else None


def _resolution_in(tags: Image.Exif) -> tuple[float, float] | None:
    scale = {2: 1.0, 3: 2.54}.get(tags.get(ExifTags.Base.ResolutionUnit, 2))
    found = _resolution((tags.get(ExifTags.Base.XResolution), tags.get(ExifTags.Base.YResolution)))
    return (found[0] * scale, found[1] * scale) if found and scale else None


def _upright_xmp(xmp: bytes) -> bytes:
    for pattern, one in _ORIENTATION:
        xmp = re.sub(pattern, one, xmp)
    return xmp


def _chunks(image: Image.Image) -> tuple[tuple[bytes, bytes], ...]:
    """Return the chunks of a PNG that say what its colours are, and its texts."""
    info = image.info
    found = PngImagePlugin.PngInfo()
    if isinstance(info.get("gamma"), float):
        found.add(b"gAMA", struct.pack(">I", round(info["gamma"] * 100_000)))
    if len(info.get("chromaticity", ())) == 8:
        found.add(b"cHRM", struct.pack(">8I", *(round(value * 100_000) for value in info["chromaticity"])))
    if isinstance(info.get("srgb"), int):
        found.add(b"sRGB", bytes([info["srgb"]]))
    for name, text in (getattr(image, "text", None) or {}).items() if image.format == "PNG" else ():
        if not name.startswith(_UNKNOWN_AS):
            found.add_text(name, text)
    return tuple((chunk[0], chunk[1]) for chunk in found.chunks)


def tiff_tags(exif: bytes | None) -> dict[int, Any]:
    """Return the tags of EXIF that a TIFF file of another layout can have, by number; lists in lists as dictionaries."""
    tags = Image.Exif()
    tags.load(exif or b"")
    return dict(_described(tags))
