"""Recognise picture files that unconv does not read by their first bytes, and name a program that converts them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from unconv.errors import PictureError

_EXPORT = "with Bio-Formats, `bfconvert FILE out.ome.tif`, or with Fiji"
_ARRAY = "pass the array, such as deblur(array, psf, axes='TCZYX')"
_DEVELOP = (
    "Develop it to 16-bit TIFF, linear and without sharpening: `dcraw -4 -T FILE`, or RawTherapee with its neutral profile"
)


def _starts(*starts: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(starts)


# A format's name in messages, the test of a file's first bytes, and what the user can do.
_FOREIGN: list[tuple[str, Callable[[bytes], bool], str]] = [
    ("CZI of Zeiss", _starts(b"ZISRAWFILE"), f"Export it as OME-TIFF: in ZEN by Export, {_EXPORT}"),
    (
        "ND2 of Nikon",
        _starts(b"\xda\xce\xbe\x0a"),
        f"Export it as OME-TIFF: in NIS-Elements by Save As, {_EXPORT}; or read it with the library nd2, and {_ARRAY}",
    ),
    (
        "LIF of Leica",
        lambda head: head[:4] == b"\x70\0\0\0" and head[8:9] == b"\x2a",
        f"Export it as OME-TIFF: in LAS X by Export, {_EXPORT}; or read it with the library liffile, and {_ARRAY}",
    ),
    ("OIB, ZVI or another compound file", _starts(b"\xd0\xcf\x11\xe0"), f"Convert it to OME-TIFF, {_EXPORT}"),
    ("HDF5, as Imaris writes it", _starts(b"\x89HDF\r\n\x1a\n"), f"Read the array in it with the library h5py, and {_ARRAY}"),
    (
        "DM3 or DM4 of Gatan",
        _starts(b"\0\0\0\x03", b"\0\0\0\x04"),
        f"Save it as TIFF in DigitalMicrograph, or convert it {_EXPORT}",
    ),
    ("NRRD", _starts(b"NRRD000"), f"Read it with the library pynrrd, and {_ARRAY}"),
    ("DICOM", lambda head: head[128:132] == b"DICM", f"Read it with the library pydicom, and {_ARRAY}"),
    ("compressed by gzip", _starts(b"\x1f\x8b"), "Decompress it first with gunzip"),
    ("compressed by bzip2", _starts(b"BZh"), "Decompress it first with bunzip2"),
    (
        "HEIC, as iPhones write it",
        lambda head: head[4:12] in (b"ftypheic", b"ftypheix", b"ftyphevc"),
        "Save it as PNG, or as JPEG with high quality",
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
"""How many bytes from the beginning of a file are enough to recognise it."""


def refuse_foreign(where: str, path: Path, head: bytes) -> None:
    """Refuse a file of a known format that unconv does not read.

    Args:
        where: the caller, as the message names it.
        head: the first `LONGEST` bytes of the file.

    Raises:
        PictureError: the file is of such a format; the message says how to convert it.
    """
    for name, matches, remedy in _FOREIGN:
        if matches(head):
            raise PictureError(f"{where}: {path} is {name}, which unconv does not read. {remedy}.")


def refuse_raw(where: str, path: Path) -> None:
    """Refuse a camera's raw file in the form of TIFF: its first page is a preview, or its samples are not colours yet.

    Raises:
        PictureError: always.
    """
    raise PictureError(
        f"{where}: {path} is a camera's raw file, which unconv does not read: one colour a sample in a mosaic, mostly after a "
        f"small preview. {_DEVELOP}."
    )
