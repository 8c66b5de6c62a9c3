"""How strong the noise is, from what was observed alone."""

from __future__ import annotations

from torch import Tensor


def estimate_noise(observed: Tensor, axes: int = 2) -> float:
    """The standard deviation of white noise, from the finest diagonal differences (Haar) by their median.

    Source:
        Donoho & Johnstone, "Ideal spatial adaptation by wavelet shrinkage" (1994), sec. 4.2.
    """
    finest = observed
    for axis in range(-axes, 0):
        pairs = finest.unfold(axis, 2, 2)
        finest = (pairs[..., 0] - pairs[..., 1]) / 2**0.5
    return float(finest.abs().median()) / 0.6745
