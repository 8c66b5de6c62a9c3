"""Spiking and predictive deconvolution: least-squares filters from each trace's own autocorrelation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from unconv.errors import ShapeError
from unconv.inverse.fields.gather import Gather, gather
from unconv.inverse.solvers.prediction import apply_filter, autocorrelate, predictive_filter
from unconv.kinds import checks_kinds


@dataclass(frozen=True)
class Filtered:
    """Filtered traces and their filters.

    Attributes:
        traces: (..., n), in the type and shape of the input.
        filters: (used, k), the filter of each trace that was filtered, in the input's order; (1, k) with `average`.
        errors: (used,), the share of each trace's energy that is left; 1 where nothing could be predicted.
        kept: indices of the traces that were not filtered and are returned unchanged.
        notes: the reasons.
    """

    traces: Any
    filters: Tensor
    errors: Tensor
    kept: tuple[int, ...] = ()
    notes: tuple[str, ...] = field(default=())


@checks_kinds
def spiking(traces: Any, length: int, prewhitening: float = 1e-3, clipped: str = "keep", average: bool = False) -> Filtered:
    """Return traces whitened by spiking deconvolution, which shortens an unknown minimum-phase wavelet to a spike.

    The reflectivity is assumed to be white, so that the autocorrelation of a trace is that of the wavelet. The filter's first
    coefficient is 1: amplitudes are in units of the wavelet's first sample.

    Args:
        traces: (..., n), an array or a tensor; the last axis is time.
        length: samples of the filter, about as many as the wavelet has; at least 2.
        prewhitening: share of lag 0 that is added to lag 0. It limits how much noise outside the wavelet's band is amplified.
        clipped: "keep" returns clipped traces unchanged; "use" filters them like the others.
        average: whether to use one filter for all traces, from the mean of their normalised autocorrelations.

    Raises:
        ShapeError: a filter longer than the traces; a negative prewhitening; traces of another shape.
        DtypeError: samples that are not real numbers.

    Source:
        Robinson & Treitel, "Geophysical Signal Analysis" (1980); Yilmaz, "Seismic Data Analysis" (2001), ch. 2.
    """
    if length < 2:
        raise ShapeError(
            f"spiking: length is {length}, but 2 samples or more were needed. A filter of one sample changes nothing."
        )
    return _predicted("spiking", gather("spiking", traces, clipped), 1, length - 1, prewhitening, average)


@checks_kinds
def predictive(
    traces: Any, gap: int, length: int, prewhitening: float = 1e-3, clipped: str = "keep", average: bool = False
) -> Filtered:
    """Return traces after predictive deconvolution, which removes multiples and reverberations that repeat after a gap.

    The part of a trace that can be predicted `gap` samples ahead is subtracted. The first `gap` samples of the wavelet remain.

    Args:
        traces: (..., n), an array or a tensor; the last axis is time.
        gap: samples, 1 or more: slightly less than the period of the repetition, or the length of the wavelet's first part.
        length: coefficients of the prediction. A repetition is removed if its period is less than gap + length.
        prewhitening, clipped, average: as in `spiking`.

    Raises:
        ShapeError: a gap or a length below 1, or together longer than the traces; a negative prewhitening.
        DtypeError: samples that are not real numbers.

    Source:
        Peacock & Treitel, "Predictive deconvolution: theory and practice" (1969).
    """
    if gap < 1 or length < 1:
        raise ShapeError(f"predictive: gap is {gap} and length is {length}, but at least 1 sample each was needed.")
    return _predicted("predictive", gather("predictive", traces, clipped), gap, length, prewhitening, average)


def _predicted(where: str, traces: Gather, gap: int, length: int, prewhitening: float, average: bool) -> Filtered:
    """Filter the usable traces with their prediction-error filters."""
    n = traces.samples.shape[-1]
    if gap + length > n:
        raise ShapeError(
            f"{where}: the filter has {gap + length} samples, but the traces only {n}. Pass a shorter "
            f"{'length' if where == 'spiking' else 'gap or length'}."
        )
    sound = traces.sound
    if not len(sound):
        return Filtered(
            traces.like_given(sound), sound.new_zeros((0, gap + length)), sound.new_zeros(0), traces.kept, traces.notes
        )
    # Scaled by each trace's peak, so that powers stay in the range of float32. The recursion needs float64, and only the few
    # lags are converted to it.
    scaled = sound / sound.abs().amax(1, keepdim=True)
    lags = autocorrelate(scaled, gap + length)
    lags = lags if lags.device.type == "mps" else lags.double()
    if average:
        lags = (lags / lags[:, :1]).mean(0, keepdim=True)
    filters = predictive_filter(lags, gap, length, prewhitening).to(sound)
    errors = apply_filter(scaled, filters).square().sum(1) / scaled.square().sum(1)
    filtered = apply_filter(sound, filters)
    return Filtered(traces.like_given(filtered), filters, errors, traces.kept, traces.notes)
