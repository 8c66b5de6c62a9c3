"""Maximum-likelihood sequences by the Viterbi algorithm, in blocks side by side, as exact as one symbol after another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unconv.errors import ShapeError
from unconv.inverse.solvers.arrays import as_numbers, as_samples, like
from unconv.inverse.solvers.trellis_blocks import (
    Branches,
    Cut,
    Observation,
    Trellis,
    admitted_points,
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

_NORMALISED = 8  # steps between two subtractions of the least cost
_WIDE = 256  # columns from which a minimum over an axis is faster than minima of pairs
_PIECE = 2**18  # samples whose residual is computed at a time


@dataclass(frozen=True)
class SymbolSequence:
    """The most likely sequence of symbols.

    Attributes:
        indices: (..., n), int64, of points; -1 for a symbol on which no sample depends, as happens with leading zero taps.
        cost: (...), the least sum over all samples of |y - taps * symbols|^2.
        states: of the trellis: points to the power of the channel's memory, not counting zero taps at its ends.
    """

    indices: Any
    cost: Any
    states: int


@checks_kinds_but("observed", "taps", "points", "before", "after")
def viterbi(
    observed: Any, taps: Any, points: Any, *, before: Any = "unknown", after: Any = "unknown", most_states: int = 4096
) -> SymbolSequence:
    """Return the most likely sequence of symbols behind a known channel, by the Viterbi algorithm.

    The model is y[p, t] = sum_k taps[p, k] s[t - k] + white Gaussian noise, with the same power in all sub-channels. If the
    powers differ, divide each sub-channel and its taps by its noise. Everything may be real or complex. Costs are computed in
    float32, or in float64 for float64 samples; ties within rounding may go either way. Long signals are cut into blocks that
    are processed side by side. Blocks that do not join are processed again, so the sequence is that of one pass from the
    first symbol to the last.

    Args:
        observed: (..., P, N), sub-channels with one sample for each symbol.
        taps: (P, L), or (..., P, L), one channel for each signal.
        points: (M,), the alphabet.
        before: the symbols before the first: "unknown", "silence", or indices of known ones, (q,) or (..., q), at least
            L - 1, the last of them just before the first symbol.
        after: the same for the symbols after the last. The observation then has N = n + q samples; for "silence", L - 1 more
            than symbols.
        most_states: the most states; a channel that needs more is refused.

    Returns:
        n = N symbols, or N - q where the ones after are known.

    Raises:
        ShapeError: the shapes do not fit; there are more states than allowed; all taps are zero; there are fewer than two
            points, or equal ones; there are too few samples. DtypeError, NonFinite: not numbers, or NaN.

    Source:
        Forney, "Maximum-likelihood sequence estimation of digital sequences in the presence of intersymbol
        interference" (1972).
        Blocks: Maleki, Musuvathi & Mytkowicz, "Parallelizing dynamic programming through rank convergence" (2014).

    Example:
        >>> sequence = viterbi([[1.1, 1.4, -0.6, 0.4]], [[1.0, 0.5]], [-1.0, 1.0], before="silence")
        >>> sequence.indices, round(float(sequence.cost), 3), sequence.states
        (array([1, 1, 0, 1]), 0.04, 2)
    """
    y, h, alphabet = checked_arguments("viterbi", observed, taps, points)
    shape = y.shape[:-2]
    dtype = torch.float64 if y.dtype in (torch.float64, torch.complex128) else torch.float32
    numbers, indices, costs, states = [], [], [], 0
    # Signals whose channels have the same zero taps share the states of a trellis, and are processed together.
    for which, rows, channels in by_channel(y, h):
        trellis = make_trellis("viterbi", channels, alphabet, dtype, most_states)
        known = [known_of_signals("viterbi", symbols, which) for symbols in (before, after)]
        observation = lay_out("viterbi", rows, trellis, *known)
        path = most_likely(trellis, observation)
        numbers.append(which)
        indices.append(_indices(path, observation))
        costs.append(_cost(rows, trellis, observation, path))
        states = max(states, trellis.states)
    results = [in_order(numbers, parts, shape) for parts in (indices, costs)]
    return SymbolSequence(like(observed, results[0]), like(observed, results[1]), states)


def checked_arguments(where: str, observed: Any, taps: Any, points: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return observations (..., P, N), taps (P, L) or (..., P, L), and points (M,) as tensors, after checks."""
    y = as_samples(where, "observed", observed, "(..., P, N)", 2)
    h = as_samples(where, "taps", taps, "(P, L)", 2).to(y.device)
    alphabet = admitted_points(where, points).to(y.device)
    if h.shape[-2] != y.shape[-2] or h.shape[:-2] not in ((), y.shape[:-2]):
        raise ShapeError(
            f"{where}: observed is {tuple(y.shape)} and taps {tuple(h.shape)}, but (..., P, N) and (P, L) with the same "
            "P were needed, or one channel for each signal. Add an axis: observed[None]."
        )
    return y, h, alphabet


