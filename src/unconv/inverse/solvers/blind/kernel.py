"""The kernel step of blind deconvolution: non-negative least squares of slopes, for a known picture."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.inverse.operators.fourier import fast_length

_RIDGE, _SLOPE, _STEPS = 1.0, 5.0, 100  # weights of the kernel's square and of its slopes' square; FISTA steps
# The share of the peak below which a tap is noise, and the share of the sum below which a patch of taps is.
_FAINT, _SPECK = 0.05, 0.03


def fit_kernel(sharp: Tensor, blurred: Tensor, start: Tensor) -> Tensor:
    """Return the k >= 0 that minimises |k * grad sharp - grad blurred|^2 + ridge |k|^2 + slope |grad k|^2, sized as `start`."""
    # The normal equations of a kernel are small: the autocorrelation of the slopes, at lags shorter than the kernel.
    # Their matrix is a convolution of the kernel, so one FFT of the picture serves all FISTA steps.
    size = start.shape
    grid = [fast_length(n + k) for n, k in zip(sharp.shape, size, strict=True)]
    sharp_spectra, blurred_spectra = torch.fft.rfft2(_slopes(sharp), grid), torch.fft.rfft2(_slopes(blurred), grid)
    autocorrelation = torch.fft.irfft2(sharp_spectra.abs().square().sum(0), grid)
    cross_correlation = torch.fft.irfft2((sharp_spectra.conj() * blurred_spectra).sum(0), grid)
    lags = [torch.arange(1 - k, k, device=sharp.device) for k in size]
    lagged = autocorrelation[(lags[0] % grid[0])[:, None], lags[1] % grid[1]]
    lagged[size[0] - 1, size[1] - 1] += _RIDGE + 4 * _SLOPE
    for y, x in ((0, 1), (1, 0), (1, 2), (2, 1)):
        lagged[size[0] - 2 + y, size[1] - 2 + x] -= _SLOPE
    offsets = [torch.arange(k, device=sharp.device) - k // 2 for k in size]
    right = cross_correlation[(offsets[0] % grid[0])[:, None], offsets[1] % grid[1]]
    return _nonnegative(lagged, right, start)


def _nonnegative(lags: Tensor, right: Tensor, start: Tensor) -> Tensor:
    """Minimise x*Nx / 2 - x*right over x >= 0 by FISTA with the projection as prox (Beck & Teboulle 2009, sec. 4).

    N is the convolution with `lags`, of 2 k - 1 samples along each axis: on a grid of that many, nothing wraps around.
    """
    (height, width), grid = start.shape, [fast_length(n) for n in lags.shape]
    spectrum = torch.fft.rfft2(lags, grid)
    # The largest value of the spectrum bounds N's norm, and therefore the gradient's Lipschitz constant.
    rate = 1 / float(spectrum.abs().max())
    x = ahead = start
    pace = 1.0
    for _ in range(_STEPS):
        product = torch.fft.irfft2(torch.fft.rfft2(ahead, grid) * spectrum, grid)
        new = (ahead - rate * (product[height - 1 : 2 * height - 1, width - 1 : 2 * width - 1] - right)).clamp(min=0)
        new_pace = (1 + (1 + 4 * pace**2) ** 0.5) / 2
        ahead = new + (pace - 1) / new_pace * (new - x)
        x, pace = new, new_pace
    return x


def _slopes(x: Tensor) -> Tensor:
    """Return the differences along the width and the height: (2, H - 1, W - 1)."""
    return torch.stack([x.diff(dim=1)[:-1], x.diff(dim=0)[:, :-1]])


def two_taps(size: tuple[int, int], like: Tensor) -> Tensor:
    """Return a first kernel of two neighbouring taps of one half each: with a single tap, the blurred picture fits itself."""
    kernel = like.new_zeros(size)
    kernel[size[0] // 2, size[1] // 2 - 1 : size[1] // 2 + 1] = 0.5
    return kernel


def enlarge(kernel: Tensor, size: tuple[int, int], growth: float) -> Tensor:
    """Return the kernel `growth` times as tall and wide for the next level, padded or cut to `size` about its middle."""
    lengths = [round(k * growth) for k in kernel.shape]
    enlarged = F.interpolate(kernel[None, None], lengths, mode="bicubic", align_corners=False)[0, 0].clamp(min=0)
    sides = [(new // 2 - old // 2, new - old - (new // 2 - old // 2)) for old, new in zip(lengths, size, strict=True)]
    return centre(F.pad(enlarged, (*sides[1], *sides[0])))


def drop_faint_taps(kernel: Tensor) -> Tensor:
    """Return the kernel with taps below 5 % of the peak set to zero, and a sum of 1; a kernel of zeros becomes a point."""
    peak = kernel.max()
    if not peak > 0:
        kernel = torch.zeros_like(kernel)
        kernel[kernel.shape[0] // 2, kernel.shape[1] // 2] = 1
        return kernel
    kernel = kernel.where(kernel >= _FAINT * peak, 0)
    return kernel / kernel.sum()


def drop_specks(kernel: Tensor) -> Tensor:
    """Return the kernel without patches of touching taps that hold less than 3 % of its sum; the largest patch stays."""
    nonzero = kernel > 0
    patches = torch.arange(1, kernel.numel() + 1, dtype=kernel.dtype, device=kernel.device).reshape(kernel.shape) * nonzero
    # Connected components by max pooling: the largest number in a patch spreads over it.
    while True:
        grown = F.max_pool2d(patches[None, None], 3, 1, 1)[0, 0] * nonzero
        if torch.equal(grown, patches):
            break
        patches = grown
    weight = kernel.new_zeros(kernel.numel() + 1).index_add(0, patches.flatten().long(), kernel.flatten())
    weight = weight[patches.long()] * nonzero
    kernel = kernel.where(weight >= min(_SPECK * float(kernel.sum()), float(weight.max())), 0)
    return kernel / kernel.sum()


def centre(kernel: Tensor) -> Tensor:
    """Return the kernel shifted by an integer number of samples so that its centroid is nearest to its middle.

    Taps that leave the kernel are lost.
    """
    height, width = kernel.shape
    rows = torch.arange(height, dtype=kernel.dtype, device=kernel.device)
    columns = torch.arange(width, dtype=kernel.dtype, device=kernel.device)
    total = kernel.sum()
    down = height // 2 - round(float((kernel.sum(1) * rows).sum() / total))
    right = width // 2 - round(float((kernel.sum(0) * columns).sum() / total))
    shifted = F.pad(kernel, (right, -right, down, -down))
    return shifted / shifted.sum()
