"""A reconstruction in flight: values, and where on their map they stand.

A unit sees only its receptive field, so the signal going back is carried as a window. Outside the
map there is nothing: what no unit of a batch has on the map is never computed, what some have not is
set to zero. The whole map is the window that covers everything, and needs no corner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor

Cut = Sequence[tuple[int, int]]
"""Samples to leave out along each axis: before, after."""


@dataclass(frozen=True)
class Reach:
    """What one unit sees of the map below it: samples `y * stride - padding` and `extent - 1` more, per axis."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    extent: tuple[int, ...]

    def corner(self, corner: Tensor) -> Tensor:
        """Where a window with `corner` begins on the map below."""
        return corner * torch.tensor(self.stride) - torch.tensor(self.padding)

    def lengths(self, lengths: Sequence[int]) -> list[int]:
        """How many samples of the map below a window of `lengths` sees, per axis."""
        return [(n - 1) * s + e for n, s, e in zip(lengths, self.stride, self.extent, strict=True)]


@dataclass(frozen=True)
class Window:
    """Signals of B units at one value of the forward pass.

    Args:
        values: (B, channels.., samples..), each unit's own window; all windows of a batch have one size.
        corner: (B, axes) int64, on the CPU: the first sample's position on the map; it may lie outside.
            None: the windows are the whole value, whatever its shape.
        channel: (B,) int64, on the CPU: the only channel of each unit that is not zero; `values` then
            holds that one alone, (B, 1, samples..). None: all channels are there.
        picture: (B,) int64, on the CPU: which of several pictures each unit is of, where what was recorded has a row for
            each, (pictures, channels.., samples..). None: there is one.
    """

    values: Tensor
    corner: Tensor | None = None
    channel: Tensor | None = None
    picture: Tensor | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Samples along each axis that has a corner."""
        return () if self.corner is None else tuple(self.values.shape[-self.corner.shape[1] :])

    @property
    def together(self) -> bool:
        """Whether all windows stand at the same position."""
        return self.corner is None or bool((self.corner == self.corner[:1]).all())

    def map(self, function: Callable[[Tensor], Tensor]) -> Window:
        """The same window over `function(values)`, which must act sample by sample."""
        return replace(self, values=function(self.values))

    def times(self, factor: Tensor) -> Window:
        """Multiply by a recorded tensor of the whole value's shape, or by a single number."""
        return replace(self, values=self.values * self.cut(factor).to(self.values.dtype))

    def cut(self, recorded: Tensor) -> Tensor:
        """Each unit's piece of a recorded map (1 or pictures, channels.., samples..); the edge is repeated outside.

        Returns (B, channels.., samples..) or something that broadcasts to it. Nothing outside the map
        may be relied upon: the signal there is zero.
        """
        if recorded.ndim == 0:
            return recorded
        axes = self.values.ndim - 2 if self.corner is None else self.corner.shape[1]
        many = self.picture is not None and recorded.ndim == axes + 2 and recorded.shape[0] > 1
        row = self.picture.to(recorded.device) if many and self.picture is not None else None
        if self.channel is not None and recorded.ndim == axes + 2 and recorded.shape[1] > 1:
            alone = recorded[0 if row is None else row, self.channel.to(recorded.device)].unsqueeze(1)
            return replace(self, channel=None, picture=None).cut(alone)
        sizes = recorded.shape[-axes:] if recorded.ndim >= axes else recorded.shape
        if self.corner is None or all(size == 1 for size in sizes):
            return recorded if row is None else recorded[row]
        pairs = list(zip(self.corner[0].tolist(), self.lengths, sizes, strict=True))
        if self.together and all(size == 1 or 0 <= first <= size - n for first, n, size in pairs):
            piece = recorded[slices([slice(None) if size == 1 else slice(first, first + n) for first, n, size in pairs])]
            return piece if row is None else piece[row]
        index: list[Tensor] = []
        for axis, (length, size) in enumerate(zip(self.lengths, sizes, strict=True)):
            along = self.corner[:, axis, None] + torch.arange(length)
            shape = [len(along), *(length if a == axis else 1 for a in range(axes))]
            index.append(along.clamp_(0, size - 1).view(shape).to(recorded.device))
        # Gathering rows of channels is contiguous; the result is (B, samples.., channels..).
        rows = recorded.movedim(tuple(range(recorded.ndim - axes, recorded.ndim)), tuple(range(1, axes + 1)))
        units = torch.arange(len(rows)) if len(rows) > 1 else torch.zeros(1, dtype=torch.int64)
        units = units if row is None else row
        pieces = rows.contiguous()[(units.view(-1, *[1] * axes).to(recorded.device), *index)]
        return pieces.permute(0, *range(axes + 1, pieces.ndim), *range(1, axes + 1))

    def units(self, chosen: Tensor | slice) -> Window:
        """The signals of some units of the batch."""
        rows = self.values.movedim(1, -1) if self.values.ndim > 2 else self.values  # keeps channels side by side in memory
        picked = rows[chosen] if isinstance(chosen, slice) else rows.index_select(0, chosen.to(rows.device))
        values = picked.movedim(-1, 1) if self.values.ndim > 2 else picked
        return Window(
            values,
            None if self.corner is None else self.corner[chosen],
            None if self.channel is None else self.channel[chosen],
            None if self.picture is None else self.picture[chosen],
        )

    def dense(self, channels: int) -> Window:
        """The same signal with all its channels."""
        if self.channel is None:
            return self
        axes = list(range(2, self.values.ndim))
        rows = self.values.new_zeros(len(self), *self.values.shape[2:], channels)
        where = self.channel.to(rows.device).view(-1, *[1] * (len(axes) + 1)).expand(*rows.shape[:-1], 1)
        rows.scatter_(-1, where, self.values.movedim(1, -1))
        return Window(rows.movedim(-1, 1), self.corner, None, self.picture)

    def channels_last(self) -> Tensor:
        """The values with the channels of each sample side by side, as convolutions like them best."""
        kinds = {4: torch.channels_last, 5: torch.channels_last_3d}
        kind = kinds.get(self.values.ndim)
        return self.values.contiguous(memory_format=kind) if kind else self.values

    def below(self, reach: Reach, shape: Sequence[int], make: Callable[[Cut], Tensor]) -> Window:
        """The signal on the map below, of `shape`, as seen through `reach`.

        Args:
            make: from the samples to leave out, as no unit has them on the map, to the values, its own to change.
        """
        assert self.corner is not None
        corner, lengths = reach.corner(self.corner), reach.lengths(self.lengths)
        needless = off_map(corner, lengths, shape)
        values = make(needless)
        return Window(values, corner + torch.tensor([before for before, _ in needless])).inside(shape)

    def inside(self, shape: Sequence[int]) -> Window:
        """Zero, in place, what lies outside a map of `shape`; what no unit has inside is cut off.

        A window no smaller than the map becomes the whole map.
        """
        if self.corner is None:
            return self
        axes = self.corner.shape[1]
        needless = off_map(self.corner, self.lengths, shape)
        values = cropped(self.values, needless)
        corner = self.corner + torch.tensor([before for before, _ in needless])
        lengths, sizes = values.shape[-axes:], shape[-axes:]
        if lengths == tuple(sizes) and not corner.any():
            return replace(self, values=values, corner=None)
        if prod(lengths) >= prod(sizes):
            return replace(self, values=values, corner=corner).whole(shape)
        for axis, (length, size) in enumerate(zip(lengths, sizes, strict=True)):
            for unit, first in enumerate(corner[:, axis].tolist()):
                along = values[unit].movedim(axis - axes, 0)
                if first < 0:
                    along[:-first] = 0
                if first + length > size:
                    along[max(size - first, 0) :] = 0
        return replace(self, values=values, corner=corner)

    def whole(self, shape: Sequence[int]) -> Window:
        """The same signal on the whole value of `shape` (as recorded, with its batch of one)."""
        if self.corner is None:
            return self
        sizes = tuple(shape[-self.corner.shape[1] :])
        if self.lengths == sizes and not self.corner.any():
            return replace(self, corner=None)
        return replace(self, values=self._moved(torch.zeros_like(self.corner), sizes), corner=None)

    def framed(self, corner: Tensor, lengths: Sequence[int]) -> Window:
        """The same signal in another frame: cropped or filled up with zeros."""
        source = self if self.corner is not None else replace(self, corner=torch.zeros_like(corner))
        return replace(self, values=source._moved(corner, tuple(lengths)), corner=corner)

    def _moved(self, corner: Tensor, lengths: tuple[int, ...]) -> Tensor:
        """Values in the frame `corner`, `lengths`; zero where this window has none."""
        assert self.corner is not None
        shift = corner - self.corner
        out = self.values.new_zeros(*self.values.shape[: -len(lengths)], *lengths)
        together = bool((shift == shift[:1]).all())
        for unit, first in enumerate((shift[:1] if together else shift).tolist()):
            takes, puts = [], []
            for f, old, new in zip(first, self.lengths, lengths, strict=True):
                takes.append(slice(max(f, 0), max(min(f + new, old), 0)))
                puts.append(slice(max(-f, 0), max(min(old - f, new), 0)))
            units = slice(None) if together else unit
            out[units][slices(puts)] = self.values[units][slices(takes)]
        return out


