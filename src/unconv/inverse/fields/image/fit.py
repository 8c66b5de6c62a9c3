"""Test whether the PSF fits the blurred picture, and suggest one that fits better."""

from __future__ import annotations

import torch
from torch import Tensor

from unconv.inverse.psf.evidence import misfit, moved, spectrum_of

_SCALES = (0.7, 0.8, 0.9, 1.1, 1.2, 1.3, 1.4)
_TURNS = (-24, -16, -8, 8, 16, 24)  # degrees
# Nats for each frequency by which another PSF must explain the spectrum better: a constant, and a term over the side of the
# window, because small pictures leave more to chance.
_GAIN, _GAIN_OF_A_SAMPLE = 0.04, 6.0
_DOUBTFUL = 0.5  # if even the best PSF leaves so many nats unexplained, the picture does not follow the model
_GAUSSIAN = 0.98  # correlation of a Gaussian PSF with the Gaussian of its spreads
_ROUND = 0.98  # correlation of a round PSF with itself, rotated


@torch.no_grad()
def psf_hints(samples: Tensor, kernel: Tensor, noise: float) -> list[str]:
    """Return a hint if the PSF, scaled or rotated, explains the picture clearly better; otherwise nothing.

    It compares the power spectrum of the middle, at most 512 samples a side, in some 0.3 s. If the PSF has zeros in its
    spectrum (out of focus, motion, shake), a wrong width is often found, more often in a large picture with little noise. A
    Gaussian has no zeros, and is not tested. The centre of the PSF leaves no trace in the spectrum.

    Args:
        samples: (H, W) or (C, H, W); NaN where a sample is missing.
        kernel: of two axes.
        noise: standard deviation of a sample, from which the fit starts.
    """
    grey = samples.mean(0) if samples.ndim > 2 else samples
    spectrum = spectrum_of(grey, noise / (len(samples) if samples.ndim > 2 else 1) ** 0.5)
    if kernel.ndim != 2 or spectrum is None or max(kernel.shape) > spectrum.side // 2:
        return []
    kernel = kernel.to(spectrum.power)
    if bool((kernel < 0).any()) or _is_gaussian(kernel):  # a blur of light has no negative samples
        return []
    tried = {(scale, 0): misfit(spectrum, moved(kernel, scale), soft=True) for scale in _SCALES}
    turns = () if _is_round(kernel) else _TURNS
    tried |= {(1, turn): misfit(spectrum, moved(kernel, 1, turn), soft=True) for turn in turns}
    # Interpolation smooths, so the kernel itself is also compared after interpolation, by `moved` with its defaults.
    unchanged = min(misfit(spectrum, each, soft=True) for each in (kernel, moved(kernel)))
    (scale, turn), least = min(tried.items(), key=lambda item: item[1])
    if unchanged - least < _GAIN + _GAIN_OF_A_SAMPLE / spectrum.side or least > _DOUBTFUL:
        return []
    change = f"{scale} times as wide" if turn == 0 else f"rotated by {abs(turn)} degrees {'counter-' * (turn > 0)}clockwise"
    return [f"deblur: a PSF {change} explains the picture better. If the result has rings or is still blurred, try that one."]


def _is_round(kernel: Tensor) -> bool:
    """Return whether rotating the kernel changes it by little more than interpolation does."""
    rotated = [moved(kernel, 1, turn) for turn in (1e-9, 24, 45)]  # on the same grid
    return all(float((rotated[0] * other).sum() / rotated[0].norm() / other.norm()) > _ROUND for other in rotated[1:])


def _is_gaussian(kernel: Tensor) -> bool:
    """Return whether the kernel is close to an upright Gaussian of the same spread along each axis."""
    sides = []
    for along in (kernel.sum(1), kernel.sum(0)):
        index = torch.arange(len(along)).to(kernel)
        centroid = (along * index).sum() / along.sum()
        variance = ((along * (index - centroid) ** 2).sum() / along.sum()).clamp(min=1e-3)
        sides.append((-0.5 * (index - centroid) ** 2 / variance).exp())
    other = sides[0][:, None] * sides[1]
    return float((kernel * other).sum() / kernel.norm() / other.norm()) > _GAUSSIAN
