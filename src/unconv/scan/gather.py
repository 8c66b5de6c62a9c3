"""Gather the results of all places while batches pass through a network.

Only the maximum of a map is computed for every picture. Its position is computed for the few pictures that may enter a list.
These may be a few too many, since the limits that they must exceed lag behind. The lists are updated block by block.

A batch is a few rows of a block that has a column for every unit of every place. While the network runs, each place works on
NumPy views, whose small steps cost a fifth of torch's; the rest is done for all units at once.
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
"""Pictures after which the lists are updated."""


class Rows:
    """The largest, or the smallest, value of every unit in every picture of a block, with its position."""

    def __init__(self, units: int) -> None:
        self.ranks = torch.full((BLOCK, units), -torch.inf)
        self.flat_positions = torch.zeros(BLOCK, units, dtype=torch.int32)


class Side:
    """The lists of a place's largest values or, with `sign` -1, of its smallest.

    Args:
        rows: the rows of all places.
        own: the place's columns in them.
        keep: the length of the lists.
        axes: the number of axes of its map.
        least: the value that a rank must exceed to be listed.
    """

    def __init__(self, rows: Rows, own: slice, keep: int, axes: int, sign: int, least: float) -> None:
        channels = own.stop - own.start
        self.sign, self.keep, self.least = sign, keep, least
        self.lists = Lists.empty(channels, keep, axes)
        self.limit = torch.full((channels,), least)
        self.ranks, self.flat_positions = rows.ranks[:, own], rows.flat_positions[:, own]
        self._views = self.ranks.numpy(), self.flat_positions.numpy(), self.limit.numpy()

    def take(self, rows: slice, ranked: Tensor) -> np.ndarray[Any, Any]:
        """Store the extremes of a batch's maps (N, C, samples), and return their ranks (N, C)."""
        if self.sign > 0 and ranked.dtype == torch.float32 and ranked.device.type == "cpu":
            torch.amax(ranked, 2, out=self.ranks[rows])
        else:
            self.ranks[rows] = ranked.amax(2) if self.sign > 0 else -ranked.amin(2)
        return self._views[0][rows]

    def locate(self, rows: slice, ranked: Tensor, lower: np.ndarray[Any, Any] | bool = False) -> None:
        """Store the positions of the extremes that may be listed, or are marked in `lower` (N, C)."""
        if ranked.shape[2] == 1:
            return
        ranks, flat_positions, limit = self._views
        row, channel = ((ranks[rows] > limit) | lower).nonzero()
        if not len(row):
            return
        index = torch.from_numpy(row).to(ranked.device), torch.from_numpy(channel).to(ranked.device)
        most = 2 * len(row) > limit.size * (rows.stop - rows.start)  # then copying the chosen maps costs more than it saves
        chosen = ranked if most else ranked[index]
        argument = chosen.argmax(-1) if self.sign > 0 else chosen.argmin(-1)
        flat_positions[rows][row, channel] = (argument[index] if most else argument).cpu().numpy()

    def tighten(self, filled: int) -> None:
        """Raise the limit to the `keep`-th largest rank of the list and the block so far."""
        ranks = torch.cat([self.lists.rank.T, self.ranks[:filled]])
        if len(ranks) > self.keep:
            torch.maximum(self.limit, ranks.topk(self.keep, 0).values[-1], out=self.limit)
        elif len(ranks) == self.keep:
            torch.maximum(self.limit, ranks.amin(0), out=self.limit)

    def settle(self, good: Tensor, numbers: Tensor, size: tuple[int, ...], values: Tensor) -> None:
        """Merge the block's pictures into the lists.

        Args:
            good: the rows of the block that are pictures.
            numbers: the numbers of these pictures.
            size: the size of the map.
            values: (n, C), the activations in these rows.
        """
        ranks = self.ranks[good]
        rows, channels = ((ranks >= self.limit) & (ranks > self.least)).numpy().nonzero()
        # Only the candidates are sorted, by channel, then rank, then number: most of a block never gets this far.
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
    """The results of one place in a shard, gathered batch by batch.

    Args:
        block: the block of all places.
        own: the place's columns in it.
        size: (C, samples..) of its maps.
        rectified: whether only maxima above zero count as a response.
    """

    def __init__(self, block: Gathers, own: slice, size: tuple[int, ...], rectified: bool) -> None:
        self.size, channels, axes = size[1:], size[0], len(size) - 1
        self.high = Side(block.high, own, block.keep, axes, 1, 0.0 if rectified else -torch.inf)
        self.low = Side(block.low, own, block.keep, axes, -1, -torch.inf) if block.low else None
        self.level, self.drawn = block.level[:, own], block.drawn[own]
        self._views = self.level.numpy(), self.drawn.reshape(-1).numpy(), np.arange(channels) * BINS
        self.clipped: Tensor | None = None  # the maxima, if they are ranked by their values before a clip
        self.levels = Levels.empty(channels, axes)
        self.positive = torch.zeros(channels, dtype=torch.int64)
        self.histogram = torch.zeros(channels, BINS, dtype=torch.int64)
        self.total = torch.zeros(channels, dtype=torch.float64)
        self.kept: list[Tensor] = []

    def look(self, rows: slice, draw: Tensor, maps: Tensor, before: Tensor | None) -> None:
        """Gather a batch's maps.

        Args:
            rows: the rows of the batch's pictures in the block.
            draw: (N,) the pictures' random numbers.
            maps: (N, C, samples..).
            before: the maps before a clip, by which they are ranked; None if there is none.
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
        """Raise the limits of both lists by the block so far."""
        for side in filter(None, (self.high, self.low)):
            side.tighten(filled)

    def settle(self, good: Tensor, numbers: Tensor, draw: Tensor, maxima: bool) -> None:
        """Add a block to the lists and statistics.

        Args:
            good: the rows of the block that are pictures.
            numbers, draw: the numbers of these pictures, and their random numbers.
            maxima: whether to keep the maxima of every picture.
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
            # Clipped to the range of float16, in which larger maxima would become infinite.
            self.kept.append(values.clamp(-65504, 65504).half())

    def result(self, part: int) -> PlaceTop:
        """Return the results of the place.

        Args:
            part: the number of the shard's first picture.
        """
        low = None if self.low is None else self.low.lists
        return PlaceTop(self.high.lists, low, self.positive, self.histogram, self.levels, {part: self.total})


