"""Plug-and-play half-quadratic splitting: any denoiser as the knowledge of what a picture looks like."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import sqrt

import torch
from torch import Tensor

from unconv.errors import ShapeError
from unconv.inverse.convolution import Convolution, split
from unconv.inverse.iterate import Iterate
from unconv.inverse.operator import Operator
from unconv.inverse.problems import admit
from unconv.inverse.selection import Selection

Denoiser = Callable[[Tensor, float], Tensor]

_BALANCE = 0.26  # the penalty's share; below 0.25 the noise of what is denoised outgrows what its denoiser is told
_FIRST = 0.6  # the first deviation, in standard deviations of what was observed
_INNER, _ENOUGH = 6, 0.05  # conjugate gradients for one data step: at most so many, to this share of the first residual


def hqs(
    operator: Operator,
    observed: Tensor,
    denoiser: Denoiser,
    *,
    noise: float,
    steps: int = 10,
    first: float | None = None,
    start: Tensor | None = None,
) -> Iterator[Iterate]:
    """Denoise and fit the observed samples in turns, the denoiser being told less and less noise, at last `noise`.

    Each step minimises |A x - y|² / noise² + balance |x - v|² / s², v the estimate so far and s falling from `first`
    to `noise`; the estimate is what the denoiser makes of that x at deviation s. A is a circular convolution of which
    some samples were observed (`split`). Where all were, the minimum is one product in the Fourier domain; otherwise
    it takes a few conjugate gradients there, one FFT pair each, with the circular solution as preconditioner.

    Args:
        observed: (..., *operator.shape_out), real.
        denoiser: `denoiser(x, s)` gives (..., *operator.shape_in) without white noise of standard deviation s.
            `SimilarBlocks()` and `SlidingDct()` are ours; a network of yours will do.
        noise: standard deviation, in the units of `observed`.
        first: the first s, by default 0.6 standard deviations of what was observed, and at least four times `noise`.

    Raises:
        ShapeError: the operator is no such convolution, the samples do not fit it, `noise` is not positive, or the
            denoiser changes the shape.
        NonFinite: the samples are not finite.

    Source:
        Geman & Yang (1995); Zoran & Weiss, "From learning models of natural image patches to whole image restoration"
        (2011); Zhang et al., "Plug-and-play image restoration with deep denoiser prior" (2021), sec. 4: the schedule.
    """
    admit("hqs", operator, observed)
    if not noise > 0:
        raise ShapeError(
            f"hqs: noise is {noise}, but a positive standard deviation was needed. Give a small one, such as 1e-4."
        )
    circular, chosen = split(operator)
    fit = _Fit(circular, chosen, observed)
    x = fit.filled() if start is None else start
    for step, s in enumerate(schedule(observed, noise, steps, first), 1):
        x = denoiser(fit.solved(x, fit.penalty(s / noise)), s)
        if x.shape != fit.seen.shape:
            raise ShapeError(f"hqs: the denoiser made {tuple(x.shape)} of {tuple(fit.seen.shape)}; it must keep the shape.")
        yield Iterate(operator, observed, x, step, step == steps)


def schedule(observed: Tensor, noise: float, steps: int, first: float | None = None) -> list[float]:
    """The standard deviations that `hqs` tells its denoiser, falling by one factor from step to step."""
    begin = first or max(_FIRST * float(observed.std()), 4 * noise)
    return [begin * (noise / begin) ** (step / max(steps - 1, 1)) for step in range(steps)]


class _Fit:
    """The data step: min over x of |W C x - y|² + penalty |x - v|², W the diagonal of what was observed."""

    def __init__(self, circular: Convolution, chosen: Selection, y: Tensor) -> None:
        self.lengths = circular.shape_in[-circular.axes :]
        self.dims = tuple(range(-circular.axes, 0))
        self.seen, self.weights = chosen.adjoint(y), chosen.weights(y)
        self.whole = bool((self.weights == 1).all())
        self.response = circular.spectrum(y)
        self.adjoint = self.response.conj().resolve_conj()
        self.power = self.response.real.square() + self.response.imag.square()
        self.weakest, self.strongest = (sqrt(float(bound)) for bound in torch.aminmax(self.power))

    def filled(self) -> Tensor:
        """What was observed, and the nearest observed sample where nothing was; not deblurred."""
        return nearest_observed(self.seen, self.weights)

    def penalty(self, ratio: float) -> float:
        """The least one under which no frequency's noise is more than the denoiser is told.

        With penalty p the noise at a frequency of response h grows by h / (h² + p), at most 1 / (2 sqrt(p)), reached
        where h = sqrt(p), if there is such a response.
        """
        most = ratio / (2 * sqrt(_BALANCE))
        bounded = min(max(sqrt(_BALANCE) / ratio, self.weakest), self.strongest)
        return max(bounded / most - bounded**2, 1e-3 * _BALANCE / ratio**2)

    def solved(self, v: Tensor, penalty: float) -> Tensor:
        """The minimum, (..., *n)."""
        if self.whole:
            right = self.turned(self.seen).mul_(self.adjoint).add_(self.turned(v), alpha=penalty)
            return self.back(right.div_(self.power + penalty))
        return self.back(self._gradients(self.turned(v), penalty))

    def _gradients(self, x: Tensor, penalty: float) -> Tensor:
        """Preconditioned conjugate gradients from x on, all of it in the Fourier domain."""
        precondition = (self.power + penalty).reciprocal_()
        residual = self.turned(torch.addcmul(self.seen, self.weights, self.back(x * self.response), value=-1)).mul_(
            self.adjoint
        )
        direction = residual * precondition
        size = first = self._dot(residual, direction)
        for _ in range(_INNER):
            applied = self.turned(self.back(direction * self.response).mul_(self.weights)).mul_(self.adjoint)
            applied.add_(direction, alpha=penalty)
            along = size / self._dot(direction, applied).clamp(min=torch.finfo(size.dtype).tiny)
            x = x + along * direction
            residual = residual.sub_(along * applied)
            better = residual * precondition
            new = self._dot(residual, better)
            if bool((new <= _ENOUGH**2 * first).all()):
                break
            direction = better.add_(direction * (new / size.clamp(min=torch.finfo(size.dtype).tiny)))
            size = new
        return x

    def _dot(self, a: Tensor, b: Tensor) -> Tensor:
        """The inner product of two real pictures given by half their spectra, up to a constant: (..., 1, 1)."""
        product = a.real * b.real + a.imag * b.imag
        ends = product[..., :1].sum(self.dims, keepdim=True)
        if self.lengths[-1] % 2 == 0:
            ends = ends + product[..., -1:].sum(self.dims, keepdim=True)
        return 2 * product.sum(self.dims, keepdim=True) - ends

    def turned(self, x: Tensor) -> Tensor:
        spectrum: Tensor = torch.fft.rfftn(x, dim=self.dims)
        return spectrum

    def back(self, spectrum: Tensor) -> Tensor:
        x: Tensor = torch.fft.irfftn(spectrum, self.lengths, self.dims)
        return x


def nearest_observed(seen: Tensor, weights: Tensor) -> Tensor:
    """(..., *n): where nothing was observed, the mean of the neighbours that were, ring by ring inwards."""
    filled, known = seen, weights.expand_as(seen)
    while bool((known == 0).any()) and bool((known > 0).any()):
        total, count = filled * known, known
        for axis in range(-weights.ndim, 0):
            total, count = (t + t.roll(1, axis) + t.roll(-1, axis) for t in (total, count))
        fresh = (known == 0) & (count > 0)
        filled = torch.where(fresh, total / count.clamp(min=1), filled)
        known = torch.where(fresh, 1, known)
    return filled
