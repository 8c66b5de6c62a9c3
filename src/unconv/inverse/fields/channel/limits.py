"""Compute the limits of equalisation: errors of infinite-length equalisers, minimum distances, and bounds on error rates."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from math import exp, inf, log10, pi
from typing import Any

import torch
from torch import Tensor

from unconv.errors import DtypeError, ShapeError, counted
from unconv.inverse.solvers.arrays import as_samples, like
from unconv.inverse.solvers.trellis_blocks import admitted_points
from unconv.kinds import checks_kinds_but

_FEWEST, _MOST = 2**10, 2**18  # frequencies over which spectra are averaged
_SETTLED = 1e-10  # relative change, from twice as many frequencies, below which a mean has converged
_WITHIN, _HEAVIEST = 1.25, 12  # error events that are summed: squared distance over the least; symbols that differ
_MAX_STATES = 2**20  # states that a search over error events may visit


@dataclass(frozen=True)
class InfiniteLength:
    """Mean squared errors of equalisers of infinite length, for symbols of power 1.

    Attributes:
        linear, feedback: MMSE equalisers, linear and with decision feedback (Salz).
        zero_forcing, zero_forcing_feedback: zero-forcing equalisers, whose error is all noise; the first is infinite where the
            channel has a spectral null.
    """

    linear: float
    feedback: float
    zero_forcing: float
    zero_forcing_feedback: float


@checks_kinds_but("taps", "noise")
def infinite_length(taps: Any, noise: Any) -> InfiniteLength:
    """Return the mean squared errors of infinite-length equalisers for a known channel, without error propagation.

    With S = sum over sub-channels of |H_p|^2 / noise_p^2 they are means over frequency: mean 1/(1 + S) for linear MMSE, exp
    mean ln 1/(1 + S) with feedback, mean 1/S for zero forcing, exp mean ln 1/S with feedback. A mean of 1/S that has not
    converged with 2^18 frequencies, because of a spectral null, counts as infinite.

    Args:
        taps: (P, L), or (L,), real or complex, of sub-channels at one sample per symbol.
        noise: standard deviation of a sample's noise, E|noise|^2 = noise^2; one number, or (P,).

    Raises:
        ShapeError: taps that are all zero, or a noise that is not above zero. DtypeError, NonFinite: not finite numbers.

    Source:
        Proakis, "Digital Communications" (4th ed.), sec. 10.2-10.3; Salz, "Optimum mean-square decision feedback
        equalization" (1973).

    Example:
        >>> limits = infinite_length([[0.407, 0.815, 0.407]], 0.28)
        >>> round(limits.linear, 4), round(limits.feedback, 4)
        (0.3142, 0.1417)
    """
    h = admitted_taps("infinite_length", taps)
    level = admitted_noise("infinite_length", noise, len(h))
    if not bool((level > 0).all()):
        raise ShapeError(f"infinite_length: noise is {noise!r}, but more than 0 was needed. Pass a small number.")
    unit = h / level[:, None]
    before, grid = _means(unit, max(_FEWEST, 8 * h.shape[1])), max(_FEWEST, 8 * h.shape[1])
    while True:
        grid *= 2
        means = _means(unit, grid)
        settled = [abs(a - b) <= _SETTLED * max(abs(a), _SETTLED) for a, b in zip(means, before, strict=True)]
        if all(settled) or grid >= _MOST:
            break
        before = means
    # At a null, the sampled mean of 1 / S doubles with the number of frequencies; near one it only converges slowly.
    forced = means[2] if abs(means[2] - before[2]) <= 1e-3 * means[2] else inf
    return InfiniteLength(means[0], exp(-means[1]), forced, exp(-means[3]))


def _means(taps: Tensor, grid: int) -> tuple[float, float, float, float]:
    """Return the means of 1 / (1 + S), ln(1 + S), 1 / S and ln S over frequencies halfway between those of an FFT.

    The half step avoids nulls at frequencies 0 and pi, the usual ones, where the logarithm would be infinite.
    """
    shift = torch.exp(-1j * pi / grid * torch.arange(taps.shape[1], dtype=torch.float64))
    power = torch.fft.fft(taps * shift, grid).abs().square().sum(0).clamp(min=torch.finfo(torch.float64).tiny)
    means = ((1 / (1 + power)).mean(), power.log1p().mean(), (1 / power).mean(), power.log().mean())
    return tuple(map(float, means))  # type: ignore[return-value]


def admitted_taps(where: str, taps: Any) -> Tensor:
    """Return a channel (P, L), or (L,), in double precision on the CPU; refuse one that is all zeros."""
    h: Tensor = torch.atleast_2d(as_samples(where, "taps", taps, "(P, L)").cpu())
    h = h.to(torch.complex128 if h.is_complex() else torch.float64)
    if h.ndim != 2 or not bool((h != 0).any()):
        zeros = "" if bool((h != 0).any()) else ", all zeros"
        raise ShapeError(
            f"{where}: taps is {tuple(h.shape)}{zeros}, but (P, L) with at least one tap other than 0 was needed. Pass one "
            "channel, a row for each sub-channel."
        )
    return h


def admitted_noise(where: str, noise: Any, parts: int) -> Tensor:
    """Return standard deviations (P,), float64, from one number or one for each sub-channel; refuse negative ones."""
    level = as_samples(where, "noise", noise, "one number or (P,)", 0).cpu()
    if level.is_complex() or level.ndim > 1 or level.numel() not in (1, parts) or not bool((level >= 0).all()):
        raise ShapeError(
            f"{where}: noise is {noise!r}, but its standard deviation was needed: one number, or one for each of "
            f"{counted(parts, 'sub-channel')}."
        )
    return level.double().reshape(-1).expand(parts)


@checks_kinds_but("snr")
def matched_filter_bound(snr: Any) -> Any:
    """Return the matched-filter bound: the bit error rate of one bit sent alone, which no receiver can improve on.

    It is Q(sqrt(2 Eb/N0)), for BPSK and Gray-coded QPSK; Eb includes the energy of all taps of all sub-channels.

    Args:
        snr: Eb/N0 in dB: a number, or an array.

    Example:
        >>> f"{matched_filter_bound(8.0):.3g}"
        '0.000191'
    """
    return _rates(snr, torch.special.erfc(_ratio("matched_filter_bound", snr).sqrt()) / 2)


def _ratio(where: str, snr: Any) -> Tensor:
    level = as_samples(where, "snr", snr, "a number of dB, or an array", 0)
    if level.is_complex():
        raise DtypeError(f"{where}: snr is {level.dtype}, but real numbers of dB were needed. Pass the real part.")
    return 10 ** (level.double() / 10)


def _rates(snr: Any, rates: Tensor) -> Any:
    return like(snr, rates) if rates.ndim else float(rates)


@dataclass(frozen=True)
class MinimumDistance:
    """The minimum distance between two sequences after a channel.

    Attributes:
        squared: the squared distance, sum |taps * error|^2 with * for convolution.
        error: the error event: the difference of the two sequences, from its first symbol to its last.
        loss: signal-to-noise ratio in dB that the most likely sequence loses against the matched-filter bound.
    """

    squared: float
    error: tuple[complex, ...]
    loss: float


@checks_kinds_but("taps", "points")
def minimum_distance(taps: Any, points: Any = (-1.0, 1.0)) -> MinimumDistance:
    """Find the minimum distance between sequences after a channel, by Dijkstra's algorithm over error events.

    Args:
        taps: (P, L), or (L,). points: (M,), the points of the constellation.

    Raises:
        ShapeError: taps that are all zero; fewer than two points, or equal ones; more than 2^20 states to visit.

    Source:
        Forney, "Maximum-likelihood sequence estimation of digital sequences in the presence of intersymbol interference"
        (1972); Proakis, "Digital Communications" (4th ed.), sec. 10.1-4, for the worst channels.

    Example:
        >>> distance = minimum_distance([[0.5, 0.5**0.5, 0.5]])
        >>> round(distance.loss, 2), distance.error
        (2.32, (2.0, -2.0))
    """
    h = admitted_taps("minimum_distance", taps)
    # Zero taps at either end would multiply the states without changing any distance.
    nonzero = torch.nonzero((h != 0).any(0)).flatten()
    h = h[:, int(nonzero[0]) : int(nonzero[-1]) + 1]
    alphabet = admitted_points("minimum_distance", points).cpu()
    search = _Search(h, alphabet)
    squared, error = search.nearest()
    # The matched-filter bound is the distance of a single wrong symbol, the two points being nearest neighbours.
    single = search.least**2 * float(h.abs().square().sum())
    return MinimumDistance(squared, error, max(0.0, 10 * log10(single / squared)) if squared else inf)


@checks_kinds_but("taps", "snr")
def sequence_error_rate(taps: Any, snr: Any) -> Any:
    """Return the approximate bit error rate of the most likely sequence for BPSK, by a union bound over error events.

    An error event of w symbols at distance d has the probability 2^-w Q(d / (2 noise)) and costs w bits. The sum, with both
    signs, is truncated at w = 12 and at 1.25 times the least squared distance, and is therefore not a bound. It holds at high
    signal-to-noise ratios; at low ones it may lie far above the true rate.

    Args:
        taps: (P, L), or (L,), real. snr: Eb/N0 in dB, a number or an array; Eb is the energy of all taps.

    Raises:
        ShapeError, DtypeError: as `minimum_distance`; complex taps, which `as_real` splits into real ones.

    Source:
        Forney (1972), eq. 56, extended beyond the least distance.

    Example:
        >>> f"{sequence_error_rate([[1.0]], 8.0):.3g}"
        '0.000191'
    """
    h = admitted_taps("sequence_error_rate", taps)
    if h.is_complex():
        raise ShapeError("sequence_error_rate: taps is complex, but real taps were needed. Split them with as_real.")
    ratio = _ratio("sequence_error_rate", snr)
    total = torch.zeros_like(ratio)
    energy = float(h.square().sum())
    search = _Search(h, torch.tensor([-1.0, 1.0], dtype=torch.float64))
    least, _ = search.nearest()
    for squared, weight in search.within(_WITHIN * least, _HEAVIEST):
        # The noise variance is energy / (2 Eb/N0); half of the distance is sqrt(squared) / 2.
        total += weight * 0.5**weight * torch.special.erfc((squared / 4 * ratio / energy).sqrt())
    return _rates(snr, total)


class _Search:
    """Searches over error events: differences of two sequences, from the first to the last symbol in which they differ.

    A state holds the last `memory` differences as indices into `steps`. An event leaves state zero and ends on its return.
    """

    def __init__(self, taps: Tensor, points: Tensor) -> None:
        self.memory = taps.shape[1] - 1
        alphabet = points.tolist()
        differences = {_rounded(a - b): a - b for a in alphabet for b in alphabet}
        self.steps = sorted(differences.values(), key=abs)  # the first is zero
        self.least = abs(self.steps[1])
        # Response of all sub-channels to each difference at each lag.
        self.responses = [[[a * h for h in column] for a in self.steps] for column in taps.T.tolist()]
        self.zero = (0,) * self.memory
        # An event and its negative have the same distance: search only those whose first difference has a positive sign.
        self.firsts = [i for i, a in enumerate(self.steps) if i and (a.real, a.imag) > (0, 0)]

    def nearest(self) -> tuple[float, tuple[complex, ...]]:
        """Return the least squared distance and its error event, by Dijkstra's algorithm."""
        queue: list[Any] = [
            (self._cost(i, self.zero), n, (i, *self.zero)[: self.memory], (i, None)) for n, i in enumerate(self.firsts)
        ]
        heapq.heapify(queue)
        settled, number = set(), len(queue)
        while number <= _MAX_STATES:
            # `number` breaks ties, so that paths are never compared.
            cost, _, state, path = heapq.heappop(queue)
            if state == self.zero:
                return cost, self._event(path)
            if state in settled:
                continue
            settled.add(state)
            for i in range(len(self.steps)):
                number += 1
                extended = cost + self._cost(i, state)
                heapq.heappush(queue, (extended, number, (i, *state)[: self.memory], (i, path)))
        raise ShapeError(
            f"minimum_distance: the search visited more than {_MAX_STATES:,} states, the most that are allowed. Shorten the "
            "channel to its largest taps, or pass fewer points."
        )

    def within(self, most: float, heaviest: int) -> Iterator[tuple[float, int]]:
        """Yield (squared distance, symbols that differ) of all error events up to a distance and a weight, one of each sign."""
        stack = [(self._cost(i, self.zero), (i, *self.zero)[: self.memory], 1) for i in self.firsts]
        visited = 0
        while stack:
            visited += 1
            cost, state, weight = stack.pop()
            if state == self.zero:
                yield cost, weight
            elif visited > _MAX_STATES:
                raise ShapeError(
                    f"sequence_error_rate: the search visited more than {_MAX_STATES:,} states, the most that are allowed. "
                    "Shorten the channel to its largest taps."
                )
            else:
                for i in range(len(self.steps) if weight < heaviest else 1):
                    extended = cost + self._cost(i, state)
                    if extended <= most:
                        stack.append((extended, (i, *state)[: self.memory], weight + (i > 0)))

    def _event(self, path: Any) -> tuple[complex, ...]:
        """Return the differences along a linked path, without the `memory` zeros at its end."""
        steps = []
        while path is not None:
            steps.append(self.steps[path[0]])
            path = path[1]
        return tuple(steps[self.memory :][::-1])

    def _cost(self, newest: int, state: tuple[int, ...]) -> float:
        rows = [self.responses[k][i] for k, i in enumerate((newest, *state)) if i]
        return sum(abs(sum(parts)) ** 2 for parts in zip(*rows, strict=True)) if rows else 0.0


def _rounded(number: complex) -> complex:
    """Return a key that is equal for differences that only rounding distinguishes."""
    return complex(round(number.real, 9), round(number.imag, 9))
