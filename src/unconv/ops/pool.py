"""Pooling as TensorFlow means it: padding is never a maximum and never counted in an average."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.axis import Axis, pool_divisor, pool_length
from unconv.errors import DtypeError, ShapeError
from unconv.ops.arguments import (
    FLOATS,
    WHOLE,
    Layout,
    axes_of,
    counts,
    dense_tensors,
    layout_of,
    per_axis,
    refuse_large,
    refuse_no_truth,
)
from unconv.ops.spatial import nothing, traced
from unconv.ops.values import Values, as_tensors, takes_old_names
from unconv.ops.whole_numbers import in_order, signed

_MAXIMA = {2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGES = {2: F.avg_pool2d, 3: F.avg_pool3d}
_INDICES = {torch.int32: torch.int32, torch.int64: torch.int64, "int32": torch.int32, "int64": torch.int64}


@takes_old_names(value="input", Targmax="output_dtype")
def max_pool_with_argmax(
    input: Values,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str = "NHWC",
    output_dtype: torch.dtype | str = torch.int64,
    include_batch_in_index: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return the maximum of each window and its index in the input (max pooling with argmax).

    Among equal samples the first in row-major order wins. As in TensorFlow, NaN is skipped, except where it is a window's
    first sample: there the result is NaN.

    Args:
        input: (N, H, W, C), floating or integers of any type; with another `data_format` (N, C, H, W), or one or three
            spatial axes.
        ksize, strides: one number for all axes, one for each spatial axis, or one for each axis with 1 for batch and
            channels.
        padding: "SAME", "VALID" or pairs (before, after), each smaller than the window.
        output_dtype: the type of the indices, torch.int64 or torch.int32.
        include_batch_in_index: count the indices through the entire batch.

    Returns:
        (output, argmax), both (N, H', W', C) in the order of `data_format`. An index counts the samples of one image with
        its channels last, whatever the layout: (y W + x) C + c. With `include_batch_in_index`, b H W C is added.

    Raises:
        ShapeError: sizes or settings that do not fit; more samples than the indices' type can count.
        DtypeError: an input that is not real numbers, or another `output_dtype`.

    Source:
        `tf.nn.max_pool_with_argmax`, TensorFlow 2.21, on the CPU.

    Example:
        >>> image = torch.tensor([1., 4., 3., 2.]).reshape(1, 2, 2, 1)
        >>> [tensor.item() for tensor in max_pool_with_argmax(image, 2, 2, "VALID")]
        [4.0, 1]
    """
    where = "max_pool_with_argmax"
    input, layout, axes = _windows(where, input, ksize, strides, padding, data_format, (*FLOATS, *WHOLE))
    dtype = _INDICES.get(output_dtype) if isinstance(output_dtype, (str, torch.dtype)) else None
    refuse_no_truth(where, "include_batch_in_index", include_batch_in_index)
    if dtype is None:
        raise DtypeError(f"{where}: output_dtype is {output_dtype}; it must be torch.int32 or torch.int64. Pass one of these.")
    size, channels = layout.size(input.shape), input.shape[layout.channel]
    count = prod(size) * channels * (input.shape[0] if include_batch_in_index else 1)
    if dtype == torch.int32 and count > 2**31:
        raise ShapeError(f"{where}: {count} samples are more than int32 can count. Pass output_dtype=torch.int64.")
    shape = layout.shape(input.shape[0], counts(where, layout, axes, size), channels)
    if 0 in shape:
        return nothing(shape, input), input.new_empty(shape, dtype=dtype)
    # torch's kernels count within one plane, y W + x: `switches` below. TensorFlow's index follows from it and the channel.
    planes = layout.channels_first(input)
    pooled, switches = _maxima(planes, axes) if input.is_floating_point() else _integer_maxima(planes, axes)
    channel_axis = [-1] + [1] * len(axes)
    argmax = torch.add(torch.arange(channels, device=input.device).view(channel_axis), switches, alpha=channels)
    if include_batch_in_index:
        argmax += (torch.arange(input.shape[0], device=input.device) * (prod(size) * channels)).view(-1, *[1] * (len(axes) + 1))
    return layout.back(pooled), layout.back(argmax.to(dtype))


@takes_old_names(value="input")
def avg_pool1d(input: Values, ksize: Any, strides: Any, padding: Any, data_format: str = "NWC") -> Tensor:
    """Return the average of each window of (N, W, C); otherwise as `avg_pool2d`."""
    return _average("avg_pool1d", input, ksize, strides, padding, layout_of("avg_pool1d", data_format, 1).name)


