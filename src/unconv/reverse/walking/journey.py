"""Run many units of one place backwards, in parts that fit the cache and the memory."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor

from unconv.errors import NonFinite, UnconvError
from unconv.reverse.places import looked_at
from unconv.reverse.reconstruction import Signal
from unconv.reverse.seed import Seeds
from unconv.reverse.tape.step import Value
from unconv.reverse.walking.walk import Route, walk_apart
from unconv.reverse.window import Window

_CACHE = 32 * 2**20  # bytes of a part of a batch on the CPU, so that what one step writes is still in the cache for the next
_PARTS = 8  # parts that may wait while one goes on
_GPU = 2 * 2**30  # bytes of a part on a GPU, which needs more work at once


@dataclass(frozen=True)
class Arrival:
    """One unit's signal at the image: `window` (C, h, w) in its box; `signals` at the places on the way, if asked for."""

    index: int
    window: Tensor
    signals: tuple[Signal, ...]


@dataclass
class Journey:
    """The walks of the units of one place.

    Args:
        trace: also keep the signal at every place on the way.
        memory: roughly how many bytes signals may take. None: what suits the device.
    """

    route: Route
    trace: bool = False
    memory: int | None = None
    signals: dict[int, list[Signal]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        tape = self.route.tape
        self.names = {value.index: step.place for step, value in looked_at(tape)} if self.trace else {}
        self.room = min(_room(tape.image.device), max((self.memory or 2**62) // _PARTS, 1))

    def units(self, seeds: Seeds, boxes: Sequence[Sequence[int]]) -> Iterator[Arrival]:
        """Yield each unit as it arrives. If memory runs out, run the remaining ones in parts a quarter as large, once."""
        remaining, window = torch.arange(len(seeds.channels)), seeds.window(self.route.dtype)
        if not len(remaining):
            return
        try:
            for arrival in self._in_parts(window, remaining, boxes):
                remaining = remaining[remaining != arrival.index]
                yield arrival
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            # Only once: if a quarter does not fit either, the number of units that go together is not the cause.
            self.room = max(1, self.room // 4)
            warnings.warn(f"project: memory ran out; continuing in parts of {self.room / 2**20:.0f} MiB", stacklevel=2)
        else:
            return
        try:
            yield from self._in_parts(window.units(remaining), remaining, boxes)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            raise UnconvError(
                "project: memory ran out, also in smaller parts. Free some, or pass a smaller picture or dtype='bfloat16'."
            ) from error

    def _in_parts(self, seed: Window, numbers: Tensor, boxes: Sequence[Sequence[int]]) -> Iterator[Arrival]:
        """Yield the arrivals of a seed; units of maps with other axes than the image start from full maps, a few at a time."""
        shape, image = self.route.value.shape, self.route.tape.image
        if seed.corner is None or len(shape) == image.ndim:
            yield from self._arrivals(seed, numbers, boxes)
            return
        for part in torch.arange(len(numbers)).split(max(1, self.room // (prod(shape) * self.route.dtype.itemsize))):
            full = seed.units(part).dense(shape[1]).full_map(shape)
            yield from self._arrivals(full, numbers[part], boxes)

    def _arrivals(self, seed: Window, numbers: Tensor, boxes: Sequence[Sequence[int]]) -> Iterator[Arrival]:
        """Yield the arrivals of the units of `seed`, which have these `numbers`."""
        self.signals = {}

        def watch(value: Value, signal: Window, units: Tensor) -> None:
            if value.index in self.names:
                with torch.inference_mode(False), torch.no_grad():  # the user may change what he gets
                    # One by one, as full maps of all units may be large.
                    for position, number in enumerate(numbers[units].tolist()):
                        values = signal.units(slice(position, position + 1)).full_map(value.shape).values
                        traced = _signal(self.names[value.index], values if values.itemsize >= 4 else values.float())
                        self.signals.setdefault(number, []).append(traced)

        for units, arrived in _inferring(walk_apart(self.route, seed, self.room, watch if self.trace else None)):
            if arrived is not None and not torch.isfinite(arrived.values).all():
                raise NonFinite(f"project: the signal overflowed on the way back in {self.route.dtype}. Use a wider dtype.")
            for position, number in enumerate(numbers[units].tolist()):
                window = self._framed(arrived, position, boxes[number])
                yield Arrival(number, window, tuple(self.signals.pop(number, ())))

    def _framed(self, arrived: Window | None, unit: int, box: Sequence[int]) -> Tensor:
        """Return one unit's signal in its box."""
        image = self.route.tape.image
        axes = len(box) // 2
        lengths = [end - start for start, end in zip(box[:axes], box[axes:], strict=True)]
        dtype = self.route.dtype if self.route.dtype.itemsize >= 4 else torch.float32
        if arrived is None:
            return torch.zeros(image.shape[1], *lengths, dtype=dtype, device=image.device)
        framed = arrived.units(slice(unit, unit + 1)).framed(torch.tensor([box[:axes]]), lengths)
        return framed.values[0].to(dtype).detach()


def _inferring(parts: Iterator[Any]) -> Iterator[Any]:
    """Yield `parts`, each computed in inference mode, which is off again while the caller has one."""
    while True:
        with torch.inference_mode():
            part = next(parts, None)
        if part is None:
            return
        yield part


def _room(device: torch.device) -> int:
    if device.type != "cuda":
        return _CACHE
    free, _ = torch.cuda.mem_get_info(device)
    return max(_CACHE, min(_GPU, free // 16))


def _is_out_of_memory(error: BaseException) -> bool:
    words = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in words or "not enough memory" in words


def _signal(place: str, values: Tensor) -> Signal:
    """Summarise the `values` (1, C, samples..) of one unit as a `Signal`."""
    maps = values[0] if values.ndim > 2 else values[0][:, None]
    shares = maps.flatten(1).norm(dim=1).square()
    shares = shares / shares.sum().clamp(min=torch.finfo(shares.dtype).tiny)
    top = shares.topk(min(3, len(maps)))
    named = tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True))
    return Signal(place, maps.norm(dim=0), named, maps[named[0][0]].clone())
