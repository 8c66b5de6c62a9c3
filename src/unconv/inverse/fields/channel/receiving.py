"""What each kind of knowledge makes of a signal: symbols through a channel, by learning from a training, or blindly."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from unconv.errors import DtypeError, ShapeError
from unconv.inverse.fields.channel.blind import SYMBOLS_PER_TAP, closed_eye, cma, multimodulus
from unconv.inverse.fields.channel.bursts import loud_part
from unconv.inverse.fields.channel.carrier import Carrier, estimate_carrier
from unconv.inverse.fields.channel.constellations import Constellation
from unconv.inverse.fields.channel.doubts import APART, EXPLAINED, FEW, doubts, on_training
from unconv.inverse.fields.channel.estimation import estimate_channel
from unconv.inverse.fields.channel.known import (
    LEAST,
    MANY_WRONG,
    Decided,
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
from unconv.inverse.fields.channel.synchronisation import Aligned, Settings, by_training, from_sample
from unconv.inverse.solvers.adaptive import Adapted, lms, nlms, rls

_OFF = 0.02  # from 1, the least gain that is worth a second round
_MUCH_LESS = 0.8  # of what a channel leaves, where decisions cannot be relied on
_SURE = 5.0  # standard deviations from which on a gain is believed
_SHORTEST = 8  # symbols that an adaptive filter spans
_LOOP = 0.005  # bandwidth of the loop that tracks a carrier's phase, over the symbol rate
_LONGEST, _FEWEST = 21, 40  # symbols that a blind filter spans, and those that it wants for each of them
_ROUNDS = 2  # of estimating a channel from decisions


@dataclass(frozen=True)
class Found:
    """Rows of decisions.

    Attributes:
        indices: (B, N). soft, ratios: compute (B, N) and (B, N * m) when they are asked for.
        delay, noise, channel, method, states, phase, frequency, ambiguity, converged, notes: as of `Equalized`.
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


def through(aligned: Aligned, settings: Settings) -> Found:
    """Decide the symbols of signals whose channel is known, or was estimated from a training."""
    notes, table = list(aligned.notes), settings.table
    rows, channel, turn = _without_carrier(aligned, settings)
    if turn.turns:
        notes.append(_turn_words(turn, aligned.training is not None))
    link = _link(rows, channel, settings)
    method = method_of(link, settings.method, settings.most_states)
    refuse_states(link, method, settings.most_states)
    options: dict[str, Any] = {"length": settings.length, "feedback": settings.feedback, "most_states": settings.most_states}
    _refuse_mean(table, method)
    settings.progress("deciding", 0, 1)
    found = decide(link, method, options)
    back = _turned_off_training(found, aligned, settings.table)
    if back:
        channel = channel * cmath.exp(-1j * back)
        found = decide(_link(rows, channel, settings), method, options)
    for _ in range(_ROUNDS):
        better = _better_channel(found, aligned, channel, rows, settings)
        if better is None:
            break
        again = decide(_link(rows, better[0], settings), method, options)
        if not _explains_more(again, found, aligned):
            break
        found, channel = again, better[0]
        notes += better[1]
    settings.progress("deciding", 1, 1)
    notes += doubts(found, settings, aligned)
    return _taken(found, aligned, channel, turn, method, settings, notes)


def _without_carrier(aligned: Aligned, settings: Settings) -> tuple[Tensor, Tensor, Carrier]:
    """Turn signals back that a carrier turns against their channel; real ones have none."""
    rows, channel, table = aligned.rows, aligned.channel, settings.table
    none = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
    turn = Carrier(none, none.clone(), 1)
    if not rows.is_complex() and not channel.is_complex():
        return rows, channel, turn
    kind = torch.promote_types(rows.dtype, channel.dtype)
    rows, channel = rows.to(kind), channel.to(kind)
    observed, taps = subchannels(rows, settings.samples_per_symbol), split_taps(channel, settings.samples_per_symbol)
    scale = math.sqrt(table.power)
    power = float(observed.abs().square().mean())
    level = settings.noise or math.sqrt(max(0.01 * power, power - table.power * float(taps.abs().square().sum(-1).mean())))
    # A filter without regard to real points: the widely linear one would be made for a phase that is not known yet.
    count = observed.shape[-1] if settings.count is None else min(settings.count, observed.shape[-1])
    soft = linear_equalizer(scale * taps, level, settings.length).equalized(observed, count)
    turn = estimate_carrier(soft, table, anchored=aligned.training is not None)
    return (turn.turned_back(rows, settings.samples_per_symbol), channel, turn) if turn.turns else (rows, channel, turn)


