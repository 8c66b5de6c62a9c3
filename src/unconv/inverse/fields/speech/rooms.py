"""Rooms whose impulse responses are known: one dry signal from all microphones together."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import DtypeError, NonFinite, ShapeError
from unconv.inverse.fields.speech.postfilter import short_time_wiener
from unconv.inverse.fields.speech.signal import Given, check_rate, refuse_silence, taken
from unconv.inverse.operators.fourier import fast_length
from unconv.inverse.solvers.problems import is_finite
from unconv.inverse.solvers.search import golden_section
from unconv.kinds import checks_kinds_but

RoomMethod = Literal["wiener", "tikhonov", "mint"]

_PASSES = 4  # in which the voice's spectrum and the samples after the recording's end settle
_SMOOTH = 60.0  # Hz, over which a voice's long-term spectrum is taken to be smooth
_UPDATES = 3  # of that spectrum, at each noise that is tried
_RIDGE = 1e-4  # of the largest gain, where only the end of a recording has to be known
_FAINT = 1e-9  # of the spectrum's largest power, that it has at least
_UNKNOWNS = 4096  # of MINT's linear system: more take minutes and gigabytes
_FOREIGN = 0.1  # of the recording's power: more noise is told
_EXACT = 1e-6  # of the spike that MINT's filters have to make


@dataclass(frozen=True, eq=False)
class InvertedRoom:
    """A dry signal, and how sure it is.

    Attributes:
        signal: (n,), what the responses were convolved with, in its units.
        error: the root mean square error that is expected of it if the responses are right; NaN by "mint", which takes none.
        noise: the standard deviation of a microphone's noise, as it was given or estimated.
        condition: the largest over the smallest gain of all microphones together, along frequency: how much louder an exact
            inverse makes some noise than other.
        method: the method used.
        notes: what is odd.
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
    """Undo a room whose impulse responses are known, with all microphones together.

    What one microphone does not hear, because its response has next to no gain at a frequency, another one does: each further
    one gains some 6 dB. Samples that would come after the recording's end are estimated as well, so that it may stop while the
    room still sounds.

    Args:
        signals: (D, n), a recording of D microphones, or (n,) of one.
        responses: (D, k), from the source to each, or (k,); k up to n.
        rate: samples a second, of both.
        noise: standard deviation of a sample's noise in the signals' units, or "estimate": with several microphones from what
            no source can have made, with one by the likelihood of a smooth spectrum.
        method: "wiener": regularised by the noise over the voice's own long-term spectrum, then frame by frame; "tikhonov": by
            the noise over the voice's mean power, alike at all frequencies; "mint": exact filters (see `mint_filters`), for
            short responses and next to no noise.

    Raises:
        ShapeError: shapes that do not fit; a silent microphone, or one whose response is zero; no noise above or at zero.
        DtypeError, NonFinite: no real numbers; NaN or infinite samples, or a result beyond the range of its numbers.

    Source:
        Miyoshi & Kaneda, "Inverse filtering of room acoustics" (1988); Lim & Oppenheim, "Enhancement and
        bandwidth compression of noisy speech" (1979).
    """
    check_rate("invert_room", rate)
    given, y, h = _admitted(signals, responses)
    unknown = isinstance(noise, str) and noise == "estimate"
    if not unknown and (isinstance(noise, bool) or not isinstance(noise, Real)):
        raise DtypeError(f"invert_room: noise is {noise!r}, but 'estimate' or a standard deviation was needed.")
    if not unknown and not 0 <= float(noise) < float("inf"):
        raise ShapeError(f"invert_room: noise is {noise}, but 0 or more was needed. Or pass 'estimate'.")
    # Of size 1, neither leaves the range of numbers when it is squared.
    loud, gain = float(y.abs().max()), float(h.abs().max())
    room = _Room(y / loud, h / gain)
    notes = room.notes()
    if method == "mint":
        made = _filtered(y / loud, mint_filters_of(h / gain))
        return InvertedRoom(_back(given, made, loud, gain), float("nan"), float("nan"), room.condition, method, notes)
    level = room.noise(rate) if unknown else float(noise) / loud
    estimate, spectrum, error = room.solved(level, method == "wiener", rate)
    if method == "wiener" and level > 0 and room.n >= rate / 10:
        estimate, error = short_time_wiener(estimate, spectrum, rate)
    notes += room.doubts(level)
    signal = _back(given, estimate, loud, gain)
    return InvertedRoom(signal, error**0.5 * loud / gain, level * loud, room.condition, method, notes)


