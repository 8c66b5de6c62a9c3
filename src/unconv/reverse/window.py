"""A reconstruction in flight: values, and where on their map they stand.

A unit sees only its receptive field, so the signal going back is carried as a window. Outside the
map there is nothing: what a rule writes there is set to zero. The whole map is the window that
covers everything, and needs no corner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor


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
        corner: (B, axes) int64, on the CPU: the first sample's place on the map; it may lie outside.
            None: the windows are the whole value, whatever its shape.
    """

    values: Tensor
    corner: Tensor | None = None

    @property
    def lengths(self) -> tuple[int, ...]:
        """Samples along each axis that has a corner."""
        return () if self.corner is None else tuple(self.values.shape[-self.corner.shape[1] :])

    def map(self, function: Callable[[Tensor], Tensor]) -> Window:
        """The same window over `function(values)`, which must act sample by sample."""
        return Window(function(self.values), self.corner)

    def times(self, factor: Tensor) -> Window:
        """Multiply by a recorded tensor of the whole value's shape, or by a single number."""
        return Window(self.values * self.cut(factor).to(self.values.dtype), self.corner)

    def cut(self, recorded: Tensor) -> Tensor:
        """Each unit's piece of a recorded map (1, channels.., samples..); the edge is repeated outside.

        Returns (B, channels.., samples..) or something that broadcasts to it. Nothing outside the map
        may be relied upon: the signal there is zero.
        """
        if self.corner is None or recorded.ndim == 0:
            return recorded
        axes = self.corner.shape[1]
        sizes = recorded.shape[-axes:] if recorded.ndim >= axes else recorded.shape
        if all(size == 1 for size in sizes):
            return recorded
        index: list[Tensor] = []
        for axis, (length, size) in enumerate(zip(self.lengths, sizes, strict=True)):
            along = self.corner[:, axis, None] + torch.arange(length)
            shape = [len(along), *(length if a == axis else 1 for a in range(axes))]
            index.append(along.clamp_(0, size - 1).view(shape).to(recorded.device))
        # Gathering rows of channels is contiguous; the result is (B, samples.., channels..).
        rows = recorded[0].permute(*range(recorded.ndim - 1 - axes, recorded.ndim - 1), *range(recorded.ndim - 1 - axes))
        pieces = rows.contiguous()[tuple(index)]
        return pieces.permute(0, *range(axes + 1, pieces.ndim), *range(1, axes + 1))

    def unit(self, index: int) -> Window:
        """The signal of one unit of the batch."""
        return Window(self.values[index : index + 1], None if self.corner is None else self.corner[index : index + 1])

    def channels_last(self) -> Tensor:
        """The values with the channels of each sample side by side, as convolutions like them best."""
        kinds = {4: torch.channels_last, 5: torch.channels_last_3d}
        kind = kinds.get(self.values.ndim)
        return self.values.contiguous(memory_format=kind) if kind else self.values

    def below(self, reach: Reach, values: Tensor, shape: Sequence[int]) -> Window:
        """`values`, its own to change, on the map below, of `shape`: as seen through `reach`, nothing outside the map."""
        assert self.corner is not None
        return Window(values, reach.corner(self.corner)).inside(shape)

    def inside(self, shape: Sequence[int]) -> Window:
        """Zero, in place, what lies outside a map of `shape`; rows where no unit is inside are cut off.

        A window no smaller than the map becomes the whole map.
        """
        if self.corner is None:
            return self
        axes = self.corner.shape[1]
        if prod(self.lengths) >= prod(shape[-axes:]):
            return self.whole(shape)
        values, shifts = self.values, []
        for axis, (length, size) in enumerate(zip(self.lengths, shape[-axes:], strict=True)):
            before = [max(-first, 0) for first in self.corner[:, axis].tolist()]
            after = [max(first + length - size, 0) for first in self.corner[:, axis].tolist()]
            low, high = min(min(before), length - 1), min(after)
            for unit, (start, end) in enumerate(zip(before, after, strict=True)):
                along = values[unit].movedim(axis - axes, 0)
                if start:
                    along[:start] = 0
                if end:
                    along[max(length - end, 0) :] = 0
            values = values.narrow(axis - axes, low, max(length - high - low, 1))
            shifts.append(low)
        return Window(values, self.corner + torch.tensor(shifts) if any(shifts) else self.corner)

    def whole(self, shape: Sequence[int]) -> Window:
        """The same signal on the whole value of `shape` (as recorded, with its batch of one)."""
        if self.corner is None:
            return self
        return Window(self._moved(torch.zeros_like(self.corner), tuple(shape[-self.corner.shape[1] :])))

    def framed(self, corner: Tensor, lengths: Sequence[int]) -> Window:
        """The same signal in another frame: cropped or filled up with zeros."""
        source = self if self.corner is not None else Window(self.values, torch.zeros_like(corner))
        return Window(source._moved(corner, tuple(lengths)), corner)

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


def join(a: Window | None, b: Window, shape: Sequence[int]) -> Window:
    """Signals that meet at one value of `shape` add up."""
    if a is None:
        return b
    if a.corner is not None and b.corner is not None:
        apart = b.corner - a.corner
        if bool((apart == apart[:1]).all()):
            corner = torch.minimum(a.corner, b.corner)
            ends = [w.corner + torch.tensor(w.lengths) for w in (a, b) if w.corner is not None]
            lengths = (torch.maximum(*ends) - corner)[0].tolist()
            return Window(a.framed(corner, lengths).values + b.framed(corner, lengths).values, corner).inside(shape)
    return Window(a.whole(shape).values + b.whole(shape).values)
