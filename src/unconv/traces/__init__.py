"""Measured traces: read from SEG-Y, miniSEED, SAC and .npy files a block at a time, and results written back."""

from unconv.traces.file import Block, TraceFile, Writer
from unconv.traces.opening import open_traces

__all__ = ["Block", "TraceFile", "Writer", "open_traces"]
