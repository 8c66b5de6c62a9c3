"""The adjoint of a convolution, computed in the way that is fastest for its sizes. All ways give the same result.

The measurements are in docs/benchmarks.md. No way inserts zeros between the samples: most of the work would be
multiplications by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, prod

import torch
from torch import Tensor

from unconv.axis import Axis
from unconv.ops.arguments import refuse_large
from unconv.ops.kernels.direct import conv_transpose
from unconv.ops.kernels.flipped import flipped
from unconv.ops.kernels.gemm_col2im import gemm_col2im
from unconv.ops.kernels.sub_pixel import sub_pixel, sub_pixel_kernels
from unconv.ops.spatial import grown, images, nothing, traced


def adjoint(planes: Tensor, weight: Tensor, axes: Sequence[Axis], size: Sequence[int], groups: int = 1) -> Tensor:
    """Return the transposed convolution (N, out, size..) of (N, in, samples..); weight (in, out / groups, kernel..).

    On the CPU, torch's own kernels are slow in three cases: filters that are larger than the map, because torch first
    copies them into another order; few output channels; and filters in TensorFlow's memory order, which are copied too.
    """
    if 0 in planes.shape[2:] or 0 in size:
        empty = nothing((planes.shape[0], weight.shape[1] * groups, *[0] * len(axes)), planes, weight)
        return grown(empty, (*empty.shape[:2], *size))
    refuse_large("conv_transpose", planes, [planes.shape[0], weight.shape[1] * groups, *size])
    if len(axes) == 1:  # along one axis torch copies what is not channels first; along two it does not
        return adjoint(planes.unsqueeze(2), weight.unsqueeze(2), (Axis(1), *axes), (1, *size), groups).squeeze(2)
    # A stride without a second window means nothing, and oneDNN gets it wrong (see `ops.conv`). Drop it, compute what the
    # window can see, and fill up the rest with zeros.
    axes, visible = zip(*(axis.unstrided(large) for axis, large in zip(axes, size, strict=True)), strict=True)
    if visible != tuple(size):
        part = adjoint(planes, weight, axes, visible, groups)
        return grown(part, (*part.shape[:2], *size))
    first = [axis.pads(large)[0] for axis, large in zip(axes, size, strict=True)]
    strides, dilations = [axis.stride for axis in axes], [axis.dilation for axis in axes]
    if not planes.is_cpu or groups > 1:
        return conv_transpose(planes, weight, strides, dilations, first, size, groups)
    # GEMM + col2im reads the weight once, in the order it has in memory. With stride 1 it pays only for more channels per
    # position, because `flipped` below is quick too. Half precision is left out: each product would be rounded before the
    # products are added up, and digits would be lost.
    dense = all(stride == 1 for stride in strides)
    positions, channels = images(planes) * prod(planes.shape[2:]), planes.shape[1]
    if planes.dtype in (torch.float32, torch.float64) and positions * (4 if dense else 2) <= channels:
        return gemm_col2im(planes, weight, strides, dilations, first, size)
    if dense and all(min(axis.transposed_pads(large)) >= 0 for axis, large in zip(axes, size, strict=True)):
        result = flipped(planes, weight, dilations, first, size)
    elif weight.shape[1] <= 4 and has_even_phases(axes, size):
        result = sub_pixel(planes, sub_pixel_kernels(weight, strides), strides, first, size)
    else:
        result = None
    # Both ways above multiply padding by the weight. Where that made NaN, torch's own kernel computes the result again.
    if result is None or _may_have_met_infinity(result, weight):
        result = conv_transpose(planes, input_first(weight), strides, dilations, first, size)
    return result


def _may_have_met_infinity(result: Tensor, weight: Tensor) -> bool:
    """Return whether padding may have met a weight that is not finite: 0 times infinity is NaN where no sample reaches.

    The check sums the result or the weight, whichever is smaller, so that it costs one short pass.
    """
    # No value may be read back while a CUDA graph is being recorded.
    if traced(result, weight) or (result.is_cuda and torch.cuda.is_current_stream_capturing()):
        return False
    smaller = result if result.numel() < weight.numel() else weight
    return not isfinite(smaller.detach().sum(dtype=torch.promote_types(smaller.dtype, torch.float32)).item())


def has_even_phases(axes: Sequence[Axis], size: Sequence[int]) -> bool:
    """Return whether every phase of the strides has the same number of taps, as sub-pixel convolution needs.

    Zeros could fill up the shorter phases, but an infinite sample times such a zero would turn its neighbours into NaN.
    """
    return any(axis.stride > 1 for axis in axes) and all(
        axis.dilation == 1 and axis.kernel % axis.stride == 0 and not axis.rest(large)
        for axis, large in zip(axes, size, strict=True)
    )


def input_first(weight: Tensor) -> Tensor:
    """Return the weight with its input channels slowest in memory; a small weight stays as it is.

    For filters in TensorFlow's order this is one plain matrix transposition, where torch would copy sample by sample.
    """
    if weight.is_contiguous() or weight.numel() < 2**20:
        return weight
    taps = weight.movedim((0, 1), (-1, -2))
    ordered = taps.flatten(0, -2).mT.contiguous()
    return ordered.view(weight.shape[0], *taps.shape[:-1]).movedim(-1, 1)
