"""How steep a picture is, as far as its noise lets it be seen."""

from __future__ import annotations

from math import exp, lgamma, sqrt
from typing import Any

import torch
from torch import Tensor

_LARGEST = 4  # of the blocks that are compared there are at least so many along each axis


def observed_slope(seen: Tensor, weights: Tensor, noise: float, axes: int) -> Tensor:
    """Return the mean length of the gradient that is seen beyond the noise, for each problem: (..., 1, ..., 1).

    Means of blocks of 1, 2, 4, ... samples a side are compared with those beside them: the larger, the less is left of the
    noise, and of the picture. The largest slope of them all is returned. Noise makes a mean length no longer than by its
    own, and a blur only flattens, so that the truth is at least as steep.

    Args:
        seen: (..., *n), n of `axes` axes, zero where no sample was observed.
        weights: (*n), or as `seen`; 0 there, and 1 elsewhere.
        noise: standard deviation of a sample.
    """
    dims = tuple(range(-axes, 0))
    known = torch.where(weights > 0, seen, torch.nan)
    found, side = torch.zeros_like(seen.sum(dims, keepdim=True)), 1
    while side * _LARGEST <= min(seen.shape[-axes:]):
        blocks = known
        for axis in dims:
            blocks = blocks.unfold(axis, side, side).mean(-1)
        inside: Any = (..., *(slice(n - 1) for n in blocks.shape[-axes:]))
        slopes = []
        for axis in dims:
            step = blocks.diff(dim=axis)
            slopes.append(step[inside] / side)
        length = torch.stack(slopes).square().sum(0).sqrt().nanmean(dims, keepdim=True)
        alone = sqrt(2) * noise / side ** (1 + axes / 2) * _chi(axes)
        found = torch.maximum(found, (length - alone).nan_to_num(0.0))
        side *= 2
    return found


def _chi(axes: int) -> float:
    """The mean length of a vector of so many normal numbers."""
    return sqrt(2) * exp(lgamma((axes + 1) / 2) - lgamma(axes / 2))
