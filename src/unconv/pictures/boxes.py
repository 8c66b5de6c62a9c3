"""Boxes on an image: cut one out, and find where it overlaps the image."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def cut(image: Tensor, box: Sequence[int]) -> Tensor:
    """Cut `box`, the first indices then the ends, out of `image` (C, H, W); samples outside the image are zero."""
    axes = len(box) // 2
    out = image.new_zeros(len(image), *(end - start for start, end in zip(box[:axes], box[axes:], strict=True)))
    in_box, in_image = overlap(box, image.shape[1:])
    out[(slice(None), *in_box)] = image[(slice(None), *in_image)]
    return out


def overlap(box: Sequence[int], size: Sequence[int]) -> tuple[list[slice], list[slice]]:
    """Return the overlap of `box` and an image of `size` as slices twice: counted in the box, and counted in the image."""
    axes = len(size)
    in_box, in_image = [], []
    for start, end, n in zip(box[:axes], box[axes:], size, strict=True):
        # A box entirely outside gives empty slices at the image's edge, never negative ones, which would count from the end.
        low = min(max(start, 0), n)
        high = max(min(end, n), low)
        in_box.append(slice(min(low - start, end - start), max(high - start, 0)))
        in_image.append(slice(low, high))
    return in_box, in_image
