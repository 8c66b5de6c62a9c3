"""Measure how well a PSF explains an observed picture, by the Whittle likelihood of its spectrum under a power law.

Natural pictures have a power spectrum close to c / frequency**a. A blur multiplies it by |H|**2, which has its own shape,
usually with zeros, and noise adds a floor. c, a and the noise are fitted; the remaining misfit is evidence on the PSF.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

_SIDE, _FEWEST = 256, 48  # samples along a side of a window, at most and at least
_WINDOWS = 2  # windows along each axis, at most
_LOWEST = 0.06  # cycles per sample; lower frequencies are few, and show the composition of the picture
_SOFTNESS = (-100.0, 100.0)  # bounds for 4 pi**2 s**2, with s the deviation of a Gaussian, at most some 1.6 samples
_STEPS = 8  # of Fisher scoring
_STEEPNESS = (1.2, 3.4)  # bounds for the exponent a; photographs have about 2
_ANY_STEEPNESS = (0.0, 3.4)  # texture has less, points of light 0


@dataclass(frozen=True)
class Spectrum:
    """The power spectrum of a picture at the frequencies that are compared.

    Attributes:
        power: the mean over the windows; noise of standard deviation s adds s**2.
        frequency: in cycles per sample, for each value of `power`.
        mask: (side, side // 2 + 1), selects these frequencies on the grid of a real FFT.
        noise: standard deviation from which the fit starts.
        scatter: the deviance that chance alone leaves, for the number of windows.
    """

    power: Tensor
    frequency: Tensor
    mask: Tensor
    noise: float
    scatter: float

    @property
    def side(self) -> int:
        return self.mask.shape[0]


def spectrum_of(samples: Tensor, noise: float) -> Spectrum | None:
    """Return the spectrum of the middle of a grey picture (H, W); None if it is too small, flat, or has missing samples."""
    side = min(_SIDE, *samples.shape)
    counts = [max(1, min(_WINDOWS, n // side)) for n in samples.shape]
    starts = [(n - side * count) // 2 for n, count in zip(samples.shape, counts, strict=True)]
    corners = [samples[starts[0] + side * i :, starts[1] + side * j :] for i in range(counts[0]) for j in range(counts[1])]
    squares = torch.stack([corner[:side, :side] for corner in corners]).double()
    if side < _FEWEST or not bool(squares.isfinite().all()):
        return None
    taper = torch.hann_window(side, dtype=torch.double, device=samples.device)
    taper = taper[:, None] * taper
    level = (squares * taper).sum((1, 2), keepdim=True) / taper.sum()
    power = (torch.fft.rfft2((squares - level) * taper).abs().square() / taper.square().sum()).mean(0)
    down = torch.fft.fftfreq(side, dtype=torch.double, device=samples.device)[:, None]
    across = torch.fft.rfftfreq(side, dtype=torch.double, device=samples.device)
    frequency = (down**2 + across**2).sqrt()
    mask = frequency > _LOWEST
    if not float(power[mask].min()) > 0:
        return None
    # The mean of n periodograms over its expectation is Gamma with shape n, whose mean deviance this is.
    scatter = 1 + math.log(len(squares)) - float(torch.digamma(torch.tensor(float(len(squares)), dtype=torch.double)))
    return Spectrum(power[mask], frequency[mask], mask, noise, scatter)


def misfit(spectrum: Spectrum, kernel: Tensor, soft: bool = False) -> float:
    """Return Whittle's deviance of the spectrum under the kernel, in nats for each frequency; near zero if the kernel fits.

    Args:
        soft: allow any kind of picture, and one that is softer or harsher than a power law by a Gaussian factor. Only features
            that a Gaussian cannot explain, such as zeros, then distinguish kernels.

    Source:
        Whittle, "Curve and periodogram smoothing" (1957): the likelihood. Fisher scoring maximises it.
    """
    power, side = spectrum.power, spectrum.side
    passed = torch.fft.rfft2(_fitted_into(kernel.to(power), side), (side, side)).abs().square()[spectrum.mask]
    noise = max(spectrum.noise**2, 1e-6 * float(power.mean()))
    signal = max(float(power.mean()) - noise, 1e-3 * float(power.mean()))
    lowest, steep = math.log(noise) - 1.5, 2.0
    level = math.log(signal / float((passed * spectrum.frequency**-steep).mean()))
    # Four parameters: the logarithms of the noise and of the level of the picture's spectrum, its steepness, its softness.
    shapes = torch.stack([torch.ones_like(power), -spectrum.frequency.log(), -spectrum.frequency.square()])
    count, bounds = (
        (4 if soft else 3),
        torch.tensor([[lowest, lowest + 3], [-1e3, 1e3], _ANY_STEEPNESS if soft else _STEEPNESS, _SOFTNESS]).to(power),
    )
    parameters, best = torch.tensor([lowest + 1.5, level, steep, 0.0]).to(power), math.inf
    for _ in range(_STEPS):
        part = passed * (parameters[1:] @ shapes).exp()
        model = part + parameters[0].exp()
        ratio = power / model
        best = min(best, float((ratio - ratio.log()).mean()))
        share = part / model
        slopes = torch.cat([(1 - share)[None], share * shapes])[:count]  # of the logarithm of the model, by each parameter
        step = torch.linalg.lstsq(slopes @ slopes.T, (slopes @ (ratio - 1))[:, None]).solution[:, 0]
        most = torch.tensor([1.0, 1.0, 1.0, 30.0]).to(power)[:count]
        parameters[:count] += torch.minimum(torch.maximum(step, -most), most)
        parameters = torch.minimum(torch.maximum(parameters, bounds[:, 0]), bounds[:, 1])
    return best - spectrum.scatter


def moved(kernel: Tensor, scale: float = 1.0, turn: float = 0.0) -> Tensor:
    """Return the kernel scaled and rotated about its centroid, by `turn` degrees counter-clockwise as you see it."""
    height, width = kernel.shape
    rows, columns = torch.arange(height).to(kernel), torch.arange(width).to(kernel)
    total = kernel.sum()
    middle = [float((kernel.sum(1) * rows).sum() / total), float((kernel.sum(0) * columns).sum() / total)]
    reach = math.hypot(height, width) if turn else max(height, width)
    half = math.ceil(max(scale, 1) * reach / 2)
    along = torch.arange(-half, half + 1).to(kernel) / scale
    cosine, sine = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    y = cosine * along[:, None] + sine * along + middle[0]
    x = cosine * along - sine * along[:, None] + middle[1]
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)[None]
    resampled = F.grid_sample(kernel[None, None], grid, mode="bilinear", align_corners=False)[0, 0].clamp(min=0)
    return resampled / resampled.sum()


def _fitted_into(kernel: Tensor, side: int) -> Tensor:
    """Crop a kernel longer than `side` to its middle."""
    middle = [slice(max(0, (n - side) // 2), max(0, (n - side) // 2) + side) for n in kernel.shape]
    return kernel[middle[0], middle[1]]
