"""The size of the images that a module takes, as far as the module reveals it."""

from __future__ import annotations

from typing import Any

from torch import nn

from unconv.networks.live import SIZE, input_size

_LENGTHS = {1: (16384,), 2: (224, 224), 3: (64, 64, 64)}
"""Samples along each axis if nothing else is known."""


def image_size(model: Any) -> tuple[int, ...]:
    """Return (C, samples..) of a model's images: the model's own input size, or one that its convolutions accept.

    In the second case the lengths are only usual ones: a convolution fixes the channels and axes, not the lengths.
    """
    known = input_size(model)
    if known != SIZE or not isinstance(model, nn.Module):
        return known
    channels, axes = channels_and_axes(model) or (SIZE[0], 2)
    return (channels, *_LENGTHS[axes])


def channels_and_axes(module: nn.Module) -> tuple[int, int] | None:
    """Return the numbers of channels and axes of a module's images, read from its convolutions; None if it has none.

    The first convolution registered need not be the first to run, so one with the three channels of a picture is
    preferred.
    """
    inputs = [
        (layer.in_channels, len(layer.kernel_size))
        for layer in module.modules()
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d) and layer.in_channels
    ]
    if not inputs:
        return None
    return (3, 2) if (3, 2) in inputs else inputs[0]
