"""What equalisers of a known channel can reach: closed forms of endless filters, and distances between sequences."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from math import exp, inf, log10, pi
from typing import Any

import torch
from torch import Tensor

from unconv.errors import DtypeError, ShapeError
from unconv.inverse.solvers.arrays import as_samples, like
from unconv.inverse.solvers.trellis_blocks import admitted_points
from unconv.kinds import checks_kinds_but

_FEWEST, _MOST = 2**10, 2**18  # frequencies over which spectra are averaged
_SETTLED = 1e-10  # by which twice as many change a mean that has converged
_WITHIN, _HEAVIEST = 1.25, 12  # squared distances that are summed, of the least; and the most symbols that differ
_VISITED = 2**20  # states that a search for the least distance may visit


@dataclass(frozen=True)
class InfiniteLength:
    """Mean squared errors of endless equalisers, of symbols of power 1; those of zero forcing are all noise.

    Attributes:
        linear, feedback: by least mean squared error, without and with decisions fed back (Salz).
        zero_forcing, zero_forcing_feedback: the first is infinite where the spectrum has a null.
    """

    linear: float
    feedback: float
    zero_forcing: float
    zero_forcing_feedback: float


@checks_kinds_but("taps", "noise")
def infinite_length(taps: Any, noise: Any) -> InfiniteLength:
    """Return the mean squared errors of endless equalisers of a known channel; decisions fed back are taken to be right.

    With S = sum over sub-channels of |H_p|^2 / noise_p^2 they are means over frequency: mean 1/(1 + S), exp mean ln 1/(1 + S),
    mean 1/S and exp mean ln 1/S. A mean of 1/S that has not settled on 2^18 frequencies, because of a null, counts as infinite.

    Args:
        taps: (P, L), or (L,), real or complex, of sub-channels at one sample a symbol.
        noise: standard deviation of a sample, E|noise|^2 = noise^2; one, or (P,).

    Raises:
        ShapeError: taps that are all zero, or a noise that is not above zero. DtypeError, NonFinite: no numbers, or NaN.

    Source:
        Proakis, "Digital Communications" (4th ed.), sec. 10.2-10.3; Salz, "Optimum mean-square decision feedback
        equalization" (1973).

    Example:
        >>> found = infinite_length([[0.407, 0.815, 0.407]], 0.28)
        >>> round(found.linear, 4), round(found.feedback, 4)
        (0.3142, 0.1417)
    """
    h = admitted_taps("infinite_length", taps)
    level = admitted_noise("infinite_length", noise, len(h))
    if not bool((level > 0).all()):
        raise ShapeError(f"infinite_length: noise is {noise!r}, but more than zero was needed. Pass a small one.")
    unit = h / level[:, None]
    before, grid = _means(unit, max(_FEWEST, 8 * h.shape[1])), max(_FEWEST, 8 * h.shape[1])
    while True:
        grid *= 2
        means = _means(unit, grid)
        settled = [abs(a - b) <= _SETTLED * max(abs(a), _SETTLED) for a, b in zip(means, before, strict=True)]
        if all(settled) or grid >= _MOST:
            break
        before = means
    # Halving the spacing doubles a mean of 1 / S that a null makes infinite; near a null it still creeps.
    forced = means[2] if abs(means[2] - before[2]) <= 1e-3 * means[2] else inf
    return InfiniteLength(means[0], exp(-means[1]), forced, exp(-means[3]))


def _means(taps: Tensor, grid: int) -> tuple[float, float, float, float]:
    """Return the means of 1 / (1 + S), ln(1 + S), 1 / S and ln S over frequencies halfway between those of an FFT.

    Nulls at frequencies 0 and pi, the usual ones, are not met: the mean of a logarithm goes past them.
    """
    turns = torch.exp(-1j * pi / grid * torch.arange(taps.shape[1], dtype=torch.float64))
    power = torch.fft.fft(taps * turns, grid).abs().square().sum(0).clamp(min=torch.finfo(torch.float64).tiny)
    means = ((1 / (1 + power)).mean(), power.log1p().mean(), (1 / power).mean(), power.log().mean())
    return tuple(map(float, means))  # type: ignore[return-value]


def admitted_taps(where: str, taps: Any) -> Tensor:
    """Take a channel (P, L), or (L,), that is not zero everywhere, in double precision, on the CPU."""
    h: Tensor = torch.atleast_2d(as_samples(where, "taps", taps, "(P, L)").cpu())
    h = h.to(torch.complex128 if h.is_complex() else torch.float64)
    if h.ndim != 2 or not bool((h != 0).any()):
        raise ShapeError(f"{where}: taps is {tuple(h.shape)}, but (P, L) that are not all zero was needed. Pass taps[None].")
    return h


def admitted_noise(where: str, noise: Any, parts: int) -> Tensor:
    """Take standard deviations, 0 or more, one or one for each sub-channel: (P,), float64."""
    level = as_samples(where, "noise", noise, "one number or (P,)", 0).cpu()
    if level.is_complex() or level.ndim > 1 or level.numel() not in (1, parts) or not bool((level >= 0).all()):
        raise ShapeError(
            f"{where}: noise is {noise!r}, but its standard deviation was needed, one or one for each of {parts} sub-channels."
        )
    return level.double().reshape(-1).expand(parts)


@checks_kinds_but("snr")
def matched_filter_bound(snr: Any) -> Any:
    """Return the bit error rate below which no receiver comes: that of a single bit, sent alone, behind its matched filter.

    It is Q(sqrt(2 Eb/N0)), of BPSK and Gray-coded QPSK; Eb holds the energy of all taps of all sub-channels.

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
        raise DtypeError(f"{where}: snr is {level.dtype}, but real numbers of dB were needed.")
    return 10 ** (level.double() / 10)


