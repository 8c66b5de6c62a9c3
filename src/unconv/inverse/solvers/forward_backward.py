"""Posterior probabilities of symbols behind a known channel: log-MAP, forwards and backwards over a trellis in blocks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import DtypeError, ShapeError
from unconv.inverse.solvers.arrays import as_numbers, as_samples, like
from unconv.inverse.solvers.trellis import admitted, by_channel, in_place, of_signals
from unconv.inverse.solvers.trellis_blocks import (
    FAR,
    Branches,
    Cut,
    Trellis,
    Walk,
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

_NOTHING = -60.0  # the exponential of which, 1e-26, is lost beside 1
_SAME = {torch.float64: 1e-9, torch.float32: 0.0}  # by which costs at a seam may differ, beside rounding


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

    The model and the arguments are those of `viterbi`. Probabilities are summed as they are (log-MAP, not max-log), in float64,
    or in float32 for such samples. Long signals are walked in blocks: where neighbours' log probabilities agree to 1e-9
    (float32: to rounding) they are joined, else walked again.

    Args:
        observed: (..., P, N). taps: (P, L), or (..., P, L). points: (M,).
        noise: standard deviation of a sample, E|noise|^2 = noise^2; one, or one for each sub-channel, (P,).
        before, after: "unknown", "silence" or known symbols, as in `viterbi`.
        prior: log probabilities before anything was observed, up to a number for each symbol: (M,), (n, M) or (..., n, M). A
            symbol that cannot be has minus infinity. None: all alike.
        most_states: more are refused.

    Returns:
        (..., n, M), log probabilities that sum to 1; the prior's where no sample depends on a symbol.

    Raises:
        ShapeError, DtypeError, NonFinite: as `viterbi`; a noise that is not above zero.

    Source:
        Bahl, Cocke, Jelinek & Raviv, "Optimal decoding of linear codes for minimizing symbol error rate" (1974).

    Example:
        >>> bcjr([[1.1, 1.4, -0.6, 0.4]], [[1.0, 0.5]], [-1.0, 1.0], 0.5, before="silence").argmax(-1)
        array([1, 1, 0, 1])
    """
    y, h, alphabet = admitted("bcjr", observed, taps, points)
    level = _admitted_noise(noise, y)
    shape, size = y.shape[:-2], len(alphabet)
    kind = torch.float64 if y.dtype in (torch.float64, torch.complex128) else torch.float32
    # In units of each sub-channel's noise; a real sample's exponent is halved.
    variance = 1.0 if any(each.is_complex() for each in (y, h, alphabet)) else 2.0
    y, h = y / level.to(y.real.dtype), h.to(torch.promote_types(h.dtype, torch.float64)) / level
    numbers, made = [], []
    for which, rows, channels in by_channel(y, h):
        trellis = make_trellis("bcjr", channels, alphabet, kind, most_states, variance)
        walk = make_walk("bcjr", rows, trellis, of_signals(before, which), of_signals(after, which))
        log_prior = _log_prior(prior, (*shape, walk.count, size), kind)
        made.append(_posteriors(trellis, walk, log_prior if which is None or log_prior is None else log_prior[which]))
        numbers.append(which)
    return like(observed, in_place(numbers, made, shape))


def _admitted_noise(noise: Any, y: Tensor) -> Tensor:
    """Return standard deviations (1, 1) or (P, 1), float64."""
    level = as_samples("bcjr", "noise", noise, "one number or (P,)", 0)
    if level.is_complex() or level.ndim > 1 or level.numel() not in (1, y.shape[-2]) or not bool((level > 0).all()):
        raise ShapeError(
            f"bcjr: noise is {noise!r}, but its standard deviation, above zero, was needed, one or one for each of "
            f"{y.shape[-2]} sub-channels. Without noise viterbi's answer is certain."
        )
    return level.double().reshape(-1, 1).to(y.device)


def _log_prior(prior: Any, shape: tuple[int, ...], kind: torch.dtype) -> Tensor | None:
    """Return log probabilities (B, n, M), FAR below where they are minus infinity."""
    if prior is None:
        return None
    given = as_numbers("bcjr", "prior", prior, f"log probabilities {shape}")
    if given.is_complex():
        raise DtypeError(f"bcjr: prior is {given.dtype}, but log probabilities were needed. Pass real ones.")
    given = given.to(kind)
    broken = bool((given.isnan() | (given == torch.inf)).any())
    if given.ndim < 1 or given.shape != shape[len(shape) - given.ndim :] or broken:
        raise ShapeError(
            f"bcjr: prior is {tuple(given.shape)}, but log probabilities {shape[-1:]}, {shape[-2:]} or {shape}, "
            "below infinity, were needed."
        )
    return given.clamp(min=-FAR).expand(shape).reshape(-1, *shape[-2:])


