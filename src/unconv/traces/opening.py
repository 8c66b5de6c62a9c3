"""Open a file of traces: its kind is told by its content, whatever it is called."""

from __future__ import annotations

import math
import stat
from pathlib import Path

from unconv.errors import ShapeError, TraceError
from unconv.kinds import checks_kinds
from unconv.traces.arrays import ArrayFile, is_npy
from unconv.traces.file import TraceFile
from unconv.traces.sac import SacFile, is_sac
from unconv.traces.segy import SegyFile
from unconv.traces.segy_layout import HEADERS, is_segy
from unconv.traces.streams import StreamFile, is_mseed


@checks_kinds
def open_traces(path: str | Path, rate: float | None = None) -> TraceFile:
    """Open a file of traces: SEG-Y, miniSEED, SAC or .npy.

    All but .npy need the extra `seismic`. SEG-Y, of either byte order, holds IBM or IEEE floats, or integers; its traces
    are counted in the order of the file, whatever lines they are on. Gaps of miniSEED part traces. Arrays (..., n) of .npy have
    their traces along the last axis.

    Args:
        rate: samples per second, for a file that does not say, or whose headers contradict each other.

    Raises:
        TraceError: no such file, none of these kinds, cut off or damaged, or without one sampling rate for all traces.
        UnconvError: obspy or segyio is missing.

    Example:
        >>> import numpy, tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> numpy.save(folder / "echo.npy", numpy.zeros((3, 100), numpy.int16))
        >>> with open_traces(folder / "echo.npy", rate=500) as traces, traces.rewritten(folder / "twice.npy") as writer:
        ...     for block in traces.blocks():
        ...         writer.put(block.first, 2 * block.values)
        >>> traces.count, traces.rate
        (3, 500.0)
    """
    path = Path(path)
    if rate is not None and not (math.isfinite(rate) and rate > 0):
        raise ShapeError(f"open_traces: rate is {rate}, but a finite number above 0 was needed. Pass samples per second.")
    given = None if rate is None else float(rate)
    start, size = _start(path)
    if is_npy(start):
        return ArrayFile(path, given)
    if is_mseed(start):
        return StreamFile(path, size, given)
    if is_sac(start):
        return SacFile(path, size, given)
    if is_segy(start):
        return SegyFile(path, start, size, given)
    raise TraceError(
        f"open_traces: {path} is none of the kinds that are read: SEG-Y, miniSEED, SAC, .npy. Convert it, or check the path."
    )


def _start(path: Path) -> tuple[bytes, int]:
    """Return the first bytes of a file, and how many there are.

    Raises:
        TraceError: it is missing, empty, no file or not to be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a device or a pipe"
            raise TraceError(f"open_traces: {path} is {kind}, but a file was needed: SEG-Y, miniSEED, SAC or .npy. Pass one.")
        with path.open("rb") as file:
            start = file.read(HEADERS)
    except TraceError:
        raise
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise TraceError(f"open_traces: cannot read {path}: {why}. Check the path.") from error
    if not start:
        raise TraceError(f"open_traces: {path} is empty, but SEG-Y, miniSEED, SAC or .npy was needed. Copy it again.")
    return start, status.st_size