def _rates(snr: Any, found: Tensor) -> Any:
    return like(snr, found) if found.ndim else float(found)


@dataclass(frozen=True)
class MinimumDistance:
    """The two sequences that a channel brings nearest to each other.

    Attributes:
        squared: sum |taps * error|^2, the square of their distance behind the channel.
        error: their difference, from its first symbol to its last.
        loss: dB of signal-to-noise ratio that the most likely sequence loses against the matched-filter bound.
    """

    squared: float
    error: tuple[complex, ...]
    loss: float


@checks_kinds_but("taps", "points")
def minimum_distance(taps: Any, points: Any = (-1.0, 1.0)) -> MinimumDistance:
    """Find the least distance between sequences behind a channel, by Dijkstra's shortest path over their differences.

    Args:
        taps: (P, L), or (L,). points: (M,), the alphabet.

    Raises:
        ShapeError: taps that are all zero; points that are less than two or alike; more than 2^20 states to visit.

    Source:
        Forney (1972); Proakis, "Digital Communications" (4th ed.), sec. 10.1-4, for the worst channels.

    Example:
        >>> found = minimum_distance([[0.5, 0.5**0.5, 0.5]])
        >>> round(found.loss, 2), found.error
        (2.32, (2.0, -2.0))
    """
    h = admitted_taps("minimum_distance", taps)
    loud = torch.nonzero((h != 0).any(0)).flatten()
    h = h[:, int(loud[0]) : int(loud[-1]) + 1]
    alphabet = admitted_points("minimum_distance", points).cpu()
    search = _Search(h, alphabet)
    squared, error = search.nearest()
    alone = search.least**2 * float(h.abs().square().sum())
    return MinimumDistance(squared, error, max(0.0, 10 * log10(alone / squared)) if squared else inf)


