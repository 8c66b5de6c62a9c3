"""Maximum-likelihood sequences by Viterbi's algorithm, in blocks side by side, as exact as one symbol after another."""

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
    Trellis,
    Walk,
    admitted_points,
    column_weights,
    cut,
    is_parallel,
    make_trellis,
    make_walk,
    mend,
    of_columns,
    of_rows,
    plan,
    walk_groups,
)
from unconv.kinds import checks_kinds_but

_NORMALISED = 8  # steps after which the least cost is taken from all
_WIDE = 256  # columns from which a minimum over an axis takes less time than that of pairs
_PIECE = 2**18  # samples of which the residual is taken at a time


@dataclass(frozen=True)
class SymbolSequence:
    """The most likely sequence of symbols.

    Attributes:
        indices: (..., n), int64, of points; -1 where no sample depends on a symbol, which is so behind leading zero taps.
        cost: (...), the sum over all samples of |y - taps * symbols|^2, the least there is.
        states: of the trellis: points to the power of the channel's memory, zero taps at its ends not counted.
    """

    indices: Any
    cost: Any
    states: int


@checks_kinds_but("observed", "taps", "points", "before", "after")
def viterbi(
    observed: Any, taps: Any, points: Any, *, before: Any = "unknown", after: Any = "unknown", most_states: int = 4096
) -> SymbolSequence:
    """Find the sequence of symbols that is nearest to what was observed behind a known channel, by Viterbi's algorithm.

    The model is y[p, t] = sum_k taps[p, k] s[t - k] + white Gaussian noise of one power in all sub-channels: where it differs,
    divide each sub-channel and its taps by its noise. Real or complex throughout. Costs are computed in float32, or in float64
    for such samples; ties within rounding are broken either way. Long signals are cut into blocks that are walked side by side;
    those that do not join are walked again, so that the sequence is that of one walk from the first symbol to the last.

    Args:
        observed: (..., P, N), sub-channels at one sample a symbol each.
        taps: (P, L), or (..., P, L), one channel for each signal.
        points: (M,), the alphabet.
        before: what was sent before the first symbol: "unknown" symbols, "silence", or indices of known ones, (q,) or (..., q),
            the last of them just before the first symbol, at least L - 1.
        after: the same of the symbols behind the last; the observation then holds N = n + q samples, L - 1 more than symbols
            for "silence".
        most_states: more are refused.

    Returns:
        n = N symbols, or N - q where those after are known.

    Raises:
        ShapeError: shapes that do not fit; more states than allowed; taps that are all zero; points that are less than two or
            alike; too few samples. DtypeError, NonFinite: no numbers, or NaN.

    Source:
        Forney, "Maximum-likelihood sequence estimation of digital sequences in the presence of intersymbol
        interference" (1972).
        Blocks: Maleki, Musuvathi & Mytkowicz, "Parallelizing dynamic programming through rank convergence" (2014).

    Example:
        >>> found = viterbi([[1.1, 1.4, -0.6, 0.4]], [[1.0, 0.5]], [-1.0, 1.0], before="silence")
        >>> found.indices, round(float(found.cost), 3), found.states
        (array([1, 1, 0, 1]), 0.04, 2)
    """
    y, h, alphabet = admitted("viterbi", observed, taps, points)
    shape = y.shape[:-2]
    kind = torch.float64 if y.dtype in (torch.float64, torch.complex128) else torch.float32
    numbers, indices, costs, states = [], [], [], 0
    for which, rows, channels in by_channel(y, h):
        trellis = make_trellis("viterbi", channels, alphabet, kind, most_states)
        walk = make_walk("viterbi", rows, trellis, of_signals(before, which), of_signals(after, which))
        path = most_likely(trellis, walk)
        numbers.append(which)
        indices.append(_indices(path, walk))
        costs.append(_cost(rows, trellis, walk, path))
        states = max(states, trellis.states)
    made = [in_place(numbers, parts, shape) for parts in (indices, costs)]
    return SymbolSequence(like(observed, made[0]), like(observed, made[1]), states)


