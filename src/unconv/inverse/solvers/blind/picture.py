"""The picture step of blind deconvolution: a sharp picture with few edges, for a known kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from unconv.inverse.operators.convolution import Convolution
from unconv.inverse.operators.fourier import fast_length

_STIFFEST, _STIFFER = 1e5, 2.0  # the largest penalty of the splitting, and its factor in each round (Pan et al. 2014)


def sharpen(wrapped: Tensor, kernel: Tensor, price: float, shrink: Callable[[Tensor, float], Tensor]) -> Tensor:
    """Return the minimum of |A x - y|^2 + price * R(grad x), circular, by half-quadratic splitting; `shrink` is R's prox."""
    shape = wrapped.shape[-2:]
    differences = [Convolution([[1.0, -1.0]], shape), Convolution([[1.0], [-1.0]], shape)]
    blur = Convolution(kernel, shape, method="fft").spectrum(wrapped)
    slope_energy = sum((slope.spectrum(wrapped).abs().square() for slope in differences), torch.zeros_like(blur.real))
    energy, right = blur.abs().square(), blur.conj() * torch.fft.rfft2(wrapped)
    x, stiffness = wrapped, 2 * price
    # Each round solves for the slopes (shrinkage) and for x (a quotient in the Fourier domain). The stiffness that ties the
    # two together grows, so that R is met only loosely at first: a stiff start would not leave the observed picture.
    while stiffness < _STIFFEST:
        slopes = shrink(torch.stack([x.roll(-1, -1) - x, x.roll(-1, -2) - x]), price / stiffness)
        back = slopes[0].roll(1, -1) - slopes[0] + slopes[1].roll(1, -2) - slopes[1]
        spectrum = (right + stiffness * torch.fft.rfft2(back)) / (energy + stiffness * slope_energy)
        x = torch.fft.irfft2(spectrum, shape)
        stiffness *= _STIFFER
    return x


def hard_threshold(slopes: Tensor, price: float) -> Tensor:
    """Return the prox of the L0 norm, the number of samples with a slope: small slopes become zero, large ones stay."""
    return slopes.where(slopes.square().sum(0) >= price, 0)


def soft_threshold(slopes: Tensor, price: float) -> Tensor:
    """Return the prox of total variation: each slope becomes shorter by half the price."""
    size = slopes.square().sum(0).sqrt().clamp(min=torch.finfo(slopes.dtype).tiny)
    return slopes * (1 - price / 2 / size).clamp(min=0)


def wrap_around(picture: Tensor, size: Sequence[int]) -> Tensor:
    """Return (..., H, W) extended below and to the right, so that its end runs smoothly into its beginning.

    The margin blends the mirrored end into the mirrored beginning. It is at least twice as long as the kernel, if the picture
    is long enough. Without it, the periodic FFT would have an edge at the border that is not in the picture.
    """
    for axis, k in zip((-2, -1), size, strict=True):
        n = picture.shape[axis]
        margin = min(fast_length(n + 2 * k) - n, n)
        angle = torch.linspace(0, torch.pi, margin + 2, dtype=picture.dtype, device=picture.device)[1:-1]
        share = (0.5 - 0.5 * angle.cos()).reshape(-1, *[1] * (-1 - axis))
        end, begin = picture.narrow(axis, n - margin, margin).flip(axis), picture.narrow(axis, 0, margin).flip(axis)
        picture = torch.cat([picture, torch.lerp(end, begin, share)], axis)
    return picture


def with_margins(circle: Tensor, picture: Tensor, size: Sequence[int]) -> Tensor:
    """Return the samples of a circular estimate that contribute to `picture`: k - 1 more along each axis."""
    before = [k - 1 - k // 2 for k in size]
    return circle.roll(before, (-2, -1))[..., : picture.shape[-2] + size[0] - 1, : picture.shape[-1] + size[1] - 1]


def noise_level(observed: Tensor) -> float:
    """Return the standard deviation of white noise from the median of the finest diagonal Haar coefficients (Donoho 1995)."""
    a, b = observed[..., :-1, :-1] + observed[..., 1:, 1:], observed[..., 1:, :-1] + observed[..., :-1, 1:]
    return float(((a - b) / 2).abs().median() / 0.6745)