def by_channel(y: Tensor, h: Tensor) -> list[tuple[Tensor | None, Tensor, Tensor]]:
    """Return groups of observations whose channels have zero taps at the same ends: (numbers, (B, P, N), (C, P, L)).

    Each group shares a trellis. If all channels have the same zero taps, there is one group, and its numbers are None.
    """
    rows, channels = y.reshape(-1, *y.shape[-2:]), h.reshape(-1, *h.shape[-2:])
    if h.ndim == 2:
        return [(None, rows, channels)]
    nonzero = (channels != 0).any(1).long()
    ends = nonzero.argmax(1) * h.shape[-1] + nonzero.flip(1).argmax(1)
    distinct = torch.unique(ends)
    if len(distinct) == 1:
        return [(None, rows, channels)]
    groups = [torch.nonzero(ends == value).flatten() for value in distinct]
    return [(which, rows[which], channels[which]) for which in groups]


def known_of_signals(where: str, known: Any, which: Tensor | None) -> Any:
    """Return the known symbols before or after some signals: a word, or indices (q,) for all or (..., q) for each."""
    if which is None or isinstance(known, str):
        return known
    indices = as_numbers(where, "before or after", known, "'unknown', 'silence' or indices of symbols")
    return indices if indices.ndim < 2 else indices.flatten(0, -2)[which.to(indices.device)]


