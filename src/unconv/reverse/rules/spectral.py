"""Reverse rules of the Fourier transform, and of what networks do with complex numbers in between.

The transform is linear, and so is what multiplies its coefficients by weights: the adjoint goes back, in the sense of the
inner product of real numbers, as autograd has it. Functions that are not linear, such as the size of a coefficient, go
back by their derivative.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from unconv.reverse.rules.table import Rule, adjoint, differentiated, full_maps, rule
from unconv.reverse.tape.barriers import OVERLAID
from unconv.reverse.tape.step import Step
from unconv.reverse.window import Window

aten = torch.ops.aten

# Operations on complex numbers that autograd tells right: linear ones, and those that keep the point they were at.
_KNOWN = {
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
    """The adjoint, on whole maps."""
    return adjoint(step, *full_maps(step, signals))


def is_complex(step: Step) -> bool:
    """Whether complex numbers enter or leave a step."""
    return any(value.dtype.is_complex for value in (*step.inputs, *filter(None, step.outputs)))


def goes_back(step: Step) -> bool:
    """Whether a step on complex numbers can go back."""
    return step.operation in _KNOWN


def through_complex(step: Step, rule: Rule, signals: Sequence[Window | None]) -> Window | Sequence[Window | None]:
    """A step on complex numbers by autograd: at the point that it kept, or, as it is linear, at any; a copy by its rule."""
    if step.operation is aten.copy.default:
        return rule(step, *signals)
    bent = isinstance(step.kept, tuple) and len(step.kept) == len(step.inputs)
    return differentiated(step, *signals) if bent else adjoint(step, *full_maps(step, signals))