def _back(given: Given, made: Tensor, loud: float, gain: float) -> Any:
    """Return a result in the units and the kind of the recording."""
    # One after the other: their quotient may be beyond all numbers where the result is not.
    result = (made * loud / gain).to(given.samples.dtype)
    if not is_finite(result):
        raise NonFinite(
            f"invert_room: the result is beyond what {str(result.dtype).removeprefix('torch.')} holds: responses are as small "
            f"as {gain:.3g}, and the recording as large as {loud:.3g}. Scale one of them."
        )
    return given.like(result)


def _admitted(signals: Any, responses: Any) -> tuple[Given, Tensor, Tensor]:
    given, told = taken("invert_room", signals), taken("invert_room", responses, "responses", least=1)
    y, h = torch.atleast_2d(given.double()), torch.atleast_2d(told.double()).to(given.samples.device)
    if y.ndim != 2 or h.ndim != 2 or len(y) != len(h):
        raise ShapeError(
            f"invert_room: signals are {tuple(given.samples.shape)} and responses {tuple(told.samples.shape)}, but (D, n) and "
            "(D, k), one response for each microphone, were needed."
        )
    refuse_silence("invert_room", y, "recording")
    refuse_silence("invert_room", h, "responses")
    if h.shape[1] > y.shape[1]:
        raise ShapeError(
            f"invert_room: responses have {h.shape[1]} samples, but the recording only {y.shape[1]}. Cut them to where they "
            "are not noise."
        )
    return given, y, h


