"""The size of the images that a module takes, as far as the module tells."""

from __future__ import annotations

from typing import Any

from torch import nn

from unconv.networks.live import SIZE, input_size

_LENGTHS = {1: (16384,), 2: (224, 224), 3: (64, 64, 64)}
"""Samples along each axis, where nothing else is known."""


def image_size(model: Any) -> tuple[int, ...]:
    """Return (C, samples..) of a model's images: its own, if it says so, else those that its first convolution can take.

    The lengths are only usual ones, as no convolution tells them.
    """
    known = input_size(model)
    if known != SIZE or not isinstance(model, nn.Module):
        return known
    channels, axes = told(model) or (SIZE[0], 2)
    return (channels, *_LENGTHS[axes])


def told(module: nn.Module) -> tuple[int, int] | None:
    """Return how many channels and axes a module's images have, by its convolutions; None if it has none.

    The first that is registered need not be the first that runs: if any takes the three channels of a picture, that one
    counts.
    """
    found = [
        (each.in_channels, len(each.kernel_size))
        for each in module.modules()
        if isinstance(each, nn.Conv1d | nn.Conv2d | nn.Conv3d) and each.in_channels
    ]
    if not found:
        return None
    return (3, 2) if (3, 2) in found else found[0]
