"""Check that arguments are of the kinds that a signature names, once, where a user calls.

A function under `@checks_kinds` has each argument compared with its annotation before it runs: a number must be a number, a
tensor must be dense and have values, and so on. A value of the right kind may still not fit; that is for the function to check.
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
_MOST = 2**31 - 1  # torch's sizes overflow silently beyond it


def checks_kinds(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Return a public function, or a class's `__init__`, that compares its arguments with its annotations first.

    Raises:
        DtypeError: an argument of another kind. The message names it, with what came and what was needed.
    """
    return checks_kinds_but()(function)


def checks_kinds_but(*own: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """As `checks_kinds`, except for the arguments named in `own`, which the function checks with messages of its own."""

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        path = function.__qualname__.rpartition("<locals>.")[2].removesuffix(".__init__")
        signature = inspect.signature(function)

        @wraps(function)
        def checked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            bound = signature.bind(*args, **kwargs)
            bound.arguments |= _check(path, function, {k: v for k, v in bound.arguments.items() if k not in own})
            return function(*bound.args, **bound.kwargs)

        return checked

    return decorate


def check_fields(record: Any) -> None:
    """Compare a dataclass's fields with their annotations, as `checks_kinds` does with arguments; for its `__post_init__`."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    for name, value in _check(type(record).__name__, type(record), values).items():
        object.__setattr__(record, name, value)  # also where it is frozen


def _check(where: str, owner: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments, checked against their annotations; numbers in tensors become plain numbers.

    Raises:
        DtypeError: an argument of another kind.
    """
    hints = _hints(owner)
    for name, value in arguments.items():
        hint = hints.get(name, Any)
        if not fits_kind(value, hint):
            raise DtypeError(f"{where}: {name} is {shown(value)}, but {kind_words(hint)} was needed. Pass one.")
    return {name: _without_tensor(value, hints.get(name, Any)) for name, value in arguments.items()}


def _without_tensor(value: Any, hint: Any) -> Any:
    if hint is Any:
        return value
    if isinstance(value, np.generic) and not isinstance(value, str | bytes):
        return value.item()
    # A list of 0-d tensors where the annotation has numbers: numbers. A list of tensors where it has tensors stays.
    if isinstance(value, list | tuple) and any(isinstance(item, Tensor | np.generic) for item in value):
        inner = [get_args(part)[0] for part in _alternatives(hint) if get_origin(part) in (Sequence, list, tuple)]
        return tuple(item.item() if hasattr(item, "item") else item for item in value) if {*inner} & {*_NUMBERS} else value
    if not isinstance(value, Tensor | np.ndarray) or any(fits_kind(value, h) for h in _array_hints(hint)):
        return value
    number = any(part in _NUMBERS and fits_kind(value, part) for part in _alternatives(hint))
    return value.item() if number else tuple(value.tolist())


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """Return the alternatives of a union annotation; otherwise the annotation alone."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _array_hints(hint: Any) -> list[Any]:
    """Return those alternatives of an annotation that take a tensor or an array as it is."""
    return [
        part for part in _alternatives(hint) if part in (Tensor, Any) or get_origin(part) is np.ndarray or part is np.ndarray
    ]


@cache
def _hints(owner: Any) -> Mapping[str, Any]:
    return get_type_hints(owner)


def fits_kind(value: Any, hint: Any) -> bool:
    """Return whether a value is of the kind that an annotation names; an annotation that names none accepts anything."""
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
    if origin is Literal:  # an array would answer the comparison with an array
        return isinstance(value, str | int | NoneType) and value in parts
    if origin in (Sequence, list, tuple) and parts:
        return _is_sequence_of(value, origin, parts)
    if origin is Callable:
        return callable(value)
    if getattr(hint, "_is_protocol", False):
        return all(hasattr(value, name) for name in _members(hint)) and not isinstance(value, type)
    # One of our classes: its instances, or an object of the user's own with the same public names. Never a class itself.
    if isinstance(origin, type) and origin.__module__.startswith("unconv.") and isinstance(value, type):
        return False
    if isinstance(origin, type) and hasattr(origin, "__annotations__") and origin.__module__.startswith("unconv."):
        return isinstance(value, origin) or (bool(origin.__annotations__) and all(hasattr(value, n) for n in _members(origin)))
    return not isinstance(origin, type) or isinstance(value, origin)


def _members(kind: type) -> list[str]:
    """Return the public names of a class: an object of the user's own that has them may take its place."""
    return [name for name in (*vars(kind), *kind.__annotations__) if not name.startswith("_") or name == "__call__"]


def _is_number(value: Any, kind: type) -> bool:
    if isinstance(value, Tensor):
        if value.numel() != 1 or not _is_dense(value) or value.dtype is torch.bool:
            return False
        real = not value.is_complex() or kind is Complex
        return real and (kind is not Integral or not (value.is_floating_point() or value.is_complex()))
    if isinstance(value, np.ndarray):
        return False
    if isinstance(value, bool | np.bool_) or not isinstance(value, kind):  # to Python, True is the integer 1
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


def _is_sequence_of(value: Any, origin: Any, parts: tuple[Any, ...]) -> bool:
    if isinstance(value, Tensor | np.ndarray):
        return value.ndim == 1 and _is_sequence_of(value.tolist(), origin, parts)
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return False
    if origin is tuple and parts[-1] is not Ellipsis:
        return len(value) == len(parts) and all(map(fits_kind, value, parts))
    return all(fits_kind(item, parts[0]) for item in value)


def kind_words(hint: Any) -> str:
    """Return in words what an annotation asks for."""
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
        many = f"a tuple ({len(parts)} items, each" if origin is tuple and parts[-1] is not Ellipsis else "a list (each item"
        return f"{many} {kind_words(parts[0])})"
    if hint in _WORDS:
        return _WORDS[hint]
    name = getattr(origin, "__name__", str(origin))
    return "a function" if name == "Callable" else f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def shown(value: Any) -> str:
    """Return a value as text for a message; a tensor or an array is described by its shape and type."""
    if isinstance(value, Tensor):
        return f"a {'' if value.layout is torch.strided else 'sparse '}tensor of {tuple(value.shape)}, {value.dtype}"
    if isinstance(value, np.ndarray):
        return f"an array of {value.shape}, {value.dtype}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"
