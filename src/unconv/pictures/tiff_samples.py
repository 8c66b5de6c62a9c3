"""Decode the samples of a TIFF page strip by strip, in their own type, where Pillow would reduce them."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any, BinaryIO

import numpy as np
from PIL import TiffImagePlugin

from unconv.pictures.tiff_pages import Page

_PLAIN, _DEFLATE = 1, (8, 32946)
_LIBTIFF = {5: "LZW", 32773: "PackBits", 34925: "LZMA", 50000: "ZSTD"}  # which Pillow passes on to libtiff
_LETTERS = {1: "u", 2: "i", 3: "f", 4: "u", 6: "c"}
_WIDTHS = {"u": (8, 16, 32, 64), "i": (8, 16, 32, 64), "f": (16, 32, 64), "c": (64, 128)}


def page_type(page: Page) -> np.dtype[Any]:
    """Return the NumPy type of a page's samples.

    Raises:
        ValueError: NumPy has no such type, or the page's compression or predictor is not decoded here.
    """
    letter, bits = _LETTERS.get(page.kinds[0], ""), page.bits[0]
    if len(set(page.bits)) > 1 or len(set(page.kinds)) > 1 or bits not in _WIDTHS.get(letter, ()):
        raise ValueError(
            f"its samples have {page.bits[:4]} bits and SampleFormat {page.kinds[:4]}. Convert them to 8, 16 or 32 bits"
        )
    if page.compression not in (_PLAIN, *_DEFLATE, *_LIBTIFF) or page.predictor not in (1, 2, 3) or page.reversed_bits:
        known = ", ".join(_LIBTIFF.values())
        raise ValueError(
            f"its compression, {page.compression}, is not read. Save it without compression, or with Deflate, {known}"
        )
    if page.predictor == 3 and letter != "f":
        raise ValueError("it has the predictor of floating-point samples (3), but its samples are not floats")
    return np.dtype(f"{letter}{bits // 8}")


def read_page(file: BinaryIO, page: Page, out: np.ndarray[Any, Any]) -> None:
    """Decode a page into `out`: (H, W), (H, W, samples), or (samples, H, W) if each sample has a plane of its own.

    Raises:
        ValueError: a strip does not decompress to its size.
    """
    height, width = page.segment
    planes = out if page.planar else [out.reshape(page.height, page.width, page.samples)]
    across = -(-page.width // width)
    count = across * -(-page.height // height)
    channels = 1 if page.planar else page.samples
    for index, (start, length) in enumerate(zip(page.starts, page.lengths, strict=True)):
        file.seek(start)
        rows = page.rows(index)
        content = _unpacked(file.read(length), page, index)
        samples = _unpredicted(content, page, rows, channels)
        y, x = (index % count) // across * height, index % count % across * width
        # Tiles at the right and bottom edges reach beyond the picture: only what lies inside is copied.
        plane = planes[index // count].reshape(page.height, page.width, channels)
        part = plane[y : y + rows, x : x + width]
        part[...] = samples[: part.shape[0], : part.shape[1]]


def _unpacked(content: bytes, page: Page, index: int) -> bytes:
    """Decompress a strip or tile to exactly as many bytes as its size needs, and never more."""
    expected = page.stored(index)
    if page.compression == _PLAIN:
        return content[:expected]
    if page.compression in _DEFLATE:
        stream = zlib.decompressobj()
        unpacked = stream.decompress(content, expected + 1)
        if len(unpacked) != expected or not stream.eof:
            raise ValueError(f"strip or tile {index} of page {page.index} does not decompress to {expected} bytes")
        return unpacked
    # Pillow passes only complete files to libtiff: the strip is wrapped as a file of its own, of 8-bit samples.
    rows = page.rows(index)
    header = _wrapped(expected // rows, rows, page.compression, len(content))
    with TiffImagePlugin.TiffImageFile(io.BytesIO(header + content)) as image:
        return image.tobytes()


def _wrapped(width: int, height: int, compression: int, length: int) -> bytes:
    """Return a TIFF file of 8-bit samples up to its one strip, which is to follow."""
    tags = {256: width, 257: height, 258: 8, 259: compression, 262: 1, 273: 134, 277: 1, 278: height, 279: length, 284: 1}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def _unpredicted(content: bytes, page: Page, rows: int, channels: int) -> np.ndarray[Any, Any]:
    """Return the samples (rows, columns, samples) of a strip with its predictor undone: differences are summed up.

    Source:
        TIFF 6.0, section 14; Adobe, "TIFF Technical Note 3" (2005), for floating-point samples.
    """
    dtype, columns = page_type(page), page.segment[1]
    shape = (rows, columns, channels)
    stored = dtype.newbyteorder(page.order)  # type: ignore[arg-type]
    if page.predictor == 1:
        return np.frombuffer(content, stored).reshape(shape)
    if page.predictor == 2:
        unsigned = np.dtype(f"u{dtype.itemsize}")
        # Unsigned, so that sums wrap around as the differences did.
        steps = np.frombuffer(content, unsigned.newbyteorder(page.order)).reshape(shape)  # type: ignore[arg-type]
        return np.cumsum(steps, axis=1, dtype=unsigned).view(dtype)
    # Bytes of one rank lie together, most significant first, and each is stored as the difference from that one pixel before.
    octets = np.frombuffer(content, np.uint8).reshape(rows, -1, channels).cumsum(1, dtype=np.uint8)
    planes = octets.reshape(rows, dtype.itemsize, columns * channels).transpose(0, 2, 1)
    return np.ascontiguousarray(planes).view(dtype.newbyteorder(">")).reshape(shape)
