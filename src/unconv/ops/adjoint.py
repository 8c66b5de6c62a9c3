"""The adjoint of a convolution, by the way that is fastest for its sizes; all of them give the same.

What was measured is in docs/benchmarks.md. Zeros are never inserted: most of the work would be multiplying them.
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
    """Return (N, out, size..) from (N, in, samples..) and torch's weight (in, out / groups, kernel..).

    On the CPU, torch's own kernels are slow in three cases: filters that are larger than the map, because they are first
    put into another order; few output channels; and, for the same reason as the first, filters laid out as TensorFlow's.
    """
    if 0 in planes.shape[2:] or 0 in size:
        empty = nothing((planes.shape[0], weight.shape[1] * groups, *[0] * len(axes)), planes, weight)
        return grown(empty, (*empty.shape[:2], *size))
    refuse_large("conv_transpose", planes, [planes.shape[0], weight.shape[1] * groups, *size])
    if len(axes) == 1:  # along one axis torch copies what is not channels first; along two it does not
        return adjoint(planes.unsqueeze(2), weight.unsqueeze(2), (Axis(1), *axes), (1, *size), groups).squeeze(2)
    axes, seen = zip(*(axis.unstrided(large) for axis, large in zip(axes, size, strict=True)), strict=True)
    if seen != tuple(size):
        part = adjoint(planes, weight, axes, seen, groups)
        return grown(part, (*part.shape[:2], *size))
    first = [axis.pads(large)[0] for axis, large in zip(axes, size, strict=True)]
    strides, dilations = [axis.stride for axis in axes], [axis.dilation for axis in axes]
    if not planes.is_cpu or groups > 1:
        return conv_transpose(planes, weight, strides, dilations, first, size, groups)
    # A GEMM reads the weight once, as it lies. A dense kernel is worth more
    # channels than a strided one, since `flipped` below is quick too. In half precision the products would be rounded
    # before they are added up, and digits would be lost.
    dense = all(stride == 1 for stride in strides)
    positions, channels = images(planes) * prod(planes.shape[2:]), planes.shape[1]
    if planes.dtype in (torch.float32, torch.float64) and positions * (4 if dense else 2) <= channels:
        return gemm_col2im(planes, weight, strides, dilations, first, size)
    if dense and all(min(axis.transposed_pads(large)) >= 0 for axis, large in zip(axes, size, strict=True)):
        made = flipped(planes, weight, dilations, first, size)
    elif weight.shape[1] <= 4 and has_even_phases(axes, size):
        made = sub_pixel(planes, sub_pixel_kernels(weight, strides), strides, first, size)
    else:
        made = None
    if made is None or _is_lost(made, weight):
        made = conv_transpose(planes, input_first(weight), strides, dilations, first, size)
    return made


def _is_lost(made: Tensor, weight: Tensor) -> bool:
    """Say whether padding may have met a weight that is not finite: 0 times infinity is NaN, where no sample of ours was.

    What is smaller is looked at, the result or the weight: one pass over little.
    """
    # A CUDA graph that is being recorded may not be asked for a number.
    if traced(made, weight) or (made.is_cuda and torch.cuda.is_current_stream_capturing()):
        return False
    smaller = made if made.numel() < weight.numel() else weight
    return not isfinite(smaller.detach().sum(dtype=torch.promote_types(smaller.dtype, torch.float32)).item())


def has_even_phases(axes: Sequence[Axis], size: Sequence[int]) -> bool:
    """Say whether every phase of the strides has as many taps.

    If zeros filled up the others, an infinite sample would make NaN of its neighbours.
    """
    return any(axis.stride > 1 for axis in axes) and all(
        axis.dilation == 1 and axis.kernel % axis.stride == 0 and not axis.rest(large)
        for axis, large in zip(axes, size, strict=True)
    )


def input_first(weight: Tensor) -> Tensor:
    """Lay out a large weight with its input channels slowest in memory; a small one stays as it is.

    That is one plain transposition of the filters as TensorFlow has them, where torch would copy sample by sample.
    """
    if weight.is_contiguous() or weight.numel() < 2**20:
        return weight
    taps = weight.movedim((0, 1), (-1, -2))
    ordered = taps.flatten(0, -2).mT.contiguous()
    return ordered.view(weight.shape[0], *taps.shape[:-1]).movedim(-1, 1)