class _Room:
    """Recordings y (D, n) of responses h (D, k), in the Fourier domain: microphones are summed up one by one."""

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
        # Where all responses are zero nothing is known; the regularisation leaves zero there.
        self._gain.clamp_(min=torch.finfo(y.dtype).tiny)

    @property
    def condition(self) -> float:
        return float((self._gain.max() / self._gain.min()).sqrt())

    def notes(self) -> tuple[str, ...]:
        quiet = float((self._gain < 1e-6 * self._gain.max()).double().mean())
        if quiet < 1e-3:
            return ()
        return (f"at {100 * quiet:.2g} % of the frequencies no microphone hears the source: nothing comes back there",)

    def doubts(self, noise: float) -> tuple[str, ...]:
        """Say that these may not be the responses of this recording, where noise explains much of it."""
        share = noise**2 / float(self._y.square().mean())
        if share < _FOREIGN:
            return ()
        return (
            f"noise is {100 * min(share, 1):.0f} % of the recording's power: if it was not that loud, these are not the "
            "responses of this recording, or their order, alignment, levels or rate differ from it",
        )

    def _transform(self, samples: Tensor) -> Tensor:
        spectrum: Tensor = torch.fft.rfft(samples, self._grid)
        return spectrum

    def _backed(self, after: Tensor | None) -> Tensor:
        """Return H* Y summed over microphones; after the end come the samples that an estimate makes, or zeros.

        The estimate is that of the whole grid, and so are the samples: this is the EM algorithm, each pass of which makes the
        recording likelier. Cut to the recording's length, estimates of a measured room grew from pass to pass.
        """
        total = torch.zeros_like(self._gain, dtype=torch.complex128)
        made = None if after is None else self._transform(after)
        for samples, response in zip(self._y, self._h, strict=True):
            h = self._transform(response)
            whole = F.pad(samples, (0, self._grid - self.n))
            if made is not None:
                whole[self.n :] = torch.fft.irfft(h * made, self._grid)[self.n :]
            total += h.conj() * self._transform(whole)
        return total

    def noise(self, rate: float) -> float:
        """Estimate the standard deviation of a microphone's noise."""
        count = len(self._y)
        if count == 1:
            return self._by_evidence(rate)
        # What lies across the responses at each frequency is noise, whatever the source was.
        strength = _RIDGE * self._gain.max()
        after = torch.fft.irfft(self._backed(None) / (self._gain + strength), self._grid)
        inside = (self._weights * self._backed(after).abs().square() / self._gain).sum() / self._grid
        left = float(self._energy(after) - inside)
        return float((max(left, 0.0) / ((count - 1) * self.n)) ** 0.5)

    def _energy(self, after: Tensor) -> Tensor:
        """Return the energy of the recordings and of the samples that an estimate makes after their end."""
        energy, made = self._y.square().sum(), self._transform(after)
        for response in self._h:
            energy = energy + torch.fft.irfft(self._transform(response) * made, self._grid)[self.n :].square().sum()
        return energy

    def _by_evidence(self, rate: float) -> float:
        """Find the noise under which a smooth spectrum behind one response is most likely to have made the recording.

        The response's nulls show the noise, its peaks the voice. Generalised cross-validation knows nothing of a voice's
        spectrum, and took three to twelve times the noise of a measured room.
        """
        seen = self._transform(self._y[0]).abs().square()
        mean = (self._weights * seen).sum() / self._grid
        power = torch.full_like(seen, float(mean / self._gain.mean()))

        def surprise(level: Tensor) -> Tensor:
            nonlocal power
            for _ in range(_UPDATES):
                wanted = self._gain + level / power
                power = self._smoothed(self._gain * seen / wanted.square() + level / wanted, rate)
                power = power.clamp(min=_FAINT * float(power.max()))
            expected = self._gain * power + level
            return (self._weights * (expected.log() + seen / expected)).sum().reshape(1)

        found = golden_section(surprise, 1e-12 * mean.reshape(1), mean.reshape(1), 25, 12)
        return float((found / self.n).sqrt())

    def solved(self, noise: float, shaped: bool, rate: float) -> tuple[Tensor, Tensor, float]:
        """Return the signal (n,), the power spectrum of the noise in it, and its mean square error.

        Args:
            noise: standard deviation. `shaped`: by the spectrum of the signal itself, found as it is solved for.
        """
        after, energy = None, self.n * noise**2
        power = self._first_power(energy)
        for _ in range(_PASSES):
            strength = energy / power
            solved = self._backed(after) / (self._gain + strength).clamp(min=torch.finfo(power.dtype).tiny)
            after = torch.fft.irfft(solved, self._grid)
            # What is not sure counts as power too, or the estimate would be made softer in every pass.
            seen = self._transform(after).abs().square() + energy / (self._gain + strength)
            power = self._smoothed(seen, rate) if shaped else self._mean(seen)
            power = power.clamp(min=_FAINT * float(power.max()))
        error = (self._weights * noise**2 / (self._gain + strength)).sum() / self._grid
        assert after is not None
        return after[: self.n], noise**2 * self._gain / (self._gain + strength).square(), float(error)

    def _first_power(self, energy: float) -> Tensor:
        """Return the mean power of the signal: that of the recordings without noise, over the responses' energy."""
        sound = (self._y.square().sum() - len(self._y) * energy).clamp(min=1e-3 * self._y.square().sum())
        return torch.full_like(self._gain, float(sound / self._h.square().sum()))

    def _mean(self, power: Tensor) -> Tensor:
        return torch.full_like(power, float((self._weights * power).sum() / self._grid))

    def _smoothed(self, power: Tensor, rate: float) -> Tensor:
        half = max(1, round(_SMOOTH / 2 * self._grid / rate))
        half = min(half, len(power) - 1)
        window = torch.hann_window(2 * half + 1, periodic=False, dtype=power.dtype, device=power.device)
        mirrored = torch.cat([power[1 : half + 1].flip(0), power, power[-half - 1 : -1].flip(0)])
        grid = fast_length(len(mirrored) + len(window))
        spectrum = torch.fft.rfft(mirrored, grid) * torch.fft.rfft(window / window.sum(), grid)
        smooth: Tensor = torch.fft.irfft(spectrum, grid)[2 * half : 2 * half + len(power)]
        return smooth.clamp(min=0)


