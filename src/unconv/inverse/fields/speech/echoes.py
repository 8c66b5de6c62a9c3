"""Echoes in a recording: found in its cepstrum, and removed by the recursion that inverts them exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unconv.errors import NonFinite, ShapeError
from unconv.inverse.fields.speech.signal import as_signal, check_rate, refuse_silence
from unconv.inverse.solvers.problems import is_finite
from unconv.kinds import checks_kinds_but

_SEGMENT = 2**21  # samples that are transformed at a time
_THRESHOLD = 10.0  # an echo exceeds this many standard deviations of the cepstrum: speech has more outliers than noise
_MAX_GAIN = 0.98  # the inverse of an echo of gain 1 does not decay
_FLOOR = 1e-12  # share of the largest power that is added: bands that were filtered out have no logarithm
_PASSES = 4  # of refinement, in which the gains of several echoes settle


@dataclass(frozen=True, eq=False)
class Echoes:
    """Echoes of a recording, strongest first: y(t) = s(t) + gains[0] s(t - delays[0]) + ...

    Attributes:
        delays: (K,), seconds, each an integer number of samples.
        gains: (K,), from -1 to 1, relative to the direct sound; negative for an echo of reversed polarity.
        deviation: standard deviation of a gain.
        strength: (K,), height of each peak when it was found, in standard deviations.
        cepstrum: (m,), power cepstrum of the recording at quefrencies of 0, 1, ... samples, up to the longest delay.
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
    """Return the single echoes of a recording, found as peaks of its power cepstrum.

    An echo is a later copy of the entire sound that is no louder than the sound. With gain a at lag t it multiplies the power
    spectrum by |1 + a z^t|^2, which adds (-1)^(k + 1) a^k / k to the cepstrum at quefrency k t: a peak of height a and its
    multiples. Reverberation consists of thousands of echoes, and only its strongest stand out. A later copy that is louder than
    the first looks like one of gain 1 / a, since the power cepstrum cannot tell which came first.

    Args:
        signal: (n,), one channel, since each microphone hears its own echoes.
        rate: samples a second.
        shortest, longest: range of delays that is searched, in seconds. A voice has peaks of its pitch from 2 to 16 ms;
            echoes that early are clear in music and noise only.
        most: largest number of echoes, found one after the other.
        faintest: smallest gain of an echo. An echo must also exceed ten standard deviations: speech itself, recorded dry, has
            peaks of 0.04.

    Raises:
        ShapeError: another shape than (n,); silence; delays that are not ascending, or beyond a third of the recording.
        DtypeError, NonFinite: samples that are not real numbers; NaN or infinite samples.

    Source:
        Bogert, Healy & Tukey, "The quefrency alanysis of time series for echoes" (1963).

    Example:
        >>> sound = np.random.default_rng(0).standard_normal(20000)
        >>> sound[800:] += 0.5 * sound[:-800].copy()
        >>> find_echoes(sound, 8000, most=1).delays
        array([0.1])
    """
    samples, low, high = _checked(signal, rate, shortest, longest, most)
    log_power = _mean_log_power(samples, high)
    grid = 2 * (len(log_power) - 1)
    angles = torch.arange(len(log_power), dtype=torch.float64) * (2 * torch.pi / grid)
    cepstrum = torch.fft.irfft(log_power, grid)[: high + 1]
    lags, gains, strength = list[int](), torch.zeros(0, dtype=torch.float64), list[float]()
    deviation = _deviation(cepstrum[low:])
    # Greedy, strongest first: what the echoes found so far explain is subtracted, or their multiples would look like echoes.
    while len(lags) < most:
        residual = torch.fft.irfft(log_power - _log_power_of_echoes(lags, gains, angles), grid)[: high + 1]
        deviation = _deviation(residual[low:])
        peak = low + int(residual[low:].abs().argmax())
        if float(residual[peak].abs()) < max(_THRESHOLD * deviation, faintest) or peak in lags:
            break
        lags.append(peak)
        strength.append(float(residual[peak].abs()) / deviation)
        gains = torch.cat([gains, residual[peak : peak + 1].clamp(-_MAX_GAIN, _MAX_GAIN)])
        gains = _refined(log_power, lags, gains, angles, grid)
    gains = _refined_by_inversion(samples, lags, gains, high)
    order = gains.abs().argsort(descending=True)
    delays = np.array(lags, dtype=np.float64)[order.numpy()] / rate
    strengths = np.array(strength, dtype=np.float64)[order.numpy()]
    return Echoes(delays, gains[order].numpy(), deviation, strengths, cepstrum.numpy(), rate)


