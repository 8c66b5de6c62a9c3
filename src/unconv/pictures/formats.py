"""Open picture files by their content, in a short list of formats, and refuse damaged files and decompression bombs.

Whatever a file is called, no other decoder of Pillow's is started for it. Pillow knows some forty more; one of them runs
Ghostscript, and hardly anybody needs the others.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageFile, UnidentifiedImageError

from unconv.errors import PictureError
from unconv.pictures.foreign import LONGEST, refuse_foreign, refuse_raw
from unconv.pictures.tiff_pages import is_tiff, read_pages

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM")
"""The formats that Pillow decodes for us, by its names; an old Pillow may lack AVIF. `measured` and PSFs also read `.npy`."""
_OPENED = (*FORMATS, "MPO")  # Pillow's format of an opened JPEG file with several pictures

_MOST_EXPANSION = 100  # times that a file may be compressed if it holds more samples than one picture may
_MOST_BYTES = 4  # per pixel, as Pillow stores it

_lock = threading.Lock()
_strict: list[ExitStack] = []  # one per thread that reads; the first holds the settings to restore


@contextmanager
def strictly() -> Iterator[None]:
    """Make Pillow refuse truncated files and decompression bombs, whatever its global settings, and silence its other warnings.

    Several threads may be inside at once: the first to enter changes the global settings, the last to leave restores them.
    """
    with _lock:
        if not _strict:
            _strict.append(_entered())
        else:
            _strict.append(ExitStack())
    try:
        yield
    finally:
        with _lock:
            last = _strict.pop()
            if not _strict:
                last.close()


def _entered() -> ExitStack:
    stack = ExitStack()
    stack.enter_context(warnings.catch_warnings())
    # Decoders warn about odd metadata, which is harmless. Pillow only warns about a bomb of up to twice its limit.
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    stack.callback(setattr, ImageFile, "LOAD_TRUNCATED_IMAGES", ImageFile.LOAD_TRUNCATED_IMAGES)
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    return stack


def opened(file: BinaryIO) -> Image.Image:
    """Return the opened picture in `file`, whose content must be of one of `FORMATS`.

    Raises:
        ValueError: it is of no such format, or its header is damaged.
    """
    Image.init()  # before it Pillow has loaded only some formats, and fails on the names of the others
    try:
        image = Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])
    except UnidentifiedImageError:
        names = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise ValueError(f"its content is not that of a complete {names} file. Save it as PNG") from None
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise Image.DecompressionBombError  # another thread's warning filters may have swallowed Pillow's own
    return image


def refuse_bomb(where: str, what: str, pixels: int, pages: int, unpacked: int, packed: int) -> None:
    """Refuse a decompression bomb.

    A file is one if a page has more pixels than `PIL.Image.MAX_IMAGE_PIXELS`; or if it is compressed more than 100 times,
    and its pages together have more pixels, or its samples take more than four bytes for each pixel of that limit.

    Args:
        where: the caller, as the message names it.
        what: the file, as the message names it.
        pixels: per page.
        unpacked, packed: bytes in memory and in the file.

    Raises:
        PictureError: the file is a decompression bomb.
    """
    limit = Image.MAX_IMAGE_PIXELS
    compresses = unpacked > _MOST_EXPANSION * packed
    if limit is not None and (pixels > limit or (compresses and pixels * pages > limit)):
        raise bomb(where, what, f"{pages} x {pixels} pixels, more than {limit}")
    if limit is not None and compresses and unpacked > _MOST_BYTES * limit:
        raise bomb(where, what, f"{unpacked} bytes, more than {_MOST_BYTES} for each of {limit} pixels")


def bomb(where: str, what: str, amount: str) -> PictureError:
    """Return the error that refuses a decompression bomb."""
    return PictureError(
        f"{where}: {what} unpacks to {amount}; refused as a decompression bomb. Make it smaller, or raise "
        "PIL.Image.MAX_IMAGE_PIXELS if you trust it."
    )


def refuse_other(where: str, image: Image.Image) -> None:
    """Refuse a PIL picture that was opened from a file of a format outside `FORMATS`, and that may not be decoded yet.

    Raises:
        PictureError: it was.
    """
    if isinstance(image, ImageFile.ImageFile) and image.format not in _OPENED:
        # Pillow reads FITS upside down and without its scale: a copy would be another picture.
        fits = image.format == "FITS"
        remedy = "Pass the file's name instead; astropy opens it" if fits else "Pass picture.copy() if you trust it"
        raise PictureError(
            f"{where}: the picture was opened from a file of the format {image.format}, but one of "
            f"{', '.join(FORMATS)} was needed. {remedy}."
        )


def refuse_cut(where: str, path: Path) -> None:
    """Apply `refuse_cut_in` to the file at `path`."""
    size = path.stat().st_size
    with path.open("rb") as file:
        refuse_cut_in(where, path, file, size)


def refuse_cut_in(where: str, path: Path, file: BinaryIO, size: int) -> None:
    """Refuse a truncated file that its decoder would read as if complete, or that would keep the decoder busy for ever.

    The decoders of all other formats detect this themselves.

    Args:
        path: the file, as the message names it.
        file: opened, and at its beginning.
        size: bytes of the file.

    Raises:
        PictureError: it is a TIFF whose first page is a decompression bomb, or of a known format that is not read.
        ValueError: its end is missing, or pages, tags or strips are not as announced.
    """
    start = file.read(LONGEST)
    refuse_foreign(where, path, start)
    if is_tiff(start):
        file.seek(0)
        page = read_pages(file, size)[0]
        if page.raw:
            refuse_raw(where, path)
        refuse_bomb(where, str(path), page.height * page.width, 1, page.nbytes, size)
    elif start.startswith(b"\x89PNG\r\n\x1a\n"):
        _walk_png(file, size)
    elif start.startswith(b"\xff\x4f\xff\x51"):
        _walk_codestream(file, 0, size)
    elif start.startswith(b"\0\0\0\x0cjP  "):
        _walk_boxes(file, size)
    elif start[:2] in (b"P2", b"P3"):
        file.seek(size - 1)
        if not file.read(1).isspace():  # the last number may have lost digits
            raise ValueError("its last number does not end in white space")


def _walk_png(file: BinaryIO, size: int) -> None:
    """Go through the chunks of a PNG to the last one, IEND: a chunk after the samples may hold the orientation."""
    offset = 8
    while offset + 12 <= size:
        file.seek(offset)
        header = file.read(8)
        offset += 12 + int.from_bytes(header[:4], "big")
        if header[4:] == b"IEND" and offset <= size:
            return
    raise ValueError("its last chunk, IEND, is missing")


def _walk_boxes(file: BinaryIO, size: int) -> None:
    """Go through the boxes of a JP2 file to its codestream (ISO/IEC 15444-1, annex I)."""
    offset = 0
    while offset + 8 <= size:
        file.seek(offset)
        header = file.read(16)
        length, content = int.from_bytes(header[:4], "big"), offset + 8
        if length == 1:
            length, content = int.from_bytes(header[8:], "big"), offset + 16
        end = offset + length if length else size
        if end > size or end <= offset:
            break
        if header[4:8] == b"jp2c":
            _walk_codestream(file, content, end)
            return
        offset = end
    raise ValueError("its codestream is missing or cut off")


def _walk_codestream(file: BinaryIO, at: int, end: int) -> None:
    """Go through the tile parts of a JPEG 2000 codestream to its end marker, EOC (ISO/IEC 15444-1, annex A)."""
    at += 2
    while at + 2 <= end:
        file.seek(at)
        header = file.read(10)
        if header[:2] == b"\xff\xd9":
            return
        length = int.from_bytes(header[2:4], "big") + 2
        if header[:2] == b"\xff\x90":  # SOT, which states the length of its tile part; 0 means up to EOC
            length = int.from_bytes(header[6:10], "big") or end - 2 - at
        at += max(length, 2)
    raise ValueError("its end marker, EOC, is missing")
