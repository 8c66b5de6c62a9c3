"""Reverse rules of the Fourier transform, and of operations on complex numbers.

The transform is linear, and so is a product of its coefficients with weights: they go back by their adjoint, with respect to
the real inner product, as in autograd. Functions that are not linear, such as the magnitude of a coefficient, go back by their
derivative.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from unconv.reverse.rules.table import Rule, adjoint, differentiated, full_maps, rule
from unconv.reverse.tape.barriers import OVERLAID
from unconv.reverse.tape.step import Step
from unconv.reverse.window import Window

aten = torch.ops.aten

# Operations on complex numbers that autograd can take back: linear ones, and those whose rule keeps the recorded point.
_REVERSIBLE = {
    aten._conj.default,
    aten._fft_c2c.default,
    aten._fft_c2r.default,
    aten._fft_r2c.default,
    aten._to_copy.default,
    aten._unsafe_view.default,
    aten.abs.default,
    aten.add.Tensor,
    aten.alias.default,
    aten.bmm.default,
    aten.cat.default,
    aten.clone.default,
    aten.complex.default,
    aten.constant_pad_nd.default,
    aten.copy.default,
    aten.div.Tensor,
    aten.expand.default,
    aten.flip.default,
    aten.mean.dim,
    aten.mm.default,
    aten.mul.Tensor,
    aten.permute.default,
    aten.roll.default,
    aten.select.int,
    aten.slice.Tensor,
    aten.split.Tensor,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.stack.default,
    aten.sub.Tensor,
    aten.sum.dim_IntList,
    aten.t.default,
    aten.transpose.int,
    aten.unbind.int,
    aten.unsqueeze.default,
    aten.view.default,
    aten.view_as_complex.default,
    aten.view_as_real.default,
    OVERLAID,
}


@rule(
    aten._conj.default,
    aten._fft_c2c.default,
    aten._fft_c2r.default,
    aten._fft_r2c.default,
    aten.complex.default,
    aten.view_as_complex.default,
    aten.view_as_real.default,
)
def fourier(step: Step, *signals: Window | None) -> list[Window | None]:
    """Apply the adjoint, on full maps."""
    return adjoint(step, *full_maps(step, signals))


def is_complex(step: Step) -> bool:
    """Whether complex numbers enter or leave a step."""
    return any(value.dtype.is_complex for value in (*step.inputs, *filter(None, step.outputs)))


def goes_back(step: Step) -> bool:
    """Whether a step on complex numbers can go back."""
    return step.operation in _REVERSIBLE


def through_complex(step: Step, rule: Rule, signals: Sequence[Window | None]) -> Window | Sequence[Window | None]:
    """Run a step on complex numbers backwards by autograd, at the point it kept if it is not linear; a copy by its rule."""
    if step.operation is aten.copy.default:
        return rule(step, *signals)
    nonlinear = isinstance(step.kept, tuple) and len(step.kept) == len(step.inputs)
    return differentiated(step, *signals) if nonlinear else adjoint(step, *full_maps(step, signals))