def _refined(log_power: Tensor, lags: list[int], gains: Tensor, angles: Tensor, grid: int) -> Tensor:
    """Return gains for which the residual cepstrum has no peak at the lags."""
    # To first order an echo's peak is its gain, independent of the other echoes: the residual peak is the gain's error.
    for _ in range(_PASSES):
        residual = torch.fft.irfft(log_power - _log_power_of_echoes(lags, gains, angles), grid)[lags]
        gains = (gains + residual).clamp(-_MAX_GAIN, _MAX_GAIN)
    return gains


def _refined_by_inversion(samples: Tensor, lags: list[int], gains: Tensor, longest: int) -> Tensor:
    """Return gains for which the recording, its echoes removed, has no peak at the lags.

    If a recording ends before its echo does, a gain of 0.8 looks like 0.73. The recursion that removes echoes does not need
    the end.
    """
    for _ in range(_PASSES if lags else 0):
        # The recursion does not decay for such gains.
        if float(gains.abs().sum()) >= 1:
            return gains
        log_power = _mean_log_power(_without_echoes(samples, lags, gains.tolist()), longest)
        residual = torch.fft.irfft(log_power, 2 * (len(log_power) - 1))[lags]
        gains = (gains + residual).clamp(-_MAX_GAIN, _MAX_GAIN)
    return gains


