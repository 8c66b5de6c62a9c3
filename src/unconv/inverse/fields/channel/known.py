"""Decide symbols sent through a known channel, estimating the noise and whether symbols go on beyond the signal's ends."""

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

_FLOOR = 1e-4  # of the received amplitude: noise below -80 dB is rounding of files and of models
_PIECE = 40  # multiples of the channel's memory: length of the piece on which an end of the signal is judged
_ROUNDS = 3  # of estimating the noise from decisions that were made with it
_CHEAP_STATES = 64  # up to which a trellis estimates noise and ends for the other methods
UNRELIABLE = 0.02  # symbol error rate above which decisions make the noise appear too small
LEAST = 1e-12  # error of a symbol over the constellation's power: ratios stay finite without noise
_MIDWAY = 4.0  # times the noise power: more in the first samples is intersymbol interference from earlier symbols
_SIGNIFICANT = 5.0  # standard deviations beyond which a mean is not chance
_AUTO_STATES = 256  # up to which "auto" chooses the most likely sequence


@dataclass(frozen=True)
class Link:
    """B signals and their channel, at one sample per symbol.

    Attributes:
        observed: (B, P, n), P sub-channels: the samples of one symbol, or its real and imaginary parts.
        taps: (P, L).
        table: the constellation. points: (M,), of mean power 1, real or complex as `observed`.
        noise: standard deviation of each sub-channel's noise; None: to be estimated.
        before, after: what precedes the first symbol and follows the last: unknown symbols or silence. None: to be estimated.
        loud: the samples that hold symbols; the rest is noise alone.
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
        """Mean square of the samples that hold symbols."""
        return float(self.observed[..., self.loud].abs().square().mean())

    @property
    def memory(self) -> int:
        """Number of earlier symbols that interfere with a sample: L - 1."""
        return self.taps.shape[-1] - 1

    @property
    def states(self) -> int:
        """States of the trellis; zero taps at either end cost none."""
        taps = torch.nonzero((self.taps != 0).any(0)).flatten()
        return len(self.points) ** int(taps[-1] - taps[0]) if len(taps) else 1

    @property
    def symbols(self) -> int:
        """How many symbols to decide: all n, or those before the channel's tail where silence follows."""
        return self.observed.shape[-1] - (self.memory if self.after == "silence" else 0)

    def expected(self, indices: Tensor) -> Tensor:
        """Return the noiseless samples (B, P, n) of symbols (B, N), with silence before and after them."""
        sent, n = self.points[indices], self.observed.shape[-1]
        clean = self.observed.new_zeros(len(sent), self.taps.shape[0], indices.shape[-1] + self.memory)
        for lag in range(self.memory + 1):
            clean[..., lag : lag + indices.shape[-1]] += self.taps[:, lag, None] * sent[:, None]
        return clean[..., :n]


@dataclass(frozen=True)
class Decisions:
    """Decisions, and how well they explain the observation.

    Attributes:
        link: with the estimated noise and ends.
        indices: (B, N), points of the constellation.
        soft: (B, N), equalised samples; None for the most likely sequence.
        error: mean squared error of `soft` that the equaliser's design predicts, for symbols of mean power 1.
        residual: (B,), RMS difference between the observation and the channel's response to the decisions.
        gain: (B,), least-squares factor from that response to the observation; 1 for the right channel.
        mismatch: how far the channel, scaled by the gain, is from the one that fits the decisions, as a share of its energy.
        dc_offset: mean of the residual over its RMS; 0 where chance explains it.
        starts_midway: whether earlier symbols, which are not among the decisions, interfere with the first samples.
    """

    link: Link
    indices: Tensor
    soft: Tensor | None
    error: float
    residual: Tensor
    gain: Tensor
    mismatch: float = 0.0
    dc_offset: float = 0.0
    starts_midway: bool = False


