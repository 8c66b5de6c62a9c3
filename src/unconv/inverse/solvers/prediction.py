"""Least-squares filters: one that makes a spike of a wavelet, and one that takes out what can be predicted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import DtypeError, ShapeError
from unconv.inverse.operators.fourier import fast_length
from unconv.inverse.operators.operator import fits
from unconv.inverse.solvers.toeplitz import levinson
from unconv.kinds import checks_kinds


@dataclass(frozen=True)
class SpikingFilter:
    """A filter that makes a spike of a wavelet.

    Attributes:
        filter: (..., length).
        lag: (...), the sample at which the spike comes out.
        error: (...), the energy of the difference from a spike of height 1: 0 if the spike is perfect, 1 if nothing comes out.
        errors: (..., lags), at every lag that was tried.
    """

    filter: Tensor
    lag: Tensor
    error: Tensor
    errors: Tensor


@checks_kinds
def spiking_filter(wavelet: Tensor, length: int, lag: int | None = None, prewhitening: float = 0.0) -> SpikingFilter:
    """Find the filter of `length` samples that turns a wavelet into a spike, by least squares.

    Args:
        wavelet: (..., k), real.
        lag: sample at which the spike is to come out. None: all lags 0 to length + k - 2 are tried and the best is taken; for
            a wavelet of minimum phase that is 0, for others some delay leaves far less error.
        prewhitening: share of the wavelet's energy that is added at lag 0: noise that the filter is not to raise.

    Raises:
        ShapeError: a length below 1, a lag outside; silence; a system that is singular.
        DtypeError, NonFinite: integers or complex samples; NaN or infinite ones.

    Source:
        Robinson & Treitel, "Geophysical Signal Analysis" (1980); Treitel & Robinson, "The design of
        high-resolution digital filters" (1966), for the best lag.
    """
    lags = _admitted("spiking_filter", wavelet, length=length) + length - 1
    if lag is not None and not 0 <= lag < lags:
        raise ShapeError(f"spiking_filter: lag is {lag}, but 0 to {lags - 1} was needed. Or pass None to have the best found.")
    r = autocorrelate(wavelet, length)
    # Wanted is a spike at lag l; the right side is its correlation with the wavelet, wavelet[l - i] at i = 0 ... length - 1.
    windows = F.pad(wavelet.flip(-1), (length - 1, length - 1)).unfold(-1, length, 1).flip(-2)
    right = windows if lag is None else windows[..., lag : lag + 1, :]
    solved = levinson(r[..., None, :], right, prewhitening).solution
    fitted = (right * solved).sum(-1) + prewhitening * r[..., :1] * solved.square().sum(-1)
    errors = (1 - fitted).clamp(0, 1)
    best = errors.argmin(-1, keepdim=True)
    chosen = solved.gather(-2, best[..., None].expand(*best.shape, length))[..., 0, :]
    return SpikingFilter(chosen, best[..., 0] + (lag or 0), errors.gather(-1, best)[..., 0], errors)


@checks_kinds
def predictive_filter(autocorrelation: Tensor, gap: int, length: int, prewhitening: float = 0.0) -> Tensor:
    """Return the filter (1, 0, ..., 0, -a) that takes from a trace what can be predicted `gap` samples ahead.

    What repeats after the gap, as multiples and reverberations do, is taken out; what is shorter than the gap stays. With a gap
    of 1 it is spiking deconvolution, up to a scale.

    Args:
        autocorrelation: (..., lags), real, from lag 0; at least gap + length lags.
        gap: samples ahead, 1 or more.
        length: coefficients of the prediction a.
        prewhitening: share of lag 0 that is added to it.

    Returns:
        (..., gap + length).

    Raises:
        ShapeError: a gap or a length below 1; too few lags; silence; a system that is singular.
        DtypeError, NonFinite: integers or complex samples; NaN or infinite ones.

    Source:
        Peacock & Treitel, "Predictive deconvolution: theory and practice" (1969); Backus, "Water
        reverberations" (1959), for what it removes exactly.
    """
    lags = _admitted("predictive_filter", autocorrelation, gap=gap, length=length)
    if lags < gap + length:
        raise ShapeError(
            f"predictive_filter: {lags} lags of the autocorrelation came, but gap + length = {gap + length} were needed. "
            "Pass more lags, or predict with a shorter filter."
        )
    a = levinson(autocorrelation[..., :length], autocorrelation[..., gap : gap + length], prewhitening).solution
    return torch.cat([F.pad(torch.ones_like(a[..., :1]), (0, gap - 1)), -a], -1)


@checks_kinds
def apply_filter(traces: Tensor, filter: Tensor) -> Tensor:
    """Return traces (..., n) filtered causally by (..., k), as many samples as came; axes in front are broadcast."""
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
    """Return lags 0 to lags - 1 of the autocorrelation, a sum of products: (..., lags) of the real (..., n)."""
    grid = fast_length(samples.shape[-1] + min(lags, samples.shape[-1]))
    spectrum = torch.fft.rfft(samples, grid)
    found = torch.fft.irfft(spectrum.real.square() + spectrum.imag.square(), grid)[..., : min(lags, samples.shape[-1])]
    return F.pad(found, (0, max(0, lags - samples.shape[-1])))


def _admitted(where: str, samples: Tensor, **counts: int) -> int:
    """Check (..., n) real samples and counts that are at least 1; return n."""
    fits(where, samples, ())
    if samples.is_complex():
        raise DtypeError(f"{where}: the samples are {samples.dtype}, but real ones were needed. Pass x.real.")
    if samples.ndim < 1 or samples.numel() == 0:
        raise ShapeError(f"{where}: got {tuple(samples.shape)}, but (..., n) with samples was needed. The last axis is time.")
    for name, count in counts.items():
        if count < 1:
            raise ShapeError(f"{where}: {name} is {count}, but 1 or more samples were needed.")
    return samples.shape[-1]