def _checked(signal: Any, rate: float, shortest: float, longest: float, most: int) -> tuple[Tensor, int, int]:
    check_rate("find_echoes", rate)
    recording = as_signal("find_echoes", signal, least=16)
    refuse_silence("find_echoes", recording.samples)
    n = recording.samples.shape[-1]
    if recording.samples.ndim != 1:
        raise ShapeError(
            f"find_echoes: signal is {tuple(recording.samples.shape)}, but (n,) of one channel was needed. Pass one channel."
        )
    valid = 0 < shortest < longest < float("inf") and most >= 1  # False of NaN, too
    low, high = (round(shortest * rate), min(round(longest * rate), n // 3)) if valid else (0, 0)
    if not 0 < low < high:
        raise ShapeError(
            f"find_echoes: delays are {shortest:g} to {longest:g} s and most is {most}, but ascending delays within a third "
            f"of the recording's {n / rate:.3g} s, and most of 1 or more, were needed."
        )
    # An offset begins with a step, which would look like sound. Scaled to about 1, because the samples are squared later.
    sound = recording.double().cpu()
    sound = sound / sound.abs().max()
    sound = sound - sound.mean()
    return (sound if not sound.any() else sound / sound.abs().max()), low, high


def _mean_log_power(samples: Tensor, longest: int) -> Tensor:
    """Return the logarithm of the power spectrum (m,), averaged over segments if the recording is too long for one."""
    # Segments as long as possible rather than short frames, which would each cut off the echoes of their last samples.
    count = -(-len(samples) // _SEGMENT)
    size = -(-len(samples) // count)
    grid = 1 << (size + longest).bit_length()
    total = torch.zeros(grid // 2 + 1, dtype=torch.float64)
    segments = 0
    for segment in samples.split(size):
        power = torch.fft.rfft(segment - segment.mean(), grid).abs().square()
        if float(power.max()) > 0:
            total += (power + _FLOOR * power.max()).log()
            segments += 1
    return total / max(segments, 1)


def _log_power_of_echoes(lags: list[int], gains: Tensor, angles: Tensor) -> Tensor:
    """Return log |1 + sum of a z^t|^2 over echoes of gain a at lag t."""
    response = torch.ones_like(angles, dtype=torch.complex128)
    for lag, gain in zip(lags, gains.tolist(), strict=True):
        response += torch.polar(torch.full_like(angles, 1.0), -angles * lag) * gain
    return response.abs().square().clamp(min=_FLOOR).log()


def _deviation(cepstrum: Tensor) -> float:
    """Return the standard deviation of a cepstrum without its peaks, from the median magnitude."""
    # 0.6745 is the median magnitude of a standard normal variable.
    return float(cepstrum.abs().median()) / 0.6745


@checks_kinds_but("signal")
def remove_echo(
    signal: Any, rate: float, delay: float | Sequence[float] | None = None, gain: float | Sequence[float] | None = None
) -> Any:
    """Remove echoes from a recording by the exact inverse s(t) = y(t) - gain s(t - delay).

    Args:
        signal: (..., n), a NumPy array or a tensor.
        rate: samples a second.
        delay: seconds, rounded to an integer number of samples; a list for several echoes. By default the echoes that
            `find_echoes` finds, for a signal (n,). Their gains have the error `Echoes.deviation`, and that much of the echo
            remains.
        gain: relative to the direct sound, one for each delay.

    Returns:
        (..., n), in the type of the signal.

    Raises:
        ShapeError: gains whose magnitudes sum to 1 or more, for which the recursion grows without limit; a delay below one
            sample or beyond the recording; only one of delay and gain; no echo found.
        DtypeError, NonFinite: samples that are not real numbers; NaN or infinite samples, or a result that overflows.
    """
    check_rate("remove_echo", rate)
    recording = as_signal("remove_echo", signal)
    if (delay is None) != (gain is None):
        raise ShapeError("remove_echo: delay and gain go together, but one of them is missing. Pass both, or neither.")
    if delay is None or gain is None:
        echoes = find_echoes(signal, rate)
        if not len(echoes.delays):
            raise ShapeError(
                "remove_echo: no echo stands out in the cepstrum. Pass delay and gain, or look at find_echoes(...).cepstrum."
            )
        delay, gain = echoes.delays.tolist(), echoes.gains.tolist()
    delays, gains = np.atleast_1d(np.asarray(delay, float)), np.atleast_1d(np.asarray(gain, float))
    lags = np.rint(delays * rate)
    n = recording.samples.shape[-1]
    if len(delays) != len(gains) or not len(delays) or not ((lags >= 1) & (lags < n)).all():
        raise ShapeError(
            f"remove_echo: delays are {delays.tolist()} s and gains {gains.tolist()}, but one gain for each delay, and delays "
            f"from one sample to {n / rate:.3g} s were needed."
        )
    # The recursion's response decays if the magnitudes sum to less than 1; polarities and delays then do not matter.
    if not np.abs(gains).sum() < 1:
        raise ShapeError(
            f"remove_echo: gains are {gains.tolist()}, whose magnitudes sum to 1 or more, but a sum below 1 was needed: the "
            "inverse of louder echoes grows without limit. Reverse the recording in time, so that the loud copy comes first, "
            "and pass 1 / gain."
        )
    dry = _without_echoes(recording.double(), [int(lag) for lag in lags], gains.tolist()).to(recording.samples.dtype)
    if not is_finite(dry):
        raise NonFinite("remove_echo: the result is beyond the range of its number type. Scale the signal down.")
    return recording.like(dry)


def _without_echoes(observed: Tensor, lags: list[int], gains: list[float]) -> Tensor:
    dry, step, n = observed.clone(), min(lags), observed.shape[-1]
    # In blocks as long as the shortest lag: samples within one block do not depend on each other.
    for start in range(step, n, step):
        stop = min(n, start + step)
        for lag, gain in zip(lags, gains, strict=True):
            first = max(start, lag)
            if first < stop:
                dry[..., first:stop] -= gain * dry[..., first - lag : stop - lag]
    return dry
