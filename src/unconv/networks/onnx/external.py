"""Weights that an ONNX file keeps in files beside it: read from its own folder only, and no more than is there.

A name in a model file is not to be trusted. It could point at any file of the machine, by a path, a link or a second
name of one, or at a device that never ends; and it could ask for more memory than the file holds.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from unconv.errors import WeightsError


class DataFiles:
    """The data files beside one model file.

    Args:
        model: the model file.
    """

    def __init__(self, model: Path):
        self.model = model
        self.folder = Path(os.path.realpath(model.parent))
        self.taken: dict[tuple[str, int, int], np.ndarray] = {}
        self.left: dict[str, int] = {}  # bytes of each file that no tensor has had yet

    def read(self, tensor: str, entries: Mapping[str, str], size: int) -> np.ndarray:
        """`size` bytes, the samples of a tensor.

        Raises:
            WeightsError: they lie outside the folder, or are not that many, or several tensors share them in part.
        """
        location = entries.get("location", "")
        offset, length = (self._number(tensor, entries.get(name)) for name in ("offset", "length"))
        start = offset or 0
        if length is not None and length != size:
            raise self._refusal(tensor, f"has {length:,} bytes in {location!r}, but its shape and type need {size:,}")
        # A file is known by where it lies: it may be spelled in many ways, and links may lead to it.
        path = self._path(tensor, location)
        key = (str(path), start, size)
        if key not in self.taken:
            self.taken[key] = self._read(tensor, location, path, start, size)
        return self.taken[key]

    def _read(self, tensor: str, location: str, path: Path, start: int, size: int) -> np.ndarray:
        try:
            # Check the file that was opened, whatever the name stands for a moment later, and do not block on a pipe.
            number = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
        except OSError as error:
            raise self._refusal(
                tensor, f"is in {location!r}, which cannot be opened ({error.strerror}): its data files are missing"
            ) from error
        facts = os.fstat(number)
        if not stat.S_ISREG(facts.st_mode) or facts.st_nlink > 1:
            os.close(number)
            kind = "has a second name (a hard link)" if stat.S_ISREG(facts.st_mode) else "is no regular file"
            raise self._refusal(tensor, f"is in {location!r}, which {kind}; put a copy of it beside the model")
        with os.fdopen(number, "rb") as opened:
            left = self.left.setdefault(str(path), facts.st_size)
            if start + size > facts.st_size:
                raise self._refusal(
                    tensor, f"needs {size:,} bytes from {start:,} on, but {location!r} ends at {facts.st_size:,}"
                )
            if size > left:
                raise self._refusal(
                    tensor, f"shares bytes of {location!r} with other tensors, which together are more than it holds"
                )
            self.left[str(path)] = left - size
            made = np.empty(size, np.uint8)
            opened.seek(start)
            if opened.readinto(made.data) != size:
                raise self._refusal(tensor, f"is in {location!r}, which ended while it was read")
        return made

    def _path(self, tensor: str, location: str) -> Path:
        plain = Path(location)
        named = (
            location and "\0" not in location and not plain.is_absolute() and ".." not in plain.parts and "\\" not in location
        )
        path = Path(os.path.realpath(self.folder / location)) if named else None
        if path is None or self.folder not in path.parents:
            raise self._refusal(tensor, f"is in {location!r}, which is not a file in the model's own folder")
        return path

    def _number(self, tensor: str, text: str | None) -> int | None:
        if text is None:
            return None
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise self._refusal(tensor, f"lies at {text!r}, but a number of bytes was needed")
        return int(text)

    def _refusal(self, tensor: str, why: str) -> WeightsError:
        return WeightsError(
            f"load: {self.model}: the tensor {tensor!r} {why}. Its data files are missing or damaged: get them again."
        )
