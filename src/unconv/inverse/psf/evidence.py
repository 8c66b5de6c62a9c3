"""How well a PSF explains what was observed, whatever the picture: the likelihood of the spectrum under a power law.

Natural pictures have a power spectrum close to c / frequency**a. Through a blur it is multiplied by |H|**2, which has its
own shape, mostly with zeros, and noise fills it up. c, a and the noise are fitted; what is left over tells of the PSF.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

_SIDE, _FEWEST = 256, 48  # samples of a window, most and least
_WINDOWS = 2  # of them along each axis, at most
_LOWEST = 0.06  # cycles per sample: below, there are few places, and the picture's own composition
_SOFTNESS = (-100.0, 100.0)  # 4 pi**2 s**2 of a Gaussian of deviation s, at most some 1.6 samples
_FITTED = 8  # steps of Fisher's scoring
_STEEPNESS = (1.2, 3.4)  # of spectra of photographs, about 2
_ANY_STEEPNESS = (0.0, 3.4)  # less for texture, 0 for points of light


@dataclass(frozen=True)
class Spectrum:
    """The power spectrum of a picture at the frequencies that are compared.

    Attributes:
        power: mean over the windows; noise of deviation s adds s**2.
        frequency: in cycles per sample, of each of them.
        kept: (side, side // 2 + 1), where on the grid of a real FFT they stand.
        noise: deviation to begin with.
        scatter: the deviance that chance alone leaves, for so many windows.
    """

    power: Tensor
    frequency: Tensor
    kept: Tensor
    noise: float
    scatter: float

    @property
    def side(self) -> int:
        return self.kept.shape[0]


def spectrum_of(samples: Tensor, noise: float) -> Spectrum | None:
    """Take the spectrum of the middle of a grey picture (H, W); None where it is too small, flat, or has gaps."""
    side = min(_SIDE, *samples.shape)
    counts = [max(1, min(_WINDOWS, n // side)) for n in samples.shape]
    starts = [(n - side * count) // 2 for n, count in zip(samples.shape, counts, strict=True)]
    places = [samples[starts[0] + side * i :, starts[1] + side * j :] for i in range(counts[0]) for j in range(counts[1])]
    squares = torch.stack([place[:side, :side] for place in places]).double()
    if side < _FEWEST or not bool(squares.isfinite().all()):
        return None
    taper = torch.hann_window(side, dtype=torch.double, device=samples.device)
    taper = taper[:, None] * taper
    level = (squares * taper).sum((1, 2), keepdim=True) / taper.sum()
    power = (torch.fft.rfft2((squares - level) * taper).abs().square() / taper.square().sum()).mean(0)
    down = torch.fft.fftfreq(side, dtype=torch.double, device=samples.device)[:, None]
    across = torch.fft.rfftfreq(side, dtype=torch.double, device=samples.device)
    frequency = (down**2 + across**2).sqrt()
    kept = frequency > _LOWEST
    if not float(power[kept].min()) > 0:
        return None
    scatter = 1 + math.log(len(squares)) - float(torch.digamma(torch.tensor(float(len(squares)), dtype=torch.double)))
    return Spectrum(power[kept], frequency[kept], kept, noise, scatter)


def misfit(spectrum: Spectrum, kernel: Tensor, soft: bool = False) -> float:
    """The deviance of the spectrum under the kernel, in nats for each frequency: near zero where all is as assumed.

    Args:
        soft: the picture may be of any kind, and softer, or harsher, than a power law by a Gaussian; only what a Gaussian
            cannot explain, such as zeros, then tells kernels apart.

    Source:
        Whittle, "Curve and periodogram smoothing" (1957): the likelihood. Its maximum is found by Fisher's scoring.
    """
    power, side = spectrum.power, spectrum.side
    passed = torch.fft.rfft2(_fitted_into(kernel.to(power), side), (side, side)).abs().square()[spectrum.kept]
    noise = max(spectrum.noise**2, 1e-6 * float(power.mean()))
    signal = max(float(power.mean()) - noise, 1e-3 * float(power.mean()))
    lowest, steep = math.log(noise) - 1.5, 2.0
    level = math.log(signal / float((passed * spectrum.frequency**-steep).mean()))
    # What is fitted: the noise, the level of the picture's spectrum, its steepness, and its softness.
    shapes = torch.stack([torch.ones_like(power), -spectrum.frequency.log(), -spectrum.frequency.square()])
    count, bounds = (
        (4 if soft else 3),
        torch.tensor([[lowest, lowest + 3], [-1e3, 1e3], _ANY_STEEPNESS if soft else _STEEPNESS, _SOFTNESS]).to(power),
    )
    found, best = torch.tensor([lowest + 1.5, level, steep, 0.0]).to(power), math.inf
    for _ in range(_FITTED):
        part = passed * (found[1:] @ shapes).exp()
        model = part + found[0].exp()
        ratio = power / model
        best = min(best, float((ratio - ratio.log()).mean()))
        share = part / model
        ways = torch.cat([(1 - share)[None], share * shapes])[:count]
        step = torch.linalg.lstsq(ways @ ways.T, (ways @ (ratio - 1))[:, None]).solution[:, 0]
        most = torch.tensor([1.0, 1.0, 1.0, 30.0]).to(power)[:count]
        found[:count] += torch.minimum(torch.maximum(step, -most), most)
        found = torch.minimum(torch.maximum(found, bounds[:, 0]), bounds[:, 1])
    return best - spectrum.scatter


def moved(kernel: Tensor, scale: float = 1.0, turn: float = 0.0) -> Tensor:
    """The kernel `scale` times as wide and turned by `turn` degrees, counter-clockwise as seen, about its centroid."""
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
    made = F.grid_sample(kernel[None, None], grid, mode="bilinear", align_corners=False)[0, 0].clamp(min=0)
    return made / made.sum()


def _fitted_into(kernel: Tensor, side: int) -> Tensor:
    """Cut a kernel longer than `side` to its middle."""
    cut = [slice(max(0, (n - side) // 2), max(0, (n - side) // 2) + side) for n in kernel.shape]
    return kernel[cut[0], cut[1]]
