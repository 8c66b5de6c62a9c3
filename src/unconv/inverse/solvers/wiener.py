"""The linear estimate of least mean square error, in one pair of FFTs."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import Any

import torch
from torch import Tensor

from unconv.errors import ShapeError
from unconv.inverse.noise import estimate_noise
from unconv.inverse.operators.convolution import Convolution
from unconv.inverse.operators.operator import Operator
from unconv.inverse.operators.spectral import Grid
from unconv.inverse.solvers.iterate import Iterate
from unconv.inverse.solvers.problems import admit, quotient

# Frequencies that the fit of the signal's spectrum looks at; more change it by less than its own error.
_ENOUGH = 2**16


def wiener(
    operator: Operator,
    observed: Tensor,
    *,
    noise: float | Tensor | None = None,
    signal: Tensor | None = None,
    nsr: float | Tensor | None = None,
) -> Iterator[Iterate]:
    """X = conj(H) Y / (|H|^2 + N / S), for a circular convolution of stride 1.

    A power spectrum is E|X|^2 / n, X the plain FFT along the convolved axes and n the number of its samples: that of
    white noise is its variance everywhere. It lies on the grid of `torch.fft.fftn` or, where kernel and observed
    are real, also of `rfftn`; axes in front, if any, are those of `observed`.

    Args:
        noise: N, as the standard deviation of white noise, a number, or as a power spectrum. Without it
            `estimate_noise` of each picture.
        signal: S, the truth's power spectrum. Without it c / |f|^2, as of natural pictures, with c fitted to what
            was observed; the mean is kept, by S = infinite at f = 0.
        nsr: N / S itself, a number or on the grid, instead of both.

    Yields:
        One estimate, converged. Its `strength` is N / c where c was fitted, the mean over pictures and frequencies.

    Raises:
        ShapeError: the operator is no circular convolution of stride 1; a spectrum off the grid; `nsr` beside others.

    Source:
        Wiener, "Extrapolation, Interpolation, and Smoothing of Stationary Time Series" (1949); Field, "Relations between
        the statistics of natural images and the response properties of cortical cells" (1987) for 1 / |f|^2.
    """
    admit("wiener", operator, observed)
    if not (isinstance(operator, Convolution) and operator.diagonalised):
        raise ShapeError(
            f"wiener: the operator is {operator!r}, but a circular convolution of stride 1 was needed, which the FFT makes "
            "diagonal. Use tikhonov, cgls or fista, which take any operator; or boundary='circular' if nothing is cut off."
        )
    if nsr is not None and (noise is not None or signal is not None):
        raise ShapeError("wiener: nsr came with noise or signal, but it stands for both. Leave the others out, or nsr.")
    grid = Grid(operator, observed)
    seen, power, strength = grid.transform(observed), operator.power(observed), None
    if nsr is not None:
        ratio = grid.placed("wiener: nsr", nsr)
    elif signal is not None:
        spectrum = grid.placed("wiener: signal", signal)
        ratio = _ratio(_level(grid, noise, observed), spectrum)
    else:
        level, bend = _level(grid, noise, observed), grid.square_frequency()
        per = level / _fitted(grid, seen, power, bend, level)
        ratio, strength = per * bend, float(per.mean())
    yield Iterate(
        operator, observed, grid.back(grid.filtered(seen, operator.conjugate(observed), power, ratio)), 1, True, strength
    )


def _level(grid: Grid, noise: float | Tensor | None, observed: Tensor) -> Tensor:
    """The noise's power: a number, one for each picture, or on the grid."""
    if isinstance(noise, Tensor) and noise.ndim:
        return grid.placed("wiener: noise", noise)
    if noise is not None:
        return grid.number(noise) ** 2
    pictures = observed.detach().reshape(-1, *grid.lengths)
    if observed.is_complex():
        pairs = (torch.stack([picture.real, picture.imag]) for picture in pictures)
        found = [2**0.5 * max(estimate_noise(part, grid.axes) for part in pair) for pair in pairs]
    else:
        found = [estimate_noise(picture, grid.axes) for picture in pictures]
    return grid.number(found).square().reshape(*observed.shape[: -grid.axes], *(1,) * grid.axes)


def _ratio(noise: Tensor, signal: Tensor) -> Tensor:
    """N / S, and infinite where S is zero: what has no signal is left out, noise or not."""
    return (noise / signal).nan_to_num(nan=torch.inf, posinf=torch.inf)


def _fitted(grid: Grid, seen: Tensor, power: Tensor, bend: Tensor, level: Tensor) -> Tensor:
    """c of S = c / |f|^2, one for each picture, from the moments E|Y|^2 / n = g c + N, g = |H|^2 / |f|^2.

    Each frequency's c has a standard error of (g c + N) / g: their mean, weighted by that, with the last c in
    it; a few rounds of it are Whittle's likelihood (1953) by scoring. The first c matches the sums.
    """
    every = max(1, ceil((bend.numel() / _ENOUGH) ** (1 / grid.axes)))
    few: Any = (..., *(slice(None, None, every),) * grid.axes)
    tiny, dims = torch.finfo(bend.dtype).tiny, tuple(range(-grid.axes, 0))
    noise = level[few] if level.shape[-grid.axes :] == bend.shape else level
    gain = quotient(power[few], bend[few])
    excess = grid.power(seen[few]) / grid.count - noise
    excess = torch.where(gain > 0, excess, 0)
    c = excess.sum(dims, keepdim=True) / gain.sum(dims, keepdim=True).clamp(min=tiny)
    for _ in range(6):
        least = torch.finfo(c.dtype).eps * excess.abs().amax(dims, keepdim=True) / gain.amax(dims, keepdim=True).clamp(min=tiny)
        c = c.clamp(min=least.clamp(min=tiny))
        weight = (gain * c + noise).square().clamp(min=tiny).reciprocal()
        c = (weight * gain * excess).sum(dims, keepdim=True) / (weight * gain.square()).sum(dims, keepdim=True).clamp(min=tiny)
    return c.clamp(min=least)
