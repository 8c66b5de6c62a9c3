"""Do other channels at the same place, and a random seed there, give the same picture?

Source:
    Nie et al., "A Theoretical Explanation for Perplexing Behaviors of Backpropagation-based Visualizations" (2018).
"""

from __future__ import annotations

import torch

from unconv.reverse.reconstruction import Reconstructions
from unconv.reverse.trust.sending import cosine, position, send
from unconv.reverse.walking.stream import Units

_OTHERS = 16  # channels compared


def other_units(units: Units, index: int, projections: Reconstructions) -> tuple[float, int, float]:
    """Return the mean cosine with other channels' projections at a unit's position, their number, and a random seed's."""
    count = len(units.seeds.activation)
    others = torch.linspace(0, count - 1, min(count, _OTHERS + 1)).round().long().unique()
    others = others[others != units.seeds.channels[index]][:_OTHERS]
    seeds = torch.zeros(len(others) + 1, count, dtype=units.route.dtype)
    seeds[torch.arange(len(others)), others] = 1.0
    seeds[-1] = torch.rand(count, generator=torch.Generator().manual_seed(index), dtype=torch.float64)
    if float(units.seeds.values[index]) < 0:  # a rectifier treats a negative seed differently
        seeds = -seeds
    arrived = send(units.route, seeds, position(units, index), units.boxes[index])
    *likenesses, random = [cosine(signal, projections.windows[index]) for signal in arrived]
    mean = sum(likenesses) / len(likenesses) if likenesses else float("nan")
    return mean, len(likenesses), random
