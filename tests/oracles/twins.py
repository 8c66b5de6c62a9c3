"""Whether two networks are one: the same image, the same units, the same projections."""

from __future__ import annotations

import torch
from torch import nn

import unconv


def assert_twins(network, twin, image, places, methods=("deconvnet", "gradient")):
    """`network`'s projections from each place are those of the module `twin`, to 1e-5 of the largest sample.

    Args:
        places: of each place in `network`, its name in `twin`.
    """
    other = unconv.Network(twin, input_size=tuple(image.shape[-3:]))
    for place, name in places.items():
        for method in methods:
            ours = network.project(image, place, "top:3", method=method)
            theirs = other.project(image, name, "top:3", method=method)
            largest = theirs.pixels().abs().max()
            assert largest > 0
            assert (ours.pixels() - theirs.pixels()).abs().max() <= 1e-5 * largest, (place, method)


def lived_in(module, seed=3):
    """The module in evaluation mode, with statistics in its batch norms as if it had been trained."""
    torch.manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.uniform_(part.bias, -0.3, 0.3)
            nn.init.uniform_(part.running_mean, -0.3, 0.3)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
    return module.eval()
