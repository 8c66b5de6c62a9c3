"""A dispersive channel as a trellis, and long observations cut into blocks that are processed side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import ShapeError, counted
from unconv.inverse.solvers.arrays import as_numbers, as_samples

FAR = 1e30  # the cost of an impossible state: finite, so that no difference of two is NaN
GroupPass = Callable[[int, int, Tensor, Tensor | None], tuple[Tensor, Tensor, Tensor]]
_SAME = 256  # units of rounding by which parallel costs may differ
_ROUNDS = 4  # in which all blocks that do not fit are redone; after that one at a time
_ROOM, _CACHE = 2**26, 2**19  # bytes to store for all steps; numbers in the largest array of one step


@dataclass(frozen=True)
class Trellis:
    """The states of a channel: its last `memory` symbols, the newest as the most significant digit.

    Branch j = new * states + state is the transition by a new symbol from a state. Its cost is, up to a number that all
    branches share, |y - c_j|^2 = |c_j|^2 - 2 Re(c_j* y): a product of `weights` with the real and imaginary parts of y and 1.

    Attributes:
        points: (M,), the symbols. taps: (C, P, L), the caller's: one channel for all signals, or one for each.
        memory: symbols in a state, at least 1. states, branches: M^memory, M^(memory + 1).
        delay: leading zero taps that all sub-channels share; they cost no states.
        weights: (C, branches, R + 1), for y over `scale`, (C,). `parts`: which real and imaginary parts of y are used.
    """

    points: Tensor
    taps: Tensor
    memory: int
    delay: int
    weights: Tensor
    parts: Tensor
    scale: Tensor

    @property
    def states(self) -> int:
        return int(len(self.points) ** self.memory)

    @property
    def branches(self) -> int:
        return self.states * len(self.points)


@dataclass(frozen=True)
class Observation:
    """An observation in the layout of a trellis.

    Attributes:
        rows: (R, B, steps), the parts of y that the weights multiply.
        start, end: (states, B), the cost of each state before the first and after the last step: 0, or FAR if impossible.
        before, after: (B, L - 1) and (B, q), known symbols; None where unknown.
        count: the number of symbols to return. `seen`: the number of these on which a sample depends.
        at: the index of the first symbol in the path, which begins with the digits of the first state.
    """

    rows: Tensor
    start: Tensor
    end: Tensor
    before: Tensor | None
    after: Tensor | None
    count: int
    seen: int
    at: int


@dataclass(frozen=True)
class Cut:
    """A sequence of steps cut into blocks of `length`, each with a warm-up of `overlap` steps before (and after) it.

    The first block begins with `pad` empty steps, so that the last one ends with the sequence. `most` blocks run at a time.
    """

    length: int
    overlap: int
    blocks: int
    pad: int
    most: int

    def groups(self) -> Iterator[tuple[int, int]]:
        """Yield the blocks (first, last) of each group; a group ends with the block that begins the next group."""
        first = 0
        while True:
            last = min(first + self.most, self.blocks)
            yield first, last
            if last == self.blocks:
                return
            first = last - 1


def admitted_points(where: str, points: Any) -> Tensor:
    """Return an alphabet (M,), after checks that it has at least two finite symbols, all different."""
    samples = as_samples(where, "points", points, "(M,)")
    if samples.ndim != 1 or len(samples) < 2:
        raise ShapeError(f"{where}: points is {tuple(samples.shape)}, but (M,) with two symbols or more was needed.")
    if len(set(samples.tolist())) < len(samples):
        raise ShapeError(f"{where}: points has {len(samples)} symbols, some of them alike, but different ones were needed.")
    return samples


def make_trellis(
    where: str, taps: Tensor, points: Tensor, kind: torch.dtype, most_states: int, variance: float | None = None
) -> Trellis:
    """Return the trellis of taps (C, P, L) and points (M,) for costs of a real dtype, over `variance`; None: in any unit."""
    nonzero = torch.nonzero((taps != 0).any(1).any(0)).flatten()
    if not bool((taps != 0).any(2).any(1).all()):
        raise ShapeError(f"{where}: all taps are zero, but a channel was needed. Estimate it, or leave that signal out.")
    delay, memory = int(nonzero[0]), max(int(nonzero[-1] - nonzero[0]), 1)
    size = len(points)
    if size**memory > most_states:
        raise ShapeError(
            f"{where}: {size} points and {memory + 1} taps make {size}^{memory} states, but at most {most_states} are allowed. "
            "Use decision_feedback_equalizer, shorten the channel, or raise most_states."
        )
    double = torch.complex128 if taps.is_complex() or points.is_complex() else torch.float64
    taps_used = F.pad(taps, (0, 1))[..., delay : delay + memory + 1].to(double)
    outputs = taps_used.new_zeros(*taps.shape[:2], 1)
    for tap in range(memory + 1):
        # An axis for each older symbol, so that the newest is the most significant digit.
        outputs = (outputs[..., None] + taps_used[..., tap, None, None] * points.to(double)).flatten(2)
    # Scaled to a largest output of 1, so that no square leaves the range of float32, whatever the unit of the observation.
    scale = outputs.abs().amax((1, 2))
    scaled = outputs / scale[:, None, None]
    parts = torch.cat([scaled.real, scaled.imag] if scaled.is_complex() else [scaled, torch.zeros_like(scaled)], 1)
    used = (parts != 0).any(2).any(0)
    constant = parts.square().sum(1, keepdim=True)
    weights = torch.cat([-2 * parts[:, used], constant], 1).mT
    if variance is not None:
        weights = weights * (scale.square() / variance)[:, None, None]
    return Trellis(points, taps, memory, delay, weights.to(kind).contiguous(), used, scale)


def lay_out(where: str, observed: Tensor, trellis: Trellis, before: Any, after: Any) -> Observation:
    """Return observations (B, P, N) in the layout of a trellis."""
    rows, _, length = observed.shape
    taps, points = trellis.taps, trellis.points
    memory = taps.shape[2] - 1
    known_before = _known(where, "before", before, rows, points, memory)
    known_after = _known(where, "after", after, rows, points, memory)
    if known_before is not None and known_before.shape[1] < memory:
        raise ShapeError(
            f"{where}: before has {counted(known_before.shape[1], 'symbol')}, but taps reach {memory} back. Pass that many, "
            "or 'unknown'."
        )
    count = length - (0 if known_after is None else known_after.shape[1])
    first = 0 if known_before is None else trellis.delay
    known_after_count = 0 if known_after is None else max(known_after.shape[1] - trellis.delay, 0)
    beyond = max(known_after_count - trellis.memory, 0)  # samples that depend on known symbols only
    if count < 1 or length - beyond - first < 1:
        raise ShapeError(
            f"{where}: {counted(length, 'sample')} came for {counted(memory + 1, 'tap')}, but more were needed: with the "
            "symbols before and after known, no sample is left for others. Pass longer observations."
        )
    y = _with_silence_filled(observed, trellis, before, after)[..., first : length - beyond]
    y = y / trellis.scale.to(y.real.dtype)[:, None, None]
    parts = torch.cat([y.real, y.imag] if y.is_complex() else [y, torch.zeros_like(y)], 1)[:, trellis.parts]
    states = torch.arange(trellis.states, device=y.device)[:, None]
    start = _mask(states, trellis, None if known_before is None else known_before.flip(1)[:, : trellis.memory])
    last_symbols = None if known_after is None else known_after[:, : known_after.shape[1] - trellis.delay - beyond].flip(1)
    end = _mask(states, trellis, last_symbols if known_after_count else None)
    kind = trellis.weights.dtype
    known_values = [_values(trellis, k, w) for k, w in ((known_before, before), (known_after, after))]
    seen = min(count, length - beyond - trellis.delay)
    at = trellis.delay - first + trellis.memory
    start, end = (mask.to(kind).expand(-1, rows) for mask in (start, end))
    head = None if known_values[0] is None else known_values[0][:, known_values[0].shape[1] - memory :]
    return Observation(parts.permute(1, 0, 2).to(kind), start, end, head, known_values[1], count, seen, at)


def _known(where: str, name: str, argument: Any, rows: int, points: Tensor, memory: int) -> Tensor | None:
    """Return known symbols, (1 or B, q); for silence, the index of the first point, which `_with_silence_filled` allows for."""
    if isinstance(argument, str):
        if argument not in ("unknown", "silence"):
            raise ShapeError(f"{where}: {name} is {argument!r}, but 'unknown', 'silence' or indices of symbols were needed.")
        return None if argument == "unknown" else torch.zeros(1, memory, dtype=torch.int64, device=points.device)
    indices = as_numbers(where, name, argument, "'unknown', 'silence' or indices of symbols").to(points.device)
    integer = not (indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool)
    if not indices.ndim or (indices.numel() and not integer):
        raise ShapeError(f"{where}: {name} is {indices.dtype}, but 'unknown', 'silence' or indices of symbols were needed.")
    indices = indices.long()[None] if indices.ndim == 1 else indices.long().flatten(0, -2)
    if len(indices) not in (1, rows) or (indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < len(points)):
        raise ShapeError(
            f"{where}: {name} is {tuple(indices.shape)}, but indices 0 to {len(points) - 1}, the same for all or for each of "
            f"{counted(rows, 'signal')}, were needed."
        )
    return indices


def _values(trellis: Trellis, known: Tensor | None, argument: Any) -> Tensor | None:
    if known is None:
        return None
    return torch.zeros_like(known, dtype=trellis.points.dtype) if isinstance(argument, str) else trellis.points[known]


def _with_silence_filled(observed: Tensor, trellis: Trellis, before: Any, after: Any) -> Tensor:
    """Return observations as if the first point had been sent instead of silence, as zero is rarely in the alphabet."""
    taps, memory = trellis.taps, trellis.taps.shape[2] - 1
    silent = [isinstance(each, str) and each == "silence" for each in (before, after)]
    if not any(silent) or not memory:
        return observed
    filled = observed.to(torch.promote_types(torch.promote_types(observed.dtype, taps.dtype), trellis.points.dtype), copy=True)
    sums = trellis.points[0] * taps.cumsum(2)  # of taps 0 to k
    if silent[0]:
        affected = min(memory, filled.shape[-1])
        filled[..., :affected] += (sums[..., -1:] - sums)[..., :affected]
    if silent[1]:
        filled[..., filled.shape[-1] - memory :] += sums[..., :memory]
    return filled


def _mask(states: Tensor, trellis: Trellis, known: Tensor | None) -> Tensor:
    """Return the costs of states (states, B) whose newest digits are known, (B, q), the newest first: 0 or FAR."""
    if known is None or not known.shape[1]:
        return torch.zeros_like(states, dtype=torch.float64)
    size, wanted = len(trellis.points), torch.zeros_like(known[:, 0])
    for digit in known.unbind(1):
        wanted = wanted * size + digit
    impossible: Tensor = states // size ** (trellis.memory - known.shape[1]) != wanted
    return impossible.double() * FAR


def plan(trellis: Trellis, rows: int, steps: int, stored: int, block: int | None = None, overlap: int | None = None) -> Cut:
    """Return how to cut `rows` sequences of `steps`, with `stored` bytes for every step of a block."""
    # The survivors of most channels have merged after about eight times the channel's length. Boundaries are checked later, so
    # that a wrong guess costs time only.
    overlap = 10 * (trellis.memory + 1) if overlap is None else overlap
    length = (4 if rows * steps < 2**18 else 8) * max(overlap, 48) if block is None else block
    if steps <= 2 * length or (rows >= 1024 and steps <= 16 * length):
        length = steps
    blocks = -(-steps // length)
    most = max(1 if blocks == 1 else 2, min(max(_CACHE // trellis.branches, 64), _ROOM // (length * stored)))
    return Cut(length, 0 if blocks == 1 else overlap, blocks, blocks * length - steps, most)


def cut(rows: Tensor, blocking: Cut, first: int, last: int, after: int = 0) -> Tensor:
    """Return blocks `first` to `last` of rows (R, B, steps) with a row of ones: (overlap + length + after, R + 1, B * blocks).

    Steps outside the sequence are zero, also in the row of ones, so all their branches cost nothing.
    """
    begin, end = first * blocking.length - blocking.overlap - blocking.pad, last * blocking.length - blocking.pad + after
    inside = slice(max(begin, 0), min(end, rows.shape[-1]))
    columns = rows[..., inside]
    columns = torch.cat([columns, torch.ones_like(columns[:1])])
    columns = F.pad(columns, (inside.start - begin, end - inside.stop))
    window = columns.unfold(-1, blocking.overlap + blocking.length + after, blocking.length)
    return window.permute(3, 0, 1, 2).flatten(2).contiguous()


def column_weights(trellis: Trellis, rows: int, blocks: int) -> Tensor:
    """Return the weights of columns (rows * blocks): (branches, R + 1) for one channel, or (branches, R + 1, columns)."""
    if len(trellis.weights) == 1:
        return trellis.weights[0]
    return trellis.weights.repeat_interleave(blocks, 0).permute(1, 2, 0).contiguous()


def weights_of_columns(weights: Tensor, which: Tensor) -> Tensor:
    """Return the weights of some columns."""
    return weights if weights.ndim == 2 else weights[..., which]


def trellis_of_rows(trellis: Trellis, rows: slice) -> Trellis:
    """Return the trellis of some signals."""
    return trellis if len(trellis.weights) == 1 else replace(trellis, weights=trellis.weights[rows])


def in_batches(
    trellis: Trellis, observation: Observation, blocking: Cut, process_rows: Callable[..., None], out: Tensor
) -> None:
    """Process the rows of an observation in batches that the memory allows; results go to `out` (B, ...)."""
    batch = max(1, blocking.most // blocking.blocks)
    for first in range(0, len(out), batch):
        part = slice(first, first + batch)
        process_rows(
            trellis_of_rows(trellis, part),
            observation.rows[:, part],
            observation.start[:, part],
            observation.end[:, part],
            blocking,
            out[part],
        )


class Branches:
    """The branch costs of a trellis for many columns, step by step.

    Args:
        weights: (branches, R + 1), or (branches, R + 1, columns).
        size: points M. Sums of branches and states are (M, rest, M, columns): by new symbol, symbols in between, oldest symbol.
    """

    def __init__(self, weights: Tensor, size: int) -> None:
        self.weights = weights
        # A product of matrices that are two or three numbers wide takes longer than sums of rows, except for the smallest.
        by_rows = weights.ndim == 3 or (len(weights) > 8 and weights.shape[1] <= 4)
        shape = (size, len(weights) // size**2, size, -1)
        self.rows = [row.reshape(shape) for row in weights.unbind(1)] if by_rows else []

    def add(self, sample: Tensor, costs: Tensor, out: Tensor) -> None:
        """Write the sums of costs (broadcast) and a sample's branch costs (R + 1, columns) to `out`, (M, rest, M, columns)."""
        if not self.rows:
            torch.mm(self.weights, sample, out=out.view(len(self.weights), -1))
            out += costs
            return
        torch.addcmul(costs, self.rows[0], sample[0], out=out)
        for weights, part in zip(self.rows[1:], sample[1:], strict=True):
            out.addcmul_(weights, part)


