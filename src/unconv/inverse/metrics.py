"""Measure how close an estimate is to the truth, without clipping, shifting or scaling either."""

from __future__ import annotations

from math import inf, isnan, log10, nan

import torch
from torch import Tensor

from unconv.errors import DtypeError, ShapeError
from unconv.inverse.operators.convolution import Convolution
from unconv.kinds import checks_kinds


@checks_kinds
def psnr(truth: Tensor, estimate: Tensor, peak: float | None = None) -> float:
    """Return the peak signal-to-noise ratio, 10 log10(peak^2 / mean square error), in dB; infinite if all samples are equal.

    Args:
        peak: the largest possible value, such as 1 or 255; by default the range of the truth, max - min.
    """
    _check("psnr", truth, estimate)
    return _decibels(_peak(truth, peak) ** 2, _error(truth, estimate) / truth.numel())


@checks_kinds
def isnr(truth: Tensor, observed: Tensor, estimate: Tensor) -> float:
    """Return the improvement in SNR over `observed`, 10 log10(|truth - observed|^2 / |truth - estimate|^2), in dB."""
    _check("isnr", truth, observed)
    _check("isnr", truth, estimate)
    return _decibels(_error(truth, observed), _error(truth, estimate))


@checks_kinds
def ssim(truth: Tensor, estimate: Tensor, peak: float | None = None, axes: int = 2) -> float:
    """Return the mean structural similarity (SSIM), at most 1, over all Gaussian windows of 11 samples, sigma 1.5.

    Args:
        truth, estimate: (..., *n); the window runs along the last `axes` axes, and the mean is taken over the others, too.
        peak: as in `psnr`.

    Source:
        Wang, Bovik, Sheikh & Simoncelli, "Image quality assessment: from error visibility to structural similarity"
        (2004), eq. 13, K1 = 0.01, K2 = 0.03; as `skimage.metrics.structural_similarity`, scikit-image 0.26,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False.
    """
    _check("ssim", truth, estimate)
    if axes < 1 or truth.ndim < axes or min(truth.shape[-axes:]) < 11:
        raise ShapeError(
            f"ssim: the pictures are {tuple(truth.shape)}, but at least 11 samples were needed along "
            f"{'the last axis' if axes == 1 else f'each of the last {axes} axes'}. Pass larger pictures, or fewer axes."
        )
    # Variances and covariance divide by the number of samples, as in the paper (use_sample_covariance=False). Only windows
    # that lie inside the picture count, which is what the boundary "unknown" leaves.
    line = torch.exp(-torch.arange(-5.0, 6.0, dtype=torch.double).square() / (2 * 1.5**2))
    window = torch.ones((), dtype=torch.double)
    for _ in range(axes):
        window = window[..., None] * (line / line.sum())
    mean = Convolution(window, truth.shape[-axes:], "unknown").forward
    x, y, range_ = truth.double(), estimate.double(), _peak(truth, peak)
    c1, c2 = (0.01 * range_) ** 2, (0.03 * range_) ** 2
    mx, my = mean(x), mean(y)
    vx, vy, both = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    similarity = (2 * mx * my + c1) * (2 * both + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return float(similarity.mean())


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


def _check(where: str, truth: Tensor, other: Tensor) -> None:
    for x in (truth, other):
        if x.dtype is torch.bool or x.is_complex():
            raise DtypeError(f"{where}: the picture is {x.dtype}, but real numbers were needed. Pass x.float().")
    if truth.shape != other.shape or truth.numel() == 0:
        raise ShapeError(
            f"{where}: the truth is {tuple(truth.shape)} and the other picture {tuple(other.shape)}, but the same shape "
            "was needed. Crop both to the part that they share."
        )
