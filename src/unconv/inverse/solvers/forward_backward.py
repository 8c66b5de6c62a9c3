"""Posterior probabilities of symbols behind a known channel: log-MAP by the forward-backward algorithm, in blocks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import DtypeError, ShapeError, counted
from unconv.inverse.solvers.arrays import as_numbers, as_samples, like
from unconv.inverse.solvers.trellis import by_channel, checked_arguments, in_order, known_of_signals
from unconv.inverse.solvers.trellis_blocks import (
    FAR,
    Branches,
    Cut,
    Observation,
    Trellis,
    column_weights,
    cut,
    in_batches,
    is_parallel,
    lay_out,
    make_trellis,
    mend,
    plan,
    process_groups,
    weights_of_columns,
)
from unconv.kinds import checks_kinds_but

_NEGLIGIBLE = -60.0  # an exponent: its exponential, 1e-26, added to 1 is lost to rounding
_SAME = {torch.float64: 1e-9, torch.float32: 0.0}  # by which costs at a block's boundary may differ, beyond rounding


@checks_kinds_but("observed", "taps", "points", "noise", "before", "after", "prior")
def bcjr(
    observed: Any,
    taps: Any,
    points: Any,
    noise: Any,
    *,
    before: Any = "unknown",
    after: Any = "unknown",
    prior: Any = None,
    most_states: int = 4096,
) -> Any:
    """Return the log posterior probability of each point at each symbol, by the forward-backward algorithm (BCJR).

    The model and the arguments are those of `viterbi`. Sums of probabilities are exact (log-MAP, not max-log), in float64, or
    in float32 for float32 samples. Long signals are cut into blocks. Two blocks join if their log probabilities at the boundary
    agree to 1e-9 (float32: to rounding); if not, one of them is processed again.

    Args:
        observed: (..., P, N). taps: (P, L), or (..., P, L). points: (M,).
        noise: standard deviation of a sample, E|noise|^2 = noise^2; one number, or one for each sub-channel, (P,).
        before, after: "unknown", "silence" or known symbols, as in `viterbi`.
        prior: log prior probabilities, up to a number for each symbol: (M,), (n, M) or (..., n, M). An impossible symbol has
            minus infinity. None: all symbols are equally likely.
        most_states: the most states; a channel that needs more is refused.

    Returns:
        (..., n, M), logarithms of probabilities that sum to 1; those of the prior for a symbol on which no sample depends.

    Raises:
        ShapeError, DtypeError, NonFinite: as `viterbi`; `noise` is not above zero.

    Source:
        Bahl, Cocke, Jelinek & Raviv, "Optimal decoding of linear codes for minimizing symbol error rate" (1974).

    Example:
        >>> bcjr([[1.1, 1.4, -0.6, 0.4]], [[1.0, 0.5]], [-1.0, 1.0], 0.5, before="silence").argmax(-1)
        array([1, 1, 0, 1])
    """
    y, h, alphabet = checked_arguments("bcjr", observed, taps, points)
    level = _admitted_noise(noise, y)
    shape, size = y.shape[:-2], len(alphabet)
    dtype = torch.float64 if y.dtype in (torch.float64, torch.complex128) else torch.float32
    # In units of each sub-channel's noise. A real Gaussian has |y|^2 / 2 in its exponent, a complex one |y|^2.
    variance = 1.0 if any(each.is_complex() for each in (y, h, alphabet)) else 2.0
    y, h = y / level.to(y.real.dtype), h.to(torch.promote_types(h.dtype, torch.float64)) / level
    numbers, results = [], []
    for which, rows, channels in by_channel(y, h):
        trellis = make_trellis("bcjr", channels, alphabet, dtype, most_states, variance)
        known = [known_of_signals("bcjr", symbols, which) for symbols in (before, after)]
        observation = lay_out("bcjr", rows, trellis, *known)
        log_prior = _log_prior(prior, (*shape, observation.count, size), dtype)
        results.append(_posteriors(trellis, observation, log_prior if which is None or log_prior is None else log_prior[which]))
        numbers.append(which)
    return like(observed, in_order(numbers, results, shape))


def _admitted_noise(noise: Any, y: Tensor) -> Tensor:
    """Return standard deviations (1, 1) or (P, 1), float64."""
    level = as_samples("bcjr", "noise", noise, "one number or (P,)", 0)
    if level.is_complex() or level.ndim > 1 or level.numel() not in (1, y.shape[-2]) or not bool((level > 0).all()):
        raise ShapeError(
            f"bcjr: noise is {noise!r}, but a standard deviation above zero was needed, or one for each of "
            f"{counted(y.shape[-2], 'sub-channel')}. Without noise, use viterbi."
        )
    return level.double().reshape(-1, 1).to(y.device)


def _log_prior(prior: Any, shape: tuple[int, ...], kind: torch.dtype) -> Tensor | None:
    """Return log probabilities (B, n, M), with -FAR in place of minus infinity."""
    if prior is None:
        return None
    values = as_numbers("bcjr", "prior", prior, f"log probabilities {shape}")
    if values.is_complex():
        raise DtypeError(f"bcjr: prior is {values.dtype}, but log probabilities were needed. Pass real numbers.")
    values = values.to(kind)
    invalid = bool((values.isnan() | (values == torch.inf)).any())
    if values.ndim < 1 or values.shape != shape[len(shape) - values.ndim :] or invalid:
        raise ShapeError(
            f"bcjr: prior is {tuple(values.shape)}, but log probabilities {shape[-1:]}, {shape[-2:]} or {shape}, without NaN "
            "or plus infinity, were needed."
        )
    return values.clamp(min=-FAR).expand(shape).reshape(-1, *shape[-2:])


def _posteriors(trellis: Trellis, observation: Observation, prior: Tensor | None) -> Tensor:
    """Return the log posterior probabilities (B, n, M) of an observation."""
    begin, size = observation.at - trellis.memory, len(trellis.points)
    if prior is not None:
        # The prior costs are one more row of the observation for each point, with weight 1 in branches where that point is the
        # newest symbol.
        newest = torch.eye(size).repeat_interleave(trellis.states, 0).to(trellis.weights).expand(len(trellis.weights), -1, -1)
        trellis = replace(trellis, weights=torch.cat([trellis.weights[..., :-1], newest, trellis.weights[..., -1:]], 2))
        costs = F.pad(
            -prior[:, : observation.seen].movedim(2, 0), (begin, observation.rows.shape[-1] - begin - observation.seen)
        ).to(observation.rows)
        observation = replace(observation, rows=torch.cat([observation.rows, costs.expand(-1, observation.rows.shape[1], -1)]))
    costs_found = posterior_costs(trellis, observation)[:, begin : begin + observation.seen]
    unseen = -costs_found.new_zeros(1, 1, 1) if prior is None else -prior[:, observation.seen :]
    unseen = unseen.expand(len(costs_found), observation.count - observation.seen, size)
    return torch.cat([costs_found, unseen], 1).neg_().log_softmax(-1)


def posterior_costs(trellis: Trellis, observation: Observation, block: int | None = None, overlap: int | None = None) -> Tensor:
    """Return minus the log probabilities of each step's new symbol, up to a number for each step: (B, steps, M)."""
    _, rows, steps = observation.rows.shape
    blocking = plan(trellis, rows, steps, trellis.states * observation.rows.element_size(), block, overlap)
    out = observation.rows.new_empty(rows, steps, len(trellis.points))
    in_batches(trellis, observation, blocking, _process_rows, out)
    return out


