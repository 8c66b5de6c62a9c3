"""A file of traces: the interface that all file kinds share, and the writer of results."""

from __future__ import annotations

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from unconv.errors import DtypeError, NonFinite, ShapeError, TraceError, UnconvError, WriteError, counted
from unconv.files import said_in_words, whole_file

Values = np.ndarray[Any, Any]

MOST = 4 * 2**20  # samples of a block
_EXACT_INTEGERS = 2**53  # float64 holds every integer up to here


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive traces of one length.

    Attributes:
        first: index of the first trace in the file, from 0.
        values: (n, samples), float32 if that is exact, else float64.
    """

    first: int
    values: Values


class Target(Protocol):
    """Receives the results of one file kind. Its arguments have been checked."""

    def put(self, first: int, values: Values) -> None:
        """Replace the samples of consecutive traces."""

    def finish(self) -> None:
        """Write the results that are still in memory."""

    def close(self) -> None:
        """Close the file, finished or not."""


class TraceFile(ABC):
    """An open file of traces, closed by `close` or at the end of a `with` block.

    Attributes:
        path: the file.
        kind: "SEG-Y", "miniSEED", "SAC" or "npy".
        count: number of traces.
        rate: samples per second of all traces; None for an .npy file that was opened without a rate.
        start: seconds of the first sample: the delay recording time of SEG-Y, otherwise 0.
        units: of the samples; "" if the file does not say.
        notes: remarks on the file, such as IBM floats, byte order or traces of several lengths.
        shape: of the array in an .npy file, with traces along the last axis; for other kinds (count, samples), or (count,) if
            the traces have several lengths.
    """

    kind: str
    path: Path
    count: int
    rate: float | None
    start: float = 0.0
    units: str = ""
    notes: tuple[str, ...] = ()
    shape: tuple[int, ...]

    def __enter__(self) -> TraceFile:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027  # most kinds have nothing open
        """Close the file."""

    @abstractmethod
    def length(self, trace: int) -> int:
        """Return the number of samples in one trace."""

    @abstractmethod
    def trace_name(self, trace: int) -> str:
        """Return the name of a trace by its index, such as "inline 1155, crossline 1200"."""

    @abstractmethod
    def blocks(self, most: int = MOST) -> Iterator[Block]:
        """Yield all traces in the order of the file, in blocks of one length.

        Args:
            most: largest number of samples in a block; a longer trace is a block of its own.

        Raises:
            TraceError: the file can no longer be read, or an integer is beyond 2**53, where float64 is not exact.
        """

    @abstractmethod
    def target(self, partial: Path) -> Target:
        """Return a `Target` that writes a file of this kind, with the same headers, into the empty file `partial`."""

    @contextmanager
    def rewritten(self, out: str | Path) -> Iterator[Writer]:
        """Write a copy of this file with new samples. It appears, complete, at the end of the `with` block, or not at all.

        Headers, order and shape are kept, as are the samples of traces that are not replaced. SEG-Y and SAC are copied byte by
        byte, except the samples and, in SAC, the header's minimum, maximum and mean. Records of miniSEED are written anew:
        network, station, location, channel, times, record length and byte order are kept, and samples become FLOAT32 or
        FLOAT64 as in `blocks`; other contents of a record, such as its timing quality, are lost. Integers of .npy become
        floats too.

        Raises:
            WriteError: `out` is this file, or cannot be written.
        """
        out = Path(out)
        refuse_itself(self.path, out)
        with whole_file(out) as partial:
            with said_in_words(out):
                target = self.target(partial)
            try:
                yield Writer(self, out, target)
                with said_in_words(out):
                    target.finish()
            finally:
                target.close()


class Writer:
    """Writes the samples of a new file, opened by `TraceFile.rewritten`."""

    def __init__(self, file: TraceFile, out: Path, target: Target) -> None:
        self._file, self._out, self._target = file, out, target

    def put(self, first: int, values: Values) -> None:
        """Replace the samples of consecutive traces. NaN and infinity are written if the format has them.

        Args:
            first: index of the first of these traces, as in `Block`.
            values: (n, samples), as in `blocks`.

        Raises:
            ShapeError: values of another length than the file's traces, or beyond its last trace.
            DtypeError: values that are not real numbers, or not integers in range for a file of integers.
            NonFinite: a sample too large for the file's floats, or NaN or infinity for IBM floats, which have neither.
            WriteError: the disk is full, or another error of the system.
        """
        values = np.asarray(values)
        if values.dtype.kind not in "fiu":
            raise DtypeError(f"put: values are {values.dtype}, but real numbers were needed. Convert them.")
        fits = values.ndim == 2 and len(values) > 0 and 0 <= first <= self._file.count - len(values)
        lengths = {self._file.length(trace) for trace in range(first, first + len(values))} if fits else set()
        if lengths != {values.shape[-1] if values.ndim else 0}:
            wanted = " or ".join(map(str, sorted(lengths))) or "samples"
            raise ShapeError(
                f"put: values are {values.shape} from trace {first} on, but (n, {wanted}) within the "
                f"{counted(self._file.count, 'trace')} was needed. Put the blocks' own shapes."
            )
        with said_in_words(self._out):
            self._target.put(first, values)


def refuse_itself(path: Path, out: Path) -> None:
    """Refuse to overwrite the input file, also under another name or through a link.

    Raises:
        WriteError: both are one file.
    """
    with said_in_words(out):
        same = os.path.realpath(path) == os.path.realpath(out) or (out.exists() and os.path.samefile(path, out))
    if same:
        raise WriteError(f"write: {out} is the input file, which is never overwritten. Choose another name.")


def floating(values: Values, path: Path) -> Values:
    """Return samples as float32 if that is exact, else as float64, in the machine's byte order.

    Raises:
        TraceError: an integer is beyond 2**53.
    """
    if (
        values.dtype.kind in "iu"
        and values.dtype.itemsize == 8
        and ((values > _EXACT_INTEGERS) | (values < -_EXACT_INTEGERS)).any()
    ):
        raise TraceError(f"open_traces: {path} holds integers beyond 2**53, where float64 is not exact. Scale them first.")
    return np.asarray(values, dtype=floating_type(values.dtype))


def floating_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the float type that holds every value of `dtype`; float32 has room for 24 bits of an integer."""
    return np.dtype(np.float64 if dtype.itemsize > (4 if dtype.kind == "f" else 2) else np.float32)


