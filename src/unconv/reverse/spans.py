"""The samples below that each unit sees, where they are not evenly spaced: resizing, pads that repeat, slices, rolls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from unconv.reverse.window import Reach

FAR = 2**40
"""Beyond any map: a unit that sees nothing sees from FAR to -FAR, which leaves every hull as it is."""


@dataclass(frozen=True)
class Spans:
    """Per axis, the first and the last sample that each unit sees; they may lie outside the map.

    Args:
        first, last: per axis (units,) int64; `FAR` and `-FAR` for a unit that sees nothing.
        stride: per axis, samples of the map below from one unit to the next, on average; below 0 where the map is flipped.
    """

    first: tuple[Tensor, ...]
    last: tuple[Tensor, ...]
    stride: tuple[Fraction, ...]

    def below(self, first: Tensor, end: Tensor, sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return what units from `first` to `end` see of a map of `sizes`: firsts and ends, (n, axes); 0 and 0 for none."""
        pairs = [self._along(axis, first[:, axis], end[:, axis], size) for axis, size in enumerate(sizes)]
        firsts, ends = (torch.stack(side, 1) for side in zip(*pairs, strict=True))
        return firsts, ends

    def _along(self, axis: int, low: Tensor, high: Tensor, size: int) -> tuple[Tensor, Tensor]:
        first, last = self.first[axis], self.last[axis]
        units = low[:, None] + torch.arange(max(int((high - low).amax()), 1))
        outside = (units < 0) | (units >= high.clamp(max=len(first))[:, None])
        units = units.clamp(0, len(first) - 1)
        start = first[units].masked_fill(outside, FAR).amin(1).clamp(min=0)
        end = last[units].masked_fill(outside, -FAR).amax(1).clamp(max=size - 1) + 1
        empty = start >= end
        return start.masked_fill(empty, 0), end.masked_fill(empty, 0)


Sight = Reach | Spans | None
"""The part of the map below that a unit sees; None if it may see everything."""

Sights = Sight | tuple[Sight, ...]
"""One sight for all; or a tuple with one for each of several outputs of a step, or else for each of its inputs."""


def one_of(sights: Sights, entry: int, outlet: int, outputs: int) -> Sight:
    """Return what a unit of a step's output number `outlet` sees of its input number `entry`."""
    if not isinstance(sights, tuple):
        return sights
    return sights[outlet if outputs > 1 else entry]


def as_spans(sight: Reach | Spans, sizes: Sequence[int]) -> Spans:
    """Return a sight as one span for each unit of a map of `sizes`."""
    if isinstance(sight, Spans):
        return sight
    firsts = [torch.arange(n) * s - p for n, s, p in zip(sizes, sight.stride, sight.padding, strict=True)]
    lasts = [first + e - 1 for first, e in zip(firsts, sight.extent, strict=True)]
    return Spans(tuple(firsts), tuple(lasts), tuple(map(Fraction, sight.stride)))
