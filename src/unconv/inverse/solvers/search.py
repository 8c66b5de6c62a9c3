"""One-dimensional searches over the logarithm of a strength, for several problems at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_GOLDEN = (5**0.5 - 1) / 2


def golden_section(score: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, points: int, rounds: int) -> Tensor:
    """Find where between `low` and `high` each problem's score is least, on a grid of `points` and then by golden section.

    Each of the `rounds` costs one score and leaves 0.618 of the interval.
    """
    # From strong to weak: weak ones take the most iterations, and can start from the solution before.
    logs = [high.log() + (low / high).log() * k / (points - 1) for k in range(points)]
    scores = torch.stack([score(log.exp()) for log in logs])
    best = scores.argmin(0, keepdim=True)
    line = torch.stack(logs)
    b = line.gather(0, (best - 1).clamp(min=0))[0]
    a = line.gather(0, (best + 1).clamp(max=points - 1))[0]
    c, d = b - _GOLDEN * (b - a), a + _GOLDEN * (b - a)
    of_c, of_d = score(c.exp()), score(d.exp())
    for _ in range(rounds):
        left = of_c < of_d
        a, b = torch.where(left, a, c), torch.where(left, d, b)
        tried = torch.where(left, b - _GOLDEN * (b - a), a + _GOLDEN * (b - a))
        of_tried = score(tried.exp())
        c, d = torch.where(left, tried, d), torch.where(left, c, tried)
        of_c, of_d = torch.where(left, of_tried, of_d), torch.where(left, of_c, of_tried)
    return torch.where(of_c < of_d, c, d).exp()


def bisection(misfit: Callable[[Tensor], Tensor], target: float, low: Tensor, high: Tensor, rounds: int) -> tuple[Tensor, bool]:
    """Find where each problem's misfit, which must rise, meets the target; and say whether all of them do.

    Where one does not, the nearer end of the interval is returned.
    """
    a, b = low.log(), high.log()
    met = bool(((misfit(high) >= target) & (misfit(low) <= target)).all())
    for _ in range(rounds):
        middle = (a + b) / 2
        above = misfit(middle.exp()) > target
        a, b = torch.where(above, a, middle), torch.where(above, middle, b)
    return ((a + b) / 2).exp(), met
