"""Extend a signal by the samples that its boundary condition implies; the adjoint adds them back to those they are copies of.

`sides` gives the number of samples to add before and after, as a pair for each of the last axes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

Sides = Sequence[tuple[int, int]]


def extend(x: Tensor, sides: Sides, boundary: str) -> Tensor:
    """Pad x by the samples that the boundary condition implies; by none if it is "unknown"."""
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
    """Apply the adjoint of `extend`: add the samples around a signal to those that they are copies of."""
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
    """Pad x by its mirror images at the first and the last sample, which are not repeated."""
    for axis, (before, after) in _last(sides):
        n = x.shape[axis]
        head, tail = x.narrow(axis, 1, before).flip(axis), x.narrow(axis, n - 1 - after, after).flip(axis)
        x = torch.cat([head, x, tail], axis)
    return x


def mirror_adjoint(x: Tensor, sides: Sides) -> Tensor:
    """Apply the adjoint of `mirror`: add the mirrored samples to those that they are copies of."""
    for axis, (before, after) in _last(sides):
        n = x.shape[axis] - before - after
        inside = x.narrow(axis, before, n).clone()
        inside.narrow(axis, 1, before).add_(x.narrow(axis, 0, before).flip(axis))
        inside.narrow(axis, n - 1 - after, after).add_(x.narrow(axis, before + n, after).flip(axis))
        x = inside
    return x


def _last(sides: Sides) -> list[tuple[int, tuple[int, int]]]:
    """Pair each side with its axis, counted from the end."""
    return list(zip(range(-len(sides), 0), sides, strict=True))
