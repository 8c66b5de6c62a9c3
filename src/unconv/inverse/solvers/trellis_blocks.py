"""A dispersive channel as a trellis, and long observations cut into blocks that are walked side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import ShapeError
from unconv.inverse.solvers.arrays import as_numbers, as_samples

FAR = 1e30  # the cost of a state that cannot be: finite, so that no difference of two is NaN
WalkGroup = Callable[[int, int, Tensor, Tensor | None], tuple[Tensor, Tensor, Tensor]]
_SAME = 256  # units of rounding by which parallel costs may differ
_ROUNDS = 4  # in which all blocks that do not fit are walked again; from then on one at a time
_ROOM, _CACHE = 2**26, 2**19  # bytes of what is kept of every step; numbers in the largest array of one step


@dataclass(frozen=True)
class Trellis:
    """The states of a channel: its last `memory` symbols, the newest the most significant digit.

    Branch j = new * states + state is the transition that a new symbol makes from a state. Its cost is, up to a number that all
    branches share, |y - c_j|^2 = |c_j|^2 - 2 Re(c_j* y): a product of `weights` with the real and imaginary parts of y and 1.

    Attributes:
        points: (M,), the symbols. taps: (C, P, L), as they came: of one channel, or one for each signal.
        memory: symbols that a state holds, at least 1. states, branches: M^memory, M^(memory + 1).
        delay: zero taps in front, which all sub-channels share, and which cost no states.
        weights: (C, branches, R + 1), for y over `scale`, (C,). `parts`: which real and imaginary parts of y count.
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
class Walk:
    """An observation as a trellis walks over it.

    Attributes:
        rows: (R, B, steps), the parts of y that the weights multiply.
        start, end: (states, B), the cost of each state before the first and after the last step: 0, or FAR where it cannot be.
        before, after: (B, L - 1) and (B, q), known symbols; None where unknown.
        count: symbols asked for. `seen`: of them, those that a sample depends on.
        at: the place of the first symbol in the path, which begins with the digits of the first state.
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
    """How a walk of `steps` is cut: blocks of `length`, each warmed up over `overlap` steps before (and after) it.

    The first block begins with `pad` empty steps, so that the last one ends where the walk ends.
    """

    length: int
    overlap: int
    blocks: int
    pad: int
    most: int

    def groups(self) -> Iterator[tuple[int, int]]:
        """Blocks (first, last) that are walked together; each group but the last ends in the block that begins the next."""
        first = 0
        while True:
            last = min(first + self.most, self.blocks)
            yield first, last
            if last == self.blocks:
                return
            first = last - 1


def admitted_points(where: str, points: Any) -> Tensor:
    """Take an alphabet (M,): at least two finite symbols, all different."""
    samples = as_samples(where, "points", points, "(M,)")
    if samples.ndim != 1 or len(samples) < 2:
        raise ShapeError(f"{where}: points is {tuple(samples.shape)}, but (M,) with two symbols or more was needed.")
    if len(set(samples.tolist())) < len(samples):
        raise ShapeError(f"{where}: points has {len(samples)} symbols, some of them alike, but all different were needed.")
    return samples


def make_trellis(
    where: str, taps: Tensor, points: Tensor, kind: torch.dtype, most_states: int, variance: float | None = None
) -> Trellis:
    """Make the trellis of taps (C, P, L) and points (M,) for costs of a real dtype, over `variance`; None: in any unit."""
    loud = torch.nonzero((taps != 0).any(1).any(0)).flatten()
    if not bool((taps != 0).any(2).any(1).all()):
        raise ShapeError(f"{where}: all taps are zero, but a channel was needed. Estimate it, or leave that signal out.")
    delay, memory = int(loud[0]), max(int(loud[-1] - loud[0]), 1)
    size = len(points)
    if size**memory > most_states:
        raise ShapeError(
            f"{where}: {size} points and {memory + 1} taps make {size}^{memory} states, but at most {most_states} are allowed. "
            "Use decision_feedback_equalizer, shorten the channel, or raise most_states."
        )
    wide = torch.complex128 if taps.is_complex() or points.is_complex() else torch.float64
    used = F.pad(taps, (0, 1))[..., delay : delay + memory + 1].to(wide)
    outputs = used.new_zeros(*taps.shape[:2], 1)
    for tap in range(memory + 1):
        # Adding an axis for each older symbol leaves the newest the most significant.
        outputs = (outputs[..., None] + used[..., tap, None, None] * points.to(wide)).flatten(2)
    scale = outputs.abs().amax((1, 2))
    unit = outputs / scale[:, None, None]
    parts = torch.cat([unit.real, unit.imag] if unit.is_complex() else [unit, torch.zeros_like(unit)], 1)
    used_parts = (parts != 0).any(2).any(0)
    constant = parts.square().sum(1, keepdim=True)
    weights = torch.cat([-2 * parts[:, used_parts], constant], 1).mT
    if variance is not None:
        weights = weights * (scale.square() / variance)[:, None, None]
    return Trellis(points, taps, memory, delay, weights.to(kind).contiguous(), used_parts, scale)


def make_walk(where: str, observed: Tensor, trellis: Trellis, before: Any, after: Any) -> Walk:
    """Lay out observations (B, P, N) for a trellis."""
    rows, _, length = observed.shape
    taps, points = trellis.taps, trellis.points
    memory = taps.shape[2] - 1
    known_before = _known(where, "before", before, rows, points, memory)
    known_after = _known(where, "after", after, rows, points, memory)
    if known_before is not None and known_before.shape[1] < memory:
        raise ShapeError(
            f"{where}: before has {known_before.shape[1]} symbols, but taps reach {memory} back. Pass so many, or 'unknown'."
        )
    count = length - (0 if known_after is None else known_after.shape[1])
    first = 0 if known_before is None else trellis.delay
    told = 0 if known_after is None else max(known_after.shape[1] - trellis.delay, 0)
    beyond = max(told - trellis.memory, 0)  # samples in which there is only what is known
    if count < 1 or length - beyond - first < 1:
        raise ShapeError(
            f"{where}: {length} samples came for {memory + 1} taps, but more were needed: no symbol is seen with those before "
            "and after it known. Pass longer observations."
        )
    y = _with_silence_filled(observed, trellis, before, after)[..., first : length - beyond]
    y = y / trellis.scale.to(y.real.dtype)[:, None, None]
    parts = torch.cat([y.real, y.imag] if y.is_complex() else [y, torch.zeros_like(y)], 1)[:, trellis.parts]
    states = torch.arange(trellis.states, device=y.device)[:, None]
    start = _mask(states, trellis, None if known_before is None else known_before.flip(1)[:, : trellis.memory])
    ends = None if known_after is None else known_after[:, : known_after.shape[1] - trellis.delay - beyond].flip(1)
    end = _mask(states, trellis, ends if told else None)
    kind = trellis.weights.dtype
    silent = [_values(trellis, k, w) for k, w in ((known_before, before), (known_after, after))]
    seen = min(count, length - beyond - trellis.delay)
    at = trellis.delay - first + trellis.memory
    start, end = (mask.to(kind).expand(-1, rows) for mask in (start, end))
    head = None if silent[0] is None else silent[0][:, silent[0].shape[1] - memory :]
    return Walk(parts.permute(1, 0, 2).to(kind), start, end, head, silent[1], count, seen, at)


def _known(where: str, name: str, given: Any, rows: int, points: Tensor, memory: int) -> Tensor | None:
    """Return known symbols, (1 or B, q); of silence, the first point's number, which `_with_silence_filled` makes up for."""
    if isinstance(given, str):
        if given not in ("unknown", "silence"):
            raise ShapeError(f"{where}: {name} is {given!r}, but 'unknown', 'silence' or indices of symbols were needed.")
        return None if given == "unknown" else torch.zeros(1, memory, dtype=torch.int64, device=points.device)
    indices = as_numbers(where, name, given, "'unknown', 'silence' or indices of symbols").to(points.device)
    whole = not (indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool)
    if not indices.ndim or (indices.numel() and not whole):
        raise ShapeError(f"{where}: {name} is {indices.dtype}, but 'unknown', 'silence' or indices of symbols were needed.")
    indices = indices.long()[None] if indices.ndim == 1 else indices.long().flatten(0, -2)
    if len(indices) not in (1, rows) or (indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < len(points)):
        raise ShapeError(
            f"{where}: {name} is {tuple(indices.shape)}, but indices 0 to {len(points) - 1}, the same for all or for each of "
            f"{rows} signals, were needed."
        )
    return indices