def _link(rows: Tensor, channel: Tensor, settings: Settings) -> Link:
    """Return signals and channel at one sample a symbol, symbols of mean power 1, real where the symbols are."""
    table, sps = settings.table, settings.samples_per_symbol
    observed = subchannels(rows, sps)
    scale = math.sqrt(table.power)
    taps, points = split_taps(channel, sps) * scale, table.points.to(rows.device) / scale
    noise = settings.noise
    if rows.is_complex() and not points.is_complex():
        observed, taps = as_real(observed, taps)
        noise = None if noise is None else noise / math.sqrt(2)
    elif points.is_complex() and not rows.is_complex():
        if not channel.is_complex():
            raise DtypeError(
                f"equalize: received and channel are real, but {table.name} is complex. Pass the complex baseband samples, I "
                f"+ jQ."
            )
        observed = observed.to(channel.dtype)
    taps, points = taps.to(observed.dtype), points.to(observed.dtype)
    if settings.count is not None:
        least = observed.shape[-1]
        if settings.count > least:
            raise ShapeError(
                f"equalize: count is {settings.count} symbols, but only {least} symbol periods were received. Pass more "
                f"samples, or a smaller count."
            )
        observed = observed[..., : settings.count + taps.shape[-1] - 1]
    return Link(observed, taps, table, points, noise, loud=loud_part(observed, taps.shape[-1]))


def _refuse_mean(table: Any, method: str) -> None:
    if method not in ("mlse", "bcjr") and not table.is_centred:
        raise ShapeError(
            f"equalize: the points of {table.name} have mean {complex(table.points.mean()):.3g}, but {method} needs 0. "
            f"Subtract it, and what "
            'the channel makes of it, or use "mlse".'
        )


def _explains_more(again: Decided, found: Decided, aligned: Aligned) -> bool:
    """Whether a changed channel leaves less than the one before.

    Decisions of which many are wrong follow the noise, and speak for a channel that is too strong: it must do much better.
    """
    left, before = float(again.residual.square().sum()), float(found.residual.square().sum())
    doubtful = share_wrong(again.link.table, matched_error(again.link, float(again.residual.max()))) > MANY_WRONG
    return left < (_MUCH_LESS if doubtful and aligned.noise is None else 1) * before


