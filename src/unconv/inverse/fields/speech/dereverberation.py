"""Blind dereverberation of speech: remove a room's late sound from recordings without knowing the room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import ceil, isqrt
from numbers import Integral
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import DtypeError, ShapeError, counted, nearest
from unconv.inverse.fields.speech.stft import Stft
from unconv.inverse.fields.speech.waveform import Waveform, waveform
from unconv.inverse.headway import heard, part
from unconv.inverse.solvers.distortionless import mvdr
from unconv.inverse.solvers.multichannel_wiener import multichannel_wiener
from unconv.inverse.solvers.online_prediction import online_wpe
from unconv.inverse.solvers.weighted_prediction import wpe
from unconv.kinds import checks_kinds_but
from unconv.progress import Progress

Method = Literal["wpe", "wpe-wiener", "wpe-mvdr", "wpe-block", "wpe-online"]

_DELAY = 0.024  # seconds from the predicting frame to the predicted one. 16 ms removes more of the room, but near speech too
_MAX_UNKNOWNS, _MAX_TAPS = 80, 40  # of one prediction; of one channel
_MAX_ONLINE_TAPS = 10
_FRAMES_PER_UNKNOWN, _MIN_FRAMES_PER_UNKNOWN = 6, 3  # for taps="auto"; for a number of taps from the caller
_MAX_BYTES = 2**30  # of spectra, or of matrices, in memory at one time
_OFFLINE_MATRICES = 6  # in memory at one time for each frequency
_BLOCK, _FADE = 60.0, 2.0  # seconds: of a block where the recording does not fit in memory; of the fade between blocks
_MIN_ENERGY, _MAX_ENERGY = 0.01, 2.0  # as a share of the input's energy: a result outside is rejected
_LOW_ENERGY = 0.05  # as a share of the input's energy: a result below gets a note
_FILTERED = ("wpe-wiener", "wpe-mvdr")
_FLOOR = 1e-4  # of the largest power: with nara_wpe's 1e-10 a few silent frames weigh more than all speech
_SMOOTHING = (5, 3)  # frequencies and frames over which the power of speech is averaged
_GAIN_OVER_CHANCE = 2.0  # more taps are used where they predict this many times more than chance does
_STRENGTH, _LOADING = 0.3, 0.1  # of late sound: the share that prediction left; the noise that each microphone adds alone


@dataclass(frozen=True, eq=False)
class Dereverberated:
    """A recording without its late reverberation, and the settings that were used.

    Attributes:
        signal: the result, of the input's type, shape, units and length.
        method, rate: the arguments.
        taps, delay: number of past frames of each channel that predict a frame, and frames from them to it. `taps` is 0 where
            nothing was predicted.
        step: samples from one frame to the next.
        energy: energy of the result as a share of the input's.
        correlation: of the result with the input; 1 where nothing changed.
        notes: anything unusual about the recording, and what was done about it.
        observed: the input.
    """

    signal: Any
    method: str
    rate: float
    taps: int
    delay: int
    step: int
    energy: float
    correlation: float
    notes: tuple[str, ...] = ()
    observed: Any = field(default=None, repr=False)


@dataclass(frozen=True)
class _Plan:
    """Settings of a prediction.

    Attributes:
        apart: whether each channel is predicted from itself alone.
        longer: number of taps to try after `taps`; 0 for none.
        used: receives the number of taps that each block was predicted with.
    """

    taps: int
    delay: int
    iterations: int
    forgetting: float
    apart: bool = False
    longer: int = 0
    used: list[int] = field(default_factory=list)


@checks_kinds_but("signal", "taps", "method")
def dereverb(
    signal: Any,
    rate: float,
    method: Method = "wpe",
    *,
    taps: int | Literal["auto"] = "auto",
    delay: int | None = None,
    iterations: int | None = None,
    block: float = 20.0,
    forgetting: float = 0.9999,
    progress: Progress | None = None,
) -> Dereverberated:
    """Remove late reverberation from speech by weighted prediction error (WPE), with one microphone or several.

    Each frame of the short-time spectrum is predicted from earlier frames of all channels. The part that can be predicted is
    late reverberation and is subtracted.

    Args:
        signal: (n,) or (channels, n), or (n, channels) of up to 64 channels as soundfile returns it: an array, a tensor or a
            list. Floats, or PCM integers, for which the result is rounded to the same type. All channels must have been
            sampled by one clock. NaN is refused. Silent channels and copies of other channels are not used.
        rate: samples a second.
        method: "wpe" works offline with one filter for the entire recording, as nara_wpe. "wpe-wiener" averages the power over
            neighbouring frequencies and frames; with two or more channels a multichannel Wiener filter follows, which takes
            the covariance of late sound from the predicted part. "wpe-mvdr" has an MVDR beamformer as that filter, for one
            speaker who does not move; other speakers are removed. "wpe-block" is "wpe" with a new filter for each block, for
            speakers who move. "wpe-online" is causal: each frame is processed with earlier frames only.
        taps: number of past frames of each channel in the prediction, 8 ms apart. "auto" chooses by the numbers of channels
            and frames; "wpe-wiener" and "wpe-mvdr" then use twice as many where these predict more than chance does. Too many
            taps for a short recording would predict the speech itself: the number is lowered, and a note says so.
        delay: frames from the predicting to the predicted frame. By default 24 ms.
        iterations: 1 or more, not used by "wpe-online". By default 5 for "wpe-wiener" and "wpe-mvdr", 3 for the others.
        block: seconds of a block, for "wpe-block".
        forgetting: weight of a frame relative to the next one, for "wpe-online".
        progress: called with ("dereverberating", share done, 1).

    Raises:
        ShapeError: no samples, or a signal of another rank; a rate that is not above zero; taps, delay or iterations below 1;
            an unknown method.
        DtypeError: complex or other samples that are not real numbers.
        NonFinite: NaN or infinite samples.

    Source:
        Nakatani et al. (2010), Yoshioka & Nakatani (2012): see `unconv.inverse.wpe`. Doclo & Moonen (2002) for the filter.
    """
    _refuse_settings(rate, method, taps, delay, iterations, block)
    recording = waveform("dereverb", signal)
    stft = Stft.at(rate)
    # Rounded up, so that near speech is not predicted; without the 1e-9, a rounding error would add a frame to 24 ms.
    default_delay = ceil(_DELAY * rate / stft.step - 1e-9)
    request = _Plan(0, delay or default_delay, iterations or (5 if method in _FILTERED else 3), forgetting)
    sound = recording.samples[recording.used]
    plan, notes = _planned(sound, stft, method, taps, request)
    early = sound
    if plan.taps:
        seconds, block_notes = _blocks(sound, method, block, rate, stft)
        notes += block_notes
        listener = progress or (lambda *_: None)
        with heard(lambda share: listener("dereverberating", share, 1)):
            length, fade = round(seconds * rate), max(1, round(min(_FADE, seconds / 4) * rate))
            early = _in_blocks(sound, stft, _METHODS[method], plan, length, fade)
        early, doubts = _checked(sound, early)
        notes += doubts
    if plan.used:
        plan = replace(plan, taps=max(plan.used))
    return _result(recording, sound, early, method, rate, plan, stft, notes)


def _refuse_settings(rate: float, method: str, taps: Any, delay: int | None, iterations: int | None, block: float) -> None:
    if method not in get_args(Method):
        known = get_args(Method)
        raise ShapeError(
            f"dereverb: method is {method!r}, but one of {', '.join(known)} was needed. Nearest: {nearest(str(method), known)}."
        )
    if not 0 < rate < float("inf"):
        raise ShapeError(f"dereverb: rate is {rate}, but a number of samples a second above zero was needed.")
    if taps != "auto" and (isinstance(taps, bool) or not isinstance(taps, Integral)):
        raise DtypeError(f"dereverb: taps is {taps!r}, but 'auto' or a whole number was needed.")
    for name, value in (("taps", taps), ("delay", delay), ("iterations", iterations)):
        if isinstance(value, Integral) and value < 1:
            raise ShapeError(f"dereverb: {name} is {value}, but 1 or more was needed.")
    if not 0 < block < float("inf"):
        raise ShapeError(f"dereverb: block is {block}, but a number of seconds above zero was needed.")


def _planned(sound: Tensor, stft: Stft, method: str, taps: int | str, request: _Plan) -> tuple[_Plan, list[str]]:
    """Return the request with the number of taps that the frames allow, 0 where nothing can be done, and notes."""
    channels, samples = sound.shape
    if not channels:
        return request, ["the recording is silent and is returned unchanged"]
    frames = stft.frames(samples)
    if samples < stft.size:
        return request, [f"the recording is shorter than one frame of {stft.size} samples and is returned unchanged"]
    if request.delay >= frames:
        return request, [
            f"the delay of {request.delay} frames leaves none of the {frames} to predict: the recording is unchanged"
        ]
    # The prediction has taps * channels unknowns. With too few frames for them it would predict the speech itself.
    most = frames // (_FRAMES_PER_UNKNOWN if taps == "auto" else _MIN_FRAMES_PER_UNKNOWN)
    if not most:
        return request, [f"{counted(frames, 'frame')} cannot support a prediction: the recording is returned unchanged"]
    wanted, notes = _default_taps(channels, method) if taps == "auto" else int(taps), []
    # "wpe-online" has a matrix of each frequency in memory at one time; the offline methods only a few.
    limit = isqrt(_MAX_BYTES // (16 * (stft.size // 2 + 1 if method == "wpe-online" else _OFFLINE_MATRICES)))
    if wanted * channels > limit:
        lowered = max(1, limit // channels)
        words = f"{counted(wanted, 'tap')} of {counted(channels, 'channel')}"
        notes, wanted = [f"{words} would take too much memory: lowered to {lowered}"], lowered
    if method == "wpe-online" or wanted * channels <= most:  # online, a frame is predicted before it is learned from
        # Rooms that reverberate for long need more taps; in dry rooms more taps remove speech. `_with_filter` tries both.
        enough = min(_MAX_UNKNOWNS, frames // _MIN_FRAMES_PER_UNKNOWN)
        tries = taps == "auto" and method in _FILTERED and 2 * wanted * channels <= enough
        return replace(request, taps=wanted, longer=2 * wanted if tries and channels > 1 else 0), notes
    words = f"{counted(frames, 'frame')} cannot support"
    if most >= channels:
        lowered = most // channels
        notes.append(f"{words} {counted(wanted, 'tap')} of {counted(channels, 'channel')}: lowered to {lowered}")
        return replace(request, taps=lowered), notes
    notes.append(f"{words} a prediction across {channels} channels: each was predicted from itself")
    return replace(request, taps=min(wanted, most), apart=True), notes


def _default_taps(channels: int, method: str) -> int:
    """Return the taps of each channel where the frames allow them."""
    # As nara_wpe: 40, 20 and 10 for 1, 2 and 8 channels. More suit long recordings better but remove speech from short ones.
    offline = max(1, min(max(round(_MAX_TAPS / channels), 10), _MAX_UNKNOWNS // channels))
    # Online, more unknowns take longer to learn than most recordings last.
    online = max(1, min(_MAX_ONLINE_TAPS, offline // 2 if channels > 2 else offline))
    return online if method == "wpe-online" else offline


def _blocks(sound: Tensor, method: str, block: float, rate: float, stft: Stft) -> tuple[float, list[str]]:
    """Return the seconds of a block, and a note where memory alone makes blocks necessary."""
    channels, samples = sound.shape
    if method == "wpe-block":
        return block, []
    size = 2 * sound.element_size() * channels * stft.frames(samples) * (stft.size // 2 + 1)
    if method == "wpe-online" or size <= _MAX_BYTES:
        return samples / rate, []
    return _BLOCK, [f"the recording is too long to process at once and was processed in blocks of {_BLOCK:g} s"]


def _in_blocks(
    sound: Tensor, stft: Stft, method: Callable[[Tensor, _Plan], Tensor], plan: _Plan, length: int, fade: int
) -> Tensor:
    """Process blocks of about `length` samples, with a cross-fade of `fade` samples from each to the next."""
    total = sound.shape[1]
    # Blocks of equal length: a short last one would not have enough frames for its taps.
    count = max(1, total // max(length, _MIN_FRAMES_PER_UNKNOWN * plan.taps * len(sound) * stft.step, 4 * fade, 1))
    cuts = [round(number * total / count) for number in range(count + 1)]
    rise = torch.linspace(0, 1, fade + 2, dtype=sound.dtype, device=sound.device)[1:-1]
    result = torch.zeros_like(sound)
    for number, (start, stop) in enumerate(pairwise(cuts)):
        # A block starts two fades early: in the first its prediction gains past frames, in the second it fades in.
        low = max(0, start - 2 * fade)
        with part(number / count, (number + 1) / count):
            processed = stft.synthesised(method(stft.analysed(sound[:, low:stop]), plan), stop - low)
        if number:
            processed[:, :fade] = 0
            processed[:, fade : 2 * fade] *= rise
        if number + 1 < count:
            processed[:, -fade:] *= 1 - rise
        result[:, low:stop] += processed
    return result


def _offline(spectra: Tensor, plan: _Plan) -> Tensor:
    if not plan.apart:
        return wpe(spectra, plan.taps, plan.delay, plan.iterations)
    return wpe(spectra[:, :, None], plan.taps, plan.delay, plan.iterations)[:, :, 0]


def _online(spectra: Tensor, plan: _Plan) -> Tensor:
    return online_wpe(spectra, plan.taps, plan.delay, plan.forgetting)


def _with_filter(after: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, _Plan], Tensor]:
    """Return a method that predicts with smoothed power and then filters, given the early sound and the late."""

    def method(spectra: Tensor, plan: _Plan) -> Tensor:
        batch = spectra.movedim(1, 0)[:, :, None] if plan.apart else spectra[None]
        with part(0, 0.25 if plan.longer else 1):
            early, taps = _predicted(batch, batch, plan.taps, plan), plan.taps
        if plan.longer:
            with part(0.25, 1):
                candidate = _predicted(batch, early, plan.longer, plan)
            # By chance alone each further unknown adds about 1 / T to the mean log-likelihood, over T frames.
            by_chance = (plan.longer - plan.taps) * spectra.shape[1] / spectra.shape[2]
            if _log_likelihood_gain(batch, early, candidate) > _GAIN_OVER_CHANCE * by_chance:
                early, taps = candidate, plan.longer
        plan.used.append(taps)
        if plan.apart:
            return early[:, :, 0].movedim(0, 1)
        # With one channel, a filter for each frequency would only change the tone.
        return early[0] if spectra.shape[1] == 1 else after(early[0], spectra - early[0])

    return method


def _predicted(spectra: Tensor, early: Tensor, taps: int, plan: _Plan) -> Tensor:
    """Return the early sound (B, F, D, T); the weights start from the power of the first estimate `early`."""
    for number in range(plan.iterations):
        with part(number / plan.iterations, (number + 1) / plan.iterations):
            early = wpe(spectra, taps, plan.delay, 1, floor=_FLOOR, power=_speech_power(early))
    return early


def _log_likelihood_gain(spectra: Tensor, before: Tensor, after: Tensor) -> float:
    """Return by how much the mean logarithm of the early sound's power falls from one prediction to another.

    This is the log-likelihood that WPE maximises, up to constants.
    """
    floor = _FLOOR * spectra.abs().double().square().mean(2).amax(-1, keepdim=True)
    logs = [torch.maximum(_speech_power(early), floor).clamp(min=1e-300).log().mean() for early in (before, after)]
    return float(logs[0] - logs[1])


def _speech_power(early: Tensor) -> Tensor:
    """Return the power of (B, F, D, T), averaged over channels and neighbouring frequencies and frames: (B, F, T), float64.

    The power of one frame alone is a poor estimate of its variance: it has as few degrees of freedom as there are channels.
    """
    power = early.abs().double().square().mean(2)
    around = (_SMOOTHING[0] // 2, _SMOOTHING[1] // 2)
    return F.avg_pool2d(power[:, None], _SMOOTHING, 1, around, count_include_pad=False)[:, 0]


_METHODS: dict[str, Callable[[Tensor, _Plan], Tensor]] = {
    "wpe-wiener": _with_filter(lambda early, late: multichannel_wiener(early, late, _STRENGTH, _LOADING)),
    "wpe-mvdr": _with_filter(lambda early, late: mvdr(early, late, _LOADING)),
    "wpe": _offline,
    "wpe-block": _offline,
    "wpe-online": _online,
}


def _checked(sound: Tensor, early: Tensor) -> tuple[Tensor, list[str]]:
    """Return the result, or the input where the result cannot be right, and notes."""
    share = _energy(early, sound)
    if not _MIN_ENERGY <= share <= _MAX_ENERGY or not bool(torch.isfinite(early).all()):
        why = f"the result had {share:.2g} times the recording's energy, which no room explains"
        return sound, [f"{why}: the recording is returned unchanged. Try fewer taps"]
    if share < _LOW_ENERGY:
        return early, [f"only {share:.2g} of the energy is left: if speech is missing, try fewer taps"]
    return early, []


def _energy(early: Tensor, sound: Tensor) -> float:
    total = float(sound.double().square().sum())
    return float(early.double().square().sum()) / total if total else 1.0


def _result(
    recording: Waveform, sound: Tensor, early: Tensor, method: str, rate: float, plan: _Plan, stft: Stft, notes: list[str]
) -> Dereverberated:
    signal, clipped = recording.like_original(None if early is sound else early)
    notes = [*recording.notes, *notes]
    if clipped:
        notes.append(f"clipped {counted(clipped, 'sample')} of the result that exceeded the range of its number type")
    energy = _energy(early, sound)
    product = float((early.double() * sound.double()).sum())
    power = float(sound.double().square().sum())
    correlation = product / power / energy**0.5 if power and energy else 1.0
    taps = plan.taps if early is not sound else 0
    return Dereverberated(
        signal, method, rate, taps, plan.delay, stft.step, energy, correlation, tuple(notes), recording.original
    )
