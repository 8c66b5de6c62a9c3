"""SAC files, read through obspy: one trace in each. Results are written into a copy of the file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unconv.errors import TraceError, counted
from unconv.traces.file import MOST, Block, TraceFile, Values, agreed_rate, to_file_type
from unconv.traces.streams import read_stream, stream_name

_HEADER = 632  # bytes
_VERSION, _SAMPLES, _KIND, _QUANTITY, _EVEN = 76, 79, 85, 86, 105  # words of the header: NVHDR, NPTS, IFTYPE, IDEP, LEVEN
_MIN, _MAX, _MEAN = 1, 2, 56  # DEPMIN, DEPMAX, DEPMEN
_UNDEFINED = -12345
_UNITS = {6: "nm", 7: "nm/s", 8: "nm/s²", 50: "V"}


def is_sac(start: bytes) -> bool:
    """Return whether a file begins with a SAC header of version 6 or 7, in either byte order."""
    return len(start) >= _HEADER and _order(start) is not None


class SacFile(TraceFile):
    """A SAC file of evenly spaced samples.

    Args:
        path: the file.
        size: its size in bytes.
        rate: samples per second, if the caller passed them.
    """

    kind = "SAC"
    count = 1

    def __init__(self, path: Path, size: int, rate: float | None) -> None:
        self.path = path
        with path.open("rb") as file:
            header = file.read(_HEADER)
        order = _order(header)
        words = np.frombuffer(header, f"{order}i4", 158)
        _refuse_unfit(path, words, size)
        (self._trace,) = read_stream(path, "SAC")
        self.rate, notes = self._rate(float(np.frombuffer(header, f"{order}f4", 1)[0]), rate)
        self.shape = (1, len(self._trace.data))
        self.units = _UNITS.get(int(words[_QUANTITY]), "")
        self._dtype = np.dtype(f"{order}f4")
        self.notes = (f"its samples are {'big' if order == '>' else 'little'}-endian", *notes)

    def length(self, trace: int) -> int:
        """Return the number of samples in the trace."""
        return self.shape[1]

    def trace_name(self, trace: int) -> str:
        """Return network, station, location, channel and start."""
        return stream_name(self._trace)

    def blocks(self, most: int = MOST) -> Iterator[Block]:
        """Yield the trace: see `TraceFile.blocks`."""
        yield Block(0, np.array(self._trace.data[None], dtype=np.float32))

    def _rate(self, interval: float, rate: float | None) -> tuple[float, tuple[str, ...]]:
        """Return samples per second and notes; `interval` is that of the header, in seconds."""
        if np.isfinite(interval) and interval > 0:
            return agreed_rate(self.path, float(self._trace.stats.sampling_rate), rate)
        trouble = f"its header has an interval of {interval} s, which gives no rate"
        if rate is None:
            raise TraceError(f"open_traces: {self.path} is SAC, but {trouble}. Pass rate=, in samples per second.")
        return rate, (f"{trouble}; {rate:.9g} samples per second was passed and is used",)

    def target(self, partial: Path) -> _SacTarget:
        """Return a `Target` in a copy of the file."""
        with self.path.open("rb") as source, partial.open("r+b") as file:
            shutil.copyfileobj(source, file)
        return _SacTarget(partial, self._dtype)


class _SacTarget:
    def __init__(self, partial: Path, dtype: np.dtype[Any]) -> None:
        self._partial, self._dtype = partial, dtype

    def put(self, first: int, values: Values) -> None:
        row = to_file_type(values, np.dtype(np.float32))[0].astype(self._dtype)
        with np.errstate(invalid="ignore", over="ignore"):  # infinite samples have no mean
            statistics = {_MIN: row.min(), _MAX: row.max(), _MEAN: row.mean(dtype=np.float64)}
        with self._partial.open("r+b") as file:
            header = np.frombuffer(file.read(_HEADER), self._dtype, 158)
            for word, value in statistics.items():
                if header[word] != _UNDEFINED:
                    file.seek(4 * word)
                    file.write(np.asarray(value, self._dtype).tobytes())
            file.seek(_HEADER)
            file.write(row.tobytes())

    def finish(self) -> None:
        """Do nothing: everything is written already."""

    def close(self) -> None:
        """Do nothing: no file is open."""


def _order(header: bytes) -> str | None:
    """Return the byte order in which the header has a known version and its logical words are 0 or 1."""
    for order in "<>":
        words = np.frombuffer(header, f"{order}i4", 158)
        if words[_VERSION] in (6, 7) and {*words[_EVEN : _EVEN + 4].tolist()} <= {0, 1, _UNDEFINED}:
            return order
    return None


def _refuse_unfit(path: Path, words: Values, size: int) -> None:
    where, samples = f"open_traces: {path} is SAC", int(words[_SAMPLES])
    if words[_VERSION] != 6:
        raise TraceError(f"{where} of version {words[_VERSION]}, but version 6 was needed. Write it as version 6.")
    if words[_KIND] not in (1, _UNDEFINED) or words[_EVEN] != 1:
        raise TraceError(f"{where}, but not a time series of evenly spaced samples, which was needed. Convert it.")
    if samples < 1:
        raise TraceError(f"{where}, but its header says {samples} samples, and 1 or more were needed. Correct NPTS.")
    if size != _HEADER + 4 * samples:
        there = max(0, size - _HEADER) // 4
        words_needed = counted(samples, "sample")
        raise TraceError(f"{where} of {words_needed}, but holds {there:,}: it is cut off or damaged. Copy it again.")
