"""Symbols behind a known channel: the noise, what stands before and after the signal, and the decisions."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from unconv.errors import ShapeError
from unconv.inverse.fields.channel.constellations import Constellation
from unconv.inverse.fields.channel.decision_feedback import decision_feedback_equalizer
from unconv.inverse.fields.channel.linear import linear_equalizer
from unconv.inverse.fields.channel.lookup import Lookup
from unconv.inverse.solvers.forward_backward import bcjr
from unconv.inverse.solvers.trellis import viterbi

Ends = Literal["unknown", "silence"]

_FLOOR = 1e-4  # of the received signal: noise below -80 dB is rounding of files and of models
_PIECE = 40  # memories of the channel: the piece of a signal on which its ends are told
_ROUNDS = 3  # of estimating the noise from decisions that were made with it
_CHEAP_STATES = 64  # up to which the trellis judges what other methods are to know
MANY_WRONG = 0.02  # from which on decisions make the noise too small
LEAST = 1e-12  # error of a symbol, of the constellation's power: ratios stay finite without noise
_AMID = 4.0  # times the power of noise, as what earlier symbols leave must be
_UNLIKELY = 5.0  # standard deviations from which on a mean is believed
_AUTO_STATES = 256  # up to which the most likely sequence is the method of choice


@dataclass(frozen=True)
class Link:
    """A signal and its channel, at one sample a symbol.

    Attributes:
        observed: (B, P, n), P sub-channels: samples of a symbol, or its real and imaginary parts.
        taps: (P, L).
        table: the constellation. points: (M,), in the kind of the observation.
        noise: the standard deviation of each sub-channel's noise; None: to be estimated.
        before, after: what stands before the first symbol and after the last: other symbols or nothing. None: to be told.
        loud: the part of the samples in which symbols are; in the rest there is noise alone.
    """

    observed: Tensor
    taps: Tensor
    table: Constellation
    points: Tensor
    noise: float | None
    before: Ends | None = None
    after: Ends | None = None
    loud: slice = field(default_factory=lambda: slice(None))

    @property
    def power(self) -> float:
        """Mean square of the samples in which symbols are."""
        return float(self.observed[..., self.loud].abs().square().mean())

    @property
    def memory(self) -> int:
        """Symbols before the present one that a sample still holds."""
        return self.taps.shape[-1] - 1

    @property
    def states(self) -> int:
        """States of the trellis: of the taps between the first and the last that are not zero."""
        at = torch.nonzero((self.taps != 0).any(0)).flatten()
        return len(self.points) ** int(at[-1] - at[0]) if len(at) else 1

    @property
    def symbols(self) -> int:
        """How many symbols the observation holds whole, by what stands after them."""
        return self.observed.shape[-1] - (self.memory if self.after == "silence" else 0)

    def expected(self, indices: Tensor) -> Tensor:
        """Return what the channel makes of symbols (B, N): (B, P, n), nothing before and after them."""
        sent, n = self.points[indices], self.observed.shape[-1]
        made = self.observed.new_zeros(len(sent), self.taps.shape[0], indices.shape[-1] + self.memory)
        for lag in range(self.memory + 1):
            made[..., lag : lag + indices.shape[-1]] += self.taps[:, lag, None] * sent[:, None]
        return made[..., :n]


@dataclass(frozen=True)
class Decided:
    """Decisions, and what was found on the way to them.

    Attributes:
        link: with the noise and the ends that were found.
        indices: (B, N), points of the constellation.
        soft: (B, N), equalised samples; None of the most likely sequence.
        error: the mean squared error that the equaliser expects of them, of symbols of mean power 1.
        residual: (B,), root of the mean square of what symbols and channel do not explain.
        gain: (B,), by which the channel's answer to the decisions is in what was observed; 1 where all is well.
        apart: how far the channel, so scaled, is from that which the decisions speak for, as a share of its energy.
        constant: the size of what all samples have in common and no symbol explains, over the residual; 0 where by chance.
        begins_amid: whether earlier symbols, which are not among the decisions, reach into the first samples.
    """

    link: Link
    indices: Tensor
    soft: Tensor | None
    error: float
    residual: Tensor
    gain: Tensor
    apart: float = 0.0
    constant: float = 0.0
    begins_amid: bool = False


def method_of(link: Link, method: str, most_states: int) -> str:
    """Return the method that "auto" stands for, and any other as it is."""
    if method != "auto":
        return method
    # Filters need points whose mean is zero; others are for the trellis, whatever it costs.
    limit = min(_AUTO_STATES, most_states) if link.table.is_centred else most_states
    return "mlse" if link.states <= limit else "decision-feedback"


def decide(link: Link, method: str, settings: dict[str, Any]) -> Decided:
    """Decide the symbols of a link.

    Noise, ends, and how far the channel is from the right one are told by decisions of a kind that errs seldom, whatever method
    was asked for: by the trellis or, where that is large, with decisions fed back. Those of a linear filter would not do: where
    the channel has nulls, one in ten is wrong, and the noise seems twice as strong.

    Args:
        method: "mlse", "bcjr", "decision-feedback", "mmse" or "zero-forcing".
        settings: length, feedback and most_states, as of `equalize`.
    """
    trellis = method in ("mlse", "bcjr")
    if trellis or link.states <= _CHEAP_STATES:
        judge = _by_trellis(link, settings["most_states"])
    else:
        judge = _by_feedback(link, settings)
    if trellis or (method == "decision-feedback" and judge.soft is not None):
        return judge
    found = _filtered(replace(judge.link, before="silence"), method, settings)
    # The decisions and their error are the filter's, all else is as the better ones tell it.
    return replace(judge, indices=found.indices, soft=found.soft, error=found.error)


def _by_feedback(link: Link, settings: dict[str, Any]) -> Decided:
    """Decide with decisions fed back, for a noise that is estimated from what earlier ones did not explain.

    The first noise is the power that the channel does not explain. Wrong decisions make it too large, never too small, so that
    the rounds come down to it.
    """
    known = replace(link, before=link.before or "silence", after=link.after or "unknown")
    level = link.noise if link.noise is not None else _first_noise(link)
    for _ in range(_ROUNDS):
        found = _filtered(replace(known, noise=level), "decision-feedback", settings)
        if link.noise is not None:
            break
        before, level = level, _level(found, link)
        if abs(level - before) < 0.05 * before:
            break
    found = replace(found, link=replace(found.link, noise=level), begins_amid=_begins_amid(found, level))
    return _without_tail(found) if link.after is None else found


def _begins_amid(found: Decided, level: float) -> bool:
    """Tell whether the first samples hold more than the first symbols' answer and noise: that of earlier symbols."""
    link = found.link
    if link.loud.start or link.observed.shape[-1] <= 4 * link.memory or not link.memory:
        return False
    left = (link.observed - link.expected(found.indices))[..., : link.memory].abs().square().mean()
    return float(left) > _AMID * max(level, float(found.residual.max())) ** 2


