"""Forecast the memory of a restoration, and split a picture into overlapping tiles if it is too much."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import pi, prod
from typing import Any

import torch
from torch import Tensor

from unconv.errors import DtypeError, ShapeError
from unconv.inverse.fields.image.table import row

_MARGIN = 24  # samples that a tile shares with the next, in addition to the kernel
_MIDDLE, _PSFS = 112, 4  # samples along each axis of a picture's middle, or so many lengths of the PSF if that is more
_BESIDES = 320  # numbers per sample, the bound for the additional memory in small pictures


@dataclass(frozen=True)
class Parts:
    """A picture (..., *n) split into tiles; a single tile is the picture itself.

    Attributes:
        boxes: for each tile, its (start, end) along each of the last axes.
        boundary: of a single tile; several have an unknown one.
        reach: how far the kernel reaches along each of these axes, from its middle.
    """

    picture: Tensor
    boxes: tuple[tuple[tuple[int, int], ...], ...]
    boundary: str
    reach: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.boxes)

    def __iter__(self) -> Iterator[tuple[Tensor, str]]:
        for box in self.boxes:
            yield self.picture[_slices(box)], self.boundary if len(self) == 1 else "unknown"

    def joined(self, tiles: Iterable[Tensor]) -> Tensor:
        """Join the tiles in the order of `boxes`; where they overlap, fade from one to the next."""
        if len(self) == 1:
            return next(iter(tiles))
        total = torch.zeros_like(self.picture)
        sides = [self._sides(axis) for axis in range(len(self.boxes[0]))]
        for box, tile in zip(self.boxes, tiles, strict=True):
            for axis, side in enumerate(box, -len(box)):
                tile = tile * _along(sides[axis][side], axis)
            total[_slices(box)] += tile
        return total

    def _sides(self, axis: int) -> dict[tuple[int, int], Tensor]:
        """Return the weights of each interval along an axis; where intervals overlap, they sum to 1.

        Samples near an inner end depend on samples outside the tile. So the weight is zero as far as the kernel reaches from
        such an end, and then fades in.
        """
        n, picture = self.picture.shape[axis - len(self.boxes[0])], self.picture
        ramps, total = {}, picture.new_zeros(n)
        for start, end in dict.fromkeys(box[axis] for box in self.boxes):
            position = torch.arange(end - start, dtype=picture.dtype, device=picture.device) + 0.5 - self.reach[axis]
            low = position if start > 0 else torch.full_like(position, float("inf"))
            high = position.flip(0) if end < n else torch.full_like(position, float("inf"))
            ramps[start, end] = torch.minimum(low, high).clamp(0, 2 * _MARGIN).mul(pi / (4 * _MARGIN)).sin().square()
            total[start:end] += ramps[start, end]
        return {side: ramp / total[slice(*side)] for side, ramp in ramps.items()}


def forecast(spatial: Sequence[int], kernel: Sequence[int], method: str, channels: int = 1, itemsize: int = 4) -> int:
    """Return the forecast of the peak memory for one picture, in bytes beyond the picture itself, to within a third.

    Args:
        spatial: lengths of the blurred axes.
        kernel: lengths of the PSF.
        method: a name that `deblur` takes.
    """
    grid = prod(n + k for n, k in zip(spatial, kernel, strict=True))
    properties = row(method)
    return itemsize * (properties.copies * grid * max(channels, 1) + min(properties.besides, _BESIDES * grid))


def limit(memory: float | None, device: torch.device) -> float:
    """Return how many bytes may be used: by default half of the machine's memory, or on a GPU half of what is free."""
    if memory is not None:
        if not isinstance(memory, int | float):
            raise DtypeError(f"deblur: memory is {memory!r}, but a number of bytes was needed.")
        return float(memory)
    if device.type == "cuda":
        return 0.5 * torch.cuda.mem_get_info(device)[0]
    return 0.5 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4e9


def parts(picture: Tensor, kernel: Sequence[int], method: str, room: float, boundary: str) -> Parts:
    """Split the picture (..., *n) into as few tiles as possible that fit into `room` bytes each.

    Raises:
        ShapeError: even the smallest useful tiles, four times as long as their overlap, do not fit.
    """
    axes = len(kernel)
    n = list(picture.shape[-axes:])
    channels = prod(picture.shape[:-axes])
    overlap = [k // 2 + _MARGIN for k in kernel]
    counts = [1] * axes
    # Add a tile along the axis whose tiles are longest for their overlap, since overlaps are computed twice.
    while True:
        sizes = [-(-(a + (c - 1) * 2 * o) // c) for a, c, o in zip(n, counts, overlap, strict=True)]
        if forecast(sizes, kernel, method, channels, picture.element_size()) <= room:
            break
        longest = max((axis for axis in range(axes)), key=lambda axis: sizes[axis] / overlap[axis])
        if sizes[longest] < 4 * overlap[longest]:
            raise ShapeError(
                f"deblur: memory is {room:.3g} bytes for a picture of {tuple(n)} with a PSF of {tuple(kernel)}, but the "
                f"smallest useful tile, {tuple(sizes)}, needs {forecast(sizes, kernel, method, channels):.3g}. Allow more "
                "memory, or crop the PSF."
            )
        counts[longest] += 1
    lines = [_line(a, c, size, row(method).begins) for a, c, size in zip(n, counts, sizes, strict=True)]
    return Parts(picture, tuple(product(*lines)), boundary, tuple(k // 2 for k in kernel))


def middle(tiles: Parts) -> Parts | None:
    """Return the middle of a picture; None if that is most of it, or all of its samples are missing."""
    n = tiles.picture.shape[-len(tiles.reach) :]
    size = [min(m, max(_MIDDLE, _PSFS * (2 * reach + 1))) for m, reach in zip(n, tiles.reach, strict=True)]
    box = tuple(((m - k) // 2, (m - k) // 2 + k) for m, k in zip(n, size, strict=True))
    part = tiles.picture[_slices(box)]
    if 2 * prod(size) > prod(n) or bool(part.isnan().all()):
        return None
    return Parts(part, (tuple((0, k) for k in size),), "unknown", tiles.reach)


def _line(n: int, count: int, size: int, begins: int) -> list[tuple[int, int]]:
    """Return `count` intervals of at least `size` samples, spread evenly over n; each begins at a multiple of `begins`."""
    starts = [round(i * (n - size) / max(count - 1, 1)) for i in range(count)]
    return [(start // begins * begins, min(start + size, n)) for start in starts]


def _along(values: Tensor, axis: int) -> Tensor:
    """Reshape values to lie along an axis, counted from the last one, -1."""
    return values.reshape(-1, *[1] * (-axis - 1))


def _slices(box: tuple[tuple[int, int], ...]) -> tuple[Any, ...]:
    return (..., *(slice(start, end) for start, end in box))
