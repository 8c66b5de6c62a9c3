"""An estimated kernel with a confidence, and the evidence against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import hypot

import torch
from torch import Tensor

from unconv.errors import NonFinite, counted
from unconv.inverse.compression import compression
from unconv.inverse.noise import estimate_noise
from unconv.inverse.psf.evidence import Spectrum, misfit, spectrum_of
from unconv.inverse.solvers.blind.alternating import pair, turns
from unconv.inverse.solvers.blind.iterate import refuse_unfit
from unconv.kinds import checks_kinds

_PRICES = (4e-3, 2e-3)  # of an edge, for the two estimates
_WIDEST = 512  # side of the largest window that a kernel is estimated from
_TRUSTED = 0.75  # least confidence
_POINT, _STEEP = 0.9, 0.05  # share of the sum in one tap: a point; share of the range: the slope of an edge
_BORDER, _FULL_BORDER = 0.04, 0.8  # share of the sum at the border: gets a note; mean at the border over the mean: cut off
# Limits beyond which an estimate is not trusted; benchmarks/blind.py --mixed measures their effect.
_LIKE = 0.7  # least likeness of the two estimates
_DIFFERENT = 3.0  # (1 - likeness) times the ratio of the picture's deviation to that of its noise
_UNEXPLAINED = 0.25  # nats for each frequency of the picture's spectrum
_LEAST_NOISE = 1e-3  # of the range


@dataclass(frozen=True)
class EstimatedKernel:
    """An estimated kernel, and how far it can be trusted.

    Attributes:
        kernel: (*size), not negative, sums to 1, its centroid at size // 2.
        confidence: from 0 to 1; below 0.75 do not trust the kernel. For example, each tap needs a sample on an edge.
        notes: the evidence against the kernel and what may help, and how it was estimated.
        trusted: there is no evidence against it.
    """

    kernel: Tensor
    confidence: float
    notes: tuple[str, ...]
    trusted: bool


@torch.no_grad()
@checks_kinds
def estimate_and_judge(observed: Tensor, size: int | Sequence[int]) -> EstimatedKernel:
    """Return the kernel that blurred a picture, estimated twice, with a confidence from how well the two estimates agree.

    The second estimate starts from other taps and selects other edges. The two agree if the picture determines the kernel,
    and differ if chance does. The less noise there is, the closer they must agree, because pictures restored with
    either differ by more than the noise. The kernel must also explain the picture's spectrum, and the picture must have
    enough samples on edges. The returned kernel is the one that explains the spectrum better. A large picture is
    replaced by its window with the most edges.

    Args:
        observed: (*lead, H, W), real, of any range; NaN at missing samples.
        size: the kernel's (height, width), or one number for both; somewhat larger than the blur.

    Raises:
        ShapeError, DtypeError: as `estimate_kernel`.
        NonFinite: there are infinite samples, or no finite one.
    """
    sizes = pair(size)
    refuse_unfit("blind", observed, sizes, 2, shortest=3)
    grey = observed.flatten(0, -3).mean(0) if observed.ndim > 2 else observed
    grey = torch.where(grey.isnan(), grey.nanmean(), grey)
    if not bool(grey.isfinite().all()):
        raise NonFinite(
            "blind: the picture has infinite samples, or no finite one, but finite ones were needed. Put NaN at missing ones."
        )
    grey, notes = _with_most_edges(grey, max(_WIDEST, 8 * max(sizes)))
    *_, (_, sharp, first) = turns(grey, sizes, edge=_PRICES[0])
    # The transposed picture makes the second estimate start from vertical neighbours: `two_taps` is horizontal.
    *_, (_, _, second) = turns(grey.T.contiguous(), (sizes[1], sizes[0]), edge=_PRICES[1])
    noise = estimate_noise(grey)
    spectrum = spectrum_of(grey, noise) if min(grey.shape) >= 48 else None
    kernel = _better(first, second.T, spectrum)
    slopes = torch.stack([sharp.diff(dim=1)[:-1], sharp.diff(dim=0)[:, :-1]])
    edges = int((slopes.abs().amax(0) > _STEEP).sum()) if spectrum is not None else 0
    jpeg_error = _jpeg_error(observed)
    noise_floor = max(hypot(noise, jpeg_error), _LEAST_NOISE * float(grey.max() - grey.min()))
    signal_to_noise = float(grey.std()) / noise_floor if noise_floor > 0 else 0.0
    unexplained = 0.0 if spectrum is None else misfit(_with_noise(spectrum, jpeg_error), kernel, soft=True)
    confidence, objections = _confidence(kernel, _likeness(first, second.T), signal_to_noise, unexplained, edges)
    notes += [
        *objections,
        *(["blind: do not trust this kernel before you have looked at it and at the restored picture."] if objections else []),
        *_on_its_border(kernel),
    ]
    return EstimatedKernel(kernel, confidence, tuple(notes), not objections)


def _better(first: Tensor, second: Tensor, spectrum: Spectrum | None) -> Tensor:
    """Return the kernel that explains the spectrum better."""
    return first if spectrum is None or misfit(spectrum, first) <= misfit(spectrum, second) else second


def _jpeg_error(observed: Tensor) -> float:
    """Return the standard deviation of JPEG's error in samples from 0 to 255; 0 for other samples."""
    plain = observed.ndim == 2 or (observed.ndim == 3 and len(observed) == 3)
    if (
        not plain
        or not bool((observed == observed.round()).all())
        or not 0 <= float(observed.min()) <= float(observed.max()) <= 255
    ):
        return 0.0
    result = compression(observed)
    return result.error if result is not None else 0.0


