"""A file of tiles, appended to as they come, and read at random: a run that was killed goes on behind its last whole one."""

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

_HEAD = struct.Struct("<III")  # lengths of the words and of the samples, and the check sum of both
Key = tuple[Any, ...]
"""What a tile is: strings and numbers."""


class Spool:
    """The tiles of one run, by their keys.

    Args:
        path: of the file; it is made, or taken over from a run that has ended, and locked.
        run: what the tiles are of; those of another run are thrown away.

    Raises:
        WriteError: another process writes it, or it cannot be written.
    """

    def __init__(self, path: Path, run: str) -> None:
        self._path, self._reading = path, Lock()
        with said_in_words(path):
            self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        if not lock(self._file.fileno()):
            self._file.close()
            raise WriteError(f"write: another process is writing {path.parent}. Wait until it ends, or choose another folder.")
        self._found: dict[Key, tuple[int, int, dict[str, Any]]] = {}
        try:
            self._take_over(run)
        except BaseException:
            self._file.close()
            raise

    def _take_over(self, run: str) -> None:
        """Read what is there, and cut off what is torn, or of another run."""
        end = 0
        for key, start, size, words in self._records():
            if end == 0 and key != ("run", run):
                break
            self._found[key], end = (start, size, words), start + size
        self._file.seek(end)
        self._file.truncate()
        if end == 0:
            self.put(("run", run), None)

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self._file.close()

    def __contains__(self, key: Key) -> bool:
        return key in self._found

    def put(self, key: Key, tile: Tile | None, **more: Any) -> None:
        """Append a tile, or that there is none, and what else is known of it."""
        words = dict(more)
        samples = b""
        if tile is not None:
            samples = tile.samples.tobytes()
            kind = (tile.samples.dtype.str, list(tile.samples.shape), list(tile.box), list(tile.frame), tile.step)
            words["tile"] = kind
        text = json.dumps([key, words]).encode()
        check = zlib.crc32(samples, zlib.crc32(text))
        with said_in_words(self._path):
            self._file.seek(0, os.SEEK_END)
            start = self._file.tell() + _HEAD.size + len(text)
            self._file.write(_HEAD.pack(len(text), len(samples), check) + text + samples)
        self._found[key] = (start, len(samples), words)

    def words(self, key: Key) -> dict[str, Any]:
        """Return what else is known of a tile."""
        return self._found[key][2]

    def get(self, key: Key) -> Tile | None:
        """Return a tile; None where there is none."""
        start, size, words = self._found[key]
        if "tile" not in words:
            return None
        dtype, shape, box, frame, step = words["tile"]
        with self._reading:
            self._file.seek(start)
            samples = np.frombuffer(self._file.read(size), dtype).reshape(shape)
        return Tile(samples, tuple(box), (frame[0], frame[1]), step)

    def flush(self) -> None:
        """Hand everything to the system: it is there then though this process is killed."""
        with said_in_words(self._path):
            self._file.flush()

    def _records(self) -> Iterator[tuple[Key, int, int, dict[str, Any]]]:
        """Yield (key, where its samples begin, their bytes, words) of every whole record, up to the first that is not."""
        self._file.seek(0)
        while len(head := self._file.read(_HEAD.size)) == _HEAD.size:
            long, size, check = _HEAD.unpack(head)
            if long > 2**24 or size > 2**28:
                return
            text, samples = self._file.read(long), self._file.read(size)
            if len(samples) < size or zlib.crc32(samples, zlib.crc32(text)) != check:
                return
            key, words = json.loads(text)
            yield tuple(key), self._file.tell() - size, size, words
