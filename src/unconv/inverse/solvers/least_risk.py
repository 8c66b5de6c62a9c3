"""Richardson-Lucy, stopped at the step of least predictive risk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from unconv.inverse.operators.operator import Operator
from unconv.inverse.solvers.iterate import Iterate
from unconv.inverse.solvers.problems import rademacher
from unconv.inverse.solvers.richardson_lucy import richardson_lucy

_PERTURBATION = 0.1  # size of the probe, in standard deviations of the noise
_LEAST = 0.25  # the least variance of a count, in counts
_BEYOND, _MORE = 1.1, 2  # to go past a minimum before it is accepted: as a factor of its steps, and in steps


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
    """Run `richardson_lucy` on one picture until its predictive risk has passed a minimum, and return to that step.

    The risk is |A x + b - y|² / variance plus twice the trace of d(A x)/dy, which measures how much of the noise the
    estimate fits. A second run, on a picture that differs by a Rademacher probe, gives the trace. The discrepancy
    principle, which stops once the residual is as small as the noise, stops far earlier: it does not allow for the part of
    the noise that any fit takes up.

    Args:
        observed: (*operator.shape_out), including the background.
        background, mask: as for `richardson_lucy`.
        noise: its standard deviation; by default that of counts, the square root of A x + b.

    Yields:
        The estimate after each step, then once more that of least risk, converged. None is converged if the steps end before
        the risk has passed a minimum.

    Source:
        Mallows, "Some comments on C_p" (1973); Ramani, Blu & Unser, "Monte-Carlo SURE" (2008) for the trace; Bardsley &
        Goldes, "Regularization parameter selection methods for ill-posed Poisson maximum likelihood estimation" (2009).
    """
    # Ramani, Blu & Unser (2008): the trace is E z*(f(y + e z) - f(y)) / e, so both runs must take the same steps, as a batch.
    probe = rademacher(observed, tuple(observed.shape)).clone()
    if mask is not None:
        probe = probe * mask
    least = _LEAST if noise is None else 0.0
    size = _PERTURBATION * (observed.clamp(min=4 * _LEAST).sqrt() if noise is None else torch.full_like(observed, noise))
    pair = torch.stack([observed, observed + size * probe])
    best, lowest = None, float("inf")
    for iterate in richardson_lucy(operator, pair, steps=steps, background=background, mask=mask):
        fitted, perturbed = operator.forward(iterate.estimate) + background
        if noise is None:
            variance = fitted.clamp(min=least)
            share = fitted / variance  # of the true variance in the assumed one, which is larger for very few counts
        else:
            variance, share = torch.full_like(fitted, noise**2), torch.ones_like(fitted)
        misfit = (observed - fitted).square() / variance
        trace = share * probe * (perturbed - fitted) / size
        risk = float(((misfit if mask is None else misfit * mask) + 2 * trace).double().sum())
        current = Iterate(iterate.operator, iterate.observed[0], iterate.estimate[0], iterate.steps)
        if risk < lowest or best is None:
            best, lowest = current, risk
        yield current
        if current.steps >= max(_BEYOND * best.steps, best.steps + _MORE):
            yield replace(best, converged=True)
            return