def method_of(link: Link, method: str, most_states: int) -> str:
    """Return the method that "auto" chooses, and any other unchanged."""
    if method != "auto":
        return method
    # Filters need points of mean zero: on-off keying and the like get the trellis up to most_states.
    limit = min(_AUTO_STATES, most_states) if link.table.is_centred else most_states
    return "mlse" if link.states <= limit else "decision-feedback"


def decide(link: Link, method: str, settings: dict[str, Any]) -> Decisions:
    """Decide the symbols of a link.

    Noise, ends and channel mismatch are always estimated from the most reliable decisions that are affordable, whatever the
    method: those of the trellis or, where that has too many states, of decision feedback. A linear filter's would not do: where
    the channel has nulls, one in ten of them is wrong, and the noise appears twice as strong.

    Args:
        method: "mlse", "bcjr", "decision-feedback", "mmse" or "zero-forcing".
        settings: length, feedback and most_states, as of `equalize`.
    """
    trellis = method in ("mlse", "bcjr")
    if trellis or link.states <= _CHEAP_STATES:
        reference = _by_trellis(link, settings["most_states"])
    else:
        reference = _by_feedback(link, settings)
    if trellis or (method == "decision-feedback" and reference.soft is not None):
        return reference
    filtered = _filtered(replace(reference.link, before="silence"), method, settings)
    # The decisions and their error are the filter's; noise, ends and mismatch come from the more reliable decisions.
    return replace(reference, indices=filtered.indices, soft=filtered.soft, error=filtered.error)


def _by_feedback(link: Link, settings: dict[str, Any]) -> Decisions:
    """Decide with decision feedback, re-estimating the noise from the residual of the previous round.

    The first noise estimate is the power that the channel does not explain, and at least 1 % of the power. It is
    rather too large than too small, so that the rounds come down to the noise of the residual.
    """
    known = replace(link, before=link.before or "silence", after=link.after or "unknown")
    level = link.noise if link.noise is not None else _first_noise(link)
    for _ in range(_ROUNDS):
        decisions = _filtered(replace(known, noise=level), "decision-feedback", settings)
        if link.noise is not None:
            break
        before, level = level, _noise_level(decisions, link)
        if abs(level - before) < 0.05 * before:
            break
    decisions = replace(decisions, link=replace(decisions.link, noise=level), starts_midway=_starts_midway(decisions, level))
    return _without_tail(decisions) if link.after is None else decisions


def _starts_midway(decisions: Decisions, level: float) -> bool:
    """Return whether the first samples hold more than the decided symbols and noise explain: earlier symbols interfere."""
    link = decisions.link
    if link.loud.start or link.observed.shape[-1] <= 4 * link.memory or not link.memory:
        return False
    left = (link.observed - link.expected(decisions.indices))[..., : link.memory].abs().square().mean()
    return float(left) > _MIDWAY * max(level, float(decisions.residual.max())) ** 2


def posteriors(decisions: Decisions, most_states: int) -> Tensor:
    """Return the log-probabilities (B, N, M) of each point for each symbol, given the whole observation (BCJR)."""
    link = decisions.link
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
    """Return the noise that the received power leaves beyond the channel's; at least 1 % of the power, which is not exact."""
    power = link.power
    explained = float(link.taps.abs().square().sum(-1).mean())
    return math.sqrt(max(power - explained, 0.01 * power))


def _noise_level(decisions: Decisions, link: Link) -> float:
    """Return the noise by the residual of decisions, at least that of rounding.

    Where many decisions are wrong, they pick the nearest symbols and the residual is too small. There, the noise is at least
    the power that the channel does not explain, less one standard deviation of that power.
    """
    left = max(float(decisions.residual.square().mean().sqrt()), _floor(link))
    if share_wrong(link.table, matched_error(link, left)) < UNRELIABLE:
        return left
    powers = link.observed[..., link.loud].abs().square().flatten()
    # Samples that share a symbol are correlated: only one in L counts as independent.
    spread = float(powers.std()) * math.sqrt((link.memory + 1) / len(powers))
    beyond = link.power - spread - float(link.taps.abs().square().sum(-1).mean())
    return max(left, math.sqrt(max(beyond, 0.0)))


