"""Yield projections of many places one by one, so that they are never all in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from unconv.errors import PictureError
from unconv.pictures.decode import Source
from unconv.reverse.places import Place
from unconv.reverse.reconstruction import Picture, Reconstruction, Reconstructions
from unconv.reverse.seed import Seeds
from unconv.reverse.walking.cost import operations
from unconv.reverse.walking.journey import Arrival, Journey
from unconv.reverse.walking.walk import Route

_CHECKED = 4  # units, at most, for which half precision is compared with float32


@dataclass(frozen=True)
class Units:
    """The units of one place to be projected, and what their projections have in common."""

    place: Place
    method: str
    seeds: Seeds
    boxes: list[tuple[int, ...]]
    route: Route
    image: Tensor
    shown: Tensor
    trace: bool
    memory: int | None
    notes: tuple[str, ...] = ()
    blue_first: bool = False
    network: str = ""
    source: Picture | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def picture(self) -> Picture:
        """The picture that the units belong to."""
        return self.source or Picture(self.image, self.shown)

    @cached_property
    def operations(self) -> Tensor:
        """(n,): the floating-point operations that each unit needs."""
        return operations(self.route.tape, self.route.value, self.route.method, self.seeds)

    @cached_property
    def error(self) -> float | None:
        """The largest difference of half precision from float32 in a few units, as a share of a projection's largest value."""
        if self.route.dtype.itemsize >= 4 or not len(self):
            return None
        count = max(1, min(_CHECKED, len(self) // 8))  # so that the check takes a small share of the time
        indices = torch.linspace(0, len(self) - 1, count).round().long()
        full = replace(self.route, dtype=torch.float32, prepared={})
        sample = replace(self, seeds=self.seeds.subset(indices), boxes=[self.boxes[i] for i in indices.tolist()], trace=False)
        rough, right = (sample._sorted(route) for route in (self.route, full))
        pairs = [(a.window, b.window) for a, b in zip(rough, right, strict=True) if b.window.numel()]
        return max((float((a - b).abs().max() / b.abs().max().clamp(min=1e-30)) for a, b in pairs), default=0.0)

    def arrivals(self) -> Iterator[Arrival]:
        """Yield each unit as it is ready."""
        return self._journey(self.route).units(self.seeds, self.boxes)

    def one(self, arrival: Arrival) -> Reconstruction:
        """Return the projection of one arrival."""
        # In half precision, `self.error` walks a few units again in float32 the first time it is needed.
        index = arrival.index
        return Reconstruction(
            self.place,
            self.method,
            self.seeds.units[index],
            float(self.seeds.values[index]),
            arrival.window,
            self.boxes[index],
            self.image,
            self.shown,
            arrival.signals,
            self.error,
            self.notes,
            self.blue_first,
            self.network,
            self.seeds.feature_map(index),
            self.picture.number,
            self.picture.key,
        )

    def all(self) -> Reconstructions:
        """Return all projections, in the order of the request."""
        # Units arrive in the order in which the walk finishes them.
        arrived = self._sorted(self.route)
        return Reconstructions(
            self.place,
            self.method,
            self.seeds.units,
            self.seeds.values,
            [arrival.window for arrival in arrived],
            torch.tensor(self.boxes, dtype=torch.int64).reshape(len(self), 2 * (self.image.ndim - 1)),
            self.image,
            self.shown,
            [arrival.signals for arrival in arrived] if self.trace else [],
            self.error,
            self.notes,
            self.blue_first,
            self.network,
            [self.seeds.feature_map(index) for index in range(len(self))],
            [self.picture] * len(self),
        )

    def _sorted(self, route: Route) -> list[Arrival]:
        return sorted(self._journey(route).units(self.seeds, self.boxes), key=lambda arrival: arrival.index)

    def _journey(self, route: Route) -> Journey:
        return Journey(route, self.trace, self.memory)


class Stream:
    """An iterator of projections, each as soon as it is ready.

    `len` is their number. `progress`, between 0 and 1, is the share of the work that is done. It is a better clock than the
    number of projections, as a deep unit can take a hundred times as long as an early one. `damaged` lists the pictures
    that were skipped so far, each with its error.
    """

    def __init__(self, images: Sequence[Source], prepare: Callable[[Source], list[Units]], skip_damaged: bool = False):
        self.progress = 0.0
        self.damaged: list[tuple[Source, PictureError]] = []
        self._images, self._prepare, self._skip = images, prepare, skip_damaged
        # Errors in the arguments are raised at once, not when the first projection is asked for.
        self._first, self._ready = next(self._prepared(0), (len(images), list[Units]()))
        self._units, self._bad = sum(map(len, self._ready)), list(self.damaged)

    def __len__(self) -> int:
        return self._units * (len(self._images) - len(self.damaged))

    def __iter__(self) -> Iterator[Reconstruction]:
        self.damaged = list(self._bad)
        ready, self._ready = self._ready, []
        following = self._first + bool(ready)
        yield from self._of_one(self._first, ready)
        del ready  # free the first picture's memory before the others
        for number, parts in self._prepared(following):
            yield from self._of_one(number, parts)
        self.progress = 1.0

    def _prepared(self, first: int) -> Iterator[tuple[int, list[Units]]]:
        """Yield the number and the units of each picture from `first` on; list a damaged one instead."""
        for number, image in enumerate(self._images[first:], first):
            try:
                parts = self._prepare(image)
            except PictureError as error:
                if not self._skip:
                    raise
                self.damaged.append((image, error))
            else:
                yield number, parts

    def _of_one(self, number: int, parts: Sequence[Units]) -> Iterator[Reconstruction]:
        share = sum(float(units.operations.sum()) for units in parts) or 1.0
        operations_done = 0.0
        for units in parts:
            numbered = replace(units, source=replace(units.picture, number=number))
            for arrival in units.arrivals():
                operations_done += float(units.operations[arrival.index])
                self.progress = (number + operations_done / share) / len(self._images)
                yield numbered.one(arrival)
