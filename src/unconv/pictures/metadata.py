"""Read a picture file's metadata: ICC profile, EXIF, XMP, IPTC, resolution, and how JPEG compressed it.

The metadata go with a picture through every operation on its samples, and into the file of the result.
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
"""The six bytes before EXIF in most files."""
_XMP_TAG, _ICC_TAG = 700, 34675
_WIDTHS, _HEIGHTS = (256, 0xA002), (257, 0xA003)  # tags of the picture's size, in the first list of tags and in EXIF's own
_LETTERS = {1: "B", 3: "H", 4: "I"}  # EXIF's types of unsigned integers, as `struct` names them
_RATIO = 5  # EXIF's type of two integers, one divided by the other
_RESOLUTION = (ExifTags.Base.XResolution, ExifTags.Base.YResolution)
_MOST_TAGS = 4096
# TIFF tags that describe the layout of a file's samples, not the picture: they are true only of the source file.
_LAYOUT = {*range(254, 267), 273, *range(277, 282), 284, *range(288, 294), 297, 301, 317, *range(320, 326), *range(330, 348)}
_LAYOUT |= {*range(512, 522), *range(529, 533), _XMP_TAG, 32997, 33421, 33422, 34377, 34675, 37724, 50838, 50839}
_DESCRIPTION = 270
_IPTC = 0x0404  # the number of IPTC among Photoshop's resources
_PROGRAMS_DESCRIPTIONS = ("ImageJ=", "<?xml", "<OME", '{"shape')  # descriptions of a file's pages, for programs
_STORED_ELSEWHERE = ("XML:com.adobe.xmp", "Raw profile type")  # PNG texts whose content is kept in another attribute
_ORIENTATION = (
    (rb'(tiff:Orientation=")[2-8]"', rb'\g<1>1"'),
    (rb"(<tiff:Orientation>\s*)[2-8](\s*<)", rb"\g<1>1\g<2>"),
)


@dataclass(frozen=True)
class Metadata:
    """The metadata of a picture's file, adapted to the upright picture.

    Attributes:
        icc: the ICC profile of its colours.
        exif: EXIF without the six bytes `EXIF` before it, with orientation 1 and without the preview image.
        xmp: XMP as XML text, with orientation 1.
        resolution: samples per inch, horizontal and vertical.
        iptc: the IPTC captions and keywords.
        comment: the comment of a JPEG.
        chunks: the name and content of each PNG chunk that describes colours or holds text.
        tables: the quantisation tables of a JPEG, brightness first, each row by row.
        white: the largest value of a sample, if it is not the type's own, such as 4095 for 12 bits.
        alpha: whether the last of 2 or 4 channels is alpha; None if neither the file nor the user says.
        layout: the layout of a TIFF file's pages, and their tags.
        fits: the content of a FITS file besides the image.
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
        """Return the same metadata with a note on how the picture was made; only FITS can hold one."""
        return self if self.fits is None else replace(self, fits=replace(self.fits, history=history))

    def finer(self, factor: int) -> Metadata:
        """Return the same metadata for a picture with `factor` times as many samples an axis, of the same size on paper."""
        if factor == 1:
            return self
        exif, inch = self.exif, self.resolution
        return replace(
            self,
            exif=None if exif is None else changed(exif, {}, finer=factor),
            resolution=None if inch is None else (inch[0] * factor, inch[1] * factor),
        )

    def exif_of(self, width: int, height: int) -> bytes | None:
        """Return `EXIF` and `exif` with the size of the picture it will belong to; None if there is no EXIF."""
        if self.exif is None:
            return None
        return EXIF + changed(self.exif, dict.fromkeys(_WIDTHS, width) | dict.fromkeys(_HEIGHTS, height))

    def info(self, width: int, height: int) -> dict[str, Any]:
        """Return the metadata that Pillow keeps in a picture's `info`, under its names."""
        values = {
            "icc_profile": self.icc,
            "exif": self.exif_of(width, height),
            "xmp": self.xmp,
            "dpi": self.resolution,
            "comment": self.comment,
        }
        return {name: value for name, value in values.items() if value}


NOTHING = Metadata()


def metadata_of(image: Image.Image) -> Metadata:
    """Return the metadata of a picture that Pillow has loaded, except what is damaged and the profile of CMYK inks."""
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
    """Return the metadata of a TIFF file's first page, whatever decodes its samples; none if Pillow cannot read its tags."""
    try:
        with path.open("rb") as file:
            if file.read(4)[2:] in (b"+\0", b"\0+"):  # BigTIFF, whose tags Pillow reads only with the picture
                with Image.open(file, formats=["TIFF"]) as image:
                    return _of_tags(image.getexif())
            file.seek(0)
            tags = Image.Exif()
            tags.load_from_fp(file)
            return _of_tags(tags)
    except Exception:  # damaged tags, which are not needed to decode the samples
        return NOTHING


def _of_tags(tags: Image.Exif) -> Metadata:
    """Return the metadata in the tags of a TIFF file's first page."""
    dpi = _resolution_in(tags)
    icc, xmp = (bytes(value) if isinstance(value := tags.get(tag), bytes) else None for tag in (_ICC_TAG, _XMP_TAG))
    return Metadata(
        icc=icc or None,
        exif=_upright_exif(_without_layout(tags)),
        xmp=_upright_xmp(xmp) if xmp else None,
        resolution=dpi[::-1] if dpi and tags.get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8) else dpi,
    )


