"""What fires on a picture, or on a part of it: each unit against its own distribution over the data set."""

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
    """Return (place, channel, value, share, position) of the units that stand highest in their own distributions.

    Args:
        recording: of a picture, with all places of the run.
        region: as in `responses`.
        histograms: (units, 64).
    """
    rows, value = responses(run["places"], run["input"], recording, region)
    share = shares(value, histograms)
    order = np.lexsort((-value.numpy(), -share))
    chosen = [k for k in order.tolist() if 0 < float(value[k]) < np.inf][:n]
    return [(rows[k][0], rows[k][1], float(value[k]), float(share[k]), rows[k][2]) for k in chosen]


def responses(
    places: Sequence[Mapping[str, Any]], size: Sequence[int], recording: Recording, region: Sequence[int] | None = None
) -> tuple[list[tuple[str, int, tuple[int, ...]]], torch.Tensor]:
    """Return of every unit (place, channel, position) where it is strongest, and (units,) how strong it is there.

    Args:
        places: as a run describes them.
        size: (C, samples..) of a picture.
        region: (y0, x0, y1, x1); only units whose receptive field has its middle there.

    Raises:
        ShapeError: the region has other axes than the picture, or is empty.
    """
    axes = len(size) - 1
    if region is not None and (len(region) != 2 * axes or any(a >= b for a, b in zip(region, region[axes:], strict=False))):
        raise ShapeError(f"region: {tuple(region)} came, but (y0, x0, y1, x1) was needed, ends behind starts.")
    rows, values = list[tuple[str, int, tuple[int, ...]]](), []
    for place in places:
        maps = recording.activation(place["name"]).float().cpu()
        flat = maps.reshape(len(maps), -1)
        if region is not None:
            inside = _inside(place, region)
            flat = flat.masked_fill(~torch.from_numpy(inside), -torch.inf)
        found = flat.max(1)
        where = np.stack(np.unravel_index(found.indices.numpy(), maps.shape[1:] or (1,)), 1)[:, : maps.ndim - 1]
        rows += [(place["name"], channel, tuple(at)) for channel, at in enumerate(where.tolist())]
        values.append(found.values)
    return rows, torch.cat(values)


def shares(value: torch.Tensor, histograms: Any) -> Any:
    """Return of each unit the share of pictures whose maximum is smaller; within an octave as if they lay evenly in it."""
    level = bins(value.numpy())
    below = np.cumsum(histograms, 1) - histograms
    at = np.arange(len(level))
    within = np.clip(np.log2(np.maximum(value.numpy(), 1e-30)) - (level - 32), 0, 1)
    total = np.maximum(histograms.sum(1), 1)
    found = (below[at, level] + np.where(level > 0, within, 0) * histograms[at, level]) / total
    return np.where(np.isfinite(value.numpy()), found, 0.0)


def _inside(place: Mapping[str, Any], region: Sequence[int]) -> Any:
    """(samples,): which units of a map see around a point of the region, also where they see more than the picture."""
    size, axes = place["size"], len(region) // 2
    grid = np.indices(size).reshape(len(size), -1) if size else np.zeros((0, 1), np.int64)
    inside = np.ones(grid.shape[1], dtype=bool)
    for axis, (starts, stops) in enumerate(place["spans"]):
        along = len(size) - axes + axis
        at = grid[along] if along >= 0 and len(starts) > 1 else np.zeros(grid.shape[1], np.int64)
        middle = (np.array(starts)[at] + np.array(stops)[at]) / 2
        inside &= (middle >= region[axis]) & (middle < region[axis + axes])
    return inside
