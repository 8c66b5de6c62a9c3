"""The adjoint of a convolution, by the way that is fastest for its sizes; all of them give the same.

What was measured is in docs/benchmarks.md. Zeros are never inserted: most of the work would be multiplying them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.axis import Axis
from unconv.ops.conv import cut, differentiable, grown, nothing, padded_conv

_TRANSPOSED = {2: F.conv_transpose2d, 3: F.conv_transpose3d}


def adjoint(planes: Tensor, weight: Tensor, axes: Sequence[Axis], size: Sequence[int], groups: int = 1) -> Tensor:
    """(N, out, size..) from (N, in, samples..) and torch's weight (in, out / groups, kernel..).

    On the CPU, torch's own kernels are slow in three cases: filters that are larger than the map, because they are first
    put into another order; few output channels; and, for the same reason as the first, filters laid out as TensorFlow's.
    """
    if 0 in planes.shape[2:] or 0 in size:
        made = nothing((len(planes), weight.shape[1] * groups, *[0] * len(axes)), planes, weight)
        return grown(made, (*made.shape[:2], *size))
    if len(axes) == 1:  # along one axis torch copies what is not channels first; along two it does not
        return adjoint(planes.unsqueeze(2), weight.unsqueeze(2), (Axis(1), *axes), (1, *size), groups).squeeze(2)
    axes, seen = zip(*(axis.unstrided(large) for axis, large in zip(axes, size, strict=True)), strict=True)
    if seen != tuple(size):
        made = adjoint(planes, weight, axes, seen, groups)
        return grown(made, (*made.shape[:2], *size))
    if not planes.is_cpu or groups > 1:
        return _by_torch(planes, weight, axes, size, groups)
    dense = all(axis.stride == 1 for axis in axes)
    positions, channels = prod(planes.shape) // planes.shape[1], planes.shape[1]
    exact = planes.dtype in (torch.float32, torch.float64)  # sums of rounded products would lose digits
    if exact and positions * (4 if dense else 2) <= channels:
        return _by_products(planes, weight, axes, size)
    if dense and all(before >= 0 and after >= 0 for before, after in _transposed_pads(axes, size)):
        return _by_flipping(planes, weight, axes, size)
    if weight.shape[1] <= 4 and _has_even_phases(axes, size):
        return _by_phases(planes, weight, axes, size)
    return _by_torch(planes, _input_first(weight), axes, size)


def _by_torch(planes: Tensor, weight: Tensor, axes: Sequence[Axis], size: Sequence[int], groups: int = 1) -> Tensor:
    """torch's transposed convolution, and what of it is ours."""
    settings = [axis.torch_settings(large, axis.extent > large) for axis, large in zip(axes, size, strict=True)]
    padding, more, first = zip(*settings, strict=True)
    strides, dilations = [axis.stride for axis in axes], [axis.dilation for axis in axes]
    made = _TRANSPOSED[len(axes)](planes, differentiable(weight), None, strides, padding, more, groups, dilations)
    return cut(made, first, size)


def _input_first(weight: Tensor) -> Tensor:
    """A large weight with its input channels slowest in memory: one plain transposition of the filters as TensorFlow
    has them, where torch would copy sample by sample."""
    if weight.is_contiguous() or weight.numel() < 2**20:
        return weight
    taps = weight.movedim((0, 1), (-1, -2))
    ordered = taps.flatten(0, -2).mT.contiguous()
    return ordered.view(len(weight), *taps.shape[:-1]).movedim(-1, 1)


def _by_flipping(planes: Tensor, weight: Tensor, axes: Sequence[Axis], size: Sequence[int]) -> Tensor:
    """For stride 1: the convolution with flipped kernels, whose weight is already almost as torch wants it.

    Where the weight is larger than the maps, these are flipped in its stead, before and after: that comes to the same.
    """
    turned, strides, pads = list(range(2, 2 + len(axes))), [1] * len(axes), _transposed_pads(axes, size)
    kernel = weight.transpose(0, 1)
    if weight.numel() > planes.numel() + len(planes) * len(kernel) * prod(size):
        mirrored = [(after, before) for before, after in pads]
        return padded_conv(planes.flip(turned), kernel, axes, mirrored, strides).flip(turned)
    return padded_conv(planes, kernel.flip(turned), axes, pads, strides)


