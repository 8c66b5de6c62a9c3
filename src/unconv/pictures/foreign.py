"""Files that are pictures, but not read here: each is known by how it begins, and answered with what does read it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from unconv.errors import PictureError

_EXPORT = "bfconvert of Bio-Formats, `bfconvert FILE out.ome.tif`, or Fiji does that"
_ARRAY = "pass the array, such as deblur(array, psf, axes='TCZYX')"
_DEVELOP = (
    "Develop it to 16-bit TIFF, linear and without sharpening: `dcraw -4 -T FILE`, or RawTherapee with its neutral profile"
)


def _starts(*starts: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(starts)


# What a file is called, how it is known, and what to do.
_FOREIGN: list[tuple[str, Callable[[bytes], bool], str]] = [
    ("CZI of Zeiss", _starts(b"ZISRAWFILE"), f"Export it as OME-TIFF: in ZEN by Export, or {_EXPORT}"),
    (
        "ND2 of Nikon",
        _starts(b"\xda\xce\xbe\x0a"),
        f"Export it as OME-TIFF: in NIS-Elements by Save As, or {_EXPORT}; or read it with the library nd2, and {_ARRAY}",
    ),
    (
        "LIF of Leica",
        lambda head: head[:4] == b"\x70\0\0\0" and head[8:9] == b"\x2a",
        f"Export it as OME-TIFF: in LAS X by Export, or {_EXPORT}; or read it with the library liffile, and {_ARRAY}",
    ),
    ("OIB, ZVI or another compound file", _starts(b"\xd0\xcf\x11\xe0"), f"Convert it to OME-TIFF: {_EXPORT}"),
    ("HDF5, as of Imaris", _starts(b"\x89HDF\r\n\x1a\n"), f"Read the array in it with the library h5py, and {_ARRAY}"),
    ("DM3 or DM4 of Gatan", _starts(b"\0\0\0\x03", b"\0\0\0\x04"), f"Save it as TIFF in DigitalMicrograph, or {_EXPORT}"),
    ("NRRD", _starts(b"NRRD000"), f"Read it with the library pynrrd, and {_ARRAY}"),
    ("DICOM", lambda head: head[128:132] == b"DICM", f"Read it with the library pydicom, and {_ARRAY}"),
    ("packed by gzip", _starts(b"\x1f\x8b"), "Unpack it first, with gunzip"),
    ("packed by bzip2", _starts(b"BZh"), "Unpack it first, with bunzip2"),
    (
        "HEIC, as of an iPhone",
        lambda head: head[4:12] in (b"ftypheic", b"ftypheix", b"ftyphevc"),
        "Save it as PNG, or as JPEG of high quality",
    ),
    (
        "a camera's raw file",
        lambda head: (
            head[4:11] == b"ftypcrx"
            or (head[8:10] == b"CR" and head[:2] in (b"II", b"MM"))
            or head.startswith((b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM"))
        ),
        _DEVELOP,
    ),
]
LONGEST = 132
"""Bytes at a file's beginning that tell."""


def refuse_foreign(where: str, path: Path, head: bytes) -> None:
    """Refuse a file of a known kind that is not read.

    Args:
        where: the caller, as the message names it.
        head: the first `LONGEST` bytes of the file.

    Raises:
        PictureError: it is one; the message says what to do.
    """
    for name, known, remedy in _FOREIGN:
        if known(head):
            raise PictureError(f"{where}: {path} is {name}, which is not read here. {remedy}.")


def refuse_raw(where: str, path: Path) -> None:
    """Refuse a camera's raw file that is TIFF: its first page is a preview, or its samples are not colours yet.

    Raises:
        PictureError: always.
    """
    raise PictureError(
        f"{where}: {path} is a camera's raw file: samples behind a mosaic of colours, and mostly a small preview before them, "
        f"which are not read here. {_DEVELOP}."
    )
