"""The minimum of a smooth function of one tensor, by limited-memory BFGS.

It replaces `torch.optim.LBFGS`, whose first use imports torch's compiler, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import torch
from torch import Tensor

_MEMORY = 8  # pairs of a move and the change of gradient along it
_DECREASE, _CURVATURE = 1e-4, 0.9  # of the weak Wolfe conditions
_TRIALS = 20  # step lengths along one direction


def lbfgs(function: Callable[[Tensor], Tensor], start: Tensor, steps: int) -> Tensor:
    """Return the minimum of the function that L-BFGS reaches from `start` in at most `steps` steps.

    Source:
        Nocedal & Wright, "Numerical Optimization" (2006), alg. 7.4 and 7.5. Lewis & Overton, "Nonsmooth optimization via
        quasi-Newton methods" (2013), alg. 2.6: the line search.
    """
    x, memory = start.detach(), list[tuple[Tensor, Tensor]]()
    value, gradient = _value_and_gradient(function, x)
    for _ in range(steps):
        direction = _direction(gradient, memory)
        # Without memory the direction is the gradient, whose size says nothing about the step: begin with a short one.
        first_length = 1.0 if memory else 1.0 / max(float(gradient.abs().sum()), 1e-12)
        step = _line_search(function, x, direction, (value, gradient), first_length)
        if step is None:
            break
        length, value, new_gradient = step
        change = new_gradient - gradient
        x, gradient, move = x + length * direction, new_gradient, length * direction
        # A pair without positive curvature would make the approximate Hessian indefinite.
        if _dot(move, change) > 0:
            memory = [*memory, (move, change)][-_MEMORY:]
    return x


@torch.enable_grad()
def _value_and_gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[float, Tensor]:
    at = x.detach().requires_grad_()
    value = function(at)
    (gradient,) = torch.autograd.grad(value, at)
    return float(value.detach()), gradient


def _direction(gradient: Tensor, memory: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Return minus the inverse Hessian, approximated from the memory, times the gradient: the two-loop recursion (alg. 7.4)."""
    direction, shares = -gradient, []
    for move, change in reversed(memory):
        share = _dot(move, direction) / _dot(move, change)
        shares.append(share)
        direction = direction - share * change
    if memory:
        move, change = memory[-1]
        direction = direction * (_dot(move, change) / _dot(change, change))
    for (move, change), share in zip(memory, reversed(shares), strict=True):
        direction = direction + (share - _dot(change, direction) / _dot(move, change)) * move
    return direction


def _line_search(
    function: Callable[[Tensor], Tensor], x: Tensor, direction: Tensor, start: tuple[float, Tensor], length: float
) -> tuple[float, float, Tensor] | None:
    """Search a step length that meets the weak Wolfe conditions by bisection (Lewis & Overton, alg. 2.6).

    Returns:
        The length with the value and gradient there; None if none decreases the function enough.
    """
    slope = _dot(start[1], direction)
    short, long, accepted = 0.0, inf, None
    for _ in range(_TRIALS if slope < 0 else 0):
        value, gradient = _value_and_gradient(function, x + length * direction)
        # Written so that a NaN, as of a step that is far too long, counts as no decrease.
        if not value <= start[0] + _DECREASE * length * slope:
            long = length
        else:
            accepted = (length, value, gradient)
            if _dot(gradient, direction) >= _CURVATURE * slope:
                break
            short = length
        length = (short + long) / 2 if long < inf else 2 * short
    return accepted


def _dot(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum())
