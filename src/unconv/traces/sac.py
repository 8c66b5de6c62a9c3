"""SAC: one trace a file, read through obspy; results are written into a copy of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unconv.errors import TraceError
from unconv.traces.file import MOST, Block, TraceFile, Values, agreed_rate, stored
from unconv.traces.streams import read_stream, stream_name

_HEADER = 632  # bytes
_VERSION, _SAMPLES, _KIND, _QUANTITY, _EVEN = 76, 79, 85, 86, 105  # words of the header: NVHDR, NPTS, IFTYPE, IDEP, LEVEN
_LEAST, _LARGEST, _MEAN = 1, 2, 56  # DEPMIN, DEPMAX, DEPMEN
_UNDEFINED = -12345
_UNITS = {6: "nm", 7: "nm/s", 8: "nm/s²", 50: "V"}


def is_sac(start: bytes) -> bool:
    """Whether a file begins with a header of SAC, version 6 or 7, of either byte order."""
    return len(start) >= _HEADER and _order(start) is not None


class SacFile(TraceFile):
    """A SAC file of evenly spaced samples.

    Args:
        size: its bytes.
        given: samples per second that the caller said.
    """

    kind = "SAC"
    count = 1

    def __init__(self, path: Path, size: int, given: float | None) -> None:
        self.path = path
        with path.open("rb") as file:
            header = file.read(_HEADER)
        order = _order(header)
        words = np.frombuffer(header, f"{order}i4", 158)
        _refuse_unfit(path, words, size)
        (self._trace,) = read_stream(path, "SAC")
        self.rate, notes = self._rate(float(np.frombuffer(header, f"{order}f4", 1)[0]), given)
        self.shape = (1, len(self._trace.data))
        self.units = _UNITS.get(int(words[_QUANTITY]), "")
        self._dtype = np.dtype(f"{order}f4")
        self.notes = (f"its samples are {'big' if order == '>' else 'little'}-endian", *notes)

    def length(self, trace: int) -> int:
        """Return the samples of the trace."""
        return self.shape[1]

    def trace_name(self, trace: int) -> str:
        """Return network, station, location, channel and start."""
        return stream_name(self._trace)

    def blocks(self, most: int = MOST) -> Iterator[Block]:
        """Give the trace: see `TraceFile.blocks`."""
        yield Block(0, np.array(self._trace.data[None], dtype=np.float32))

    def _rate(self, interval: float, given: float | None) -> tuple[float, tuple[str, ...]]:
        """Return samples per second, and notes; `interval`: seconds, as the header has them."""
        if np.isfinite(interval) and interval > 0:
            return agreed_rate(self.path, float(self._trace.stats.sampling_rate), given)
        trouble = f"its header has an interval of {interval} s, from which no rate follows"
        if given is None:
            raise TraceError(f"open_traces: {self.path} is SAC, but {trouble}. Pass rate=, samples per second.")
        return given, (f"{trouble}; {given:.9g} samples per second were given, and are used",)

    def target(self, partial: Path) -> _SacTarget:
        """Return what takes the result, in a copy of the file."""
        with self.path.open("rb") as source, partial.open("r+b") as file:
            shutil.copyfileobj(source, file)
        return _SacTarget(partial, self._dtype)


class _SacTarget:
    def __init__(self, partial: Path, dtype: np.dtype[Any]) -> None:
        self._partial, self._dtype = partial, dtype

    def put(self, first: int, values: Values) -> None:
        row = stored(values, np.dtype(np.float32))[0].astype(self._dtype)
        with np.errstate(invalid="ignore", over="ignore"):  # infinite samples have no mean
            said = {_LEAST: row.min(), _LARGEST: row.max(), _MEAN: row.mean(dtype=np.float64)}
        with self._partial.open("r+b") as file:
            header = np.frombuffer(file.read(_HEADER), self._dtype, 158)
            for word, value in said.items():
                if header[word] != _UNDEFINED:
                    file.seek(4 * word)
                    file.write(np.asarray(value, self._dtype).tobytes())
            file.seek(_HEADER)
            file.write(row.tobytes())

    def finish(self) -> None:
        """All is written."""

    def close(self) -> None:
        """Nothing is open."""


def _order(header: bytes) -> str | None:
    """Return the byte order in which the version of the header is one, and what is true or false is 1 or 0."""
    for order in "<>":
        words = np.frombuffer(header, f"{order}i4", 158)
        if words[_VERSION] in (6, 7) and {*words[_EVEN : _EVEN + 4].tolist()} <= {0, 1, _UNDEFINED}:
            return order
    return None


def _refuse_unfit(path: Path, words: Values, size: int) -> None:
    where, samples = f"open_traces: {path} is SAC", int(words[_SAMPLES])
    if words[_VERSION] != 6:
        raise TraceError(f"{where} of version 7, but version 6 was needed. Write it as that.")
    if words[_KIND] not in (1, _UNDEFINED) or words[_EVEN] != 1:
        raise TraceError(f"{where}, but no time series of evenly spaced samples. Convert it.")
    if samples < 1:
        raise TraceError(f"{where}, but its header says {samples} samples. Correct NPTS.")
    if size != _HEADER + 4 * samples:
        whole = max(0, size - _HEADER) // 4
        raise TraceError(f"{where} of {samples} samples, but holds {whole}: it is cut off or damaged. Copy it again.")
