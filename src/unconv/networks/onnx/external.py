"""Weights that an ONNX file keeps in files beside it: read only from its own folder, and never more than is there.

A name in a model file cannot be trusted. It could refer to any file of the machine, by a path, a symbolic or a hard link, or
to a device that never ends; and it could ask for more memory than the file has bytes.
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
        self.samples: dict[tuple[str, int, int], np.ndarray] = {}
        self.unread: dict[str, int] = {}  # bytes of each file that no tensor has used yet

    def read(self, tensor: str, entries: Mapping[str, str], size: int) -> np.ndarray:
        """Return the `size` bytes of a tensor's samples.

        Raises:
            WeightsError: they are outside the folder, or too few or too many, or shared in part with other tensors.
        """
        location = entries.get("location", "")
        offset, length = (self._number(tensor, entries.get(name)) for name in ("offset", "length"))
        start = offset or 0
        if length is not None and length != size:
            raise self._refusal(tensor, f"has {length:,} bytes in {location!r}, but its shape and type need {size:,}")
        # The resolved path identifies a file, which may be spelled in many ways and reached by links.
        path = self._path(tensor, location)
        key = (str(path), start, size)
        if key not in self.samples:
            self.samples[key] = self._read(tensor, location, path, start, size)
        return self.samples[key]

    def _read(self, tensor: str, location: str, path: Path, start: int, size: int) -> np.ndarray:
        try:
            # Open first and check the descriptor: the name may point elsewhere a moment later. Do not block on a pipe.
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
        except OSError as error:
            raise self._refusal(tensor, f"is in {location!r}, which cannot be opened ({error.strerror})") from error
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_nlink > 1:
            os.close(descriptor)
            fault = "has a second name (a hard link)" if stat.S_ISREG(facts.st_mode) else "is no regular file"
            raise self._refusal(tensor, f"is in {location!r}, which {fault}; put a copy of it beside the model")
        with os.fdopen(descriptor, "rb") as file:
            # Together no larger than the file: many tensors over the same bytes would take any amount of memory.
            unread = self.unread.setdefault(str(path), facts.st_size)
            if start + size > facts.st_size:
                raise self._refusal(
                    tensor, f"needs {size:,} bytes from {start:,} on, but {location!r} ends at {facts.st_size:,}"
                )
            if size > unread:
                raise self._refusal(
                    tensor, f"shares bytes of {location!r} with other tensors, which together are larger than the file"
                )
            self.unread[str(path)] = unread - size
            samples = np.empty(size, np.uint8)
            file.seek(start)
            if file.readinto(samples.data) != size:
                raise self._refusal(tensor, f"is in {location!r}, which ended while it was being read")
        return samples

    def _path(self, tensor: str, location: str) -> Path:
        plain = Path(location)
        is_relative = (
            location and "\0" not in location and not plain.is_absolute() and ".." not in plain.parts and "\\" not in location
        )
        path = Path(os.path.realpath(self.folder / location)) if is_relative else None
        if path is None or self.folder not in path.parents:
            raise self._refusal(tensor, f"is in {location!r}, which is not a file in the model's own folder")
        return path

    def _number(self, tensor: str, text: str | None) -> int | None:
        if text is None:
            return None
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise self._refusal(tensor, f"has the offset or length {text!r}, but a number of bytes was needed")
        return int(text)

    def _refusal(self, tensor: str, why: str) -> WeightsError:
        return WeightsError(
            f"load: {self.model}: the tensor {tensor!r} {why}. Its data files are missing or damaged. Get them again."
        )
