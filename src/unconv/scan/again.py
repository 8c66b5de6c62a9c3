"""Read a picture of a finished scan again, and check that it is still the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from unconv.errors import PictureError, ScanError
from unconv.scan.folders import read_file
from unconv.scan.listed import Entry, Pictures
from unconv.scan.opening import open_pictures
from unconv.scan.parquet_files import parquet_reader
from unconv.scan.reading import content_hash, content_of
from unconv.scan.run import known_list
from unconv.scan.tars import read_member

_READERS: dict[str, Callable[[], Callable[[Entry], Any]]] = {
    "folder": lambda: read_file,
    "list of paths": lambda: read_file,
    "list file": lambda: read_file,
    "tar": lambda: read_member,
    "parquet": parquet_reader,
}


class Reader:
    """Read pictures of a scan by their entries.

    Args:
        folder: the folder of the scan.
        given: the pictures, if the user passed them again; with None they are read where the scan found them.

    Raises:
        ScanError: the pictures were only in memory, and were not passed again.
    """

    def __init__(self, folder: Path, given: Pictures | None) -> None:
        _, origin = known_list(folder)
        if given is not None:
            self._read = given.read
            return
        read = reader_of(origin["kind"], origin["where"])
        if read is None:
            raise ScanError(
                f"index: {in_memory(origin['kind'])} was scanned, which no file tells how to open. Pass it: "
                "unconv.Index(folder, pictures=pictures)."
            )
        self._read = read

    def read(self, entry: Entry, content: int) -> Any:
        """Return a picture, an array or a tensor.

        Args:
            content: the picture's hash in the scan; 0 if it had none.

        Raises:
            PictureError: the picture cannot be read, or has changed.
        """
        content_now = self._read(entry)
        hash_now = content_hash(content_now)
        if hash_now and content and hash_now != content:
            raise PictureError(
                f"index: {entry.key} has changed since it was scanned, so that it is not what its units responded to. "
                "Put the old one back, or scan again."
            )
        return content_of(content_now, entry.key)


def reader_of(kind: str, where: str) -> Callable[[Entry], Any] | None:
    """Return a function that reads pictures of a kind in any process; None for pictures that are only in memory.

    Args:
        where: as in `Pictures`.
    """
    if kind in _READERS:
        return _READERS[kind]()
    return open_pictures(where).read if where else None


def in_memory(kind: str) -> str:
    """Return words for a list of pictures in memory."""
    return {"array": "an array in memory", "dataset": "a data set in memory"}.get(kind, f"a {kind} in memory")
