"""Signals on their way back: values, and their position on the map.

A unit sees only its receptive field, so the signal going back is a window of that size. Samples outside the map are zero:
those that lie outside for all units of a batch are not computed, and those that lie outside for some units are set to
zero. A full map is a window that covers everything, and needs no corner.
"""

from __future__ import annotations

import warnings
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
    """The part of the map below that one unit sees: `extent` samples from `y * stride - padding` on, per axis."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    extent: tuple[int, ...]

    def corner(self, corner: Tensor) -> Tensor:
        """Return where a window with `corner` begins on the map below."""
        return corner * torch.tensor(self.stride) - torch.tensor(self.padding)

    def lengths(self, lengths: Sequence[int]) -> list[int]:
        """Return how many samples of the map below a window of `lengths` sees, per axis."""
        return [(n - 1) * s + e for n, s, e in zip(lengths, self.stride, self.extent, strict=True)]


@dataclass(frozen=True)
class Window:
    """The signals of B units at one value of the forward pass.

    Args:
        values: (B, channels.., samples..), each unit's own window; all windows of a batch have one size.
        corner: (B, axes) int64, on the CPU: the position of the first sample on the map; it may lie outside.
            None: each window is the full value, whatever its shape.
        channel: (B,) int64, on the CPU: the only channel of each unit that is not zero; `values` then
            holds only that channel, (B, 1, samples..). None: all channels are there.
        picture: (B,) int64, on the CPU: the picture that each unit belongs to, if several were recorded; recorded tensors
            then have a row for each, (pictures, channels.., samples..). None: one picture.
    """

    values: Tensor
    corner: Tensor | None = None
    channel: Tensor | None = None
    picture: Tensor | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths of the axes that have a corner."""
        return () if self.corner is None else tuple(self.values.shape[-self.corner.shape[1] :])

    @property
    def together(self) -> bool:
        """Whether all windows have the same position."""
        return self.corner is None or bool((self.corner == self.corner[:1]).all())

    def map(self, function: Callable[[Tensor], Tensor]) -> Window:
        """Return the window with `function(values)`; the function must act on each sample alone."""
        return replace(self, values=function(self.values))

    def times(self, factor: Tensor) -> Window:
        """Multiply by a recorded tensor of the full value's shape, or by a single number."""
        return replace(self, values=self.values * self.cut(factor).to(self.values.dtype))

    def cut(self, recorded: Tensor) -> Tensor:
        """Return each unit's piece of a recorded map (1 or pictures, channels.., samples..).

        The result is (B, channels.., samples..), or broadcasts to that. Outside the map it repeats the edge; do not rely on
        those samples, as the signal there is zero.
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
        # Windows at one position that lie inside the map share a slice, which copies nothing.
        pairs = list(zip(self.corner[0].tolist(), self.lengths, sizes, strict=True))
        if self.together and all(size == 1 or 0 <= first <= size - n for first, n, size in pairs):
            piece = recorded[slices([slice(None) if size == 1 else slice(first, first + n) for first, n, size in pairs])]
            return piece if row is None else piece[row]
        index: list[Tensor] = []
        for axis, (length, size) in enumerate(zip(self.lengths, sizes, strict=True)):
            along = self.corner[:, axis, None] + torch.arange(length)
            shape = [len(along), *(length if a == axis else 1 for a in range(axes))]
            index.append(along.clamp_(0, size - 1).view(shape).to(recorded.device))
        # With the channels last, each indexed row is contiguous in memory. The result is (B, samples.., channels..).
        rows = recorded.movedim(tuple(range(recorded.ndim - axes, recorded.ndim)), tuple(range(1, axes + 1)))
        units = torch.arange(len(rows)) if len(rows) > 1 else torch.zeros(1, dtype=torch.int64)
        units = units if row is None else row
        pieces = rows.contiguous()[(units.view(-1, *[1] * axes).to(recorded.device), *index)]
        return pieces.permute(0, *range(axes + 1, pieces.ndim), *range(1, axes + 1))

    def units(self, indices: Tensor | slice) -> Window:
        """Return the signals of some units of the batch."""
        rows = self.values.movedim(1, -1) if self.values.ndim > 2 else self.values  # keeps channels side by side in memory
        selected = rows[indices] if isinstance(indices, slice) else rows.index_select(0, indices.to(rows.device))
        values = selected.movedim(-1, 1) if self.values.ndim > 2 else selected
        return Window(
            values,
            None if self.corner is None else self.corner[indices],
            None if self.channel is None else self.channel[indices],
            None if self.picture is None else self.picture[indices],
        )

    def dense(self, channels: int) -> Window:
        """Return the same signal with all its channels."""
        if self.channel is None:
            return self
        axes = list(range(2, self.values.ndim))
        rows = self.values.new_zeros(len(self), *self.values.shape[2:], channels)
        where = self.channel.to(rows.device).view(-1, *[1] * (len(axes) + 1)).expand(*rows.shape[:-1], 1)
        rows.scatter_(-1, where, self.values.movedim(1, -1))
        return Window(rows.movedim(-1, 1), self.corner, None, self.picture)

    def channels_last(self) -> Tensor:
        """Return the values in the memory format `channels_last`, which is fastest for convolutions."""
        kinds = {4: torch.channels_last, 5: torch.channels_last_3d}
        kind = kinds.get(self.values.ndim)
        return self.values.contiguous(memory_format=kind) if kind else self.values

    def below(self, reach: Reach, shape: Sequence[int], make: Callable[[Cut], Tensor]) -> Window:
        """Return the signal on the map below, of `shape`, that units of `reach` send there.

        Args:
            make: computes the values without the samples that no unit has on the map, which it gets as an argument. The
                result is overwritten.
        """
        assert self.corner is not None
        corner, lengths = reach.corner(self.corner), reach.lengths(self.lengths)
        needless = off_map(corner, lengths, shape)
        values = make(needless)
        return Window(values, corner + torch.tensor([before for before, _ in needless])).inside(shape)

    def inside(self, shape: Sequence[int]) -> Window:
        """Set samples outside a map of `shape` to zero, in place, and cut off those that lie outside for all units.

        A window no smaller than the map becomes the full map.
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
            return replace(self, values=values, corner=corner).full_map(shape)
        # Each unit crosses the edge elsewhere, so each is zeroed by itself; the samples inside are not touched.
        for axis, (length, size) in enumerate(zip(lengths, sizes, strict=True)):
            for unit, first in enumerate(corner[:, axis].tolist()):
                along = values[unit].movedim(axis - axes, 0)
                if first < 0:
                    along[:-first] = 0
                if first + length > size:
                    along[max(size - first, 0) :] = 0
        return replace(self, values=values, corner=corner)

    def full_map(self, shape: Sequence[int]) -> Window:
        """Return the same signal on the full value of `shape` (as recorded, with its batch of one)."""
        if self.corner is None:
            return self
        sizes = tuple(shape[-self.corner.shape[1] :])
        if self.lengths == sizes and not self.corner.any():
            return replace(self, corner=None)
        return replace(self, values=self._in_frame(torch.zeros_like(self.corner), sizes), corner=None)

    def whole(self, shape: Sequence[int]) -> Window:
        """The name of `full_map` before 0.2; it warns."""
        warnings.warn("Window: whole is now called full_map, and will go. Write full_map.", DeprecationWarning, stacklevel=2)
        return self.full_map(shape)

    def framed(self, corner: Tensor, lengths: Sequence[int]) -> Window:
        """Return the same signal in the frame `corner`, `lengths`: cropped, or filled up with zeros."""
        source = self if self.corner is not None else replace(self, corner=torch.zeros_like(corner))
        return replace(self, values=source._in_frame(corner, tuple(lengths)), corner=corner)

    def _in_frame(self, corner: Tensor, lengths: tuple[int, ...]) -> Tensor:
        """Return the values in the frame `corner`, `lengths`; zero where this window has none."""
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
    """Return an index with `last` for the last axes, and everything for the others."""
    return (..., *last)


