"""Convolution as TensorFlow means it: cross-correlation, filters [kernel.., in, out], odd padding at the end."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from torch import Tensor

from unconv.axis import Axis
from unconv.errors import ShapeError, counted
from unconv.ops.arguments import Layout, axes_of, counts, layout_of, other_channels
from unconv.ops.kernels.direct import convolve
from unconv.ops.spatial import cut, nothing
from unconv.ops.values import Values, operands, takes_old_names
from unconv.ops.whole_numbers import by_parts


@takes_old_names(value="input", filter="filters", stride="strides")
def conv1d(
    input: Values, filters: Values, strides: Any, padding: Any, data_format: str = "NWC", dilations: Any = None
) -> Tensor:
    """Convolve (N, W, C) with filters [kernel, in, out]; otherwise as `conv2d`."""
    return _conv("conv1d", input, filters, strides, padding, layout_of("conv1d", data_format, 1), dilations)


@takes_old_names(value="input", filter="filters")
def conv2d(
    input: Values, filters: Values, strides: Any, padding: Any, data_format: str = "NHWC", dilations: Any = None
) -> Tensor:
    """Convolve `input` with `filters`, as a cross-correlation: no kernel is flipped.

    Args:
        input: (N, H, W, C), or (N, C, H, W) with data_format "NCHW"; floating, or int32, whose sums wrap as TensorFlow's.
        filters: [kernel height, kernel width, in, out], of the same type, except under autocast. Where `in` is smaller than C
            and divides it, this is a grouped convolution with C / in groups.
        strides: one number for all axes, one for each spatial axis, or one for each axis with 1 for batch and channels.
        padding: "SAME" makes ceil(size / stride) windows and puts the odd padded sample at the end;
            "VALID" pads nothing; or pairs (before, after) for each axis.
        dilations: samples from one tap of the kernel to the next, written as `strides`; None is 1.

    Returns:
        (N, H', W', out), or channels first if the input is. Empty where the kernel is too long for the picture by less
        than two strides.

    Raises:
        ShapeError: sizes or settings that do not fit.
        DtypeError: an argument that is not a tensor, an array or a list of numbers; or two of different types or devices.

    Source:
        `tf.nn.conv2d`, TensorFlow 2.21.

    Example:
        >>> image, kernel = torch.ones(1, 4, 4, 1), torch.tensor([[1., 0.], [-1., -2.]]).reshape(2, 2, 1, 1)
        >>> conv2d(image, kernel, strides=2, padding="VALID").flatten()
        tensor([-2., -2., -2., -2.])
    """
    return _conv("conv2d", input, filters, strides, padding, layout_of("conv2d", data_format, 2), dilations)


@takes_old_names(value="input", filter="filters")
def conv3d(
    input: Values, filters: Values, strides: Any, padding: Any, data_format: str = "NDHWC", dilations: Any = None
) -> Tensor:
    """Convolve (N, D, H, W, C) with filters [kernel.., in, out]; otherwise as `conv2d`."""
    return _conv("conv3d", input, filters, strides, padding, layout_of("conv3d", data_format, 3), dilations)


@takes_old_names(filter="filters", rate="dilations")
def depthwise_conv2d(
    input: Values, filters: Values, strides: Any, padding: Any, data_format: str = "NHWC", dilations: Any = (1, 1)
) -> Tensor:
    """Convolve each channel with its own kernels (depthwise convolution).

    Stride and dilation may both exceed 1, a case that TensorFlow computes wrongly.

    Args:
        input: (N, H, W, C), or (N, C, H, W) with data_format "NCHW"; as for `conv2d`.
        filters: [kernel height, kernel width, C, M], of the same type.
        strides, padding, dilations: as for `conv2d`.

    Returns:
        (N, H', W', C M): channel c M + m comes from channel c and its kernel m.

    Raises:
        ShapeError, DtypeError: as `conv2d`.

    Source:
        `tf.nn.depthwise_conv2d`, TensorFlow 2.21.
    """
    where = "depthwise_conv2d"
    layout = layout_of(where, data_format, 2)
    input, filters = operands(where, layout, input=input, filters=filters)
    refuse_empty_filters(where, filters)
    axes = axes_of(where, layout, filters.shape[:2], strides, padding, dilations)
    channels = input.shape[layout.channel]
    refuse_other_depth(where, filters, channels)
    weight = filters.permute(2, 3, 0, 1).reshape(-1, 1, *filters.shape[:2])
    return _windows(where, input, weight, axes, layout, groups=channels)


def refuse_other_depth(where: str, filters: Tensor, channels: int) -> None:
    """Refuse depthwise filters that do not have a kernel for each channel."""
    if filters.shape[2] != channels:
        raise ShapeError(
            f"{where}: filters {tuple(filters.shape)} are for {counted(filters.shape[2], 'channel')} (axis 2), but the input "
            f"has {channels}. Pass filters [kernel height, kernel width, channels, multiplier]."
        )


def refuse_empty_filters(where: str, filters: Tensor) -> None:
    """Refuse filters without taps, input channels or output channels."""
    if 0 in filters.shape:
        raise ShapeError(f"{where}: filters is {tuple(filters.shape)}; no length may be 0. Pass filters with values.")


def _conv(where: str, input: Values, filters: Values, strides: Any, padding: Any, layout: Layout, dilations: Any) -> Tensor:
    input, filters = operands(where, layout, input=input, filters=filters)
    refuse_empty_filters(where, filters)
    axes = axes_of(where, layout, filters.shape[:-2], strides, padding, dilations)
    channels, (depth, out) = input.shape[layout.channel], filters.shape[-2:]
    if channels % depth or out % max(channels // depth, 1) or not channels:
        raise ShapeError(
            f"{where}: the input has {counted(channels, 'channel')}, {tuple(input.shape)} in {layout.name}, but filters "
            f"{tuple(filters.shape)} take {depth} (axis -2) and give {out} (axis -1). "
            + other_channels(layout, input.shape, filters.shape)
        )
    return _windows(where, input, filters.movedim((-1, -2), (0, 1)), axes, layout, groups=channels // depth)


def _windows(where: str, input: Tensor, weight: Tensor, axes: Sequence[Axis], layout: Layout, groups: int) -> Tensor:
    """Convolve with torch's weight (out, in / groups, kernel..)."""
    windows = counts(where, layout, axes, layout.size(input.shape))
    if not all(windows):
        return nothing(layout.shape(input.shape[0], windows, weight.shape[0]), input, weight)
    taps = prod(weight.shape[1:])
    planes = layout.channels_first(input)
    return layout.back(by_parts(where, lambda x, w: _torch_conv(x, w, axes, groups), planes, weight, taps))


def _torch_conv(planes: Tensor, weight: Tensor, axes: Sequence[Axis], groups: int) -> Tensor:
    """Convolve (N, C, samples..) with torch's own kernels.

    oneDNN 3.12 (torch 2.14, AVX-512) reads and writes outside its tensors where the last axis has a stride and one window,
    and a single channel lies last in memory. With one window a stride means nothing, and without it oneDNN is right.
    """
    if len(axes) == 1:  # along one axis torch copies what is not channels first; along two it does not
        return _torch_conv(planes.unsqueeze(2), weight.unsqueeze(2), (Axis(1), *axes), groups).squeeze(2)
    axes, visible = zip(*(axis.unstrided(n) for axis, n in zip(axes, planes.shape[2:], strict=True)), strict=True)
    pads = [axis.pads(n) for axis, n in zip(axes, visible, strict=True)]
    strides, dilations = [axis.stride for axis in axes], [axis.dilation for axis in axes]
    return convolve(cut(planes, [0] * len(axes), visible), weight, pads, strides, dilations, groups)
