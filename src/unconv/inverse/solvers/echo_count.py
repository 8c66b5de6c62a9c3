"""The number of pulses in a trace, and their delays: pulses are added, split, moved and removed while a criterion falls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.inverse.solvers.delays import Correlations, Fitted, fit_delays

_TRIAL, _FINAL = 8, 60  # steps of a fit for comparison, and of the final one
_PRICE = 3.0  # times log n, for a pulse: its amplitude, its delay, and that the delay was searched for
_APART = (1.0, 3.0, 6.0)  # between the two pulses that one is split into, in radians of its oscillation
_TWINS = 0.1  # samples: pulses closer than that are one
_LEAST = 1e-3  # a smaller fall of the criterion is no gain


@dataclass(frozen=True)
class Counted:
    """The pulses of each trace, and the criterion of every number of pulses.

    Attributes:
        found: the best fit of each trace.
        criterion: (B, K + 1), the least value for each number of pulses; infinite for a number that was not tried.
    """

    found: Fitted
    criterion: Tensor


def price(n: Tensor) -> Tensor:
    """Return by how much one more pulse must lower n log(sum of squares), for n observed samples.

    Source:
        Djurić, "A model selection rule for sinusoids in white Gaussian noise" (1996): an amplitude costs log n / 2 and a
        frequency, here a delay, 3 log n / 2, each times two in this scale; less one log n, as a real pulse has no phase.
    """
    return _PRICE * n.log()


def counted(table: Correlations, most: int, misfit: float = 0.0, start: Tensor | None = None) -> Counted:
    """Choose the number of pulses in each trace by an information criterion, and fit them.

    Args:
        most: the most pulses.
        misfit: the difference between an echo's shape and the pulse's, as a share of its size. A pulse beside a stronger one
            must explain more than that: otherwise it only corrects the stronger one's shape.
        start: (B, K) delays to begin with, NaN for none; by default none.
    """
    count = len(table.energy)
    rows = torch.arange(count, device=table.energy.device)
    delays = table.energy.new_zeros((count, most))
    real = torch.zeros_like(delays, dtype=torch.bool)
    if start is not None:
        columns = min(most, start.shape[1])
        real[:, :columns] = torch.isfinite(start[:, :columns])
        delays[:, :columns] = torch.where(real[:, :columns], start[:, :columns].to(delays), 0)
    best = fit_delays(table, rows, delays, real)
    score = _criterion(table, best, misfit)
    criteria = torch.full((count, most + 1), torch.inf, dtype=score.dtype, device=score.device)
    criteria.scatter_(1, best.real.sum(1, keepdim=True), score[:, None])
    active = rows
    # Short fits compare all changes of all traces in one batch; only the best change of each trace is fitted to the end.
    for _ in range(4 * most + 4):
        best = _compact(best)
        trials, owner = _trials(table, _widened(best, min(most, best.real.shape[1] + 1)), active)
        trials_fit = fit_delays(table, active[owner], *trials, _TRIAL)
        trial_scores = _criterion(table, trials_fit, misfit)
        criteria.view(-1).scatter_reduce_(0, active[owner] * (most + 1) + trials_fit.real.sum(1), trial_scores, "amin")
        # The best trial of each trace: the one with the least criterion.
        lowest = trial_scores.new_full((len(active),), torch.inf).scatter_reduce(0, owner, trial_scores, "amin")
        better = lowest < score[active] - _LEAST
        winner = trial_scores.new_zeros(len(active), dtype=torch.long)
        order = torch.argsort(trial_scores, descending=True)
        winner[owner[order]] = order  # written in descending order, so that the least comes last
        active, winner = active[better], winner[better]
        if not len(active):
            break
        fit = fit_delays(table, active, trials_fit.delays[winner], trials_fit.real[winner])
        best = _widened(best, fit.delays.shape[1])
        for target, new in ((best.delays, fit.delays), (best.amplitudes, fit.amplitudes), (best.real, fit.real)):
            target[active] = new
        best.residual[active] = fit.residual
        score[active] = torch.minimum(_criterion(table, fit, misfit), lowest[better])
    best = _compact(best)
    return Counted(_without_twins(table, fit_delays(table, rows, best.delays, best.real, _FINAL)), criteria)


def _without_twins(table: Correlations, fit: Fitted) -> Fitted:
    """Return the fit with pulses at the same delay merged, since they explain no more than one does."""
    for _ in range(fit.real.shape[1]):
        near = (fit.delays[:, :, None] - fit.delays[:, None, :]).abs() < _TWINS
        twins = (near & fit.real[:, :, None] & fit.real[:, None, :]).triu(1).any(1)
        if not bool(twins.any()):
            break
        fit = fit_delays(table, fit.rows, fit.delays, fit.real & ~twins, _FINAL)
    return fit


def _compact(best: Fitted) -> Fitted:
    """Return the fit without slots that are empty in every row: the cost of a fit grows with their third power."""
    order = (~best.real).to(torch.uint8).argsort(dim=1, stable=True)[:, : int(best.real.sum(1).max()) if len(best.real) else 0]
    delays, amplitudes, real = (each.gather(1, order) for each in (best.delays, best.amplitudes, best.real))
    return Fitted(best.rows, delays, amplitudes, real, best.residual)


def _widened(best: Fitted, slots: int) -> Fitted:
    short = slots - best.real.shape[1]
    delays, amplitudes, real = (F.pad(each, (0, short)) for each in (best.delays, best.amplitudes, best.real))
    return Fitted(best.rows, delays, amplitudes, real, best.residual)


def _criterion(table: Correlations, fit: Fitted, misfit: float) -> Tensor:
    floor = torch.finfo(torch.float32).eps ** 2 * table.energy[fit.rows] + 1e-300
    residual = torch.maximum(fit.residual + _shape_energy(table, fit, misfit), floor)
    n = table.counted[fit.rows]
    return n * (residual / n).log() + price(n) * fit.real.sum(1)


def _shape_energy(table: Correlations, fit: Fitted, misfit: float) -> Tensor:
    """Return the energy that pulses beside stronger ones can explain by correcting their shape: (B,)."""
    if not misfit:
        return torch.zeros_like(fit.residual)
    strength = torch.where(fit.real, fit.amplitudes.abs(), 0)
    stronger = strength[:, None, :] > strength[:, :, None]
    beside = (fit.delays[:, :, None] - fit.delays[:, None, :]).abs() < table.k / 2
    neighbour = torch.where(stronger & beside & fit.real[:, :, None], strength[:, None, :], 0).amax(2)
    return (misfit * neighbour).square().sum(1) * table.size


def _trials(table: Correlations, best: Fitted, rows: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Return the changes to try: delays and which are real, and the row to which each belongs."""
    index = torch.arange(len(rows), device=rows.device)
    changes = [
        (delays[rows_with], real[rows_with], index[rows_with]) for rows_with, delays, real in _changes(table, best, rows, index)
    ]
    delays, real, owner = (torch.cat(each) for each in zip(*changes, strict=True))
    return (delays.clamp(0, table.n - 1), real), owner