def off_map(corner: Tensor, lengths: Sequence[int], shape: Sequence[int]) -> list[tuple[int, int]]:
    """Return, per axis, how many first and last samples of the windows lie off the map for all units; one sample stays."""
    sizes = torch.tensor(shape[-len(lengths) :])
    before = (-corner).amin(0).clamp(min=0).tolist()
    after = (corner + torch.tensor(lengths) - sizes).amin(0).clamp(min=0).tolist()
    firsts = [min(first, n - 1) for first, n in zip(before, lengths, strict=True)]
    return [(first, min(last, n - 1 - first)) for first, last, n in zip(firsts, after, lengths, strict=True)]


def cropped(values: Tensor, needless: Cut) -> Tensor:
    """Return `values` without the samples `needless` of their last axes."""
    sizes = values.shape[values.ndim - len(needless) :]
    return values[slices([slice(first, n - last) for (first, last), n in zip(needless, sizes, strict=True)])]


def join(a: Window | None, b: Window, shape: Sequence[int]) -> Window:
    """Return the sum of two signals at one value of `shape`."""
    if a is None:
        return b
    if a.channel is not None or b.channel is not None:
        return join(a.dense(shape[1]), b.dense(shape[1]), shape)
    if a.corner is not None and b.corner is not None:
        # If the two windows are equally far apart for all units, one frame fits all sums. Otherwise each unit would need
        # its own, so the signals become full maps.
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
    return Window(a.full_map(shape).values + b.full_map(shape).values)
