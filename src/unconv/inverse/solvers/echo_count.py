"""How many pulses a trace holds, and where: pulses are added, split, moved and taken away while a criterion falls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.inverse.solvers.delays import Correlations, Fitted, fitted

_TRIAL, _FINAL = 8, 60  # steps of a fit that is only compared, and of the one that is kept
_PRICE = 3.0  # times log n, for a pulse: its amplitude, its delay, and that the delay was searched for
_APART = (1.0, 3.0, 6.0)  # radians of the pulse's oscillation between the two that one is split into
_TWINS = 0.1  # samples: nearer pulses are one
_LEAST = 1e-3  # fall of the criterion below which nothing is gained


@dataclass(frozen=True)
class Counted:
    """Pulses of each trace, and what was compared.

    Attributes:
        found: the best fit of each trace.
        criterion: (B, K + 1), the lowest seen with each number of pulses; infinite where none was tried.
    """

    found: Fitted
    criterion: Tensor


def price(n: Tensor) -> Tensor:
    """Return what one pulse more must gain in n log(sum of squares), from how many samples were observed.

    Source:
        Djurić, "A model selection rule for sinusoids in white Gaussian noise" (1996): an amplitude costs log n / 2 and a
        frequency, here a delay, 3 log n / 2, both times two in this scale; and one log n less, as a real pulse has no phase.
    """
    return _PRICE * n.log()


def counted(table: Correlations, most: int, misfit: float = 0.0, start: Tensor | None = None) -> Counted:
    """Choose the number of pulses in each trace, and fit them.

    Args:
        most: pulses at most.
        misfit: how far an echo's shape is from the pulse's, as a share of its size. A pulse beside a stronger one must explain
            more than that: otherwise it mends the stronger one's shape.
        start: (B, K) delays to begin with, NaN for none; by default none.
    """
    count = len(table.energy)
    rows = torch.arange(count, device=table.energy.device)
    delays = table.energy.new_zeros((count, most))
    real = torch.zeros_like(delays, dtype=torch.bool)
    if start is not None:
        many = min(most, start.shape[1])
        real[:, :many] = torch.isfinite(start[:, :many])
        delays[:, :many] = torch.where(real[:, :many], start[:, :many].to(delays), 0)
    best = fitted(table, rows, delays, real)
    score = _criterion(table, best, misfit)
    seen = torch.full((count, most + 1), torch.inf, dtype=score.dtype, device=score.device)
    seen.scatter_(1, best.real.sum(1, keepdim=True), score[:, None])
    active = rows
    for _ in range(4 * most + 4):
        best = _compact(best)
        trials, owner = _moves(table, _widened(best, min(most, best.real.shape[1] + 1)), active)
        tried = fitted(table, active[owner], *trials, _TRIAL)
        told = _criterion(table, tried, misfit)
        seen.view(-1).scatter_reduce_(0, active[owner] * (most + 1) + tried.real.sum(1), told, "amin")
        # The best trial of each trace: the lowest of those that it owns.
        lowest = told.new_full((len(active),), torch.inf).scatter_reduce(0, owner, told, "amin")
        better = lowest < score[active] - _LEAST
        winner = told.new_zeros(len(active), dtype=torch.long)
        order = torch.argsort(told, descending=True)
        winner[owner[order]] = order  # the last one written is the lowest
        active, winner = active[better], winner[better]
        if not len(active):
            break
        kept = fitted(table, active, tried.delays[winner], tried.real[winner])
        best = _widened(best, kept.delays.shape[1])
        for whole, part in ((best.delays, kept.delays), (best.amplitudes, kept.amplitudes), (best.real, kept.real)):
            whole[active] = part
        best.residual[active] = kept.residual
        score[active] = torch.minimum(_criterion(table, kept, misfit), lowest[better])
    best = _compact(best)
    return Counted(_without_twins(table, fitted(table, rows, best.delays, best.real, _FINAL)), seen)


def _without_twins(table: Correlations, found: Fitted) -> Fitted:
    """Make one of pulses that the last fit has brought together: two at one delay explain what one does."""
    for _ in range(found.real.shape[1]):
        near = (found.delays[:, :, None] - found.delays[:, None, :]).abs() < _TWINS
        twins = (near & found.real[:, :, None] & found.real[:, None, :]).triu(1).any(1)
        if not bool(twins.any()):
            break
        found = fitted(table, found.rows, found.delays, found.real & ~twins, _FINAL)
    return found


def _compact(best: Fitted) -> Fitted:
    """Leave out the slots without a pulse in any row: what a fit costs grows with their third power."""
    order = (~best.real).to(torch.uint8).argsort(dim=1, stable=True)[:, : int(best.real.sum(1).max()) if len(best.real) else 0]
    delays, amplitudes, real = (each.gather(1, order) for each in (best.delays, best.amplitudes, best.real))
    return Fitted(best.rows, delays, amplitudes, real, best.residual)


def _widened(best: Fitted, slots: int) -> Fitted:
    short = slots - best.real.shape[1]
    delays, amplitudes, real = (F.pad(each, (0, short)) for each in (best.delays, best.amplitudes, best.real))
    return Fitted(best.rows, delays, amplitudes, real, best.residual)


def _criterion(table: Correlations, found: Fitted, misfit: float) -> Tensor:
    floor = torch.finfo(torch.float32).eps ** 2 * table.energy[found.rows] + 1e-300
    left = torch.maximum(found.residual + _mended(table, found, misfit), floor)
    n = table.counted[found.rows]
    return n * (left / n).log() + price(n) * found.real.sum(1)


def _mended(table: Correlations, found: Fitted, misfit: float) -> Tensor:
    """Return the energy that pulses beside stronger ones may explain by mending their shape: (B,)."""
    if not misfit:
        return torch.zeros_like(found.residual)
    strength = torch.where(found.real, found.amplitudes.abs(), 0)
    stronger = strength[:, None, :] > strength[:, :, None]
    beside = (found.delays[:, :, None] - found.delays[:, None, :]).abs() < table.k / 2
    neighbour = torch.where(stronger & beside & found.real[:, :, None], strength[:, None, :], 0).amax(2)
    return (misfit * neighbour).square().sum(1) * table.size


def _moves(table: Correlations, best: Fitted, rows: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Return the fits to try from the best ones: delays and which are real, and the number of the row each belongs to."""
    index = torch.arange(len(rows), device=rows.device)
    tried = [(where[some], which[some], index[some]) for some, where, which in _changes(table, best, rows, index)]
    where, which, owner = (torch.cat(each) for each in zip(*tried, strict=True))
    return (where.clamp(0, table.n - 1), which), owner


