"""The table of ONNX' operators, each a function of torch tensors, and what the functions need to read their settings."""

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
"""Samples of the largest tensor that a file may ask for: 1 GiB in float32."""

_F = TypeVar("_F", bound=Callable[..., Any])

Setting = Sequence[int] | int | Tensor
"""Whole numbers: of an attribute, a constant, or computed in the graph."""


class Unknown(Exception):
    """The answer depends on the picture's values, and so far there is only its shape."""


@dataclass(frozen=True)
class Operator:
    """One row.

    Args:
        function: takes the node's inputs by position, its attributes by keyword; and, if it has arguments called so,
            `opset`, `outputs`, how many results the node names, and `constant`, whether no input comes from the image.
            It returns a tensor, or a tuple of them.
        inputs: the names of its positional arguments.
        variadic: whether any number of inputs follows.
        attributes: the names of the attributes that it takes.
        asks: which of `opset`, `outputs` and `constant` it takes.
        settings: inputs that are numbers to it, not signals: a constant is passed as a number or a list.
        scalars: inputs that are passed as a number if they are a constant of no axes, or of one sample.
        statistics: inputs that were measured, not learned.
        types: attributes that name a type of numbers; the function gets an empty tensor of that type.
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
        """The name of the argument that the node's input at `position` is."""
        if position < len(self.inputs):
            return self.inputs[position]
        return f"inputs_{position - len(self.inputs)}"


_ASKED = {"opset", "outputs", "constant"}

_ROWS: dict[str, Operator] = {}

OPERATORS: Mapping[str, Operator] = MappingProxyType(_ROWS)
"""Every operator that can be run, by ONNX' name for it."""


def operator(
    *names: str,
    settings: Collection[str] = (),
    scalars: Collection[str] = (),
    statistics: Collection[str] = (),
    types: Collection[str] = (),
) -> Callable[[_F], _F]:
    """Make a function the row of the operators called `names`; all that is known of them is said here."""

    def register(function: _F) -> _F:
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
    """A setting as whole numbers.

    Raises:
        Unknown: the picture's values make it.
    """
    if isinstance(setting, Tensor):
        found: list[int] = known(setting).reshape(-1).tolist()
        return [int(number) for number in found]
    return [int(setting)] if isinstance(setting, int | float) else [int(number) for number in setting]


def numbers(setting: Sequence[float] | float | Tensor) -> list[float]:
    """A setting as numbers; as `integers`."""
    if isinstance(setting, Tensor):
        return [float(number) for number in known(setting).reshape(-1).tolist()]
    return [float(setting)] if isinstance(setting, int | float) else [float(number) for number in setting]


def known(tensor: Tensor) -> Tensor:
    """The tensor, whose values are about to be read.

    Raises:
        Unknown: it has none, only a shape.
    """
    if tensor.is_meta:
        raise Unknown
    return tensor


def bounded(shape: Iterable[int], most: int = LARGEST) -> list[int]:
    """The shape of a tensor about to be made, in whole numbers.

    Raises:
        ShapeError: it has a negative length, or more than `most` samples.
    """
    lengths = list(shape)
    if any(n < 0 for n in lengths) or prod(lengths) > most:
        raise ShapeError(f"it asks for a tensor of {tuple(lengths)}, but at most {most:,} samples were expected")
    return lengths


def axis_of(axis: int, rank: int) -> int:
    """The axis counted from the first.

    Raises:
        ShapeError: there is none.
    """
    if not -rank <= axis < max(rank, 1):
        raise ShapeError(f"it works along axis {axis}, but its input has {rank} axes")
    return axis % max(rank, 1)


def chosen(what: str, value: str, choices: Mapping[str, Any]) -> Any:
    """What stands for `value` in the table of `choices`.

    Raises:
        UnconvError: nothing does.
    """
    if value not in choices:
        raise UnconvError(f"its {what} is {value!r}, but {', '.join(choices)} was expected")
    return choices[value]


def at_place(tensor: Tensor, x: Tensor) -> Tensor:
    """A tensor made on the processor, where `x` is."""
    return tensor if tensor.device == x.device else tensor.to(x.device)


def whole_numbers(values: Iterable[int], x: Tensor) -> Tensor:
    """Whole numbers as a tensor that can index `x`."""
    return torch.tensor(list(values), dtype=torch.int64, device="cpu").to(x.device)
