"""Boxes on an image: cut one out, and find where it overlaps the image."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def cut(image: Tensor, box: Sequence[int]) -> Tensor:
    """Cut `box`, firsts then ends, out of `image` (C, H, W): (C, h, w), zero outside the image."""
    axes = len(box) // 2
    out = image.new_zeros(len(image), *(end - start for start, end in zip(box[:axes], box[axes:], strict=True)))
    takes, puts = overlap(box, image.shape[1:])
    out[(slice(None), *takes)] = image[(slice(None), *puts)]
    return out


def overlap(box: Sequence[int], size: Sequence[int]) -> tuple[list[slice], list[slice]]:
    """Find where `box` and an image of `size` overlap: in the box's own samples, and in the image's."""
    axes = len(size)
    takes, puts = [], []
    for start, end, n in zip(box[:axes], box[axes:], size, strict=True):
        # A box wholly outside gives empty slices at the image's edge, never negative ones, which would count from the end.
        low = min(max(start, 0), n)
        high = max(min(end, n), low)
        takes.append(slice(min(low - start, end - start), max(high - start, 0)))
        puts.append(slice(low, high))
    return takes, puts
