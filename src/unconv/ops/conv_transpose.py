"""Transposed convolution as TensorFlow means it: the adjoint of the convolution with the same settings.

It restores the shape, not the values: an adjoint is not an inverse.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from torch import Tensor

from unconv.axis import Axis
from unconv.errors import ShapeError, counted
from unconv.ops.adjoint import adjoint
from unconv.ops.arguments import (
    Layout,
    axes_of,
    layout_of,
    legal_size,
    refuse_other_batch,
    shape_argument,
    transposed_size,
)
from unconv.ops.conv import refuse_empty_filters, refuse_other_depth
from unconv.ops.values import Values, operands, takes_old_names
from unconv.ops.whole_numbers import by_parts


@takes_old_names(value="input", filter="filters")
def conv1d_transpose(
    input: Values,
    filters: Values,
    output_shape: Any,
    strides: Any,
    padding: Any = "SAME",
    data_format: str = "NWC",
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """Return the transposed convolution of (N, W, C) with filters [kernel, out, in]; otherwise as `conv2d_transpose`."""
    layout = layout_of("conv1d_transpose", data_format, 1)
    return _conv_transpose("conv1d_transpose", input, filters, output_shape, strides, padding, layout, dilations)


@takes_old_names(value="input", filter="filters")
def conv2d_transpose(
    input: Values,
    filters: Values,
    output_shape: Any,
    strides: Any,
    padding: Any = "SAME",
    data_format: str = "NHWC",
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """Return the transposed convolution of `input`: the adjoint of `conv2d` with the same filters and settings.

    A strided convolution takes several sizes to the same size, so `output_shape` must say which of them is meant. Under
    "SAME" another size also shifts the result, because the padding is computed from it.

    Args:
        input: (N, H, W, in), or (N, in, H, W) with data_format "NCHW"; floating, or int32, as for `conv2d`.
        filters: [kernel height, kernel width, out, in], of the same type, except under autocast. `out` comes before
            `in`: these are the same filters as the convolution's.
        output_shape: (N, H', W', out) in the order of `data_format`; `legal_output_sizes` lists the possible ones.
        strides, padding, dilations: those of the convolution, as for `conv2d`.
        name: ignored, and taken because TensorFlow has it.

    Returns:
        A tensor of `output_shape`.

    Raises:
        ShapeError: sizes or settings that do not fit. For an impossible size, the message names its axis, all possible
            sizes and their formula.
        DtypeError: as `conv2d`.

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
    return _conv_transpose("conv2d_transpose", input, filters, output_shape, strides, padding, layout, dilations)


@takes_old_names(value="input", filter="filters")
def conv3d_transpose(
    input: Values,
    filters: Values,
    output_shape: Any,
    strides: Any,
    padding: Any = "SAME",
    data_format: str = "NDHWC",
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """Return the transposed convolution of (N, D, H, W, C), filters [kernel.., out, in]; otherwise as `conv2d_transpose`."""
    layout = layout_of("conv3d_transpose", data_format, 3)
    return _conv_transpose("conv3d_transpose", input, filters, output_shape, strides, padding, layout, dilations)


@takes_old_names(filter="filters")
def depthwise_conv2d_backprop_input(
    input_sizes: Any,
    filters: Values,
    out_backprop: Values,
    strides: Any,
    padding: Any,
    data_format: str = "NHWC",
    dilations: Any = None,
) -> Tensor:
    """Return the transposed depthwise convolution: the adjoint of `depthwise_conv2d` with the same filters and settings.

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
    out_backprop, filters = operands(where, layout, out_backprop=out_backprop, filters=filters)
    refuse_empty_filters(where, filters)
    axes = axes_of(where, layout, filters.shape[:2], strides, padding, dilations)
    shape = shape_argument(where, "input_sizes", input_sizes, layout)
    channels, multiplier = filters.shape[2:]
    refuse_other_depth(where, filters, shape[layout.channel])
    if out_backprop.shape[layout.channel] != channels * multiplier:
        words = counted(out_backprop.shape[layout.channel], "channel")
        raise ShapeError(
            f"{where}: out_backprop has {words}, {tuple(out_backprop.shape)} in {layout.name}, but filters "
            f"{tuple(filters.shape)} give {channels} × {multiplier} = {channels * multiplier}. "
            "Pass the filters of the convolution being reversed."
        )
    refuse_other_batch(where, "input_sizes", shape, "out_backprop", out_backprop.shape)
    size = legal_size(where, "input_sizes", layout, axes, layout.size(out_backprop.shape), shape)
    # A depthwise convolution is a grouped one with a group for each channel; torch's weight is (C M, 1, kernel..).
    weight = filters.permute(2, 3, 0, 1).reshape(-1, 1, *filters.shape[:2])
    planes = layout.channels_first(out_backprop)
    taps = multiplier * prod(weight.shape[2:])
    return layout.back(by_parts(where, lambda y, w: adjoint(y, w, axes, size, groups=channels), planes, weight, taps))


def _conv_transpose(
    where: str,
    input: Values,
    filters: Values,
    output_shape: Any,
    strides: Any,
    padding: Any,
    layout: Layout,
    dilations: Any,
) -> Tensor:
    input, filters = operands(where, layout, input=input, filters=filters)
    refuse_empty_filters(where, filters)
    axes = axes_of(where, layout, filters.shape[:-2], strides, padding, dilations)
    return transposed(where, input, filters, axes, shape_argument(where, "output_shape", output_shape, layout), layout)


def transposed(
    where: str, input: Tensor, filters: Tensor, axes: Sequence[Axis], shape: Sequence[int], layout: Layout
) -> Tensor:
    """Return the transposed convolution of size `shape` from settings that are read already; refuse what does not fit."""
    size = transposed_size(where, layout, axes, input.shape, filters.shape, shape)
    weight = filters.movedim((-1, -2), (0, 1))
    planes, taps = layout.channels_first(input), weight.shape[0] * prod(weight.shape[2:])
    return layout.back(by_parts(where, lambda x, w: adjoint(x, w, axes, size), planes, weight, taps))