def in_order(numbers: list[Tensor | None], parts: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    """Return parts (B, ...) of the signals in their original order: (*shape, ...)."""
    joined = torch.cat(parts)
    if numbers[0] is not None:
        joined = joined[torch.cat([each for each in numbers if each is not None]).argsort()]
    return joined.reshape((*shape, *joined.shape[1:]))


def _indices(path: Tensor, observation: Observation) -> Tensor:
    indices = torch.full((len(path), observation.count), -1, dtype=torch.int64, device=path.device)
    indices[:, : observation.seen] = path[:, observation.at : observation.at + observation.seen]
    return indices


def _cost(y: Tensor, trellis: Trellis, observation: Observation, path: Tensor) -> Tensor:
    """Return the sums of squared residuals (B,) of paths, in float64, over all samples (B, P, N)."""
    # From the symbols and not from the trellis, whose float32 costs lack the part that all branches share.
    memory = trellis.taps.shape[2] - 1
    size = y.shape[-1]
    points = trellis.points.to(torch.complex128 if trellis.points.is_complex() else torch.float64)
    head = points[path[:, : observation.at].long()] if observation.before is None else observation.before
    symbols = points.new_zeros(len(y), memory + size)
    reach = min(memory, head.shape[1])  # the trellis of a single tap has a memory of one symbol, on which no sample depends
    symbols[:, memory - reach : memory] = head[:, head.shape[1] - reach :]
    symbols[:, memory : memory + observation.seen] = points[path[:, observation.at : observation.at + observation.seen].long()]
    if observation.after is not None:
        symbols[:, memory + observation.count :] = observation.after
    cost = torch.zeros(len(y), dtype=torch.float64, device=y.device)
    for begin in range(0, size, _PIECE):
        end = min(begin + _PIECE, size)
        output = 0 * y[..., begin:end]
        for k in range(memory + 1):
            output = output + trellis.taps[..., k, None] * symbols[:, None, memory - k + begin : memory - k + end]
        cost += (y[..., begin:end] - output).abs().square().sum((1, 2))
    return cost


def most_likely(trellis: Trellis, observation: Observation, block: int | None = None, overlap: int | None = None) -> Tensor:
    """Return the digits of the first state, then the symbols of all steps: (B, memory + steps), by blocks."""
    kind = torch.uint8 if len(trellis.points) <= 256 else torch.int16
    _, rows, steps = observation.rows.shape
    blocking = plan(trellis, rows, steps, trellis.states * (1 if kind == torch.uint8 else 2), block, overlap)
    path = torch.empty(rows, trellis.memory + steps, dtype=kind, device=observation.rows.device)
    in_batches(trellis, observation, blocking, _process_rows, path)
    return path


def _process_rows(trellis: Trellis, rows: Tensor, start: Tensor, end: Tensor, blocking: Cut, path: Tensor) -> None:
    """Write the paths of rows (R, B, steps) to `path`, group of blocks by group."""

    def process(first: int, last: int, begin: Tensor, final: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        group = _Group(trellis, rows, begin, blocking, first, last)
        if final is None:
            final = (group.ends_of_last + end if last == blocking.blocks else group.ends_of_last).argmin(0)
        return group.starts_of_last, *group.trace(final, path)

    process_groups(blocking, start, process, lambda guessed, result: bool((guessed != result).any()))


class _Group:
    """Neighbouring blocks side by side: columns (B * blocks), the decisions of each step, costs at the boundaries."""

    def __init__(self, trellis: Trellis, rows: Tensor, start: Tensor, blocking: Cut, first: int, last: int) -> None:
        self.trellis, self.blocking, self.first, self.count = trellis, blocking, first, rows.shape[1]
        self.last, self.blocks = last, last - first
        columns = self.count * self.blocks
        samples = cut(rows, blocking, first, last)
        self.weights = column_weights(trellis, self.count, self.blocks)
        firsts = torch.arange(0, columns, self.blocks, device=rows.device)
        self.costs = rows.new_zeros(trellis.states, columns)
        kind = torch.uint8 if len(trellis.points) <= 256 else torch.int16
        self.decisions = torch.empty(blocking.length, trellis.states, columns, dtype=kind, device=rows.device)
        pad = blocking.pad if first == 0 else 0
        # A warm-up from equal costs guesses the costs at the start of each block; `_mend` checks the guess.
        advance(self.weights, samples[: blocking.overlap], self.costs, len(trellis.points))
        self.starts = self.costs.clone()
        self.samples = samples[blocking.overlap :]
        advance(self.weights, self.samples[:pad], self.costs, len(trellis.points), self.decisions[:pad])
        # Costs of the first state count from the first step that is not padding.
        self.costs[:, firsts] = start
        advance(self.weights, self.samples[pad:], self.costs, len(trellis.points), self.decisions[pad:])
        self._mend()

    @property
    def starts_of_last(self) -> Tensor:
        return self.starts[:, self.blocks - 1 :: self.blocks]

    @property
    def ends_of_last(self) -> Tensor:
        return self.costs[:, self.blocks - 1 :: self.blocks]

    def _mend(self) -> None:
        """Process again the blocks whose first costs differ from the last costs of the block before."""
        inner = torch.arange(self.costs.shape[1], device=self.costs.device) % self.blocks != 0

        def failing() -> Tensor:
            return ~is_parallel(self.costs.roll(1, 1), self.starts) & inner

        def redo(which: Tensor) -> None:
            costs = self.costs[:, which - 1]
            self.starts[:, which] = costs
            decisions = torch.empty_like(self.decisions[..., : len(which)])
            samples, size = self.samples[..., which].contiguous(), len(self.trellis.points)
            advance(weights_of_columns(self.weights, which), samples, costs, size, decisions)
            self.costs[:, which], self.decisions[..., which] = costs, decisions

        mend(self.count, failing, redo)

    def trace(self, final: Tensor, path: Tensor) -> tuple[Tensor, Tensor]:
        """Write the paths that end in states `final` (B,); return the first states (B,) of the first and of the last block."""
        ahead = min(self.blocking.length, self.blocking.overlap)
        states = torch.zeros(1, self.costs.shape[1], dtype=torch.int64, device=final.device)
        # Survivors of any state merge, most of the time: traced back through the first steps of the next block, all lead to one
        # state at its start, which is the guess for the end of this block.
        trace_back(self.trellis, self.decisions[:ahead], states)
        states = states.roll(-1, 1)
        states[0, self.blocks - 1 :: self.blocks] = final
        ends = states.clone()
        symbols = torch.empty_like(self.decisions[:, 0])
        trace_back(self.trellis, self.decisions, states, symbols)
        self._mend_paths(ends, states, symbols)
        self._write(final, symbols, path)
        return states[0, :: self.blocks], states[0, self.blocks - 1 :: self.blocks]

    def _mend_paths(self, ends: Tensor, begins: Tensor, symbols: Tensor) -> None:
        """Trace again the blocks whose last state differs from the first state of the next block: states (1, columns)."""
        inner = torch.arange(begins.shape[1], device=begins.device) % self.blocks != self.blocks - 1

        def redo(which: Tensor) -> None:
            states, traced = begins[:, which + 1], torch.empty_like(symbols[:, : len(which)])
            ends[:, which] = states
            trace_back(self.trellis, self.decisions[..., which], states, traced)
            begins[:, which], symbols[:, which] = states, traced

        mend(self.count, lambda: (begins.roll(-1, 1) != ends)[0] & inner, redo, backwards=True)

    def _write(self, final: Tensor, symbols: Tensor, path: Tensor) -> None:
        """Write symbols (length, columns) to paths (B, memory + steps); a traced symbol is `memory` steps old."""
        memory, size, blocking = self.trellis.memory, len(self.trellis.points), self.blocking
        by_row = symbols.reshape(blocking.length, self.count, self.blocks).permute(1, 2, 0).flatten(1)
        begin = self.first * blocking.length - blocking.pad
        skipped = max(-begin, 0)
        path[:, begin + skipped : self.last * blocking.length - blocking.pad] = by_row[:, skipped:]
        if self.last == blocking.blocks:
            for digit in range(memory):
                path[:, path.shape[1] - 1 - digit] = (final // size ** (memory - 1 - digit) % size).to(path.dtype)


def advance(weights: Tensor, samples: Tensor, costs: Tensor, size: int, decisions: Tensor | None = None) -> None:
    """Update costs (states, columns) step by step through samples (steps, R + 1, columns), and record the decisions.

    A decision, (steps, states, columns), is the oldest symbol of the predecessor through which a state has the least cost.
    """
    # Forney (1972): add, compare, select. The symbols are digits of the state's number, so that reshaped views of one array of
    # costs serve as predecessors and as successors, without an index.
    states, columns = costs.shape
    rest = states // size
    branches = Branches(weights, size)
    sums = costs.new_empty(size, rest, size, columns)
    spare = costs.new_empty(size, rest, columns)
    more = None if decisions is None else torch.empty_like(spare, dtype=decisions.dtype)
    by_newest, by_oldest = costs.view(size, rest, columns), costs.view(1, rest, size, columns)
    for step in range(len(samples)):
        branches.add(samples[step], by_oldest, sums)
        if columns >= _WIDE:
            torch.amin(sums, 2, out=by_newest)
        else:
            torch.minimum(sums[:, :, 0], sums[:, :, 1], out=by_newest)
            for oldest in range(2, size):
                torch.minimum(by_newest, sums[:, :, oldest], out=by_newest)
        if decisions is not None and more is not None:
            _decide(sums, by_newest, decisions[step].view(by_newest.shape), spare, more)
        # Costs drift without bound, and float32 would lose their differences.
        if step % _NORMALISED == _NORMALISED - 1:
            costs -= costs.amin(0)


def _decide(sums: Tensor, least: Tensor, decisions: Tensor, spare: Tensor, more: Tensor) -> None:
    """Write to `decisions` which of the sums (M, rest, M, columns) is the least; the first one of several.

    Args:
        spare, more: buffers (M, rest, columns), in the dtypes of the sums and of the decisions.
    """
    size = sums.shape[2]
    for oldest in range(size - 2, -1, -1):
        # 1 where the sum is above the least. A difference cast to bool takes a fifth of the time of a comparison.
        torch.sub(sums[:, :, oldest], least, out=spare)
        if oldest == size - 2:
            _write_nonzero(spare, decisions)
        else:
            _write_nonzero(spare, more)
            decisions.add_(1).mul_(more)


def _write_nonzero(differences: Tensor, out: Tensor) -> None:
    """Write 1 where a difference is not zero, 0 elsewhere."""
    if out.dtype == torch.uint8:
        out.view(torch.bool).copy_(differences)
    else:
        out.copy_(differences != 0)


def trace_back(trellis: Trellis, decisions: Tensor, states: Tensor, symbols: Tensor | None = None) -> None:
    """Trace decisions (steps, states, columns) back from states (1, columns), which become those before the first step.

    Args:
        symbols: (steps, columns), receives the oldest symbol of the state before each step.
    """
    size, rest = len(trellis.points), trellis.states // len(trellis.points)
    unkept = torch.empty_like(decisions[:1, 0])
    for step in range(len(decisions) - 1, -1, -1):
        oldest = unkept if symbols is None else symbols[step : step + 1]
        torch.gather(decisions[step], 0, states, out=oldest)
        # Where digits are bits, a mask drops the newest symbol: the remainder of a division takes ten times as long.
        states = states.bitwise_and_(rest - 1) if size & (size - 1) == 0 else states.remainder_(rest)
        states.mul_(size).add_(oldest)
