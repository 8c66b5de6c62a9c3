"""Equalise signals by what is known of their channel: its taps, a training sequence, or nothing (blind equalisation)."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from unconv.errors import DtypeError, ShapeError, counted
from unconv.inverse.fields.channel.blind import SYMBOLS_PER_TAP, closed_eye, cma, multimodulus
from unconv.inverse.fields.channel.bursts import loud_part
from unconv.inverse.fields.channel.carrier import Carrier, estimate_carrier
from unconv.inverse.fields.channel.constellations import Constellation
from unconv.inverse.fields.channel.doubts import MAX_DISAGREEMENT, MAX_MISMATCH, MIN_EXPLAINED, doubts, on_training
from unconv.inverse.fields.channel.estimation import estimate_channel
from unconv.inverse.fields.channel.known import (
    LEAST,
    UNRELIABLE,
    Decisions,
    Link,
    decide,
    matched_error,
    method_of,
    posteriors,
    refuse_states,
    share_wrong,
)
from unconv.inverse.fields.channel.linear import linear_equalizer
from unconv.inverse.fields.channel.lookup import Lookup
from unconv.inverse.fields.channel.polyphase import as_real, split_taps, subchannels
from unconv.inverse.fields.channel.synchronisation import AlignedSignals, Settings, align_by_training, from_sample
from unconv.inverse.solvers.adaptive import Adapted, lms, nlms, rls

_MIN_GAIN_CHANGE = 0.02  # smallest relative change of the channel's gain that is worth a second round of decisions
_CLEARLY_BETTER = 0.8  # ratio of residual energies that a new channel must reach where decisions are unreliable
_SIGNIFICANT = 5.0  # standard deviations beyond which a change of gain is not chance
_MIN_SPAN = 8  # symbols: shortest adaptive filter that is chosen automatically
_LOOP_BANDWIDTH = 0.005  # of the loop that tracks the carrier's phase, over the symbol rate
_MAX_BLIND_SPAN, _SYMBOLS_PER_SPAN = 21, 40  # symbols that a blind filter spans at most; received symbols needed for each
_REESTIMATIONS = 2  # rounds of decision-directed channel estimation


@dataclass(frozen=True)
class LinkResult:
    """Decisions on B signals that share a channel, in the units of the constellation and of the received samples.

    Attributes:
        indices: (B, N). soft, ratios: compute (B, N) and (B, N * m) on demand.
        delay, noise, channel, method, states, phase, frequency, ambiguity, converged, notes: as in `Equalized`.
    """

    indices: Tensor
    soft: Callable[[], Tensor]
    ratios: Callable[[], Tensor]
    delay: int
    noise: float
    channel: Tensor | None
    method: str
    states: int = 0
    phase: float = 0.0
    frequency: float = 0.0
    ambiguity: tuple[float, ...] = ()
    converged: bool = True
    notes: tuple[str, ...] = ()


def equalize_known(aligned: AlignedSignals, settings: Settings) -> LinkResult:
    """Decide the symbols of signals whose channel is known, or was estimated from a training sequence."""
    notes, table = list(aligned.notes), settings.table
    # The carrier comes first: every method below expects a channel that stays the same from symbol to symbol.
    rows, channel, carrier = _without_carrier(aligned, settings)
    if carrier.turns:
        notes.append(_carrier_note(carrier, aligned.training is not None))
    link = _link(rows, channel, settings)
    method = method_of(link, settings.method, settings.most_states)
    refuse_states(link, method, settings.most_states)
    options: dict[str, Any] = {"length": settings.length, "feedback": settings.feedback, "most_states": settings.most_states}
    _refuse_mean(table, method)
    settings.progress("deciding", 0, 1)
    decisions = decide(link, method, options)
    rotation = _rotation_off_training(decisions, aligned, settings.table)
    if rotation:
        channel = channel * cmath.exp(-1j * rotation)
        decisions = decide(_link(rows, channel, settings), method, options)
    # Decision-directed channel estimation: many decisions average out the error that a short training sequence leaves.
    for _ in range(_REESTIMATIONS):
        refined = _refined_channel(decisions, aligned, channel, rows, settings)
        if refined is None:
            break
        candidate = decide(_link(rows, refined[0], settings), method, options)
        if not _explains_more(candidate, decisions, aligned):
            break
        decisions, channel = candidate, refined[0]
        notes += refined[1]
    settings.progress("deciding", 1, 1)
    notes += doubts(decisions, settings, aligned)
    return _result(decisions, aligned, channel, carrier, method, settings, notes)


def _without_carrier(aligned: AlignedSignals, settings: Settings) -> tuple[Tensor, Tensor, Carrier]:
    """Remove the carrier's phase and frequency offset from complex signals; real signals have none."""
    rows, channel, table = aligned.rows, aligned.channel, settings.table
    none = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
    carrier = Carrier(none, none.clone(), 1)
    if not rows.is_complex() and not channel.is_complex():
        return rows, channel, carrier
    kind = torch.promote_types(rows.dtype, channel.dtype)
    rows, channel = rows.to(kind), channel.to(kind)
    observed, taps = subchannels(rows, settings.samples_per_symbol), split_taps(channel, settings.samples_per_symbol)
    scale = math.sqrt(table.power)
    power = float(observed.abs().square().mean())
    level = settings.noise or math.sqrt(max(0.01 * power, power - table.power * float(taps.abs().square().sum(-1).mean())))
    # A strictly linear filter even for real points: the widely linear one would depend on a phase that is not known yet.
    count = observed.shape[-1] if settings.count is None else min(settings.count, observed.shape[-1])
    soft = linear_equalizer(scale * taps, level, settings.length).equalized(observed, count)
    carrier = estimate_carrier(soft, table, anchored=aligned.training is not None)
    rows = carrier.turned_back(rows, settings.samples_per_symbol) if carrier.turns else rows
    return rows, channel, carrier


