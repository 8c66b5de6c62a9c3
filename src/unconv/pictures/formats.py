"""The formats of pictures that are decoded, by content: whatever a file is called, nothing else is started for it.

Pillow knows some forty more. One of them runs Ghostscript, and most are read by nobody who could be harmed by our refusal.
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
"""What Pillow decodes for us, by its names; an old one may lack AVIF. `measured` and PSFs read `.npy` beside them."""
_OPENED = (*FORMATS, "MPO")  # what JPEG files of several pictures are called once they are open

_MOST_EXPANSION = 100  # of a file whose samples come to more than those of one picture
_MOST_BYTES = 4  # of a pixel, as Pillow holds it

_lock = threading.Lock()
_strict: list[ExitStack] = []  # one for every thread that reads; the first holds what is to be put back


@contextmanager
def strictly() -> Iterator[None]:
    """Have Pillow refuse what is cut off and what is a bomb, whatever its globals say, and warn of nothing else.

    Several threads may be inside: the first one in changes the globals, the last one out puts them back.
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
    # Decoders warn of odd metadata, which is harmless. Of a bomb Pillow only warns up to twice its limit.
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    stack.callback(setattr, ImageFile, "LOAD_TRUNCATED_IMAGES", ImageFile.LOAD_TRUNCATED_IMAGES)
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    return stack


def opened(file: BinaryIO) -> Image.Image:
    """Open a picture by its content, if that is of one of `FORMATS`.

    Raises:
        ValueError: it is of none of them, or its header is damaged.
    """
    Image.init()  # else Pillow knows only some of them, and stumbles over the others' names
    try:
        image = Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])
    except UnidentifiedImageError:
        names = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise ValueError(f"its content is not that of a whole {names} file. Save it as PNG") from None
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise Image.DecompressionBombError  # where a thread's own filters kept Pillow's warning from being one
    return image


def refuse_bomb(where: str, what: str, pixels: int, pages: int, unpacked: int, packed: int) -> None:
    """Refuse a decompression bomb.

    That is a page of more pixels than `PIL.Image.MAX_IMAGE_PIXELS`; or a file packed more than 100 times smaller, whose
    pages together have more, or whose samples take more than four bytes for each.

    Args:
        where: the caller, as the message names it.
        what: the file, as the message names it.
        unpacked, packed: bytes in memory and in the file.

    Raises:
        PictureError: it is one.
    """
    limit = Image.MAX_IMAGE_PIXELS
    packs = unpacked > _MOST_EXPANSION * packed
    if limit is not None and (pixels > limit or (packs and pixels * pages > limit)):
        raise bomb(where, what, f"{pages} x {pixels} pixels, more than {limit}")
    if limit is not None and packs and unpacked > _MOST_BYTES * limit:
        raise bomb(where, what, f"{unpacked} bytes, more than {_MOST_BYTES} for each of {limit} pixels")


def bomb(where: str, what: str, amount: str) -> PictureError:
    """Return the error that refuses a decompression bomb, in its words."""
    return PictureError(
        f"{where}: {what} unpacks to {amount}; refused as a decompression bomb. Make it smaller, or raise "
        "PIL.Image.MAX_IMAGE_PIXELS if you trust it."
    )


def refuse_other(where: str, image: Image.Image) -> None:
    """Refuse a picture that Pillow opened from a file of another format and may not have decoded yet.

    Raises:
        PictureError: it is one.
    """
    if isinstance(image, ImageFile.ImageFile) and image.format not in _OPENED:
        # Pillow reads FITS upside down, and leaves its scale out: a copy would be another picture.
        fits = image.format == "FITS"
        remedy = "Pass the file's name, which astropy opens" if fits else "Pass picture.copy() if you trust it"
        raise PictureError(
            f"{where}: the picture was opened from a file of the format {image.format}, which is not decoded here; "
            f"{', '.join(FORMATS)} are. {remedy}."
        )


def refuse_cut(where: str, path: Path) -> None:
    """As `refuse_cut_in`, of a file by its name."""
    size = path.stat().st_size
    with path.open("rb") as file:
        refuse_cut_in(where, path, file, size)


def refuse_cut_in(where: str, path: Path, file: BinaryIO, size: int) -> None:
    """Refuse a file that its decoder would read as whole though its end is missing, or that would keep it busy for ever.

    The decoders of the other formats notice themselves.

    Args:
        path: as the message names it.
        file: at its beginning.
        size: in bytes.

    Raises:
        PictureError: TIFF whose first page is a decompression bomb; or a file of a known kind that is not read.
        ValueError: the end is missing, or pages, tags or strips are not as announced.
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
    """Go through the chunks to the last one: an orientation may stand behind the samples."""
    at = 8
    while at + 12 <= size:
        file.seek(at)
        head = file.read(8)
        at += 12 + int.from_bytes(head[:4], "big")
        if head[4:] == b"IEND" and at <= size:
            return
    raise ValueError("its last chunk, IEND, is missing")


def _walk_boxes(file: BinaryIO, size: int) -> None:
    """Go through the boxes of a JP2 file to its codestream (ISO/IEC 15444-1, annex I)."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length, inside = int.from_bytes(head[:4], "big"), at + 8
        if length == 1:
            length, inside = int.from_bytes(head[8:], "big"), at + 16
        end = at + length if length else size
        if end > size or end <= at:
            break
        if head[4:8] == b"jp2c":
            _walk_codestream(file, inside, end)
            return
        at = end
    raise ValueError("its codestream is missing or cut off")


def _walk_codestream(file: BinaryIO, at: int, end: int) -> None:
    """Go from tile part to tile part to the marker of the end, EOC (ISO/IEC 15444-1, annex A)."""
    at += 2
    while at + 2 <= end:
        file.seek(at)
        head = file.read(10)
        if head[:2] == b"\xff\xd9":
            return
        length = int.from_bytes(head[2:4], "big") + 2
        if head[:2] == b"\xff\x90":  # SOT, which says how long its tile part is; 0: up to the end of the last one
            length = int.from_bytes(head[6:10], "big") or end - 2 - at
        at += max(length, 2)
    raise ValueError("the marker of its end, EOC, is missing")
