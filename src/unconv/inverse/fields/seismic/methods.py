"""The functions behind the names of `method_table`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from unconv.inverse.operators.convolution import Convolution
from unconv.inverse.solvers.bernoulli_gaussian import bernoulli_gaussian
from unconv.inverse.solvers.iterate import last
from unconv.inverse.solvers.posterior import Posterior
from unconv.inverse.solvers.reweighted import reweighted_l1
from unconv.inverse.solvers.sparse_bayesian import sparse_bayesian

Solved = tuple[Tensor, Tensor, Tensor, bool]
"""Amplitudes (B, n), their deviations, the noise (B,), and whether it converged."""


_ENOUGH, _ROUNDS = 30, 8  # steps to a start, and rounds of choice at most
Solve = Callable[[Convolution, Tensor, Tensor | None], Solved]
"""Finds the spikes of traces (B, n), whose noise (B,) is given or None."""


def _posterior(found: Posterior) -> Solved:
    return found.estimate, found.deviation, found.noise, found.converged


def _bayes(operator: Convolution, y: Tensor, noise: Tensor | None) -> Solved:
    return _posterior(_last(operator, y, noise))


def _last(operator: Convolution, y: Tensor, noise: Tensor | None) -> Posterior:
    found = last(sparse_bayesian(operator, y, noise=noise))
    assert isinstance(found, Posterior)
    return found


def _chosen(operator: Convolution, y: Tensor, noise: Tensor | None) -> Solved:
    # Its evidence prefers two or three spikes in a row to one between them: the prior of the next step does not. So it need not
    # converge either, and half of its steps are enough.
    start = last(sparse_bayesian(operator, y, noise=noise, steps=_ENOUGH))
    found = last(bernoulli_gaussian(operator, y, start.estimate, noise=noise, rounds=_ROUNDS))
    assert isinstance(found, Posterior)
    return _posterior(found)


def _convex(rounds: int) -> Solve:
    def solve(operator: Convolution, y: Tensor, noise: Tensor | None) -> Solved:
        level = _last(operator, y, None).noise if noise is None else noise
        found = last(reweighted_l1(operator, y, noise=level, rounds=rounds))
        return found.estimate, torch.full_like(found.estimate, torch.nan), level, found.converged

    return solve


SOLVERS: dict[str, Solve] = {"sbl": _chosen, "sbl-only": _bayes, "l1": _convex(1), "reweighted-l1": _convex(4)}
