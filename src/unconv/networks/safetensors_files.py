"""The header of a .safetensors file, which must describe the file's bytes exactly.

Source:
    The format documented by safetensors 0.4: the header's length in 8 bytes, the header in JSON, the samples.
"""

from __future__ import annotations

import json
import math
from typing import Any, BinaryIO

from unconv.networks.model_files import Unfit, shown, size_of
from unconv.networks.stored import Extent, Stored, contiguous

_MOST_HEADER = 1 << 24  # bytes; a hundred thousand tensors take half of that

_TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "C64": "complex64",
    "BOOL": "bool",
    **{f"{sign}{bits}": f"{word}{bits}" for sign, word in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)},
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F4": "float4_e2m1fn_x2",
    "F6_E2M3": "float6_e2m3fn",
    "F6_E3M2": "float6_e3m2fn",
}
_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "C64": 64, "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}


def describe_safetensors(file: BinaryIO) -> dict[str, Stored]:
    """Return the tensors that a .safetensors file lists, with their byte ranges.

    Raises:
        Unfit: the header is damaged, or its tensors do not cover the file's bytes exactly once.
    """
    total = size_of(file)
    length = int.from_bytes(file.read(8), "little")
    if total < 8 or length > min(_MOST_HEADER, total - 8):
        raise Unfit(f"its header announces {length:,} bytes, but the file has {total:,}")
    try:
        header = json.loads(file.read(length).decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise Unfit("its header is damaged") from error
    if not isinstance(header, dict):
        raise Unfit("its header lists no tensors")
    header.pop("__metadata__", None)
    state = {key: _stored(key, entry, 8 + length) for key, entry in header.items()}
    # In order of their bytes, each tensor must begin where the one before ends: no byte is shared, none left over.
    position = 8 + length
    for key, stored in sorted(state.items(), key=lambda item: _byte_range(item[1])):
        assert stored.extent is not None
        if stored.extent.start != position:
            raise Unfit(f"{shown(key)} begins at byte {stored.extent.start:,}, but the one before it ends at {position:,}")
        position += stored.extent.size
    if position != total:
        raise Unfit(f"its tensors end at byte {position:,}, but the file at {total:,}")
    return state


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a name occurs twice")
    return entries


def _byte_range(stored: Stored) -> tuple[int, int]:
    assert stored.extent is not None
    return stored.extent.start, stored.extent.size


def _stored(key: str, entry: Any, base: int) -> Stored:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise Unfit(f"its entry for {shown(key)} is damaged")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    is_known = isinstance(dtype, str) and dtype in _TYPES
    if not is_known or not _are_counts(shape, 64) or not _are_counts(offsets, 2) or len(offsets) < 2:
        raise Unfit(f"its entry for {shown(key)} is damaged, or of a type that torch does not have")
    bits = _BITS.get(dtype) or int("".join(digit for digit in dtype.split("_")[0] if digit.isdigit()))
    size = offsets[1] - offsets[0]
    if math.prod(shape) * bits != size * 8:
        raise Unfit(f"{shown(key)} of {tuple(shape)} and type {dtype} does not fill its {size:,} bytes")
    return Stored(_TYPES[dtype], tuple(shape), Extent(base + offsets[0], size), 0, contiguous(shape))


def _are_counts(value: Any, most: int) -> bool:
    if not isinstance(value, list) or len(value) > most:
        return False
    return all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**63 for n in value)
