"""Spikes by the l1 norm with a strength that follows from the noise, once or reweighted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from unconv.errors import ShapeError
from unconv.inverse.operators.convolution import Convolution
from unconv.inverse.operators.operator import Operator
from unconv.inverse.priors.penalties import L1
from unconv.inverse.solvers.fista import fista
from unconv.inverse.solvers.iterate import Iterate, last
from unconv.inverse.solvers.problems import spread
from unconv.kinds import checks_kinds

_DEVIATIONS = 2.0  # the penalty's weight, in standard deviations of the noise after the adjoint


@checks_kinds
def reweighted_l1(
    operator: Operator,
    observed: Tensor,
    *,
    noise: float | Tensor,
    rounds: int = 4,
    steps: int = 500,
    tolerance: float = 1e-4,
) -> Iterator[Iterate]:
    """Minimise |A x - y|^2 / 2 + sum of weight |x| by reweighted l1; with one round, by the plain l1 norm.

    The weight follows from the noise: 2 noise |kernel|, twice the standard deviation of A* noise, so that noise alone rarely
    makes a spike. A later round multiplies it by e / (|x| + e), with e twice the deviation of a lone spike's amplitude:
    large spikes are no longer made smaller, and the other samples stay at zero.

    Args:
        operator: a `Convolution`; for another operator, |kernel| is the norm of A applied to a single spike.
        observed: (..., *operator.shape_out).
        noise: standard deviation of a sample's noise: a number, or (...).
        rounds: the first has equal weights. `steps`, `tolerance`: of FISTA, in each round.

    Yields:
        The estimate after each round; the last has converged if all rounds have.

    Raises:
        ShapeError, DtypeError, NonFinite: as `fista`; fewer than one round, or a noise below zero.

    Source:
        Candès, Wakin & Boyd, "Enhancing sparsity by reweighted l1 minimization" (2008), sec. 2.2; Beck & Teboulle (2009).
    """
    level = torch.as_tensor(noise).to(observed.real)
    if rounds < 1 or bool((level < 0).any()):
        raise ShapeError(
            f"reweighted_l1: rounds is {rounds} and noise {noise}, but at least 1 and 0 were needed. Raise the one below."
        )
    axes = len(operator.shape_in)
    size = _kernel_size(operator, observed)
    strength = _DEVIATIONS * spread(level.expand(observed.shape[: observed.ndim - axes]), axes) * size
    deviation = strength / size**2
    x, weight, total_steps, converged = None, strength, 0, True
    for number in range(1, rounds + 1):
        solution = last(fista(operator, observed, L1(weight), steps=steps, tolerance=tolerance, start=x))
        # A round that starts where the one before ran out of steps may take its own first short steps for convergence, so
        # every round must have converged.
        x, total_steps, converged = solution.estimate, total_steps + solution.steps, converged and solution.converged
        yield replace(solution, steps=total_steps, converged=converged and number == rounds)
        # Candès, Wakin & Boyd (2008), sec. 2.2, the reweighting; the small number keeps a weight at zero finite.
        weight = strength * deviation / (x.abs() + deviation).clamp(min=torch.finfo(observed.real.dtype).tiny)


def _kernel_size(operator: Operator, like: Tensor) -> Tensor:
    if isinstance(operator, Convolution):
        size: Tensor = operator.kernel.to(like).norm()
        return size
    spike = like.new_zeros(operator.shape_in)
    spike[tuple(n // 2 for n in operator.shape_in)] = 1
    response: Tensor = operator.forward(spike).norm()
    return response
