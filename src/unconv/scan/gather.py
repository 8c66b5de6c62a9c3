"""Gathers what is kept of a place, while batches go through a network.

Only a map's maximum is taken of every picture. Where it stands is asked of the few pictures that come into a list, and those
may be a few too many: the limits they are compared with lag behind. What is kept is settled block by block.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unconv.scan.top import BINS, NOBODY, Levels, Lists, PlaceTop, bins, draws, strongest

BLOCK = 512
"""Pictures after which lists are settled."""


class Side:
    """One end of a place's values: the largest or, with `sign` -1, the smallest.

    Args:
        least: what a rank must be above to be listed.
    """

    def __init__(self, channels: int, keep: int, axes: int, sign: int, least: float) -> None:
        self.sign, self.keep, self.least = sign, keep, least
        self.lists = Lists.empty(channels, keep, axes)
        self.limit = torch.full((channels,), least)
        self.ranks = torch.full((BLOCK, channels), -torch.inf)
        self.values = torch.zeros(BLOCK, channels)
        self.places = torch.zeros(BLOCK, channels, dtype=torch.int32)

    def take(self, rows: slice, maps: Tensor, before: Tensor | None) -> Tensor:
        """Note the extremes of a batch's maps (N, C, samples); return by what they rank, (N, C)."""
        ranked = maps if before is None else before
        extreme = ranked.amax(2) if self.sign > 0 else ranked.amin(2).neg_()
        rank = extreme.to("cpu", torch.float32) + 0.0  # no negative zero, which would rank below a zero
        value = rank if before is None or self.sign < 0 else maps.amax(2).to("cpu", torch.float32)
        self.ranks[rows], self.values[rows] = rank, value
        return rank

    def locate(self, rows: slice, ranked: Tensor, wanted: Tensor) -> None:
        """Note where the maxima stand of the pictures and channels that are wanted, (N, C)."""
        if ranked.shape[2] == 1:
            return
        row, channel = wanted.nonzero(as_tuple=True)
        if not len(row):
            return
        chosen = ranked[row.to(ranked.device), channel.to(ranked.device)]
        at = (chosen if self.sign > 0 else -chosen).argmax(1)
        self.places[rows][row, channel] = at.to("cpu", torch.int32)

    def tighten(self, filled: int) -> None:
        """Raise the limit to what the list and the block so far make of it."""
        seen = torch.cat([self.lists.rank.T, self.ranks[:filled]])
        if len(seen) > self.keep:
            self.limit = torch.maximum(self.limit, seen.topk(self.keep, 0).values[-1])
        elif len(seen) == self.keep:
            self.limit = torch.maximum(self.limit, seen.amin(0))

    def settle(self, good: Tensor, numbers: Tensor, size: tuple[int, ...]) -> None:
        """Put the block's pictures into the lists.

        Args:
            good: rows of the block that are pictures; `numbers`: theirs.
            size: of the map.
        """
        ranks = self.ranks[good]
        rank, row = strongest(ranks.T, min(self.keep, len(ranks)))
        listed, channel = rank > self.least, torch.arange(len(rank))[:, None]
        position = unravelled(self.places[good][row, channel], size)
        block = Lists(
            rank.where(listed, -torch.inf),
            self.values[good][row, channel].where(listed, 0.0),
            numbers[row].where(listed, NOBODY),
            position.where(listed[..., None], 0),
        )
        self.lists = self.lists.beside(block)
        self.limit = torch.maximum(torch.full_like(self.limit, self.least), self.lists.rank[:, -1])


