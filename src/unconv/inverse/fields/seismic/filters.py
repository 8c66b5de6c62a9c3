"""Statistical deconvolution: filters from each trace's own autocorrelation."""

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
    """Filtered traces, and with what.

    Attributes:
        traces: (..., n), in the kind and shape that came.
        filters: (used, k), of the traces that were filtered, in the order in which they came; (1, k) with `average`.
        errors: (used,), the share of each trace's energy that the filter left: 1 where nothing could be predicted.
        kept: the numbers of the traces that were left as they are. notes: why.
    """

    traces: Any
    filters: Tensor
    errors: Tensor
    kept: tuple[int, ...] = ()
    notes: tuple[str, ...] = field(default=())


@checks_kinds
def spiking(traces: Any, length: int, prewhitening: float = 1e-3, clipped: str = "keep", average: bool = False) -> Filtered:
    """Whiten traces by spiking deconvolution: shorten the wavelet to a spike, whatever it is, if its phase is minimum.

    The reflections are taken to be white, so that the traces' autocorrelation is the wavelet's. The filter's first coefficient
    is 1: amplitudes are those of the wavelet's first sample.

    Args:
        traces: (..., n), an array or a tensor; the last axis is time.
        length: of the filter, in samples: about as long as the wavelet; at least 2.
        prewhitening: share of lag 0 that is added to it, so that noise outside the wavelet's band is not raised without limit.
        clipped: "keep" clipped traces as they are, or "use" them as others.
        average: one filter for all traces, from the mean of their autocorrelations, each divided by its lag 0.

    Raises:
        ShapeError: a length that the traces do not have; a negative prewhitening; traces of no shape or kind.
        DtypeError: complex or other samples.

    Source:
        Robinson & Treitel, "Geophysical Signal Analysis" (1980); Yilmaz, "Seismic Data Analysis" (2001), ch. 2.
    """
    if length < 2:
        raise ShapeError(f"spiking: length is {length}, but 2 samples or more were needed. A filter of one changes nothing.")
    return _predicted("spiking", gather("spiking", traces, clipped), 1, length - 1, prewhitening, average)


@checks_kinds
def predictive(
    traces: Any, gap: int, length: int, prewhitening: float = 1e-3, clipped: str = "keep", average: bool = False
) -> Filtered:
    """Take out what can be predicted `gap` samples ahead, as multiples and reverberations can; the wavelet's first `gap` stay.

    Args:
        traces: (..., n), an array or a tensor; the last axis is time.
        gap: samples, 1 or more: a little less than the period of the repetition, or where the wavelet's first part ends.
        length: coefficients of the prediction; a repetition is found if its period is less than gap + length.
        prewhitening, clipped, average: as in `spiking`.

    Raises:
        ShapeError: a gap or a length below 1, or more than the traces have; a negative prewhitening.
        DtypeError: complex or other samples.

    Source:
        Peacock & Treitel, "Predictive deconvolution: theory and practice" (1969).
    """
    if gap < 1 or length < 1:
        raise ShapeError(f"predictive: gap is {gap} and length is {length}, but 1 or more samples each were needed.")
    return _predicted("predictive", gather("predictive", traces, clipped), gap, length, prewhitening, average)


def _predicted(where: str, came: Gather, gap: int, length: int, prewhitening: float, average: bool) -> Filtered:
    """Filter the sound traces by their prediction-error filters."""
    n = came.samples.shape[-1]
    if gap + length > n:
        raise ShapeError(
            f"{where}: a filter of {gap + length} samples came for traces of {n}, but one that is no longer was needed. "
            "Shorten it."
        )
    sound = came.sound
    if not len(sound):
        return Filtered(came.like_given(sound), sound.new_zeros((0, gap + length)), sound.new_zeros(0), came.kept, came.notes)
    # In units of each trace's peak, so that no power leaves float32; float64 for the recursion, and only for the lags.
    scaled = sound / sound.abs().amax(1, keepdim=True)
    lags = autocorrelate(scaled, gap + length)
    lags = lags if lags.device.type == "mps" else lags.double()
    if average:
        lags = (lags / lags[:, :1]).mean(0, keepdim=True)
    filters = predictive_filter(lags, gap, length, prewhitening).to(sound)
    errors = apply_filter(scaled, filters).square().sum(1) / scaled.square().sum(1)
    filtered = apply_filter(sound, filters)
    return Filtered(came.like_given(filtered), filters, errors, came.kept, came.notes)
