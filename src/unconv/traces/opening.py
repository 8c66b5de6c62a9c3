"""Opening files of traces, whose kind is recognised by their content and not by their name."""

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

    All kinds except .npy need the extra `seismic`. SEG-Y may have either byte order and IBM floats, IEEE floats or integers;
    its traces are indexed in the order of the file, independent of inline and crossline. A gap in miniSEED begins a new trace.
    The arrays (..., n) of .npy have their traces along the last axis.

    Args:
        path: the file.
        rate: samples per second, if the file does not say or its headers contradict each other.

    Raises:
        TraceError: a file that is missing, of another kind, cut off or damaged, or without one sampling rate for all traces.
        UnconvError: obspy or segyio is not installed.

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
    rate = None if rate is None else float(rate)
    start, size = _start(path)
    # The kinds with the surest marks come first: SEG-Y has none but a plausible header.
    if is_npy(start):
        return ArrayFile(path, rate)
    if is_mseed(start):
        return StreamFile(path, size, rate)
    if is_sac(start):
        return SacFile(path, size, rate)
    if is_segy(start):
        return SegyFile(path, start, size, rate)
    raise TraceError(
        f"open_traces: {path} is of an unknown kind, but SEG-Y, miniSEED, SAC or .npy was needed. Convert it, or check the "
        "path."
    )


def _start(path: Path) -> tuple[bytes, int]:
    """Return the first bytes of a file, and its size.

    Raises:
        TraceError: the file is missing, empty, unreadable or not a regular file.
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
