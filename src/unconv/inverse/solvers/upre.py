"""The unbiased predictive risk estimator (UPRE): the strength of a quadratic penalty from the noise."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from unconv.inverse.operators.operator import Operator
from unconv.inverse.operators.split import split
from unconv.inverse.solvers.fit import Fit
from unconv.inverse.solvers.problems import rademacher

_STEPS = 16  # of half a decade each, from the first strength


def upre(operator: Operator, observed: Tensor, *, noise: float, penalty: Tensor, first: float) -> float:
    """Choose the strength of a quadratic penalty by UPRE, for a circular convolution with missing samples.

    The search goes downhill from `first` in steps of half a decade, and puts a parabola through the last three risks.

    Args:
        observed: (..., *operator.shape_out), real; one problem, whose leading axes share the strength.
        noise: standard deviation.
        penalty: (*n, n' // 2 + 1), the eigenvalues of L*L on the grid of `torch.fft.rfftn`, for the penalty |L x|².
        first: the strength to begin with. Begin with one that is too strong: there the fits take few conjugate gradients,
            and the search does not end in a local minimum at weak strengths, where little is damped.

    Raises:
        ShapeError: the operator is not such a convolution.

    Source:
        Mallows, "Some comments on C_p" (1973); Vogel, "Computational methods for inverse problems" (2002), sec. 7.1.
    """
    risk_of_strength = predictive_risk(operator, observed, noise=noise, penalty=penalty)

    def strength(index: float) -> float:
        return first * 10 ** (-index / 2)

    @cache
    def risk(index: int) -> float:
        return risk_of_strength(strength(index))

    # Only downhill from `first`: a grid over all strengths would pay most for the weak ones, whose fits take longest.
    direction = 1 if risk(1) < risk(0) else -1
    best = max(direction, 0)
    while abs(best) < _STEPS and risk(best + direction) < risk(best):
        best += direction
    before, least, after = risk(best - 1), risk(best), risk(best + 1)
    curvature = before - 2 * least + after
    return strength(best + (before - after) / (2 * curvature) if curvature > 0 else best)


def predictive_risk(operator: Operator, observed: Tensor, *, noise: float, penalty: Tensor) -> Callable[[float], float]:
    """Return UPRE's risk as a function of the strength: |A x - y|² + 2 noise² tr(A dx/dy).

    Its expectation is that of |A x - A truth|², up to a constant. The arguments are those of `upre`.

    Source:
        Vogel (2002), eq. 7.8; Hutchinson (1990) for the trace.
    """
    circular, selection = split(operator)
    # Except for the mean that it keeps, the estimate is linear in y. The same fit to a Rademacher probe, around zero,
    # therefore gives the trace, and one batch gives both. The probe is the same in each channel, as the fit is.
    probe = rademacher(observed, observed.shape[-circular.axes :])
    fit = Fit(circular, selection, torch.stack([observed, probe]))
    mean = Fit(circular, selection, observed).flat()
    base = torch.stack([mean, torch.zeros_like(mean)])

    def risk(strength: float) -> float:
        fitted, influenced = operator.forward(fit.solved(base, penalty * strength + fit.least))
        return float((fitted - observed).square().sum() + 2 * noise**2 * (influenced * probe).sum())

    return risk