def _values(trellis: Trellis, known: Tensor | None, given: Any) -> Tensor | None:
    if known is None:
        return None
    return torch.zeros_like(known, dtype=trellis.points.dtype) if isinstance(given, str) else trellis.points[known]


def _with_silence_filled(observed: Tensor, trellis: Trellis, before: Any, after: Any) -> Tensor:
    """Add what the first point would have added, had it been sent in place of silence: zero is rarely in the alphabet."""
    taps, memory = trellis.taps, trellis.taps.shape[2] - 1
    silent = [isinstance(each, str) and each == "silence" for each in (before, after)]
    if not any(silent) or not memory:
        return observed
    made = observed.to(torch.promote_types(torch.promote_types(observed.dtype, taps.dtype), trellis.points.dtype), copy=True)
    sums = trellis.points[0] * taps.cumsum(2)  # of taps 0 to k
    if silent[0]:
        some = min(memory, made.shape[-1])
        made[..., :some] += (sums[..., -1:] - sums)[..., :some]
    if silent[1]:
        made[..., made.shape[-1] - memory :] += sums[..., :memory]
    return made


def _mask(states: Tensor, trellis: Trellis, known: Tensor | None) -> Tensor:
    """Return the costs of states (states, B) of which the newest digits are known: (B, q), the newest first."""
    if known is None or not known.shape[1]:
        return torch.zeros_like(states, dtype=torch.float64)
    size, wanted = len(trellis.points), torch.zeros_like(known[:, 0])
    for digit in known.unbind(1):
        wanted = wanted * size + digit
    found: Tensor = states // size ** (trellis.memory - known.shape[1]) != wanted
    return found.double() * FAR