def admitted(where: str, observed: Any, taps: Any, points: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Take observations (..., P, N), taps (P, L) or (..., P, L) with the same axes in front, and points (M,)."""
    y = as_samples(where, "observed", observed, "(..., P, N)", 2)
    h = as_samples(where, "taps", taps, "(P, L)", 2).to(y.device)
    alphabet = admitted_points(where, points).to(y.device)
    if h.shape[-2] != y.shape[-2] or h.shape[:-2] not in ((), y.shape[:-2]):
        raise ShapeError(
            f"{where}: observed is {tuple(y.shape)} and taps {tuple(h.shape)}, but (..., P, N) and (P, L) of the same "
            "sub-channels were needed, or one channel for each signal. Add an axis: observed[None]."
        )
    return y, h, alphabet


def by_channel(y: Tensor, h: Tensor) -> list[tuple[Tensor | None, Tensor, Tensor]]:
    """Split observations (..., P, N) and channels into those with zero taps at the same ends: (numbers, (B, P, N), (C, P, L)).

    A trellis is made for them together; where all share a channel, or its reach, there is one part, and no numbers.
    """
    rows, channels = y.reshape(-1, *y.shape[-2:]), h.reshape(-1, *h.shape[-2:])
    if h.ndim == 2:
        return [(None, rows, channels)]
    loud = (channels != 0).any(1).long()
    reach = loud.argmax(1) * h.shape[-1] + loud.flip(1).argmax(1)
    kinds = torch.unique(reach)
    if len(kinds) == 1:
        return [(None, rows, channels)]
    each = [torch.nonzero(reach == kind).flatten() for kind in kinds]
    return [(which, rows[which], channels[which]) for which in each]


def of_signals(known: Any, which: Tensor | None) -> Any:
    """Return what is known before or after some of the signals: a word, or indices (q,) for all or (..., q) for each."""
    if which is None or isinstance(known, str):
        return known
    indices = as_numbers("viterbi", "before or after", known, "'unknown', 'silence' or indices of symbols")
    return indices if indices.ndim < 2 else indices.flatten(0, -2)[which.to(indices.device)]


def in_place(numbers: list[Tensor | None], parts: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    """Put parts (B, ...) of the signals back in order: (*shape, ...)."""
    joined = torch.cat(parts)
    if numbers[0] is not None:
        joined = joined[torch.cat([each for each in numbers if each is not None]).argsort()]
    return joined.reshape((*shape, *joined.shape[1:]))


def _indices(path: Tensor, walk: Walk) -> Tensor:
    found = torch.full((len(path), walk.count), -1, dtype=torch.int64, device=path.device)
    found[:, : walk.seen] = path[:, walk.at : walk.at + walk.seen]
    return found


def _cost(y: Tensor, trellis: Trellis, walk: Walk, path: Tensor) -> Tensor:
    """Return the sums of squared residuals (B,) of paths, in float64, over all samples (B, P, N)."""
    memory = trellis.taps.shape[2] - 1
    size = y.shape[-1]
    points = trellis.points.to(torch.complex128 if trellis.points.is_complex() else torch.float64)
    head = points[path[:, : walk.at].long()] if walk.before is None else walk.before
    symbols = points.new_zeros(len(y), memory + size)
    reach = min(memory, head.shape[1])  # a single tap's trellis has a state of one symbol, which no sample shows
    symbols[:, memory - reach : memory] = head[:, head.shape[1] - reach :]
    symbols[:, memory : memory + walk.seen] = points[path[:, walk.at : walk.at + walk.seen].long()]
    if walk.after is not None:
        symbols[:, memory + walk.count :] = walk.after
    cost = torch.zeros(len(y), dtype=torch.float64, device=y.device)
    for begin in range(0, size, _PIECE):
        end = min(begin + _PIECE, size)
        made = 0 * y[..., begin:end]
        for k in range(memory + 1):
            made = made + trellis.taps[..., k, None] * symbols[:, None, memory - k + begin : memory - k + end]
        cost += (y[..., begin:end] - made).abs().square().sum((1, 2))
    return cost


def most_likely(trellis: Trellis, walk: Walk, block: int | None = None, overlap: int | None = None) -> Tensor:
    """Return the digits of the first state and the symbols of all steps: (B, memory + steps), by blocks."""
    kind = torch.uint8 if len(trellis.points) <= 256 else torch.int16
    _, rows, steps = walk.rows.shape
    how = plan(trellis, rows, steps, trellis.states * (1 if kind == torch.uint8 else 2), block, overlap)
    path = torch.empty(rows, trellis.memory + steps, dtype=kind, device=walk.rows.device)
    together = max(1, how.most // how.blocks)
    for first in range(0, rows, together):
        some = slice(first, first + together)
        _walk_rows(of_rows(trellis, some), walk.rows[:, some], walk.start[:, some], walk.end[:, some], how, path[some])
    return path


def _walk_rows(trellis: Trellis, rows: Tensor, start: Tensor, end: Tensor, how: Cut, path: Tensor) -> None:
    """Fill the paths of rows (R, B, steps), group of blocks by group."""

    def walk(first: int, last: int, begin: Tensor, final: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        done = _Group(trellis, rows, begin, how, first, last)
        if final is None:
            final = (done.ends_of_last + end if last == how.blocks else done.ends_of_last).argmin(0)
        return done.starts_of_last, *done.trace(final, path)

    walk_groups(how, start, walk, lambda guessed, found: bool((guessed != found).any()))


class _Group:
    """Neighbouring blocks walked side by side: columns (B * blocks), the decisions of each step, costs at the seams."""

    def __init__(self, trellis: Trellis, rows: Tensor, start: Tensor, how: Cut, first: int, last: int) -> None:
        self.trellis, self.how, self.first, self.count = trellis, how, first, rows.shape[1]
        self.last, self.blocks = last, last - first
        columns = self.count * self.blocks
        samples = cut(rows, how, first, last)
        self.weights = column_weights(trellis, self.count, self.blocks)
        firsts = torch.arange(0, columns, self.blocks, device=rows.device)
        self.costs = rows.new_zeros(trellis.states, columns)
        kind = torch.uint8 if len(trellis.points) <= 256 else torch.int16
        self.decisions = torch.empty(how.length, trellis.states, columns, dtype=kind, device=rows.device)
        pad = how.pad if first == 0 else 0
        advance(self.weights, samples[: how.overlap], self.costs, len(trellis.points))
        self.starts = self.costs.clone()
        self.samples = samples[how.overlap :]
        advance(self.weights, self.samples[:pad], self.costs, len(trellis.points), self.decisions[:pad])
        # What is known of the start counts from the first step that is not padding.
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
        """Walk blocks again that began with other costs than those with which the block before them ended."""
        inner = torch.arange(self.costs.shape[1], device=self.costs.device) % self.blocks != 0

        def failing() -> Tensor:
            return ~is_parallel(self.costs.roll(1, 1), self.starts) & inner

        def again(which: Tensor) -> None:
            costs = self.costs[:, which - 1]
            self.starts[:, which] = costs
            decisions = torch.empty_like(self.decisions[..., : len(which)])
            samples, size = self.samples[..., which].contiguous(), len(self.trellis.points)
            advance(of_columns(self.weights, which), samples, costs, size, decisions)
            self.costs[:, which], self.decisions[..., which] = costs, decisions

        mend(self.count, failing, again)

    def trace(self, final: Tensor, path: Tensor) -> tuple[Tensor, Tensor]:
        """Write the paths that end in states `final` (B,); return the states (B,) where the first and the last block begin."""
        ahead = min(self.how.length, self.how.overlap)
        states = torch.zeros(1, self.costs.shape[1], dtype=torch.int64, device=final.device)
        # Survivors of any state of the next block lead, most of the time, to one state at its start.
        back(self.trellis, self.decisions[:ahead], states)
        states = states.roll(-1, 1)
        states[0, self.blocks - 1 :: self.blocks] = final
        ends = states.clone()
        symbols = torch.empty_like(self.decisions[:, 0])
        back(self.trellis, self.decisions, states, symbols)
        self._mend_paths(ends, states, symbols)
        self._write(final, symbols, path)
        return states[0, :: self.blocks], states[0, self.blocks - 1 :: self.blocks]

    def _mend_paths(self, ends: Tensor, begins: Tensor, symbols: Tensor) -> None:
        """Trace blocks again that end elsewhere than the path of the next one begins: states (1, columns)."""
        inner = torch.arange(begins.shape[1], device=begins.device) % self.blocks != self.blocks - 1

        def again(which: Tensor) -> None:
            states, found = begins[:, which + 1], torch.empty_like(symbols[:, : len(which)])
            ends[:, which] = states
            back(self.trellis, self.decisions[..., which], states, found)
            begins[:, which], symbols[:, which] = states, found

        mend(self.count, lambda: (begins.roll(-1, 1) != ends)[0] & inner, again, backwards=True)

    def _write(self, final: Tensor, symbols: Tensor, path: Tensor) -> None:
        """Put symbols (length, columns), of `memory` steps before, where they belong in paths (B, memory + steps)."""
        memory, size, whole = self.trellis.memory, len(self.trellis.points), self.how
        in_rows = symbols.reshape(whole.length, self.count, self.blocks).permute(1, 2, 0).flatten(1)
        begin = self.first * whole.length - whole.pad
        skipped = max(-begin, 0)
        path[:, begin + skipped : self.last * whole.length - whole.pad] = in_rows[:, skipped:]
        if self.last == whole.blocks:
            for digit in range(memory):
                path[:, path.shape[1] - 1 - digit] = (final // size ** (memory - 1 - digit) % size).to(path.dtype)


def advance(weights: Tensor, samples: Tensor, costs: Tensor, size: int, decisions: Tensor | None = None) -> None:
    """Take steps through samples (steps, R + 1, columns): renew costs (states, columns) and note decisions.

    A decision, (steps, states, columns), is the oldest symbol of the state from which a state is reached at least cost.
    """
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
        if step % _NORMALISED == _NORMALISED - 1:
            costs -= costs.amin(0)


def _decide(sums: Tensor, least: Tensor, decisions: Tensor, spare: Tensor, more: Tensor) -> None:
    """Note which of the summands (M, rest, M, columns) is the least: the first of them, where several are.

    Args:
        spare, more: room for (M, rest, columns), in the kinds of the sums and of the decisions.
    """
    size = sums.shape[2]
    for oldest in range(size - 2, -1, -1):
        # 1 where it is more than the least. A difference turned into a truth takes a fifth of the time of a comparison.
        torch.sub(sums[:, :, oldest], least, out=spare)
        if oldest == size - 2:
            _put_truths(spare, decisions)
        else:
            _put_truths(spare, more)
            decisions.add_(1).mul_(more)


def _put_truths(differences: Tensor, out: Tensor) -> None:
    """Put 1 where a difference is not zero, 0 elsewhere."""
    if out.dtype == torch.uint8:
        out.view(torch.bool).copy_(differences)
    else:
        out.copy_(differences != 0)


def back(trellis: Trellis, decisions: Tensor, states: Tensor, symbols: Tensor | None = None) -> None:
    """Trace decisions (steps, states, columns) back from states (1, columns), which become those at the first step.

    Args:
        symbols: (steps, columns), takes the oldest symbol of the state before each step.
    """
    size, rest = len(trellis.points), trellis.states // len(trellis.points)
    unkept = torch.empty_like(decisions[:1, 0])
    for step in range(len(decisions) - 1, -1, -1):
        oldest = unkept if symbols is None else symbols[step : step + 1]
        torch.gather(decisions[step], 0, states, out=oldest)
        # Digits are kept by a mask where they are bits: the remainder of a division takes ten times as long.
        states = states.bitwise_and_(rest - 1) if size & (size - 1) == 0 else states.remainder_(rest)
        states.mul_(size).add_(oldest)
