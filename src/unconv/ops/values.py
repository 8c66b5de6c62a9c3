"""Read the tensors of a call: arrays and lists are accepted too, autocast applies, and so do TensorFlow 1's names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unconv.errors import DtypeError
from unconv.ops.arguments import FLOATS, Layout, dense_tensors

Values: TypeAlias = Tensor | NDArray[Any] | Sequence[Any]
_CONVOLVED = (*FLOATS, torch.int32)
_P = ParamSpec("_P")
_R = TypeVar("_R")


def operands(where: str, layout: Layout, **values: Any) -> tuple[Tensor, ...]:
    """Return the tensors to convolve: of the layout's rank, of one type (floating or int32) and on one device.

    Under autocast float32, bfloat16 and float16 are cast, as before torch's own convolutions; float64 stays.
    """
    tensors = as_tensors(where, **values)
    if torch._C._is_any_autocast_enabled():
        tensors = {name: _autocast(tensor) for name, tensor in tensors.items()}
    dense_tensors(where, layout, _CONVOLVED, **tensors)
    return tuple(tensors.values())


def _autocast(tensor: Tensor) -> Tensor:
    device = tensor.device.type
    cast = tensor.dtype in (torch.float32, torch.bfloat16, torch.float16) and device in ("cpu", "cuda")
    return tensor.to(torch.get_autocast_dtype(device)) if cast and torch.is_autocast_enabled(device) else tensor


def as_tensors(where: str, **values: Any) -> dict[str, Tensor]:
    """Return arrays and lists as tensors, with the type and device of the first tensor among the arguments.

    Without a tensor an array keeps its type, and lists become float32 or int32, as in TensorFlow.
    """
    tensors = [value for value in values.values() if isinstance(value, Tensor)]
    if len(tensors) == len(values):
        return values
    like = tensors[0] if tensors else None
    return {name: value if isinstance(value, Tensor) else _read(where, name, value, like) for name, value in values.items()}


def _read(where: str, name: str, value: Any, like: Tensor | None) -> Tensor:
    listed = isinstance(value, (list, tuple))
    if not listed and not hasattr(value, "__array__"):
        raise DtypeError(
            f"{where}: {name} is a {type(value).__name__}, but a torch.Tensor was needed, or an array or list of numbers. "
            f"Pass torch.as_tensor({name})."
        )
    array = _array(where, name, value)
    if array.dtype.kind not in "iuf" or array.dtype.itemsize > 8:
        raise DtypeError(f"{where}: {name} holds {array.dtype}, but numbers were needed. Pass real numbers of 64 bits at most.")
    if listed and array.dtype.kind == "f":
        array = array.astype(np.float32)
    elif listed and array.size and -(2**31) <= array.min() and array.max() < 2**31:
        array = array.astype(np.int32)
    tensor = torch.tensor(array)  # a copy: sharing memory with a read-only array would warn
    return tensor if like is None or not (like.is_floating_point() or listed) else tensor.to(like)


def _array(where: str, name: str, value: Any) -> Any:
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise DtypeError(f"{where}: {name} is not an array of numbers: {error}. Pass nested lists of equal lengths.") from error
    return np.ascontiguousarray(array, array.dtype.newbyteorder("=")) if array.ndim else array


def takes_old_names(**names: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Return a decorator that also takes keywords by their TensorFlow 1 names, and ignores those that mean nothing here."""
    ignored = ("name", "use_cudnn_on_gpu")

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        @wraps(function)
        def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            if not kwargs:
                return function(*args, **kwargs)  # nothing to rename; small calls feel every microsecond
            renamed: Any = {}
            for key, value in kwargs.items():
                ours = names.get(key, key)
                if ours != key and ours in kwargs:
                    raise DtypeError(
                        f"{function.__name__}: {key} is TensorFlow 1's name for {ours}, and both came, but only one was "
                        f"needed. Pass {ours} alone."
                    )
                if key not in ignored:
                    renamed[ours] = value
            return function(*args, **renamed)

        return wrapper

    return decorate
