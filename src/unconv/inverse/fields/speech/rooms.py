"""Deconvolution of rooms whose impulse responses are known: one dry signal from all microphones together."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import DtypeError, NonFinite, ShapeError, counted
from unconv.inverse.fields.speech.postfilter import short_time_wiener
from unconv.inverse.fields.speech.signal import Signal, as_signal, check_rate, refuse_silence
from unconv.inverse.operators.fourier import fast_length
from unconv.inverse.solvers.problems import is_finite
from unconv.inverse.solvers.search import golden_section
from unconv.kinds import checks_kinds_but

RoomMethod = Literal["wiener", "tikhonov", "mint"]

_PASSES = 4  # of EM, in which the voice's spectrum and the samples after the recording's end settle
_SMOOTHING = 60.0  # Hz over which a voice's long-term spectrum is smoothed
_UPDATES = 3  # of that spectrum for each noise level that is tried
_RIDGE = 1e-4  # of the largest gain: regularisation where only the samples after the recording's end are needed
_MIN_POWER = 1e-9  # of the spectrum's largest power: its least
_MAX_UNKNOWNS = 4096  # of MINT's linear system: more take minutes and gigabytes
_LOUD_NOISE = 0.1  # of the recording's power: more noise gets a note
_TOLERANCE = 1e-6  # how far the output of MINT's filters may be from the unit impulse


@dataclass(frozen=True, eq=False)
class InvertedRoom:
    """A dry signal and its expected error.

    Attributes:
        signal: (n,), the signal before it was convolved with the responses, in its own units.
        error: expected root mean square error of the signal if the responses are right; NaN for "mint", which estimates none.
        noise: standard deviation of a microphone's noise, as passed or estimated; NaN for "mint".
        condition: ratio of the largest to the smallest gain of all microphones together, over frequency. An exact inverse
            amplifies noise at some frequencies this many times more than at others.
        method: the method used.
        notes: anything unusual.
    """

    signal: Any
    error: float
    noise: float
    condition: float
    method: RoomMethod
    notes: tuple[str, ...] = ()


@checks_kinds_but("signals", "responses", "noise")
def invert_room(
    signals: Any, responses: Any, rate: float, noise: float | str = "estimate", method: RoomMethod = "wiener"
) -> InvertedRoom:
    """Return the dry signal of a room whose impulse responses are known, from all microphones together.

    A frequency that one microphone does not hear, because its response has almost no gain there, may be heard by another: each
    further microphone gains about 6 dB. The samples after the recording's end are estimated as well, so the recording may stop
    while the room still sounds.

    Args:
        signals: (D, n), a recording of D microphones, or (n,) of one.
        responses: (D, k), from the source to each microphone, or (k,); k is at most n.
        rate: samples a second of both.
        noise: standard deviation of a sample's noise in the signals' units, or "estimate". With several microphones the
            estimate is the part of the recording that no source can have caused. With one microphone it maximises the
            likelihood of a smooth spectrum.
        method: "wiener" is regularised at each frequency by the noise over the voice's long-term spectrum; a Wiener filter on
            short frames follows. "tikhonov" is regularised by the noise over the voice's mean power, equally at all
            frequencies. "mint" uses exact filters (see `mint_filters`), for short responses and almost no noise.

    Raises:
        ShapeError: shapes that do not fit; a silent microphone, or one whose response is zero; a negative noise.
        DtypeError, NonFinite: samples that are not real numbers; NaN or infinite samples, or a result that overflows.

    Source:
        Miyoshi & Kaneda, "Inverse filtering of room acoustics" (1988); Lim & Oppenheim, "Enhancement and
        bandwidth compression of noisy speech" (1979).
    """
    check_rate("invert_room", rate)
    recording, y, h = _checked(signals, responses)
    unknown = isinstance(noise, str) and noise == "estimate"
    if not unknown and (isinstance(noise, bool) or not isinstance(noise, Real)):
        raise DtypeError(f"invert_room: noise is {noise!r}, but a standard deviation or 'estimate' was needed.")
    if not unknown and not 0 <= float(noise) < float("inf"):
        raise ShapeError(f"invert_room: noise is {noise}, but 0 or more was needed. Pass a standard deviation or 'estimate'.")
    # Scaled to a peak of 1, so that squares neither overflow nor vanish.
    peak, gain = float(y.abs().max()), float(h.abs().max())
    room = _Room(y / peak, h / gain)
    notes = room.notes()
    if method == "mint":
        estimate = _filtered(y / peak, mint_filters_of(h / gain))
        return InvertedRoom(
            _rescaled(recording, estimate, peak, gain), float("nan"), float("nan"), room.condition, method, notes
        )
    level = room.noise(rate) if unknown else float(noise) / peak
    estimate, spectrum, error = room.solved(level, method == "wiener", rate)
    if method == "wiener" and level > 0 and room.n >= rate / 10:
        estimate, error = short_time_wiener(estimate, spectrum, rate)
    notes += room.doubts(level)
    signal = _rescaled(recording, estimate, peak, gain)
    return InvertedRoom(signal, error**0.5 * peak / gain, level * peak, room.condition, method, notes)


def _rescaled(recording: Signal, estimate: Tensor, peak: float, gain: float) -> Any:
    """Return a result in the units and the type of the recording."""
    # In two steps: peak / gain may overflow where the result does not.
    result = (estimate * peak / gain).to(recording.samples.dtype)
    if not is_finite(result):
        raise NonFinite(
            f"invert_room: the result is beyond the range of {str(result.dtype).removeprefix('torch.')}: the responses' "
            f"largest sample is {gain:.3g}, the recording's {peak:.3g}. Scale one of them."
        )
    return recording.like(result)


def _checked(signals: Any, responses: Any) -> tuple[Signal, Tensor, Tensor]:
    recording = as_signal("invert_room", signals)
    room = as_signal("invert_room", responses, "responses", least=1)
    y, h = torch.atleast_2d(recording.double()), torch.atleast_2d(room.double()).to(recording.samples.device)
    if y.ndim != 2 or h.ndim != 2 or len(y) != len(h):
        raise ShapeError(
            f"invert_room: signals are {tuple(recording.samples.shape)} and responses {tuple(room.samples.shape)}, but (D, n) "
            "and (D, k), one response for each microphone, were needed."
        )
    refuse_silence("invert_room", y, "recording")
    refuse_silence("invert_room", h, "responses")
    if h.shape[1] > y.shape[1]:
        raise ShapeError(
            f"invert_room: responses have {counted(h.shape[1], 'sample')}, but the recording only {y.shape[1]:,}. Cut the "
            "responses where they fade into noise."
        )
    return recording, y, h


class _Room:
    """Recordings y (D, n) of responses h (D, k), in the Fourier domain; only one microphone's spectra are in memory."""

    def __init__(self, y: Tensor, h: Tensor) -> None:
        self._y, self._h, self.n = y, h, y.shape[1]
        # Room for the convolution's end, and as much for the inverse's two-sided tails.
        self._grid = fast_length(self.n + 2 * h.shape[1])
        self._weights = torch.full((self._grid // 2 + 1,), 2.0, dtype=y.dtype, device=y.device)
        self._weights[0] = 1
        if self._grid % 2 == 0:
            self._weights[-1] = 1
        self._gain = torch.zeros_like(self._weights)
        for response in h:
            self._gain += self._transform(response).abs().square()
        # At a frequency where all responses are zero nothing is known; the regularised result is zero there.
        self._gain.clamp_(min=torch.finfo(y.dtype).tiny)

    @property
    def condition(self) -> float:
        return float((self._gain.max() / self._gain.min()).sqrt())

    def notes(self) -> tuple[str, ...]:
        quiet = float((self._gain < 1e-6 * self._gain.max()).double().mean())
        if quiet < 1e-3:
            return ()
        return (f"no microphone hears the source at {100 * quiet:.2g} % of the frequencies: they cannot be restored",)

    def doubts(self, noise: float) -> tuple[str, ...]:
        """Return a note if noise explains much of the recording: these may not be its responses."""
        share = noise**2 / float(self._y.square().mean())
        if share < _LOUD_NOISE:
            return ()
        return (
            f"noise makes up {100 * min(share, 1):.0f} % of the recording's power. If the recording is cleaner than that, "
            "these are not its responses, or their order, alignment, levels or rate do not match it",
        )

    def _transform(self, samples: Tensor) -> Tensor:
        spectrum: Tensor = torch.fft.rfft(samples, self._grid)
        return spectrum

    def _adjoint(self, estimate: Tensor | None) -> Tensor:
        """Return H* Y summed over microphones, with the samples after the recording's end from an estimate, or zero.

        This is the E-step of EM over the missing samples; each pass raises the likelihood. The estimate covers the entire grid:
        when it was cut to the recording's length, estimates of a measured room grew from pass to pass.
        """
        total = torch.zeros_like(self._gain, dtype=torch.complex128)
        spectrum = None if estimate is None else self._transform(estimate)
        for samples, response in zip(self._y, self._h, strict=True):
            h = self._transform(response)
            completed = F.pad(samples, (0, self._grid - self.n))
            if spectrum is not None:
                completed[self.n :] = torch.fft.irfft(h * spectrum, self._grid)[self.n :]
            total += h.conj() * self._transform(completed)
        return total

    def noise(self, rate: float) -> float:
        """Estimate the standard deviation of a microphone's noise."""
        count = len(self._y)
        if count == 1:
            return self._by_evidence(rate)
        # At each frequency the D recordings are a multiple of the D responses, whatever the source was. The part orthogonal to
        # the responses is noise, in D - 1 of D dimensions.
        strength = _RIDGE * self._gain.max()
        estimate = torch.fft.irfft(self._adjoint(None) / (self._gain + strength), self._grid)
        inside = (self._weights * self._adjoint(estimate).abs().square() / self._gain).sum() / self._grid
        residual = float(self._energy(estimate) - inside)
        return float((max(residual, 0.0) / ((count - 1) * self.n)) ** 0.5)

    def _energy(self, estimate: Tensor) -> Tensor:
        """Return the energy of the recordings, with the samples after their end from an estimate."""
        energy, spectrum = self._y.square().sum(), self._transform(estimate)
        for response in self._h:
            energy = energy + torch.fft.irfft(self._transform(response) * spectrum, self._grid)[self.n :].square().sum()
        return energy

    def _by_evidence(self, rate: float) -> float:
        """Return the noise of one microphone by maximum likelihood, given that the voice's spectrum is smooth.

        The nulls of the response show the noise, its peaks the voice. Generalised cross-validation does not use the smoothness:
        in a measured room it estimated three to twelve times the true noise.
        """
        observed = self._transform(self._y[0]).abs().square()
        mean = (self._weights * observed).sum() / self._grid
        power = torch.full_like(observed, float(mean / self._gain.mean()))

        def negative_log_likelihood(level: Tensor) -> Tensor:
            # The spectrum of the level tried before is a good start: a few EM updates suffice.
            nonlocal power
            for _ in range(_UPDATES):
                regularised = self._gain + level / power
                power = self._smoothed(self._gain * observed / regularised.square() + level / regularised, rate)
                power = power.clamp(min=_MIN_POWER * float(power.max()))
            expected = self._gain * power + level
            return (self._weights * (expected.log() + observed / expected)).sum().reshape(1)

        level = golden_section(negative_log_likelihood, 1e-12 * mean.reshape(1), mean.reshape(1), 25, 12)
        return float((level / self.n).sqrt())

    def solved(self, noise: float, shaped: bool, rate: float) -> tuple[Tensor, Tensor, float]:
        """Return the signal (n,) by EM, the power spectrum of the noise in it, and its mean square error.

        Args:
            noise: standard deviation of a microphone's noise.
            shaped: whether the prior is the signal's own smooth spectrum, estimated along with it, rather than a flat one.
            rate: samples a second.
        """
        estimate, energy = None, self.n * noise**2
        power = self._first_power(energy)
        for _ in range(_PASSES):
            strength = energy / power
            spectrum = self._adjoint(estimate) / (self._gain + strength).clamp(min=torch.finfo(power.dtype).tiny)
            estimate = torch.fft.irfft(spectrum, self._grid)
            # Without the posterior variance, the second term, the estimate would become softer in every pass.
            expected = self._transform(estimate).abs().square() + energy / (self._gain + strength)
            power = self._smoothed(expected, rate) if shaped else self._mean(expected)
            power = power.clamp(min=_MIN_POWER * float(power.max()))
        error = (self._weights * noise**2 / (self._gain + strength)).sum() / self._grid
        assert estimate is not None
        return estimate[: self.n], noise**2 * self._gain / (self._gain + strength).square(), float(error)

    def _first_power(self, energy: float) -> Tensor:
        """Return the mean power of the signal: that of the recordings minus the noise, over the responses' energy."""
        clean = (self._y.square().sum() - len(self._y) * energy).clamp(min=1e-3 * self._y.square().sum())
        return torch.full_like(self._gain, float(clean / self._h.square().sum()))

    def _mean(self, power: Tensor) -> Tensor:
        return torch.full_like(power, float((self._weights * power).sum() / self._grid))

    def _smoothed(self, power: Tensor, rate: float) -> Tensor:
        half = max(1, round(_SMOOTHING / 2 * self._grid / rate))
        half = min(half, len(power) - 1)
        window = torch.hann_window(2 * half + 1, periodic=False, dtype=power.dtype, device=power.device)
        mirrored = torch.cat([power[1 : half + 1].flip(0), power, power[-half - 1 : -1].flip(0)])
        grid = fast_length(len(mirrored) + len(window))
        spectrum = torch.fft.rfft(mirrored, grid) * torch.fft.rfft(window / window.sum(), grid)
        smooth: Tensor = torch.fft.irfft(spectrum, grid)[2 * half : 2 * half + len(power)]
        return smooth.clamp(min=0)


@checks_kinds_but("responses")
def mint_filters(responses: Any, length: int | None = None, delay: int = 0) -> Any:
    """Return finite filters that invert several responses exactly (MINT).

    The responses, each convolved with its own filter, add up to a unit impulse: sum over d of h[d] * g[d] is 1 at `delay` and 0
    elsewhere. A single response has no finite inverse. Two or more have one unless all of them share a zero.

    Args:
        responses: (D, k), of two or more microphones.
        length: samples of each filter. By default (k - 1) / (D - 1), rounded up, the shortest that can invert any responses.
        delay: sample at which the impulse appears.

    Returns:
        (D, length), in the type of the responses.

    Raises:
        ShapeError: a single response; a filter that is too short; too many unknowns; responses that share a zero, so that the
            output is not an impulse.
        DtypeError, NonFinite: samples that are not real numbers; NaN or infinite samples.

    Source:
        Miyoshi & Kaneda, "Inverse filtering of room acoustics" (1988).
    """
    room = as_signal("mint_filters", responses, "responses", least=1)
    h = room.double()
    gain = h.abs().max()
    return room.like((mint_filters_of(h / torch.where(gain > 0, gain, 1), length, delay) / gain).to(room.samples.dtype))


def mint_filters_of(h: Tensor, length: int | None = None, delay: int = 0) -> Tensor:
    """Return MINT's filters in float64: see `mint_filters`."""
    if h.ndim != 2 or len(h) < 2 or h.shape[1] < 2:
        raise ShapeError(
            f"mint_filters: responses are {tuple(h.shape)}, but (D, k) with D and k of 2 or more was needed: one response has "
            "no finite inverse. Pass the responses of two or more microphones."
        )
    refuse_silence("mint_filters", h, "responses")
    count, k = h.shape
    least = -(-(k - 1) // (count - 1))
    size = least if length is None else length
    if size < least or not 0 <= delay < size + k - 1:
        raise ShapeError(
            f"mint_filters: length is {size} and delay {delay}, but a length of {least} or more samples and a delay below "
            f"{size + k - 1} were needed."
        )
    if count * size > _MAX_UNKNOWNS:
        raise ShapeError(
            f"mint_filters: {count} filters of {size} samples are {count * size} unknowns, but at most {_MAX_UNKNOWNS} can be "
            "solved for. Cut the responses, or use invert_room(method='wiener')."
        )
    columns = torch.stack([F.pad(h, (shift, size - 1 - shift)) for shift in range(size)], 1)
    matrix = columns.reshape(count * size, size + k - 1).T
    impulse = torch.zeros(size + k - 1, dtype=h.dtype, device=h.device)
    impulse[delay] = 1
    # "gelsd" returns the solution of least energy, which amplifies noise least, and works for singular systems too.
    solution: Tensor = torch.linalg.lstsq(matrix.cpu(), impulse[:, None].cpu(), driver="gelsd").solution.to(h.device)
    error = float((matrix @ solution - impulse[:, None]).abs().max())
    if error > _TOLERANCE:
        raise ShapeError(
            f"mint_filters: the filtered responses differ from an impulse by {error:.2g}, because they have zeros in common, "
            "such as a loudspeaker's. Use invert_room(method='wiener'), which needs no exact inverse."
        )
    filters: Tensor = solution[:, 0].reshape(count, size)
    return filters


def _filtered(y: Tensor, filters: Tensor) -> Tensor:
    grid = fast_length(y.shape[1] + filters.shape[1])
    spectrum = (torch.fft.rfft(y, grid) * torch.fft.rfft(filters, grid)).sum(0)
    filtered: Tensor = torch.fft.irfft(spectrum, grid)[: y.shape[1]]
    return filtered
