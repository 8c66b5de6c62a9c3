"""Seeds: the units that start a walk, and their values.

The paper's seed is the activation of one unit, with all others set to zero.
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
"""Channels of a place: "all", "top:9" (or another number of the most active), "together", one index, or several in order."""
Unit = Literal["strongest", "map"] | tuple[int, ...] | Tensor
"""The unit of each channel: "strongest", "map" (all of it), a position (y, x), or a boolean mask of the map."""
Name = tuple[int | None, ...]
"""(channel, y, x); y and x are None for an entire map or a region, the channel for all channels together."""


@dataclass(frozen=True)
class Seeds:
    """The chosen units of one place.

    Args:
        activation: (C, samples..), the place's output.
        channels: (n,), the chosen channels, in order; a single -1 for all together.
        positions: (n, axes), the position of each unit, or None if `mask` is given.
        mask: (samples..) of bool, the part of each map that starts the walk, or None for single units.
        values: (n,), the activation; for a map or region, the largest in it.
        together: whether one seed has all channels.
    """

    activation: Tensor
    channels: Tensor
    positions: Tensor | None
    mask: Tensor | None
    values: Tensor
    together: bool = False

    @property
    def units(self) -> list[Name]:
        """(channel, y, x) of each unit."""
        channels: list[int | None] = [None] if self.together else self.channels.tolist()
        if self.positions is None:
            nowhere = (None,) * (self.activation.ndim - 1)
            return [(channel, *nowhere) for channel in channels]
        return [(channel, *position) for channel, position in zip(channels, self.positions.tolist(), strict=True)]

    def feature_map(self, index: int) -> Tensor:
        """Return a copy of the map of one unit's channel, (samples..); for all channels together (C, samples..)."""
        return (self.activation if self.together else self.activation[self.channels[index]]).clone()

    def spans(self) -> list[tuple[list[int], list[int]]]:
        """Return the first and the last position that each seed covers, both included."""
        if self.positions is not None:
            return [(position, position) for position in self.positions.tolist()]
        assert self.mask is not None
        where = self.mask.nonzero()
        if len(where) == 0:
            where = torch.ones_like(self.mask).nonzero()
        return [(where.amin(0).tolist(), where.amax(0).tolist())] * len(self.channels)

    def subset(self, indices: Tensor) -> Seeds:
        """Return some of the units, by their indices."""
        positions = None if self.positions is None else self.positions[indices]
        values = self.values[indices.to(self.values.device)]
        return replace(self, channels=self.channels[indices], positions=positions, values=values)

    def window(self, dtype: torch.dtype) -> Window:
        """Return the seeds as the window that the walk starts from, with each unit's own channel only if there are several."""
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
    """Return the seeds that `channels` and `unit` ask for.

    Args:
        activation: (C, samples..).
        channels: "all", one, several in order, or "top:9": the most active, strongest first; or "together": one seed
            of all channels, with their entire maps unless a position or mask is given.
        unit: "strongest" (the first in reading order of several equal ones), "map" (all of it), a position, a
            bool mask of the map's size, or a tensor (n, axes) of positions, one for each of n channels in a list.

    Raises:
        NoSuchUnit: a channel or position outside the map.
        ShapeError: a mask of another size, or a request that is none of these.
    """
    if isinstance(unit, Tensor) and unit.ndim == 2 and unit.dtype == torch.int64 and not isinstance(channels, str):
        return _each(activation, _integers("channels", channels), unit)
    # Values of all channels come first, as "top:9" needs them to choose.
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
    indices = _channels(channels, values)
    return Seeds(activation, indices, None if positions is None else positions[indices], mask, values[indices])


def _each(activation: Tensor, channels: tuple[int, ...], positions: Tensor) -> Seeds:
    """Return seeds with a position for each channel."""
    sizes = torch.tensor(activation.shape)
    units = torch.cat([torch.tensor(channels).reshape(-1, 1), positions.cpu()], 1) if len(channels) == len(positions) else None
    if units is None or units.shape[1] != len(sizes) or ((units < 0) | (units >= sizes)).any():
        raise NoSuchUnit(
            f"unit: positions of shape {tuple(positions.shape)} came for {counted(len(channels), 'channel')}, but one "
            f"position for each, on a map of {tuple(activation.shape[1:])}, was needed."
        )
    values = activation[tuple(units.to(activation.device).T)]
    return Seeds(activation, units[:, 0], units[:, 1:], None, values)


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
            f'unit: {repr(unit)[:60]} is not a unit. Pass "strongest", "map", a position (y, x) or a mask.'
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
            "Pass a boolean mask of that size, True where the signal starts."
        )
    return mask


def _positions(unit: Unit, activation: Tensor) -> Tensor:
    """Return (C, axes): the unit's position in each channel's map."""
    size = tuple(activation.shape[1:])
    if isinstance(unit, str):
        if unit != "strongest":
            raise ShapeError(f'unit: {unit!r} is not a unit. Pass "strongest", "map", a position (y, x) or a mask.')
        if not size:
            return torch.zeros(len(activation), 0, dtype=torch.int64)
        return torch.stack(torch.unravel_index(activation.flatten(1).argmax(1), size), 1).cpu()
    position = _integers("unit", unit)
    if len(position) != len(size) or any(not 0 <= y < n for y, n in zip(position, size, strict=True)):
        raise NoSuchUnit(f"unit: {position} is outside the map; positions run from {(0,) * len(size)} to below {size}.")
    return torch.tensor(position, dtype=torch.int64).expand(len(activation), -1)


def _integers(name: str, argument: Any) -> tuple[int, ...]:
    """Return an argument as integers; nothing is rounded, and truth values are refused."""
    argument = argument.tolist() if isinstance(argument, np.ndarray) else argument
    items = list(argument) if isinstance(argument, Iterable) else [argument]
    if not all(fits_kind(item, int) for item in items):
        raise ShapeError(f"{name}: {repr(argument)[:60]} came, but integers were needed. Pass one or several.")
    return tuple(index(item) for item in items)


def _channels(channels: Channels, values: Tensor) -> Tensor:
    count = len(values)
    if isinstance(channels, str):
        top = re.fullmatch(r"top:([1-9]\d*)", channels)
        if channels == "all":
            return torch.arange(count)
        if not top:
            raise ShapeError(
                f'channels: {channels!r} is not a choice. Pass "all", "together", "top:9" (or another number of at least 1), '
                "a channel or a list of them."
            )
        return values.cpu().sort(descending=True, stable=True).indices[: int(top[1])]
    indices = _integers("channels", channels.tolist() if isinstance(channels, Tensor) else channels)
    for channel in indices:
        if not 0 <= channel < count:
            raise NoSuchUnit(f"channels: there is no channel {channel}; the place has {count}, from 0 to {count - 1}.")
    return torch.tensor(indices, dtype=torch.int64)