def to_file_type(values: Values, dtype: np.dtype[Any]) -> Values:
    """Return samples in the float type of a file.

    Raises:
        NonFinite: a finite sample is too large for that type.
    """
    with np.errstate(over="ignore"):
        result = np.ascontiguousarray(values, dtype=dtype)
    beyond = int((np.isinf(result) & np.isfinite(values)).sum()) if result.dtype.itemsize < values.dtype.itemsize else 0
    if beyond:
        raise NonFinite(
            f"put: samples are beyond {np.finfo(dtype).max:.3g}, the largest {dtype.name} of the file ({beyond} of "
            f"{values.size}). Scale them."
        )
    return result


def agreed_rate(path: Path, header_rate: float, rate: float | None) -> tuple[float, tuple[str, ...]]:
    """Return the caller's rate if there is one, else the header's, and a note if they differ."""
    if rate is None or rate == header_rate:
        return header_rate, ()
    return rate, (f"{path.name} says {header_rate:.9g} samples per second, but {rate:.9g} was passed and is used",)


def library(name: str) -> Any:
    """Return the module that reads a kind of file: obspy or segyio.

    Raises:
        UnconvError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations in the modules that it imports
            return import_module(name)
    except ImportError as error:
        raise UnconvError(
            f'open_traces: {name} cannot be imported ({error}). Install it with pip install "unconv[seismic]".'
        ) from error