def _with_noise(spectrum: Spectrum, deviation: float) -> Spectrum:
    """Return the spectrum with more white noise, so that frequencies which JPEG removed do not count as unexplained."""
    return replace(spectrum, power=spectrum.power + deviation**2, noise=hypot(spectrum.noise, deviation))


def _confidence(
    kernel: Tensor, likeness: float, signal_to_noise: float, unexplained: float, edges: int
) -> tuple[float, list[str]]:
    """Return the confidence, the least that any criterion allows, and a note for each criterion below `_TRUSTED`.

    Args:
        signal_to_noise: the picture's standard deviation over that of its noise.
        unexplained: nats for each frequency that the kernel leaves unexplained.
    """
    size, point = f"{kernel.shape[0]} x {kernel.shape[1]}", float(kernel.max()) > _POINT
    reasons = [
        (
            _TRUSTED * edges / kernel.numel(),
            f"blind: {counted(edges, 'sample')} on edges came for a kernel of {size}, but {kernel.numel():,} or more were "
            "needed. Pass a larger picture or a smaller size.",
        ),
        (
            0.0 if point else 1.0,
            "blind: no blur was found; the kernel is a point, which leaves the picture as it is.",
        ),
        (
            1.0 if point or _border(kernel) <= _FULL_BORDER else 0.5,
            f"blind: the kernel of {size} is cut off at its border. Pass a larger size.",
        ),
        (
            min(_TRUSTED * likeness / _LIKE, _TRUSTED ** (signal_to_noise * (1 - likeness) / _DIFFERENT)),
            f"blind: a second estimate, from another start, gave a different kernel (their likeness is {likeness:.2f}, but "
            f"{max(_LIKE, 1 - _DIFFERENT / max(signal_to_noise, 1e-6)):.2f} was needed for this picture and its noise).",
        ),
        (
            _TRUSTED ** (max(unexplained, 0.0) / _UNEXPLAINED),
            f"blind: this kernel does not explain the picture's spectrum ({unexplained:.2f} nats for each frequency; up to "
            f"{_UNEXPLAINED} is usual).",
        ),
    ]
    # Any criterion alone can make the kernel untrusted, so the least one counts.
    confidence = max(0.0, min(1.0, *(allowed for allowed, _ in reasons)))
    return confidence, [words for allowed, words in reasons if allowed < _TRUSTED]


def _border(kernel: Tensor) -> float:
    """Return the mean tap at the border over the mean of all taps."""
    inside = kernel[1:-1, 1:-1]
    return float(kernel.sum() - inside.sum()) * kernel.numel() / (kernel.numel() - inside.numel())


def _on_its_border(kernel: Tensor) -> list[str]:
    share = float(kernel.sum() - kernel[1:-1, 1:-1].sum())
    if share <= _BORDER or float(kernel.max()) > _POINT:
        return []
    size = f"{kernel.shape[0]} x {kernel.shape[1]}"
    return [f"blind: the kernel of {size} reaches its border. If it looks cut off there, pass a larger size."]


def _with_most_edges(grey: Tensor, side: int) -> tuple[Tensor, list[str]]:
    """Return the window of `side` with the steepest slopes of a larger picture, and a note that says so."""
    if max(grey.shape) <= side:
        return grey, []
    height, width = (min(n, side) for n in grey.shape)
    tops, lefts = (range(0, n - side + 1, max(1, side // 2)) if n > side else range(1) for n in grey.shape)
    coarse = torch.nn.functional.avg_pool2d(grey[None, None], 2)[0, 0]  # so that noise counts less than edges
    steep = coarse.diff(dim=0)[:, :-1].square() + coarse.diff(dim=1)[:-1].square()

    def steepness(corner: tuple[int, int]) -> float:
        y, x = corner[0] // 2, corner[1] // 2
        return float(steep[y : y + height // 2, x : x + width // 2].sum())

    y, x = max(((top, left) for top in tops for left in lefts), key=steepness)
    note = f"blind: the kernel was estimated from {height} x {width} samples from ({y}, {x}), the window with the most edges."
    return grey[y : y + height, x : x + width].contiguous(), [note]


def _likeness(a: Tensor, b: Tensor) -> float:
    """Return the greatest correlation of two kernels over all shifts."""
    grid = [n + m for n, m in zip(a.shape, b.shape, strict=True)]
    crossed = torch.fft.irfft2(torch.fft.rfft2(a, grid).conj() * torch.fft.rfft2(b, grid), grid)
    return float(crossed.max() / (a.norm() * b.norm()))
