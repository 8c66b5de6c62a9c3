"""Transposed convolution as TensorFlow means it: the adjoint of the convolution with the same settings.

It gives back the shape, not the values: an adjoint is not an inverse.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from unconv.errors import ShapeError
from unconv.ops.arguments import (
    Layout,
    axes_of,
    floats,
    layout_of,
    legal_size,
    refuse_other_batch,
    shape_argument,
    transposed_size,
)
from unconv.ops.conv import grown, nothing, refuse_empty_filters, refuse_other_depth
from unconv.shapes import Axis

_CONVOLUTIONS = {2: F.conv_transpose2d, 3: F.conv_transpose3d}
_STRIDE_1 = {2: F.conv2d, 3: F.conv3d}


def conv1d_transpose(
    input: Tensor,
    filters: Tensor,
    output_shape: Any,
    strides: Any,
    padding: Any = "SAME",
    data_format: str = "NWC",
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """The adjoint of `conv1d`, for (N, W, C) and filters [kernel, out, in]; otherwise as `conv2d_transpose`."""
    layout = layout_of("conv1d_transpose", data_format, 1)
    return _transposed("conv1d_transpose", input, filters, output_shape, strides, padding, layout, dilations)


def conv2d_transpose(
    input: Tensor,
    filters: Tensor,
    output_shape: Any,
    strides: Any,
    padding: Any = "SAME",
    data_format: str = "NHWC",
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """The adjoint of `conv2d` with the same filters and settings, from its result's shape back to `output_shape`.

    Several sizes lead to one size under a strided convolution, so `output_shape` must say which is
    meant. Under "SAME" another size also shifts the result, because the padding is computed from it.

    Args:
        input: (N, H, W, in), or (N, in, H, W) with data_format "NCHW"; floating.
        filters: [kernel height, kernel width, out, in], of the same type: out before in, as in the
            convolution that this one is the adjoint of.
        output_shape: (N, H', W', out) in the order of `data_format`; `legal_output_sizes` tells which are
            possible.
        strides, padding, dilations: those of the convolution, as for `conv2d`.
        name: ignored; TensorFlow has it.

    Returns:
        A tensor of `output_shape`.

    Raises:
        ShapeError: sizes or settings that do not fit; an impossible size is named with its axis, with all
            sizes that are possible and the formula.
        DtypeError: not tensors, or not of one floating type and device.

    Source:
        `tf.nn.conv2d_transpose`, TensorFlow 2.21.

    Example:
        >>> x, w = torch.tensor([1., 2., 3.]).reshape(1, 1, 3, 1), torch.tensor([1., 10., 100.]).reshape(1, 3, 1, 1)
        >>> conv2d_transpose(x, w, (1, 1, 6, 1), strides=(1, 2)).flatten()
        tensor([  1.,  10., 102.,  20., 203.,  30.])
        >>> conv2d_transpose(x, w, (1, 1, 5, 1), strides=(1, 2)).flatten()
        tensor([ 10., 102.,  20., 203.,  30.])
    """
    layout = layout_of("conv2d_transpose", data_format, 2)
    return _transposed("conv2d_transpose", input, filters, output_shape, strides, padding, layout, dilations)


def conv3d_transpose(
    input: Tensor,
    filters: Tensor,
    output_shape: Any,
    strides: Any,
    padding: Any = "SAME",
    data_format: str = "NDHWC",
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """The adjoint of `conv3d`, for (N, D, H, W, C) and filters [kernel.., out, in]; otherwise as `conv2d_transpose`."""
    layout = layout_of("conv3d_transpose", data_format, 3)
    return _transposed("conv3d_transpose", input, filters, output_shape, strides, padding, layout, dilations)


def depthwise_conv2d_backprop_input(
    input_sizes: Any,
    filters: Tensor,
    out_backprop: Tensor,
    strides: Any,
    padding: Any,
    data_format: str = "NHWC",
    dilations: Any = None,
) -> Tensor:
    """The adjoint of `depthwise_conv2d` with the same filters and settings.

    Args:
        input_sizes: (N, H, W, C) of the convolution's input, in the order of `data_format`.
        filters: [kernel height, kernel width, C, M].
        out_backprop: (N, H', W', C M), of the same type.
        strides, padding, dilations: those of the convolution.

    Returns:
        A tensor of shape `input_sizes`.

    Raises:
        ShapeError, DtypeError: as `conv2d_transpose`.

    Source:
        `tf.nn.depthwise_conv2d_backprop_input`, TensorFlow 2.21.
    """
    where = "depthwise_conv2d_backprop_input"
    layout = layout_of(where, data_format, 2)
    floats(where, layout, out_backprop=out_backprop, filters=filters)
    refuse_empty_filters(where, filters)
    axes = axes_of(where, layout, filters.shape[:2], strides, padding, dilations)
    shape = shape_argument(where, "input_sizes", input_sizes, layout)
    channels, multiplier = filters.shape[2:]
    refuse_other_depth(where, filters, shape[layout.channel])
    if out_backprop.shape[layout.channel] != channels * multiplier:
        raise ShapeError(
            f"{where}: out_backprop has {out_backprop.shape[layout.channel]} channels, {tuple(out_backprop.shape)} in "
            f"{layout.name}, but filters {tuple(filters.shape)} make {channels} × {multiplier} = {channels * multiplier}. "
            "Pass the filters of the convolution being reversed."
        )
    refuse_other_batch(where, "input_sizes", shape, "out_backprop", out_backprop.shape)
    size = legal_size(where, "input_sizes", layout, axes, layout.size(out_backprop.shape), shape)
    weight = filters.permute(2, 3, 0, 1).reshape(-1, 1, *filters.shape[:2])
    return layout.back(_adjoint(layout.channels_first(out_backprop), weight, axes, size, groups=channels))


def _transposed(
    where: str,
    input: Tensor,
    filters: Tensor,
    output_shape: Any,
    strides: Any,
    padding: Any,
    layout: Layout,
    dilations: Any,
) -> Tensor:
    floats(where, layout, input=input, filters=filters)
    refuse_empty_filters(where, filters)
    axes = axes_of(where, layout, filters.shape[:-2], strides, padding, dilations)
    return transposed(where, input, filters, axes, shape_argument(where, "output_shape", output_shape, layout), layout)


def transposed(
    where: str, input: Tensor, filters: Tensor, axes: Sequence[Axis], shape: Sequence[int], layout: Layout
) -> Tensor:
    """The transposed convolution to `shape`, once its settings are read; what does not fit is refused."""
    size = transposed_size(where, layout, axes, input.shape, filters.shape, shape)
    weight = filters.movedim((-1, -2), (0, 1))
    return layout.back(_adjoint(layout.channels_first(input), weight, axes, size))


def _adjoint(planes: Tensor, weight: Tensor, axes: Sequence[Axis], size: Sequence[int], groups: int = 1) -> Tensor:
    """From (N, C, samples..) with torch's weight (in, out / groups, kernel..) to (N, out, size..), the fastest way there is."""
    if 0 in planes.shape[2:] or 0 in size:
        made = nothing((len(planes), weight.shape[1] * groups, *[0] * len(axes)), planes, weight)
        return grown(made, (*made.shape[:2], *size))
    if len(axes) == 1:  # along one axis torch copies what is not channels first; along two it does not
        return _adjoint(planes.unsqueeze(2), weight.unsqueeze(2), (Axis(1), *axes), (1, *size), groups).squeeze(2)
    if planes.device.type == "cpu" and groups == 1:
        if prod(planes.shape) <= planes.shape[1] ** 2:
            return _by_products(planes, weight, axes, size)
        if weight.shape[1] <= 4 and _has_even_phases(axes, size):
            return _by_phases(planes, weight, axes, size)
    return _by_torch(planes, weight, axes, size, groups)


