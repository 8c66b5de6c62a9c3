"""The pitch of a voice over time, from the cepstrum or the autocorrelation of short frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from unconv.errors import ShapeError
from unconv.inverse.fields.speech.frames import Times, framed
from unconv.inverse.fields.speech.signal import check_rate, taken
from unconv.inverse.solvers.homomorphic import real_cepstrum
from unconv.inverse.solvers.prediction import autocorrelate
from unconv.kinds import checks_kinds_but

PitchMethod = Literal["autocorrelation", "cepstrum"]

_HOP = 0.01  # seconds
_PERIODS = 3  # of the lowest pitch, in a frame
_VOICED = {"autocorrelation": 0.45, "cepstrum": 0.1}
_OCTAVE = 0.02  # of the height, that a period twice as long has to be higher by
_SOFT = 0.03  # of the loudest frame's amplitude: what is softer counts as pause


@dataclass(frozen=True, eq=False)
class Pitch:
    """The pitch of a voice.

    Attributes:
        times: (T,), seconds of the frames' middles.
        frequency: (..., T), Hz; NaN where nothing is voiced.
        voicing: (..., T), the height of the peak: by "autocorrelation" the share that repeats, up to 1; by "cepstrum" nepers.
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
    """Follow the pitch of a voice every 10 ms.

    Each frame is judged for itself: no track is smoothed, and an octave may be mistaken where a voice creaks.

    Args:
        signal: (..., n), at least three periods of the lowest pitch.
        rate: samples a second.
        method: "autocorrelation" of a frame over that of its window; "cepstrum": the highest peak of log |X|'s ripples, which
            needs many harmonics.
        lowest, highest: Hz.
        voiced: the least height of a peak; by default 0.45 by autocorrelation, 0.1 by cepstrum.

    Raises:
        ShapeError: pitches that are not ascending, below half the rate; a short recording. DtypeError, NonFinite: no real
            numbers; NaN or infinite samples.

    Source:
        Boersma, "Accurate short-term analysis of the fundamental frequency" (1993), eq. 9, for the window's autocorrelation;
        Noll, "Cepstrum pitch determination" (1967).
    """
    check_rate("pitch", rate)
    if not 0 < lowest < highest < rate / 2:
        raise ShapeError(f"pitch: {lowest:g} to {highest:g} Hz came, but ascending ones below {rate / 2:g} Hz were needed.")
    given = taken("pitch", signal)
    frames, times = framed("pitch", given.double(), rate, _PERIODS / lowest, _HOP)
    frames = frames - frames.mean(-1, keepdim=True)
    size = frames.abs().amax(-1)
    # What is squared needs a size of about 1.
    frames = frames / torch.where(size > 0, size, 1)[..., None]
    low, high = max(2, int(rate / highest)), min(int(rate / lowest) + 1, frames.shape[-1] - 2)
    window = torch.hann_window(frames.shape[-1], dtype=torch.float64, device=frames.device)
    heights = _correlated(frames, window, high) if method == "autocorrelation" else _rippled(frames * window, high)
    period, height = _peak(heights, low, high)
    loud = size > _SOFT * size.amax(-1, keepdim=True)
    sure = loud & (height > (_VOICED[method] if voiced is None else voiced))
    frequency = torch.where(sure, rate / period, torch.nan)
    dtype = given.samples.dtype
    return Pitch(times, given.like(frequency.to(dtype)), given.like(torch.where(loud, height, 0).to(dtype)))


def _correlated(frames: Tensor, window: Tensor, high: int) -> Tensor:
    """Return the autocorrelation of frames over that of the window, 1 at lag 0: (..., high + 2)."""
    r = autocorrelate(frames * window, high + 2)
    shape = autocorrelate(window, high + 2)
    sound = r[..., :1] > 0
    return torch.where(sound, r / torch.where(sound, r[..., :1], 1) / (shape / shape[0]), 0)


def _rippled(frames: Tensor, high: int) -> Tensor:
    sounding = (frames != 0).any(-1, keepdim=True)
    cepstrum = real_cepstrum(torch.where(sounding, frames, 1.0), 1 << (2 * frames.shape[-1]).bit_length())
    return torch.where(sounding, cepstrum[..., : high + 2], 0)


def _peak(heights: Tensor, low: int, high: int) -> tuple[Tensor, Tensor]:
    """Return the place of the highest peak between two lags, between samples by a parabola, and its height."""
    lags = torch.arange(low, high + 1, dtype=heights.dtype, device=heights.device)
    middle, before, after = heights[..., low : high + 1], heights[..., low - 1 : high], heights[..., low + 1 : high + 2]
    peaks = (middle >= before) & (middle >= after)
    # What repeats after one period does so after two: the shorter one is meant.
    worth = torch.where(peaks, middle - _OCTAVE * (lags / low).log2(), -torch.inf)
    best = worth.argmax(-1, keepdim=True)
    left, top, right = (each.gather(-1, best)[..., 0] for each in (before, middle, after))
    bend = left - 2 * top + right
    shift = torch.where(bend < 0, (left - right) / (2 * torch.where(bend < 0, bend, 1)), 0).clamp(-0.5, 0.5)
    there = peaks.any(-1)
    return best[..., 0] + low + shift, torch.where(there, top - (left - right) * shift / 4, 0)
