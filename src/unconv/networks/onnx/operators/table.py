"""The table of ONNX' operators, each a function of torch tensors, and helpers to read their settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from torch import Tensor

from unconv.errors import ShapeError, UnconvError

LARGEST = 2**28
"""The most samples of a tensor that a file may ask for: 1 GiB in float32."""

_F = TypeVar("_F", bound=Callable[..., Any])

Setting = Sequence[int] | int | Tensor
"""Integers: an attribute, a constant, or computed in the graph."""


class Unknown(Exception):
    """The result depends on the picture's values, but only its shape is known so far."""


@dataclass(frozen=True)
class Operator:
    """One row.

    Args:
        function: takes the node's inputs by position and its attributes by keyword. If it has arguments of these names,
            it also gets `opset`; `outputs`, the number of results that the node names; and `constant`, whether no input
            comes from the image. It returns a tensor or a tuple of tensors.
        inputs: the names of its positional arguments.
        variadic: whether any number of inputs may follow.
        attributes: the names of the attributes that it takes.
        asks: which of `opset`, `outputs` and `constant` it takes.
        settings: inputs that are numbers, not signals; a constant one is passed as a number or a list.
        scalars: inputs that are passed as a number if they are a constant without axes or with one sample.
        statistics: inputs that were measured, not learned.
        types: attributes that name a number type; the function gets an empty tensor of that type.
    """

    function: Callable[..., Any]
    inputs: tuple[str, ...]
    variadic: bool
    attributes: frozenset[str]
    asks: frozenset[str]
    settings: frozenset[str]
    scalars: frozenset[str]
    statistics: frozenset[str]
    types: frozenset[str]

    def name_of_input(self, position: int) -> str:
        """Return the argument's name for the node's input at `position`."""
        if position < len(self.inputs):
            return self.inputs[position]
        return f"inputs_{position - len(self.inputs)}"


_ASKED = {"opset", "outputs", "constant"}

_ROWS: dict[str, Operator] = {}

OPERATORS: Mapping[str, Operator] = MappingProxyType(_ROWS)
"""All operators that can be run, by their ONNX names."""


def operator(
    *names: str,
    settings: Collection[str] = (),
    scalars: Collection[str] = (),
    statistics: Collection[str] = (),
    types: Collection[str] = (),
) -> Callable[[_F], _F]:
    """Register a function as the row of the operators `names`; its signature says the rest."""

    def register(function: _F) -> _F:
        # Positional parameters are inputs and keyword-only ones attributes, so that a row needs no second list of either.
        parameters = inspect.signature(function).parameters.values()
        inputs = tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)
        options = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
        row = Operator(
            function,
            inputs,
            any(p.kind is p.VAR_POSITIONAL for p in parameters),
            frozenset(options - _ASKED | {*settings, *scalars}),
            frozenset(options & _ASKED),
            *map(frozenset, (settings, scalars, statistics, types)),
        )
        _ROWS.update(dict.fromkeys(names, row))
        return function

    return register


def integers(setting: Setting) -> list[int]:
    """Return a setting as integers.

    Raises:
        Unknown: it depends on the picture's values.
    """
    if isinstance(setting, Tensor):
        values: list[int] = known(setting).reshape(-1).tolist()
        return [int(number) for number in values]
    return [int(setting)] if isinstance(setting, int | float) else [int(number) for number in setting]


def numbers(setting: Sequence[float] | float | Tensor) -> list[float]:
    """Return a setting as numbers; otherwise as `integers`."""
    if isinstance(setting, Tensor):
        return [float(number) for number in known(setting).reshape(-1).tolist()]
    return [float(setting)] if isinstance(setting, int | float) else [float(number) for number in setting]


def known(tensor: Tensor) -> Tensor:
    """Return the tensor if its values can be read.

    Raises:
        Unknown: it has no values, only a shape.
    """
    if tensor.is_meta:
        raise Unknown
    return tensor


def bounded(shape: Iterable[int], most: int = LARGEST) -> list[int]:
    """Return the shape of a tensor about to be created, as a list, if it is not too large.

    Raises:
        ShapeError: it has a negative length, or more than `most` samples.
    """
    lengths = list(shape)
    if any(n < 0 for n in lengths) or prod(lengths) > most:
        raise ShapeError(f"it asks for a tensor of {tuple(lengths)}, but at most {most:,} samples were expected")
    return lengths


def axis_of(axis: int, rank: int) -> int:
    """Return an axis counted from the first; a negative one counts from the last.

    Raises:
        ShapeError: there is no such axis.
    """
    if not -rank <= axis < max(rank, 1):
        raise ShapeError(f"its axis is {axis}, but its input has {rank} {'axis' if rank == 1 else 'axes'}")
    return axis % max(rank, 1)


def choose(what: str, value: str, choices: Mapping[str, Any]) -> Any:
    """Return the entry of `value` in the table `choices`.

    Raises:
        UnconvError: there is none.
    """
    if value not in choices:
        raise UnconvError(f"its {what} is {value!r}, but {', '.join(choices)} was expected")
    return choices[value]


def index_tensor(values: Iterable[int], x: Tensor) -> Tensor:
    """Return integers as a tensor that can index `x`."""
    return torch.tensor(list(values), dtype=torch.int64, device="cpu").to(x.device)
