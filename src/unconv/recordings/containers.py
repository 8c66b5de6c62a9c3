"""What the headers of a sound file promise, and whether the file holds it: libsndfile says nothing of one that is cut off."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_UNKNOWN = 0xFFFFFFFF  # the size that a program writes which does not know how long its stream will be
_PAGE = 2**16 + 512  # bytes of an Ogg page, at most
# Chunks that a result has of itself, and those of texts, which are carried over.
_PLAIN = {b"fmt ", b"data", b"fact", b"PEAK", b"JUNK", b"junk", b"PAD ", b"ds64", b"FLLR", b"COMM", b"SSND", b"FVER"}
_PLAIN |= {b"NAME", b"AUTH", b"ANNO", b"(c) ", b"APPL", b"desc", b"info", b"free", b"peak", b"kuki", b"pakt"}
_W64 = bytes.fromhex("2e91cf11a5d628db04c10000")  # the rest of the GUID that begins with "riff"


@dataclass(frozen=True)
class Container:
    """What a file's headers say of its length.

    Attributes:
        missing: bytes of samples that the headers promise and the file lacks.
        endless: the headers do not say a length, as those of a stream.
        last_page: False where an Ogg stream lacks the page that ends it.
        others: names of chunks that are not carried into a result, such as "bext" or "cue".
    """

    missing: int = 0
    endless: bool = False
    last_page: bool = True
    others: tuple[str, ...] = ()


def container(path: Path) -> Container:
    """Read the headers of WAV, RF64, W64, AIFF, AU and CAF files, and the end of Ogg; of others nothing is known."""
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
            at, held = struct.unpack(">II", start[4:12])
            return Container(endless=True) if held == _UNKNOWN else Container(max(0, at + held - size))
        if start[:4] == b"caff":
            return _summed(file, _chunks(file, 8, size, ">q", 4, 1), b"data", size)
        if start[:4] == b"OggS":
            file.seek(max(0, size - _PAGE))
            return _last_page(file.read())
    return Container()


def speaker_mask(path: Path) -> tuple[int, bytes] | None:
    """Return where an extensible WAV says which loudspeakers its channels are for, and the 4 bytes there; None of others."""
    with path.open("rb") as file:
        start, size = file.read(12), path.stat().st_size
        if start[:4] != b"RIFF" or start[8:] != b"WAVE":
            return None
        for name, at, held in _chunks(file, 12, size, "<I", 4, 2):
            if name == b"fmt " and held >= 40:
                file.seek(at)
                content = file.read(24)
                return (at + 20, content[20:]) if content[:2] == b"\xfe\xff" else None
            if name == b"data":
                return None
    return None


def _last_page(end: bytes) -> Container:
    """Judge an Ogg stream by its last page: 27 bytes, a table of as many sizes as byte 26 says, and what they add up to."""
    page = end[end.rfind(b"OggS") :]
    if len(page) < 28:
        return Container(last_page=False)
    sizes = page[27 : 27 + page[26]]
    return Container(max(0, 27 + page[26] + sum(sizes) - len(page)), last_page=bool(page[5] & 4))


def _riff(file: BinaryIO, start: bytes, size: int) -> Container:
    chunks = list(_chunks(file, 12, size, ">I" if start[:4] == b"RIFX" else "<I", 4, 2))
    if start[:4] == b"RF64" and start[12:16] == b"ds64" and len(start) >= 36:
        held = struct.unpack("<Q", start[28:36])[0]
        chunks = [(name, at, held if name == b"data" else said) for name, at, said in chunks]
    return _summed(file, chunks, b"data", size)


def _wave64(file: BinaryIO, size: int) -> Container:
    # Sizes count the chunk's own 24 bytes of header.
    return _summed(file, [(n, at, held - 24) for n, at, held in _chunks(file, 40, size, "<Q", 16, 8)], b"data", size)


def _chunks(file: BinaryIO, at: int, end: int, order: str, name: int, even: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, where its content begins, size) of chunks, up to the first one that reaches beyond the file.

    Args:
        order: of a size, as `struct` has it. `name`: bytes of a name. `even`: what chunks are padded to.
    """
    header = name + struct.calcsize(order)
    own = header if name == 16 else 0  # what of the header a size counts
    while at + header <= end:
        file.seek(at)
        head = file.read(header)
        held = struct.unpack(order, head[name:])[0]
        yield head[:4], at + header, held
        if held < own:
            return
        at += header - own + held
        at += -at % even


def _summed(
    file: BinaryIO, chunks: Iterator[tuple[bytes, int, int]] | list[tuple[bytes, int, int]], name: bytes, size: int
) -> Container:
    others, missing, endless = list[str](), 0, False
    for found, at, held in chunks:
        if found == name:
            # A size of 0 with bytes behind it was never set by whoever wrote the file.
            endless = held in (_UNKNOWN, -1, 2**64 - 1) or (held == 0 and size > at)
            missing = 0 if endless else max(0, at + held - size)
        elif found == b"LIST":
            file.seek(at)
            others += [] if file.read(4) == b"INFO" else ["LIST"]
        elif found not in _PLAIN and size - at >= held:
            others.append(found.decode("latin-1").strip())
        if endless:
            break  # what follows are samples
    return Container(missing, endless, others=tuple(dict.fromkeys(others)))
