"""Richardson-Lucy, stopped where its predictive risk is least."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from unconv.inverse.operators.operator import Operator
from unconv.inverse.solvers.iterate import Iterate
from unconv.inverse.solvers.problems import rademacher
from unconv.inverse.solvers.richardson_lucy import richardson_lucy

_NUDGE = 0.1  # of the probe, in standard deviations of the noise
_LEAST = 0.25  # counts below which the variance of a count is taken for no less
_ON, _MORE = 1.1, 2  # how far to go beyond a minimum, as a share of its steps and in steps, before it is believed


@torch.no_grad()
def richardson_lucy_of_least_risk(
    operator: Operator,
    observed: Tensor,
    *,
    steps: int = 100,
    background: float = 0.0,
    mask: Tensor | None = None,
    noise: float | None = None,
) -> Iterator[Iterate]:
    """Run `richardson_lucy` on one picture until its predictive risk has been least, and go back to that step.

    The risk is |A x + b - y|², weighted by one over the variance, and twice the trace of d(A x)/dy, which says how much
    of the noise the fit has taken up. A second run, on a picture that differs by a random probe, gives the trace. The
    discrepancy principle, that the residual be as large as the noise, stops far earlier: it leaves no room for what a fit
    takes up by being one.

    Args:
        observed: (*operator.shape_out), with the background in it.
        background, mask: as for `richardson_lucy`.
        noise: its standard deviation; by default that of counts, the root of A x + b.

    Source:
        Mallows, "Some comments on C_p" (1973); Ramani, Blu & Unser, "Monte-Carlo SURE" (2008) for the trace; Bardsley &
        Goldes, "Regularization parameter selection methods for ill-posed Poisson maximum likelihood estimation" (2009).
    """
    probe = rademacher(observed, tuple(observed.shape)).clone()
    if mask is not None:
        probe = probe * mask
    least = _LEAST if noise is None else 0.0
    size = _NUDGE * (observed.clamp(min=4 * _LEAST).sqrt() if noise is None else torch.full_like(observed, noise))
    pair = torch.stack([observed, observed + size * probe])
    best, lowest = None, float("inf")
    for iterate in richardson_lucy(operator, pair, steps=steps, background=background, mask=mask):
        fitted, nudged = operator.forward(iterate.estimate) + background
        if noise is None:
            variance = fitted.clamp(min=least)
            share = fitted / variance  # of the weight that noise has, where the variance is less than was taken
        else:
            variance, share = torch.full_like(fitted, noise**2), torch.ones_like(fitted)
        left = (observed - fitted).square() / variance
        taken = share * probe * (nudged - fitted) / size
        risk = float(((left if mask is None else left * mask) + 2 * taken).double().sum())
        now = Iterate(iterate.operator, iterate.observed[0], iterate.estimate[0], iterate.steps)
        if risk < lowest or best is None:
            best, lowest = now, risk
        yield now
        if now.steps >= max(_ON * best.steps, best.steps + _MORE):
            yield replace(best, converged=True)
            return