@takes_old_names(value="input")
def avg_pool2d(input: Values, ksize: Any, strides: Any, padding: Any, data_format: str = "NHWC") -> Tensor:
    """Return the average of each window's samples (average pooling); padding does not count.

    Args:
        input: (N, H, W, C), or (N, C, H, W) with data_format "NCHW"; floating.
        ksize, strides, padding: as for `max_pool_with_argmax`.

    Returns:
        (N, H', W', C), or channels first if the input is.

    Raises:
        ShapeError, DtypeError: as `max_pool_with_argmax`.

    Source:
        `tf.nn.avg_pool2d`, TensorFlow 2.21; explicit padding by the same rule.

    Example:
        >>> avg_pool2d(torch.arange(1., 10.).reshape(1, 3, 3, 1), 2, 2, "SAME").flatten()
        tensor([3.0000, 4.5000, 7.5000, 9.0000])
    """
    return _average("avg_pool2d", input, ksize, strides, padding, layout_of("avg_pool2d", data_format, 2).name)


@takes_old_names(value="input")
def avg_pool3d(input: Values, ksize: Any, strides: Any, padding: Any, data_format: str = "NDHWC") -> Tensor:
    """Return the average of each window of (N, D, H, W, C); otherwise as `avg_pool2d`."""
    return _average("avg_pool3d", input, ksize, strides, padding, layout_of("avg_pool3d", data_format, 3).name)


def _windows(
    where: str, input: Any, ksize: Any, strides: Any, padding: Any, data_format: str, dtypes: Sequence[torch.dtype]
) -> tuple[Tensor, Layout, tuple[Axis, ...]]:
    layout = layout_of(where, data_format)
    input = as_tensors(where, input=input)["input"]
    dense_tensors(where, layout, dtypes, input=input)
    axes = axes_of(where, layout, per_axis(where, "ksize", ksize, layout), strides, padding)
    for index, axis in zip(layout.spatial, axes, strict=True):
        if axis.padding is not None and max(axis.padding) >= axis.kernel:
            raise ShapeError(
                f"{where}: padding is {axis.padding} along the {layout.axis_name(index)}, but it must be smaller than the "
                f"window of {axis.kernel}, or some windows would hold no sample. Pad less."
            )
    return input, layout, axes


def _average(where: str, input: Values, ksize: Any, strides: Any, padding: Any, data_format: str) -> Tensor:
    input, layout, axes = _windows(where, input, ksize, strides, padding, data_format, FLOATS)
    size = layout.size(input.shape)
    shape = layout.shape(input.shape[0], counts(where, layout, axes, size), input.shape[layout.channel])
    if 0 in shape:
        return nothing(shape, input)
    return layout.back(_averages(layout.channels_first(input), axes))


def _averages(planes: Tensor, axes: Sequence[Axis]) -> Tensor:
    if len(axes) == 1:
        return _averages(planes.unsqueeze(2), (Axis(1), *axes)).squeeze(2)
    if planes.is_cpu and planes.dtype in (torch.float16, torch.bfloat16):  # torch pools no half precision along three axes
        return _averages(planes.float(), axes).to(planes.dtype)
    kernel, strides = [axis.kernel for axis in axes], [axis.stride for axis in axes]
    padded, before, padding, ceil_mode = _fit_to_torch(planes, axes, 0.0)
    if padded is planes:
        return _AVERAGES[len(axes)](planes, kernel, strides, padding, ceil_mode, False)
    averages = _AVERAGES[len(axes)](padded, kernel, strides)
    # torch divided by the kernel's full length, TensorFlow divides by the samples that are not padding: one ratio per axis.
    for index, (axis, n, first) in enumerate(zip(axes, planes.shape[2:], before, strict=True)):
        samples = pool_divisor(axis.small(n), n, axis.kernel, axis.stride, first, False)
        ratio = axis.kernel / torch.tensor(samples, dtype=planes.dtype, device=planes.device)
        averages = averages * ratio.view(-1, *[1] * (len(axes) - 1 - index))
    return averages


