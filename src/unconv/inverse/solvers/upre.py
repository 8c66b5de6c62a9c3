"""The unbiased predictive risk estimator (UPRE): how strong a quadratic penalty should be, told by the noise."""

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
    """Choose the strength of a quadratic penalty by UPRE, for a circular convolution of which some samples were observed.

    The search walks downhill from `first` in steps of half a decade, and puts a parabola through the last three risks.

    Args:
        observed: (..., *operator.shape_out), real; one problem, whose leading axes share the strength.
        noise: standard deviation.
        penalty: (*n, n' // 2 + 1), the eigenvalues of L*L on the grid of `torch.fft.rfftn`, for the penalty |L x|².
        first: the strength to begin with. Begin on the strong side: there the fits take few conjugate gradients, and
            a local minimum of the estimate at weak strengths, where little is damped, does not catch the search.

    Raises:
        ShapeError: the operator is no such convolution.

    Source:
        Mallows, "Some comments on C_p" (1973); Vogel, "Computational methods for inverse problems" (2002), sec. 7.1.
    """
    at = predictive_risk(operator, observed, noise=noise, penalty=penalty)

    def strength(place: float) -> float:
        return first * 10 ** (-place / 2)

    @cache
    def risk(place: int) -> float:
        return at(strength(place))

    way = 1 if risk(1) < risk(0) else -1
    best = max(way, 0)
    while abs(best) < _STEPS and risk(best + way) < risk(best):
        best += way
    before, least, after = risk(best - 1), risk(best), risk(best + 1)
    bend = before - 2 * least + after
    return strength(best + (before - after) / (2 * bend) if bend > 0 else best)


def predictive_risk(operator: Operator, observed: Tensor, *, noise: float, penalty: Tensor) -> Callable[[float], float]:
    """Return the function of the strength that UPRE minimises: |A x - y|² + 2 noise² tr(A dx/dy).

    Its expectation is that of |A x - A truth|², up to a constant. Arguments are those of `upre`.

    Source:
        Vogel (2002), eq. 7.8; Hutchinson (1990) for the trace.
    """
    circular, chosen = split(operator)
    # The estimate is linear in y, except for the mean that it keeps. So the trace is that of the same fit to a Rademacher
    # probe, around zero, and one batch gives both. The probe is the same in each channel, as the fit is.
    probe = rademacher(observed, observed.shape[-circular.axes :])
    fit = Fit(circular, chosen, torch.stack([observed, probe]))
    level = Fit(circular, chosen, observed).flat()
    around = torch.stack([level, torch.zeros_like(level)])

    def risk(strength: float) -> float:
        made, told = operator.forward(fit.solved(around, penalty * strength + fit.least))
        return float((made - observed).square().sum() + 2 * noise**2 * (told * probe).sum())

    return risk