class Gather:
    """What is kept of one place of one shard.

    Args:
        size: (C, samples..) of its maps.
        rectified: whether only maxima above zero are a response.
        lowest: whether the smallest values are listed too.
        maxima: whether every picture's maxima are kept, as float16.
    """

    def __init__(self, size: tuple[int, ...], keep: int, rectified: bool, lowest: bool, maxima: bool) -> None:
        self.channels, self.size = size[0], size[1:]
        axes = len(self.size)
        self.high = Side(self.channels, keep, axes, 1, 0.0 if rectified else -torch.inf)
        self.low = Side(self.channels, keep, axes, -1, -torch.inf) if lowest else None
        self.levels = Levels.empty(self.channels, axes)
        self.drawn = self.levels.draw.clone()  # as `levels`, up to the last batch
        self.positive = torch.zeros(self.channels, dtype=torch.int64)
        self.histogram = torch.zeros(self.channels, BINS, dtype=torch.int64)
        self.total = torch.zeros(self.channels, dtype=torch.float64)
        self.kept: list[Tensor] | None = [] if maxima else None
        self.next = 0  # rows of the block after which the limits are raised again

    def look(self, first: int, draw: Tensor, maps: Tensor, before: Tensor | None) -> None:
        """Take a batch's maps.

        Args:
            first: row of the block, of the batch's first picture.
            draw: (N,) the pictures' random numbers.
            maps: (N, C, samples..); `before`: what they were before a clip, or None.
        """
        flat, rows = maps.flatten(2) if maps.ndim > 2 else maps[..., None], slice(first, first + len(maps))
        earlier = None if before is None else before.reshape(flat.shape)
        ranked = flat if earlier is None else earlier
        rank = self.high.take(rows, flat, earlier)
        lower = draw < self.drawn.gather(1, bins(self.high.values[rows]).T)
        self.high.locate(rows, ranked, (rank > self.high.limit) | lower.T)
        if self.low is not None:
            rank = self.low.take(rows, flat, earlier)
            self.low.locate(rows, ranked, rank > self.low.limit)

    def finite(self, rows: slice) -> Tensor:
        """Return which rows of the block have finite extremes."""
        sums = self.high.ranks[rows].sum(1) + self.high.values[rows].sum(1)
        return (sums if self.low is None else sums + self.low.ranks[rows].sum(1)).isfinite()

    def commit(self, rows: slice, draw: Tensor, good: Tensor) -> None:
        """Let a batch's pictures count, of all places: what is no picture, or not finite anywhere, sets no limit.

        Args:
            good: (N,) which are pictures.
        """
        sides = [side for side in (self.high, self.low) if side is not None]
        if not good.all():
            for side in sides:
                side.ranks[rows][~good] = -torch.inf
        level = bins(self.high.values[rows][good]).T
        self.drawn.scatter_reduce_(1, level, draw[good].expand(self.channels, -1), "amin")
        if rows.stop >= self.next:
            self.next = 2 * rows.stop
            for side in sides:
                side.tighten(rows.stop)

    def settle(self, good: Tensor, numbers: Tensor) -> None:
        """Settle a block.

        Args:
            good: rows of the block that are pictures; `numbers`: theirs.
        """
        for side in filter(None, (self.high, self.low)):
            side.settle(good, numbers, self.size)
        self.next = 0
        values = self.high.values[good].T.contiguous()
        level, draw = bins(values), draws(numbers).expand(self.channels, -1)
        self.positive += (values > 0).sum(1)
        self.total += values.sum(1, dtype=torch.float64)
        self.histogram.scatter_add_(1, level, torch.ones_like(level))
        best = torch.full_like(self.levels.draw, torch.iinfo(torch.int64).max).scatter_reduce(1, level, draw, "amin")
        block = Levels.empty(self.channels, len(self.size))
        channel, column = (draw == best.gather(1, level)).nonzero(as_tuple=True)
        at = level[channel, column]
        block.draw[channel, at] = draw[channel, column]
        block.picture[channel, at] = numbers[column]
        block.value[channel, at] = values[channel, column]
        block.position[channel, at] = unravelled(self.high.places[good].T[channel, column], self.size)
        self.levels = self.levels.beside(block)
        if self.kept is not None:
            self.kept.append(values.T.clamp(-65504, 65504).half())

    def maxima(self) -> Tensor:
        """(pictures, C) float16: of every picture that was read."""
        return torch.cat([torch.zeros(0, self.channels, dtype=torch.float16), *(self.kept or ())])

    def result(self, part: int) -> PlaceTop:
        """Return what is kept.

        Args:
            part: the number of the first picture of the shard.
        """
        low = None if self.low is None else self.low.lists
        return PlaceTop(self.high.lists, low, self.positive, self.histogram, self.levels, {part: self.total})


def unravelled(flat: Tensor, size: tuple[int, ...]) -> Tensor:
    """(.., axes) int32: the positions of samples of a map that are counted in reading order."""
    if not size:
        return torch.zeros(*flat.shape, 0, dtype=torch.int32)
    return torch.stack(torch.unravel_index(flat.long(), size), -1).to(torch.int32)