@checks_kinds_but("taps", "snr")
def sequence_error_rate(taps: Any, snr: Any) -> Any:
    """Return about what bit error rate the most likely sequence of antipodal symbols has, at high signal-to-noise ratios.

    Each difference of sequences in w symbols, at distance d, has probability 2^-w Q(d / (2 noise)) and costs w bits. They are
    summed, with both signs, up to w = 12 and 1.25 times the least squared distance. At low ratios the sum may lie far above the
    rate, which it is not a bound of.

    Args:
        taps: (P, L), or (L,), real. snr: Eb/N0 in dB, a number or an array; Eb is the energy of all taps.

    Raises:
        ShapeError, DtypeError: as `minimum_distance`; complex taps, for which `as_real` has real ones.

    Source:
        Forney (1972), eq. 56, and its sum over more than the least distance.

    Example:
        >>> f"{sequence_error_rate([[1.0]], 8.0):.3g}"
        '0.000191'
    """
    h = admitted_taps("sequence_error_rate", taps)
    if h.is_complex():
        raise ShapeError("sequence_error_rate: the taps are complex, but real ones were needed. Pass those of as_real.")
    ratio = _ratio("sequence_error_rate", snr)
    total = torch.zeros_like(ratio)
    energy = float(h.square().sum())
    search = _Search(h, torch.tensor([-1.0, 1.0], dtype=torch.float64))
    least, _ = search.nearest()
    for squared, weight in search.within(_WITHIN * least, _HEAVIEST):
        # The noise is energy / (2 Eb/N0) in each sample, and a difference of 2 has a half-distance of 1.
        total += weight * 0.5**weight * torch.special.erfc((squared / 4 * ratio / energy).sqrt())
    return _rates(snr, total)


class _Search:
    """Differences of sequences, from the first symbol in which they differ to the last, and their squared distances."""

    def __init__(self, taps: Tensor, points: Tensor) -> None:
        self.memory = taps.shape[1] - 1
        given = points.tolist()
        differences = {_rounded(a - b): a - b for a in given for b in given}
        self.steps = sorted(differences.values(), key=abs)  # the first is zero
        self.least = abs(self.steps[1])
        # What each tap and difference adds to the sub-channels.
        self.made = [[[a * h for h in column] for a in self.steps] for column in taps.T.tolist()]
        self.zero = (0,) * self.memory
        # By symmetry a difference and its negative are as near: of each pair one begins.
        self.firsts = [i for i, a in enumerate(self.steps) if i and (a.real, a.imag) > (0, 0)]

    def nearest(self) -> tuple[float, tuple[complex, ...]]:
        """Return the least squared distance and its difference, by Dijkstra's algorithm."""
        queue: list[Any] = [
            (self._cost(i, self.zero), n, (i, *self.zero)[: self.memory], (i, None)) for n, i in enumerate(self.firsts)
        ]
        heapq.heapify(queue)
        seen, number = set(), len(queue)
        while number <= _VISITED:
            cost, _, state, way = heapq.heappop(queue)
            if state == self.zero:
                return cost, self._way(way)
            if state in seen:
                continue
            seen.add(state)
            for i in range(len(self.steps)):
                number += 1
                farther = cost + self._cost(i, state)
                heapq.heappush(queue, (farther, number, (i, *state)[: self.memory], (i, way)))
        raise ShapeError(
            f"minimum_distance: the search came to more than {_VISITED} states. Shorten the channel to its largest taps, or "
            "pass fewer points."
        )

    def within(self, most: float, heaviest: int) -> Iterator[tuple[float, int]]:
        """Yield (squared distance, symbols that differ) of all differences up to a distance and a weight, of one sign each."""
        stack = [(self._cost(i, self.zero), (i, *self.zero)[: self.memory], 1) for i in self.firsts]
        visited = 0
        while stack:
            visited += 1
            cost, state, weight = stack.pop()
            if state == self.zero:
                yield cost, weight
            elif visited > _VISITED:
                raise ShapeError("sequence_error_rate: too many sequences are near each other. Shorten the channel.")
            else:
                for i in range(len(self.steps) if weight < heaviest else 1):
                    farther = cost + self._cost(i, state)
                    if farther <= most:
                        stack.append((farther, (i, *state)[: self.memory], weight + (i > 0)))

    def _way(self, way: Any) -> tuple[complex, ...]:
        steps = []
        while way is not None:
            steps.append(self.steps[way[0]])
            way = way[1]
        return tuple(steps[self.memory :][::-1])

    def _cost(self, newest: int, state: tuple[int, ...]) -> float:
        rows = [self.made[k][i] for k, i in enumerate((newest, *state)) if i]
        return sum(abs(sum(parts)) ** 2 for parts in zip(*rows, strict=True)) if rows else 0.0


def _rounded(number: complex) -> complex:
    """Return a number by which differences are told apart that differ by more than rounding."""
    return complex(round(number.real, 9), round(number.imag, 9))
