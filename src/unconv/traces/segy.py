"""SEG-Y files, read through segyio: traces in the order of the file. Results are written into a copy of the file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unconv.errors import DtypeError, NonFinite, TraceError
from unconv.traces.file import MOST, Block, TraceFile, Values, agreed_rate, floating, library, to_file_type
from unconv.traces.segy_layout import Layout, layout

# Fields of a trace header, by their first byte, from 1.
_DELAY, _SAMPLES, _INTERVAL, _INLINE, _CROSSLINE, _UNIT, _SCALE = 109, 115, 117, 189, 193, 203, 215
_UNITS = {1: "Pa", 2: "V", 3: "mV", 4: "A", 5: "m", 6: "m/s", 7: "m/s²", 8: "N", 9: "W"}
_IBM = 1


class SegyFile(TraceFile):
    """A SEG-Y file whose traces have one length and one sampling rate.

    Args:
        path: the file.
        start: its first bytes.
        size: its size in bytes.
        rate: samples per second, if the caller passed them.
    """

    kind = "SEG-Y"

    def __init__(self, path: Path, start: bytes, size: int, rate: float | None) -> None:
        self.path, self._layout = path, layout(path, start, size)
        self._file = _opened(path, self._layout, "r")
        try:
            self.count, self.shape = self._layout.count, (self._layout.count, self._layout.samples)
            self.notes = (f"its samples are {self._layout.format}, {self._layout.order}-endian", *self._remarks())
            self.rate, notes = self._rate(rate)
            self.notes += notes
            self.start, notes = self._start()
            self.notes += notes
            units = {*map(int, self._field(_UNIT))} if self._layout.revision else set()
            self.units = _UNITS.get(min(units), "") if len(units) == 1 else ""
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def length(self, trace: int) -> int:
        """Return the number of samples in one trace."""
        return self._layout.samples

    def trace_name(self, trace: int) -> str:
        """Return a trace's inline and crossline, or its index if its header does not have both."""
        inline, crossline = (int(self._file.attributes(byte)[trace : trace + 1][0]) for byte in (_INLINE, _CROSSLINE))
        return f"inline {inline}, crossline {crossline}" if inline and crossline else f"trace {trace}"

    def blocks(self, most: int = MOST) -> Iterator[Block]:
        """Yield all traces in the order of the file: see `TraceFile.blocks`."""
        step = max(1, most // self._layout.samples)
        for first in range(0, self.count, step):
            try:
                values = self._file.trace.raw[first : min(first + step, self.count)]
            except (OSError, RuntimeError) as error:
                raise TraceError(
                    f"open_traces: {self.path} cannot be read from trace {first} on: {error}. Copy it again."
                ) from error
            yield Block(first, floating(values, self.path))

    def target(self, partial: Path) -> _SegyTarget:
        """Return a `Target` in a copy of the file."""
        with self.path.open("rb") as source, partial.open("r+b") as file:
            shutil.copyfileobj(source, file, 2**20)
        return _SegyTarget(self.path, _opened(partial, self._layout, "r+"), self._layout)

    def _field(self, byte: int) -> Values:
        """Return the unsigned two bytes of all trace headers that begin at `byte`."""
        # segyio reads them as signed, but intervals of 40000 µs exist.
        return np.asarray(self._file.attributes(byte)[:]) & 0xFFFF

    def _remarks(self) -> tuple[str, ...]:
        own = {*map(int, np.unique(self._field(_SAMPLES)))} - {0, self._layout.samples}
        notes = [
            f"its trace headers say {_listed(own)} samples, but its binary header says {self._layout.samples}, which matches "
            "the file size and is used"
        ] * bool(own)
        if self._layout.code not in (1, 5, 6):
            notes.append("it holds integers: a result can be written to a copy of it only if all values are integers in range")
        return tuple(notes)

    def _rate(self, rate: float | None) -> tuple[float, tuple[str, ...]]:
        """Return samples per second and notes.

        Raises:
            TraceError: trace headers that differ; without a rate from the caller, also headers that say none or contradict.
        """
        own = {*map(int, np.unique(self._field(_INTERVAL)))} - {0}
        where, binary = f"open_traces: {self.path}:", self._layout.interval
        # Refused even if the caller passes a rate: no single rate holds for traces of several intervals.
        if len(own) > 1:
            rates = _listed(own, lambda interval: f"{interval} µs ({1e6 / interval:.9g} samples per second)")
            raise TraceError(
                f"{where} its trace headers have intervals of {rates}, but one was needed. Write each to a file of its own."
            )
        intervals = own | ({binary} - {0})
        if len(intervals) == 1:
            note = () if binary and own else (f"only its {'trace headers have' if own else 'binary header has'} an interval",)
            agreed, notes = agreed_rate(self.path, 1e6 / min(intervals), rate)
            return agreed, note + notes
        if not intervals:
            trouble = "the sampling interval is 0 in its binary header and in its trace headers"
        else:
            trouble = f"the sampling interval is {binary} µs in its binary header, but {min(own)} µs in its trace headers"
        if rate is None:
            raise TraceError(f"{where} {trouble}. Pass rate=, in samples per second.")
        return rate, (f"{trouble}; {rate:.9g} samples per second was passed and is used",)

    def _start(self) -> tuple[float, tuple[str, ...]]:
        """Return the delay recording time of the first trace in seconds, and a note if other traces differ."""
        delays = self._field(_DELAY).astype(np.int16) / 1000
        if self._layout.revision:
            # From revision 1 on, bytes 215-216 scale the times: positive values multiply, negative ones divide.
            scale = self._field(_SCALE).astype(np.int16).astype(float)
            delays = delays * np.where(scale == 0, 1.0, np.where(scale < 0, -1 / np.where(scale == 0, 1, scale), scale))
        low, high = float(delays.min()), float(delays.max())
        note = f"its traces begin at {low:.9g} to {high:.9g} s; the time of the first trace is used"
        return float(delays[0]), () if low == high else (note,)


class _SegyTarget:
    def __init__(self, path: Path, file: Any, layout: Layout) -> None:
        self._path, self._file, self._layout = path, file, layout

    def put(self, first: int, values: Values) -> None:
        dtype = np.dtype(self._file.dtype)
        values = self._as_integers(values, dtype) if dtype.kind in "iu" else to_file_type(values, dtype)
        if self._layout.code == _IBM and not np.isfinite(values).all():
            count = int((~np.isfinite(values)).sum())
            raise NonFinite(
                f"put: NaN or infinite samples came ({count} of {values.size}), but {self._path} has IBM floats, which cannot "
                "hold them. Replace them first."
            )
        for number, row in enumerate(values, first):
            self._file.trace[number] = row

    def finish(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _as_integers(self, values: Values, dtype: np.dtype[Any]) -> Values:
        """Return values as integers of the file's type.

        Raises:
            DtypeError: a value is not an integer in range.
        """
        bounds = np.iinfo(dtype)
        fits = np.isfinite(values).all() and (np.rint(values) == values).all()
        if not fits or values.min() < bounds.min or values.max() > bounds.max:
            raise DtypeError(
                f"put: {self._path} holds {self._layout.format}, but some values are not integers from {bounds.min} to "
                f"{bounds.max}, and need IEEE floats. Convert the file to format 5, or write the result to .npy."
            )
        return np.ascontiguousarray(values, dtype=dtype)


def _opened(path: Path, layout: Layout, mode: str) -> Any:
    segyio = library("segyio")
    try:
        return segyio.open(str(path), mode, strict=False, ignore_geometry=True, endian=layout.order)
    except (OSError, RuntimeError, ValueError) as error:
        raise TraceError(f"open_traces: segyio cannot read {path}: {error}. Copy it again, or convert it.") from error


def _listed(numbers: set[int], words: Any = str) -> str:
    """Return up to three numbers, joined by "and"."""
    shown = [words(number) for number in sorted(numbers)[:3]]
    return " and ".join(shown) + (f" and {len(numbers) - 3} more" if len(numbers) > 3 else "")
