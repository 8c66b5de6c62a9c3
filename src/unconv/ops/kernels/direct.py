"""torch's own convolutions, called so that they avoid what oneDNN gets wrong."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.axis import kernel_extent
from unconv.ops.arguments import refuse_large
from unconv.ops.spatial import cut

_CONVOLUTIONS = {2: F.conv2d, 3: F.conv3d}


def convolve(
    planes: Tensor,
    weight: Tensor,
    pads: Sequence[tuple[int, int]],
    strides: Sequence[int],
    dilations: Sequence[int],
    groups: int = 1,
) -> Tensor:
    """Return the convolution of (N, in, samples..) with `pads` zeros before and after; weight (out, in / groups, kernel..)."""
    # torch pads both ends alike, so what one end has more is padded beforehand. Maps that are shorter than the kernel are
    # padded beforehand too: oneDNN's gradients along three axes write outside them.
    spans = zip(weight.shape[2:], dilations, planes.shape[2:], strict=True)
    short = [kernel_extent(kernel, dilation) > n for kernel, dilation, n in spans]
    both = [0 if by_hand else min(pad) for pad, by_hand in zip(pads, short, strict=True)]
    extra = [edge - least for pad, least in zip(reversed(pads), reversed(both), strict=True) for edge in pad]
    if any(extra):
        refuse_large("conv", planes, [n + sum(extra[2 * k : 2 * k + 2]) for k, n in enumerate(reversed(planes.shape[2:]))])
        planes = F.pad(planes, extra)
    # A single product with a zero may be -0, which TensorFlow never returns because it adds to 0. A zero bias does the same.
    bias = weight.new_zeros(weight.shape[0]) if prod(weight.shape[1:]) == 1 else None
    return _CONVOLUTIONS[len(both)](planes, _differentiable(weight), bias, strides, both, dilations, groups)


def conv_transpose(
    planes: Tensor,
    weight: Tensor,
    strides: Sequence[int],
    dilations: Sequence[int],
    first: Sequence[int],
    size: Sequence[int],
    groups: int = 1,
) -> Tensor:
    """Return the transposed convolution as torch computes it; weight (in, out / groups, kernel..)."""
    # oneDNN's kernels along three axes, and its gradients, may write outside maps that are shorter than a padded kernel.
    fragile = len(size) == 3 or planes.requires_grad or weight.requires_grad
    padding, output_padding = [], []
    axes = zip(planes.shape[2:], weight.shape[2:], strides, dilations, first, size, strict=True)
    for n, kernel, stride, dilation, start, length in axes:
        extent = kernel_extent(kernel, dilation)
        surplus = (n - 1) * stride + extent - start - length  # samples beyond the end; below zero, missing zeros
        # torch's padding avoids computing samples that would be cut off. It drops the same number at both ends, so output
        # padding restores what it drops too many at the end.
        unsafe = fragile and extent > length
        pad = 0 if unsafe else max(min(start, surplus + stride - 1, extent - 1), 0)
        padding.append(pad)
        output_padding.append(max(pad - surplus, 0))
    spans = zip(planes.shape[2:], weight.shape[2:], strides, dilations, padding, output_padding, strict=True)
    full_size = [(n - 1) * s + kernel_extent(k, d) - 2 * pad + rest for n, k, s, d, pad, rest in spans]
    refuse_large("conv_transpose", planes, [planes.shape[0], weight.shape[1] * groups, *full_size])
    full = torch.convolution(planes, _differentiable(weight), None, strides, padding, dilations, True, output_padding, groups)
    return cut(full, [start - pad for start, pad in zip(first, padding, strict=True)], size)


def _differentiable(weight: Tensor) -> Tensor:
    """Return the weight in a form that torch can differentiate by: some of its kernels take no view of a single filter."""
    return weight.contiguous() if weight.shape[0] == 1 else weight