def is_parallel(costs: Tensor, others: Tensor, least: float = 0.0) -> Tensor:
    """Tell which columns of costs (states, columns) equal the others up to one number each, to `least` or to rounding.

    A trellis adds that number to every later cost and changes nothing else. So if the costs at the end of a block and those
    after the next one's warm-up are parallel, the next block equals that of one pass from the very start.

    Source:
        Maleki, Musuvathi & Mytkowicz, "Parallelizing dynamic programming through rank convergence" (2014).
    """
    differences = costs - others
    # Rounding grows with the costs; those of impossible states do not count.
    spread = torch.where(others < FAR / 2, others, others.amin(0)).amax(0) - others.amin(0)
    tolerance = least + _SAME * torch.finfo(costs.dtype).eps * (1 + spread)
    return (differences.amax(0) - differences.amin(0)) <= tolerance


def mend(rows: int, failing: Callable[[], Tensor], redo: Callable[[Tensor], None], backwards: bool = False) -> None:
    """Process blocks again until none is `failing`, (rows * blocks,), that is, begins otherwise than its neighbour ended.

    A block processed again may end otherwise, and then its other neighbour fails. After some rounds only the first failing
    block of each row is processed, which then begins right for good: at worst, this is one block after another.
    """
    rounds = 0
    while True:
        columns = failing().reshape(rows, -1)
        if rounds >= _ROUNDS:
            columns = columns.flip(1) if backwards else columns
            columns = columns & (columns.cumsum(1) == 1)
            columns = columns.flip(1) if backwards else columns
        which = torch.nonzero(columns.flatten()).flatten()
        if not len(which):
            return
        redo(which)
        rounds += 1


def process_groups(blocking: Cut, start: Tensor, process: GroupPass, differ: Callable[[Tensor, Tensor], bool]) -> None:
    """Process blocks group by group, so that memory is bounded, and again each group that guessed wrong what follows it.

    Args:
        process: takes the first and the last block, the costs at the start of the first, and those at the end of the last (None
            to guess them); returns the costs at the start of the last, and the results of the backward pass at the starts of
            the first and of the last block.
    """
    groups, starts, backward = list(blocking.groups()), [start], []
    for first, last in groups:
        start_of_last, *result = process(first, last, starts[-1], None)
        starts.append(start_of_last)
        backward.append(result)
    # A group shares its last block with the next group, whose backward pass knows what follows.
    for number in range(len(groups) - 2, -1, -1):
        following = backward[number + 1][0]
        if differ(backward[number][1], following):
            first, last = groups[number]
            _, *backward[number] = process(first, last - 1, starts[number], following)
