"""Send seeds of one position to the image, and measure how similar two signals are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unconv.errors import ShapeError
from unconv.reverse.walking.stream import Units
from unconv.reverse.walking.walk import Route, walk_apart
from unconv.reverse.window import Window

_ROOM = 32 * 2**20


def refuse_regions(units: Units) -> None:
    """Refuse maps and regions, as trust is measured for single units."""
    if units.seeds.positions is None or units.seeds.together:
        raise ShapeError(
            "trust: a map, a region or all channels together came, but single units were needed. "
            "Pass channels, and unit='strongest' or a position."
        )


def positions(units: Units) -> Tensor:
    """Return (n, axes): the position of each unit on its map."""
    assert units.seeds.positions is not None
    return units.seeds.positions


def position(units: Units, index: int) -> Tensor:
    """Return (1, axes): the position of one unit."""
    return positions(units)[index : index + 1]


def send(route: Route, seeds: Tensor, position: Tensor, box: Sequence[int]) -> list[Tensor]:
    """Return what seeds (n, C) at one position send to the image, each in `box`."""
    axes = position.shape[1]
    values = seeds.to(route.tape.image.device).view(*seeds.shape, *[1] * axes)
    seed = Window(values, position.expand(len(seeds), -1) if axes else None)
    spans = len(box) // 2
    lengths = [end - start for start, end in zip(box[:spans], box[spans:], strict=True)]
    signals = [torch.zeros(0)] * len(seeds)
    with torch.inference_mode():
        for numbers, arrived in walk_apart(route, seed, _ROOM):
            for unit, number in enumerate(numbers.tolist()):
                if arrived is None:
                    signals[number] = values.new_zeros(route.tape.image.shape[1], *lengths)
                else:
                    window = arrived.units(slice(unit, unit + 1)).framed(torch.tensor([box[:spans]]), lengths)
                    signals[number] = window.values[0]
    return signals


def cosine(a: Tensor, b: Tensor) -> float:
    """Return the cosine of the angle between two signals; 0 if one of them is zero."""
    a, b = a.double().flatten(), b.double().flatten()
    size = float(a.norm() * b.norm())
    return float(a @ b) / size if size else 0.0
