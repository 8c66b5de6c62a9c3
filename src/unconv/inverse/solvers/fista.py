"""Least squares with a convex penalty by FISTA: accelerated proximal gradient steps."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from unconv.errors import ShapeError
from unconv.inverse.operators.convolution import Convolution
from unconv.inverse.operators.operator import Composition, Operator, fits, norm
from unconv.inverse.operators.selection import Selection
from unconv.inverse.priors.penalties import Penalty
from unconv.inverse.solvers.iterate import Iterate
from unconv.inverse.solvers.problems import admit, dots, sizes, spread
from unconv.kinds import checks_kinds


@checks_kinds
def fista(
    operator: Operator,
    observed: Tensor,
    penalty: Penalty,
    *,
    steps: int = 200,
    tolerance: float = 1e-5,
    step: float | None = None,
    restart: bool = True,
    start: Tensor | None = None,
) -> Iterator[Iterate]:
    """Minimise |A x - y|^2 / 2 + penalty(x) by FISTA; each step costs one forward, one adjoint and one prox.

    Args:
        observed: (..., *operator.shape_out), real or complex. Leading axes hold independent problems; one that has
            converged changes no more.
        tolerance: converged where a step changes the estimate by no more than this share of its size.
        step: length of the gradient step; by default 1 over the Lipschitz constant of the gradient.
        restart: drop the momentum, problem by problem, where it points uphill.
        start: the first estimate; by default zero.

    Raises:
        ShapeError, DtypeError, NonFinite: `observed` does not fit; `step` is not above zero.

    Source:
        Beck & Teboulle, "A fast iterative shrinkage-thresholding algorithm for linear inverse problems" (2009), sec. 4;
        O'Donoghue & Candès, "Adaptive restart for accelerated gradient schemes" (2015), sec. 3.2, gradient scheme.
    """
    admit("fista", operator, observed)
    axes = len(operator.shape_in)
    rate = 1 / lipschitz(operator, observed) if step is None else step
    if not 0 < rate < torch.inf:
        raise ShapeError(
            f"fista: the step is {rate}, but a finite number above zero was needed. Choose one; the default needs an "
            "operator that is not zero."
        )
    adjoint = operator.adjoint(observed)
    if start is not None:
        fits("fista: start", start, operator.shape_in)
    x = torch.zeros_like(adjoint) if start is None else start.to(adjoint).expand_as(adjoint)
    z, t = x, torch.ones_like(sizes(x, axes))
    done = torch.zeros_like(t, dtype=torch.bool)
    for count in range(1, steps + 1):
        # Beck & Teboulle (2009), eqs. 4.1 to 4.3: a gradient step from z, the prox, and the momentum for the next z.
        descent = adjoint - operator.adjoint(operator.forward(z))
        new = penalty.prox(torch.add(z, descent, alpha=rate), rate)
        new = torch.where(spread(done, axes), x, new)
        move, generalised_gradient = new - x, z - new
        if restart:
            # O'Donoghue & Candès (2015), gradient scheme: an uphill move drops the momentum, at no extra product with A.
            t = torch.where(dots(generalised_gradient, move, axes) > 0, 1, t)
        next_t = (1 + (1 + 4 * t.square()).sqrt()) / 2
        limit = tolerance * sizes(new, axes)
        # Both must be small: with momentum, the estimate may hardly move in a step although the gradient is still large.
        done = done | ((sizes(move, axes) <= limit) & (sizes(generalised_gradient, axes) <= limit))
        z, x, t = torch.addcmul(new, spread((t - 1) / next_t, axes), move), new, next_t
        yield Iterate(operator, observed, x, count, bool(done.all()))
        if bool(done.all()):
            return


def lipschitz(operator: Operator, like: Tensor) -> float:
    """Return a Lipschitz constant of the gradient A*(A x - y): at least |A|^2, the square of the largest singular value.

    For a convolution it comes from the spectrum. It is exact for a circular one, and a bound where samples are cut off or
    left out, which never makes a norm larger. For other operators it comes from power iteration, with a margin of 2 % on |A|,
    because power iteration approaches |A| from below.
    """
    if isinstance(operator, Convolution) and operator.boundary != "reflect":
        return float(operator.spectrum(like).abs().max()) ** 2
    if isinstance(operator, Composition) and isinstance(operator.outer, Selection):
        return lipschitz(operator.inner, like)
    return (1.02 * norm(operator, dtype=like.real.dtype, device=like.device)) ** 2
