"""Least squares by conjugate gradients (CGLS), for any operator."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import torch
from torch import Tensor

from unconv.errors import ShapeError
from unconv.inverse.operators.operator import Operator, fits
from unconv.inverse.solvers.iterate import Iterate
from unconv.inverse.solvers.problems import admit, dots, quotient, rademacher, sizes, spread
from unconv.kinds import checks_kinds

STOPS = ("tolerance", "discrepancy", "gcv")


@checks_kinds
def cgls(
    operator: Operator,
    observed: Tensor,
    *,
    start: Tensor | None = None,
    steps: int = 100,
    tolerance: float = 1e-6,
    damping: float = 0.0,
    stop: str = "tolerance",
    noise: float | None = None,
) -> Iterator[Iterate]:
    """Minimise |A x - y|^2 + damping^2 |x|^2 by conjugate gradients (CGLS); each step costs one forward and one adjoint.

    Undamped and stopped early, the number of steps is the regularisation: the components that the operator passes well
    come back first, amplified noise last.

    Args:
        observed: (..., *operator.shape_out), real or complex. Leading axes hold independent problems, each with its own
            step sizes; one that has converged changes no more.
        start: the first estimate; by default zero.
        tolerance: converged where the gradient has shrunk to this share of its size at zero.
        stop: "tolerance"; or, in addition to it, "discrepancy", once |A x - y| <= 1.01 noise sqrt(samples); or "gcv", at
            the first minimum of |A x - y|^2 / trace(1 - influence)^2, for the influence matrix of the steps so far. One
            Rademacher probe (always the same) that takes the same steps estimates the trace, which doubles the
            price. (The number of samples minus steps, a common substitute, is far too large where many singular values
            are alike, as for pictures.)
        noise: the standard deviation of a sample's noise, for "discrepancy".

    Yields:
        The estimate after each step; a single one with steps=0 if the start already meets the stopping rule.

    Raises:
        ShapeError, DtypeError, NonFinite: `observed` does not fit; `stop` is unknown; `noise` is missing.

    Source:
        Björck, "Numerical Methods for Least Squares Problems" (1996), alg. 7.4.1; Morozov (1966) for the
        discrepancy; Hansen, "Rank-Deficient and Discrete Ill-Posed Problems" (1998), sec. 7.4 for GCV;
        Perry & Reeves, "A practical stopping rule for iterative signal restoration" (1994) for its trace.
    """
    admit("cgls", operator, observed)
    _check(stop, noise, damping)
    inside, outside, samples = len(operator.shape_in), len(operator.shape_out), prod(operator.shape_out)
    gradient = operator.adjoint(observed)
    if start is not None:
        fits("cgls: start", start, operator.shape_in)
    x = torch.zeros_like(gradient) if start is None else start.to(gradient).expand_as(gradient)
    r = observed if start is None else observed - operator.forward(x)
    s = p = gradient if start is None else operator.adjoint(r) - damping**2 * x
    # `unexplained` is (1 - influence) z for the probe z and the steps so far: z* unexplained estimates the trace.
    probe = unexplained = rademacher(observed, operator.shape_out) if stop == "gcv" else r
    probe_direction = operator.adjoint(probe) if stop == "gcv" else s
    target = 1.01 * (noise or 0.0) * samples**0.5 if stop == "discrepancy" else -1.0
    enough, gamma, score = tolerance * sizes(gradient, inside), dots(s, s, inside), sizes(r, outside) / samples
    done = (gamma.sqrt() <= enough) | (sizes(r, outside) <= target)
    if bool(done.all()):
        yield Iterate(operator, observed, x, 0, True)
        return
    for step in range(1, steps + 1):
        q = operator.forward(p)  # Björck (1996), alg. 7.4.1: the residuals are updated, not computed anew, to save a forward
        curvature = dots(q, q, outside) + damping**2 * dots(p, p, inside)
        alpha = quotient(gamma, curvature).masked_fill(done, 0)
        before, x = x, torch.addcmul(x, spread(alpha, inside), p)
        r = torch.addcmul(r, spread(alpha, outside), q, value=-1)
        if stop == "gcv":
            unexplained = torch.addcmul(unexplained, spread(alpha, outside), operator.forward(probe_direction), value=-1)
            new_score = sizes(r, outside) / dots(probe, unexplained, outside).abs()
            risen = (new_score > score) & ~done
            x, score, done = torch.where(spread(risen, inside), before, x), new_score, done | risen
        s = operator.adjoint(r) - damping**2 * x if damping else operator.adjoint(r)
        previous, gamma = gamma, dots(s, s, inside)
        done = done | (gamma.sqrt() <= enough) | (sizes(r, outside) <= target)
        yield Iterate(operator, observed, x, step, bool(done.all()))
        if bool(done.all()):
            return
        ratio = spread(quotient(gamma, previous), inside)
        p = torch.addcmul(s, ratio, p)
        probe_direction = torch.addcmul(operator.adjoint(unexplained), ratio, probe_direction) if stop == "gcv" else p


def _check(stop: str, noise: float | None, damping: float) -> None:
    if stop == "gcv" and damping:
        raise ShapeError(
            "cgls: stop='gcv' came with damping, but one of them was needed. Use tikhonov(strength='gcv') to choose a damping."
        )
    if stop not in STOPS:
        raise ShapeError(f"cgls: stop is {stop!r}, but one of {', '.join(STOPS)} was needed.")
    if stop == "discrepancy" and noise is None:
        raise ShapeError(
            "cgls: stop='discrepancy' came without noise, but the noise's standard deviation was needed. "
            "Pass noise=..., or noise=estimate_noise(observed)."
        )
