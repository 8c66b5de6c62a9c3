"""Echoes in a recording: found in its cepstrum, and taken out by the recursion that undoes them exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unconv.errors import NonFinite, ShapeError
from unconv.inverse.fields.speech.signal import check_rate, refuse_silence, taken
from unconv.inverse.solvers.problems import is_finite
from unconv.kinds import checks_kinds_but

_SEGMENT = 2**21  # samples that are transformed at a time
_CLEAR = 10.0  # deviations of the cepstrum around it that an echo stands out by: speech has more outliers than noise
_LARGEST = 0.98  # of a gain: the recursion that undoes one of 1 never ends
_DRY = 1e-12  # share of the largest power that is added: bands that were filtered out have no logarithm
_MENDS = 4  # passes in which gains of several echoes settle


@dataclass(frozen=True, eq=False)
class Echoes:
    """Echoes of a recording, strongest first: y(t) = s(t) + gains[0] s(t - delays[0]) + ...

    Attributes:
        delays: (K,), seconds, whole samples.
        gains: (K,), -1 to 1, of the direct sound; below zero where the echo is turned over.
        deviation: the standard deviation of a gain.
        strength: (K,), by how many deviations each stood out when it was found.
        cepstrum: (m,), of the recording's power at quefrencies 0, 1, ... samples, up to the longest delay.
        rate: samples a second.
    """

    delays: np.ndarray[Any, np.dtype[np.float64]]
    gains: np.ndarray[Any, np.dtype[np.float64]]
    deviation: float
    strength: np.ndarray[Any, np.dtype[np.float64]]
    cepstrum: np.ndarray[Any, np.dtype[np.float64]]
    rate: float


@checks_kinds_but("signal")
def find_echoes(
    signal: Any, rate: float, shortest: float = 0.02, longest: float = 0.5, most: int = 4, faintest: float = 0.05
) -> Echoes:
    """Find single echoes in the power cepstrum of a recording: copies of the whole sound, later and as loud or softer.

    An echo of gain a at lag t multiplies the power by |1 + a z^t|^2, which adds (-1)^(k + 1) a^k / k at k t to the cepstrum. It
    is one peak of height a and its multiples; a room's reverberation, of thousands, shows only its strongest. A later copy that
    is louder than the first looks like one of gain 1 / a: the cepstrum of power cannot tell which came first.

    Args:
        signal: (n,), one channel: each microphone hears echoes of its own.
        rate: samples a second.
        shortest, longest: seconds between which delays are looked for. Voices have peaks of their pitch from 2 to 16 ms:
            below that only music and noise have clear echoes.
        most: echoes that are looked for, one after the other.
        faintest: gain of an echo that is told. It also has to stand out by ten deviations: speech itself, recorded dry, has
            peaks of 0.04.

    Raises:
        ShapeError, DtypeError, NonFinite: no samples (n,), silence, or delays that are not below a third of the recording.

    Source:
        Bogert, Healy & Tukey, "The quefrency alanysis of time series for echoes" (1963).

    Example:
        >>> sound = np.random.default_rng(0).standard_normal(20000)
        >>> sound[800:] += 0.5 * sound[:-800].copy()
        >>> find_echoes(sound, 8000, most=1).delays
        array([0.1])
    """
    given, low, high = _admitted(signal, rate, shortest, longest, most)
    power = _mean_log_power(given, high)
    grid = 2 * (len(power) - 1)
    turns = torch.arange(len(power), dtype=torch.float64) * (2 * torch.pi / grid)
    cepstrum = torch.fft.irfft(power, grid)[: high + 1]
    lags, gains, strength = list[int](), torch.zeros(0, dtype=torch.float64), list[float]()
    deviation = _deviation(cepstrum[low:])
    while len(lags) < most:
        left = torch.fft.irfft(power - _of_echoes(lags, gains, turns), grid)[: high + 1]
        deviation = _deviation(left[low:])
        found = low + int(left[low:].abs().argmax())
        if float(left[found].abs()) < max(_CLEAR * deviation, faintest) or found in lags:
            break
        lags.append(found)
        strength.append(float(left[found].abs()) / deviation)
        gains = torch.cat([gains, left[found : found + 1].clamp(-_LARGEST, _LARGEST)])
        gains = _mended(power, lags, gains, turns, grid)
    gains = _settled(given, lags, gains, high)
    order = gains.abs().argsort(descending=True)
    delays = np.array(lags, dtype=np.float64)[order.numpy()] / rate
    strengths = np.array(strength, dtype=np.float64)[order.numpy()]
    return Echoes(delays, gains[order].numpy(), deviation, strengths, cepstrum.numpy(), rate)


def _mended(power: Tensor, lags: list[int], gains: Tensor, turns: Tensor, grid: int) -> Tensor:
    """Return gains at which the cepstrum that is left has no peak at the lags."""
    # Each echo's peak is its gain to first order, whatever the others are: what is left of it is the gain's error.
    for _ in range(_MENDS):
        left = torch.fft.irfft(power - _of_echoes(lags, gains, turns), grid)[lags]
        gains = (gains + left).clamp(-_LARGEST, _LARGEST)
    return gains


def _settled(samples: Tensor, lags: list[int], gains: Tensor, longest: int) -> Tensor:
    """Return gains with which the recording, its echoes undone, has no peak at the lags.

    A recording that ends before its echo does has a gain of 0.8 look like 0.73; the recursion that undoes echoes needs no end.
    """
    for _ in range(_MENDS if lags else 0):
        if float(gains.abs().sum()) >= 1:
            return gains
        power = _mean_log_power(_undone(samples, lags, gains.tolist()), longest)
        left = torch.fft.irfft(power, 2 * (len(power) - 1))[lags]
        gains = (gains + left).clamp(-_LARGEST, _LARGEST)
    return gains


def _admitted(signal: Any, rate: float, shortest: float, longest: float, most: int) -> tuple[Tensor, int, int]:
    check_rate("find_echoes", rate)
    given = taken("find_echoes", signal, least=16)
    refuse_silence("find_echoes", given.samples)
    n = given.samples.shape[-1]
    if given.samples.ndim != 1:
        raise ShapeError(f"find_echoes: signal is {tuple(given.samples.shape)}, but (n,) of one channel was needed. Pass one.")
    told = 0 < shortest < longest < float("inf") and most >= 1  # False of NaN, too
    low, high = (round(shortest * rate), min(round(longest * rate), n // 3)) if told else (0, 0)
    if not 0 < low < high:
        raise ShapeError(
            f"find_echoes: delays of {shortest:g} to {longest:g} s and {most} echoes were asked for, but ascending delays "
            f"within a third of the {n / rate:.3g} s, and one echo or more, were needed."
        )
    # A step to an offset, where the recording begins, would be undone as sound; what is squared needs a size of about 1.
    sound = given.double().cpu()
    sound = sound / sound.abs().max()
    sound = sound - sound.mean()
    return (sound if not sound.any() else sound / sound.abs().max()), low, high


def _mean_log_power(samples: Tensor, longest: int) -> Tensor:
    """Return the logarithm of the power (m,), its mean over segments of a recording that is too long for one transform."""
    # One long transform: cut in frames, an echo is cut off at each end.
    count = -(-len(samples) // _SEGMENT)
    size = -(-len(samples) // count)
    grid = 1 << (size + longest).bit_length()
    total = torch.zeros(grid // 2 + 1, dtype=torch.float64)
    many = 0
    for part in samples.split(size):
        power = torch.fft.rfft(part - part.mean(), grid).abs().square()
        if float(power.max()) > 0:
            total += (power + _DRY * power.max()).log()
            many += 1
    return total / max(many, 1)


def _of_echoes(lags: list[int], gains: Tensor, turns: Tensor) -> Tensor:
    """Return the logarithm of the power |1 + sum of a z^t|^2."""
    response = torch.ones_like(turns, dtype=torch.complex128)
    for lag, gain in zip(lags, gains.tolist(), strict=True):
        response += torch.polar(torch.full_like(turns, 1.0), -turns * lag) * gain
    return response.abs().square().clamp(min=_DRY).log()


def _deviation(cepstrum: Tensor) -> float:
    """Return the standard deviation of what is no peak."""
    return float(cepstrum.abs().median()) / 0.6745


@checks_kinds_but("signal")
def remove_echo(
    signal: Any, rate: float, delay: float | Sequence[float] | None = None, gain: float | Sequence[float] | None = None
) -> Any:
    """Take echoes out of a recording by s(t) = y(t) - gain s(t - delay): the exact inverse, to rounding.

    Args:
        signal: (..., n), a NumPy array or a tensor.
        rate: samples a second.
        delay: seconds, rounded to whole samples; several for several echoes. None: those that `find_echoes` finds, which
            takes (n,). Their gains are off by `Echoes.deviation`, and as much of the echo stays.
        gain: of the direct sound, one for each delay.

    Returns:
        (..., n), the kind and float type of the signal.

    Raises:
        ShapeError: a gain of 1 or more (of several, together), whose recursion grows without end; a delay below one sample or
            beyond the recording; one of both is missing; nothing stands out.
        DtypeError, NonFinite: no real numbers; NaN or infinite samples, or a result beyond the range of its numbers.
    """
    check_rate("remove_echo", rate)
    given = taken("remove_echo", signal)
    if (delay is None) != (gain is None):
        raise ShapeError("remove_echo: delay and gain go together, but one of them is missing. Pass both, or neither.")
    if delay is None or gain is None:
        found = find_echoes(signal, rate)
        if not len(found.delays):
            raise ShapeError("remove_echo: no echo stands out. Pass delay and gain, or look at find_echoes(...).cepstrum.")
        delay, gain = found.delays.tolist(), found.gains.tolist()
    delays, gains = np.atleast_1d(np.asarray(delay, float)), np.atleast_1d(np.asarray(gain, float))
    lags = np.rint(delays * rate)
    n = given.samples.shape[-1]
    if len(delays) != len(gains) or not len(delays) or not ((lags >= 1) & (lags < n)).all():
        raise ShapeError(
            f"remove_echo: delays {delays.tolist()} s and gains {gains.tolist()} came, but as many of both, and delays of one "
            f"sample to {n / rate:.3g} s were needed."
        )
    if not np.abs(gains).sum() < 1:
        raise ShapeError(
            f"remove_echo: gains are {gains.tolist()}, together 1 or more, but less was needed: the inverse of a louder echo "
            "grows without end. Take the recording backwards, in which the loud copy comes first, with 1 / gain."
        )
    dry = _undone(given.double(), [int(lag) for lag in lags], gains.tolist()).to(given.samples.dtype)
    if not is_finite(dry):
        raise NonFinite("remove_echo: the result is beyond the range of its numbers. Scale the signal down.")
    return given.like(dry)


def _undone(observed: Tensor, lags: list[int], gains: list[float]) -> Tensor:
    dry, step, n = observed.clone(), min(lags), observed.shape[-1]
    # As many samples at once as the shortest echo is late: they need none of each other.
    for start in range(step, n, step):
        stop = min(n, start + step)
        for lag, gain in zip(lags, gains, strict=True):
            first = max(start, lag)
            if first < stop:
                dry[..., first:stop] -= gain * dry[..., first - lag : stop - lag]
    return dry
