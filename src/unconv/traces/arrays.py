"""Traces along the last axis of an .npy file, which is mapped into memory instead of read at once."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from unconv.errors import TraceError, counted
from unconv.traces.file import MOST, Block, TraceFile, Values, floating, floating_type, to_file_type

_MAGIC = b"\x93NUMPY"
_PIECE = 2**20  # samples that are converted at one time


def is_npy(start: bytes) -> bool:
    """Return whether a file begins like .npy."""
    return start.startswith(_MAGIC)


class ArrayFile(TraceFile):
    """An .npy file of integers or floats, of either byte order, in C or Fortran order."""

    kind = "npy"

    def __init__(self, path: Path, rate: float | None) -> None:
        self.path, self.rate = path, rate
        array = _mapped(path)
        self._dtype, self._offset, self.shape = array.dtype, array.offset, array.shape
        self._order: Literal["C", "F"] = "C" if array.flags.c_contiguous else "F"
        self.count = math.prod(self.shape[:-1])
        if self._dtype.kind != "f":
            written = floating_type(self._dtype).name
            self.notes = (f"its samples are {self._dtype.name}; a result is written as {written}",)
        self._file = path.open("rb")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def length(self, trace: int) -> int:
        """Return the number of samples in one trace."""
        return self.shape[-1]

    def trace_name(self, trace: int) -> str:
        """Return "trace 17", or "trace (3, 17)" for an array of three axes."""
        lead = self.shape[:-1]
        return f"trace {trace if len(lead) < 2 else tuple(map(int, np.unravel_index(trace, lead)))}"

    def blocks(self, most: int = MOST) -> Iterator[Block]:
        """Yield all traces, the last of the leading axes fastest: see `TraceFile.blocks`."""
        step = max(1, most // self.shape[-1])
        for first in range(0, self.count, step):
            index = _index(self.shape, first, min(step, self.count - first))
            yield Block(first, floating(np.array(_rows(self._array())[index]), self.path))

    def target(self, partial: Path) -> _ArrayTarget:
        """Return a `Target` in a copy of the file, with its samples as floats."""
        native = floating_type(self._dtype)
        if self._dtype.kind == "f" and self._dtype.itemsize == native.itemsize:
            with self.path.open("rb") as source, partial.open("r+b") as file:
                shutil.copyfileobj(source, file, 2**20)
        else:
            self._convert(partial, native)
        return _ArrayTarget(partial)

    def _array(self) -> Values:
        """Map the file into memory anew, so that the pages of earlier blocks can be freed."""
        try:
            return np.memmap(self._file, self._dtype, "r", self._offset, self.shape, self._order)
        except (OSError, ValueError) as error:
            raise TraceError(
                f"open_traces: {self.path} can no longer be read: {error}. Do not change it while it is open."
            ) from error

    def _convert(self, partial: Path, dtype: np.dtype[Any]) -> None:
        """Write the array as floats, in the order of the file."""
        # All bytes are written before mapping: on a full disk, writing to a hole of a mapped file kills the process.
        header = {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": self._order == "F",
            "shape": self.shape,
        }
        with partial.open("r+b") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for first in range(0, math.prod(self.shape), _PIECE):
                array = self._array()
                flat = (array.T if self._order == "F" else array).reshape(-1)  # in the order of the file
                file.write(floating(flat[first : first + _PIECE], self.path).tobytes())


class _ArrayTarget:
    def __init__(self, partial: Path) -> None:
        self._partial = partial

    def put(self, first: int, values: Values) -> None:
        array = np.lib.format.open_memmap(self._partial, mode="r+")  # mapped anew, as for reading
        _rows(array)[_index(array.shape, first, len(values))] = to_file_type(values, array.dtype)
        array.flush()

    def finish(self) -> None:
        """Do nothing: everything is written already."""

    def close(self) -> None:
        """Do nothing: no file is open."""


def _mapped(path: Path) -> np.memmap[Any, Any]:
    try:
        array: np.memmap[Any, Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy evaluates the header, which can raise any exception
        raise TraceError(
            f"open_traces: {path} is not an array that can be read: {error}. Save numbers with numpy.save."
        ) from error
    if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
        raise TraceError(f"open_traces: {path} holds {array.dtype.name}, but integers or floats were needed. Convert it.")
    if array.ndim == 0 or array.size == 0:
        raise TraceError(
            f"open_traces: {path} has shape {array.shape}, but (..., n) with samples was needed. Save an array of traces."
        )
    extra = path.stat().st_size - array.offset - array.nbytes
    if extra:
        raise TraceError(f"open_traces: {path} has {counted(extra, 'byte')} after its array. Save one array in each file.")
    return array


def _rows(array: Values) -> Values:
    return array if array.ndim > 1 else array[None]


def _index(shape: tuple[int, ...], first: int, count: int) -> Any:
    """Return the index of consecutive traces in an array of any number of axes."""
    if len(shape) < 3:
        return slice(first, first + count)
    return np.unravel_index(np.arange(first, first + count), shape[:-1])
