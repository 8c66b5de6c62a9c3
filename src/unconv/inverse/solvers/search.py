"""One-dimensional searches over the logarithm of a strength, for several problems at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_GOLDEN = (5**0.5 - 1) / 2


def golden_section(score: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, points: int, rounds: int) -> Tensor:
    """Return where each problem's score is least between `low` and `high`: on a grid of `points`, then by golden section.

    Each of the `rounds` costs one score and leaves 0.618 of the interval.
    """
    # From strong to weak, since a weak strength takes the most iterations and can start from the previous solution. The grid
    # comes first because golden section needs an interval with a single minimum.
    logs = [high.log() + (low / high).log() * k / (points - 1) for k in range(points)]
    scores = torch.stack([score(log.exp()) for log in logs])
    best = scores.argmin(0, keepdim=True)
    grid = torch.stack(logs)
    b = grid.gather(0, (best - 1).clamp(min=0))[0]
    a = grid.gather(0, (best + 1).clamp(max=points - 1))[0]
    c, d = b - _GOLDEN * (b - a), a + _GOLDEN * (b - a)
    score_c, score_d = score(c.exp()), score(d.exp())
    for _ in range(rounds):
        left = score_c < score_d
        a, b = torch.where(left, a, c), torch.where(left, d, b)
        trial = torch.where(left, b - _GOLDEN * (b - a), a + _GOLDEN * (b - a))
        score_trial = score(trial.exp())
        c, d = torch.where(left, trial, d), torch.where(left, c, trial)
        score_c, score_d = torch.where(left, score_trial, score_d), torch.where(left, score_c, score_trial)
    return torch.where(score_c < score_d, c, d).exp()


def bisection(misfit: Callable[[Tensor], Tensor], target: float, low: Tensor, high: Tensor, rounds: int) -> tuple[Tensor, bool]:
    """Return where each problem's misfit, which must rise, meets the target, by bisection; and whether all of them do.

    A problem whose misfit does not meet the target gets the nearer end of the interval.
    """
    a, b = low.log(), high.log()
    met = bool(((misfit(high) >= target) & (misfit(low) <= target)).all())
    for _ in range(rounds):
        middle = (a + b) / 2
        above = misfit(middle.exp()) > target
        a, b = torch.where(above, a, middle), torch.where(above, middle, b)
    return ((a + b) / 2).exp(), met
