"""A file of traces: what every kind has in common."""

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

from unconv.errors import DtypeError, NonFinite, ShapeError, TraceError, UnconvError, WriteError
from unconv.files import said_in_words, whole_file

Values = np.ndarray[Any, Any]

MOST = 4 * 2**20  # samples of a block
_WHOLE = 2**53  # the integers up to here are exact in float64


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive traces of one length.

    Attributes:
        first: the number of the first trace in the file, counted from 0.
        values: (n, samples), float32 where that is exact and float64 otherwise.
    """

    first: int
    values: Values


class Target(Protocol):
    """Where a kind of file takes its results; what it is given has been checked."""

    def put(self, first: int, values: Values) -> None:
        """Replace the samples of consecutive traces."""

    def finish(self) -> None:
        """Write what is not written yet."""

    def close(self) -> None:
        """Close the file, finished or not."""


class TraceFile(ABC):
    """An open file of traces; closed by `close`, or where the `with` that it stands in ends.

    Attributes:
        path: the file.
        kind: "SEG-Y", "miniSEED", "SAC" or "npy".
        count: traces in it.
        rate: samples per second of all traces; None where the file does not say (npy) and nobody else did.
        start: seconds of the first sample: the delay recording time of SEG-Y, else 0.
        units: of the samples; "" where the file does not say.
        notes: what a reader should know: IBM floats, byte order, traces of several lengths.
        shape: of an npy file, the traces along its last axis; elsewhere (count, samples), or (count,) where lengths differ.
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

    def close(self) -> None:  # noqa: B027  # most kinds hold nothing open
        """Close the file."""

    @abstractmethod
    def length(self, trace: int) -> int:
        """Return the samples of one trace."""

    @abstractmethod
    def trace_name(self, trace: int) -> str:
        """Return what a trace is called, such as "inline 1155, crossline 1200"; traces are counted from 0."""

    @abstractmethod
    def blocks(self, most: int = MOST) -> Iterator[Block]:
        """Give all traces in the order of the file.

        Args:
            most: samples of a block; a longer trace is a block of its own.

        Raises:
            TraceError: the file cannot be read any more, or an integer lies beyond 2**53, where float64 is not exact.
        """

    @abstractmethod
    def target(self, partial: Path) -> Target:
        """Return what takes results for a file like this one, which comes to stand in the empty file `partial`."""

    @contextmanager
    def rewritten(self, out: str | Path) -> Iterator[Writer]:
        """Write a file like this one with other samples, whole as the block ends or not at all.

        Headers, order and shape stay, and the samples of traces that nobody puts. SEG-Y and SAC are copied to the byte, except
        the samples and, in SAC, the header's own least, largest and mean sample. Records of miniSEED are made anew: network,
        station, location, channel, times, record length and byte order stay, samples become FLOAT32 or FLOAT64 as `blocks`
        gives them; what else a record says, such as how good its timing is, is lost. Integers of .npy become floats, too.

        Raises:
            WriteError: `out` is the file itself, or cannot be written.
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
    """Takes the samples of a file that is being written."""

    def __init__(self, file: TraceFile, out: Path, target: Target) -> None:
        self._file, self._out, self._target = file, out, target

    def put(self, first: int, values: Values) -> None:
        """Replace the samples of consecutive traces; NaN and infinity are written where the format has them.

        Args:
            first: the number of the first of them, as in `Block`.
            values: (n, samples), as `blocks` gave them.

        Raises:
            ShapeError: they are not n traces of the file's own length, or reach beyond its last.
            DtypeError: they are not real numbers, or the file holds integers and they are not integers that fit.
            NonFinite: a sample is too large for the file's floats, or NaN or infinite where IBM floats have neither.
            WriteError: the disk is full, or another error of the system.
        """
        values = np.asarray(values)
        if values.dtype.kind not in "fiu":
            raise DtypeError(f"put: values are {values.dtype}, but real numbers were needed. Convert them.")
        fits = values.ndim == 2 and len(values) > 0 and 0 <= first <= self._file.count - len(values)
        lengths = {self._file.length(trace) for trace in range(first, first + len(values))} if fits else set()
        if lengths != {values.shape[-1] if values.ndim else 0}:
            said = " or ".join(map(str, sorted(lengths))) or "samples"
            raise ShapeError(
                f"put: values are {values.shape} from trace {first}, but (n, {said}) within the {self._file.count} traces was "
                "needed. Put as many samples as `blocks` gave."
            )
        with said_in_words(self._out):
            self._target.put(first, values)


def refuse_itself(path: Path, out: Path) -> None:
    """Refuse to write over the file that is read, also by another name or a link.

    Raises:
        WriteError: they are one file.
    """
    with said_in_words(out):
        same = os.path.realpath(path) == os.path.realpath(out) or (out.exists() and os.path.samefile(path, out))
    if same:
        raise WriteError(f"write: {out} is the file that is read, which stays as it is. Choose another name.")


def floating(values: Values, path: Path) -> Values:
    """Return samples as float32, or as float64 where only that is exact, in the machine's byte order.

    Raises:
        TraceError: an integer lies beyond 2**53.
    """
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8 and ((values > _WHOLE) | (values < -_WHOLE)).any():
        raise TraceError(f"open_traces: {path} holds integers beyond 2**53, where float64 is not exact. Scale them first.")
    return np.asarray(values, dtype=floating_type(values.dtype))


def floating_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type of floats that holds what `dtype` does: 24 bits of an integer fit into float32."""
    return np.dtype(np.float64 if dtype.itemsize > (4 if dtype.kind == "f" else 2) else np.float32)


def stored(values: Values, dtype: np.dtype[Any]) -> Values:
    """Return samples in the type of floats that a file holds.

    Raises:
        NonFinite: finite ones are too large for it.
    """
    with np.errstate(over="ignore"):
        result = np.ascontiguousarray(values, dtype=dtype)
    beyond = int((np.isinf(result) & np.isfinite(values)).sum()) if result.dtype.itemsize < values.dtype.itemsize else 0
    if beyond:
        raise NonFinite(
            f"put: {beyond} of {values.size} samples are beyond {np.finfo(dtype).max:.3g}, the most that the file's "
            f"{dtype.name} holds. Scale them."
        )
    return result


def agreed_rate(path: Path, said: float, given: float | None) -> tuple[float, tuple[str, ...]]:
    """Return the rate that holds, and what is to be noted where a given one takes the place of the file's."""
    if given is None or given == said:
        return said, ()
    return given, (f"{path.name} says {said:.9g} samples per second; {given:.9g} was given, and is used",)


def library(name: str) -> Any:
    """Return what reads a kind of file.

    Raises:
        UnconvError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it imports that is to go some day
            return import_module(name)
    except ImportError as error:
        raise UnconvError(
            f'open_traces: {name} cannot be imported ({error}). Install it with pip install "unconv[seismic]".'
        ) from error
