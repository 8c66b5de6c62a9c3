"""SEG-Y, through segyio: traces in the order of the file, and results in a copy of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unconv.errors import DtypeError, NonFinite, TraceError
from unconv.traces.file import MOST, Block, TraceFile, Values, agreed_rate, floating, library, stored
from unconv.traces.segy_layout import Layout, layout

# Fields of a trace's header, by their first byte.
_DELAY, _SAMPLES, _INTERVAL, _INLINE, _CROSSLINE, _UNIT, _SCALE = 109, 115, 117, 189, 193, 203, 215
_UNITS = {1: "Pa", 2: "V", 3: "mV", 4: "A", 5: "m", 6: "m/s", 7: "m/s²", 8: "N", 9: "W"}
_IBM = 1


class SegyFile(TraceFile):
    """A SEG-Y file whose traces have one length and one sampling rate.

    Args:
        start: its first bytes.
        size: all its bytes.
        given: samples per second that the caller said.
    """

    kind = "SEG-Y"

    def __init__(self, path: Path, start: bytes, size: int, given: float | None) -> None:
        self.path, self._layout = path, layout(path, start, size)
        self._file = _opened(path, self._layout, "r")
        try:
            self.count, self.shape = self._layout.count, (self._layout.count, self._layout.samples)
            self.notes = (f"its samples are {self._layout.format}, {self._layout.order}-endian", *self._remarks())
            self.rate, notes = self._rate(given)
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
        """Return the samples of one trace."""
        return self._layout.samples

    def trace_name(self, trace: int) -> str:
        """Return the lines that a trace lies on, or its number where its header does not name both."""
        inline, crossline = (int(self._file.attributes(at)[trace : trace + 1][0]) for at in (_INLINE, _CROSSLINE))
        return f"inline {inline}, crossline {crossline}" if inline and crossline else f"trace {trace}"

    def blocks(self, most: int = MOST) -> Iterator[Block]:
        """Give all traces in the order of the file: see `TraceFile.blocks`."""
        step = max(1, most // self._layout.samples)
        for first in range(0, self.count, step):
            try:
                values = self._file.trace.raw[first : min(first + step, self.count)]
            except (OSError, RuntimeError) as error:
                raise TraceError(
                    f"open_traces: {self.path} cannot be read from trace {first}: {error}. Copy it again."
                ) from error
            yield Block(first, floating(values, self.path))

    def target(self, partial: Path) -> _SegyTarget:
        """Return what takes results, in a copy of the file."""
        with self.path.open("rb") as source, partial.open("r+b") as file:
            shutil.copyfileobj(source, file, 2**20)
        return _SegyTarget(self.path, _opened(partial, self._layout, "r+"), self._layout)

    def _field(self, at: int) -> Values:
        """Return two bytes of all trace headers, unsigned."""
        return np.asarray(self._file.attributes(at)[:]) & 0xFFFF

    def _remarks(self) -> tuple[str, ...]:
        own = {*map(int, np.unique(self._field(_SAMPLES)))} - {0, self._layout.samples}
        notes = [
            f"its trace headers say {_listed(own)} samples, its binary header {self._layout.samples}, which fits its size"
        ] * bool(own)
        if self._layout.code not in (1, 5, 6):
            notes.append("a result can only be written into its integers where it consists of integers that fit")
        return tuple(notes)

    def _rate(self, given: float | None) -> tuple[float, tuple[str, ...]]:
        """Return samples per second, and notes.

        Raises:
            TraceError: the headers say none and nobody else did, or they contradict each other.
        """
        own = {*map(int, np.unique(self._field(_INTERVAL)))} - {0}
        where, binary = f"open_traces: {self.path}:", self._layout.interval
        if len(own) > 1:
            rates = _listed(own, lambda interval: f"{interval} µs ({1e6 / interval:.9g} samples per second)")
            raise TraceError(
                f"{where} its trace headers have intervals of {rates}; one was needed. Write each to a file of its own."
            )
        said = own | ({binary} - {0})
        if len(said) == 1:
            note = () if binary and own else (f"only its {'trace headers say' if own else 'binary header says'} an interval",)
            rate, notes = agreed_rate(self.path, 1e6 / min(said), given)
            return rate, note + notes
        if not said:
            trouble = "the sampling interval is 0 in its binary header and in its trace headers"
        else:
            trouble = f"the sampling interval is {binary} µs in its binary header, but {min(own)} µs in its trace headers"
        if given is None:
            raise TraceError(f"{where} {trouble}. Pass rate=, samples per second.")
        return given, (f"{trouble}; {given:.9g} samples per second were given, and are used",)

    def _start(self) -> tuple[float, tuple[str, ...]]:
        """Return the delay recording time of the first trace in seconds, and what to note where others differ."""
        delays = self._field(_DELAY).astype(np.int16) / 1000
        if self._layout.revision:
            scale = self._field(_SCALE).astype(np.int16).astype(float)
            delays = delays * np.where(scale == 0, 1.0, np.where(scale < 0, -1 / np.where(scale == 0, 1, scale), scale))
        low, high = float(delays.min()), float(delays.max())
        note = f"its traces begin at {low:.9g} to {high:.9g} s; the first one's is its start"
        return float(delays[0]), () if low == high else (note,)


class _SegyTarget:
    def __init__(self, path: Path, file: Any, found: Layout) -> None:
        self._path, self._file, self._layout = path, file, found

    def put(self, first: int, values: Values) -> None:
        dtype = np.dtype(self._file.dtype)
        values = self._whole(values, dtype) if dtype.kind in "iu" else stored(values, dtype)
        if self._layout.code == _IBM and not np.isfinite(values).all():
            holes = int((~np.isfinite(values)).sum())
            raise NonFinite(
                f"put: {holes} of {values.size} samples are NaN or infinite, which the IBM floats of {self._path} cannot be. "
                "Fill them in first."
            )
        for number, row in enumerate(values, first):
            self._file.trace[number] = row

    def finish(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _whole(self, values: Values, dtype: np.dtype[Any]) -> Values:
        """Return integers of the file's own type.

        Raises:
            DtypeError: there are other values.
        """
        bounds = np.iinfo(dtype)
        fits = np.isfinite(values).all() and (np.rint(values) == values).all()
        if not fits or values.min() < bounds.min or values.max() > bounds.max:
            raise DtypeError(
                f"put: {self._path} holds {self._layout.format}, but the values are not all integers from {bounds.min} to "
                f"{bounds.max}; IEEE floats are needed. Convert the file to format 5, or write the result to .npy."
            )
        return np.ascontiguousarray(values, dtype=dtype)


def _opened(path: Path, found: Layout, mode: str) -> Any:
    segyio = library("segyio")
    try:
        return segyio.open(str(path), mode, strict=False, ignore_geometry=True, endian=found.order)
    except (OSError, RuntimeError, ValueError) as error:
        raise TraceError(f"open_traces: segyio cannot read {path}: {error}. Copy it again, or convert it.") from error


def _listed(numbers: set[int], words: Any = str) -> str:
    """Return up to three numbers in words."""
    shown = [words(number) for number in sorted(numbers)[:3]]
    return " and ".join(shown) + (f" and {len(numbers) - 3} more" if len(numbers) > 3 else "")
