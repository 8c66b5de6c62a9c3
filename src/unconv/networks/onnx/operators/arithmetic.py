"""Two or more tensors, sample by sample: arithmetic, comparisons, and choices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import torch
from torch import Tensor

from unconv.networks.onnx.operators.table import axis_of, numbers, operator


def _aligned(x: Tensor, y: Tensor, axis: int | None) -> Tensor:
    """y with the axes that opset 6 and older let it stand at."""
    if axis is None or y.ndim == 0:
        return y
    return y.reshape([*y.shape, *[1] * (x.ndim - axis_of(axis, x.ndim) - y.ndim)])


def _of_two(name: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
    def run(x: Tensor, y: Tensor, *, axis: int | None = None, broadcast: int = 0) -> Tensor:
        return function(x, _aligned(x, y, axis))

    operator(name)(run)


def _quotient(x: Tensor, y: Tensor) -> Tensor:
    return x / y if x.is_floating_point() or y.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


_ROWS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add,
    "And": torch.logical_and,
    "Div": _quotient,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Mul": torch.mul,
    "Or": torch.logical_or,
    "Sub": torch.sub,
    "Xor": torch.logical_xor,
}
for _name, _function in _ROWS.items():
    _of_two(_name, _function)


@operator("Pow", scalars=("y",))
def power(x: Tensor, y: Tensor | Sequence[float] | float, *, axis: int | None = None, broadcast: int = 0) -> Tensor:
    """x to the power of y, in the type of x."""
    if not isinstance(y, Tensor):
        (y,) = numbers(y)
        whole = not x.is_floating_point() and y == int(y) and y >= 0
        return x.pow(int(y) if whole else y).to(x.dtype)
    return x.pow(_aligned(x, y, axis)).to(x.dtype)


@operator("Mod")
def modulo(x: Tensor, y: Tensor, *, fmod: int = 0) -> Tensor:
    """The rest of a division: with the sign of y, or, if `fmod`, of x."""
    return torch.fmod(x, y) if fmod else torch.remainder(x, y)


@operator("Max")
def maximum(*inputs: Tensor) -> Tensor:
    """The largest of all."""
    return reduce(torch.maximum, inputs)


@operator("Min")
def minimum(*inputs: Tensor) -> Tensor:
    """The smallest of all."""
    return reduce(torch.minimum, inputs)


@operator("Sum")
def total(*inputs: Tensor) -> Tensor:
    """The sum of all."""
    return reduce(torch.add, inputs)


@operator("Mean")
def mean(*inputs: Tensor) -> Tensor:
    """The mean of all."""
    return reduce(torch.add, inputs) / len(inputs)


@operator("Where")
def where(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """x where the condition holds, y elsewhere."""
    return torch.where(condition.bool(), x, y)
