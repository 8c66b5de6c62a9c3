"""Quadratic fits to the observed samples of a circular convolution, at the FFT's speed: one half of splitting methods."""

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
    """Quadratic fits of an estimate to what was observed, all of them with one blur and one mask.

    Args:
        circular, chosen: as `split` gives them.
        y: (..., *shape_out), real.
    """

    def __init__(self, circular: Convolution, chosen: Selection, y: Tensor) -> None:
        self.lengths = circular.shape_in[-circular.axes :]
        self.dims = tuple(range(-circular.axes, 0))
        self.seen, self.weights = chosen.adjoint(y), chosen.weights(y)
        self.whole = bool((self.weights == 1).all())
        self.response = circular.spectrum(y)
        self.adjoint, self.power = circular.conjugate(y), circular.power(y)
        # Where most was not observed, what was is folded onto frequencies that the blur has all but erased, and a
        # preconditioner that takes this for signal makes the first gradients far too large there.
        self.floor = _FOLDED if float(self.weights.mean()) < 0.5 else 0.0
        self._problem = tuple(range(-len(chosen.shape_in), 0))
        self.weakest, self.strongest = (sqrt(float(bound)) for bound in torch.aminmax(self.power))

    @property
    def least(self) -> float:
        """A penalty for every frequency: where the blur erased it and no roughness sees it, it stays as in `v`."""
        return _ERASED * self.strongest**2

    def flat(self) -> Tensor:
        """Spread the mean of each problem's observed samples over the grid: (..., *n)."""
        total = self.seen.sum(self._problem, keepdim=True)
        return (total / self.weights.sum().clamp(min=1)).expand_as(self.seen)

    def filled(self) -> Tensor:
        """Carry the observed samples on to where nothing was observed, still blurred: (..., *n)."""
        return nearest_observed(self.seen, self.weights, len(self.lengths))

    def solved(self, v: Tensor, penalty: float | Tensor, steps: int = 100, enough: float = 1e-3) -> Tensor:
        """Minimise |W C x - y|² + sum over frequencies of penalty |X - V|²: (..., *n).

        Where all samples were observed, the minimum is a quotient in the Fourier domain. Otherwise conjugate gradients
        find it there, starting from v, one FFT pair each, with that quotient as preconditioner.

        Args:
            v: (..., *n).
            penalty: one number, or one for each frequency of the half grid, and for each problem.
            steps: at most so many conjugate gradients.
            enough: the share of the first residual to reach, in the preconditioner's norm.
        """
        spectrum = self.transform(v)
        if self.whole:
            right = self.transform(self.seen).mul_(self.adjoint) + penalty * spectrum
            return self.back(right.div_(self.power + penalty))
        return self.back(self._gradients(spectrum, penalty, steps, enough))

    def _gradients(self, x: Tensor, penalty: float | Tensor, steps: int, enough: float) -> Tensor:
        # Preconditioned conjugate gradients (Saad 2003, alg. 9.1) on the spectrum; the preconditioner is the inverse of
        # the system as if every sample had been observed.
        least = torch.as_tensor(penalty).clamp(min=self.floor).to(self.power)
        precondition = (self.power + least).clamp_(min=torch.finfo(self.power.dtype).tiny).reciprocal_()
        residual = self.transform(torch.addcmul(self.seen, self.weights, self.back(x * self.response), value=-1)).mul_(
            self.adjoint
        )
        direction = residual * precondition
        size = first = self._dot(residual, direction)
        for step in range(1, steps + 1):
            applied = self.transform(self.back(direction * self.response).mul_(self.weights)).mul_(self.adjoint)
            applied.add_(direction * penalty)
            along = size / self._dot(direction, applied).clamp(min=torch.finfo(size.dtype).tiny)
            x = x + along * direction
            residual = residual.sub_(along * applied)
            better = residual * precondition
            new = self._dot(residual, better)
            headway.tell(max(step / steps, _reached(new, first, enough)))
            if bool((new <= enough**2 * first).all()):
                break
            direction = better.add_(direction * (new / size.clamp(min=torch.finfo(size.dtype).tiny)))
            size = new
        return x

    def _dot(self, a: Tensor, b: Tensor) -> Tensor:
        """The inner product of two real signals given by half their spectra, up to a constant: (..., 1, 1)."""
        product = a.real * b.real + a.imag * b.imag
        ends = product[..., :1].sum(self.dims, keepdim=True)
        if self.lengths[-1] % 2 == 0:
            ends = ends + product[..., -1:].sum(self.dims, keepdim=True)
        return 2 * product.sum(self.dims, keepdim=True) - ends

    def transform(self, x: Tensor) -> Tensor:
        return rfftn(x, self.lengths, self.dims)

    def back(self, spectrum: Tensor) -> Tensor:
        return irfftn(spectrum, self.lengths, self.dims)


def _reached(size: Tensor, first: Tensor, enough: float) -> float:
    """The share of the way, in powers of ten, that squared residuals have come."""
    tiny = torch.finfo(size.dtype).tiny
    left = float((size / first.clamp(min=tiny)).amax().clamp(min=tiny))
    return min(max(log(left) / log(enough**2), 0.0), 1.0) if enough < 1 else 0.0


def nearest_observed(seen: Tensor, weights: Tensor, axes: int) -> Tensor:
    """Fill what was not observed with the mean of its observed neighbours along the last `axes` axes, ring by ring."""
    filled, known = seen, weights.expand_as(seen)
    while bool((known == 0).any()) and bool((known > 0).any()):
        total, count = filled * known, known
        for axis in range(-axes, 0):
            total, count = (t + t.roll(1, axis) + t.roll(-1, axis) for t in (total, count))
        fresh = (known == 0) & (count > 0)
        filled = torch.where(fresh, total / count.clamp(min=1), filled)
        known = torch.where(fresh, 1, known)
    return filled
