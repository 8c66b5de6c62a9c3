"""The samples of a TIFF page, in their own type: what Pillow would cut down is decoded here, strip by strip."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any, BinaryIO

import numpy as np
from PIL import TiffImagePlugin

from unconv.pictures.tiff_pages import Page

_PLAIN, _DEFLATE = 1, (8, 32946)
_LIBTIFF = {5: "LZW", 32773: "PackBits", 34925: "LZMA", 50000: "ZSTD"}  # which Pillow hands on
_LETTERS = {1: "u", 2: "i", 3: "f", 4: "u", 6: "c"}
_WIDTHS = {"u": (8, 16, 32, 64), "i": (8, 16, 32, 64), "f": (16, 32, 64), "c": (64, 128)}


def page_type(page: Page) -> np.dtype[Any]:
    """Return the type of a page's samples.

    Raises:
        ValueError: numpy has none like it, or the page is packed or coloured in a way that is not decoded.
    """
    letter, bits = _LETTERS.get(page.kinds[0], ""), page.bits[0]
    if len(set(page.bits)) > 1 or len(set(page.kinds)) > 1 or bits not in _WIDTHS.get(letter, ()):
        raise ValueError(f"it has samples of {page.bits[:4]} bits, of kind {page.kinds[:4]}. Convert them to 8, 16 or 32 bits")
    if page.compression not in (_PLAIN, *_DEFLATE, *_LIBTIFF) or page.predictor not in (1, 2, 3) or page.reversed_bits:
        known = ", ".join(_LIBTIFF.values())
        raise ValueError(f"its compression, {page.compression}, is not read. Save it without one, or with Deflate, {known}")
    if page.predictor == 3 and letter != "f":
        raise ValueError("it predicts floating-point samples, but holds others")
    return np.dtype(f"{letter}{bits // 8}")


def read_page(file: BinaryIO, page: Page, out: np.ndarray[Any, Any]) -> None:
    """Decode a page into `out`: (H, W), (H, W, samples), or (samples, H, W) where each has a plane of its own.

    Raises:
        ValueError: a strip holds other samples than it should.
    """
    height, width = page.segment
    planes = out if page.planar else [out.reshape(page.height, page.width, page.samples)]
    across = -(-page.width // width)
    count = across * -(-page.height // height)
    inside = 1 if page.planar else page.samples
    for index, (start, length) in enumerate(zip(page.starts, page.lengths, strict=True)):
        file.seek(start)
        rows = page.rows(index)
        content = _unpacked(file.read(length), page, index)
        samples = _unpredicted(content, page, rows, inside)
        y, x = (index % count) // across * height, index % count % across * width
        plane = planes[index // count].reshape(page.height, page.width, inside)
        part = plane[y : y + rows, x : x + width]
        part[...] = samples[: part.shape[0], : part.shape[1]]


def _unpacked(content: bytes, page: Page, index: int) -> bytes:
    """Unpack a strip or tile to exactly the bytes that its size asks for, and never more."""
    expected = page.stored(index)
    if page.compression == _PLAIN:
        return content[:expected]
    if page.compression in _DEFLATE:
        stream = zlib.decompressobj()
        found = stream.decompress(content, expected + 1)
        if len(found) != expected or not stream.eof:
            raise ValueError(f"strip or tile {index} of page {page.index} does not unpack to {expected} bytes")
        return found
    # Pillow hands only whole pictures to libtiff: the strip is passed off as one of bytes.
    rows = page.rows(index)
    head = _wrapped(expected // rows, rows, page.compression, len(content))
    with TiffImagePlugin.TiffImageFile(io.BytesIO(head + content)) as image:
        return image.tobytes()


def _wrapped(width: int, height: int, compression: int, length: int) -> bytes:
    """Return all of a TIFF file of bytes but its one strip."""
    tags = {256: width, 257: height, 258: 8, 259: compression, 262: 1, 273: 134, 277: 1, 278: height, 279: length, 284: 1}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def _unpredicted(content: bytes, page: Page, rows: int, inside: int) -> np.ndarray[Any, Any]:
    """Return (rows, columns, samples) of a strip, differences summed up again.

    Source:
        TIFF 6.0, section 14; Adobe, "TIFF Technical Note 3" (2005), for floating-point samples.
    """
    dtype, columns = page_type(page), page.segment[1]
    shape = (rows, columns, inside)
    stored = dtype.newbyteorder(page.order)  # type: ignore[arg-type]
    if page.predictor == 1:
        return np.frombuffer(content, stored).reshape(shape)
    if page.predictor == 2:
        whole = np.dtype(f"u{dtype.itemsize}")
        steps = np.frombuffer(content, whole.newbyteorder(page.order)).reshape(shape)  # type: ignore[arg-type]
        return np.cumsum(steps, axis=1, dtype=whole).view(dtype)
    # Bytes of one rank stand together, the highest first, and each byte is told by the one `inside` before it.
    octets = np.frombuffer(content, np.uint8).reshape(rows, -1, inside).cumsum(1, dtype=np.uint8)
    planes = octets.reshape(rows, dtype.itemsize, columns * inside).transpose(0, 2, 1)
    return np.ascontiguousarray(planes).view(dtype.newbyteorder(">")).reshape(shape)
