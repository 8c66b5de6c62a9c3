"""Read indices and bits from arrays, lists and tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from unconv.errors import DtypeError, ShapeError
from unconv.kinds import shown


def integers_of(where: str, name: str, values: Any, most: int, what: str) -> Tensor:
    """Return integers (..., n) from 0 to `most` as an int64 tensor; True and False count as 1 and 0.

    Args:
        what: the end of the error message: "bits, 0 or 1, were needed. Pass (llr < 0)".

    Raises:
        DtypeError: values that are not integers. ShapeError: no values, or one out of range, with its position.
    """
    tensor = tensor_of(where, name, values, what)
    if tensor.is_floating_point() or tensor.is_complex():
        raise DtypeError(f"{where}: {name} is {shown(values)}, but {what}.")
    tensor = tensor.long()
    outside = (tensor < 0) | (tensor > most)
    if bool(outside.any()):
        first = tuple(torch.nonzero(outside)[0].tolist())
        raise ShapeError(f"{where}: {name} is {int(tensor[first])} at {first[0] if len(first) == 1 else first}, but {what}.")
    return tensor


def tensor_of(where: str, name: str, values: Any, what: str) -> Tensor:
    """Return an array, a list or a tensor of at least one axis as a detached tensor.

    Raises:
        DtypeError: values that are not numbers. ShapeError: no values.
    """
    if isinstance(values, Tensor) and values.layout is torch.strided:
        tensor = values.detach()
    else:
        try:
            array = np.asarray(values) if not isinstance(values, Tensor) else np.empty(0, object)
        except ValueError:
            array = np.empty(0, object)  # a ragged list: refused below
        if array.dtype.kind not in "fciub" or array.dtype.itemsize > 16:
            raise DtypeError(f"{where}: {name} is {shown(values)}, but {what}.")
        # torch knows neither the other byte order nor negative strides.
        array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
        tensor = torch.from_numpy(array.astype(np.int64) if array.dtype.kind == "u" else array.copy())
    if tensor.ndim < 1 or tensor.numel() == 0:
        raise ShapeError(f"{where}: {name} is {tuple(tensor.shape)}, but (..., n) with at least one value was needed.")
    return tensor
