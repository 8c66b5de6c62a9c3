"""What a boundary says lies around a signal, written out around it; and the adjoint, which adds it back to where it came from.

`sides` gives, for each of the last axes, how many samples to add before and after.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

Sides = Sequence[tuple[int, int]]


def extend(x: Tensor, sides: Sides, boundary: str) -> Tensor:
    """Put around x the samples that the boundary says lie there; none where it is unknown."""
    if boundary == "unknown":
        return x
    if boundary == "reflect":
        return mirror(x, sides)
    if boundary == "zero":
        return F.pad(x, [n for side in reversed(sides) for n in side])
    for axis, (before, after) in _last(sides):
        n = x.shape[axis]
        x = torch.cat([x.narrow(axis, n - before, before), x, x.narrow(axis, 0, after)], axis)
    return x


def extend_adjoint(x: Tensor, sides: Sides, boundary: str) -> Tensor:
    """Add the samples around a signal to those that they are copies of: the adjoint of `extend`."""
    if boundary == "unknown":
        return x
    if boundary == "reflect":
        return mirror_adjoint(x, sides)
    for axis, (before, after) in _last(sides):
        n = x.shape[axis] - before - after
        inside = x.narrow(axis, before, n)
        if boundary == "circular":
            inside = inside.clone()
            inside.narrow(axis, n - before, before).add_(x.narrow(axis, 0, before))
            inside.narrow(axis, 0, after).add_(x.narrow(axis, before + n, after))
        x = inside
    return x


def mirror(x: Tensor, sides: Sides) -> Tensor:
    """Mirror x at its first and at its last sample, which are not repeated."""
    for axis, (before, after) in _last(sides):
        n = x.shape[axis]
        head, tail = x.narrow(axis, 1, before).flip(axis), x.narrow(axis, n - 1 - after, after).flip(axis)
        x = torch.cat([head, x, tail], axis)
    return x


def mirror_adjoint(x: Tensor, sides: Sides) -> Tensor:
    """Fold the mirrored samples back onto those that they are copies of: the adjoint of `mirror`."""
    for axis, (before, after) in _last(sides):
        n = x.shape[axis] - before - after
        inside = x.narrow(axis, before, n).clone()
        inside.narrow(axis, 1, before).add_(x.narrow(axis, 0, before).flip(axis))
        inside.narrow(axis, n - 1 - after, after).add_(x.narrow(axis, before + n, after).flip(axis))
        x = inside
    return x


def _last(sides: Sides) -> list[tuple[int, tuple[int, int]]]:
    """Each side with the axis that it belongs to, counted from the end."""
    return list(zip(range(-len(sides), 0), sides, strict=True))
