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
        kind, where = told["kind"], told["where"]
        if given is not None:
            self._read = given.read
        elif kind in _READERS:
            self._read = _READERS[kind]()
        elif where:
            self._read = open_pictures(where).read
        else:
            what = {"array": "an array", "dataset": "a data set"}.get(kind, kind)
            raise ScanError(
                f"index: {what} in memory was scanned, which no file tells how to open. Pass it: "
                "unconv.Index(folder, pictures=pictures)."
            )

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
