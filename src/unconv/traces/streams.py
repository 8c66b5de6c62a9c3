"""miniSEED files, read through obspy: one trace for each stretch of a channel without a gap."""

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
from unconv.traces.file import MOST, Block, TraceFile, Values, agreed_rate, floating, floating_type, library, to_file_type

_RECORD = re.compile(rb"[0-9 \0]{6}[DRQM][ \0]")
_YEARS = range(1900, 2101)


def is_mseed(start: bytes) -> bool:
    """Return whether a file begins like a miniSEED record: with a number, a quality and a year in either byte order."""
    years = {int.from_bytes(start[20:22], order) for order in ("big", "little")}
    return len(start) >= 48 and _RECORD.match(start) is not None and bool(years & {*_YEARS})


class StreamFile(TraceFile):
    """A miniSEED file, read into memory.

    Args:
        path: the file.
        size: its size in bytes.
        rate: samples per second, if the caller passed them.
    """

    kind = "miniSEED"

    def __init__(self, path: Path, size: int, rate: float | None) -> None:
        self.path = path
        self._traces = list(read_stream(path, "MSEED"))
        # obspy skips what it does not recognise: only the sum of the records' lengths shows that something is missing.
        data = sum(trace.stats.mseed.number_of_records * trace.stats.mseed.record_length for trace in self._traces)
        if data != size:
            raise TraceError(
                f"open_traces: {path} is cut off or damaged: its data records take {data} of {size} bytes. Copy it again."
            )
        self._refuse_unfit()
        rates = sorted({float(trace.stats.sampling_rate) for trace in self._traces})
        if len(rates) != 1:
            shown = " and ".join(f"{each:.9g}" for each in rates[:4])
            raise TraceError(
                f"open_traces: {path} has traces of {shown} samples per second, but one rate was needed. "
                "Write each to a file of its own."
            )
        self.rate, notes = agreed_rate(path, rates[0], rate)
        lengths = [len(trace.data) for trace in self._traces]
        self.count = len(lengths)
        self.shape = (self.count, lengths[0]) if len({*lengths}) == 1 else (self.count,)
        if len(self.shape) == 1:
            notes += (f"its traces have several lengths, from {min(lengths)} to {max(lengths)} samples",)
        self.notes = (*self._integers(), *notes)

    def length(self, trace: int) -> int:
        """Return the number of samples in one trace."""
        return len(self._traces[trace].data)

    def trace_name(self, trace: int) -> str:
        """Return the network, station, location, channel and start time."""
        return stream_name(self._traces[trace])

    def blocks(self, most: int = MOST) -> Iterator[Block]:
        """Yield all traces; consecutive ones of one length and type share a block. See `TraceFile.blocks`."""
        for (length, _), group in groupby(range(self.count), key=self._kind_of):
            numbers, step = list(group), max(1, most // length)
            for begin in range(0, len(numbers), step):
                part = numbers[begin : begin + step]
                yield Block(part[0], np.stack([floating(self._traces[number].data, self.path) for number in part]))

    def target(self, partial: Path) -> _StreamTarget:
        """Return a `Target` that collects the results and writes their records at the end."""
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
                    f"open_traces: {self.path}: {stream_name(trace)} is empty or a log, but numbers with a sampling rate were "
                    "needed. Write the other traces to a file of their own."
                )


class _StreamTarget:
    def __init__(self, traces: list[Any], partial: Path) -> None:
        self._traces, self._partial = traces, partial
        self._results: dict[int, Values] = {}

    def put(self, first: int, values: Values) -> None:
        for number, row in enumerate(values, first):
            # A copy: the caller may use one array for block after block.
            self._results[number] = np.array(to_file_type(row, floating_type(self._traces[number].data.dtype)))

    def finish(self) -> None:
        obspy = library("obspy")
        traces = []
        for number, trace in enumerate(self._traces):
            values = self._results.get(number)
            if values is None:
                values = trace.data.astype(floating_type(trace.data.dtype))
            result = obspy.Trace(values, trace.stats.copy())
            result.stats.mseed.encoding = "FLOAT32" if values.dtype == np.float32 else "FLOAT64"
            traces.append(result)
        content = io.BytesIO()
        with warnings.catch_warnings():
            # obspy warns about several encodings or record lengths, which the input has as well.
            warnings.simplefilter("ignore")
            obspy.Stream(traces).write(content, format="MSEED")
        # obspy does not write into the file itself: it would do so in a C callback, which prints and drops a full disk's error.
        with self._partial.open("r+b") as file:
            file.write(content.getbuffer())

    def close(self) -> None:
        self._results.clear()


def read_stream(path: Path, kind: str) -> Any:
    """Return the stream that obspy reads; its warnings about damaged parts become errors.

    Raises:
        TraceError: obspy warned or failed, or the file has no traces.
    """
    obspy = library("obspy")
    with warnings.catch_warnings(record=True) as caught, _unraisable() as unraisable:
        warnings.simplefilter("always")
        try:
            # Opened here, since obspy would read a name as a pattern or an address.
            with path.open("rb") as file:
                stream = obspy.read(file, format=kind)
            for trace in stream:
                stream_name(trace)  # fails for a damaged date
        except Exception as error:  # obspy and its libraries may raise any exception
            raise TraceError(f"open_traces: {path} is cut off or damaged: {_line(error)}. Copy it again.") from error
    messages = [each.message for each in caught if not issubclass(each.category, DeprecationWarning | ResourceWarning)]
    # A warning about SAC only says that an interval was rounded to microseconds.
    if unraisable or (messages and kind == "MSEED"):
        raise TraceError(f"open_traces: {path} is damaged: {_line([*messages, *unraisable][0])}. Copy it again.")
    if not len(stream):
        raise TraceError(f"open_traces: {path} holds no traces. Copy it again.")
    return stream


@contextmanager
def _unraisable() -> Iterator[list[object]]:
    """Collect the errors in obspy's callbacks, which Python would only print."""
    # One of them: obspy fails to decode its own message about a damaged record that quotes bytes of the file.
    errors: list[object] = []
    before = sys.unraisablehook

    def collect(unraisable: Any) -> None:
        if str(getattr(unraisable.object, "__module__", "")).startswith("obspy"):
            errors.append(str(unraisable.exc_value))
        else:
            before(unraisable)

    sys.unraisablehook = collect
    try:
        yield errors
    finally:
        sys.unraisablehook = before


def stream_name(trace: Any) -> str:
    """Return the network, station, location, channel and start time of a trace."""
    return f"{trace.id} {trace.stats.starttime.strftime('%Y-%m-%dT%H:%M:%S')}"


def _line(message: object) -> str:
    """Return a message in one short line."""
    return " ".join(str(message).split())[:200].rstrip(".")