def _by_torch(planes: Tensor, weight: Tensor, axes: Sequence[Axis], size: Sequence[int], groups: int = 1) -> Tensor:
    """torch's transposed convolution, and what of it is ours."""
    settings = [axis.torch_settings(large) for axis, large in zip(axes, size, strict=True)]
    padding, more, first = zip(*settings, strict=True)
    strides, dilations = [axis.stride for axis in axes], [axis.dilation for axis in axes]
    made = _CONVOLUTIONS[len(axes)](planes, weight, None, strides, padding, more, groups, dilations)
    return _cut(made, first, size)


def _has_even_phases(axes: Sequence[Axis], size: Sequence[int]) -> bool:
    """Whether every phase of the strides has as many taps. Filled up with zeros instead, an infinite sample would make NaN
    of its neighbours."""
    return any(axis.stride > 1 for axis in axes) and all(
        axis.dilation == 1 and axis.kernel % axis.stride == 0 and not axis.rest(large)
        for axis, large in zip(axes, size, strict=True)
    )


def _by_products(planes: Tensor, weight: Tensor, axes: Sequence[Axis], size: Sequence[int]) -> Tensor:
    """A matrix product for each tap of the kernel, added to where the tap falls.

    Pays where the map has fewer positions than channels, so that bringing the filters into the order that
    torch's kernels want would cost as much as the work itself.
    """
    taps = weight.movedim((0, 1), (-1, -2))
    rows = planes.movedim(1, -1)
    parts = rows.reshape(-1, rows.shape[-1]) @ taps.reshape(-1, *taps.shape[-2:]).mT
    pads = [axis.pads(large)[0] for axis, large in zip(axes, size, strict=True)]
    room = [max(axis.span(n), pad + s) for axis, n, pad, s in zip(axes, rows.shape[1:], pads, size, strict=False)]
    whole = parts.new_zeros(len(rows), *room, parts.shape[-1])
    for part, tap in zip(parts, product(*(range(axis.kernel) for axis in axes)), strict=True):
        starts = [t * axis.dilation for t, axis in zip(tap, axes, strict=True)]
        spans = zip(starts, axes, rows.shape[1:], strict=False)
        where = [slice(start, start + (n - 1) * axis.stride + 1, axis.stride) for start, axis, n in spans]
        whole[(slice(None), *where)] += part.view(*rows.shape[:-1], whole.shape[-1])
    return _cut(whole.movedim(-1, 1), pads, size)


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
    made = _STRIDE_1[count](planes, kernels, padding=[part - 1 for part in parts])
    lengths = made.shape[2:]
    made = made.view(len(made), -1, *strides, *lengths)
    made = made.permute(0, 1, *(axis for i in range(count) for axis in (2 + count + i, 2 + i)))
    whole = made.reshape(*made.shape[:2], *(n * stride for n, stride in zip(lengths, strides, strict=True)))
    return _cut(whole, [axis.pads(large)[0] for axis, large in zip(axes, size, strict=True)], size)


def _cut(planes: Tensor, first: Sequence[int], size: Sequence[int]) -> Tensor:
    """`size` samples from `first` on, along the spatial axes."""
    parts: tuple[Any, ...] = tuple(slice(start, start + n) for start, n in zip(first, size, strict=True))
    return planes[(..., *parts)]
