"""Estimate coarse noise at the frequencies that the blur removes.

White noise can be measured at the highest frequencies. Compression and a camera's smoothing, sharpening and resampling remove
those, and leave coarser errors, which deconvolution amplifies. The frequencies that the blur removes show such errors:
nothing there comes from the picture.
"""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

from unconv.inverse.operators.convolution import Convolution
from unconv.inverse.operators.fourier import fast_length
from unconv.inverse.operators.selection import Mask
from unconv.inverse.solvers.iterate import last
from unconv.inverse.solvers.tikhonov import tikhonov

_LOOKED_AT = 192  # samples along each axis, from the middle of the picture
_FEWEST = 24  # samples along each axis; a smaller picture gets no estimate
_STRENGTHS = (1e-2, 1e-3, 1e-4)  # of the fits' regularisation, from the largest residual to the smallest
_TOLERANCE = 1e-3  # a fit ends when the gradient has fallen to this share of the first one
_RINGS = torch.arange(0.06, 0.66, 0.04).tolist()  # cycles per sample
_HALF_WIDTH = 0.035  # of a ring, in cycles per sample
_KEPT = 0.25  # a frequency counts if a fit leaves at least this share of its power in the residual
_CELLS = 12  # a ring needs at least so many frequencies


def unexplained(samples: Tensor, kernel: Tensor) -> tuple[float, float, float] | None:
    """Return three estimates of the strongest noise over rings of frequencies, each as the standard deviation of white noise.

    A Tikhonov fit explains the part of the picture that came through the blur, and the weaker its regularisation, the more.
    The residual at frequencies that the blur removes is noise if it stays when the regularisation is weakened. Whatever
    disappears from it was the picture, so each ring's power is reduced by the ratio in which it fell from the fit before.

    Args:
        samples: (H, W) or (C, H, W); NaN where a sample is missing.
        kernel: (h, w), sums to 1.

    Returns:
        None if the picture is too small, or if the blur removes no ring of frequencies. Otherwise:

        1. a lower bound, from the residual of the weakest fit; too low where the blur removes few frequencies;
        2. the likely value: as the first, with a stronger fit's residual in the rings where the weakest leaves too little;
        3. an upper bound, from the stronger fit; too high where the picture has few directions, as text has.
    """
    part = _middle(samples, kernel)
    if min(part.shape[-2:]) < max(_FEWEST, *kernel.shape):
        return None
    missing = part.isnan()
    part = torch.where(missing, 0, part.float() - part.nanmean().float())
    if missing.all() or not part.any():
        return None
    taper = _taper(part)
    passed, radius = _passed(kernel.to(part), taper), _radius(part)
    rows = [_rings(_residual_power(part, missing, kernel.to(part), each, taper), passed, radius, each) for each in _STRENGTHS]
    powers = torch.stack(rows)
    steady = powers[1:] * (powers[1:] / powers[:-1]).clamp(max=1)
    if steady.isnan().all():
        return None
    least = steady.amin(0)
    # A ring is NaN where the weakest fit leaves too little. `amin` keeps the NaN, so such rings count only in the other two.
    lower, likely, upper = (_strongest(r) for r in (least, torch.where(steady[1].isnan(), steady[0], least), steady[0]))
    return lower, likely, upper


def _strongest(rings: Tensor) -> float:
    known = rings[~rings.isnan()]
    return float(known.amax().sqrt()) if len(known) else 0.0


def _middle(samples: Tensor, kernel: Tensor) -> Tensor:
    """Return the middle of the picture, in a size whose FFT is fast."""
    size = []
    for n, k in zip(samples.shape[-2:], kernel.shape, strict=True):
        most = min(n, max(_LOOKED_AT, 4 * k))
        # The grid of the fit is longer than the picture by the kernel less one, so that sum must be a fast length.
        size.append(next((m for m in range(most, most - 12, -1) if fast_length(m + k - 1) == m + k - 1), most))
    start = [(n - m) // 2 for n, m in zip(samples.shape[-2:], size, strict=True)]
    return samples[..., start[0] : start[0] + size[0], start[1] : start[1] + size[1]]


def _taper(part: Tensor) -> Tensor:
    rows, columns = (
        torch.hann_window(n + 2, periodic=False, dtype=part.dtype, device=part.device)[1:-1] for n in part.shape[-2:]
    )
    return rows[:, None] * columns


def _radius(part: Tensor) -> Tensor:
    rows, columns = (torch.fft.fftfreq(n, device=part.device) for n in part.shape[-2:])
    return torch.hypot(rows[:, None], columns)


def _passed(kernel: Tensor, taper: Tensor) -> Tensor:
    """Return the power that the blur passes, smoothed as by a periodogram with this taper."""
    # A tapered periodogram convolves the power with the taper's; that is a product of autocorrelations, on a grid of twice
    # the size, where they do not wrap round.
    double = [2 * n for n in taper.shape]
    correlation, window = (torch.fft.ifft2(torch.fft.fft2(a.double(), s=double).abs().square()).real for a in (kernel, taper))
    smooth = torch.fft.fft2(correlation * window / window[0, 0]).real.clamp(min=0)
    passed: Tensor = smooth[::2, ::2].to(taper)
    return passed


def _residual_power(part: Tensor, missing: Tensor, kernel: Tensor, strength: float, taper: Tensor) -> Tensor:
    """Return the periodogram of a fit's residual, averaged over the channels; for white noise it is the variance."""
    n = [a + k - 1 for a, k in zip(part.shape[-2:], kernel.shape, strict=True)]
    blur = Convolution(kernel, (*part.shape[:-2], *n), "unknown", method="fft")
    operator = Mask(~missing) @ blur if bool(missing.any()) else blur
    fit = last(tikhonov(operator, part, strength=strength, penalty="gradient", differences="circular", tolerance=_TOLERANCE))
    residual = (part - operator.forward(fit.estimate)) * taper
    power: Tensor = torch.fft.fft2(residual).abs().square() / taper.square().sum()
    return power.reshape(-1, *taper.shape).mean(0)


def _rings(power: Tensor, passed: Tensor, radius: Tensor, strength: float) -> Tensor:
    """Return the mean power in each ring at the frequencies where the fit keeps enough of it; NaN where these are too few."""
    # The residual of the Tikhonov fit is P / (|H|^2 + P) times the picture, with the penalty P = strength |2 pi f|^2. Divide
    # by its square to get the noise itself.
    penalty = strength * (2 * pi * radius).square()
    response = (penalty / (passed + penalty)).square()
    rings = []
    for middle in _RINGS:
        ring = ((radius - middle).abs() < _HALF_WIDTH) & (response > _KEPT)
        rings.append((power[ring] / response[ring]).mean() if int(ring.sum()) >= _CELLS else power.new_tensor(float("nan")))
    return torch.stack(rings)
