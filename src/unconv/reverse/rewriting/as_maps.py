"""Values that are no (1, channels, samples..), told so: who looks at a place sees channels and their maps.

A head may squeeze its only channel away, put the frames of a clip into the batch, or return a single number. Behind
such a value the tape gets a step that arranges its samples as maps, which places then show. What the network computed
stays as it is, and so does the walk below.
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
    """Return the tape with steps that arrange as maps what has its axes otherwise."""
    axes, rank = axes_of(tape), tape.image.ndim
    fresh = 1 + max((value.index for step in tape.steps for value in step.outputs if value), default=0)
    steps, arranged = list[Step](), dict[int, Arranged]()
    for step in tape.steps:
        steps.append(step)
        value = step.outputs[0]
        found = _order(value, axes[value.index], rank) if value and value.dtype.is_floating_point else None
        if value is None or found is None or 0 in value.shape:
            continue
        turned, made = (Value(fresh + k, shape, value.dtype) for k, shape in enumerate(found.shapes(value.shape)))
        place, fresh = f"{step.place}.maps", fresh + 2
        steps.append(Step(aten.permute.default, (value, list(found.order)), (value,), (turned,), place, within=step.within))
        steps.append(Step(aten.view.default, (turned, list(made.shape)), (turned,), (made,), place, within=step.within))
        arranged[value.index] = Arranged(made, found.order, turned)
    kept = {arranged[index].value.index: arranged[index].of(tensor) for index, tensor in tape.kept.items() if index in arranged}
    return replace(tape, steps=tuple(steps), arranged=arranged, kept={**tape.kept, **kept})


class _Order(NamedTuple):
    """In which order the axes of a value make maps, which of them is the channels, and which are left out, of length 1."""

    order: tuple[int, ...]
    channels: int | None
    maps: tuple[int, ...]

    def shapes(self, shape: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shape of the value in this order, and as (1, channels, samples..)."""
        channels = 1 if self.channels is None else shape[self.channels]
        return tuple(shape[k] for k in self.order), (1, channels, *(shape[k] for k in self.maps))


def _order(value: Value, axes: Axes, rank: int) -> _Order | None:
    """Return how a value is to be arranged; None if it is (1, channels) or (1, channels, samples..) already."""
    shape, channels = value.shape, 1 if axes[1:2] == _CHANNELS else _channels(axes)
    if channels == 1 and shape[0] == 1 and len(shape) in (2, rank):
        return None
    rest = [k for k in range(len(shape)) if k != channels]
    maps = tuple(k for k in rest if shape[k] > 1 or isinstance(axes[k], int))
    left_out = tuple(k for k in rest if k not in maps)
    return _Order((*left_out, *(() if channels is None else (channels,)), *maps), channels, maps)


def _channels(axes: Axes) -> int | None:
    """Return which axis is the channels; without channels it is what became of them, in the second place if it stands there."""
    for name in ("channels", "other"):
        found = [k for k, axis in enumerate(axes) if axis == name]
        if found:
            return 1 if 1 in found else found[0]
    return None
