"""Gathers what is kept of all places, while batches go through a network.

Only a map's maximum is taken of every picture. Where it stands is asked of the few pictures that come into a list, and those
may be a few too many: the limits they are compared with lag behind. The lists are settled block by block.

A batch is a few rows of a block that has a column for every unit of every place. What is asked of a place while the network
runs is asked of NumPy's views, whose small steps cost a fifth of torch's; the rest is asked of all units at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unconv.scan.top import BINS, Levels, Lists, PlaceTop, bins, draws

BLOCK = 512
"""Pictures after which lists are settled."""


class Rows:
    """One end of the values of all units, of the pictures of a block."""

    def __init__(self, units: int) -> None:
        self.ranks = torch.full((BLOCK, units), -torch.inf)
        self.flat_positions = torch.zeros(BLOCK, units, dtype=torch.int32)


class Side:
    """One end of a place's values: the largest or, with `sign` -1, the smallest.

    Args:
        rows: of all places; `own`: the place's columns.
        least: what a rank must be above to be listed.
    """

    def __init__(self, rows: Rows, own: slice, keep: int, axes: int, sign: int, least: float) -> None:
        channels = own.stop - own.start
        self.sign, self.keep, self.least = sign, keep, least
        self.lists = Lists.empty(channels, keep, axes)
        self.limit = torch.full((channels,), least)
        self.ranks, self.flat_positions = rows.ranks[:, own], rows.flat_positions[:, own]
        self._views = self.ranks.numpy(), self.flat_positions.numpy(), self.limit.numpy()

    def take(self, rows: slice, ranked: Tensor) -> np.ndarray[Any, Any]:
        """Note the extremes of a batch's maps (N, C, samples); return by what they rank, (N, C)."""
        if self.sign > 0 and ranked.dtype == torch.float32 and ranked.device.type == "cpu":
            torch.amax(ranked, 2, out=self.ranks[rows])
        else:
            self.ranks[rows] = ranked.amax(2) if self.sign > 0 else -ranked.amin(2)
        return self._views[0][rows]

    def locate(self, rows: slice, ranked: Tensor, lower: np.ndarray[Any, Any] | bool = False) -> None:
        """Note where the extremes stand of the pictures and channels that may be listed, or are wanted `lower`, (N, C)."""
        if ranked.shape[2] == 1:
            return
        ranks, flat_positions, limit = self._views
        row, channel = ((ranks[rows] > limit) | lower).nonzero()
        if not len(row):
            return
        where = torch.from_numpy(row).to(ranked.device), torch.from_numpy(channel).to(ranked.device)
        most = 2 * len(row) > limit.size * (rows.stop - rows.start)  # then a copy of the chosen maps costs more than it saves
        chosen = ranked if most else ranked[where]
        at = chosen.argmax(-1) if self.sign > 0 else chosen.argmin(-1)
        flat_positions[rows][row, channel] = (at[where] if most else at).cpu().numpy()

    def tighten(self, filled: int) -> None:
        """Raise the limit to what the list and the block so far make of it."""
        seen = torch.cat([self.lists.rank.T, self.ranks[:filled]])
        if len(seen) > self.keep:
            torch.maximum(self.limit, seen.topk(self.keep, 0).values[-1], out=self.limit)
        elif len(seen) == self.keep:
            torch.maximum(self.limit, seen.amin(0), out=self.limit)

    def settle(self, good: Tensor, numbers: Tensor, size: tuple[int, ...], values: Tensor) -> None:
        """Put the block's pictures into the lists.

        Args:
            good: rows of the block that are pictures; `numbers`: theirs.
            size: of the map.
            values: (n, C) of those rows.
        """
        ranks = self.ranks[good]
        rows, channels = ((ranks >= self.limit) & (ranks > self.least)).numpy().nonzero()
        order = np.lexsort((rows, -ranks.numpy()[rows, channels], channels))
        row, channel = torch.from_numpy(rows[order]), torch.from_numpy(channels[order])
        first = torch.searchsorted(channel, torch.arange(len(self.limit)))
        column = torch.arange(len(row)) - first[channel]
        most = min(self.keep, int(column.max()) + 1 if len(column) else 0)
        listed = column < most
        row, channel, column = row[listed], channel[listed], column[listed]
        block = Lists.empty(len(self.limit), most, len(size))
        block.rank[channel, column] = ranks[row, channel]
        block.value[channel, column] = values[row, channel]
        block.picture[channel, column] = numbers[row]
        block.position[channel, column] = unravelled(self.flat_positions[good[row], channel], size)
        self.lists = self.lists.beside(block)
        torch.maximum(torch.full_like(self.limit, self.least), self.lists.rank[:, -1], out=self.limit)


