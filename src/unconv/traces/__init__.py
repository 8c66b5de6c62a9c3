"""Measured traces: files of SEG-Y, miniSEED, SAC and .npy, read block by block and written with new samples."""

from unconv.traces.file import Block, TraceFile, Writer
from unconv.traces.opening import open_traces

__all__ = ["Block", "TraceFile", "Writer", "open_traces"]
