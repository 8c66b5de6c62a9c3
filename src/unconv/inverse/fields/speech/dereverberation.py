"""Blind dereverberation of speech: take a room's late sound out of recordings without knowing the room."""

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

from unconv.errors import DtypeError, ShapeError, nearest
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

_DELAY = 0.024  # seconds from what predicts to what is predicted. 16 ms takes more of the room, and of near speech itself
_MANY, _MOST = 80, 40  # unknowns of a prediction; taps of a channel
_ONLINE = 10  # taps online at most
_ENOUGH, _LEAST = 6, 3  # frames for each unknown: where taps are chosen; where they are given
_WHOLE_BYTES = 2**30  # of spectra, or of matrices, that are held at one time
_MATRICES = 6  # of a frequency, that are held offline
_LONG, _FADE = 60.0, 2.0  # seconds of the blocks of what is longer; seconds over which one block passes into the next
_QUIET, _LOUD = 0.01, 2.0  # of the energy that came: results outside are not believed
_FEW = 0.05  # of the energy: less is told
_FILTERED = ("wpe-wiener", "wpe-mvdr")
_FLOOR = 1e-4  # of the largest power: with nara_wpe's 1e-10 a few silent frames weigh more than all speech
_NEAR = (5, 3)  # frequencies and frames over which the power of speech is averaged
_SURE = 2.0  # times what chance predicts: more taps are used for as much
_STRENGTH, _LOADING = 0.3, 0.1  # of late sound: its share that prediction left; noise of each microphone for itself