def posteriors(found: Decided, most_states: int) -> Tensor:
    """Return the log-probabilities (B, N, M) of each point for each symbol, given all that was observed."""
    link = found.link
    assert link.noise is not None
    logs: Tensor = bcjr(
        link.observed,
        link.taps,
        link.points,
        link.noise,
        before=link.before or "unknown",
        after=link.after or "unknown",
        most_states=most_states,
    )
    return logs


def _floor(link: Link) -> float:
    return _FLOOR * math.sqrt(link.power)


def _first_noise(link: Link) -> float:
    """Return what is left of the power when the channel's is taken out, at least a hundredth: powers are not exact."""
    power = link.power
    explained = float(link.taps.abs().square().sum(-1).mean())
    return math.sqrt(max(power - explained, 0.01 * power))


def _level(found: Decided, link: Link) -> float:
    """Return the noise that decisions leave, and not less than rounding does.

    Decisions for whatever is nearest make it too small where many are wrong. There, it is at least what the channel leaves
    of the power, less a standard deviation.
    """
    left = max(float(found.residual.square().mean().sqrt()), _floor(link))
    if share_wrong(link.table, matched_error(link, left)) < MANY_WRONG:
        return left
    powers = link.observed[..., link.loud].abs().square().flatten()
    # Samples of one symbol rise and fall together: there are fewer of their own.
    spread = float(powers.std()) * math.sqrt((link.memory + 1) / len(powers))
    beyond = link.power - spread - float(link.taps.abs().square().sum(-1).mean())
    return max(left, math.sqrt(max(beyond, 0.0)))


