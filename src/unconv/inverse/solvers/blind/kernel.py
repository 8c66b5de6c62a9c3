"""The kernel's half of a blind step: non-negative least squares of slopes, the picture being known."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.inverse.operators.fourier import fast_length

_RIDGE, _SLOPE, _DESCENT = 1.0, 5.0, 100  # weights of the kernel's square and of its slopes' square; steps of the descent
# The part of its peak below which a tap is noise, and the part of the sum below which a patch of taps is.
_FAINT, _SPECK = 0.05, 0.03


def fit_kernel(sharp: Tensor, blurred: Tensor, start: Tensor) -> Tensor:
    """Fit the k >= 0 that minimises |k * grad sharp - grad blurred|^2 + ridge |k|^2 + slope |grad k|^2, shaped as `start`."""
    # The normal equations of a kernel are small: the autocorrelation of the slopes, at lags shorter than the kernel.
    # They are a convolution of the kernel, so that one FFT of the picture serves all steps of the descent.
    size = start.shape
    grid = [fast_length(n + k) for n, k in zip(sharp.shape, size, strict=True)]
    ours, theirs = torch.fft.rfft2(_slopes(sharp), grid), torch.fft.rfft2(_slopes(blurred), grid)
    alike = torch.fft.irfft2(ours.abs().square().sum(0), grid)
    crossed = torch.fft.irfft2((ours.conj() * theirs).sum(0), grid)
    lags = [torch.arange(1 - k, k, device=sharp.device) for k in size]
    small = alike[(lags[0] % grid[0])[:, None], lags[1] % grid[1]]
    small[size[0] - 1, size[1] - 1] += _RIDGE + 4 * _SLOPE
    for y, x in ((0, 1), (1, 0), (1, 2), (2, 1)):
        small[size[0] - 2 + y, size[1] - 2 + x] -= _SLOPE
    places = [torch.arange(k, device=sharp.device) - k // 2 for k in size]
    aim = crossed[(places[0] % grid[0])[:, None], places[1] % grid[1]]
    return _nonnegative(small, aim, start)


def _nonnegative(lags: Tensor, aim: Tensor, start: Tensor) -> Tensor:
    """Minimise x*Nx / 2 - x*aim over x >= 0 by FISTA with the projection as prox (Beck & Teboulle 2009, sec. 4).

    N is the convolution with `lags`, of 2 k - 1 samples along each axis, so that it wraps nothing on a grid of as many.
    """
    (height, width), grid = start.shape, [fast_length(n) for n in lags.shape]
    spectrum = torch.fft.rfft2(lags, grid)
    rate = 1 / float(spectrum.abs().max())
    x = ahead = start
    pace = 1.0
    for _ in range(_DESCENT):
        turned = torch.fft.irfft2(torch.fft.rfft2(ahead, grid) * spectrum, grid)
        moved = (ahead - rate * (turned[height - 1 : 2 * height - 1, width - 1 : 2 * width - 1] - aim)).clamp(min=0)
        faster = (1 + (1 + 4 * pace**2) ** 0.5) / 2
        ahead = moved + (pace - 1) / faster * (moved - x)
        x, pace = moved, faster
    return x


def _slopes(x: Tensor) -> Tensor:
    """Differences along the width and the height: (2, H - 1, W - 1)."""
    return torch.stack([x.diff(dim=1)[:-1], x.diff(dim=0)[:, :-1]])


def two_taps(size: tuple[int, int], like: Tensor) -> Tensor:
    """Start with two neighbouring taps of one half each: with a single tap the blurred picture would explain itself."""
    kernel = like.new_zeros(size)
    kernel[size[0] // 2, size[1] // 2 - 1 : size[1] // 2 + 1] = 0.5
    return kernel


def enlarge(kernel: Tensor, size: tuple[int, int], growth: float) -> Tensor:
    """Make the kernel `growth` times as tall and wide for the next level, padded or cut to `size` about its middle."""
    lengths = [round(k * growth) for k in kernel.shape]
    wide = F.interpolate(kernel[None, None], lengths, mode="bicubic", align_corners=False)[0, 0].clamp(min=0)
    sides = [(to // 2 - of // 2, to - of - (to // 2 - of // 2)) for of, to in zip(lengths, size, strict=True)]
    return centre(F.pad(wide, (*sides[1], *sides[0])))


def drop_faint_taps(kernel: Tensor) -> Tensor:
    """Set taps below 5 % of the peak to zero, and rescale to a sum of 1; a kernel of zeros becomes a point."""
    peak = kernel.max()
    if not peak > 0:
        kernel = torch.zeros_like(kernel)
        kernel[kernel.shape[0] // 2, kernel.shape[1] // 2] = 1
        return kernel
    kernel = kernel.where(kernel >= _FAINT * peak, 0)
    return kernel / kernel.sum()


def drop_specks(kernel: Tensor) -> Tensor:
    """Set to zero the patches of touching taps that hold less than 3 % of the kernel's sum; the greatest stays."""
    there = kernel > 0
    patches = torch.arange(1, kernel.numel() + 1, dtype=kernel.dtype, device=kernel.device).reshape(kernel.shape) * there
    while True:  # the largest number in a patch spreads over it
        spread = F.max_pool2d(patches[None, None], 3, 1, 1)[0, 0] * there
        if torch.equal(spread, patches):
            break
        patches = spread
    weight = kernel.new_zeros(kernel.numel() + 1).index_add(0, patches.flatten().long(), kernel.flatten())
    weight = weight[patches.long()] * there
    kernel = kernel.where(weight >= min(_SPECK * float(kernel.sum()), float(weight.max())), 0)
    return kernel / kernel.sum()


def centre(kernel: Tensor) -> Tensor:
    """Move the kernel by whole samples until its centroid is nearest to its middle; taps that leave are lost."""
    height, width = kernel.shape
    rows = torch.arange(height, dtype=kernel.dtype, device=kernel.device)
    columns = torch.arange(width, dtype=kernel.dtype, device=kernel.device)
    total = kernel.sum()
    down = height // 2 - round(float((kernel.sum(1) * rows).sum() / total))
    right = width // 2 - round(float((kernel.sum(0) * columns).sum() / total))
    moved = F.pad(kernel, (right, -right, down, -down))
    return moved / moved.sum()
