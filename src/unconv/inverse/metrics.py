"""Measure how near an estimate is to the truth; nothing is clipped, shifted or scaled first."""

from __future__ import annotations

from math import inf, isnan, log10, nan

import torch
from torch import Tensor

from unconv.errors import DtypeError, ShapeError
from unconv.inverse.operators.convolution import Convolution
from unconv.kinds import checks_kinds


@checks_kinds
def psnr(truth: Tensor, estimate: Tensor, peak: float | None = None) -> float:
    """Return the peak signal-to-noise ratio, 10 log10(peak^2 / mean square error), in dB; infinite where all samples are equal.

    Args:
        peak: the largest value possible, such as 1 or 255; by default the truth's range, max - min.
    """
    _alike("psnr", truth, estimate)
    return _decibels(_peak(truth, peak) ** 2, _error(truth, estimate) / truth.numel())


@checks_kinds
def isnr(truth: Tensor, observed: Tensor, estimate: Tensor) -> float:
    """Return the dB gained over `observed`: 10 log10(|truth - observed|^2 / |truth - estimate|^2)."""
    _alike("isnr", truth, observed)
    _alike("isnr", truth, estimate)
    return _decibels(_error(truth, observed), _error(truth, estimate))


@checks_kinds
def ssim(truth: Tensor, estimate: Tensor, peak: float | None = None, axes: int = 2) -> float:
    """Return the mean structural similarity, at most 1, wherever a window of 11 samples (Gaussian, sigma 1.5) fits.

    Args:
        truth, estimate: (..., *n); the window lies along the last `axes` axes; the mean is taken over the others.
        peak: as in `psnr`.

    Source:
        Wang, Bovik, Sheikh & Simoncelli, "Image quality assessment: from error visibility to structural similarity"
        (2004), eq. 13, K1 = 0.01, K2 = 0.03; as `skimage.metrics.structural_similarity`, scikit-image 0.26,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False.
    """
    _alike("ssim", truth, estimate)
    if axes < 1 or truth.ndim < axes or min(truth.shape[-axes:]) < 11:
        raise ShapeError(f"ssim: pictures of {tuple(truth.shape)}, but 11 samples along the last {axes} axes were needed.")
    line = torch.exp(-torch.arange(-5.0, 6.0, dtype=torch.double).square() / (2 * 1.5**2))
    window = torch.ones((), dtype=torch.double)
    for _ in range(axes):
        window = window[..., None] * (line / line.sum())
    mean = Convolution(window, truth.shape[-axes:], "unknown").forward
    x, y, size = truth.double(), estimate.double(), _peak(truth, peak)
    c1, c2 = (0.01 * size) ** 2, (0.03 * size) ** 2
    mx, my = mean(x), mean(y)
    vx, vy, both = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    alike = (2 * mx * my + c1) * (2 * both + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return float(alike.mean())


def _peak(truth: Tensor, peak: float | None) -> float:
    return float(truth.max() - truth.min()) if peak is None else float(peak)


def _error(x: Tensor, y: Tensor) -> float:
    difference = x - y
    return float(difference.abs().double().square().sum())


def _decibels(above: float, below: float) -> float:
    if isnan(above) or isnan(below):
        return nan
    if below == 0:
        return inf
    return 10 * (log10(above) - log10(below)) if 0 < above < inf and below < inf else inf if below < inf and above > 0 else -inf


def _alike(where: str, truth: Tensor, other: Tensor) -> None:
    for x in (truth, other):
        if x.dtype is torch.bool or x.is_complex():
            raise DtypeError(f"{where}: a picture is {x.dtype}, but real numbers were needed. Pass x.float().")
    if truth.shape != other.shape or truth.numel() == 0:
        raise ShapeError(
            f"{where}: the truth is {tuple(truth.shape)} and the other {tuple(other.shape)}, but one shape was needed. "
            "Crop both to what they share."
        )
