"""Stack an operator and a quadratic penalty, so that plain least squares solve the penalised problem."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from unconv.inverse.operators.convolution import Convolution
from unconv.inverse.operators.differences import gradient, gradient_adjoint
from unconv.inverse.operators.operator import Composition, Operator


class Penalised(Operator):
    """Stack A on root L, as one long vector; its least squares are those of A with the penalty |root L x|².

    Args:
        penalty: L, which is the "identity", the "gradient" or the "laplacian". Differences along the last axes (those of a
            `Convolution`, otherwise all) do not cross the border.
        root: (...), the root of the penalty's strength, one number for each problem of a batch.
    """

    def __init__(self, operator: Operator, penalty: str, root: Tensor) -> None:
        self.operator, self.penalty, self.root = operator, penalty, root[..., None]
        self.shape_in = operator.shape_in
        self._axes = picture_axes(operator)
        self._samples = prod(operator.shape_out)
        copies = self._axes if penalty == "gradient" else 1
        self.shape_out = (self._samples + copies * prod(operator.shape_in),)

    def forward(self, x: Tensor) -> Tensor:
        fitted = self.operator.forward(x).flatten(-len(self.operator.shape_out))
        return torch.cat([fitted, self.root * self._rough(x).flatten(-self._rank())], -1)

    def adjoint(self, y: Tensor) -> Tensor:
        fitted, rough = y[..., : self._samples], y[..., self._samples :] * self.root
        shape = (*self.shape_in,) if self.penalty != "gradient" else (self._axes, *self.shape_in)
        return self.operator.adjoint(fitted.unflatten(-1, self.operator.shape_out)) + self._smooth(rough.unflatten(-1, shape))

    def padded(self, observed: Tensor) -> Tensor:
        """Return the right side of the stacked problem: the observed samples, and zeros for the penalty."""
        flat = observed.flatten(-len(self.operator.shape_out))
        return torch.cat([flat, flat.new_zeros(*flat.shape[:-1], self.shape_out[0] - self._samples)], -1)

    def _rank(self) -> int:
        return len(self.shape_in) + (self.penalty == "gradient")

    def _rough(self, x: Tensor) -> Tensor:
        if self.penalty == "identity":
            return x
        g = self._inside(gradient(x, self._axes))
        return g.movedim(0, -self._rank()) if self.penalty == "gradient" else gradient_adjoint(g, self._axes)

    def _smooth(self, y: Tensor) -> Tensor:
        if self.penalty == "identity":
            return y
        g = y.movedim(-self._rank(), 0) if self.penalty == "gradient" else gradient(y, self._axes)
        return gradient_adjoint(self._inside(g.clone()), self._axes)

    def _inside(self, g: Tensor) -> Tensor:
        """Set the differences between the last sample and the first to zero, in place."""
        for k, axis in enumerate(range(-self._axes, 0)):
            g[k].narrow(axis, g[k].shape[axis] - 1, 1).zero_()
        return g


def picture_axes(operator: Operator) -> int:
    """Return how many of the last axes of the input are the axes of a picture."""
    while isinstance(operator, Composition):
        operator = operator.inner
    return operator.axes if isinstance(operator, Convolution) else len(operator.shape_in)
