"""Several problems solved side by side: checks of the samples, and inner products, one for each problem."""

from __future__ import annotations

import torch
from torch import Tensor

from unconv.errors import DtypeError, NonFinite
from unconv.inverse.operators.operator import Operator, fits


def admit(where: str, operator: Operator, observed: Tensor) -> None:
    """Refuse samples that do not fit the operator, or are not finite.

    Raises:
        DtypeError: not a floating or complex tensor.
        ShapeError: not (..., *operator.shape_out).
        NonFinite: NaN or infinite samples.
    """
    fits(where, observed, operator.shape_out)
    if not is_finite(observed):
        count = int((~torch.isfinite(observed)).sum())
        raise NonFinite(
            f"{where}: {count} of {observed.numel()} observed samples {'is' if count == 1 else 'are'} NaN or infinite, but "
            "finite ones were needed. Replace them by any number, and leave them out of the fit with a Mask."
        )


def refuse_complex(where: str, operator: Operator, observed: Tensor) -> None:
    """Refuse complex samples, and an operator whose output for real samples is complex."""
    output = operator.forward(observed.real.new_zeros(operator.shape_in))
    if observed.is_complex() or output.is_complex():
        raise DtypeError(f"{where}: samples or kernel are complex, but real ones were needed. Use cgls, tikhonov or fista.")


def is_finite(x: Tensor) -> bool:
    """Tell whether all samples are finite."""
    # A finite sum has finite terms, and costs a tenth of testing each. An infinite sum may only have overflowed.
    return bool(torch.isfinite(x.sum())) or bool(torch.isfinite(x).all())


def dots(x: Tensor, y: Tensor, axes: int) -> Tensor:
    """Return the real part of the inner product over the last `axes` axes, for each problem: (...)."""
    product: Tensor = torch.linalg.vecdot(x.flatten(-axes), y.flatten(-axes)).real
    return product


def sizes(x: Tensor, axes: int) -> Tensor:
    """Return the 2-norm over the last `axes` axes, for each problem: (...)."""
    norms: Tensor = torch.linalg.vector_norm(x, dim=tuple(range(-axes, 0)))
    return norms


def spread(numbers: Tensor, axes: int) -> Tensor:
    """Shape one number for each problem to multiply its samples: (..., 1, ..., 1)."""
    return numbers.reshape(*numbers.shape, *(1,) * axes)


def rademacher(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return a Rademacher probe, random +1 and -1 and the same for each problem: E z* M z = trace(M).

    Source:
        Hutchinson, "A stochastic estimator of the trace of the influence matrix for Laplacian smoothing splines" (1990).
    """
    random = torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(0))
    return (2 * random - 1).to(like).expand_as(like)


def quotient(a: Tensor, b: Tensor) -> Tensor:
    """Return a / b, and 0 where b is 0."""
    return torch.where(b > 0, a / torch.where(b > 0, b, 1), 0)
