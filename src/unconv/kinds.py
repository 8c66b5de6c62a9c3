"""Arguments are of the kinds that a signature names: asked once, at the public door.

A function under `@checks_kinds` has each argument compared with its annotation before it runs: a number is a number, a tensor a
dense one with values, a list has whole numbers. What may be a value of that kind and still does not fit is the
function's own matter.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import cache, wraps
from numbers import Complex, Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor

from unconv.errors import DtypeError

_P = ParamSpec("_P")
_R = TypeVar("_R")

_DTYPES = {
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128),
}
_NUMBERS: dict[Any, tuple[type, str]] = {
    float: (Real, "a number"),
    int: (Integral, "a whole number"),
    complex: (Complex, "a number"),
}
_WORDS = {str: "a string", bool: "True or False", NoneType: "None"}
_MOST = 2**31 - 1  # torch's sizes overflow in silence beyond it


def checks_kinds(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Have the arguments of a public function, or of a class's `__init__`, compared with its annotations.

    Raises:
        DtypeError: an argument of another kind; it is named, with what came and what was needed.
    """
    return checks_kinds_but()(function)


def checks_kinds_but(*own: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """As `checks_kinds`, except for arguments that the function has words of its own for."""

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        path = function.__qualname__.rpartition("<locals>.")[2].removesuffix(".__init__")
        signature = inspect.signature(function)

        @wraps(function)
        def checked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            bound = signature.bind(*args, **kwargs)
            bound.arguments |= _taken(path, function, {k: v for k, v in bound.arguments.items() if k not in own})
            return function(*bound.args, **bound.kwargs)

        return checked

    return decorate


def check_fields(record: Any) -> None:
    """Compare a dataclass's fields with their annotations, as `checks_kinds` does with arguments; for its `__post_init__`."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    for name, value in _taken(type(record).__name__, type(record), values).items():
        object.__setattr__(record, name, value)  # also where it is frozen


def _taken(where: str, owner: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments as they are, but numbers and lists of numbers out of the tensors they came in."""
    hints = _hints(owner)
    for name, value in arguments.items():
        hint = hints.get(name, Any)
        if not fits_kind(value, hint):
            raise DtypeError(f"{where}: {name} is {shown(value)}, but {kind_words(hint)} was needed. Pass one.")
    return {name: _plain(value, hints.get(name, Any)) for name, value in arguments.items()}


def _plain(value: Any, hint: Any) -> Any:
    if hint is Any:
        return value
    if isinstance(value, np.generic) and not isinstance(value, str | bytes):
        return value.item()
    if isinstance(value, list | tuple) and any(isinstance(item, Tensor | np.generic) for item in value):
        inner = [get_args(part)[0] for part in _parts(hint) if get_origin(part) in (Sequence, list, tuple)]
        return tuple(item.item() if hasattr(item, "item") else item for item in value) if {*inner} & {*_NUMBERS} else value
    if not isinstance(value, Tensor | np.ndarray) or any(fits_kind(value, h) for h in _arrays(hint)):
        return value
    number = any(part in _NUMBERS and fits_kind(value, part) for part in _parts(hint))
    return value.item() if number else tuple(value.tolist())


def _parts(hint: Any) -> tuple[Any, ...]:
    """Return what an annotation is a choice of."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _arrays(hint: Any) -> list[Any]:
    """Return what of an annotation takes a tensor or an array as it is."""
    return [part for part in _parts(hint) if part in (Tensor, Any) or get_origin(part) is np.ndarray or part is np.ndarray]


@cache
def _hints(owner: Any) -> Mapping[str, Any]:
    return get_type_hints(owner)


def fits_kind(value: Any, hint: Any) -> bool:
    """Whether a value is of the kind that an annotation names; one that names none takes anything."""
    if hint is Any:
        return True
    if get_origin(hint) in (Union, UnionType):
        return any(fits_kind(value, part) for part in get_args(hint))
    if hint in _NUMBERS:
        return _is_number(value, _NUMBERS[hint][0])
    if hint is bool:
        return isinstance(value, bool | np.bool_)
    if hint is Tensor:
        return _is_dense(value)
    origin, parts = get_origin(hint) or hint, get_args(hint)
    if origin is Literal:
        return isinstance(value, str | int | NoneType) and value in parts
    if origin in (Sequence, list, tuple) and parts:
        return _are_parts(value, origin, parts)
    if origin is Callable:
        return callable(value)
    if getattr(hint, "_is_protocol", False):
        return all(hasattr(value, name) for name in _members(hint)) and not isinstance(value, type)
    if isinstance(origin, type) and origin.__module__.startswith("unconv.") and isinstance(value, type):
        return False
    if isinstance(origin, type) and hasattr(origin, "__annotations__") and origin.__module__.startswith("unconv."):
        return isinstance(value, origin) or (bool(origin.__annotations__) and all(hasattr(value, n) for n in _members(origin)))
    return not isinstance(origin, type) or isinstance(value, origin)


def _members(kind: type) -> list[str]:
    """Return the public names that stand for a kind, where one of the user's own may take its place."""
    return [name for name in (*vars(kind), *kind.__annotations__) if not name.startswith("_") or name == "__call__"]


def _is_number(value: Any, kind: type) -> bool:
    if isinstance(value, Tensor):
        if value.numel() != 1 or not _is_dense(value) or value.dtype is torch.bool:
            return False
        real = not value.is_complex() or kind is Complex
        return real and (kind is not Integral or not (value.is_floating_point() or value.is_complex()))
    if isinstance(value, np.ndarray):
        return False
    if isinstance(value, bool | np.bool_) or not isinstance(value, kind):
        return False
    return not isinstance(value, Integral) or abs(int(value)) <= _MOST


def _is_dense(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.dtype in _DTYPES
        and value.device.type != "meta"
        and not torch.nn.parameter.is_lazy(value)
    )


def _are_parts(value: Any, origin: Any, parts: tuple[Any, ...]) -> bool:
    if isinstance(value, Tensor | np.ndarray):
        return value.ndim == 1 and _are_parts(value.tolist(), origin, parts)
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return False
    if origin is tuple and parts[-1] is not Ellipsis:
        return len(value) == len(parts) and all(map(fits_kind, value, parts))
    return all(fits_kind(item, parts[0]) for item in value)


def kind_words(hint: Any) -> str:
    """Say what an annotation asks for."""
    if get_origin(hint) in (Union, UnionType):
        words = list(dict.fromkeys(kind_words(part) for part in get_args(hint)))
        return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
    if hint in _NUMBERS:
        return _NUMBERS[hint][1]
    if hint is Tensor:
        return "a dense torch.Tensor with values"
    origin, parts = get_origin(hint) or hint, get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, parts))
    if origin in (Sequence, list, tuple) and parts:
        many = f"{len(parts)} of" if origin is tuple and parts[-1] is not Ellipsis else "a list, each item"
        return f"{many} {kind_words(parts[0])}"
    if hint in _WORDS:
        return _WORDS[hint]
    name = getattr(origin, "__name__", str(origin))
    return "a function" if name == "Callable" else f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def shown(value: Any) -> str:
    """Return a value for a message: of a tensor or array, its kind."""
    if isinstance(value, Tensor):
        return f"a {'' if value.layout is torch.strided else 'sparse '}tensor of {tuple(value.shape)}, {value.dtype}"
    if isinstance(value, np.ndarray):
        return f"an array of {value.shape}, {value.dtype}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"