class Gather:
    """The results of one place of a shard, as they come.

    Args:
        block: of all places; `own`: the place's columns.
        size: (C, samples..) of its maps; `rectified`: whether only maxima above zero are a response.
    """

    def __init__(self, block: Gathers, own: slice, size: tuple[int, ...], rectified: bool) -> None:
        self.size, channels, axes = size[1:], size[0], len(size) - 1
        self.high = Side(block.high, own, block.keep, axes, 1, 0.0 if rectified else -torch.inf)
        self.low = Side(block.low, own, block.keep, axes, -1, -torch.inf) if block.low else None
        self.level, self.drawn = block.level[:, own], block.drawn[own]
        self._views = self.level.numpy(), self.drawn.reshape(-1).numpy(), np.arange(channels) * BINS
        self.clipped: Tensor | None = None  # the maxima, where what they rank by is another number
        self.levels = Levels.empty(channels, axes)
        self.positive = torch.zeros(channels, dtype=torch.int64)
        self.histogram = torch.zeros(channels, BINS, dtype=torch.int64)
        self.total = torch.zeros(channels, dtype=torch.float64)
        self.kept: list[Tensor] = []

    def look(self, rows: slice, draw: Tensor, maps: Tensor, before: Tensor | None) -> None:
        """Take a batch's maps.

        Args:
            rows: of the block, of the batch's pictures.
            draw: (N,) the pictures' random numbers.
            maps: (N, C, samples..); `before`: what they were before a clip, or None.
        """
        flat = maps.flatten(2) if maps.ndim > 2 else maps[..., None]
        ranked = flat if before is None else before.reshape(flat.shape)
        values = self.high.take(rows, ranked)
        if before is not None:
            if self.clipped is None:
                self.clipped = torch.zeros(BLOCK, flat.shape[1])
            self.clipped[rows] = flat.amax(2)
            values = self.clipped[rows].numpy()
        level, drawn, first = self._views
        level[rows] = bins(values)
        self.high.locate(rows, ranked, draw.numpy()[:, None] < drawn[level[rows] + first])
        if self.low is not None:
            self.low.take(rows, ranked)
            self.low.locate(rows, ranked)

    def tighten(self, filled: int) -> None:
        """Raise the limits to what the lists and the block so far make of them."""
        for side in filter(None, (self.high, self.low)):
            side.tighten(filled)

    def settle(self, good: Tensor, numbers: Tensor, draw: Tensor, maxima: bool) -> None:
        """Settle a block.

        Args:
            good: rows of the block that are pictures; `numbers` and `draw`: theirs, and the random ones they have.
        """
        values = (self.high.ranks if self.clipped is None else self.clipped)[good]
        self.high.settle(good, numbers, self.size, values)
        if self.low is not None:
            self.low.settle(good, numbers, self.size, self.low.ranks[good])
        self.positive += (values > 0).sum(0)
        self.total += values.sum(0, dtype=torch.float64)
        level, first = self.level[good].numpy(), self._views[2]
        counted = np.bincount((level + first).reshape(-1), minlength=self.histogram.numel())
        self.histogram += torch.from_numpy(counted).reshape(self.histogram.shape)
        row, channel = (draw.numpy()[:, None] == self._views[1][level + first]).nonzero()
        row, at = torch.from_numpy(row), (torch.from_numpy(channel), torch.from_numpy(level[row, channel]).long())
        self.levels.draw[at] = draw[row]
        self.levels.picture[at] = numbers[row]
        self.levels.value[at] = values[row, at[0]]
        self.levels.position[at] = unravelled(self.high.flat_positions[good[row], at[0]], self.size)
        if maxima:
            self.kept.append(values.clamp(-65504, 65504).half())

    def result(self, part: int) -> PlaceTop:
        """Return what is kept.

        Args:
            part: the number of the first picture of the shard.
        """
        low = None if self.low is None else self.low.lists
        return PlaceTop(self.high.lists, low, self.positive, self.histogram, self.levels, {part: self.total})