def _process_rows(trellis: Trellis, rows: Tensor, start: Tensor, end: Tensor, blocking: Cut, out: Tensor) -> None:
    tolerance = _SAME[rows.dtype]

    def process(first: int, last: int, begin: Tensor, final: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        group = _Group(trellis, rows, begin, blocking, first, last)
        return group.starts_of_last, *group.back(end if final is None and last == blocking.blocks else final, out)

    process_groups(blocking, start, process, lambda guessed, result: not bool(is_parallel(result, guessed, tolerance).all()))


class _Group:
    """Neighbouring blocks side by side: the costs of columns (B * blocks) after each step."""

    def __init__(self, trellis: Trellis, rows: Tensor, start: Tensor, blocking: Cut, first: int, last: int) -> None:
        self.trellis, self.blocking, self.first, self.last, self.count = trellis, blocking, first, last, rows.shape[1]
        self.blocks, self.tolerance = last - first, _SAME[rows.dtype]
        samples = cut(rows, blocking, first, last, blocking.overlap)
        self.samples, self.ahead = (
            samples[blocking.overlap : blocking.overlap + blocking.length],
            samples[blocking.overlap + blocking.length :],
        )
        self.weights = column_weights(trellis, self.count, self.blocks)
        columns = samples.shape[-1]
        self.columns = torch.arange(columns, device=rows.device)
        costs = rows.new_zeros(trellis.states, columns)
        self.after = rows.new_empty(blocking.length, trellis.states, columns)
        pad, size = blocking.pad if first == 0 else 0, len(trellis.points)
        # A warm-up from equal costs guesses the costs at the start of each block; `_mend` checks the guess.
        _forwards(self.weights, samples[: blocking.overlap], costs, size)
        self.starts = costs.clone()
        _forwards(self.weights, self.samples[:pad], costs, size, self.after)
        costs[:, :: self.blocks] = start
        _forwards(self.weights, self.samples[pad:], costs, size, self.after[pad:])
        self._mend()

    @property
    def starts_of_last(self) -> Tensor:
        return self.starts[:, self.blocks - 1 :: self.blocks]

    def _mend(self) -> None:
        """Process again the blocks whose first costs differ from the last costs of the block before."""

        size = len(self.trellis.points)

        def failing() -> Tensor:
            parallel = is_parallel(self.after[-1].roll(1, 1), self.starts, self.tolerance)
            return ~parallel & (self.columns % self.blocks != 0)

        def redo(which: Tensor) -> None:
            costs = self.after[-1][:, which - 1]
            self.starts[:, which] = costs
            after = torch.empty_like(self.after[..., : len(which)])
            samples = self.samples[..., which].contiguous()
            _forwards(weights_of_columns(self.weights, which), samples, costs.clone(), size, after)
            self.after[..., which] = after

        mend(self.count, failing, redo)

    def back(self, final: Tensor | None, out: Tensor) -> tuple[Tensor, Tensor]:
        """Write the posteriors, given the costs `final` (states, B) after the last block.

        Returns:
            The costs of what follows, before the first block and before the last one.
        """
        size = len(self.trellis.points)
        costs = torch.zeros_like(self.starts)
        _backwards(self.weights, self.ahead, costs, size)
        if final is not None:
            costs[:, self.blocks - 1 :: self.blocks] = final
        # The warm-up over the next block's first steps guesses the costs of what follows; `ends` records the guess, so that
        # blocks whose guess was wrong can be processed again.
        ends = costs.clone()
        posteriors = costs.new_empty(self.blocking.length, len(self.trellis.points), costs.shape[1])
        _backwards(self.weights, self.samples, costs, size, self.after, posteriors)

        def failing() -> Tensor:
            return ~is_parallel(costs.roll(-1, 1), ends, self.tolerance) & (self.columns % self.blocks != self.blocks - 1)

        def redo(which: Tensor) -> None:
            starting, new = costs[:, which + 1], torch.empty_like(posteriors[..., : len(which)])
            ends[:, which] = starting
            samples = self.samples[..., which].contiguous()
            _backwards(weights_of_columns(self.weights, which), samples, starting, size, self.after[..., which], new)
            costs[:, which], posteriors[..., which] = starting, new

        mend(self.count, failing, redo, backwards=True)
        by_row = posteriors.unflatten(2, (self.count, self.blocks)).permute(2, 3, 0, 1).flatten(1, 2)
        begin = self.first * self.blocking.length - self.blocking.pad
        skipped = max(-begin, 0)
        out[:, begin + skipped : self.last * self.blocking.length - self.blocking.pad] = by_row[:, skipped:]
        return costs[:, :: self.blocks], costs[:, self.blocks - 1 :: self.blocks]


def _forwards(weights: Tensor, samples: Tensor, costs: Tensor, size: int, after: Tensor | None = None) -> None:
    """Update costs (states, columns) through samples (steps, R + 1, columns); write those after each step to `after`."""
    states, columns = costs.shape
    branches, sums = Branches(weights, size), costs.new_empty(size, states // size, size, columns)
    for step in range(len(samples)):
        branches.add(samples[step], costs.view(1, states // size, size, columns), sums)
        _soft_least(sums, 2, costs.view(size, states // size, columns))
        costs -= costs.amin(0)
        if after is not None:
            after[step] = costs


def _backwards(
    weights: Tensor, samples: Tensor, costs: Tensor, size: int, after: Tensor | None = None, posteriors: Tensor | None = None
) -> None:
    """Update costs (states, columns) of what follows, backwards through samples; add those of `after` for the posteriors."""
    # Bahl et al. (1974): the posterior of a step is the product of what precedes and what follows; here, a sum of costs.
    states, columns = costs.shape
    branches, joint = Branches(weights, size), torch.empty_like(costs)
    sums = costs.new_empty(size, states // size, size, columns)
    for step in range(len(samples) - 1, -1, -1):
        if after is not None and posteriors is not None:
            torch.add(after[step], costs, out=joint)
            _soft_least(joint.view(size, states // size, columns), 1, posteriors[step])
        branches.add(samples[step], costs.view(size, states // size, 1, columns), sums)
        _soft_least(sums, 0, costs.view(states // size, size, columns))
        costs -= costs.amin(0)


def _soft_least(costs: Tensor, axis: int, out: Tensor) -> None:
    """Write -log sum exp(-costs) over an axis to `out`; the costs are overwritten."""
    # A term far above the least adds nothing to a sum that is at least 1, and torch's exponential of it takes many times as
    # long as others: so exponents are clamped.
    if costs.shape[axis] == 2:
        first, second = costs.unbind(axis)
        torch.minimum(first, second, out=out)
        # The larger of two terms is 1, which saves an exponential. In float32, torch's log1p takes more time than it saves.
        rest = first.sub_(second).abs_().neg_().clamp_(min=_NEGLIGIBLE).exp_()
        out -= rest.log1p_() if costs.dtype == torch.float64 else rest.add_(1).log_()
        return
    torch.amin(costs, axis, out=out)
    total = torch.sub(out.unsqueeze(axis), costs, out=costs).clamp_(min=_NEGLIGIBLE).exp_().sum(axis)
    out -= total.log_()
