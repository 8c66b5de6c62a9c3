"""A transposed convolution of stride 1 computed as a convolution with flipped kernels."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor

from unconv.axis import kernel_extent
from unconv.ops.kernels.direct import convolve
from unconv.ops.spatial import images


def flipped(planes: Tensor, weight: Tensor, dilations: Sequence[int], first: Sequence[int], size: Sequence[int]) -> Tensor:
    """Return a transposed convolution of stride 1 that needs padding and no cropping; weight (in, out, kernel..).

    It pays where torch would first copy the weight into another order: the flipped weight is almost in torch's order.
    """
    spatial, strides, kernel = list(range(2, planes.ndim)), [1] * len(size), weight.transpose(0, 1)
    pads = []
    for n, taps, dilation, start, length in zip(planes.shape[2:], weight.shape[2:], dilations, first, size, strict=True):
        pads.append((kernel_extent(taps, dilation) - 1 - start, start + length - n))
    # Flipping the maps before and after gives the same result as flipping the kernel. Flip whichever is smaller.
    if weight.numel() > images(planes) * (prod(planes.shape[1:]) + kernel.shape[0] * prod(size)):
        mirrored = [(after, before) for before, after in pads]
        return convolve(planes.flip(spatial), kernel, mirrored, strides, dilations).flip(spatial)
    return convolve(planes, kernel.flip(spatial), pads, strides, dilations)
