"""Recognise an activation by its values and slopes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from unconv.reverse.rules.pointwise import RELU, SQUARED_RELU, SWISH
from unconv.reverse.tape.schema import arguments
from unconv.reverse.tape.step import Step, Value

aten = torch.ops.aten

# The points at which functions are compared, near zero and far from it. The kinks of ReLU6 and hardswish, at 0, 3 and 6, lie
# between them.
_SIDE = (1e-3, 0.01, 0.1, 0.25, 0.5, 1.0, 1.4, 1.9, 2.4, 2.9, 3.3, 4.0, 4.9, 5.9, 6.3, 8.0, 12.0, 19.0, 40.0)
PROBES = torch.tensor([*(-x for x in reversed(_SIDE)), 0.0, *_SIDE], dtype=torch.float64)
_KINKS = (0.0, 3.0, 6.0)

_STEP = 1e-4
_VALUES, _SLOPES = 2e-6, 2e-5  # formulas round their constants, such as 0.7978845608


@dataclass(frozen=True)
class Activation:
    """A named activation with its settings.

    Args:
        settings: arguments after the input.
        named: keyword arguments.
        kinks: where its slope jumps, besides 0, 3 and 6.
        by_sign: whether its slope depends only on the sign of the input.
    """

    operation: OpOverload
    settings: tuple[Any, ...] = ()
    named: dict[str, Any] = field(default_factory=dict)
    kinks: tuple[float, ...] = ()
    by_sign: bool = False

    def arguments(self, x: Any) -> tuple[Any, ...]:
        """Return all arguments in the order of the schema."""
        return arguments(self.operation, (x, *self.settings), self.named)

    def __call__(self, x: Tensor) -> Tensor:
        value = Value(0, tuple(x.shape), x.dtype)
        result: Tensor = Step(self.operation, self.arguments(value), (value,), (value,), "").again([x])
        return result


def activations(y: Tensor) -> Iterator[Activation]:
    """Yield candidates for a function with the values `y` (P, ...) at the probes, their settings read off from these values."""
    differing = bool((y != y.reshape(len(y), -1)[:, 0].reshape(-1, *[1] * (y.ndim - 1))).any())
    if differing:
        # PReLU is the only activation whose settings differ by channel.
        yield Activation(aten._prelu_kernel.default, (-_at(y, -1.0),), by_sign=True)
        return

    def f(x: float) -> float:
        return float(_at(y, x).flatten()[0])

    # A setting may be read off a single probe, as the caller compares each candidate with the formula at all of them.
    yield Activation(RELU, by_sign=True)
    yield Activation(aten.alias.default, by_sign=True)
    yield Activation(aten.silu.default)
    for approximate in ("none", "tanh"):
        yield Activation(aten.gelu.default, named={"approximate": approximate})
    yield Activation(aten.hardswish.default)
    yield Activation(aten.mish.default)
    yield Activation(SQUARED_RELU)
    if f(40.0) > 0:
        yield Activation(aten.hardtanh.default, (0.0, f(40.0)), kinks=(f(40.0),))
    if 0 < abs(f(-1.0)) < 1:
        yield Activation(aten.leaky_relu.default, (-f(-1.0),), by_sign=True)
    if f(0.0) > 0:  # softplus(0) = log(2) / beta
        yield Activation(aten.softplus.default, (math.log(2) / f(0.0), 20.0))
    if 0 < f(1.0) < 1:  # swish(1) = sigmoid(beta)
        yield Activation(SWISH, (math.log(f(1.0) / (1 - f(1.0))),))
    # elu(x) = scale x above zero, floor (exp(k x) - 1) below: the floor shows far down, k at -1.
    scale, floor = f(1.0), -f(-40.0)
    if scale > 0 and floor > 0 and 0 < 1 + f(-1.0) / floor < 1:
        yield Activation(aten.elu.default, (floor / scale, scale, -math.log(1 + f(-1.0) / floor)))


def _at(y: Tensor, probe: float) -> Tensor:
    """Return (1, ...): the values at one probe."""
    index = int((PROBES == probe).nonzero())
    return y[index : index + 1]


def is_same(function: Callable[[Tensor], Tensor], activation: Activation, x: Tensor) -> bool:
    """Whether two functions have the same values at `x`, and the same slopes except at kinks.

    Slopes are central differences: for some formulas autograd has no derivative, or gives NaN where a branch that is not
    taken overflows.
    """
    near = torch.cat([x, x - _STEP, x + _STEP])
    (y, low, high), (right, right_low, right_high) = (f(near).chunk(3) for f in (function, activation))
    if not bool(((y - right).abs() <= _VALUES * (1 + right.abs())).all()):
        return False
    slope, right_slope = ((high - low) / (2 * _STEP), (right_high - right_low) / (2 * _STEP))
    smooth = torch.ones_like(x, dtype=torch.bool)
    for kink in (*_KINKS, *activation.kinks):
        smooth &= (x.abs() - abs(kink)).abs() > 2 * _STEP
    return bool(((slope - right_slope).abs() <= _SLOPES * (1 + right_slope.abs()))[smooth].all())


def looks_rectified(y: Tensor) -> bool:
    """Whether a function with these values at the probes passes large values and blocks negative ones."""
    high, low = torch.cat([_at(y, x) for x in (1.9, 4.0, 8.0)]), torch.cat([_at(y, -x) for x in (1.9, 4.0, 8.0)])
    blocks = bool((low.abs() <= 0.5 * high).all()) and bool((high > 0).all())
    # A sigmoid blocks negative values but saturates for large ones; an exponential grows faster than any rectifier.
    grows = bool((high[2] > 1.5 * high[0]).all()) and bool((high[2] < 40 * high[0]).all())
    grows = grows and bool((high[1] < 6 * high[0]).all())  # nor a clipped exponential, as in the heads of detectors
    return blocks and grows
