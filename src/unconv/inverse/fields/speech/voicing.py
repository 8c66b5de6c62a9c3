"""The pitch of a voice over time, from the cepstrum or the autocorrelation of short frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from unconv.errors import ShapeError
from unconv.inverse.fields.speech.frames import Times, framed
from unconv.inverse.fields.speech.signal import as_signal, check_rate
from unconv.inverse.solvers.homomorphic import real_cepstrum
from unconv.inverse.solvers.prediction import autocorrelate
from unconv.kinds import checks_kinds_but

PitchMethod = Literal["autocorrelation", "cepstrum"]

_HOP = 0.01  # seconds
_PERIODS = 3  # of the lowest pitch, in a frame
_VOICED = {"autocorrelation": 0.45, "cepstrum": 0.1}
_OCTAVE_COST = 0.02  # subtracted from a peak's height for each octave of its period
_SOFT = 0.03  # of the loudest frame's amplitude: softer frames count as pauses


@dataclass(frozen=True, eq=False)
class Pitch:
    """The pitch of a voice.

    Attributes:
        times: (T,), middles of the frames in seconds.
        frequency: (..., T), Hz; NaN in frames that are not voiced.
        voicing: (..., T), height of the peak: by "autocorrelation" the share of the frame that is periodic, up to 1; by
            "cepstrum" in nepers.
    """

    times: Times
    frequency: Any
    voicing: Any


@checks_kinds_but("signal")
def pitch(
    signal: Any,
    rate: float,
    method: PitchMethod = "autocorrelation",
    lowest: float = 60.0,
    highest: float = 400.0,
    voiced: float | None = None,
) -> Pitch:
    """Return the pitch of a voice every 10 ms, from the autocorrelation or the cepstrum of each frame.

    Frames are independent: the track is not smoothed, and a creaky voice may cause octave errors.

    Args:
        signal: (..., n), at least three periods of the lowest pitch.
        rate: samples a second.
        method: "autocorrelation": of the frame, divided by that of its window. "cepstrum": the highest peak of the spectrum of
            log |X|, which needs many harmonics.
        lowest, highest: range of the pitch in Hz.
        voiced: smallest height of a voiced frame's peak; by default 0.45 for autocorrelation and 0.1 for cepstrum.

    Raises:
        ShapeError: pitches that are not ascending and below half the rate; a recording that is too short.
        DtypeError, NonFinite: samples that are not real numbers; NaN or infinite samples.

    Source:
        Boersma, "Accurate short-term analysis of the fundamental frequency" (1993), eq. 9, for the window's autocorrelation;
        Noll, "Cepstrum pitch determination" (1967).
    """
    check_rate("pitch", rate)
    if not 0 < lowest < highest < rate / 2:
        raise ShapeError(
            f"pitch: lowest is {lowest:g} and highest {highest:g} Hz, but ascending ones below {rate / 2:g} Hz were needed."
        )
    recording = as_signal("pitch", signal)
    frames, times = framed("pitch", recording.double(), rate, _PERIODS / lowest, _HOP)
    frames = frames - frames.mean(-1, keepdim=True)
    size = frames.abs().amax(-1)
    # Scaled to about 1: squares of very large or very small samples would overflow or vanish.
    frames = frames / torch.where(size > 0, size, 1)[..., None]
    low, high = max(2, int(rate / highest)), min(int(rate / lowest) + 1, frames.shape[-1] - 2)
    window = torch.hann_window(frames.shape[-1], dtype=torch.float64, device=frames.device)
    heights = _autocorrelation(frames, window, high) if method == "autocorrelation" else _cepstrum(frames * window, high)
    period, height = _peak(heights, low, high)
    loud = size > _SOFT * size.amax(-1, keepdim=True)
    is_voiced = loud & (height > (_VOICED[method] if voiced is None else voiced))
    frequency = torch.where(is_voiced, rate / period, torch.nan)
    dtype = recording.samples.dtype
    return Pitch(times, recording.like(frequency.to(dtype)), recording.like(torch.where(loud, height, 0).to(dtype)))


def _autocorrelation(frames: Tensor, window: Tensor, high: int) -> Tensor:
    """Return the autocorrelation of frames divided by that of the window, 1 at lag 0: (..., high + 2)."""
    # Boersma's eq. 9: without the division, the window's decay would favour short periods.
    r = autocorrelate(frames * window, high + 2)
    of_window = autocorrelate(window, high + 2)
    sounding = r[..., :1] > 0
    return torch.where(sounding, r / torch.where(sounding, r[..., :1], 1) / (of_window / of_window[0]), 0)


def _cepstrum(frames: Tensor, high: int) -> Tensor:
    sounding = (frames != 0).any(-1, keepdim=True)
    cepstrum = real_cepstrum(torch.where(sounding, frames, 1.0), 1 << (2 * frames.shape[-1]).bit_length())
    return torch.where(sounding, cepstrum[..., : high + 2], 0)


def _peak(heights: Tensor, low: int, high: int) -> tuple[Tensor, Tensor]:
    """Return the lag of the highest peak between two lags, refined between samples by a parabola, and its height."""
    lags = torch.arange(low, high + 1, dtype=heights.dtype, device=heights.device)
    middle, before, after = heights[..., low : high + 1], heights[..., low - 1 : high], heights[..., low + 1 : high + 2]
    peaks = (middle >= before) & (middle >= after)
    # A signal of one period also repeats after two: of nearly equal peaks the shorter lag is the period.
    scores = torch.where(peaks, middle - _OCTAVE_COST * (lags / low).log2(), -torch.inf)
    best = scores.argmax(-1, keepdim=True)
    left, top, right = (each.gather(-1, best)[..., 0] for each in (before, middle, after))
    curvature = left - 2 * top + right
    shift = torch.where(curvature < 0, (left - right) / (2 * torch.where(curvature < 0, curvature, 1)), 0).clamp(-0.5, 0.5)
    has_peak = peaks.any(-1)
    return best[..., 0] + low + shift, torch.where(has_peak, top - (left - right) * shift / 4, 0)
