"""Seeds: which units start the walk, and with what.

The paper's seed is one unit's activation, everything else zero.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from operator import index
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from unconv.errors import NoSuchUnit, ShapeError, counted
from unconv.kinds import fits_kind
from unconv.reverse.window import Window

Channels = Literal["all", "together"] | str | int | Sequence[int] | Tensor
"""Which channels of a place: "all", "top:9" or another number of the most active, "together", one, or several in order."""
Unit = Literal["strongest", "map"] | tuple[int, ...] | Tensor
"""Which unit of each channel: the strongest, the whole map, a position (y, x), or a boolean mask of the map."""
Name = tuple[int | None, ...]
"""(channel, y, x); None for each position where a whole map, or a region, was taken."""


@dataclass(frozen=True)
class Seeds:
    """The chosen units of one place.

    Args:
        activation: (C, samples..), the place's output.
        channels: (n,) the chosen ones, in order; of all together a single -1.
        positions: (n, axes) where, or None for `mask`.
        mask: (samples..) of bool, what of each map starts the walk, or None for single units.
        values: (n,) the activation; of a map or region, its largest.
        together: whether one seed holds all channels.
    """

    activation: Tensor
    channels: Tensor
    positions: Tensor | None
    mask: Tensor | None
    values: Tensor
    together: bool = False

    @property
    def units(self) -> list[Name]:
        """(channel, y, x) of each."""
        channels: list[int | None] = [None] if self.together else self.channels.tolist()
        if self.positions is None:
            nowhere = (None,) * (self.activation.ndim - 1)
            return [(channel, *nowhere) for channel in channels]
        return [(channel, *position) for channel, position in zip(channels, self.positions.tolist(), strict=True)]

    def feature_map(self, index: int) -> Tensor:
        """(samples..): a copy of the whole map of one unit's channel; (C, samples..) of all channels together."""
        return (self.activation if self.together else self.activation[self.channels[index]]).clone()

    def spans(self) -> list[tuple[list[int], list[int]]]:
        """First and last position that each seed covers, both included."""
        if self.positions is not None:
            return [(position, position) for position in self.positions.tolist()]
        assert self.mask is not None
        where = self.mask.nonzero()
        if len(where) == 0:
            where = torch.ones_like(self.mask).nonzero()
        return [(where.amin(0).tolist(), where.amax(0).tolist())] * len(self.channels)

    def some(self, chosen: Tensor) -> Seeds:
        """Some of the units, by their number."""
        positions = None if self.positions is None else self.positions[chosen]
        values = self.values[chosen.to(self.values.device)]
        return replace(self, channels=self.channels[chosen], positions=positions, values=values)

    def window(self, dtype: torch.dtype) -> Window:
        """The seeds as the walk starts with them: of each unit, its channel alone, or all of them."""
        device = self.activation.device
        if self.together:
            return self._all_channels(dtype)
        if self.positions is None:
            assert self.mask is not None
            maps = self.activation[self.channels.to(device)].to(dtype) * self.mask
            return Window(maps.unsqueeze(1), None, self.channels)
        axes = self.positions.shape[1]
        values = self.values.to(device, dtype).view(-1, 1, *[1] * axes)
        seeds = Window(values, self.positions if axes else None, self.channels)
        return seeds if axes else seeds.dense(len(self.activation))

    def _all_channels(self, dtype: torch.dtype) -> Window:
        maps = self.activation.to(dtype)
        if self.mask is not None:
            return Window((maps * self.mask)[None])
        assert self.positions is not None
        index: tuple[Any, ...] = (slice(None), *self.positions.to(maps.device).unbind(1))
        values = maps[index]  # (C, 1), or (C,) of a vector
        axes = self.positions.shape[1]
        return Window(values.reshape(1, len(maps), *[1] * axes), self.positions if axes else None)


def choose(activation: Tensor, channels: Channels, unit: Unit) -> Seeds:
    """The seeds that `channels` and `unit` ask for.

    Args:
        activation: (C, samples..).
        channels: "all", one, several in order, or "top:9": the most active, strongest first; or "together": one seed
            of all, their maps whole unless a position or mask is asked for.
        unit: "strongest" (of equals the first in reading order), "map" (all of it), a position, a
            bool mask of the map's size, or a tensor (n, axes) of positions, one for each of n channels in a list.

    Raises:
        NoSuchUnit: a channel or position outside the map.
        ShapeError: a mask of another size, or a request that is none of these.
    """
    if isinstance(unit, Tensor) and unit.ndim == 2 and unit.dtype == torch.int64 and not isinstance(channels, str):
        return _each(activation, _integers("channels", channels), unit)
    together = isinstance(channels, str) and channels == "together"
    if together and isinstance(unit, str) and unit == "strongest":
        unit = "map"
    mask = _mask(unit, activation)
    positions = None if mask is not None else _positions(unit, activation)
    flat = activation.flatten(1) if activation.ndim > 1 else activation[:, None]
    if mask is not None:
        inside = flat.masked_fill(~mask.flatten(), -torch.inf)
        values = inside.amax(1) if mask.any() else torch.zeros_like(flat[:, 0])
    else:
        assert positions is not None
        values = activation[(torch.arange(len(activation)), *positions.to(activation.device).unbind(1))]
    if together:
        where = None if positions is None else positions[:1]
        return Seeds(activation, torch.tensor([-1]), where, mask, values.amax(0, keepdim=True), together=True)
    chosen = _channels(channels, values)
    return Seeds(activation, chosen, None if positions is None else positions[chosen], mask, values[chosen])