class Gathers:
    """The results of all places of one shard, as they come.

    Args:
        places: of each the size (C, samples..) of its maps, and whether only maxima above zero are a response.
        keep: the length of lists.
        lowest: whether the smallest values are listed too.
        maxima: whether every picture's maxima are kept, as float16.
    """

    def __init__(self, places: Sequence[tuple[tuple[int, ...], bool]], keep: int, lowest: bool, maxima: bool) -> None:
        ends = [0, *accumulate(size[0] for size, _ in places)]
        self.keep, self.maxima = keep, maxima
        self.high, self.low = Rows(ends[-1]), Rows(ends[-1]) if lowest else None
        self.level = torch.zeros(BLOCK, ends[-1], dtype=torch.uint8)
        self.drawn = torch.full((ends[-1], BINS), torch.iinfo(torch.int64).max)  # of each level, up to the last batch
        columns = map(slice, ends, ends[1:])
        self.places = [Gather(self, own, *place) for own, place in zip(columns, places, strict=True)]
        self.next = 0  # rows of the block after which the limits are raised again

    def commit(self, rows: slice, draw: Tensor, here: Tensor) -> Tensor:
        """Let a batch's pictures count: what is no picture, or not finite anywhere, sets no limit.

        Args:
            draw: (N,) their random numbers.
            here: (N,) which are pictures.

        Returns:
            (N,) which are finite.
        """
        sides = [side.ranks[rows] for side in (self.high, self.low) if side is not None]
        clipped = [place.clipped[rows] for place in self.places if place.clipped is not None]
        finite = torch.stack([part.isfinite().all(1) for part in (*sides, *clipped)]).all(0)
        good = here & finite
        for side in sides:
            side += 0.0  # no negative zero, which would rank below a zero
            if not good.all():
                side[~good] = -torch.inf
        level = self.level[rows][good].T.long()
        self.drawn.scatter_reduce_(1, level, draw[good].expand(len(level), -1), "amin")
        if rows.stop >= self.next:
            self.next = 2 * rows.stop
            for place in self.places:
                place.tighten(rows.stop)
        return finite

    def settle(self, good: Tensor, numbers: Tensor) -> None:
        """Settle a block.

        Args:
            good: rows of the block that are pictures; `numbers`: theirs.
        """
        self.next = 0
        draw = draws(numbers)
        for place in self.places:
            place.settle(good, numbers, draw, self.maxima)

    def every(self) -> list[Tensor]:
        """Return of each place (pictures, C) float16, the maxima of every picture that was read; [] if they are not kept."""
        if not self.maxima:
            return []
        return [torch.cat([torch.zeros(0, len(place.positive), dtype=torch.float16), *place.kept]) for place in self.places]


def unravelled(flat: Tensor, size: tuple[int, ...]) -> Tensor:
    """(.., axes) int32: the positions of samples of a map that are counted in reading order."""
    if not size:
        return torch.zeros(*flat.shape, 0, dtype=torch.int32)
    return torch.stack(torch.unravel_index(flat.long(), size), -1).to(torch.int32)
