"""The least of a smooth function of one tensor, by limited-memory BFGS.

It stands in for `torch.optim.LBFGS`, whose first use imports torch's compiler, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import torch
from torch import Tensor

_REMEMBERED = 8  # changes of place and of gradient
_DECREASE, _CURVATURE = 1e-4, 0.9  # Wolfe's conditions, in their weak form
_TRIED = 20  # lengths along one direction


def lbfgs(function: Callable[[Tensor], Tensor], start: Tensor, steps: int) -> Tensor:
    """Return where the function is least, as far as so many steps lead from the start.

    Source:
        Nocedal & Wright, "Numerical Optimization" (2006), alg. 7.4 and 7.5. Lewis & Overton, "Nonsmooth optimization via
        quasi-Newton methods" (2013), alg. 2.6: the line search.
    """
    x, memory = start.detach(), list[tuple[Tensor, Tensor]]()
    value, gradient = _value_and_gradient(function, x)
    for _ in range(steps):
        direction = _direction(gradient, memory)
        first = 1.0 if memory else 1.0 / max(float(gradient.abs().sum()), 1e-12)
        found = _along(function, x, direction, (value, gradient), first)
        if found is None:
            break
        length, value, after = found
        change = after - gradient
        x, gradient, moved = x + length * direction, after, length * direction
        if _dot(moved, change) > 0:
            memory = [*memory, (moved, change)][-_REMEMBERED:]
    return x


@torch.enable_grad()
def _value_and_gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[float, Tensor]:
    at = x.detach().requires_grad_()
    value = function(at)
    (gradient,) = torch.autograd.grad(value, at)
    return float(value.detach()), gradient


def _direction(gradient: Tensor, memory: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Minus the gradient times the inverse of the Hessian, as the memory tells it: the two loops."""
    direction, shares = -gradient, []
    for moved, change in reversed(memory):
        share = _dot(moved, direction) / _dot(moved, change)
        shares.append(share)
        direction = direction - share * change
    if memory:
        moved, change = memory[-1]
        direction = direction * (_dot(moved, change) / _dot(change, change))
    for (moved, change), share in zip(memory, reversed(shares), strict=True):
        direction = direction + (share - _dot(change, direction) / _dot(moved, change)) * moved
    return direction


def _along(
    function: Callable[[Tensor], Tensor], x: Tensor, direction: Tensor, here: tuple[float, Tensor], length: float
) -> tuple[float, float, Tensor] | None:
    """Find a length at which the function has fallen enough, and its slope, too; return it, value and gradient there."""
    slope = _dot(here[1], direction)
    short, long, lowest = 0.0, inf, None
    for _ in range(_TRIED if slope < 0 else 0):
        value, gradient = _value_and_gradient(function, x + length * direction)
        if not value <= here[0] + _DECREASE * length * slope:
            long = length
        else:
            lowest = (length, value, gradient)
            if _dot(gradient, direction) >= _CURVATURE * slope:
                break
            short = length
        length = (short + long) / 2 if long < inf else 2 * short
    return lowest


def _dot(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum())