def plan(trellis: Trellis, rows: int, steps: int, kept: int, block: int | None = None, overlap: int | None = None) -> Cut:
    """Choose how to cut `rows` walks of `steps`: `kept` bytes are kept of every step of a block."""
    # Survivors of most channels have merged after some eight lengths of it; seams are checked, so that this is only a guess.
    overlap = 10 * (trellis.memory + 1) if overlap is None else overlap
    length = (4 if rows * steps < 2**18 else 8) * max(overlap, 48) if block is None else block
    if steps <= 2 * length or (rows >= 1024 and steps <= 16 * length):
        length = steps
    blocks = -(-steps // length)
    most = max(1 if blocks == 1 else 2, min(max(_CACHE // trellis.branches, 64), _ROOM // (length * kept)))
    return Cut(length, 0 if blocks == 1 else overlap, blocks, blocks * length - steps, most)


def cut(rows: Tensor, how: Cut, first: int, last: int, after: int = 0) -> Tensor:
    """Return blocks `first` to `last` of rows (R, B, steps) with a row of ones: (overlap + length + after, R + 1, B * blocks).

    Steps outside the walk are zero, also of the row of ones: all their branches cost nothing.
    """
    begin, end = first * how.length - how.overlap - how.pad, last * how.length - how.pad + after
    inside = slice(max(begin, 0), min(end, rows.shape[-1]))
    some = rows[..., inside]
    some = torch.cat([some, torch.ones_like(some[:1])])
    some = F.pad(some, (inside.start - begin, end - inside.stop))
    window = some.unfold(-1, how.overlap + how.length + after, how.length)
    return window.permute(3, 0, 1, 2).flatten(2).contiguous()


def column_weights(trellis: Trellis, rows: int, blocks: int) -> Tensor:
    """Return the weights of columns (rows * blocks): (branches, R + 1) of one channel, or (branches, R + 1, columns)."""
    if len(trellis.weights) == 1:
        return trellis.weights[0]
    return trellis.weights.repeat_interleave(blocks, 0).permute(1, 2, 0).contiguous()


def of_columns(weights: Tensor, which: Tensor) -> Tensor:
    """Return the weights of some columns."""
    return weights if weights.ndim == 2 else weights[..., which]


def of_rows(trellis: Trellis, rows: slice) -> Trellis:
    """Return the trellis of some signals."""
    return trellis if len(trellis.weights) == 1 else replace(trellis, weights=trellis.weights[rows])


class Branches:
    """The branches of columns' trellises, step by step.

    Args:
        weights: (branches, R + 1), or (branches, R + 1, columns).
        size: points M. Sums of branches and states are (M, rest, M, columns): the new symbol, those that stay, the oldest.
    """

    def __init__(self, weights: Tensor, size: int) -> None:
        self.weights = weights
        # A product of matrices that are two or three numbers wide takes longer than adding rows up, except for the smallest.
        by_rows = weights.ndim == 3 or (len(weights) > 8 and weights.shape[1] <= 4)
        shape = (size, len(weights) // size**2, size, -1)
        self.rows = [row.reshape(shape) for row in weights.unbind(1)] if by_rows else []

    def add(self, sample: Tensor, costs: Tensor, out: Tensor) -> None:
        """Put costs, which are broadcast, and the branches' of a sample (R + 1, columns) into `out`, (M, rest, M, columns)."""
        if not self.rows:
            torch.mm(self.weights, sample, out=out.view(len(self.weights), -1))
            out += costs
            return
        torch.addcmul(costs, self.rows[0], sample[0], out=out)
        for weights, part in zip(self.rows[1:], sample[1:], strict=True):
            out.addcmul_(weights, part)


def is_parallel(costs: Tensor, others: Tensor, least: float = 0.0) -> Tensor:
    """Tell which columns of costs (states, columns) are others up to one number each, to `least` or to rounding.

    A trellis adds that number to everything that follows and otherwise goes on alike: where the costs at the end of a block
    and those after the next one's warm-up are parallel, the next block is what a walk from the very start would have found.

    Source:
        Maleki, Musuvathi & Mytkowicz, "Parallelizing dynamic programming through rank convergence" (2014).
    """
    differences = costs - others
    # Rounding grows with the costs; states that cannot be have none.
    spread = torch.where(others < FAR / 2, others, others.amin(0)).amax(0) - others.amin(0)
    tolerance = least + _SAME * torch.finfo(costs.dtype).eps * (1 + spread)
    return (differences.amax(0) - differences.amin(0)) <= tolerance


def mend(rows: int, failing: Callable[[], Tensor], again: Callable[[Tensor], None], backwards: bool = False) -> None:
    """Walk blocks `again` until none is `failing`, (rows * blocks,): each that does not begin as its neighbour ended.

    A block walked again may end in another way: then its other neighbour fails. After some rounds only the first of each row is
    walked, which then begins right for good: the worst is one block after another.
    """
    turn = 0
    while True:
        columns = failing().reshape(rows, -1)
        if turn >= _ROUNDS:
            columns = columns.flip(1) if backwards else columns
            columns = columns & (columns.cumsum(1) == 1)
            columns = columns.flip(1) if backwards else columns
        which = torch.nonzero(columns.flatten()).flatten()
        if not len(which):
            return
        again(which)
        turn += 1


def walk_groups(how: Cut, start: Tensor, walk: WalkGroup, differ: Callable[[Tensor, Tensor], bool]) -> None:
    """Walk group of blocks by group, so that memory is bounded, and those again that guessed wrong what follows them.

    Args:
        walk: takes the first and the last block, what the first begins with, and what follows the last, None where that is to
            be guessed; returns what the last begins with, and what is found on the way back where the first and the last begin.
    """
    groups, starts, seams = list(how.groups()), [start], []
    for first, last in groups:
        at_last, *seam = walk(first, last, starts[-1], None)
        starts.append(at_last)
        seams.append(seam)
    # A group shares its last block with the next one, which tells what is found there.
    for number in range(len(groups) - 2, -1, -1):
        wanted = seams[number + 1][0]
        if differ(seams[number][1], wanted):
            first, last = groups[number]
            _, *seams[number] = walk(first, last - 1, starts[number], wanted)