def changed(exif: bytes, values: dict[int, int], *, preview: bool = True, finer: int = 1) -> bytes:
    """Return EXIF with new values for some tags, and all other bytes unchanged.

    Args:
        values: new values by tag; a tag that is missing is not added.
        preview: whether to keep the preview image that EXIF may hold.
        finer: the factor by which the resolution, in samples per inch or centimetre, is multiplied.

    Raises:
        ValueError: the EXIF is damaged.
    """
    # Edited in place and not written anew, since makers' notes may hold offsets into it.
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
    """Change one list of tags in place; return the offset of its end, and that of EXIF's own list or 0."""
    (count,) = struct.unpack_from(f"{order}H", raw, at)
    if count > _MOST_TAGS:
        raise ValueError(f"its EXIF is damaged: it claims {count} tags")
    inner = 0
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(f"{order}HHI", raw, entry)
        if tag == ExifTags.IFD.Exif:
            (inner,) = struct.unpack_from(f"{order}I", raw, entry + 8)
        elif tag in _RESOLUTION and (kind, number) == (_RATIO, 1):
            (offset,) = struct.unpack_from(f"{order}I", raw, entry + 8)
            # Two integers at another offset: only the numerator grows.
            (numerator,) = struct.unpack_from(f"{order}I", raw, offset)
            struct.pack_into(f"{order}I", raw, offset, numerator * finer)
        elif tag in values and kind in _LETTERS and number == 1:
            letter = _LETTERS[kind]
            if values[tag] < 256 ** struct.calcsize(letter):
                struct.pack_into(f"{order}{letter}", raw, entry + 8, values[tag])
    return at + 2 + 12 * count, inner


def _exif(image: Image.Image) -> bytes | None:
    """Return the upright EXIF of a loaded picture; None if there is none."""
    raw = image.info.get("exif")
    if isinstance(raw, bytes):
        return _upright_exif(raw)
    tags = image.getexif()  # from TIFF tags, from text in PNG, or set by the user
    return _upright_exif(_without_layout(tags) if isinstance(image, TiffImagePlugin.TiffImageFile) else tags)


def _iptc(image: Image.Image) -> bytes | None:
    """Return the IPTC of a JPEG, which is one of Photoshop's resources; None if there is none."""
    resources = image.info.get("photoshop")
    iptc = resources.get(_IPTC) if isinstance(resources, dict) else None
    return iptc if isinstance(iptc, bytes) and iptc else None


def _upright_exif(exif: bytes | Image.Exif) -> bytes | None:
    """Return EXIF with orientation 1 and without `EXIF` before it; None if there is none, or it is damaged."""
    if not isinstance(exif, bytes):
        exif = exif.tobytes() if len(exif) else b""
    raw = exif.removeprefix(EXIF)
    try:
        return changed(raw, {ExifTags.Base.Orientation: 1}, preview=False) if raw else None
    except ValueError:
        return None


def _without_layout(tags: Image.Exif) -> Image.Exif:
    """Return the tags of a TIFF page without those that describe its layout."""
    remaining = Image.Exif()
    for tag, value in tags.items():
        if tag not in _LAYOUT and not (tag == _DESCRIPTION and str(value).startswith(_PROGRAMS_DESCRIPTIONS)):
            remaining[tag] = tags.get_ifd(tag) if tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo) else value
    return remaining


def _resolution(dpi: Any) -> tuple[float, float] | None:
    """Return a resolution as two floats; None if it is missing or not plausible."""
    try:
        across, down = (float(value) for value in dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if 0 < across < 1e6 and 0 < down < 1e6 else None


def _resolution_in(tags: Image.Exif) -> tuple[float, float] | None:
    """Return the resolution in EXIF or TIFF tags, in samples per inch; None if there is none."""
    scale = {2: 1.0, 3: 2.54}.get(tags.get(ExifTags.Base.ResolutionUnit, 2))
    resolution = _resolution((tags.get(ExifTags.Base.XResolution), tags.get(ExifTags.Base.YResolution)))
    return (resolution[0] * scale, resolution[1] * scale) if resolution and scale else None


def _upright_xmp(xmp: bytes) -> bytes:
    for pattern, replacement in _ORIENTATION:
        xmp = re.sub(pattern, replacement, xmp)
    return xmp


def _chunks(image: Image.Image) -> tuple[tuple[bytes, bytes], ...]:
    """Return the chunks of a PNG that describe its colours, and its texts."""
    info = image.info
    chunks = PngImagePlugin.PngInfo()
    if isinstance(info.get("gamma"), float):
        chunks.add(b"gAMA", struct.pack(">I", round(info["gamma"] * 100_000)))
    if len(info.get("chromaticity", ())) == 8:
        chunks.add(b"cHRM", struct.pack(">8I", *(round(value * 100_000) for value in info["chromaticity"])))
    if isinstance(info.get("srgb"), int):
        chunks.add(b"sRGB", bytes([info["srgb"]]))
    for name, text in (getattr(image, "text", None) or {}).items() if image.format == "PNG" else ():
        if not name.startswith(_STORED_ELSEWHERE):
            chunks.add_text(name, text)
    return tuple((chunk[0], chunk[1]) for chunk in chunks.chunks)


def tiff_tags(exif: bytes | None) -> dict[int, Any]:
    """Return the EXIF tags that a TIFF file of any layout can hold, by number; nested lists of tags are dictionaries."""
    tags = Image.Exif()
    tags.load(exif or b"")
    return dict(_without_layout(tags))
