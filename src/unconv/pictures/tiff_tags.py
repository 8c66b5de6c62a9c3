"""Tags put into a TIFF file that another library has written: what Pillow alone can put beside the samples, such as EXIF."""

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
    """Return an encoder of TIFF files that have, on their first page, what the picture's file said and `encode` left out."""
    told = options("TIFF", metadata, width, height)
    tags: TiffImagePlugin.ImageFileDirectory_v2 = told.get("tiffinfo", TiffImagePlugin.ImageFileDirectory_v2())
    if metadata.icc:
        tags[_ICC] = metadata.icc
    if metadata.resolution:
        across, down = metadata.resolution
        for tag, value in zip(sorted(_RESOLUTION), (across, down, 2), strict=True):
            tags[tag] = value
    return lambda array: _with_tags(encode(array), tags) if len(tags) else encode(array)


def _with_tags(content: bytes, tags: TiffImagePlugin.ImageFileDirectory_v2) -> bytes:
    """Return a TIFF file whose first page has more tags: a list of all of them at its end, in place of the old one."""
    order = {b"II": "<", b"MM": ">"}[content[:2]]
    if content[2:4] not in (b"*\0", b"\0*"):
        if ExifTags.IFD.Exif in tags:
            warnings.warn("save: EXIF does not go into BigTIFF, and was left out.", UserWarning, stacklevel=3)
        return content
    (at,) = struct.unpack_from(f"{order}I", content, 4)
    (count,) = struct.unpack_from(f"{order}H", content, at)
    unit = ExifTags.Base.ResolutionUnit
    old = [content[place : place + 12] for place in range(at + 2, at + 2 + 12 * count, 12)]
    if tags.get(unit) in (2, 3) and struct.pack(f"{order}HHIH", unit, 3, 1, 1) in {entry[:10] for entry in old}:
        # tifffile writes one sample a unit of nothing where it was told nothing.
        old = [entry for entry in old if struct.unpack_from(f"{order}H", entry)[0] not in _RESOLUTION]
    there = {struct.unpack_from(f"{order}H", entry)[0] for entry in old}
    added = TiffImagePlugin.ImageFileDirectory_v2(prefix=content[:2])
    for tag, value in tags.items():
        if tag not in there and tag != _DESCRIPTION:
            added[tag] = value
            if tag in tags.tagtype:
                added.tagtype[tag] = tags.tagtype[tag]
    content += bytes(-len(content) % 2)
    blob = added.tobytes(len(content))
    (more,) = struct.unpack_from(f"{order}H", blob)
    entries = sorted(
        old + [blob[2 + 12 * n : 14 + 12 * n] for n in range(more)], key=lambda entry: struct.unpack_from(f"{order}H", entry)
    )
    following = content[at + 2 + 12 * count : at + 6 + 12 * count]
    blob += bytes(-len(blob) % 2)
    first = struct.pack(f"{order}I", len(content) + len(blob))
    return content[:4] + first + content[8:] + blob + struct.pack(f"{order}H", len(entries)) + b"".join(entries) + following
