"""miniSEED, through obspy: one trace for each stretch of a channel that has no gap."""

from __future__ import annotations

import io
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from unconv.errors import TraceError
from unconv.traces.file import MOST, Block, TraceFile, Values, agreed_rate, floating, floating_type, library, stored

_RECORD = re.compile(rb"[0-9 \0]{6}[DRQM][ \0]")
_YEARS = range(1900, 2101)


def is_mseed(start: bytes) -> bool:
    """Whether a file begins with the header of a miniSEED record: a number, a quality, and a year of either byte order."""
    years = {int.from_bytes(start[20:22], order) for order in ("big", "little")}
    return len(start) >= 48 and _RECORD.match(start) is not None and bool(years & {*_YEARS})


class StreamFile(TraceFile):
    """A miniSEED file, held in memory.

    Args:
        size: its bytes.
        given: samples per second that the caller said.
    """

    kind = "miniSEED"

    def __init__(self, path: Path, size: int, given: float | None) -> None:
        self.path = path
        self._traces = list(read_stream(path, "MSEED"))
        held = sum(trace.stats.mseed.number_of_records * trace.stats.mseed.record_length for trace in self._traces)
        if held != size:
            raise TraceError(
                f"open_traces: {path} is cut off or damaged: its records of data take {held} bytes of {size}. Copy it again."
            )
        self._refuse_unfit()
        rates = sorted({float(trace.stats.sampling_rate) for trace in self._traces})
        if len(rates) != 1:
            shown = " and ".join(f"{rate:.9g}" for rate in rates[:4])
            raise TraceError(
                f"open_traces: {path} has traces of {shown} samples per second; one rate was needed. "
                "Write each to a file of its own."
            )
        self.rate, notes = agreed_rate(path, rates[0], given)
        lengths = [len(trace.data) for trace in self._traces]
        self.count = len(lengths)
        self.shape = (self.count, lengths[0]) if len({*lengths}) == 1 else (self.count,)
        if len(self.shape) == 1:
            notes += (f"its traces are of several lengths, from {min(lengths)} to {max(lengths)} samples",)
        self.notes = (*self._integers(), *notes)

    def length(self, trace: int) -> int:
        """Return the samples of one trace."""
        return len(self._traces[trace].data)

    def trace_name(self, trace: int) -> str:
        """Return network, station, location, channel and start."""
        return stream_name(self._traces[trace])

    def blocks(self, most: int = MOST) -> Iterator[Block]:
        """Give all traces, those of one length and type that follow each other together: see `TraceFile.blocks`."""
        for (length, _), group in groupby(range(self.count), key=self._kind_of):
            numbers, step = list(group), max(1, most // length)
            for at in range(0, len(numbers), step):
                part = numbers[at : at + step]
                yield Block(part[0], np.stack([floating(self._traces[number].data, self.path) for number in part]))

    def target(self, partial: Path) -> _StreamTarget:
        """Return what takes results, and writes records of them as it is finished."""
        return _StreamTarget(self._traces, partial)

    def _kind_of(self, trace: int) -> tuple[int, str]:
        data = self._traces[trace].data
        return len(data), floating_type(data.dtype).name

    def _integers(self) -> tuple[str, ...]:
        integers = any(trace.data.dtype.kind in "iu" for trace in self._traces)
        return ("its samples are integers; a result is written as FLOAT64",) if integers else ()

    def _refuse_unfit(self) -> None:
        for trace in self._traces:
            if not len(trace.data) or trace.data.dtype.kind not in "fiu" or not trace.stats.sampling_rate > 0:
                raise TraceError(
                    f"open_traces: {self.path}: {stream_name(trace)} is no trace of numbers with a sampling rate, but a log or "
                    "empty. Write its other traces to a file."
                )


class _StreamTarget:
    def __init__(self, traces: list[Any], partial: Path) -> None:
        self._traces, self._partial = traces, partial
        self._results: dict[int, Values] = {}

    def put(self, first: int, values: Values) -> None:
        for number, row in enumerate(values, first):
            # A copy: the caller may use one array for block after block.
            self._results[number] = np.array(stored(row, floating_type(self._traces[number].data.dtype)))

    def finish(self) -> None:
        obspy = library("obspy")
        made = []
        for number, trace in enumerate(self._traces):
            values = self._results.get(number)
            if values is None:
                values = trace.data.astype(floating_type(trace.data.dtype))
            result = obspy.Trace(values, trace.stats.copy())
            result.stats.mseed.encoding = "FLOAT32" if values.dtype == np.float32 else "FLOAT64"
            made.append(result)
        content = io.BytesIO()
        with warnings.catch_warnings():
            # That a file has two encodings or record lengths: it had them before.
            warnings.simplefilter("ignore")
            obspy.Stream(made).write(content, format="MSEED")
        # Not by obspy into the file: it writes in a callback of C, where the error of a full disk is printed and lost.
        with self._partial.open("r+b") as file:
            file.write(content.getbuffer())

    def close(self) -> None:
        self._results.clear()


def read_stream(path: Path, kind: str) -> Any:
    """Return what obspy reads, which skips damaged parts of miniSEED with a warning.

    Raises:
        TraceError: it warned, or gave up.
    """
    obspy = library("obspy")
    with warnings.catch_warnings(record=True) as caught, _lost() as lost:
        warnings.simplefilter("always")
        try:
            # An open file: of a name, obspy makes a pattern or an address.
            with path.open("rb") as file:
                stream = obspy.read(file, format=kind)
            for trace in stream:
                stream_name(trace)  # a damaged date has none
        except Exception as error:  # obspy and its libraries raise what they like
            raise TraceError(f"open_traces: {path} is cut off or damaged: {_line(error)}. Copy it again.") from error
    said = [each.message for each in caught if not issubclass(each.category, DeprecationWarning | ResourceWarning)]
    # Warnings about SAC say that an interval was rounded to microseconds.
    if lost or (said and kind == "MSEED"):
        raise TraceError(f"open_traces: {path} is damaged: {_line([*said, *lost][0])}. Copy it again.")
    if not len(stream):
        raise TraceError(f"open_traces: {path} holds no traces. Copy it again.")
    return stream


@contextmanager
def _lost() -> Iterator[list[object]]:
    """Give the errors that Python prints and forgets, such as that of obspy over a message that names bytes of the file."""
    lost: list[object] = []
    before = sys.unraisablehook

    def keep(unraisable: Any) -> None:
        if str(getattr(unraisable.object, "__module__", "")).startswith("obspy"):
            lost.append(str(unraisable.exc_value))
        else:
            before(unraisable)

    sys.unraisablehook = keep
    try:
        yield lost
    finally:
        sys.unraisablehook = before


def stream_name(trace: Any) -> str:
    """Return network, station, location and channel, and when a trace starts."""
    return f"{trace.id} {trace.stats.starttime.strftime('%Y-%m-%dT%H:%M:%S')}"


def _line(said: object) -> str:
    return " ".join(str(said).split())[:200].rstrip(".")