def _posteriors(trellis: Trellis, walk: Walk, prior: Tensor | None) -> Tensor:
    """Return log probabilities (B, n, M) of a walk."""
    begin, size = walk.at - trellis.memory, len(trellis.points)
    if prior is not None:
        # One row more for each point, which counts where it is the newest symbol.
        newest = torch.eye(size).repeat_interleave(trellis.states, 0).to(trellis.weights).expand(len(trellis.weights), -1, -1)
        trellis = replace(trellis, weights=torch.cat([trellis.weights[..., :-1], newest, trellis.weights[..., -1:]], 2))
        costs = F.pad(-prior[:, : walk.seen].movedim(2, 0), (begin, walk.rows.shape[-1] - begin - walk.seen)).to(walk.rows)
        walk = replace(walk, rows=torch.cat([walk.rows, costs.expand(-1, walk.rows.shape[1], -1)]))
    found = posterior_costs(trellis, walk)[:, begin : begin + walk.seen]
    rest = -found.new_zeros(1, 1, 1) if prior is None else -prior[:, walk.seen :]
    rest = rest.expand(len(found), walk.count - walk.seen, size)
    return torch.cat([found, rest], 1).neg_().log_softmax(-1)


def posterior_costs(trellis: Trellis, walk: Walk, block: int | None = None, overlap: int | None = None) -> Tensor:
    """Return minus the log probabilities of each step's new symbol, up to a number each: (B, steps, M)."""
    _, rows, steps = walk.rows.shape
    how = plan(trellis, rows, steps, trellis.states * walk.rows.element_size(), block, overlap)
    out = walk.rows.new_empty(rows, steps, len(trellis.points))
    together = max(1, how.most // how.blocks)
    for first in range(0, rows, together):
        some = slice(first, first + together)
        _walk_rows(of_rows(trellis, some), walk.rows[:, some], walk.start[:, some], walk.end[:, some], how, out[some])
    return out


def _walk_rows(trellis: Trellis, rows: Tensor, start: Tensor, end: Tensor, how: Cut, out: Tensor) -> None:
    tolerance = _SAME[rows.dtype]

    def walk(first: int, last: int, begin: Tensor, final: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        done = _Group(trellis, rows, begin, how, first, last)
        return done.starts_of_last, *done.back(end if final is None and last == how.blocks else final, out)

    walk_groups(how, start, walk, lambda guessed, found: not bool(is_parallel(found, guessed, tolerance).all()))


class _Group:
    """Neighbouring blocks walked side by side: costs before and after each step of columns (B * blocks)."""

    def __init__(self, trellis: Trellis, rows: Tensor, start: Tensor, how: Cut, first: int, last: int) -> None:
        self.trellis, self.how, self.first, self.last, self.count = trellis, how, first, last, rows.shape[1]
        self.blocks, self.tolerance = last - first, _SAME[rows.dtype]
        samples = cut(rows, how, first, last, how.overlap)
        self.samples, self.ahead = samples[how.overlap : how.overlap + how.length], samples[how.overlap + how.length :]
        self.weights = column_weights(trellis, self.count, self.blocks)
        columns = samples.shape[-1]
        self.columns = torch.arange(columns, device=rows.device)
        costs = rows.new_zeros(trellis.states, columns)
        self.after = rows.new_empty(how.length, trellis.states, columns)
        pad, size = how.pad if first == 0 else 0, len(trellis.points)
        _forwards(self.weights, samples[: how.overlap], costs, size)
        self.starts = costs.clone()
        _forwards(self.weights, self.samples[:pad], costs, size, self.after)
        costs[:, :: self.blocks] = start
        _forwards(self.weights, self.samples[pad:], costs, size, self.after[pad:])
        self._mend()

    @property
    def starts_of_last(self) -> Tensor:
        return self.starts[:, self.blocks - 1 :: self.blocks]

    def _mend(self) -> None:
        """Walk blocks again that began with other costs than those with which the block before them ended."""

        size = len(self.trellis.points)

        def failing() -> Tensor:
            fit = is_parallel(self.after[-1].roll(1, 1), self.starts, self.tolerance)
            return ~fit & (self.columns % self.blocks != 0)

        def again(which: Tensor) -> None:
            costs = self.after[-1][:, which - 1]
            self.starts[:, which] = costs
            after = torch.empty_like(self.after[..., : len(which)])
            samples = self.samples[..., which].contiguous()
            _forwards(of_columns(self.weights, which), samples, costs.clone(), size, after)
            self.after[..., which] = after

        mend(self.count, failing, again)

    def back(self, final: Tensor | None, out: Tensor) -> tuple[Tensor, Tensor]:
        """Write the posteriors, with costs `final` (states, B) behind the last block; return (before the first, before it)."""
        size = len(self.trellis.points)
        costs = torch.zeros_like(self.starts)
        _backwards(self.weights, self.ahead, costs, size)
        if final is not None:
            costs[:, self.blocks - 1 :: self.blocks] = final
        ends = costs.clone()
        found = costs.new_empty(self.how.length, len(self.trellis.points), costs.shape[1])
        _backwards(self.weights, self.samples, costs, size, self.after, found)

        def failing() -> Tensor:
            return ~is_parallel(costs.roll(-1, 1), ends, self.tolerance) & (self.columns % self.blocks != self.blocks - 1)

        def again(which: Tensor) -> None:
            some, made = costs[:, which + 1], torch.empty_like(found[..., : len(which)])
            ends[:, which] = some
            samples = self.samples[..., which].contiguous()
            _backwards(of_columns(self.weights, which), samples, some, size, self.after[..., which], made)
            costs[:, which], found[..., which] = some, made

        mend(self.count, failing, again, backwards=True)
        in_rows = found.unflatten(2, (self.count, self.blocks)).permute(2, 3, 0, 1).flatten(1, 2)
        begin = self.first * self.how.length - self.how.pad
        skipped = max(-begin, 0)
        out[:, begin + skipped : self.last * self.how.length - self.how.pad] = in_rows[:, skipped:]
        return costs[:, :: self.blocks], costs[:, self.blocks - 1 :: self.blocks]


def _forwards(weights: Tensor, samples: Tensor, costs: Tensor, size: int, after: Tensor | None = None) -> None:
    """Take steps through samples (steps, R + 1, columns): renew costs (states, columns), and keep them after each step."""
    states, columns = costs.shape
    branches, sums = Branches(weights, size), costs.new_empty(size, states // size, size, columns)
    for step in range(len(samples)):
        branches.add(samples[step], costs.view(1, states // size, size, columns), sums)
        _soft_least(sums, 2, costs.view(size, states // size, columns))
        costs -= costs.amin(0)
        if after is not None:
            after[step] = costs


def _backwards(
    weights: Tensor, samples: Tensor, costs: Tensor, size: int, after: Tensor | None = None, found: Tensor | None = None
) -> None:
    """Take steps back through samples: costs (states, columns) of what follows; join them with those `after` each step."""
    states, columns = costs.shape
    branches, joint = Branches(weights, size), torch.empty_like(costs)
    sums = costs.new_empty(size, states // size, size, columns)
    for step in range(len(samples) - 1, -1, -1):
        if after is not None and found is not None:
            torch.add(after[step], costs, out=joint)
            _soft_least(joint.view(size, states // size, columns), 1, found[step])
        branches.add(samples[step], costs.view(size, states // size, 1, columns), sums)
        _soft_least(sums, 0, costs.view(states // size, size, columns))
        costs -= costs.amin(0)


def _soft_least(costs: Tensor, axis: int, out: Tensor) -> None:
    """Put -log sum exp(-costs) over an axis into `out`; the costs are used up."""
    # What is far above the least adds nothing to a sum that is at least 1, and torch's exponential of it takes many times as
    # long as that of others.
    if costs.shape[axis] == 2:
        first, second = costs.unbind(axis)
        torch.minimum(first, second, out=out)
        # Of two terms the larger is 1, which saves an exponential; in float32 torch's log1p takes more time than it saves.
        rest = first.sub_(second).abs_().neg_().clamp_(min=_NOTHING).exp_()
        out -= rest.log1p_() if costs.dtype == torch.float64 else rest.add_(1).log_()
        return
    torch.amin(costs, axis, out=out)
    total = torch.sub(out.unsqueeze(axis), costs, out=costs).clamp_(min=_NOTHING).exp_().sum(axis)
    out -= total.log_()
