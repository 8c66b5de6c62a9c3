"""Quadratic fits to the observed samples of a circular convolution, by FFTs: the data step of splitting methods."""

from __future__ import annotations

from math import log, sqrt

import torch
from torch import Tensor

from unconv.inverse import headway
from unconv.inverse.operators.convolution import Convolution
from unconv.inverse.operators.fourier import irfftn, rfftn
from unconv.inverse.operators.selection import Selection

_ERASED = 1e-10  # least penalty, in shares of the largest |H|²
_FOLDED = 1.0  # least penalty that the preconditioner of a much coarser grid is made for


class Fit:
    """Quadratic fits of estimates to the observed samples, all of them with one blur and one mask.

    Args:
        circular, chosen: as `split` returns them.
        y: (..., *shape_out), real.
    """

    def __init__(self, circular: Convolution, chosen: Selection, y: Tensor) -> None:
        self.lengths = circular.shape_in[-circular.axes :]
        self.dims = tuple(range(-circular.axes, 0))
        self.seen, self.weights = chosen.adjoint(y), chosen.weights(y)
        self.whole = bool((self.weights == 1).all())
        self.response = circular.spectrum(y)
        self.adjoint, self.power = circular.conjugate(y), circular.power(y)
        # Where most samples are missing, the rest alias onto frequencies that the blur has all but erased. A preconditioner
        # without a floor would take that for signal and make the first gradients far too large there.
        self.floor = _FOLDED if float(self.weights.mean()) < 0.5 else 0.0
        self._problem_axes = tuple(range(-len(chosen.shape_in), 0))
        self.weakest, self.strongest = (sqrt(float(bound)) for bound in torch.aminmax(self.power))

    @property
    def least(self) -> float:
        """The least penalty of every frequency: one that neither the blur passes nor the roughness contains stays as in `v`."""
        return _ERASED * self.strongest**2

    def flat(self) -> Tensor:
        """Spread the mean of each problem's observed samples over the grid: (..., *n)."""
        total = self.seen.sum(self._problem_axes, keepdim=True)
        return (total / self.weights.sum().clamp(min=1)).expand_as(self.seen)

    def filled(self) -> Tensor:
        """Fill missing samples with the mean of their observed neighbours, still blurred: (..., *n)."""
        return nearest_observed(self.seen, self.weights, len(self.lengths))

    def solved(self, v: Tensor, penalty: float | Tensor, steps: int = 100, enough: float = 1e-3) -> Tensor:
        """Minimise |W C x - y|² + sum over frequencies of penalty |X - V|²: (..., *n).

        If no sample is missing, the minimum is a quotient in the Fourier domain. Otherwise conjugate gradients find it
        there, starting from v, one FFT pair each, with that quotient as preconditioner.

        Args:
            v: (..., *n).
            penalty: one number, or one for each frequency of the half grid, and for each problem.
            steps: the most conjugate gradients.
            enough: stop at this share of the first residual, in the preconditioner's norm.
        """
        spectrum = self.transform(v)
        if self.whole:
            right = self.transform(self.seen).mul_(self.adjoint) + penalty * spectrum
            return self.back(right.div_(self.power + penalty))
        return self.back(self._conjugate_gradients(spectrum, penalty, steps, enough))

    def _conjugate_gradients(self, x: Tensor, penalty: float | Tensor, steps: int, enough: float) -> Tensor:
        # Preconditioned conjugate gradients (Saad 2003, alg. 9.1) on the spectrum, which saves the FFTs of penalty and
        # preconditioner. The preconditioner is the inverse of the system as if no sample were missing.
        floored = torch.as_tensor(penalty).clamp(min=self.floor).to(self.power)
        precondition = (self.power + floored).clamp_(min=torch.finfo(self.power.dtype).tiny).reciprocal_()
        residual = self.transform(torch.addcmul(self.seen, self.weights, self.back(x * self.response), value=-1)).mul_(
            self.adjoint
        )
        direction = residual * precondition
        size = first = self._dot(residual, direction)
        for step in range(1, steps + 1):
            applied = self.transform(self.back(direction * self.response).mul_(self.weights)).mul_(self.adjoint)
            applied.add_(direction * penalty)
            step_length = size / self._dot(direction, applied).clamp(min=torch.finfo(size.dtype).tiny)
            x = x + step_length * direction
            residual = residual.sub_(step_length * applied)
            preconditioned = residual * precondition
            new_size = self._dot(residual, preconditioned)
            headway.tell(max(step / steps, _progress(new_size, first, enough)))
            if bool((new_size <= enough**2 * first).all()):
                break
            direction = preconditioned.add_(direction * (new_size / size.clamp(min=torch.finfo(size.dtype).tiny)))
            size = new_size
        return x

    def _dot(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the inner product of two real signals from their half spectra, up to a constant: (..., 1, 1)."""
        # Each frequency counts twice, for its conjugate, except 0 and, of an even length, the highest.
        product = a.real * b.real + a.imag * b.imag
        ends = product[..., :1].sum(self.dims, keepdim=True)
        if self.lengths[-1] % 2 == 0:
            ends = ends + product[..., -1:].sum(self.dims, keepdim=True)
        return 2 * product.sum(self.dims, keepdim=True) - ends

    def transform(self, x: Tensor) -> Tensor:
        return rfftn(x, self.lengths, self.dims)

    def back(self, spectrum: Tensor) -> Tensor:
        return irfftn(spectrum, self.lengths, self.dims)


def _progress(size: Tensor, first: Tensor, enough: float) -> float:
    """Return how far squared residuals have fallen towards their goal, as a share in logarithms."""
    tiny = torch.finfo(size.dtype).tiny
    left = float((size / first.clamp(min=tiny)).amax().clamp(min=tiny))
    return min(max(log(left) / log(enough**2), 0.0), 1.0) if enough < 1 else 0.0


def nearest_observed(seen: Tensor, weights: Tensor, axes: int) -> Tensor:
    """Fill missing samples with the mean of their observed neighbours along the last `axes` axes, ring by ring."""
    filled, known = seen, weights.expand_as(seen)
    while bool((known == 0).any()) and bool((known > 0).any()):
        total, count = filled * known, known
        for axis in range(-axes, 0):
            total, count = (t + t.roll(1, axis) + t.roll(-1, axis) for t in (total, count))
        reached = (known == 0) & (count > 0)
        filled = torch.where(reached, total / count.clamp(min=1), filled)
        known = torch.where(reached, 1, known)
    return filled
