"""How strong the noise of a picture is where its blur lets next to nothing through.

The finest detail tells white noise. Compression, a camera's smoothing, sharpening and resampling take the finest detail,
and leave errors that are coarser; undoing a blur amplifies those. Frequencies that the blur takes show them: whatever is
there is no part of the picture.
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

_LOOKED_AT = 192  # samples along each axis, from the middle
_FEWEST = 24  # samples along each axis, of less nothing is said
_STRENGTHS = (1e-2, 1e-3, 1e-4)  # of the fits, from what leaves most to what leaves least
_EXACT = 1e-3  # share of the first gradient at which a fit is done
_RINGS = torch.arange(0.06, 0.66, 0.04).tolist()  # cycles per sample
_WIDE = 0.035  # of a ring, to each side
_KEPT = 0.25  # least share of the power that a fit leaves in the residual, for a frequency to count
_CELLS = 12  # fewest frequencies of a ring


def unexplained(samples: Tensor, kernel: Tensor) -> tuple[float, float, float] | None:
    """Return the strongest noise, over rings of frequencies, as the standard deviation of white noise as strong.

    A fit explains all of a picture that came through the blur; the weaker its regularisation, the more. What it leaves
    at frequencies that the blur takes is noise, if it stays as the regularisation is weakened. What goes away with it
    was the picture: so each ring's power is taken down by as much as it fell from the fit before.

    Args:
        samples: (H, W) or (C, H, W); NaN where none was observed.
        kernel: (h, w), sums to 1.

    Returns:
        Three numbers. First what even the weakest fit leaves: certain, but less than there is where the blur takes few
        frequencies. Then with what a stronger fit leaves in rings where the weakest one leaves nothing. Last all that the
        stronger one leaves, which is more than there is where a picture runs in few directions, as text does. None where
        the picture is too small, or no ring of frequencies is taken by the blur.
    """
    part = _middle(samples, kernel)
    if min(part.shape[-2:]) < max(_FEWEST, *kernel.shape):
        return None
    unseen = part.isnan()
    part = torch.where(unseen, 0, part.float() - part.nanmean().float())
    if unseen.all() or not part.any():
        return None
    taper = _taper(part)
    passed, radius = _passed(kernel.to(part), taper), _radius(part)
    rows = [_rings(_left(part, unseen, kernel.to(part), each, taper), passed, radius, each) for each in _STRENGTHS]
    found = torch.stack(rows)
    stay = found[1:] * (found[1:] / found[:-1]).clamp(max=1)
    if stay.isnan().all():
        return None
    least = stay.amin(0)
    certain, likely, most = (_strongest(rings) for rings in (least, torch.where(stay[1].isnan(), stay[0], least), stay[0]))
    return certain, likely, most


def _strongest(rings: Tensor) -> float:
    known = rings[~rings.isnan()]
    return float(known.amax().sqrt()) if len(known) else 0.0


def _middle(samples: Tensor, kernel: Tensor) -> Tensor:
    """Cut out the middle, of a size that is quickly transformed."""
    size = []
    for n, k in zip(samples.shape[-2:], kernel.shape, strict=True):
        most = min(n, max(_LOOKED_AT, 4 * k))
        # The fit's grid is longer by the kernel; its FFT is quick at some lengths only.
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
    """The power that the blur passes, as a periodogram with this taper sees it: smoothed."""
    double = [2 * n for n in taper.shape]
    itself, window = (torch.fft.ifft2(torch.fft.fft2(a.double(), s=double).abs().square()).real for a in (kernel, taper))
    smooth = torch.fft.fft2(itself * window / window[0, 0]).real.clamp(min=0)
    passed: Tensor = smooth[::2, ::2].to(taper)
    return passed


def _left(part: Tensor, unseen: Tensor, kernel: Tensor, strength: float, taper: Tensor) -> Tensor:
    """The periodogram of what a fit leaves of the picture, the mean over its channels; white noise has its variance."""
    n = [a + k - 1 for a, k in zip(part.shape[-2:], kernel.shape, strict=True)]
    blur = Convolution(kernel, (*part.shape[:-2], *n), "unknown", method="fft")
    operator = Mask(~unseen) @ blur if bool(unseen.any()) else blur
    fit = last(tikhonov(operator, part, strength=strength, penalty="gradient", differences="circular", tolerance=_EXACT))
    residual = (part - operator.forward(fit.estimate)) * taper
    power: Tensor = torch.fft.fft2(residual).abs().square() / taper.square().sum()
    return power.reshape(-1, *taper.shape).mean(0)


def _rings(power: Tensor, passed: Tensor, radius: Tensor, strength: float) -> Tensor:
    """The mean power in each ring, where the fit leaves most; NaN where it leaves little."""
    rough = strength * (2 * pi * radius).square()
    kept = (rough / (passed + rough)).square()
    rings = []
    for middle in _RINGS:
        ring = ((radius - middle).abs() < _WIDE) & (kept > _KEPT)
        rings.append((power[ring] / kept[ring]).mean() if int(ring.sum()) >= _CELLS else power.new_tensor(float("nan")))
    return torch.stack(rings)
