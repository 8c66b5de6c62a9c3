"""Forecast the memory of a restoration, and cut a picture into overlapping tiles where it is too much."""

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

_MARGIN = 24  # samples beyond the kernel that one tile shares with the next
_MIDDLE = 112  # samples along each axis of a picture's middle, or so many PSFs
_PSFS = 4
_BESIDES = 320  # numbers for each sample, of pictures so small that what a method needs besides grows with them


@dataclass(frozen=True)
class Parts:
    """A picture (..., *n) as tiles; one tile is the picture itself.

    Attributes:
        boxes: for each tile, its (start, end) along each of the last axes.
        reach: of the kernel along each of these, from its middle.
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
        """Put the tiles together as they come; where they overlap, fade from one to the next."""
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
        """Weigh each interval along an axis; together they are 1.

        At an inner end, where samples depend on those beyond, an interval has no weight for as long as the kernel reaches,
        and then fades in.
        """
        n, picture = self.picture.shape[axis - len(self.boxes[0])], self.picture
        ramps, total = {}, picture.new_zeros(n)
        for start, end in dict.fromkeys(box[axis] for box in self.boxes):
            place = torch.arange(end - start, dtype=picture.dtype, device=picture.device) + 0.5 - self.reach[axis]
            low = place if start > 0 else torch.full_like(place, float("inf"))
            high = place.flip(0) if end < n else torch.full_like(place, float("inf"))
            ramps[start, end] = torch.minimum(low, high).clamp(0, 2 * _MARGIN).mul(pi / (4 * _MARGIN)).sin().square()
            total[start:end] += ramps[start, end]
        return {side: ramp / total[slice(*side)] for side, ramp in ramps.items()}


def forecast(spatial: Sequence[int], kernel: Sequence[int], method: str, channels: int = 1, itemsize: int = 4) -> int:
    """Forecast the bytes that restoring one picture takes at its peak, beyond the picture itself, to within a third.

    Args:
        spatial: lengths of the axes that the blur runs over.
        kernel: the PSF's.
        method: a name that `deblur` takes.
    """
    grid = prod(n + k for n, k in zip(spatial, kernel, strict=True))
    needs = row(method)
    return itemsize * (needs.copies * grid * max(channels, 1) + min(needs.besides, _BESIDES * grid))


def limit(memory: float | None, device: torch.device) -> float:
    """Return how many bytes may be used: as given, or half of the machine's memory; on a GPU half of what is free."""
    if memory is not None:
        if not isinstance(memory, int | float):
            raise DtypeError(f"deblur: memory is {memory!r}, but a number of bytes was needed.")
        return float(memory)
    if device.type == "cuda":
        return 0.5 * torch.cuda.mem_get_info(device)[0]
    return 0.5 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4e9


def parts(picture: Tensor, kernel: Sequence[int], method: str, room: float, boundary: str) -> Parts:
    """Cut the picture (..., *n) into as few tiles as fit into `room` bytes each.

    Raises:
        ShapeError: not even tiles of four kernels and margins fit.
    """
    axes = len(kernel)
    n = list(picture.shape[-axes:])
    channels = prod(picture.shape[:-axes])
    overlap = [k // 2 + _MARGIN for k in kernel]
    counts = [1] * axes
    while True:
        sizes = [-(-(a + (c - 1) * 2 * o) // c) for a, c, o in zip(n, counts, overlap, strict=True)]
        if forecast(sizes, kernel, method, channels, picture.element_size()) <= room:
            break
        longest = max((axis for axis in range(axes)), key=lambda axis: sizes[axis] / overlap[axis])
        if sizes[longest] < 4 * overlap[longest]:
            raise ShapeError(
                f"deblur: {room:.3g} bytes are too few for {tuple(n)} with a PSF of {tuple(kernel)}; the smallest useful tile, "
                f"{tuple(sizes)}, takes {forecast(sizes, kernel, method, channels):.3g}. Allow more memory, or crop the PSF."
            )
        counts[longest] += 1
    lines = [_line(a, c, size, row(method).begins) for a, c, size in zip(n, counts, sizes, strict=True)]
    return Parts(picture, tuple(product(*lines)), boundary, tuple(k // 2 for k in kernel))


def middle(whole: Parts) -> Parts | None:
    """Cut the middle out of a picture; None where that is most of it, or nothing was seen there."""
    n = whole.picture.shape[-len(whole.reach) :]
    size = [min(m, max(_MIDDLE, _PSFS * (2 * reach + 1))) for m, reach in zip(n, whole.reach, strict=True)]
    box = tuple(((m - k) // 2, (m - k) // 2 + k) for m, k in zip(n, size, strict=True))
    part = whole.picture[_slices(box)]
    if 2 * prod(size) > prod(n) or bool(part.isnan().all()):
        return None
    return Parts(part, (tuple((0, k) for k in size),), "unknown", whole.reach)


def _line(n: int, count: int, size: int, begins: int) -> list[tuple[int, int]]:
    """Spread `count` intervals of at least `size` samples evenly over n; each begins at a multiple of `begins`."""
    starts = [round(i * (n - size) / max(count - 1, 1)) for i in range(count)]
    return [(start // begins * begins, min(start + size, n)) for start in starts]


def _along(values: Tensor, axis: int) -> Tensor:
    """Lay values along an axis, counted from the last one, -1."""
    return values.reshape(-1, *[1] * (-axis - 1))


def _slices(box: tuple[tuple[int, int], ...]) -> tuple[Any, ...]:
    return (..., *(slice(start, end) for start, end in box))
