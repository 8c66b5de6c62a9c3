"""The l1 norm with a strength that follows from the noise, once or reweighted: convex ways to spikes."""

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

_DEVIATIONS = 2.0  # of the noise behind the adjoint, which the penalty's weight takes away


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
    """Minimise |A x - y|^2 / 2 + sum of weight |x|, with weights that fall where x is large; one round is the l1 norm alone.

    The strength follows from the noise: 2 noise |kernel|, twice the standard deviation of A* noise, so that noise alone rarely
    makes a spike. A later round has that weight times e / (|x| + e), with e twice the deviation of a lone spike's amplitude:
    samples that are surely spikes are no longer made smaller, the others stay at zero.

    Args:
        operator: a `Convolution`; of another operator the kernel's size is that of A applied to a single spike.
        observed: (..., *operator.shape_out).
        noise: standard deviation of a sample's noise: a number, or (...).
        rounds: of which the first has equal weights. `steps`, `tolerance`: of FISTA, in each round.

    Yields:
        The estimate after each round; the last has converged if all rounds have.

    Raises:
        ShapeError, DtypeError, NonFinite: as `fista`; no round, or a noise below zero.

    Source:
        Candès, Wakin & Boyd, "Enhancing sparsity by reweighted l1 minimization" (2008), sec. 2.2; Beck & Teboulle (2009).
    """
    level = torch.as_tensor(noise).to(observed.real)
    if rounds < 1 or bool((level < 0).any()):
        raise ShapeError(
            f"reweighted_l1: {rounds} rounds and a noise of {noise} came; at least one, and none below 0, are needed."
        )
    axes = len(operator.shape_in)
    size = _kernel_size(operator, observed)
    strength = _DEVIATIONS * spread(level.expand(observed.shape[: observed.ndim - axes]), axes) * size
    small = strength / size**2
    x, weight, made, settled = None, strength, 0, True
    for number in range(1, rounds + 1):
        found = last(fista(operator, observed, L1(weight), steps=steps, tolerance=tolerance, start=x))
        # A later round, which begins where the one before ran out of steps, takes its first short steps for the end.
        x, made, settled = found.estimate, made + found.steps, settled and found.converged
        yield replace(found, steps=made, converged=settled and number == rounds)
        weight = strength * small / (x.abs() + small).clamp(min=torch.finfo(observed.real.dtype).tiny)


def _kernel_size(operator: Operator, like: Tensor) -> Tensor:
    if isinstance(operator, Convolution):
        size: Tensor = operator.kernel.to(like).norm()
        return size
    spike = like.new_zeros(operator.shape_in)
    spike[tuple(n // 2 for n in operator.shape_in)] = 1
    response: Tensor = operator.forward(spike).norm()
    return response