def _better_channel(
    found: Decided, aligned: Aligned, channel: Tensor, rows: Tensor, settings: Settings
) -> tuple[Tensor, list[str]] | None:
    """Return the channel that decisions speak for: estimated anew, if it came from a training, else of another strength."""
    share = 1 - float(found.residual.square().mean()) / found.link.power
    if share < EXPLAINED:
        return None
    if aligned.training is not None and aligned.noise is not None:
        # Behind a burst's end, decisions are about noise.
        indices = _with_training(found.indices, aligned)[0, : found.link.loud.stop]
        # The last symbol may be received in part only.
        symbols = settings.table.points.to(rows.device)[indices[: rows.shape[1] // settings.samples_per_symbol]]
        estimate = estimate_channel(rows[0], symbols, len(channel), settings.samples_per_symbol, 0)
        return estimate.taps.to(channel.dtype), []
    gain = found.gain.mean()
    inner = found.indices.numel()
    spread = float(found.residual.square().mean().sqrt()) / math.sqrt(inner * float(found.link.taps.abs().square().sum()))
    if found.apart > APART or not abs(gain - 1) > max(_OFF, _SURE * spread) or not 0.3 < abs(gain) < 3:
        return None
    words = f"the channel's strength was multiplied by {float(abs(gain)):.3g}, which the decisions speak for"
    return channel * gain.to(channel.dtype), [words]


def _turned_off_training(found: Decided, aligned: Aligned, table: Constellation) -> float:
    """Return the angle, one that turns the constellation into itself, by which decisions are behind the training; mostly 0.

    A carrier that turned during the training leaves the channel with a phase that fits no part of it.
    """
    decided, known = on_training(found, aligned)
    if not len(known) or not found.link.points.is_complex():
        return 0.0
    points, look = table.points.to(decided.device), Lookup(table.points)
    turned = [look.nearest(points[decided] * cmath.exp(1j * angle)) for angle in table.rotations]
    wrong = [int((each != known).sum()) for each in turned]
    best = min(range(len(wrong)), key=wrong.__getitem__)
    return table.rotations[best] if 2 * wrong[best] < wrong[0] and wrong[0] > FEW * len(known) else 0.0


def _turn_words(turn: Carrier, anchored: bool) -> str:
    """Say by how much signals were turned back, of the first one."""
    phase, slope = float(turn.phase[0]), float(turn.slope[0])
    words = f"a carrier that turns the symbols by {math.degrees(phase):.1f} degrees"
    words += f" and {math.degrees(slope):.3g} degrees a symbol" if slope else ""
    rest = (
        "" if anchored else f"; turns by multiples of {360 / turn.symmetry:.0f} degrees cannot be told, and the least was taken"
    )
    return f"{words} was turned back{rest}"


@dataclass(frozen=True)
class _Estimates:
    """Soft values and ratios of decisions, computed when they are asked for: posteriors cost as much as the decisions did."""

    found: Decided
    table: Constellation
    count: int
    most_states: int

    @cached_property
    def posteriors(self) -> Tensor:
        """(B, N, M), logarithms."""
        return posteriors(self.found, self.most_states)[:, : self.count]

    def soft(self) -> Tensor:
        """(B, N), in the units of the constellation; the mean of all points, weighted by how probable they are."""
        scale = math.sqrt(self.table.power)
        if self.found.soft is not None:
            return scale * self.found.soft[:, : self.count]
        points = self.found.link.points
        means: Tensor = scale * (self.posteriors.exp().to(points.dtype) @ points)
        return means

    def ratios(self) -> Tensor:
        """(B, N * m); behind a filter as if its error were white and Gaussian, as strong as it expects."""
        made: Tensor
        if self.found.soft is None:
            made = self.table.llr_from_posteriors(self.posteriors)
        else:
            made = self.table.llr(self.soft(), max(self.found.error, LEAST) * self.table.power)
        return made


def _taken(
    found: Decided, aligned: Aligned, channel: Tensor, turn: Carrier, method: str, settings: Settings, notes: list[str]
) -> Found:
    """Return decisions in the units of the constellation and of the samples."""
    table, link = settings.table, found.link
    count = found.indices.shape[1] if settings.count is None else min(settings.count, found.indices.shape[1])
    estimates = _Estimates(found, table, count, settings.most_states)
    indices = found.indices[:, :count] if method != "bcjr" else estimates.posteriors.argmax(-1)
    # Of complex samples that were taken apart, each part has half of the noise's power.
    parts = 2 if aligned.rows.is_complex() and not link.observed.is_complex() else 1
    return Found(
        _with_training(indices, aligned),
        estimates.soft,
        estimates.ratios,
        aligned.delay,
        (link.noise or 0.0) * math.sqrt(parts),
        channel,
        method,
        link.states if method in ("mlse", "bcjr") else 0,
        float(turn.phase[0]),
        float(turn.slope[0]),
        table.rotations if turn.turns and aligned.training is None else (0.0,),
        notes=tuple(notes),
    )


def _with_training(indices: Tensor, aligned: Aligned) -> Tensor:
    """Return decisions with the symbols that were known in their place."""
    if aligned.training is None:
        return indices
    made = indices.clone()
    part = made[:, aligned.start : aligned.start + len(aligned.training)]
    part.copy_(aligned.training[: part.shape[1]])
    return made


def adapted(row: Tensor, sent: Tensor, start: int, settings: Settings) -> Found:
    """Learn a filter from a training at the beginning, and go on learning from decisions."""
    table, sps = settings.table, settings.samples_per_symbol
    if start:
        raise ShapeError(
            f"equalize: training_start is {start}, but {settings.method} learns from the first symbols on. Cut the signal "
            'there, or use "decision-feedback".'
        )
    found_at = by_training(row, sent, start, None, settings)
    reach = -(-len(found_at.channel) // sps)
    # RLS has learnt after twice as many symbols as it has taps; five times the channel holds an inverse of most.
    length = settings.length or max(2, min(max(_SHORTEST, 5 * reach), len(sent) // 2))
    learn: Any = {"lms": lms, "nlms": nlms, "rls": rls}[settings.method]
    kind = torch.promote_types(row.dtype, table.points.dtype) if row.is_complex() else row.dtype
    samples = from_sample(row, found_at.delay)
    given: Adapted = learn(
        samples if settings.count is None else samples[: (settings.count + reach) * sps],
        sent.to(kind if sent.is_complex() else sent.dtype),
        length * sps,
        table.points.to(row.device),
        samples_per_symbol=sps,
        feedback=settings.feedback or 0,
        phase=_LOOP if row.is_complex() else 0.0,
    )
    soft = given.outputs[None, : settings.count]
    indices = table.nearest(soft)
    indices[:, : len(sent)] = found_at.training
    variance, closed = _learnt(given, table, row.is_complex(), settings.method)
    notes = [*found_at.notes, *given.notes, f"the filter spans {length} symbols", *closed]
    return Found(
        indices,
        lambda: soft,
        lambda: table.llr(soft, max(variance, LEAST)),
        found_at.delay,
        found_at.noise or math.nan,
        None,
        settings.method,
        converged=not (bool(given.diverged) or bool(closed)),
        notes=tuple(notes),
    )


def _learnt(given: Adapted, table: Constellation, is_complex: bool, method: str) -> tuple[float, list[str]]:
    """Return the mean squared error of the last quarter of all symbols, and a word where it is too large for decisions."""
    errors = given.errors[-max(1, len(given.errors) // 4) :]
    variance = float(errors.abs().square().nanmean()) if len(errors) else math.nan
    if variance < closed_eye(table, is_complex) * table.power:
        return variance, []
    return variance, [
        f"{method} did not learn the channel: its outputs are off by {variance / table.power:.2g} of the power, too far for "
        'decisions. Take "rls", a longer training, or "auto"'
    ]


def blindly(row: Tensor, settings: Settings) -> Found:
    """Find symbols without channel and training; a carrier that goes on turning them is looked for where nothing else helps."""
    table, sps = settings.table, settings.samples_per_symbol
    method = settings.method if settings.method != "auto" else _blind_method(table, row.is_complex())
    equalise = {"cma": cma, "multimodulus": multimodulus}[method]
    symbols = -(-len(row) // sps)
    length = (settings.length or max(1, min(_LONGEST, symbols // max(_FEWEST, SYMBOLS_PER_TAP * sps)))) * sps
    settings.progress("equalising blindly", 0, 1)
    found, notes = equalise(row, table, length, sps), list[str]()
    phase = slope = 0.0
    if not bool(found.converged) and row.is_complex() and table.points.is_complex():
        # The modulus does not see a carrier, which decisions cannot follow.
        soft = torch.as_tensor(cma(row, table, length, sps, directed=False).soft)[None]
        turn = estimate_carrier(soft / math.sqrt(table.power), table)
        again = equalise(turn.turned_back(row[None], sps)[0], table, length, sps) if bool(turn.slope != 0) else found
        if bool(again.converged):
            found, phase, slope = again, float(turn.phase[0]), float(turn.slope[0])
            notes.append(_turn_words(turn, True))
    soft = found.soft[None, : settings.count]
    angles = ", ".join(f"{math.degrees(angle):.0f}" for angle in table.rotations)
    notes += [*found.notes, f"blind: symbols may be turned by {angles} degrees, and late or early by whole symbols"]
    error = max(float(found.error), LEAST) * table.power
    return Found(
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
        converged=bool(found.converged),
        notes=tuple(notes),
    )


def _blind_method(table: Constellation, is_complex: bool) -> str:
    """Return the multimodulus for grids, whose phase it finds, and the constant modulus for circles and lines."""
    sizes = table.points.abs()
    circle = float(sizes.max() - sizes.min()) < 1e-6 * float(sizes.max())
    square = math.isqrt(len(sizes)) ** 2 == len(sizes) and len(table.rotations) == 4
    return "multimodulus" if is_complex and square and not circle else "cma"
