"""The mean slope of a picture, as far as it can be told from its noise."""

from __future__ import annotations

from math import exp, lgamma, sqrt
from typing import Any

import torch
from torch import Tensor

_FEWEST = 4  # blocks along each axis: larger ones are too few for a mean


def observed_slope(seen: Tensor, weights: Tensor, noise: float, axes: int) -> Tensor:
    """Return the mean length of the gradient beyond the noise, a lower bound, for each problem: (..., 1, ..., 1).

    Means of blocks of 1, 2, 4, ... samples a side are compared with their neighbours: larger blocks leave less of the noise,
    and less of the picture. The largest slope of all is returned. Noise adds at most its own mean length, which is
    subtracted, and a blur only flattens, so the truth is at least as steep.

    Args:
        seen: (..., *n), n of `axes` axes, zero where a sample is missing.
        weights: (*n), or as `seen`; 0 where a sample is missing, and 1 elsewhere.
        noise: standard deviation of a sample.
    """
    dims = tuple(range(-axes, 0))
    known = torch.where(weights > 0, seen, torch.nan)
    steepest, side = torch.zeros_like(seen.sum(dims, keepdim=True)), 1
    while side * _FEWEST <= min(seen.shape[-axes:]):
        blocks = known
        for axis in dims:
            blocks = blocks.unfold(axis, side, side).mean(-1)
        inside: Any = (..., *(slice(n - 1) for n in blocks.shape[-axes:]))
        slopes = []
        for axis in dims:
            step = blocks.diff(dim=axis)
            slopes.append(step[inside] / side)
        length = torch.stack(slopes).square().sum(0).sqrt().nanmean(dims, keepdim=True)
        # A mean over side^axes samples leaves noise / side^(axes / 2); a difference has sqrt(2) of it, over `side` samples.
        noise_length = sqrt(2) * noise / side ** (1 + axes / 2) * _chi(axes)
        steepest = torch.maximum(steepest, (length - noise_length).nan_to_num(0.0))
        side *= 2
    return steepest


def _chi(axes: int) -> float:
    """Return the mean length of a vector of `axes` standard normal numbers."""
    return sqrt(2) * exp(lgamma((axes + 1) / 2) - lgamma(axes / 2))
