"""The solver behind each name of `method_table`."""

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

Solution = tuple[Tensor, Tensor, Tensor, bool]
"""Amplitudes (B, n), their standard deviations, the noise (B,), and whether the solver converged."""


_START_STEPS, _ROUNDS = 30, 8  # of sparse Bayesian learning before the choice of spikes; rounds of that choice at most
Solve = Callable[[Convolution, Tensor, Tensor | None], Solution]
"""Finds the spikes of traces (B, n) with noise (B,), or None to estimate the noise."""


def _solution(posterior: Posterior) -> Solution:
    return posterior.estimate, posterior.deviation, posterior.noise, posterior.converged


def _sbl_only(operator: Convolution, y: Tensor, noise: Tensor | None) -> Solution:
    return _solution(_posterior(operator, y, noise))


def _posterior(operator: Convolution, y: Tensor, noise: Tensor | None) -> Posterior:
    posterior = last(sparse_bayesian(operator, y, noise=noise))
    assert isinstance(posterior, Posterior)
    return posterior


def _sbl(operator: Convolution, y: Tensor, noise: Tensor | None) -> Solution:
    # The evidence of sparse Bayesian learning prefers two or three adjacent spikes to one between samples; the
    # Bernoulli-Gaussian prior does not. The first step need not converge, since the second chooses again: half its steps do.
    start = last(sparse_bayesian(operator, y, noise=noise, steps=_START_STEPS))
    posterior = last(bernoulli_gaussian(operator, y, start.estimate, noise=noise, rounds=_ROUNDS))
    assert isinstance(posterior, Posterior)
    return _solution(posterior)


def _l1(rounds: int) -> Solve:
    def solve(operator: Convolution, y: Tensor, noise: Tensor | None) -> Solution:
        level = _posterior(operator, y, None).noise if noise is None else noise
        state = last(reweighted_l1(operator, y, noise=level, rounds=rounds))
        return state.estimate, torch.full_like(state.estimate, torch.nan), level, state.converged

    return solve


SOLVERS: dict[str, Solve] = {"sbl": _sbl, "sbl-only": _sbl_only, "l1": _l1(1), "reweighted-l1": _l1(4)}
