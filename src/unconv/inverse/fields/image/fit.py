"""Whether the PSF fits the picture that it is said to have blurred, and what would fit better."""

from __future__ import annotations

import torch
from torch import Tensor

from unconv.inverse.psf.evidence import misfit, moved, spectrum_of

_SCALES = (0.7, 0.8, 0.9, 1.1, 1.2, 1.3, 1.4)
_TURNS = (-24, -16, -8, 8, 16, 24)  # degrees
# Nats for each frequency by which another PSF has to explain the spectrum better; small pictures leave more to chance.
_GAIN, _GAIN_OF_A_SAMPLE = 0.04, 6.0
_DOUBTFUL = 0.5  # nats that even the best PSF leaves unexplained: the picture is not of the kind that is assumed
_GAUSSIAN = 0.98  # likeness of a PSF to the Gaussian of its spreads
_ROUND = 0.98  # likeness to itself, turned, of a PSF that need not be turned


@torch.no_grad()
def psf_hints(samples: Tensor, kernel: Tensor, noise: float) -> list[str]:
    """Say it if a PSF of another width, or turned, explains the picture clearly better; nothing where none does.

    It looks at the power spectrum of the middle, at most 512 samples a side, some 0.3 s. Of a PSF with zeros in its spectrum
    (out of focus, motion, shake) it often tells a wrong width, more often where the picture is large and the noise low. A
    Gaussian has none, and is not looked at. Where the PSF has its centre cannot be seen in a picture.

    Args:
        samples: (H, W) or (C, H, W); NaN where none was observed.
        kernel: of two axes.
        noise: standard deviation of a sample; more or less of it is allowed for.
    """
    grey = samples.mean(0) if samples.ndim > 2 else samples
    spectrum = spectrum_of(grey, noise / (len(samples) if samples.ndim > 2 else 1) ** 0.5)
    if kernel.ndim != 2 or spectrum is None or max(kernel.shape) > spectrum.side // 2:
        return []
    kernel = kernel.to(spectrum.power)
    if bool((kernel < 0).any()) or _is_gaussian(kernel):  # what is negative is no blur of light
        return []
    tried = {(scale, 0): misfit(spectrum, moved(kernel, scale), soft=True) for scale in _SCALES}
    turns = () if _is_round(kernel) else _TURNS
    tried |= {(1, turn): misfit(spectrum, moved(kernel, 1, turn), soft=True) for turn in turns}
    as_given = min(misfit(spectrum, given, soft=True) for given in (kernel, moved(kernel)))
    (scale, turn), least = min(tried.items(), key=lambda item: item[1])
    if as_given - least < _GAIN + _GAIN_OF_A_SAMPLE / spectrum.side or least > _DOUBTFUL:
        return []
    other = f"{scale} times as wide" if turn == 0 else f"turned by {abs(turn)} degrees {'counter-' * (turn > 0)}clockwise"
    return [f"deblur: a PSF {other} explains the picture better. If the result has rings or is still blurred, try that one."]


def _is_round(kernel: Tensor) -> bool:
    """Whether turning the kernel changes little but what interpolation does."""
    turned = [moved(kernel, 1, turn) for turn in (1e-9, 24, 45)]  # on the same grid
    return all(float((turned[0] * other).sum() / turned[0].norm() / other.norm()) > _ROUND for other in turned[1:])


def _is_gaussian(kernel: Tensor) -> bool:
    """Whether the kernel is much like a Gaussian, upright, of the same spread along each axis."""
    sides = []
    for along in (kernel.sum(1), kernel.sum(0)):
        places = torch.arange(len(along)).to(kernel)
        middle = (along * places).sum() / along.sum()
        spread = ((along * (places - middle) ** 2).sum() / along.sum()).clamp(min=1e-3)
        sides.append((-0.5 * (places - middle) ** 2 / spread).exp())
    other = sides[0][:, None] * sides[1]
    return float((kernel * other).sum() / kernel.norm() / other.norm()) > _GAUSSIAN
