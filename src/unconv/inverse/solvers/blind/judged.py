"""An estimated kernel with what speaks for and against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import hypot

import torch
from torch import Tensor

from unconv.errors import NonFinite
from unconv.inverse.compression import compression
from unconv.inverse.noise import estimate_noise
from unconv.inverse.psf.evidence import Spectrum, misfit, spectrum_of
from unconv.inverse.solvers.blind.alternating import pair, turns
from unconv.inverse.solvers.blind.iterate import refuse_unfit
from unconv.kinds import checks_kinds

_PRICES = (4e-3, 2e-3)  # of an edge, for the two estimates
_WIDEST = 512  # samples a side that a kernel is estimated from
_TRUSTED = 0.75  # least confidence
_POINT, _STEEP = 0.9, 0.05  # parts of the sum: of one tap; of the range: the slope of an edge
_BORDER, _FULL_BORDER = 0.04, 0.8  # parts of the sum at the border: worth a word; of a kernel as strong there as within
# Where an estimate is no longer to be trusted: benchmarks/blind.py --mixed tells what these bring.
_LIKE = 0.7  # least likeness of the two estimates
_DIFFERENT = 3.0  # what their likeness lacks of 1, times the ratio of the picture's deviation to its noise's
_UNEXPLAINED = 0.25  # nats for each frequency of the picture's spectrum
_LEAST_NOISE = 1e-3  # of the range


@dataclass(frozen=True)
class EstimatedKernel:
    """An estimated kernel, and how far it is to be trusted.

    Attributes:
        kernel: (*size), not negative, sums to 1, its centroid at size // 2.
        confidence: from 0 to 1; below 0.75 it is not to be trusted. Each tap needs a sample on an edge, for one.
        notes: what speaks against it, and what may help; how it was found.
        trusted: nothing speaks against it.
    """

    kernel: Tensor
    confidence: float
    notes: tuple[str, ...]
    trusted: bool


@torch.no_grad()
@checks_kinds
def estimate_and_judge(observed: Tensor, size: int | Sequence[int]) -> EstimatedKernel:
    """Estimate the kernel that blurred a picture twice, keep the one that explains the picture better, and judge it.

    The second estimate begins with other taps and takes other edges for salient. The two agree where the picture tells
    the kernel, and differ where chance does; the less noise there is, the less they may, as what is restored with either
    then differs by more than noise. A kernel must also explain the picture's spectrum, and have edges enough that it was
    seen on. Of a large picture the part with most edges is used.

    Args:
        observed: (*lead, H, W), real, of any range; NaN where none was observed.
        size: the kernel's (height, width), or one number for both; somewhat larger than the blur.

    Raises:
        ShapeError, DtypeError: as `estimate_kernel`.
        NonFinite: no finite sample, or infinite ones.
    """
    sizes = pair(size)
    refuse_unfit("blind", observed, sizes, 2, shortest=3)
    grey = observed.flatten(0, -3).mean(0) if observed.ndim > 2 else observed
    grey = torch.where(grey.isnan(), grey.nanmean(), grey)
    if not bool(grey.isfinite().all()):
        raise NonFinite("blind: the picture has infinite samples, or none that was observed. Leave them out.")
    grey, notes = _with_most_edges(grey, max(_WIDEST, 8 * max(sizes)))
    *_, (_, sharp, first) = turns(grey, sizes, edge=_PRICES[0])
    *_, (_, _, second) = turns(grey.T.contiguous(), (sizes[1], sizes[0]), edge=_PRICES[1])
    noise = estimate_noise(grey)
    spectrum = spectrum_of(grey, noise) if min(grey.shape) >= 48 else None
    kernel = _better(first, second.T, spectrum)
    slopes = torch.stack([sharp.diff(dim=1)[:-1], sharp.diff(dim=0)[:, :-1]])
    edges = int((slopes.abs().amax(0) > _STEEP).sum()) if spectrum is not None else 0
    lost = _lost(observed)
    least = max(hypot(noise, lost), _LEAST_NOISE * float(grey.max() - grey.min()))
    clear = float(grey.std()) / least if least > 0 else 0.0
    left = 0.0 if spectrum is None else misfit(_with_noise(spectrum, lost), kernel, soft=True)
    confidence, against = _judged(kernel, _likeness(first, second.T), clear, left, edges)
    notes += [
        *against,
        *(["blind: do not trust this kernel without a look at it, and at what it restores."] if against else []),
        *_on_its_border(kernel),
    ]
    return EstimatedKernel(kernel, confidence, tuple(notes), not against)


def _better(first: Tensor, second: Tensor, spectrum: Spectrum | None) -> Tensor:
    """Choose the kernel that explains the spectrum better."""
    return first if spectrum is None or misfit(spectrum, first) <= misfit(spectrum, second) else second


def _lost(observed: Tensor) -> float:
    """The standard deviation of what JPEG did to samples of 0 to 255; 0 for others."""
    plain = observed.ndim == 2 or (observed.ndim == 3 and len(observed) == 3)
    if (
        not plain
        or not bool((observed == observed.round()).all())
        or not 0 <= float(observed.min()) <= float(observed.max()) <= 255
    ):
        return 0.0
    found = compression(observed)
    return found.error if found is not None else 0.0


def _with_noise(spectrum: Spectrum, deviation: float) -> Spectrum:
    """The spectrum as if the picture had so much more white noise, which hides what JPEG took."""
    return replace(spectrum, power=spectrum.power + deviation**2, noise=hypot(spectrum.noise, deviation))


def _judged(kernel: Tensor, likeness: float, clear: float, left: float, edges: int) -> tuple[float, list[str]]:
    """Return the confidence, the least of what each reason allows, and in words what lies below the least trusted one.

    Args:
        clear: the picture's standard deviation over that of its noise.
        left: nats for each frequency that the kernel leaves unexplained.
    """
    size, point = f"{kernel.shape[0]} x {kernel.shape[1]}", float(kernel.max()) > _POINT
    reasons = [
        (
            _TRUSTED * edges / kernel.numel(),
            f"blind: {edges} samples on edges are few for a kernel of {size}. Take a larger picture or a smaller size.",
        ),
        (
            0.0 if point else 1.0,
            "blind: no blur was found; the kernel is a point, and leaves the picture as it is.",
        ),
        (
            1.0 if point or _border(kernel) <= _FULL_BORDER else 0.5,
            f"blind: the kernel of {size} is cut off at its border.",
        ),
        (
            min(_TRUSTED * likeness / _LIKE, _TRUSTED ** (clear * (1 - likeness) / _DIFFERENT)),
            f"blind: a second estimate, begun in another way, came to another kernel (their likeness is {likeness:.2f}; "
            f"{max(_LIKE, 1 - _DIFFERENT / max(clear, 1e-6)):.2f} was needed for this picture and its noise).",
        ),
        (
            _TRUSTED ** (max(left, 0.0) / _UNEXPLAINED),
            f"blind: the picture's spectrum is not what this kernel makes ({left:.2f} nats for each frequency apart; up to "
            f"{_UNEXPLAINED} is usual).",
        ),
    ]
    confidence = max(0.0, min(1.0, *(allowed for allowed, _ in reasons)))
    return confidence, [words for allowed, words in reasons if allowed < _TRUSTED]


def _border(kernel: Tensor) -> float:
    """How strong the kernel is at its border, on average, over how strong it is everywhere."""
    inside = kernel[1:-1, 1:-1]
    return float(kernel.sum() - inside.sum()) * kernel.numel() / (kernel.numel() - inside.numel())


def _on_its_border(kernel: Tensor) -> list[str]:
    share = float(kernel.sum() - kernel[1:-1, 1:-1].sum())
    if share <= _BORDER or float(kernel.max()) > _POINT:
        return []
    size = f"{kernel.shape[0]} x {kernel.shape[1]}"
    return [f"blind: the kernel of {size} reaches its border. If it looks cut off there, take a larger size."]


def _with_most_edges(grey: Tensor, side: int) -> tuple[Tensor, list[str]]:
    """Cut a picture to the window of `side` with the steepest slopes, if it is larger."""
    if max(grey.shape) <= side:
        return grey, []
    height, width = (min(n, side) for n in grey.shape)
    tops, lefts = (range(0, n - side + 1, max(1, side // 2)) if n > side else range(1) for n in grey.shape)
    coarse = torch.nn.functional.avg_pool2d(grey[None, None], 2)[0, 0]  # less noise
    steep = coarse.diff(dim=0)[:, :-1].square() + coarse.diff(dim=1)[:-1].square()

    def steepness(place: tuple[int, int]) -> float:
        y, x = place[0] // 2, place[1] // 2
        return float(steep[y : y + height // 2, x : x + width // 2].sum())

    y, x = max(((top, left) for top in tops for left in lefts), key=steepness)
    note = f"blind: the kernel was estimated from {height} x {width} samples from ({y}, {x}), where most edges are."
    return grey[y : y + height, x : x + width].contiguous(), [note]


def _likeness(a: Tensor, b: Tensor) -> float:
    """The greatest correlation of two kernels over all shifts."""
    grid = [n + m for n, m in zip(a.shape, b.shape, strict=True)]
    crossed = torch.fft.irfft2(torch.fft.rfft2(a, grid).conj() * torch.fft.rfft2(b, grid), grid)
    return float(crossed.max() / (a.norm() * b.norm()))