@checks_kinds_but("responses")
def mint_filters(responses: Any, length: int | None = None, delay: int = 0) -> Any:
    """Return filters that undo several responses exactly, all of them finite (MINT).

    The responses, filtered each by its own filter, add up to a spike: sum over d of h[d] * g[d] = 1 at `delay`, 0 elsewhere.
    One response alone has no finite inverse; two or more have, as long as no zero is common to all of them.

    Args:
        responses: (D, k), of two microphones or more.
        length: samples of each filter; by default (k - 1) / (D - 1), rounded up, the least with which any responses are undone.
        delay: sample at which the spike comes out.

    Returns:
        (D, length), in the kind of the responses.

    Raises:
        ShapeError: one response; a filter that is too short; too many unknowns; zeros that are common to all responses, so that
            what comes out is no spike. DtypeError, NonFinite: no real numbers; NaN or infinite samples.

    Source:
        Miyoshi & Kaneda, "Inverse filtering of room acoustics" (1988).
    """
    given = taken("mint_filters", responses, "responses", least=1)
    h = given.double()
    gain = h.abs().max()
    return given.like((mint_filters_of(h / torch.where(gain > 0, gain, 1), length, delay) / gain).to(given.samples.dtype))


def mint_filters_of(h: Tensor, length: int | None = None, delay: int = 0) -> Tensor:
    """Return MINT's filters in float64: see `mint_filters`."""
    if h.ndim != 2 or len(h) < 2 or h.shape[1] < 2:
        raise ShapeError(
            f"mint_filters: responses are {tuple(h.shape)}, but (D, k) of two microphones or more, with two samples or more, "
            "were needed: one response has no finite inverse."
        )
    refuse_silence("mint_filters", h, "responses")
    count, k = h.shape
    least = -(-(k - 1) // (count - 1))
    size = least if length is None else length
    if size < least or not 0 <= delay < size + k - 1:
        raise ShapeError(
            f"mint_filters: length is {size} and delay {delay}, but {least} or more samples, and a delay below {size + k - 1}, "
            "were needed."
        )
    if count * size > _UNKNOWNS:
        raise ShapeError(
            f"mint_filters: {count} filters of {size} samples are {count * size} unknowns, but at most {_UNKNOWNS} are solved "
            "for. Cut the responses, or use invert_room(method='wiener')."
        )
    columns = torch.stack([F.pad(h, (place, size - 1 - place)) for place in range(size)], 1)
    matrix = columns.reshape(count * size, size + k - 1).T
    wanted = torch.zeros(size + k - 1, dtype=h.dtype, device=h.device)
    wanted[delay] = 1
    # The least energy of all filters that do it raises noise least; "gelsd" also tells a system that has none.
    solved: Tensor = torch.linalg.lstsq(matrix.cpu(), wanted[:, None].cpu(), driver="gelsd").solution.to(h.device)
    left = float((matrix @ solved - wanted[:, None]).abs().max())
    if left > _EXACT:
        raise ShapeError(
            f"mint_filters: what comes out differs from a spike by {left:.2g}: the responses have zeros in common, such as a "
            "filter of the loudspeaker. Use invert_room(method='wiener'), which needs no exact inverse."
        )
    filters: Tensor = solved[:, 0].reshape(count, size)
    return filters


def _filtered(y: Tensor, filters: Tensor) -> Tensor:
    grid = fast_length(y.shape[1] + filters.shape[1])
    spectrum = (torch.fft.rfft(y, grid) * torch.fft.rfft(filters, grid)).sum(0)
    made: Tensor = torch.fft.irfft(spectrum, grid)[: y.shape[1]]
    return made