@dataclass(frozen=True, eq=False)
class Dereverberated:
    """A recording without its late reverberation, and how it was made.

    Attributes:
        signal: in the kind, shape and units that came, as long to the sample.
        method, rate: as they were asked for.
        taps, delay: frames of each channel that predict, and how far behind; taps is 0 where nothing was done.
        step: samples from one frame to the next.
        energy: the result's energy as a share of what came; correlation: of the result with what came, 1 where nothing changed.
        notes: what was odd about the recording, and what was done about it.
        observed: the recording, as it came.
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
    """What a method is told.

    Attributes:
        apart: each channel is predicted from itself alone. longer: taps that are tried after `taps`; 0: none.
        tried: takes the taps that a block was predicted with.
    """

    taps: int
    delay: int
    iterations: int
    forgetting: float
    apart: bool = False
    longer: int = 0
    tried: list[int] = field(default_factory=list)


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
    """Take late reverberation out of speech, from one microphone or several, by weighted prediction error.

    Args:
        signal: (n,) or (channels, n), or (n, channels) of up to 64 channels as soundfile gives it: an array, a tensor or a
            list; floating, or PCM integers, which come back rounded in the same type. The recordings must have been sampled
            together. NaN is refused; silent channels, and those that are copies, do not count.
        rate: samples a second.
        method: "wpe": offline, one filter for the whole recording, as nara_wpe; "wpe-wiener": with power averaged over near
            frequencies and frames, and of two or more channels a multichannel Wiener filter after it, which knows by what
            was predicted where late sound comes from; "wpe-mvdr": a beamformer in its place, for one speaker who stays in
            place: others are taken away; "wpe-block": "wpe" with a filter for each block, for speakers who move;
            "wpe-online": each frame from those before it alone.
        taps: frames of each channel that predict, 8 ms apart; "auto" by the numbers of channels and frames; "wpe-wiener" and
            "wpe-mvdr" then take twice as many where these predict more than chance does. More than the recording has frames
            for would predict the speech itself: such numbers are lowered, and that is noted.
        delay: frames from what predicts to what is predicted; None: 24 ms.
        iterations: of all but "wpe-online", 1 or more; None: 5 of "wpe-wiener" and "wpe-mvdr", 3 of others.
        block: seconds of a block of "wpe-block". forgetting: of "wpe-online", what a frame counts against the next.

    Raises:
        ShapeError: no samples, or of another rank; a rate that is not above zero; numbers of taps, delay or iterations that
            are below 1; an unknown method.
        DtypeError, NonFinite: complex or other samples; NaN or infinite ones.

    Source:
        Nakatani et al. (2010), Yoshioka & Nakatani (2012): see `unconv.inverse.wpe`. Doclo & Moonen (2002) for the filter.
    """
    _refuse_settings(rate, method, taps, delay, iterations, block)
    came = waveform("dereverb", signal)
    stft = Stft.at(rate)
    late = ceil(_DELAY * rate / stft.step - 1e-9)
    asked = _Plan(0, delay or late, iterations or (5 if method in _FILTERED else 3), forgetting)
    sound = came.samples[came.used]
    plan, told = _planned(sound, stft, method, taps, asked)
    early = sound
    if plan.taps:
        seconds, more = _blocks(sound, method, block, rate, stft)
        told += more
        listener = progress or (lambda *_: None)
        with heard(lambda share: listener("dereverberating", share, 1)):
            length, fade = round(seconds * rate), max(1, round(min(_FADE, seconds / 4) * rate))
            early = _in_blocks(sound, stft, _METHODS[method], plan, length, fade)
        early, doubts = _believed(sound, early)
        told += doubts
    if plan.tried:
        plan = replace(plan, taps=max(plan.tried))
    return _result(came, sound, early, method, rate, plan, stft, told)


def _refuse_settings(rate: float, method: str, taps: Any, delay: int | None, iterations: int | None, block: float) -> None:
    if method not in get_args(Method):
        known = get_args(Method)
        raise ShapeError(
            f"dereverb: method is {method!r}; there are {', '.join(known)}. Nearest: {nearest(str(method), known)}."
        )
    if not 0 < rate < float("inf"):
        raise ShapeError(f"dereverb: rate is {rate}, but samples a second, above zero, were needed.")
    if taps != "auto" and (isinstance(taps, bool) or not isinstance(taps, Integral)):
        raise DtypeError(f"dereverb: taps is {taps!r}, but 'auto' or a whole number was needed.")
    for name, value in (("taps", taps), ("delay", delay), ("iterations", iterations)):
        if isinstance(value, Integral) and value < 1:
            raise ShapeError(f"dereverb: {name} is {value}, but 1 or more was needed.")
    if not 0 < block < float("inf"):
        raise ShapeError(f"dereverb: block is {block}, but seconds, above zero, were needed.")


def _planned(sound: Tensor, stft: Stft, method: str, taps: int | str, asked: _Plan) -> tuple[_Plan, list[str]]:
    """Return how many taps the frames allow, 0 where nothing can be done, and what is said of it."""
    channels, samples = sound.shape
    if not channels:
        return asked, ["silence throughout: nothing to do, and the recording is given back"]
    frames = stft.frames(samples)
    if samples < stft.size:
        return asked, [f"shorter than one frame of {stft.size} samples: the recording is given back"]
    if asked.delay >= frames:
        return asked, [f"a delay of {asked.delay} frames is beyond all {frames}: the recording is given back"]
    most = frames // (_ENOUGH if taps == "auto" else _LEAST)
    if not most:
        return asked, [f"{frames} frames are too few to predict from: the recording is given back"]
    wanted, told = _usual(channels, method) if taps == "auto" else int(taps), []
    # Online all frequencies have their matrices at one time, offline few.
    room = isqrt(_WHOLE_BYTES // (16 * (stft.size // 2 + 1 if method == "wpe-online" else _MATRICES)))
    if wanted * channels > room:
        told = [f"{wanted} taps of {channels} channels take too much memory: lowered to {max(1, room // channels)}"]
        wanted = max(1, room // channels)
    if method == "wpe-online" or wanted * channels <= most:  # online, a frame is predicted before it is learned from
        # Rooms that sound for long need more, which dry ones would lose speech to: the recording tells which it is.
        tries = taps == "auto" and method in _FILTERED and 2 * wanted * channels <= min(_MANY, frames // _LEAST)
        return replace(asked, taps=wanted, longer=2 * wanted if tries and channels > 1 else 0), told
    if most >= channels:
        lowered = most // channels
        why = f"{wanted} taps of {channels} channels are too many for {frames} frames: lowered to {lowered}"
        return replace(asked, taps=lowered), [*told, why]
    why = f"{frames} frames are too few to predict {channels} channels from each other: each was predicted from itself"
    return replace(asked, taps=min(wanted, most), apart=True), [*told, why]


def _usual(channels: int, method: str) -> int:
    """Return the taps of each channel where the frames allow them."""
    # nara_wpe's 40, 20 and 10 of 1, 2 and 8 channels. More suit long recordings better and take from the speech of short ones.
    plain = max(1, min(max(round(_MOST / channels), 10), _MANY // channels))
    # Online, more unknowns take longer to learn than most recordings last.
    return max(1, min(_ONLINE, plain // 2 if channels > 2 else plain)) if method == "wpe-online" else plain


def _blocks(sound: Tensor, method: str, block: float, rate: float, stft: Stft) -> tuple[float, list[str]]:
    """Return the seconds of a block, and what is said where nobody asked for blocks."""
    channels, samples = sound.shape
    if method == "wpe-block":
        return block, []
    size = 2 * sound.element_size() * channels * stft.frames(samples) * (stft.size // 2 + 1)
    if method == "wpe-online" or size <= _WHOLE_BYTES:
        return samples / rate, []
    return _LONG, [f"too long to be held as a whole: worked on in blocks of {_LONG:g} s"]


def _in_blocks(
    sound: Tensor, stft: Stft, method: Callable[[Tensor, _Plan], Tensor], plan: _Plan, length: int, fade: int
) -> Tensor:
    """Work on blocks of about `length` samples, each passing into the next over `fade` samples."""
    total = sound.shape[1]
    # Each has frames enough for its taps, and all are of a length: a last short one would not.
    count = max(1, total // max(length, _LEAST * plan.taps * len(sound) * stft.step, 4 * fade, 1))
    cuts = [round(number * total / count) for number in range(count + 1)]
    rise = torch.linspace(0, 1, fade + 2, dtype=sound.dtype, device=sound.device)[1:-1]
    result = torch.zeros_like(sound)
    for number, (start, stop) in enumerate(pairwise(cuts)):
        # Before it rises a block has had as long again to fill its prediction.
        low = max(0, start - 2 * fade)
        with part(number / count, (number + 1) / count):
            made = stft.synthesised(method(stft.analysed(sound[:, low:stop]), plan), stop - low)
        if number:
            made[:, :fade] = 0
            made[:, fade : 2 * fade] *= rise
        if number + 1 < count:
            made[:, -fade:] *= 1 - rise
        result[:, low:stop] += made
    return result


def _offline(spectra: Tensor, plan: _Plan) -> Tensor:
    if not plan.apart:
        return wpe(spectra, plan.taps, plan.delay, plan.iterations)
    return wpe(spectra[:, :, None], plan.taps, plan.delay, plan.iterations)[:, :, 0]


def _online(spectra: Tensor, plan: _Plan) -> Tensor:
    return online_wpe(spectra, plan.taps, plan.delay, plan.forgetting)


def _with_filter(after: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, _Plan], Tensor]:
    """Return the method that predicts with a smoother power, and filters the early sound by what it knows of the late."""

    def method(spectra: Tensor, plan: _Plan) -> Tensor:
        each = spectra.movedim(1, 0)[:, :, None] if plan.apart else spectra[None]
        with part(0, 0.25 if plan.longer else 1):
            early, taps = _predicted(each, each, plan.taps, plan), plan.taps
        if plan.longer:
            with part(0.25, 1):
                more = _predicted(each, early, plan.longer, plan)
            if _gained(each, early, more) > _SURE * (plan.longer - plan.taps) * spectra.shape[1] / spectra.shape[2]:
                early, taps = more, plan.longer
        plan.tried.append(taps)
        if plan.apart:
            return early[:, :, 0].movedim(0, 1)
        # Of one channel, a filter for each frequency would only change the tone.
        return early[0] if spectra.shape[1] == 1 else after(early[0], spectra - early[0])

    return method


def _predicted(spectra: Tensor, early: Tensor, taps: int, plan: _Plan) -> Tensor:
    """Return the early sound (B, F, D, T), by weights that begin with the power of a first estimate of it."""
    for number in range(plan.iterations):
        with part(number / plan.iterations, (number + 1) / plan.iterations):
            early = wpe(spectra, taps, plan.delay, 1, floor=_FLOOR, power=_speech_power(early))
    return early


def _gained(spectra: Tensor, before: Tensor, after: Tensor) -> float:
    """Return by how much the mean logarithm of the early sound's power falls from one prediction to another.

    It is the likelihood that prediction maximises. Where there is nothing to predict, each further unknown takes about one of T
    frames' worth of it.
    """
    least = _FLOOR * spectra.abs().double().square().mean(2).amax(-1, keepdim=True)
    logs = [torch.maximum(_speech_power(each), least).clamp(min=1e-300).log().mean() for each in (before, after)]
    return float(logs[0] - logs[1])


def _speech_power(early: Tensor) -> Tensor:
    """Return the power of (B, F, D, T), averaged over channels and near frequencies and frames: (B, F, T), float64.

    A frame's own power is a poor estimate of what was expected of it: chi-squared, of as many degrees as there are channels.
    """
    power = early.abs().double().square().mean(2)
    around = (_NEAR[0] // 2, _NEAR[1] // 2)
    return F.avg_pool2d(power[:, None], _NEAR, 1, around, count_include_pad=False)[:, 0]


_METHODS: dict[str, Callable[[Tensor, _Plan], Tensor]] = {
    "wpe-wiener": _with_filter(lambda early, late: multichannel_wiener(early, late, _STRENGTH, _LOADING)),
    "wpe-mvdr": _with_filter(lambda early, late: mvdr(early, late, _LOADING)),
    "wpe": _offline,
    "wpe-block": _offline,
    "wpe-online": _online,
}


def _believed(sound: Tensor, early: Tensor) -> tuple[Tensor, list[str]]:
    """Return the result, or what came where it cannot be right, and what is said of it."""
    share = _energy(early, sound)
    if not _QUIET <= share <= _LOUD or not bool(torch.isfinite(early).all()):
        why = f"the result had {share:.2g} of the energy that came, which no room explains: the recording is given back"
        return sound, [f"{why}. Try fewer taps"]
    if share < _FEW:
        return early, [f"only {share:.2g} of the energy is left: if speech is missing, try fewer taps"]
    return early, []


def _energy(early: Tensor, sound: Tensor) -> float:
    came = float(sound.double().square().sum())
    return float(early.double().square().sum()) / came if came else 1.0


def _result(
    came: Waveform, sound: Tensor, early: Tensor, method: str, rate: float, plan: _Plan, stft: Stft, told: list[str]
) -> Dereverberated:
    signal, cut = came.like_given(None if early is sound else early)
    notes = [*came.notes, *told]
    if cut:
        notes.append(f"{cut} samples of the result went beyond the range of its numbers and were clipped")
    energy = _energy(early, sound)
    product = float((early.double() * sound.double()).sum())
    power = float(sound.double().square().sum())
    correlation = product / power / energy**0.5 if power and energy else 1.0
    taps = plan.taps if early is not sound else 0
    return Dereverberated(signal, method, rate, taps, plan.delay, stft.step, energy, correlation, tuple(notes), came.given)
