"""Sending seeds of one position to the image, and how like two signals are."""

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
    """Trust is a matter of single units."""
    if units.seeds.positions is None or units.seeds.together:
        raise ShapeError(
            "trust: maps and regions are no single units, nor are all channels together. "
            "Pass channels, and unit='strongest' or a position."
        )


def positions(units: Units) -> Tensor:
    """Return (n, axes): where each unit stands on its map."""
    assert units.seeds.positions is not None
    return units.seeds.positions


def position(units: Units, index: int) -> Tensor:
    """Return (1, axes): where one unit stands."""
    return positions(units)[index : index + 1]


def sent(route: Route, seeds: Tensor, position: Tensor, box: Sequence[int]) -> list[Tensor]:
    """What seeds (n, C) at one position send to the image, each in `box`."""
    axes = position.shape[1]
    values = seeds.to(route.tape.image.device).view(*seeds.shape, *[1] * axes)
    window = Window(values, position.expand(len(seeds), -1) if axes else None)
    spans = len(box) // 2
    lengths = [end - start for start, end in zip(box[:spans], box[spans:], strict=True)]
    found = [torch.zeros(0)] * len(seeds)
    with torch.inference_mode():
        for numbers, arrived in walk_apart(route, window, _ROOM):
            for at, number in enumerate(numbers.tolist()):
                if arrived is None:
                    found[number] = values.new_zeros(route.tape.image.shape[1], *lengths)
                else:
                    found[number] = arrived.units(slice(at, at + 1)).framed(torch.tensor([box[:spans]]), lengths).values[0]
    return found


def cosine(a: Tensor, b: Tensor) -> float:
    """The cosine of the angle between two signals; 0 where one is nothing."""
    a, b = a.double().flatten(), b.double().flatten()
    size = float(a.norm() * b.norm())
    return float(a @ b) / size if size else 0.0