def _maxima(planes: Tensor, axes: Sequence[Axis]) -> tuple[Tensor, Tensor]:
    """Return the maxima of (N, C, samples..) and their indices into one plane.

    torch lets NaN win, and returns a wrong index where a window holds nothing except minus infinity. A finite sum of the
    maxima shows that neither occurred, and then torch's result is returned as it is.
    """
    if len(axes) == 1:
        pooled, switches = _maxima(planes.unsqueeze(2), (Axis(1), *axes))
        return pooled.squeeze(2), switches.squeeze(2)
    if planes.is_cpu and not traced(planes):
        pooled, switches = _torch_maxima(planes, axes)
        if pooled.sum(dtype=torch.promote_types(pooled.dtype, torch.float32)).isfinite():
            return pooled, switches
    samples = planes.flatten(2)
    with torch.no_grad():
        largest, switches = _torch_maxima(planes.masked_fill(planes.isnan(), -torch.inf), axes)
        first = _first_indices(planes, axes)
        wrong = samples[..., first.flatten()].isnan().view(switches.shape) | (largest == -torch.inf)
        switches = torch.where(wrong, first, switches)
    return samples.gather(2, switches.flatten(2)).view(switches.shape), switches


def _integer_maxima(planes: Tensor, axes: Sequence[Axis]) -> tuple[Tensor, Tensor]:
    _, switches = _maxima(in_order(planes), axes)
    largest = signed(planes).flatten(2).gather(2, switches.flatten(2))
    return largest.view(switches.shape).view(planes.dtype), switches


def _torch_maxima(planes: Tensor, axes: Sequence[Axis]) -> tuple[Tensor, Tensor]:
    """Return torch's own maxima and their indices into one plane."""
    kernel, strides = [axis.kernel for axis in axes], [axis.stride for axis in axes]
    padded, before, padding, ceil_mode = _fit_to_torch(planes, axes, -torch.inf)
    pooled, switches = _MAXIMA[len(axes)](padded, kernel, strides, padding, 1, ceil_mode, True)
    return pooled, switches if padded is planes else _unpadded_indices(switches, padded.shape[2:], before, planes.shape[2:])


def _unpadded_indices(switches: Tensor, padded: Sequence[int], before: Sequence[int], size: Sequence[int]) -> Tensor:
    """Return indices into a padded plane as indices into the plane itself; padding's become those of the nearest sample."""
    indices, pitch = torch.zeros_like(switches), 1
    for n, first, length in zip(reversed(padded), reversed(before), reversed(size), strict=True):
        indices += (switches % n - first).clamp(0, length - 1) * pitch
        switches, pitch = switches // n, pitch * length
    return indices


def _first_indices(planes: Tensor, axes: Sequence[Axis]) -> Tensor:
    """Return the index of the first sample of each window that is not padding."""
    first = torch.zeros([1] * len(axes), dtype=torch.int64, device=planes.device)
    for index, (axis, n) in enumerate(zip(axes, planes.shape[2:], strict=True)):
        starts = torch.arange(axis.small(n), device=planes.device) * axis.stride - axis.pads(n)[0]
        first = first * n + starts.clamp(min=0).view(-1, *[1] * (len(axes) - 1 - index))
    return first


def _fit_to_torch(planes: Tensor, axes: Sequence[Axis], fill: float) -> tuple[Tensor, list[int], list[int], bool]:
    """Return what makes torch's pool see the same windows: planes, padding added before each axis, torch's padding, ceil mode.

    torch pads both sides alike, by half a kernel at most, and takes no kernel that is longer than the map. Ceil mode makes
    up for one more padded sample at the end wherever the stride is not 1. Only where that is not enough is padding added
    to the planes, which copies them.
    """
    size = planes.shape[2:]
    pads = [axis.pads(n) for axis, n in zip(axes, size, strict=True)]
    before = [first for first, _ in pads]
    windows = [axis.small(n) for axis, n in zip(axes, size, strict=True)]
    if all(first <= axis.kernel // 2 and axis.kernel <= n for first, axis, n in zip(before, axes, size, strict=True)):
        for ceil_mode in (False, True):
            lengths = zip(size, axes, before, strict=True)
            if windows == [pool_length(n, axis.kernel, axis.stride, first, ceil_mode) for n, axis, first in lengths]:
                return planes, [0] * len(axes), before, ceil_mode
    refuse_large("pool", planes, [*planes.shape[:2], *(sum(pad) + n for pad, n in zip(pads, size, strict=True))])
    padded = F.pad(planes, [edge for pad in reversed(pads) for edge in pad], value=fill)
    return padded, before, [0] * len(axes), False
