"""Least squares by conjugate gradients, for any operator."""

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
    """Minimise |A x - y|^2 + damping^2 |x|^2 by conjugate gradients; each step costs one forward and one adjoint.

    Undamped and stopped early, the number of steps is the regularisation: what the operator passes well comes back
    first, amplified noise last.

    Args:
        observed: (..., *operator.shape_out), real or complex; axes in front are problems of their own,
            each with its own step sizes, and left alone once converged.
        start: the first estimate; by default zero.
        tolerance: converged where the gradient has shrunk to this share of its size at zero.
        stop: "tolerance"; or also "discrepancy", where |A x - y| is no more than the noise's
            1.01 noise sqrt(samples); or "gcv", at the first minimum of |A x - y|^2 / trace(1 - influence)^2, for
            the influence matrix of the steps made. Its trace is estimated from one random vector, always the same
            one, that takes the same steps, at twice the price. (The number of samples minus steps, a common
            substitute, is far too large where many singular values are alike, as for pictures.)
        noise: the standard deviation of a sample's noise, for "discrepancy".

    Yields:
        The estimate after each step; one with steps=0 if there is nothing to do.

    Raises:
        ShapeError, DtypeError, NonFinite: `observed` does not fit; an unknown `stop`; no `noise`.

    Source:
        Björck, "Numerical Methods for Least Squares Problems" (1996), alg. 7.4.1; Morozov (1966) for the
        discrepancy; Hansen, "Rank-Deficient and Discrete Ill-Posed Problems" (1998), sec. 7.4 for GCV;
        Perry & Reeves, "A practical stopping rule for iterative signal restoration" (1994) for its trace.
    """
    admit("cgls", operator, observed)
    _check(stop, noise, damping)
    inside, outside, samples = len(operator.shape_in), len(operator.shape_out), prod(operator.shape_out)
    toward = operator.adjoint(observed)
    if start is not None:
        fits("cgls: start", start, operator.shape_in)
    x = torch.zeros_like(toward) if start is None else start.to(toward).expand_as(toward)
    r = observed if start is None else observed - operator.forward(x)
    s = p = toward if start is None else operator.adjoint(r) - damping**2 * x
    # `left` is the probe minus what the steps so far explain of it: (1 - influence) z, so that z* left estimates the trace.
    probe = left = rademacher(observed, operator.shape_out) if stop == "gcv" else r
    way = operator.adjoint(probe) if stop == "gcv" else s
    target = 1.01 * (noise or 0.0) * samples**0.5 if stop == "discrepancy" else -1.0
    enough, gamma, score = tolerance * sizes(toward, inside), dots(s, s, inside), sizes(r, outside) / samples
    done = (gamma.sqrt() <= enough) | (sizes(r, outside) <= target)
    if bool(done.all()):
        yield Iterate(operator, observed, x, 0, True)
        return
    for step in range(1, steps + 1):
        q = operator.forward(p)
        bend = dots(q, q, outside) + damping**2 * dots(p, p, inside)
        alpha = quotient(gamma, bend).masked_fill(done, 0)
        before, x = x, torch.addcmul(x, spread(alpha, inside), p)
        r = torch.addcmul(r, spread(alpha, outside), q, value=-1)
        if stop == "gcv":
            left = torch.addcmul(left, spread(alpha, outside), operator.forward(way), value=-1)
            now = sizes(r, outside) / dots(probe, left, outside).abs()
            rose = (now > score) & ~done
            x, score, done = torch.where(spread(rose, inside), before, x), now, done | rose
        s = operator.adjoint(r) - damping**2 * x if damping else operator.adjoint(r)
        beta, gamma = gamma, dots(s, s, inside)
        done = done | (gamma.sqrt() <= enough) | (sizes(r, outside) <= target)
        yield Iterate(operator, observed, x, step, bool(done.all()))
        if bool(done.all()):
            return
        ratio = spread(quotient(gamma, beta), inside)
        p = torch.addcmul(s, ratio, p)
        way = torch.addcmul(operator.adjoint(left), ratio, way) if stop == "gcv" else p


def _check(stop: str, noise: float | None, damping: float) -> None:
    if stop == "gcv" and damping:
        raise ShapeError("cgls: stop='gcv' came with damping, but one of them was needed. Use tikhonov to choose a damping.")
    if stop not in STOPS:
        raise ShapeError(f"cgls: stop is {stop!r}, but one of {', '.join(STOPS)} was needed.")
    if stop == "discrepancy" and noise is None:
        raise ShapeError(
            "cgls: stop='discrepancy' came without noise, but the noise's standard deviation was needed. "
            "Pass noise=..., or noise=estimate_noise(observed)."
        )
