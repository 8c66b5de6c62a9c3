"""Numbered pictures that can be read again, each by itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .gif .bmp .dib .tif .tiff .webp .avif .jp2 .j2k .jpx .ppm .pgm .pbm .pnm .npy".split()
)
"""What the names of pictures, and of arrays, end with; what is in them decides how they are read."""


class Entry(NamedTuple):
    """Where a picture is.

    Args:
        key: its name, different from all others.
        source: the file that holds it; "" where it is in no file.
        offset, length: bytes in that file; or, in a table or a stack, its row and -1.
        label: its class; None if nothing tells.
    """

    key: str
    source: str
    offset: int
    length: int
    label: str | None


@dataclass(frozen=True)
class Pictures:
    """A list of pictures, in a fixed order.

    Args:
        kind: "folder", "tar" and so on.
        where: what was named, to be opened again; "" for what is only in memory.
        entries: of each, where it is.
        read: from a picture's number to the content of its file, an array, a PIL picture or a tensor.
        faults: pictures that are known to be lost, in words.
        left_out: how many files are no pictures.
        one_at_a_time: whether only one thread may read.
    """

    kind: str
    where: str
    entries: list[Entry]
    read: Callable[[Entry], Any]
    faults: tuple[str, ...] = ()
    left_out: int = 0
    one_at_a_time: bool = False

    def __len__(self) -> int:
        return len(self.entries)


def entries_hash(entries: Sequence[Entry]) -> str:
    """Return the sha256 of some entries, without what only says where the data set lies."""
    rows = [[entry.key, entry.offset, entry.length, entry.label] for entry in entries]
    return hashlib.sha256(json.dumps(rows, ensure_ascii=True).encode()).hexdigest()


def is_picture(name: str) -> bool:
    """Whether a file's name is that of a picture or an array, and not hidden."""
    last = name.rpartition("/")[2]
    dot = last.rfind(".")
    return dot > 0 and last[dot:].lower() in SUFFIXES