def matched_error(link: Link, noise: float) -> float:
    """Return the mean squared error of symbols that no others interfere with, behind a matched filter."""
    return noise**2 / float(link.taps.abs().square().sum())


def share_wrong(table: Constellation, error: float) -> float:
    """Return the share of wrong decisions behind Gaussian errors of a mean square, of symbols of mean power 1."""
    spread = math.sqrt(max(error, LEAST) / (2 if table.points.is_complex() else 1))
    across = math.erfc(table.spacing / math.sqrt(table.power) / spread / math.sqrt(8)) / 2
    return min(table.neighbours * across, 1 - 1 / len(table.points))


def _by_trellis(link: Link, most_states: int) -> Decided:
    """Decide by the most likely sequence; its ends are told on pieces of the signal, where both readings are tried."""
    settled = replace(link, before=link.before or "unknown", after=link.after or "unknown")
    found = _most_likely(settled, most_states)
    level = link.noise if link.noise is not None else _level(found, link)
    ends = {
        name: getattr(link, name) or _end(link, name, level, most_states) if link.memory else "unknown"
        for name in ("before", "after")
    }
    changed = replace(settled, before=ends["before"], after=ends["after"])
    if changed != settled:
        settled = changed
        found = _most_likely(settled, most_states)
        level = link.noise if link.noise is not None else _level(found, link)
    told = link.before is None and not link.loud.start and link.observed.shape[-1] > 4 * link.memory > 0
    amid = told and ends["before"] == "unknown"
    return replace(found, link=replace(settled, noise=level), begins_amid=amid)


def _end(link: Link, name: str, level: float, most_states: int) -> Ends:
    """Tell whether symbols go on beyond one end: the more probable reading of a piece at that end.

    Symbols beyond the end are free to be chosen, M^(L-1) ways, which lowers the cost of any noise: a reading pays for what it
    may choose by the logarithm of how many ways there are.
    """
    size = min(link.observed.shape[-1], _PIECE * (link.memory + 1) + link.memory)
    if size <= 2 * link.memory:
        return "unknown"
    at_end = link.observed[..., :size] if name == "before" else link.observed[..., -size:]
    costs = []
    for reading in ("unknown", "silence"):
        ends: dict[str, Any] = {"before": "unknown", "after": "unknown"} | {name: reading}
        costs.append(viterbi(at_end, link.taps, link.points, most_states=most_states, **ends).cost)
    unit = (1 if link.observed.is_complex() else 2) * level**2
    free = link.memory * math.log(len(link.points)) * link.observed.shape[0]
    return "silence" if float((costs[1] - costs[0]).sum()) / unit < free else "unknown"


def _most_likely(link: Link, most_states: int) -> Decided:
    sequence = viterbi(
        link.observed,
        link.taps,
        link.points,
        before=link.before or "unknown",
        after=link.after or "unknown",
        most_states=most_states,
    )
    return _judged(link, sequence.indices, None, math.nan)