def slices(last: Sequence[slice]) -> tuple[Any, ...]:
    """An index that takes `last` along the last axes and all along the others."""
    return (..., *last)


def off_map(corner: Tensor, lengths: Sequence[int], shape: Sequence[int]) -> list[tuple[int, int]]:
    """Per axis, the first and last samples of windows that no unit has on the map; one sample stays."""
    sizes = torch.tensor(shape[-len(lengths) :])
    before = (-corner).amin(0).clamp(min=0).tolist()
    after = (corner + torch.tensor(lengths) - sizes).amin(0).clamp(min=0).tolist()
    firsts = [min(first, n - 1) for first, n in zip(before, lengths, strict=True)]
    return [(first, min(last, n - 1 - first)) for first, last, n in zip(firsts, after, lengths, strict=True)]


def cropped(values: Tensor, needless: Cut) -> Tensor:
    """`values` without the samples `needless` of their last axes."""
    sizes = values.shape[values.ndim - len(needless) :]
    return values[slices([slice(first, n - last) for (first, last), n in zip(needless, sizes, strict=True)])]


def join(a: Window | None, b: Window, shape: Sequence[int]) -> Window:
    """Signals that meet at one value of `shape` add up."""
    if a is None:
        return b
    if a.channel is not None or b.channel is not None:
        return join(a.dense(shape[1]), b.dense(shape[1]), shape)
    if a.corner is not None and b.corner is not None:
        # Windows that lie alike for all units stay windows; others would need a frame for each unit, so they become whole.
        apart = b.corner - a.corner
        if bool((apart == apart[:1]).all()):
            corner = torch.minimum(a.corner, b.corner)
            ends = [w.corner + torch.tensor(w.lengths) for w in (a, b) if w.corner is not None]
            lengths = tuple((torch.maximum(*ends) - corner)[0].tolist())
            if b.lengths == lengths:
                a, b = b, a
            if b.lengths == lengths:
                return Window(a.values + b.values, corner).inside(shape)
            sum_ = a.values.clone() if a.lengths == lengths else a.framed(corner, lengths).values
            assert b.corner is not None
            firsts = (b.corner - corner)[0].tolist()
            sum_[slices([slice(f, f + n) for f, n in zip(firsts, b.lengths, strict=True)])] += b.values
            return Window(sum_, corner).inside(shape)
    return Window(a.whole(shape).values + b.whole(shape).values)
