"""The tensors in an ONNX file, each checked against the bytes that are there before memory is allocated."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unconv.errors import DtypeError, WeightsError
from unconv.networks.onnx.external import DataFiles

# By ONNX' number: its name; bits of a sample; numpy's type for the bytes; the torch type it becomes. torch computes
# with few unsigned types, so that they become the next larger signed one.
_TYPES: dict[int, tuple[str, int, str, torch.dtype]] = {
    1: ("float", 32, "<f4", torch.float32),
    2: ("uint8", 8, "u1", torch.uint8),
    3: ("int8", 8, "i1", torch.int8),
    4: ("uint16", 16, "<u2", torch.int32),
    5: ("int16", 16, "<i2", torch.int16),
    6: ("int32", 32, "<i4", torch.int32),
    7: ("int64", 64, "<i8", torch.int64),
    9: ("bool", 8, "u1", torch.bool),
    10: ("float16", 16, "<f2", torch.float16),
    11: ("double", 64, "<f8", torch.float64),
    12: ("uint32", 32, "<u4", torch.int64),
    13: ("uint64", 64, "<u8", torch.int64),
    16: ("bfloat16", 16, "<i2", torch.bfloat16),
    21: ("uint4", 4, "u1", torch.uint8),
    22: ("int4", 4, "u1", torch.int8),
}
_OTHERS = {8: "string", 14: "complex64", 15: "complex128", **dict.fromkeys((17, 18, 19, 20, 24), "float8"), 23: "float4"}

# The protobuf field with the samples if they are not raw bytes.
_FIELDS = {1: "float_data", 11: "double_data", 7: "int64_data", 12: "uint64_data", 13: "uint64_data"}


def torch_type(number: int, what: str) -> torch.dtype:
    """Return torch's type for ONNX' type `number`.

    Raises:
        DtypeError: there is none.
    """
    if number not in _TYPES:
        name = _OTHERS.get(number, f"of type {number}")
        raise DtypeError(f"{what} is {name}, but float, integer or bool numbers were needed. Export the model in float32.")
    return _TYPES[number][3]


def read_tensor(proto: Any, files: DataFiles) -> Tensor:
    """Return the tensor in a TensorProto, in memory of its own.

    Raises:
        WeightsError: its shape and its bytes do not agree.
        DtypeError: its type cannot be computed with.
    """
    where = f"load: {files.model}: the tensor {proto.name!r}"
    dtype = torch_type(proto.data_type, where)
    _name, bits, numpy_type, _dtype = _TYPES[proto.data_type]
    shape = tuple(proto.dims)
    # A length of 0 counts as 1 here: a product of 0 would hide other lengths that no integer of torch's can hold.
    if any(n < 0 for n in shape) or prod(n or 1 for n in shape) >= 2**62 or proto.HasField("segment"):
        raise WeightsError(f"{where} has the shape {shape}, which no tensor can have. Export the model again.")
    count = prod(shape)
    size = (count * bits + 7) // 8
    if proto.data_location == 1:
        entries = {entry.key: entry.value for entry in proto.external_data}
        values = files.read(proto.name, entries, size).view(numpy_type)
    elif proto.HasField("raw_data"):
        if len(proto.raw_data) != size:
            raise _wrong_length(where, shape, size, len(proto.raw_data), "bytes")
        values = np.frombuffer(proto.raw_data, numpy_type)
    else:
        values = _from_field(proto, numpy_type, count if bits >= 8 else size, where, shape)
    return _as_torch(values, proto.data_type, count, dtype, where).reshape(shape)


def _from_field(proto: Any, numpy_type: str, count: int, where: str, shape: tuple[int, ...]) -> np.ndarray:
    numbers = getattr(proto, _FIELDS.get(proto.data_type, "int32_data"))
    if len(numbers) != count:
        raise _wrong_length(where, shape, count, len(numbers), "numbers")
    if proto.data_type in (10, 16):  # each integer has the bits of one half-precision number
        return np.array(numbers, np.int64).astype(np.uint16).view(numpy_type)
    wide = np.array(numbers, np.dtype(numpy_type) if proto.data_type in _FIELDS else np.int64)
    return wide.astype(numpy_type)


def _wrong_length(where: str, shape: tuple[int, ...], needed: int, there: int, what: str) -> WeightsError:
    return WeightsError(
        f"{where} has the shape {shape}, which takes {needed:,} {what}, but {there:,} are there; "
        "the file is damaged or cut off. Export the model again."
    )


def _as_torch(values: np.ndarray, number: int, count: int, dtype: torch.dtype, where: str) -> Tensor:
    """Return a tensor in memory of its own from the numbers as they were read."""
    if number in (21, 22):  # two samples a byte, the first in the lower half
        pairs = np.stack([values & 15, values >> 4], 1).reshape(-1)[:count].astype(np.int16)
        values = np.where(pairs > 7, pairs - 16, pairs) if number == 22 else pairs
    if number == 13 and values.size and int(values.max()) > 2**63 - 1:
        raise DtypeError(f"{where} holds a uint64 above {2**63 - 1:,}, which torch has no type for. Export the model in int64.")
    if number == 9:
        values = values != 0
    native = np.array(values, values.dtype.newbyteorder("="))
    if number == 16:
        return torch.from_numpy(native).view(torch.bfloat16)
    if number in (4, 12, 13):
        native = native.astype(np.int32 if number == 4 else np.int64)
    return torch.from_numpy(native).to(dtype)