def _filtered(link: Link, method: str, settings: dict[str, Any]) -> Decided:
    """Decide by a filter, with or without decisions fed back."""
    count, length, noise = link.symbols, settings["length"], link.noise
    assert noise is not None
    if method == "decision-feedback":
        fed = decision_feedback_equalizer(link.taps, noise, forward=length, feedback=settings["feedback"])
        soft, indices = fed.equalized(link.observed, link.points, count)
        return _judged(link, indices, soft, fed.error / abs(fed.gain))
    linear = linear_equalizer(link.taps, noise, length, criterion="mmse" if method == "mmse" else "zero-forcing")
    soft = linear.equalized(link.observed, count)
    # Of the link's own points: those of the table may have another power.
    return _judged(link, Lookup(link.points).nearest(soft), soft, linear.error / abs(linear.gain))


def _judged(link: Link, indices: Tensor, soft: Tensor | None, error: float) -> Decided:
    """Compare what decisions explain with what was observed, away from the ends where other symbols may reach in."""
    count = indices.shape[-1]
    first, end, _ = link.loud.indices(count)
    inner = slice(first + link.memory, end - link.memory) if end - first > 4 * link.memory else slice(None)
    seen, made = link.observed[..., inner], link.expected(indices)[..., inner]
    power = made.abs().square().sum((-1, -2))
    gain = (made.conj() * seen).sum((-1, -2)) / power.clamp(min=torch.finfo(power.dtype).tiny)
    left = seen - made
    residual = left.abs().square().mean((-1, -2)).sqrt()
    apart = _apart(link, indices, seen - gain[:, None, None] * made, inner)
    return Decided(link, indices, soft, error, residual, gain, apart, _constant(left))


def _constant(left: Tensor) -> float:
    """Return the mean of what decisions leave, (B, P, n), over its root mean square; 0 where chance explains it."""
    size = float(left.abs().square().mean().sqrt())
    mean = float(left.mean(-1).abs().square().mean().sqrt())
    return mean / size if mean > _UNLIKELY * size / math.sqrt(left.shape[-1]) else 0.0


def _apart(link: Link, indices: Tensor, left: Tensor, inner: slice) -> float:
    """Return how far the channel is from the one that decisions speak for, as a share of its energy.

    Of the right channel, what is left is noise, which no symbol has anything to do with; else its product with the symbols is
    what each tap lacks. What as many products of noise come to is taken off.
    """
    if inner == slice(None):
        return 0.0
    sent, count = link.points[indices], inner.stop - inner.start
    lacking, own = 0.0, float(link.taps.abs().square().sum())
    for lag in range(link.memory + 1):
        at = sent[:, inner.start - lag : inner.stop - lag]
        lacking += float(((left * at.conj()[:, None]).mean(-1).mean(0)).abs().square().sum())
    chance = (link.memory + 1) * float(left.abs().square().mean(-1).mean(0).sum()) / (count * len(left))
    share: float = max(0.0, lacking - 4 * chance) / own
    return share


def _without_tail(found: Decided) -> Decided:
    """Leave the last symbols away where the signal's tail holds nothing but what the channel still gives of earlier ones."""
    link, noise = found.link, found.link.noise
    count = link.observed.shape[-1] - link.memory
    if not link.memory or count < 2 * link.memory or noise is None:
        return found
    left = [
        (link.observed - link.expected(indices))[..., count:].abs().square().sum()
        for indices in (found.indices, found.indices[:, :count])
    ]
    unit = (1 if link.observed.is_complex() else 2) * noise**2
    if float(left[1] - left[0]) / unit >= link.memory * math.log(len(link.points)) * len(link.observed):
        return found
    soft = None if found.soft is None else found.soft[:, :count]
    return replace(found, link=replace(link, after="silence"), indices=found.indices[:, :count], soft=soft)


def refuse_states(link: Link, method: str, most_states: int) -> None:
    """Refuse a trellis that is too large, before anything is computed."""
    if method in ("mlse", "bcjr") and link.states > most_states:
        raise ShapeError(
            f"equalize: {method} needs {len(link.points)}**{round(math.log(link.states, len(link.points)))} = {link.states} "
            f"states, "
            f'but at most {most_states} were allowed. Use "decision-feedback", or raise most_states.'
        )
