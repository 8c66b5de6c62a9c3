"""Arithmetic, comparisons and choices of two or more tensors, sample by sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import torch
from torch import Tensor

from unconv.networks.onnx.operators.table import axis_of, numbers, operator


def _aligned(x: Tensor, y: Tensor, axis: int | None) -> Tensor:
    """Return y aligned with the axes of x from `axis` on, as up to opset 6, which did not broadcast as numpy does."""
    if axis is None or y.ndim == 0:
        return y
    return y.reshape([*y.shape, *[1] * (x.ndim - axis_of(axis, x.ndim) - y.ndim)])


def _register(name: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
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
    _register(_name, _function)


@operator("Pow", scalars=("y",))
def power(x: Tensor, y: Tensor | Sequence[float] | float, *, axis: int | None = None, broadcast: int = 0) -> Tensor:
    """Return x to the power of y, in the type of x."""
    if not isinstance(y, Tensor):
        (y,) = numbers(y)
        exact = not x.is_floating_point() and y == int(y) and y >= 0
        return x.pow(int(y) if exact else y).to(x.dtype)
    return x.pow(_aligned(x, y, axis)).to(x.dtype)


@operator("Mod")
def modulo(x: Tensor, y: Tensor, *, fmod: int = 0) -> Tensor:
    """Return the remainder of a division, with the sign of y, or of x if `fmod`."""
    return torch.fmod(x, y) if fmod else torch.remainder(x, y)


@operator("Max")
def maximum(*inputs: Tensor) -> Tensor:
    """Return the largest of the inputs."""
    return reduce(torch.maximum, inputs)


@operator("Min")
def minimum(*inputs: Tensor) -> Tensor:
    """Return the smallest of the inputs."""
    return reduce(torch.minimum, inputs)


@operator("Sum")
def total(*inputs: Tensor) -> Tensor:
    """Return the sum of the inputs."""
    return reduce(torch.add, inputs)


@operator("Mean")
def mean(*inputs: Tensor) -> Tensor:
    """Return the mean of the inputs."""
    return reduce(torch.add, inputs) / len(inputs)


@operator("Where")
def where(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return x where the condition is true, y elsewhere."""
    return torch.where(condition.bool(), x, y)
