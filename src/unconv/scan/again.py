"""Read a picture of a finished scan again, and know whether it is still the same."""

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
    """Reads pictures of a scan by their entries.

    Args:
        folder: of the scan.
        given: the pictures, if they were handed over again; None: where the scan found them.

    Raises:
        ScanError: they were in memory only, and were not handed over.
    """

    def __init__(self, folder: Path, given: Pictures | None) -> None:
        _, told = known_list(folder)
        if given is not None:
            self._read = given.read
            return
        found = reader_of(told["kind"], told["where"])
        if found is None:
            raise ScanError(
                f"index: {in_memory(told['kind'])} was scanned, which no file tells how to open. Pass it: "
                "unconv.Index(folder, pictures=pictures)."
            )
        self._read = found

    def read(self, entry: Entry, content: int) -> Any:
        """Return a picture, an array or a tensor.

        Args:
            content: its hash in the scan.

        Raises:
            PictureError: it cannot be read, or is another one now.
        """
        found = self._read(entry)
        now = content_hash(found)
        if now and content and now != content:
            raise PictureError(
                f"index: {entry.key} has changed since it was scanned, so that it is not what its units responded to. "
                "Put the old one back, or scan again."
            )
        return content_of(found, entry.key)


def reader_of(kind: str, where: str) -> Callable[[Entry], Any] | None:
    """Return what reads pictures of a kind, in any process; None of those in memory only.

    Args:
        where: what was named, as `Pictures.where`.
    """
    if kind in _READERS:
        return _READERS[kind]()
    return open_pictures(where).read if where else None


def in_memory(kind: str) -> str:
    """Return in words what was in memory."""
    return {"array": "an array in memory", "dataset": "a data set in memory"}.get(kind, f"a {kind} in memory")