def _link(rows: Tensor, channel: Tensor, settings: Settings) -> Link:
    """Return signals and channel at one sample per symbol, for symbols of mean power 1, real where the symbols are real."""
    table, sps = settings.table, settings.samples_per_symbol
    observed = subchannels(rows, sps)
    scale = math.sqrt(table.power)
    taps, points = split_taps(channel, sps) * scale, table.points.to(rows.device) / scale
    noise = settings.noise
    if rows.is_complex() and not points.is_complex():
        # Real symbols in complex samples: I and Q become two real sub-channels (widely linear), each with half the noise power.
        observed, taps = as_real(observed, taps)
        noise = None if noise is None else noise / math.sqrt(2)
    elif points.is_complex() and not rows.is_complex():
        if not channel.is_complex():
            raise DtypeError(
                f"equalize: received and channel are real, but {table.name} is complex, so complex baseband samples were "
                "needed. Pass I + jQ."
            )
        observed = observed.to(channel.dtype)
    taps, points = taps.to(observed.dtype), points.to(observed.dtype)
    if settings.count is not None:
        least = observed.shape[-1]
        if settings.count > least:
            raise ShapeError(
                f"equalize: count is {counted(settings.count, 'symbol')}, but received holds only "
                f"{counted(least, 'symbol period')}. Pass more samples, or a smaller count."
            )
        observed = observed[..., : settings.count + taps.shape[-1] - 1]
    return Link(observed, taps, table, points, noise, loud=loud_part(observed, taps.shape[-1]))


def _refuse_mean(table: Any, method: str) -> None:
    if method not in ("mlse", "bcjr") and not table.is_centred:
        raise ShapeError(
            f"equalize: the points of {table.name} have mean {complex(table.points.mean()):.3g}, but {method} needs points of "
            "mean 0. Subtract the mean from the points, and its response through the channel from received; or use "
            '"mlse".'
        )


