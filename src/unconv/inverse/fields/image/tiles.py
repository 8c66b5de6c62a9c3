"""Forecast the memory of a restoration, and cut a picture into overlapping tiles where it is too much."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import torch
from torch import Tensor

from unconv.errors import DtypeError, ShapeError
from unconv.inverse.fields.image.table import row

_MARGIN = 24  # samples beyond the kernel that one tile shares with the next


@dataclass(frozen=True)
class Parts:
    """A picture (..., *n) as tiles; one tile is the picture itself.

    Attributes:
        boxes: for each tile, its (start, end) along each of the last axes.
    """

    picture: Tensor
    boxes: tuple[tuple[tuple[int, int], ...], ...]
    boundary: str

    def __len__(self) -> int:
        return len(self.boxes)

    def __iter__(self) -> Iterator[tuple[Tensor, str]]:
        for box in self.boxes:
            yield self.picture[_slices(box)], self.boundary if len(self) == 1 else "unknown"

    def joined(self, tiles: Sequence[Tensor]) -> Tensor:
        """Put the tiles together; where they overlap, fade from one to the next."""
        if len(tiles) == 1:
            return tiles[0]
        total, weight = torch.zeros_like(self.picture), torch.zeros_like(self.picture)
        for box, tile in zip(self.boxes, tiles, strict=True):
            ramp = self._ramp(box)
            total[_slices(box)] += tile * ramp
            weight[_slices(box)] += ramp
        return total / weight

    def _ramp(self, box: tuple[tuple[int, int], ...]) -> Tensor:
        """Weigh a tile: rising from its inner sides, where it knows least, to its middle; (*size of the box)."""
        ramp = self.picture.new_ones(())
        for (start, end), n in zip(box, self.picture.shape[-len(box) :], strict=True):
            place = torch.arange(end - start, dtype=self.picture.dtype, device=self.picture.device) + 1
            low = place if start > 0 else torch.full_like(place, float("inf"))
            high = place.flip(0) if end < n else torch.full_like(place, float("inf"))
            ramp = ramp[..., None] * torch.minimum(low, high).clamp(max=_MARGIN)
        return ramp


def forecast(spatial: Sequence[int], kernel: Sequence[int], method: str, channels: int = 1, itemsize: int = 4) -> int:
    """Forecast the bytes that restoring one picture takes at its peak, beyond the picture itself, to within a third.

    Args:
        spatial: lengths of the axes that the blur runs over.
        kernel: the PSF's.
        method: a name that `deblur` takes.
    """
    grid = prod(n + k for n, k in zip(spatial, kernel, strict=True)) * max(channels, 1)
    needs = row(method)
    return itemsize * (needs.copies * grid + needs.per_column * (spatial[-1] + kernel[-1]))


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
    lines = [_line(a, c, size) for a, c, size in zip(n, counts, sizes, strict=True)]
    return Parts(picture, tuple(product(*lines)), boundary)


def _line(n: int, count: int, size: int) -> list[tuple[int, int]]:
    """Spread `count` intervals of `size` samples evenly over n."""
    starts = [round(i * (n - size) / max(count - 1, 1)) for i in range(count)]
    return [(start, min(start + size, n)) for start in starts]


def _slices(box: tuple[tuple[int, int], ...]) -> tuple[Any, ...]:
    return (..., *(slice(start, end) for start, end in box))
