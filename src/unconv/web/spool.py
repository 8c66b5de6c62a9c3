"""Store tiles in one file: appended as they come, read in any order. A killed run continues after its last complete tile."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any

import numpy as np

from unconv.errors import WriteError
from unconv.files.file import said_in_words
from unconv.files.lock import lock
from unconv.web.tiles import Tile

_HEADER = struct.Struct("<III")  # the lengths of the JSON text and of the samples, and the CRC-32 of both
Key = tuple[Any, ...]
"""A tile's key: strings and numbers."""


class Spool:
    """The tiles of one site, by their keys.

    Args:
        path: the file, which is created, or taken over from an earlier run, and locked.
        run: what the tiles belong to; the tiles of anything else are deleted.

    Raises:
        WriteError: another process is writing the file, or it cannot be written.
    """

    def __init__(self, path: Path, run: str) -> None:
        self._path, self._reading = path, Lock()
        with said_in_words(path):
            self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        if not lock(self._file.fileno()):
            self._file.close()
            raise WriteError(f"write: another process is writing {path.parent}. Wait until it ends, or choose another folder.")
        self._records_by_key: dict[Key, tuple[int, int, dict[str, Any]]] = {}
        try:
            self._take_over(run)
        except BaseException:
            self._file.close()
            raise

    def _take_over(self, run: str) -> None:
        """Read the records in the file, and cut off an incomplete one, or all if they belong to another run."""
        end = 0
        for key, start, size, words in self._records():
            if end == 0 and key != ("run", run):
                break
            self._records_by_key[key], end = (start, size, words), start + size
        self._file.seek(end)
        self._file.truncate()
        if end == 0:
            self.put(("run", run), None)

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self._file.close()

    def __contains__(self, key: Key) -> bool:
        return key in self._records_by_key

    def put(self, key: Key, tile: Tile | None, **more: Any) -> None:
        """Append a tile, or None to record that there is none, with other facts about it."""
        words = dict(more)
        samples = b""
        if tile is not None:
            samples = tile.samples.tobytes()
            kind = (tile.samples.dtype.str, list(tile.samples.shape), list(tile.box), list(tile.frame), tile.step)
            words["tile"] = kind
        text = json.dumps([key, words]).encode()
        checksum = zlib.crc32(samples, zlib.crc32(text))
        with said_in_words(self._path):
            self._file.seek(0, os.SEEK_END)
            start = self._file.tell() + _HEADER.size + len(text)
            self._file.write(_HEADER.pack(len(text), len(samples), checksum) + text + samples)
        self._records_by_key[key] = (start, len(samples), words)

    def words(self, key: Key) -> dict[str, Any]:
        """Return the other facts about a tile."""
        return self._records_by_key[key][2]

    def get(self, key: Key) -> Tile | None:
        """Return a tile; None if there is none."""
        start, size, words = self._records_by_key[key]
        if "tile" not in words:
            return None
        dtype, shape, box, frame, step = words["tile"]
        with self._reading:
            self._file.seek(start)
            samples = np.frombuffer(self._file.read(size), dtype).reshape(shape)
        return Tile(samples, tuple(box), (frame[0], frame[1]), step)

    def flush(self) -> None:
        """Pass everything written to the system, so that it survives if this process is killed."""
        with said_in_words(self._path):
            self._file.flush()

    def _records(self) -> Iterator[tuple[Key, int, int, dict[str, Any]]]:
        """Yield (key, offset of the samples, their bytes, facts) of each complete record, up to the first incomplete one."""
        self._file.seek(0)
        while len(header := self._file.read(_HEADER.size)) == _HEADER.size:
            text_length, size, checksum = _HEADER.unpack(header)
            if text_length > 2**24 or size > 2**28:
                return
            text, samples = self._file.read(text_length), self._file.read(size)
            if len(samples) < size or zlib.crc32(samples, zlib.crc32(text)) != checksum:
                return
            key, words = json.loads(text)
            yield tuple(key), self._file.tell() - size, size, words