def _explains_more(candidate: Decisions, decisions: Decisions, aligned: AlignedSignals) -> bool:
    """Return whether a refined channel leaves a smaller residual than the previous one.

    Where many decisions are wrong, they follow the noise and favour a channel that is too strong: the residual must then be
    clearly smaller.
    """
    left, before = float(candidate.residual.square().sum()), float(decisions.residual.square().sum())
    unreliable = share_wrong(candidate.link.table, matched_error(candidate.link, float(candidate.residual.max()))) > UNRELIABLE
    return left < (_CLEARLY_BETTER if unreliable and aligned.noise is None else 1) * before


def _refined_channel(
    decisions: Decisions, aligned: AlignedSignals, channel: Tensor, rows: Tensor, settings: Settings
) -> tuple[Tensor, list[str]] | None:
    """Return the channel that fits the decisions: re-estimated if it came from a training sequence, else only rescaled."""
    share = 1 - float(decisions.residual.square().mean()) / decisions.link.power
    if share < MIN_EXPLAINED:
        return None
    if aligned.training is not None and aligned.noise is not None:
        # After the end of a burst, decisions are made on noise alone.
        indices = _with_training(decisions.indices, aligned)[0, : decisions.link.loud.stop]
        # The response to the last symbol may be cut off.
        symbols = settings.table.points.to(rows.device)[indices[: rows.shape[1] // settings.samples_per_symbol]]
        estimate = estimate_channel(rows[0], symbols, len(channel), settings.samples_per_symbol, 0)
        return estimate.taps.to(channel.dtype), []
    gain = decisions.gain.mean()
    inner = decisions.indices.numel()
    spread = float(decisions.residual.square().mean().sqrt()) / math.sqrt(
        inner * float(decisions.link.taps.abs().square().sum())
    )
    # Rescaling helps only taps of the right shape, by a factor that is neither chance nor absurd.
    significant = max(_MIN_GAIN_CHANGE, _SIGNIFICANT * spread)
    if decisions.mismatch > MAX_MISMATCH or not abs(gain - 1) > significant or not 0.3 < abs(gain) < 3:
        return None
    note = f"channel taps scaled by {float(abs(gain)):.3g}, the least-squares fit of the decisions to the received samples"
    return channel * gain.to(channel.dtype), [note]


def _rotation_off_training(decisions: Decisions, aligned: AlignedSignals, table: Constellation) -> float:
    """Return the symmetry rotation of the constellation by which decisions lag behind the training sequence; mostly 0.

    A carrier that turned during the training sequence leaves the estimated channel with a phase that fits no part of it.
    """
    decided, known = on_training(decisions, aligned)
    if not len(known) or not decisions.link.points.is_complex():
        return 0.0
    points, lookup = table.points.to(decided.device), Lookup(table.points)
    rotated = [lookup.nearest(points[decided] * cmath.exp(1j * angle)) for angle in table.rotations]
    wrong = [int((each != known).sum()) for each in rotated]
    best = min(range(len(wrong)), key=wrong.__getitem__)
    return table.rotations[best] if 2 * wrong[best] < wrong[0] and wrong[0] > MAX_DISAGREEMENT * len(known) else 0.0


def _carrier_note(carrier: Carrier, anchored: bool) -> str:
    """Say which carrier phase and frequency offset were removed from the first signal, and what stays ambiguous."""
    phase, slope = float(carrier.phase[0]), float(carrier.slope[0])
    which = " (of the first signal)" if len(carrier.phase) > 1 else ""
    note = f"carrier corrected{which}: phase {math.degrees(phase):.1f} degrees"
    note += f", frequency offset {math.degrees(slope):.3g} degrees per symbol" if slope else ""
    ambiguity = (
        ""
        if anchored
        else f"; the phase is ambiguous by multiples of {360 / carrier.symmetry:.0f} degrees, and the one nearest to 0 was used"
    )
    return f"{note}{ambiguity}"


@dataclass(frozen=True)
class _Estimates:
    """Soft symbols and log-likelihood ratios, computed on demand: posteriors cost as much as the decisions did."""

    decisions: Decisions
    table: Constellation
    count: int
    most_states: int

    @cached_property
    def posteriors(self) -> Tensor:
        """(B, N, M), logarithms."""
        return posteriors(self.decisions, self.most_states)[:, : self.count]

    def soft(self) -> Tensor:
        """(B, N), in the units of the constellation; without a filter the posterior mean of the points."""
        scale = math.sqrt(self.table.power)
        if self.decisions.soft is not None:
            return scale * self.decisions.soft[:, : self.count]
        points = self.decisions.link.points
        means: Tensor = scale * (self.posteriors.exp().to(points.dtype) @ points)
        return means

    def ratios(self) -> Tensor:
        """(B, N * m); after a filter as if its error were white and Gaussian, with the variance that its design predicts."""
        ratios: Tensor
        if self.decisions.soft is None:
            ratios = self.table.llr_from_posteriors(self.posteriors)
        else:
            ratios = self.table.llr(self.soft(), max(self.decisions.error, LEAST) * self.table.power)
        return ratios


def _result(
    decisions: Decisions,
    aligned: AlignedSignals,
    channel: Tensor,
    carrier: Carrier,
    method: str,
    settings: Settings,
    notes: list[str],
) -> LinkResult:
    """Return decisions in the units of the constellation and of the received samples."""
    table, link = settings.table, decisions.link
    count = decisions.indices.shape[1] if settings.count is None else min(settings.count, decisions.indices.shape[1])
    estimates = _Estimates(decisions, table, count, settings.most_states)
    # BCJR maximises each symbol's own posterior; the most likely sequence may differ from that in single symbols.
    indices = decisions.indices[:, :count] if method != "bcjr" else estimates.posteriors.argmax(-1)
    # Where complex samples were split into I and Q, each part has half of the noise's power.
    parts = 2 if aligned.rows.is_complex() and not link.observed.is_complex() else 1
    return LinkResult(
        _with_training(indices, aligned),
        estimates.soft,
        estimates.ratios,
        aligned.delay,
        (link.noise or 0.0) * math.sqrt(parts),
        channel,
        method,
        link.states if method in ("mlse", "bcjr") else 0,
        float(carrier.phase[0]),
        float(carrier.slope[0]),
        table.rotations if carrier.turns and aligned.training is None else (0.0,),
        notes=tuple(notes),
    )


def _with_training(indices: Tensor, aligned: AlignedSignals) -> Tensor:
    """Return decisions in which the known training symbols replace those that were decided."""
    if aligned.training is None:
        return indices
    combined = indices.clone()
    part = combined[:, aligned.start : aligned.start + len(aligned.training)]
    part.copy_(aligned.training[: part.shape[1]])
    return combined


def equalize_adaptively(row: Tensor, sent: Tensor, start: int, settings: Settings) -> LinkResult:
    """Adapt a filter to a training sequence at the beginning, then continue decision-directed."""
    table, sps = settings.table, settings.samples_per_symbol
    if start:
        raise ShapeError(
            f"equalize: training_start is {start}, but 0 was needed: {settings.method} adapts from the first symbol on. Cut "
            'off what precedes the training sequence, or use "decision-feedback".'
        )
    # The channel estimate serves only to find the first symbol and the filter's length; the filter learns by itself.
    aligned = align_by_training(row, sent, start, None, settings)
    reach = -(-len(aligned.channel) // sps)
    # RLS has converged after twice as many symbols as it has taps; five times the channel's length inverts most channels.
    length = settings.length or max(2, min(max(_MIN_SPAN, 5 * reach), len(sent) // 2))
    learn: Any = {"lms": lms, "nlms": nlms, "rls": rls}[settings.method]
    kind = torch.promote_types(row.dtype, table.points.dtype) if row.is_complex() else row.dtype
    samples = from_sample(row, aligned.delay)
    adaptation: Adapted = learn(
        samples if settings.count is None else samples[: (settings.count + reach) * sps],
        sent.to(kind if sent.is_complex() else sent.dtype),
        length * sps,
        table.points.to(row.device),
        samples_per_symbol=sps,
        feedback=settings.feedback or 0,
        phase=_LOOP_BANDWIDTH if row.is_complex() else 0.0,
    )
    soft = adaptation.outputs[None, : settings.count]
    indices = table.nearest(soft)
    indices[:, : len(sent)] = aligned.training
    variance, closed = _final_error(adaptation, table, row.is_complex(), settings.method)
    notes = [*aligned.notes, *adaptation.notes, f"the adaptive filter spans {counted(length, 'symbol')}", *closed]
    return LinkResult(
        indices,
        lambda: soft,
        lambda: table.llr(soft, max(variance, LEAST)),
        aligned.delay,
        aligned.noise or math.nan,
        None,
        settings.method,
        converged=not (bool(adaptation.diverged) or bool(closed)),
        notes=tuple(notes),
    )


def _final_error(adaptation: Adapted, table: Constellation, is_complex: bool, method: str) -> tuple[float, list[str]]:
    """Return the mean squared error over the last quarter of the symbols, with a note where the eye stays closed."""
    errors = adaptation.errors[-max(1, len(adaptation.errors) // 4) :]
    variance = float(errors.abs().square().nanmean()) if len(errors) else math.nan
    if variance < closed_eye(table, is_complex) * table.power:
        return variance, []
    return variance, [
        f"{method} did not converge: the mean squared error at its output is {variance / table.power:.2g} of the symbol power, "
        'too large for reliable decisions. Use "rls", a longer training sequence, or "auto"'
    ]


def equalize_blindly(row: Tensor, settings: Settings) -> LinkResult:
    """Equalise without channel and training sequence; if that fails, look for a carrier frequency offset and try again."""
    table, sps = settings.table, settings.samples_per_symbol
    method = settings.method if settings.method != "auto" else _blind_method(table, row.is_complex())
    equalise = {"cma": cma, "multimodulus": multimodulus}[method]
    symbols = -(-len(row) // sps)
    length = (settings.length or max(1, min(_MAX_BLIND_SPAN, symbols // max(_SYMBOLS_PER_SPAN, SYMBOLS_PER_TAP * sps)))) * sps
    settings.progress("equalising blindly", 0, 1)
    blind, notes = equalise(row, table, length, sps), list[str]()
    phase = slope = 0.0
    if not bool(blind.converged) and row.is_complex() and table.points.is_complex():
        # A rotating carrier does not change the modulus, but decisions cannot follow it: equalise by the modulus alone, and
        # estimate the carrier from the result.
        soft = torch.as_tensor(cma(row, table, length, sps, directed=False).soft)[None]
        carrier = estimate_carrier(soft / math.sqrt(table.power), table)
        second = equalise(carrier.turned_back(row[None], sps)[0], table, length, sps) if bool(carrier.slope != 0) else blind
        if bool(second.converged):
            blind, phase, slope = second, float(carrier.phase[0]), float(carrier.slope[0])
            notes.append(_carrier_note(carrier, True))
    soft = blind.soft[None, : settings.count]
    angles = ", ".join(f"{math.degrees(angle):.0f}" for angle in table.rotations)
    notes += [
        *blind.notes,
        f"blind: the phase is ambiguous ({angles} degrees are possible), and so is the delay, by whole symbols. A few known "
        "symbols resolve both: see `align`",
    ]
    error = max(float(blind.error), LEAST) * table.power
    return LinkResult(
        table.nearest(soft),
        lambda: soft,
        lambda: table.llr(soft, error),
        0,
        math.nan,
        None,
        method,
        phase=phase,
        frequency=slope,
        ambiguity=table.rotations,
        converged=bool(blind.converged),
        notes=tuple(notes),
    )


def _blind_method(table: Constellation, is_complex: bool) -> str:
    """Return multimodulus for square grids, whose phase it recovers, and constant modulus for circles and lines."""
    sizes = table.points.abs()
    circle = float(sizes.max() - sizes.min()) < 1e-6 * float(sizes.max())
    square = math.isqrt(len(sizes)) ** 2 == len(sizes) and len(table.rotations) == 4
    return "multimodulus" if is_complex and square and not circle else "cma"
