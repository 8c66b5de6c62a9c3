"""Add tags to a TIFF file that another library has written: metadata such as EXIF, which only Pillow encodes."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import ExifTags, TiffImagePlugin

from unconv.pictures.metadata import Metadata
from unconv.pictures.options import options

_DESCRIPTION, _ICC = 270, 34675
_RESOLUTION = {ExifTags.Base.XResolution, ExifTags.Base.YResolution, ExifTags.Base.ResolutionUnit}


def tagged(
    encode: Callable[[np.ndarray[Any, Any]], bytes], metadata: Metadata, height: int, width: int
) -> Callable[[np.ndarray[Any, Any]], bytes]:
    """Return an encoder of TIFF files whose first page also has the picture's metadata that `encode` leaves out."""
    settings = options("TIFF", metadata, width, height)
    tags: TiffImagePlugin.ImageFileDirectory_v2 = settings.get("tiffinfo", TiffImagePlugin.ImageFileDirectory_v2())
    if metadata.icc:
        tags[_ICC] = metadata.icc
    if metadata.resolution:
        across, down = metadata.resolution
        for tag, value in zip(sorted(_RESOLUTION), (across, down, 2), strict=True):
            tags[tag] = value
    return lambda array: _with_tags(encode(array), tags) if len(tags) else encode(array)


def _with_tags(content: bytes, tags: TiffImagePlugin.ImageFileDirectory_v2) -> bytes:
    """Return the TIFF file `content` with more tags on its first page: a new list of tags at its end replaces the old one."""
    order = {b"II": "<", b"MM": ">"}[content[:2]]
    # The entries below are plain TIFF's, of 12 bytes; those of BigTIFF have 20.
    if content[2:4] not in (b"*\0", b"\0*"):
        if ExifTags.IFD.Exif in tags:
            warnings.warn("save: BigTIFF cannot hold EXIF here; it was left out.", UserWarning, stacklevel=3)
        return content
    (start,) = struct.unpack_from(f"{order}I", content, 4)
    (count,) = struct.unpack_from(f"{order}H", content, start)
    unit = ExifTags.Base.ResolutionUnit
    old = [content[offset : offset + 12] for offset in range(start + 2, start + 2 + 12 * count, 12)]
    if tags.get(unit) in (2, 3) and struct.pack(f"{order}HHIH", unit, 3, 1, 1) in {entry[:10] for entry in old}:
        # Given no resolution, tifffile writes 1 sample per unit, with no unit. The picture's own takes its place.
        old = [entry for entry in old if struct.unpack_from(f"{order}H", entry)[0] not in _RESOLUTION]
    present = {struct.unpack_from(f"{order}H", entry)[0] for entry in old}
    added = TiffImagePlugin.ImageFileDirectory_v2(prefix=content[:2])
    for tag, value in tags.items():
        if tag not in present and tag != _DESCRIPTION:
            added[tag] = value
            if tag in tags.tagtype:
                added.tagtype[tag] = tags.tagtype[tag]
    content += bytes(-len(content) % 2)
    # Values longer than four bytes follow the list, which has their offsets in the file: so Pillow needs the list's own.
    directory = added.tobytes(len(content))
    (added_count,) = struct.unpack_from(f"{order}H", directory)
    # TIFF 6.0, section 2: the entries of a list are in ascending order of their tags.
    entries = sorted(
        old + [directory[2 + 12 * n : 14 + 12 * n] for n in range(added_count)],
        key=lambda entry: struct.unpack_from(f"{order}H", entry),
    )
    following = content[start + 2 + 12 * count : start + 6 + 12 * count]
    directory += bytes(-len(directory) % 2)
    first = struct.pack(f"{order}I", len(content) + len(directory))
    return (
        content[:4] + first + content[8:] + directory + struct.pack(f"{order}H", len(entries)) + b"".join(entries) + following
    )
