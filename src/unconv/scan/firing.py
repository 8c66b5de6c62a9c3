"""Rank the units that respond to a picture, or to a part of it, each against its own distribution over the data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from unconv.errors import ShapeError
from unconv.reverse.model import Recording
from unconv.scan.top import bins

_Row = tuple[str, int, float, float, tuple[int, ...]]


def fires(run: Mapping[str, Any], recording: Recording, region: Sequence[int] | None, histograms: Any, n: int) -> list[_Row]:
    """Return (place, channel, value, share, position) of the `n` units that rank highest in their own distributions.

    Args:
        recording: the recording of a picture, with all places of the run.
        region: as in `responses`.
        histograms: (units, 64), of each unit's maxima.
    """
    rows, value = responses(run["places"], run["input"], recording, region)
    share = shares(value, histograms)
    order = np.lexsort((-value.numpy(), -share))
    best = [k for k in order.tolist() if 0 < float(value[k]) < np.inf][:n]
    return [(rows[k][0], rows[k][1], float(value[k]), float(share[k]), rows[k][2]) for k in best]


def responses(
    places: Sequence[Mapping[str, Any]], size: Sequence[int], recording: Recording, region: Sequence[int] | None = None
) -> tuple[list[tuple[str, int, tuple[int, ...]]], torch.Tensor]:
    """Return (place, channel, position) of every channel's strongest unit, and the (units,) activations there.

    Args:
        places: the places as a run describes them.
        size: (C, samples..) of a picture.
        region: (y0, x0, y1, x1); only units whose receptive field has its centre inside count.

    Raises:
        ShapeError: the region does not have the picture's axes, or is empty.
    """
    axes = len(size) - 1
    if region is not None and (len(region) != 2 * axes or any(a >= b for a, b in zip(region, region[axes:], strict=False))):
        raise ShapeError(f"region: {tuple(region)} came, but (y0, x0, y1, x1) was needed, with ends after starts.")
    rows, values = list[tuple[str, int, tuple[int, ...]]](), []
    for place in places:
        maps = recording.activation(place["name"]).float().cpu()
        flat = maps.reshape(len(maps), -1)
        if region is not None:
            inside = _inside(place, region)
            flat = flat.masked_fill(~torch.from_numpy(inside), -torch.inf)
        largest = flat.max(1)
        positions = np.stack(np.unravel_index(largest.indices.numpy(), maps.shape[1:] or (1,)), 1)[:, : maps.ndim - 1]
        rows += [(place["name"], channel, tuple(position)) for channel, position in enumerate(positions.tolist())]
        values.append(largest.values)
    return rows, torch.cat(values)


def shares(value: torch.Tensor, histograms: Any) -> Any:
    """Return for each unit the share of pictures with a smaller maximum, interpolated logarithmically within an octave."""
    level = bins(value.numpy())
    below = np.cumsum(histograms, 1) - histograms
    units = np.arange(len(level))
    fraction = np.clip(np.log2(np.maximum(value.numpy(), 1e-30)) - (level - 32), 0, 1)
    total = np.maximum(histograms.sum(1), 1)
    share = (below[units, level] + np.where(level > 0, fraction, 0) * histograms[units, level]) / total
    return np.where(np.isfinite(value.numpy()), share, 0.0)


def _inside(place: Mapping[str, Any], region: Sequence[int]) -> Any:
    """Return (samples,), whether the receptive field of each unit of a map has its centre inside the region."""
    size, axes = place["size"], len(region) // 2
    grid = np.indices(size).reshape(len(size), -1) if size else np.zeros((0, 1), np.int64)
    inside = np.ones(grid.shape[1], dtype=bool)
    for axis, (starts, stops) in enumerate(place["spans"]):
        along = len(size) - axes + axis
        index = grid[along] if along >= 0 and len(starts) > 1 else np.zeros(grid.shape[1], np.int64)
        middle = (np.array(starts)[index] + np.array(stops)[index]) / 2
        inside &= (middle >= region[axis]) & (middle < region[axis + axes])
    return inside