def _changes(table: Correlations, best: Fitted, rows: Tensor, index: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield changes of all rows: the rows that have such a change, the delays after it, and which of them are real."""
    delays, real = best.delays[rows], best.real[rows]
    r, _, second = table.pulses(torch.zeros((1, 1), dtype=delays.dtype, device=delays.device))
    radian = float((r / -second).sqrt())  # samples in which the pulse's oscillation advances by a radian
    free, room = (~real).to(torch.uint8).argmax(1), ~real.all(1)  # the first slot without a pulse, if there is one
    added = real.clone()
    added[index, free] = True
    delays_after = delays.clone()
    delays_after[index, free] = table.left_over(rows, delays, best.amplitudes[rows]).abs().argmax(1).double()
    yield room, delays_after, added
    for slot in range(real.shape[1]):
        present = real[:, slot]
        if not bool(present.any()):
            continue
        yield present, delays, _without(real, slot)
        for distance in _APART:
            delays_after = delays.clone()
            delays_after[index, free] = delays[:, slot] + distance * radian / 2
            delays_after[:, slot] -= distance * radian / 2
            yield present & room, delays_after, added
        # A fit may have converged one oscillation off: from there no small step leads back.
        for cycle in (-2 * pi * radian, 2 * pi * radian):
            delays_after = delays.clone()
            delays_after[:, slot] += cycle
            yield present, delays_after, real
        # Two pulses may have replaced one between them, or three two: remove one of a pair and move the other to the middle.
        for other in range(slot + 1, real.shape[1]):
            delays_after = delays.clone()
            delays_after[:, slot] = (delays[:, slot] + delays[:, other]) / 2
            near = (delays[:, slot] - delays[:, other]).abs() < table.k
            yield present & real[:, other] & near, delays_after, _without(real, other)


def _without(real: Tensor, slot: int) -> Tensor:
    result = real.clone()
    result[:, slot] = False
    return result
