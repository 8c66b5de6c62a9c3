"""Least-squares filters: the spiking filter of a wavelet, and the predictive filter that removes repetitions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import DtypeError, ShapeError, counted
from unconv.inverse.operators.fourier import fast_length
from unconv.inverse.operators.operator import fits
from unconv.inverse.solvers.toeplitz import levinson
from unconv.kinds import checks_kinds


@dataclass(frozen=True)
class SpikingFilter:
    """A filter that turns a wavelet into a spike.

    Attributes:
        filter: (..., length).
        lag: (...), the sample of the output at which the spike is.
        error: (...), the energy of the difference from a spike of height 1: 0 if the spike is perfect, 1 if the output is zero.
        errors: (..., lags), the error at every lag tried.
    """

    filter: Tensor
    lag: Tensor
    error: Tensor
    errors: Tensor


@checks_kinds
def spiking_filter(wavelet: Tensor, length: int, lag: int | None = None, prewhitening: float = 0.0) -> SpikingFilter:
    """Return the spiking filter: the least-squares filter of `length` samples that turns a wavelet into a spike.

    Args:
        wavelet: (..., k), real.
        lag: the output sample at which the spike is wanted. None: try all lags 0 to length + k - 2 and take the best. For a
            wavelet of minimum phase that is 0; for others some delay leaves far less error.
        prewhitening: the share of the wavelet's energy to add at lag 0, as noise that the filter should not amplify.

    Raises:
        ShapeError: the length is below 1, or the lag outside its range; the wavelet is zero; the system is singular.
        DtypeError, NonFinite: the samples are integers or complex; or are NaN or infinite.

    Source:
        Robinson & Treitel, "Geophysical Signal Analysis" (1980); Treitel & Robinson, "The design of
        high-resolution digital filters" (1966), for the best lag.
    """
    lags = _admitted("spiking_filter", wavelet, length=length) + length - 1
    if lag is not None and not 0 <= lag < lags:
        raise ShapeError(f"spiking_filter: lag is {lag}, but 0 to {lags - 1} was needed. Pass None to choose the best.")
    r = autocorrelate(wavelet, length)
    # For a spike at lag l, the right-hand side is its correlation with the wavelet: wavelet[l - i] at i = 0 ... length - 1. All
    # lags share the matrix, so one Levinson recursion solves for every one of them.
    windows = F.pad(wavelet.flip(-1), (length - 1, length - 1)).unfold(-1, length, 1).flip(-2)
    right = windows if lag is None else windows[..., lag : lag + 1, :]
    solutions = levinson(r[..., None, :], right, prewhitening).solution
    fitted = (right * solutions).sum(-1) + prewhitening * r[..., :1] * solutions.square().sum(-1)
    errors = (1 - fitted).clamp(0, 1)
    best = errors.argmin(-1, keepdim=True)
    filter = solutions.gather(-2, best[..., None].expand(*best.shape, length))[..., 0, :]
    return SpikingFilter(filter, best[..., 0] + (lag or 0), errors.gather(-1, best)[..., 0], errors)


@checks_kinds
def predictive_filter(autocorrelation: Tensor, gap: int, length: int, prewhitening: float = 0.0) -> Tensor:
    """Return the prediction-error filter (1, 0, ..., 0, -a), which removes what can be predicted `gap` samples ahead.

    It removes what repeats after the gap, such as multiples and reverberations, and keeps what is shorter than the gap. With a
    gap of 1 it is spiking deconvolution, up to a scale.

    Args:
        autocorrelation: (..., lags), real, from lag 0; at least gap + length lags.
        gap: samples ahead, 1 or more.
        length: the number of coefficients of the prediction a.
        prewhitening: the share of lag 0 to add to lag 0.

    Returns:
        (..., gap + length).

    Raises:
        ShapeError: the gap or the length is below 1; there are too few lags; lag 0 is zero; the system is singular.
        DtypeError, NonFinite: the samples are integers or complex; or are NaN or infinite.

    Source:
        Peacock & Treitel, "Predictive deconvolution: theory and practice" (1969); Backus, "Water
        reverberations" (1959), for what it removes exactly.
    """
    lags = _admitted("predictive_filter", autocorrelation, gap=gap, length=length)
    if lags < gap + length:
        raise ShapeError(
            f"predictive_filter: {counted(lags, 'lag')} of the autocorrelation came, but gap + length = {gap + length} were "
            "needed. Pass more lags, or a smaller length."
        )
    a = levinson(autocorrelation[..., :length], autocorrelation[..., gap : gap + length], prewhitening).solution
    return torch.cat([F.pad(torch.ones_like(a[..., :1]), (0, gap - 1)), -a], -1)


@checks_kinds
def apply_filter(traces: Tensor, filter: Tensor) -> Tensor:
    """Return traces (..., n) filtered causally by (..., k), with as many samples as before; leading axes broadcast."""
    fits("apply_filter", traces, ())
    fits("apply_filter: filter", filter, ())
    if traces.ndim < 1 or filter.ndim < 1 or not traces.shape[-1] or not filter.shape[-1]:
        raise ShapeError(
            f"apply_filter: traces {tuple(traces.shape)} and a filter {tuple(filter.shape)} came, but (..., n) and (..., k) "
            "with samples were needed. The last axis is time."
        )
    n = traces.shape[-1]
    grid = fast_length(n + filter.shape[-1] - 1)
    if traces.is_complex() or filter.is_complex():
        filtered: Tensor = torch.fft.ifft(torch.fft.fft(traces, grid) * torch.fft.fft(filter, grid))
    else:
        filtered = torch.fft.irfft(torch.fft.rfft(traces, grid) * torch.fft.rfft(filter, grid), grid)
    return filtered[..., :n]


def autocorrelate(samples: Tensor, lags: int) -> Tensor:
    """Return lags 0 to lags - 1 of the autocorrelation of real samples (..., n), a sum of products: (..., lags)."""
    grid = fast_length(samples.shape[-1] + min(lags, samples.shape[-1]))
    spectrum = torch.fft.rfft(samples, grid)
    lagged = torch.fft.irfft(spectrum.real.square() + spectrum.imag.square(), grid)[..., : min(lags, samples.shape[-1])]
    return F.pad(lagged, (0, max(0, lags - samples.shape[-1])))


def _admitted(where: str, samples: Tensor, **counts: int) -> int:
    """Return n, after checks that the samples (..., n) are real, and the counts at least 1."""
    fits(where, samples, ())
    if samples.is_complex():
        raise DtypeError(f"{where}: the samples are {samples.dtype}, but real ones were needed. Pass x.real.")
    if samples.ndim < 1 or samples.numel() == 0:
        raise ShapeError(f"{where}: got {tuple(samples.shape)}, but (..., n) with samples was needed. The last axis is time.")
    for name, count in counts.items():
        if count < 1:
            raise ShapeError(f"{where}: {name} is {count}, but 1 or more samples were needed. Pass a positive integer.")
    return samples.shape[-1]