def _changes(table: Correlations, best: Fitted, rows: Tensor, index: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield changes of all rows: in which there is such a change, the delays after it, and which of them are real."""
    delays, real = best.delays[rows], best.real[rows]
    r, _, bend = table.pulses(torch.zeros((1, 1), dtype=delays.dtype, device=delays.device))
    turn = float((r / -bend).sqrt())  # samples in which the pulse turns by a radian
    free, room = (~real).to(torch.uint8).argmax(1), ~real.all(1)  # the first slot without a pulse, if there is one
    added = real.clone()
    added[index, free] = True
    where = delays.clone()
    where[index, free] = table.left_over(rows, delays, best.amplitudes[rows]).abs().argmax(1).double()
    yield room, where, added
    for slot in range(real.shape[1]):
        there = real[:, slot]
        if not bool(there.any()):
            continue
        yield there, delays, _without(real, slot)
        for apart in _APART:
            where = delays.clone()
            where[index, free] = delays[:, slot] + apart * turn / 2
            where[:, slot] -= apart * turn / 2
            yield there & room, where, added
        # A fit may sit on the next oscillation of the pulse: from there no small step leads back.
        for cycle in (-2 * pi * turn, 2 * pi * turn):
            where = delays.clone()
            where[:, slot] += cycle
            yield there, where, real
        # Two pulses may stand for one between them, and three for two: one of a pair goes, and the other takes its place.
        for other in range(slot + 1, real.shape[1]):
            where = delays.clone()
            where[:, slot] = (delays[:, slot] + delays[:, other]) / 2
            near = (delays[:, slot] - delays[:, other]).abs() < table.k
            yield there & real[:, other] & near, where, _without(real, other)


def _without(real: Tensor, slot: int) -> Tensor:
    left = real.clone()
    left[:, slot] = False
    return left
