"""Show every value as (1, channels, samples..), so that every place has channels and maps.

A head may squeeze its only channel away, put the frames of a clip into the batch, or return a single number. After such a
value this rewriting adds steps that arrange its samples as maps, and the place shows those. The network's own values, and the
walk through them, stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from unconv.reverse.rewriting.axes import Axes, axes_of
from unconv.reverse.tape.step import Arranged, Step, Tape, Value

aten = torch.ops.aten

_CHANNELS = ("channels",)


def as_maps(tape: Tape) -> Tape:
    """Return the tape with steps added that arrange as maps the values that are none."""
    axes, rank = axes_of(tape), tape.image.ndim
    fresh = 1 + max((value.index for step in tape.steps for value in step.outputs if value), default=0)
    steps, arranged = list[Step](), dict[int, Arranged]()
    for step in tape.steps:
        steps.append(step)
        value = step.outputs[0]
        order = _order(value, axes[value.index], rank) if value and value.dtype.is_floating_point else None
        if value is None or order is None or 0 in value.shape:
            continue
        between, maps = (Value(fresh + k, shape, value.dtype) for k, shape in enumerate(order.shapes(value.shape)))
        place, fresh = f"{step.place}.maps", fresh + 2
        steps.append(Step(aten.permute.default, (value, list(order.order)), (value,), (between,), place, within=step.within))
        steps.append(Step(aten.view.default, (between, list(maps.shape)), (between,), (maps,), place, within=step.within))
        arranged[value.index] = Arranged(maps, order.order, between)
    outputs = {arranged[k].value.index: arranged[k].of(tensor) for k, tensor in tape.kept.items() if k in arranged}
    return replace(tape, steps=tuple(steps), arranged=arranged, kept={**tape.kept, **outputs})


class _Order(NamedTuple):
    """The order in which the axes of a value make maps, the axis of channels, and the axes of the maps."""

    order: tuple[int, ...]
    channels: int | None
    maps: tuple[int, ...]

    def shapes(self, shape: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shape of the value in this order, and as (1, channels, samples..)."""
        channels = 1 if self.channels is None else shape[self.channels]
        return tuple(shape[k] for k in self.order), (1, channels, *(shape[k] for k in self.maps))


def _order(value: Value, axes: Axes, rank: int) -> _Order | None:
    """Return how to arrange a value; None if it is (1, channels) or (1, channels, samples..) already."""
    shape, channels = value.shape, 1 if axes[1:2] == _CHANNELS else _channels(axes)
    if channels == 1 and shape[0] == 1 and len(shape) in (2, rank):
        return None
    rest = [k for k in range(len(shape)) if k != channels]
    maps = tuple(k for k in rest if shape[k] > 1 or isinstance(axes[k], int))
    left_out = tuple(k for k in rest if k not in maps)
    return _Order((*left_out, *(() if channels is None else (channels,)), *maps), channels, maps)


def _channels(axes: Axes) -> int | None:
    """Return which axis is the channels. If none is, return one that came from them, preferably the second axis."""
    for name in ("channels", "other"):
        candidates = [k for k, axis in enumerate(axes) if axis == name]
        if candidates:
            return 1 if 1 in candidates else candidates[0]
    return None