class Gathers:
    """The results of all places in one shard, gathered batch by batch.

    Args:
        places: for each place the size (C, samples..) of its maps, and whether only maxima above zero count as a response.
        keep: the length of the lists.
        lowest: whether to list the smallest values, too.
        maxima: whether to keep the maxima of every picture, as float16.
    """

    def __init__(self, places: Sequence[tuple[tuple[int, ...], bool]], keep: int, lowest: bool, maxima: bool) -> None:
        ends = [0, *accumulate(size[0] for size, _ in places)]
        self.keep, self.maxima = keep, maxima
        self.high, self.low = Rows(ends[-1]), Rows(ends[-1]) if lowest else None
        self.level = torch.zeros(BLOCK, ends[-1], dtype=torch.uint8)
        self.drawn = torch.full(
            (ends[-1], BINS), torch.iinfo(torch.int64).max
        )  # the smallest random number of each level so far
        columns = map(slice, ends, ends[1:])
        self.places = [Gather(self, own, *place) for own, place in zip(columns, places, strict=True)]
        self.next = 0  # rows of the block after which the limits are raised again

    def commit(self, rows: slice, draw: Tensor, here: Tensor) -> Tensor:
        """Let a batch's pictures count; rows without a picture, or with a value that is not finite, are left out.

        Args:
            draw: (N,) the random numbers of the pictures.
            here: (N,) whether each row has a picture.

        Returns:
            (N,) whether all values of each row are finite.
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
            self.next = 2 * rows.stop  # doubled each time, since limits rise less and less
            for place in self.places:
                place.tighten(rows.stop)
        return finite

    def settle(self, good: Tensor, numbers: Tensor) -> None:
        """Add a block to the lists and statistics of all places.

        Args:
            good: the rows of the block that are pictures.
            numbers: the numbers of these pictures.
        """
        self.next = 0
        draw = draws(numbers)
        for place in self.places:
            place.settle(good, numbers, draw, self.maxima)

    def every(self) -> list[Tensor]:
        """Return for each place (pictures, C) float16, the maxima of every picture read; [] if they are not kept."""
        if not self.maxima:
            return []
        return [torch.cat([torch.zeros(0, len(place.positive), dtype=torch.float16), *place.kept]) for place in self.places]


def unravelled(flat: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return (.., axes) int32, the positions of samples of a map from their flat indices."""
    if not size:
        return torch.zeros(*flat.shape, 0, dtype=torch.int32)
    return torch.stack(torch.unravel_index(flat.long(), size), -1).to(torch.int32)