def matched_error(link: Link, noise: float) -> float:
    """Return the mean squared error after a matched filter without intersymbol interference, for symbols of power 1."""
    return noise**2 / float(link.taps.abs().square().sum())


def share_wrong(table: Constellation, error: float) -> float:
    """Return the symbol error rate for Gaussian errors of a mean square, for symbols of mean power 1.

    The union bound over nearest neighbours: each is at `spacing`, and is decided for with probability Q(spacing / 2 sigma).
    """
    spread = math.sqrt(max(error, LEAST) / (2 if table.points.is_complex() else 1))
    across = math.erfc(table.spacing / math.sqrt(table.power) / spread / math.sqrt(8)) / 2
    return min(table.neighbours * across, 1 - 1 / len(table.points))


def _by_trellis(link: Link, most_states: int) -> Decisions:
    """Decide by the most likely sequence (Viterbi), after testing at both ends of the signal whether symbols go on there."""
    # Unknown symbols beyond the ends fit either case: a first run gives the noise by which the ends can be judged.
    settled = replace(link, before=link.before or "unknown", after=link.after or "unknown")
    decisions = _most_likely(settled, most_states)
    level = link.noise if link.noise is not None else _noise_level(decisions, link)
    ends = {
        name: getattr(link, name) or _end(link, name, level, most_states) if link.memory else "unknown"
        for name in ("before", "after")
    }
    changed = replace(settled, before=ends["before"], after=ends["after"])
    if changed != settled:
        settled = changed
        decisions = _most_likely(settled, most_states)
        level = link.noise if link.noise is not None else _noise_level(decisions, link)
    tested = link.before is None and not link.loud.start and link.observed.shape[-1] > 4 * link.memory > 0
    midway = tested and ends["before"] == "unknown"
    return replace(decisions, link=replace(settled, noise=level), starts_midway=midway)


def _end(link: Link, name: str, level: float, most_states: int) -> Ends:
    """Return whether symbols go on beyond one end: the more probable hypothesis on a piece of the signal at that end.

    "unknown" may choose among M^(L-1) states at the end, which lowers its cost for noise as well. It pays for that freedom with
    the logarithm of their number.
    """
    size = min(link.observed.shape[-1], _PIECE * (link.memory + 1) + link.memory)
    if size <= 2 * link.memory:
        return "unknown"
    at_end = link.observed[..., :size] if name == "before" else link.observed[..., -size:]
    costs = []
    for hypothesis in ("unknown", "silence"):
        ends: dict[str, Any] = {"before": "unknown", "after": "unknown"} | {name: hypothesis}
        costs.append(viterbi(at_end, link.taps, link.points, most_states=most_states, **ends).cost)
    # Squared distances become log-likelihoods: over noise^2 for complex samples, over 2 noise^2 for real ones.
    unit = (1 if link.observed.is_complex() else 2) * level**2
    penalty = link.memory * math.log(len(link.points)) * link.observed.shape[0]
    return "silence" if float((costs[1] - costs[0]).sum()) / unit < penalty else "unknown"


def _most_likely(link: Link, most_states: int) -> Decisions:
    sequence = viterbi(
        link.observed,
        link.taps,
        link.points,
        before=link.before or "unknown",
        after=link.after or "unknown",
        most_states=most_states,
    )
    return _judged(link, sequence.indices, None, math.nan)


def _filtered(link: Link, method: str, settings: dict[str, Any]) -> Decisions:
    """Decide with a linear or a decision-feedback equaliser."""
    count, length, noise = link.symbols, settings["length"], link.noise
    assert noise is not None
    if method == "decision-feedback":
        dfe = decision_feedback_equalizer(link.taps, noise, forward=length, feedback=settings["feedback"])
        soft, indices = dfe.equalized(link.observed, link.points, count)
        # An estimate divided by its gain g = 1 - error has the mean squared error `error / g`.
        return _judged(link, indices, soft, dfe.error / abs(dfe.gain))
    linear = linear_equalizer(link.taps, noise, length, criterion="mmse" if method == "mmse" else "zero-forcing")
    soft = linear.equalized(link.observed, count)
    # The link's points have mean power 1; those of the table may have another.
    return _judged(link, Lookup(link.points).nearest(soft), soft, linear.error / abs(linear.gain))


