"""Files of traces, made by hand: SEG-Y from bytes, whatever a library would say to them."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np

DATA = Path(os.environ.get("UNCONV_DATA", Path(__file__).parents[3] / "shared" / "data")) / "inverse" / "seismic"
TYPES = {2: "i4", 3: "i2", 5: "f4", 6: "f8", 8: "i1", 10: "u4", 11: "u2", 16: "u1"}


def ibm(values: np.ndarray) -> np.ndarray:
    """IBM floats, a sample at a time: sign, exponent of 16 from 64, six hexadecimal digits, rounded."""
    words = []
    for value in values.ravel().tolist():
        exponent, rest = 64, abs(value)
        while rest >= 1:
            rest, exponent = rest / 16, exponent + 1
        while 0 < rest < 1 / 16:
            rest, exponent = rest * 16, exponent - 1
        words.append((value < 0) << 31 | (exponent << 24 if value else 0) | int(rest * 2**24))
    return np.array(words, np.uint32).reshape(values.shape)


def segy(
    path: Path,
    values: np.ndarray,
    code: int = 5,
    mark: str = ">",
    interval: int = 2000,
    own: int | list[int] = 2000,
    delay: int | list[int] = 0,
    revision: int = 1,
    extended: int = 0,
    binary: dict[int, tuple[str, float]] | None = None,
) -> Path:
    """Write a SEG-Y file of traces (n, samples), its headers full of marks of their own.

    Args:
        interval, own: microseconds in the binary header and in the trace headers.
        binary: more of the binary header: what stands from a byte on.
    """
    count, samples = values.shape
    rng = np.random.default_rng(0)
    head = bytearray(b"".join(f"C{line:2} TEST".ljust(80).encode("cp037") for line in range(40)) + rng.bytes(400))
    head[3260:3500] = bytes(240)
    for at, value in ((3217, interval), (3221, samples), (3225, code), (3501, revision << 8), (3503, 1), (3505, extended)):
        struct.pack_into(f"{mark}H", head, at - 1, value)
    head[3506:3600] = bytes(94)
    for at, (form, number) in (binary or {}).items():
        struct.pack_into(mark + form, head, at - 1, number)
    content = bytes(head) + rng.bytes(3200 * extended)
    stored = ibm(values).astype(f"{mark}u4") if code == 1 else values.astype(mark + TYPES[code])
    for number in range(count):
        trace = bytearray(rng.bytes(240))
        fields = {115: samples, 117: own if isinstance(own, int) else own[number], 203: 7, 215: 0}
        fields[109] = delay if isinstance(delay, int) else delay[number]
        for at, value in fields.items():
            struct.pack_into(f"{mark}H", trace, at - 1, value)
        struct.pack_into(f"{mark}ii", trace, 188, 10 + number, 1155)
        content += bytes(trace) + stored[number].tobytes()
    path.write_bytes(content)
    return path
