"""Lists of pictures, each of which can be read again by itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .gif .bmp .dib .tif .tiff .webp .avif .jp2 .j2k .jpx .ppm .pgm .pbm .pnm .npy".split()
)
"""The endings of picture and array files; how a file is read depends only on its content."""


class Entry(NamedTuple):
    """The location of a picture.

    Args:
        key: its name, different from all others.
        source: the file that holds it; "" if it is not in a file.
        offset, length: in bytes in that file; in a table or a stack, its row and -1.
        label: its class; None if it is not known.
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
        where: the name by which the list can be opened again; "" if it is only in memory.
        entries: the location of each picture.
        read: returns the picture of an entry: the content of its file, an array, a PIL picture or a tensor.
        faults: sentences on pictures that are known to be lost.
        left_out: the number of files that are not pictures.
        one_at_a_time: whether only one thread may read at a time.
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
    """Return the SHA-256 of some entries, without their paths, so that a data set can be moved."""
    rows = [[entry.key, entry.offset, entry.length, entry.label] for entry in entries]
    return hashlib.sha256(json.dumps(rows, ensure_ascii=True).encode()).hexdigest()


def is_picture(name: str) -> bool:
    """Return whether a file name is that of a picture or an array, and not hidden."""
    last = name.rpartition("/")[2]
    dot = last.rfind(".")
    return dot > 0 and last[dot:].lower() in SUFFIXES
