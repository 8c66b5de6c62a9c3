"""The length in a sound file's headers against the file's size: libsndfile reads a file that is cut off without an error."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_UNKNOWN = 0xFFFFFFFF  # the size that programs write when they do not know the length of a stream
_PAGE = 2**16 + 512  # bytes of the largest Ogg page
# Chunks that every result has, and chunks of texts, which are copied.
_PLAIN = {b"fmt ", b"data", b"fact", b"PEAK", b"JUNK", b"junk", b"PAD ", b"ds64", b"FLLR", b"COMM", b"SSND", b"FVER"}
_PLAIN |= {b"NAME", b"AUTH", b"ANNO", b"(c) ", b"APPL", b"desc", b"info", b"free", b"peak", b"kuki", b"pakt"}
_W64 = bytes.fromhex("2e91cf11a5d628db04c10000")  # the rest of the GUID that begins with "riff"


@dataclass(frozen=True)
class Container:
    """The length of a file according to its headers.

    Attributes:
        missing: number of bytes of samples that the headers promise but the file lacks.
        endless: whether the headers have no length, as for a stream.
        last_page: False if an Ogg stream lacks its last page.
        others: names of chunks that are not copied to a result, such as "bext" or "cue".
    """

    missing: int = 0
    endless: bool = False
    last_page: bool = True
    others: tuple[str, ...] = ()


def container(path: Path) -> Container:
    """Return the headers' length of a WAV, RF64, W64, AIFF, AU, CAF or Ogg file; the defaults for other kinds."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(40)
        if start[:4] in (b"RIFF", b"RIFX", b"RF64") and start[8:12] == b"WAVE":
            return _riff(file, start, size)
        if start[:4] == b"riff" and start[4:16] == _W64:
            return _wave64(file, size)
        if start[:4] == b"FORM" and start[8:12] in (b"AIFF", b"AIFC"):
            return _summed(file, _chunks(file, 12, size, ">I", 4, 2), b"SSND", size)
        if start[:4] == b".snd" and len(start) >= 24:
            begin, length = struct.unpack(">II", start[4:12])
            return Container(endless=True) if length == _UNKNOWN else Container(max(0, begin + length - size))
        if start[:4] == b"caff":
            return _summed(file, _chunks(file, 8, size, ">q", 4, 1), b"data", size)
        if start[:4] == b"OggS":
            file.seek(max(0, size - _PAGE))
            return _last_page(file.read())
    return Container()


def speaker_mask(path: Path) -> tuple[int, bytes] | None:
    """Return the position of an extensible WAV's speaker mask and its 4 bytes; None for other files."""
    with path.open("rb") as file:
        start, size = file.read(12), path.stat().st_size
        if start[:4] != b"RIFF" or start[8:] != b"WAVE":
            return None
        for name, begin, length in _chunks(file, 12, size, "<I", 4, 2):
            if name == b"fmt " and length >= 40:
                file.seek(begin)
                content = file.read(24)
                return (begin + 20, content[20:]) if content[:2] == b"\xfe\xff" else None
            if name == b"data":
                return None
    return None


def _last_page(end: bytes) -> Container:
    """Return whether an Ogg stream is complete, from the bytes at its end."""
    # A page has 27 bytes, then a table of sizes with as many entries as byte 26 says, then their sum in bytes. Bit 2 of byte 5
    # marks the last page.
    page = end[end.rfind(b"OggS") :]
    if len(page) < 28:
        return Container(last_page=False)
    sizes = page[27 : 27 + page[26]]
    return Container(max(0, 27 + page[26] + sum(sizes) - len(page)), last_page=bool(page[5] & 4))


def _riff(file: BinaryIO, start: bytes, size: int) -> Container:
    chunks = list(_chunks(file, 12, size, ">I" if start[:4] == b"RIFX" else "<I", 4, 2))
    if start[:4] == b"RF64" and start[12:16] == b"ds64" and len(start) >= 36:
        # The true length of the samples is in the first chunk; that of the data chunk itself has only 32 bits.
        data = struct.unpack("<Q", start[28:36])[0]
        chunks = [(name, begin, data if name == b"data" else length) for name, begin, length in chunks]
    return _summed(file, chunks, b"data", size)


def _wave64(file: BinaryIO, size: int) -> Container:
    # A size includes the 24 bytes of its chunk's header.
    chunks = [(name, begin, length - 24) for name, begin, length in _chunks(file, 40, size, "<Q", 16, 8)]
    return _summed(file, chunks, b"data", size)


def _chunks(file: BinaryIO, at: int, end: int, order: str, name: int, even: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, position of the content, size) of chunks, up to the first one that reaches beyond the file.

    Args:
        at, end: position of the first chunk, and the file's size.
        order: format of a size for `struct`.
        name: bytes of a name.
        even: number of bytes to a multiple of which chunks are padded.
    """
    header = name + struct.calcsize(order)
    included = header if name == 16 else 0  # the part of the header that a size includes
    while at + header <= end:
        file.seek(at)
        head = file.read(header)
        length = struct.unpack(order, head[name:])[0]
        yield head[:4], at + header, length
        if length < included:
            return
        at += header - included + length
        at += -at % even


def _summed(
    file: BinaryIO, chunks: Iterator[tuple[bytes, int, int]] | list[tuple[bytes, int, int]], name: bytes, size: int
) -> Container:
    """Return a file's length from its chunks, of which the one called `name` holds the samples."""
    others, missing, endless = list[str](), 0, False
    for chunk, begin, length in chunks:
        if chunk == name:
            # A size of 0 before further bytes was never filled in by the program that wrote the file.
            endless = length in (_UNKNOWN, -1, 2**64 - 1) or (length == 0 and size > begin)
            missing = 0 if endless else max(0, begin + length - size)
        elif chunk == b"LIST":
            file.seek(begin)
            others += [] if file.read(4) == b"INFO" else ["LIST"]
        elif chunk not in _PLAIN and size - begin >= length:
            others.append(chunk.decode("latin-1").strip())
        if endless:
            break  # the rest of the file is samples
    return Container(missing, endless, others=tuple(dict.fromkeys(others)))