def _each(activation: Tensor, channels: tuple[int, ...], positions: Tensor) -> Seeds:
    """Return units that each have a position of their own."""
    sizes = torch.tensor(activation.shape)
    named = torch.cat([torch.tensor(channels).reshape(-1, 1), positions.cpu()], 1) if len(channels) == len(positions) else None
    if named is None or named.shape[1] != len(sizes) or ((named < 0) | (named >= sizes)).any():
        raise NoSuchUnit(
            f"unit: positions of shape {tuple(positions.shape)} came for {counted(len(channels), 'channel')}, but one "
            f"position for each, on a map of {tuple(activation.shape[1:])}, was needed."
        )
    values = activation[tuple(named.to(activation.device).T)]
    return Seeds(activation, named[:, 0], named[:, 1:], None, values)


def _mask(unit: Unit, activation: Tensor) -> Tensor | None:
    size = tuple(activation.shape[1:])
    if isinstance(unit, str) and unit == "map":
        return torch.ones(size, dtype=torch.bool, device=activation.device)
    if unit is None or isinstance(unit, str | tuple | list):
        return None
    try:
        mask = torch.as_tensor(unit, device=activation.device)
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        raise ShapeError(
            f'unit: {repr(unit)[:60]} is not a unit; pass "strongest", "map", a position (y, x) or a mask.'
        ) from error
    if (
        mask.ndim == 1
        and len(mask) == len(size)
        and mask.dtype not in (torch.bool, torch.uint8)
        and not mask.is_floating_point()
    ):
        return None  # a position
    if mask.dtype != torch.bool or tuple(mask.shape) != size:
        raise ShapeError(
            f"unit: the mask is {tuple(mask.shape)} of {mask.dtype}, but the place has maps of {size}. "
            "Pass a boolean mask of that size, True where the signal shall start."
        )
    return mask


def _positions(unit: Unit, activation: Tensor) -> Tensor:
    """(C, axes): where in each channel's map."""
    size = tuple(activation.shape[1:])
    if isinstance(unit, str):
        if unit != "strongest":
            raise ShapeError(f'unit: {unit!r} is not a unit; pass "strongest", "map", a position (y, x) or a mask.')
        if not size:
            return torch.zeros(len(activation), 0, dtype=torch.int64)
        return torch.stack(torch.unravel_index(activation.flatten(1).argmax(1), size), 1).cpu()
    position = _integers("unit", unit)
    if len(position) != len(size) or any(not 0 <= y < n for y, n in zip(position, size, strict=True)):
        raise NoSuchUnit(f"unit: {position} is outside the map; positions run from {(0,) * len(size)} to below {size}.")
    return torch.tensor(position, dtype=torch.int64).expand(len(activation), -1)


def _integers(what: str, given: Any) -> tuple[int, ...]:
    """`given` as integers; nothing is rounded, and truth values are no numbers."""
    given = given.tolist() if isinstance(given, np.ndarray) else given
    items = list(given) if isinstance(given, Iterable) else [given]
    if not all(fits_kind(item, int) for item in items):
        raise ShapeError(f"{what}: {repr(given)[:60]} came; whole numbers were needed.")
    return tuple(index(item) for item in items)


def _channels(channels: Channels, values: Tensor) -> Tensor:
    count = len(values)
    if isinstance(channels, str):
        top = re.fullmatch(r"top:([1-9]\d*)", channels)
        if channels == "all":
            return torch.arange(count)
        if not top:
            raise ShapeError(
                f'channels: {channels!r} is not a choice; pass "all", "top:9", "together", a channel or a list of them.'
            )
        return values.cpu().sort(descending=True, stable=True).indices[: int(top[1])]
    wanted = _integers("channels", channels.tolist() if isinstance(channels, Tensor) else channels)
    for channel in wanted:
        if not 0 <= channel < count:
            raise NoSuchUnit(f"channels: there is no channel {channel}; the place has {count}, from 0 to {count - 1}.")
    return torch.tensor(wanted, dtype=torch.int64)