def _judged(link: Link, indices: Tensor, soft: Tensor | None, error: float) -> Decisions:
    """Return decisions with the residual, gain, mismatch and DC offset that they leave in the observation."""
    count = indices.shape[-1]
    first, end, _ = link.loud.indices(count)
    # Away from the ends, where unknown symbols may interfere.
    inner = slice(first + link.memory, end - link.memory) if end - first > 4 * link.memory else slice(None)
    observed, expected = link.observed[..., inner], link.expected(indices)[..., inner]
    power = expected.abs().square().sum((-1, -2))
    gain = (expected.conj() * observed).sum((-1, -2)) / power.clamp(min=torch.finfo(power.dtype).tiny)
    left = observed - expected
    residual = left.abs().square().mean((-1, -2)).sqrt()
    mismatch = _mismatch(link, indices, observed - gain[:, None, None] * expected, inner)
    return Decisions(link, indices, soft, error, residual, gain, mismatch, _dc_offset(left))


def _dc_offset(left: Tensor) -> float:
    """Return the mean of the residual (B, P, n) over its RMS; 0 where chance explains it."""
    size = float(left.abs().square().mean().sqrt())
    mean = float(left.mean(-1).abs().square().mean().sqrt())
    return mean / size if mean > _SIGNIFICANT * size / math.sqrt(left.shape[-1]) else 0.0


def _mismatch(link: Link, indices: Tensor, left: Tensor, inner: slice) -> float:
    """Return how far the channel is from the one that fits the decisions, as a share of its energy.

    For the right channel the residual is noise, uncorrelated with the symbols. For a wrong one, its correlation with the
    symbols at each lag is the error of that tap. The energy that noise alone gives these correlations is subtracted.
    """
    if inner == slice(None):
        return 0.0
    sent, count = link.points[indices], inner.stop - inner.start
    error, energy = 0.0, float(link.taps.abs().square().sum())
    for lag in range(link.memory + 1):
        delayed = sent[:, inner.start - lag : inner.stop - lag]
        error += float(((left * delayed.conj()[:, None]).mean(-1).mean(0)).abs().square().sum())
    chance = (link.memory + 1) * float(left.abs().square().mean(-1).mean(0).sum()) / (count * len(left))
    # Four times the mean energy: chance seldom reaches that.
    share: float = max(0.0, error - 4 * chance) / energy
    return share


def _without_tail(decisions: Decisions) -> Decisions:
    """Drop the last L - 1 symbols where the end of the signal holds only the channel's response to earlier ones."""
    link, noise = decisions.link, decisions.link.noise
    count = link.observed.shape[-1] - link.memory
    if not link.memory or count < 2 * link.memory or noise is None:
        return decisions
    left = [
        (link.observed - link.expected(indices))[..., count:].abs().square().sum()
        for indices in (decisions.indices, decisions.indices[:, :count])
    ]
    # As in `_end`: the hypothesis with more symbols pays for their number.
    unit = (1 if link.observed.is_complex() else 2) * noise**2
    if float(left[1] - left[0]) / unit >= link.memory * math.log(len(link.points)) * len(link.observed):
        return decisions
    soft = None if decisions.soft is None else decisions.soft[:, :count]
    return replace(decisions, link=replace(link, after="silence"), indices=decisions.indices[:, :count], soft=soft)


def refuse_states(link: Link, method: str, most_states: int) -> None:
    """Refuse a trellis that is too large, before anything is computed."""
    if method in ("mlse", "bcjr") and link.states > most_states:
        raise ShapeError(
            f"equalize: {method} needs a trellis of {len(link.points)}**{round(math.log(link.states, len(link.points)))} = "
            f'{link.states} states, but most_states is {most_states}. Use "decision-feedback", or raise most_states.'
        )
