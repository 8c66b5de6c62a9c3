"""The layout of a SEG-Y file, from its binary header and its size.

Source:
    SEG Technical Standards Committee, "SEG-Y revision 2.0: data exchange format" (2017), tables 2 and 3.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unconv.errors import TraceError, counted

TEXT = 3200  # bytes of a text header
HEADERS = 3600  # bytes of the text header and the binary header
TRACE = 240  # bytes of a trace's header

_ORDERS: dict[Literal["big", "little"], str] = {"big": ">", "little": "<"}
_FORMATS = {
    1: ("32-bit IBM floats", 4),
    2: ("32-bit integers", 4),
    3: ("16-bit integers", 2),
    5: ("32-bit IEEE floats", 4),
    6: ("64-bit IEEE floats", 8),
    8: ("8-bit integers", 1),
    10: ("32-bit unsigned integers", 4),
    11: ("16-bit unsigned integers", 2),
    16: ("8-bit unsigned integers", 1),
}
_KNOWN = range(1, 17)  # codes of the standard, including those that are not supported


@dataclass(frozen=True)
class Layout:
    """The layout of a SEG-Y file.

    Attributes:
        order: byte order.
        code: of the sample format, as in the binary header.
        format: the same in words.
        revision: of the standard, 0 to 2.
        interval: between samples in microseconds, from the binary header; 0 if it has none.
        samples: number of samples in each trace.
        count: number of traces.
    """

    order: Literal["big", "little"]
    code: int
    format: str
    revision: int
    interval: int
    samples: int
    count: int


def is_segy(start: bytes) -> bool:
    """Return whether a file begins like SEG-Y: with cards in EBCDIC or ASCII, or with a plausible binary header."""
    # Cards of 80 bytes each begin with a C, which is 0xC3 in EBCDIC.
    if len(start) > 80 and start[:1] in (b"C", b"\xc3") and start[80:81] == start[:1]:
        return True
    order = _order(start)
    return order is not None and _field(start, order, 3221) > 0 and -1 <= _signed(start, order, 3505) <= 100


def layout(path: Path, start: bytes, size: int) -> Layout:
    """Return the layout of a SEG-Y file.

    Args:
        path: the file.
        start: its first `HEADERS` bytes.
        size: its size in bytes.

    Raises:
        TraceError: a file that is cut off, has implausible headers, or has parts that are not supported.
    """
    where = f"open_traces: {path} looks like SEG-Y, but"
    if size < HEADERS:
        part, length = ("text", TEXT) if size < TEXT else ("text and binary", HEADERS)
        raise TraceError(f"{where} it ends after {size} bytes, within its {part} headers of {length} bytes. Copy it again.")
    order = _order(start)
    if order is None:
        codes = " or ".join(f"{_field(start, order, 3225)} ({order}-endian)" for order in _ORDERS)
        raise TraceError(f"{where} its format code is {codes}, and one of {_codes()} was needed. Correct its binary header.")
    code, samples, extended = (_field(start, order, at) for at in (3225, 3221, 3505))
    if code not in _FORMATS:
        raise TraceError(
            f"{where} its samples have format {code}, and one of {_codes()} was needed. Convert it to format 5, IEEE floats."
        )
    if samples == 0:
        raise TraceError(
            f"{where} its binary header says 0 samples a trace, and 1 or more were needed. Correct bytes 3221-3222."
        )
    if extended > 0x7FFF:
        raise TraceError(f"{where} its binary header does not say how many text headers follow. Correct bytes 3505-3506.")
    begin = HEADERS + TEXT * extended
    # Revision 1 is 0x0100 in bytes 3501-3502; the byte order decides which of the two bytes is not zero.
    revision = max(start[3500:3502])
    revision = revision if revision in (1, 2) else 0
    if revision == 2:
        _refuse_extensions(where, start, order, begin)
    words, width = _FORMATS[code]
    count = _count(where, size, begin, samples, width)
    return Layout(order, code, words, revision, _field(start, order, 3217), samples, count)


def _count(where: str, size: int, begin: int, samples: int, width: int) -> int:
    if size <= begin:
        raise TraceError(f"{where} it holds no traces: it has {size} bytes, and its headers take {begin}. Copy it again.")
    count, rest = divmod(size - begin, TRACE + samples * width)
    if rest:
        raise TraceError(
            f"{where} it holds {counted(count, 'complete trace')} of {counted(samples, 'sample')} and "
            f"{counted(rest, 'byte')} more: it was cut off, or its traces have several lengths, which is not supported. Copy "
            "it again, or write it with one length."
        )
    return count


def _refuse_extensions(where: str, start: bytes, order: Literal["big", "little"], begin: int) -> None:
    """Refuse extensions of revision 2 that segyio, which reads the samples, does not support."""
    mark = _ORDERS[order]
    (samples,) = struct.unpack_from(f"{mark}i", start, 3268)
    (interval,) = struct.unpack_from(f"{mark}d", start, 3272)
    (headers,) = struct.unpack_from(f"{mark}i", start, 3506)
    (first,) = struct.unpack_from(f"{mark}Q", start, 3520)
    (trailer,) = struct.unpack_from(f"{mark}i", start, 3528)
    # Values that repeat the older headers are harmless.
    extensions = {
        f"{samples} samples a trace in bytes 3269-3272": samples not in (0, _field(start, order, 3221)),
        f"an interval of {interval:.9g} µs in bytes 3273-3280": interval not in (0.0, float(_field(start, order, 3217))),
        f"additional trace headers ({headers} for each trace)": headers != 0,
        f"a first trace at byte {first}": first not in (0, begin),
        f"records after the traces ({trailer})": trailer != 0,
    }
    for words in (words for words, present in extensions.items() if present):
        raise TraceError(f"{where} it uses revision 2 with {words}, which is not supported. Write it as revision 1.")


def _order(start: bytes) -> Literal["big", "little"] | None:
    """Return the byte order in which the format code is a known one; in the other order it is 256 or more."""
    if len(start) < HEADERS:
        return None
    return next((order for order in _ORDERS if _field(start, order, 3225) in _KNOWN), None)


def _field(start: bytes, order: Literal["big", "little"], at: int) -> int:
    """Return two bytes of the headers as an unsigned number; `at` counts from 1 as in the standard."""
    # Unsigned, since intervals of 40000 µs and traces of 40000 samples exist.
    return int.from_bytes(start[at - 1 : at + 1], order)


def _signed(start: bytes, order: Literal["big", "little"], at: int) -> int:
    return int.from_bytes(start[at - 1 : at + 1], order, signed=True)


def _codes() -> str:
    return ", ".join(f"{code} ({words})" for code, (words, _) in _FORMATS.items())