def _transposed_pads(axes: Sequence[Axis], size: Sequence[int]) -> list[tuple[int, int]]:
    return [axis.transposed_pads(large) for axis, large in zip(axes, size, strict=True)]


def _has_even_phases(axes: Sequence[Axis], size: Sequence[int]) -> bool:
    """Whether every phase of the strides has as many taps. Filled up with zeros instead, an infinite sample would make NaN
    of its neighbours."""
    return any(axis.stride > 1 for axis in axes) and all(
        axis.dilation == 1 and axis.kernel % axis.stride == 0 and not axis.rest(large)
        for axis, large in zip(axes, size, strict=True)
    )


def _by_products(planes: Tensor, weight: Tensor, axes: Sequence[Axis], size: Sequence[int]) -> Tensor:
    """A matrix product for each tap of the kernel, added to where the tap falls.

    Pays where the map has fewer positions than channels: the filters are used as they lie.
    """
    taps = weight.movedim((0, 1), (-1, -2))
    rows, lengths = planes.movedim(1, -1), planes.shape[2:]
    parts = rows.reshape(-1, rows.shape[-1]) @ taps.reshape(-1, *taps.shape[-2:]).mT
    pads = [axis.pads(large)[0] for axis, large in zip(axes, size, strict=True)]
    room = [max(axis.span(n), pad + s) for axis, n, pad, s in zip(axes, lengths, pads, size, strict=True)]
    whole = parts.new_zeros(len(rows), *room, parts.shape[-1])
    for part, tap in zip(parts, product(*(range(axis.kernel) for axis in axes)), strict=True):
        starts = [t * axis.dilation for t, axis in zip(tap, axes, strict=True)]
        spans = zip(starts, axes, lengths, strict=True)
        where = [slice(start, start + (n - 1) * axis.stride + 1, axis.stride) for start, axis, n in spans]
        whole[(slice(None), *where)] += part.view(*rows.shape[:-1], whole.shape[-1])
    return cut(whole.movedim(-1, 1), pads, size)


def _by_phases(planes: Tensor, weight: Tensor, axes: Sequence[Axis], size: Sequence[int]) -> Tensor:
    """A convolution of stride 1 that makes, as channels, the samples of each phase of the stride; then interleaved.

    Pays where there are few output channels: they leave most lanes of a vector register empty, the phases fill them.

    Source:
        Shi et al., "Is the deconvolution layer the same as a convolutional layer?" (2016), arXiv 1609.07009.
    """
    count, strides = len(axes), [axis.stride for axis in axes]
    parts = [axis.kernel // axis.stride for axis in axes]
    split = weight.reshape(*weight.shape[:2], *(n for pair in zip(parts, strides, strict=True) for n in pair))
    phases = split.permute(1, *range(3, 3 + 2 * count, 2), 0, *range(2, 2 + 2 * count, 2))
    kernels = phases.reshape(-1, len(weight), *parts).flip(list(range(2, 2 + count)))
    made = padded_conv(planes, kernels, [Axis(part) for part in parts], [(part - 1,) * 2 for part in parts], [1] * count)
    lengths = made.shape[2:]
    made = made.view(len(made), -1, *strides, *lengths)
    made = made.permute(0, 1, *(axis for i in range(count) for axis in (2 + count + i, 2 + i)))
    whole = made.reshape(*made.shape[:2], *(n * stride for n, stride in zip(lengths, strides, strict=True)))
    return cut(whole, [axis.pads(large)[0] for axis, large in zip(axes, size, strict=True)], size)
