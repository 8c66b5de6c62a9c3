"""Unpooling: a maximum goes back to where it came from, an average is copied into its window."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.axis import Axis
from unconv.errors import DtypeError, NoSuchUnit, ShapeError
from unconv.ops.arguments import (
    FLOATS,
    FORMATS,
    WHOLE,
    Layout,
    axes_of,
    dense_tensors,
    floats,
    layout_of,
    legal_size,
    per_axis,
    refuse_large,
    refuse_no_truth,
    shape_argument,
)
from unconv.ops.indices import refuse_foreign
from unconv.ops.spatial import grown, nothing, traced
from unconv.ops.values import Values, as_tensors
from unconv.ops.whole_numbers import signed


def unpool_max(
    pooled: Values,
    argmax: Values,
    output_shape: Any,
    include_batch_in_index: bool = False,
    duplicates: str = "sum",
    data_format: str | None = None,
) -> Tensor:
    """Return the pooled values, each at the position its index points to, and zeros elsewhere (max unpooling).

    With "sum" this is the adjoint of `max_pool_with_argmax` with its indices frozen: where windows overlap and two values
    go to the same position, they add up. With "overwrite" the last one in row-major order stays, so that values straight
    from the pool come back unchanged.

    Args:
        pooled: (N, h, w, C), floating or integers, or one or three spatial axes; channels first with a `data_format` that
            says so.
        argmax: int64 or int32, of the same shape, as `max_pool_with_argmax` gives it.
        output_shape: the shape of the picture that was pooled, which need not be a multiple of the pooled one.
        include_batch_in_index: whether the indices count through the entire batch.
        duplicates: "sum" or "overwrite".
        data_format: the order of all three; None is the one with channels last.

    Returns:
        A tensor of `output_shape`.

    Raises:
        ShapeError: shapes that do not fit each other, another `duplicates`, or indices that point into another channel
            than their own, as torch's do (see `from_torch_indices`), or into another image. About a thousand are checked,
            and none while compiling or under `vmap`.
        DtypeError: values that are not numbers, or indices that are not integers.
        NoSuchUnit: an index outside the output. On a CUDA device this check waits for the device.

    Source:
        `tf.scatter_nd` on the indices of `tf.nn.max_pool_with_argmax`, TensorFlow 2.21; "overwrite" as
        `tf.tensor_scatter_nd_update`.

    Example:
        >>> pooled, argmax = max_pool_with_argmax(torch.tensor([1., 4., 3., 2.]).reshape(1, 2, 2, 1), 2, 2, "VALID")
        >>> unpool_max(pooled, argmax, (1, 2, 2, 1)).flatten()
        tensor([0., 4., 0., 0.])
    """
    where = "unpool_max"
    pooled, argmax = as_tensors(where, pooled=pooled)["pooled"], as_tensors(where, argmax=argmax)["argmax"]
    layout = _layout(where, pooled, data_format)
    dense_tensors(where, layout, (*FLOATS, *WHOLE), pooled=pooled)
    _refuse_other_indices(where, pooled, argmax)
    _refuse_unknown(where, duplicates, ("sum", "overwrite"))
    refuse_no_truth(where, "include_batch_in_index", include_batch_in_index)
    shape = shape_argument(where, "output_shape", output_shape, layout)
    _refuse_other_sides(where, layout, pooled, shape)
    if 0 in shape:
        _refuse_outside(where, argmax, 0)
        return nothing(shape, pooled)
    refuse_large(where, pooled, shape)
    refuse_foreign(where, layout, argmax, prod(shape[1:]) if include_batch_in_index else None)
    rows = 1 if include_batch_in_index else shape[0]
    samples = layout.channels_last(signed(pooled)).reshape(rows, pooled.numel() // rows)
    positions = layout.channels_last(argmax).reshape(samples.shape).long()
    length = prod(shape) // rows
    if not positions.is_cpu:
        _refuse_outside(where, positions, length)
    try:
        result = _scatter(samples, positions, length, duplicates)
    except RuntimeError:  # on the CPU torch itself checks every index; elsewhere a wrong one would end the process
        _refuse_outside(where, positions, length)
        raise
    if result.dtype != pooled.dtype:
        result = result.view(pooled.dtype)
    output = result.view(shape[0], *layout.size(shape), shape[layout.channel])
    return layout.back(output.movedim(-1, 1))


def unpool_avg(
    pooled: Values,
    output_shape: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    duplicates: str = "sum",
    data_format: str | None = None,
) -> Tensor:
    """Return each pooled value copied, undivided, into the window it came from, and zeros elsewhere (average unpooling).

    Copies that fall into the padding are dropped: under "SAME" the first window may begin before the picture. This is not
    the adjoint of `avg_pool2d`, which would divide each value by the number of samples in its window.

    Args:
        pooled: (N, h, w, C), floating, or one or three spatial axes; channels first with a `data_format` that says so.
        output_shape: the shape of the picture that was pooled.
        ksize, strides, padding: those of the pool, as for `avg_pool2d`.
        duplicates: what to do where windows overlap: "sum" adds up the copies, "overwrite" keeps the last one in row-major
            order, "mean" averages them.
        data_format: None is the one with channels last.

    Returns:
        A tensor of `output_shape`.

    Raises:
        ShapeError: shapes or settings that do not fit. For an impossible output size the message lists the possible ones.
        DtypeError: a `pooled` that is not floating.

    Example:
        >>> unpool_avg(torch.tensor([1., 2.]).reshape(1, 2, 1), (1, 4, 1), 3, 3, "SAME").flatten()
        tensor([1., 1., 2., 2.])
    """
    where = "unpool_avg"
    pooled = as_tensors(where, pooled=pooled)["pooled"]
    layout = _layout(where, pooled, data_format)
    floats(where, layout, pooled=pooled)
    _refuse_unknown(where, duplicates, ("sum", "overwrite", "mean"))
    axes = axes_of(where, layout, per_axis(where, "ksize", ksize, layout), strides, padding)
    shape = shape_argument(where, "output_shape", output_shape, layout)
    _refuse_other_sides(where, layout, pooled, shape)
    size = legal_size(where, "output_shape", layout, axes, layout.size(pooled.shape), shape)
    if 0 in pooled.shape or 0 in shape:
        empty = [min(n, m) for n, m in zip(pooled.shape, shape, strict=True)]
        return grown(nothing(empty, pooled), shape)
    if duplicates == "mean" and pooled.dtype in (torch.float16, torch.bfloat16):  # the sum before dividing may overflow them
        wide = unpool_avg(pooled.float(), shape, ksize, strides, padding, duplicates, data_format)
        return wide.to(pooled.dtype)
    sides = [layout.spatial.index(k) if k in layout.spatial else None for k in range(pooled.ndim)]
    refuse_large(where, pooled, [n * (1 if k is None else axes[k].kernel) for n, k in zip(pooled.shape, sides, strict=True)])
    if all(axis.kernel <= axis.stride for axis in axes):
        copies = _blocks(pooled, layout.spatial, [axis.kernel for axis in axes], [axis.stride for axis in axes])
    else:
        copies = pooled
        for index, axis in zip(layout.spatial, axes, strict=True):
            copies = _overlapping(copies, index, axis, duplicates)
    for index, axis, large in zip(layout.spatial, axes, size, strict=True):
        before = axis.pads(large)[0]
        copies = _padded(copies, index, 0, before + large - copies.shape[index]).narrow(index, before, large)
    return copies


def _layout(where: str, pooled: Any, data_format: str | None) -> Layout:
    if data_format is not None:
        return layout_of(where, data_format)
    return layout_of(where, FORMATS[min(max(getattr(pooled, "ndim", 4) - 3, 0), 2)])


def _refuse_unknown(where: str, duplicates: Any, options: Sequence[str]) -> None:
    if not isinstance(duplicates, str) or duplicates not in options:
        raise ShapeError(
            f"{where}: duplicates is {duplicates!r}, but it must be one of {', '.join(map(repr, options))}. Pass one."
        )


def _refuse_other_indices(where: str, pooled: Tensor, argmax: Any) -> None:
    if argmax.dtype not in (torch.int32, torch.int64) or argmax.layout != torch.strided:
        raise DtypeError(
            f"{where}: argmax is {argmax.dtype}, but an int64 or int32 torch.Tensor was needed. Pass that of "
            "max_pool_with_argmax."
        )
    if argmax.shape != pooled.shape:
        raise ShapeError(
            f"{where}: pooled is {tuple(pooled.shape)} but argmax is {tuple(argmax.shape)}; they must match, because they "
            "come from the same pooling. Pass the argmax of the pooling being reversed."
        )
    if argmax.device != pooled.device:
        raise DtypeError(
            f"{where}: pooled is on {pooled.device} but argmax is on {argmax.device}. Move one to the other's device."
        )


def _refuse_other_sides(where: str, layout: Layout, pooled: Tensor, shape: Sequence[int]) -> None:
    for index in (0, layout.channel):
        if shape[index] != pooled.shape[index]:
            raise ShapeError(
                f"{where}: output_shape is {tuple(shape)}; {shape[index]} for the {layout.axis_name(index)} (axis {index}) "
                f"must be {pooled.shape[index]}, as in pooled {tuple(pooled.shape)}. Pass the shape of the picture "
                "that was pooled."
            )


def _refuse_outside(where: str, positions: Tensor, length: int) -> None:
    if not positions.numel() or traced(positions):
        return
    low, high = (int(edge) for edge in positions.aminmax())
    if low < 0 or high >= length:
        remedy = "the shape of the picture that was pooled, and include_batch_in_index as for the pool"
        if low >= 0 and length <= high < length * positions.shape[0]:
            remedy = "include_batch_in_index=True, if they count through the batch, or the shape of the picture that was pooled"
        indices = f"the output's indices are 0 to {length - 1}" if length else "the output has no samples"
        raise NoSuchUnit(f"{where}: argmax runs from {low} to {high}, but {indices}. Pass {remedy}.")


def _scatter(samples: Tensor, positions: Tensor, length: int, duplicates: str) -> Tensor:
    """Return rows of `length` samples, each sample of a row at its position."""
    if duplicates == "overwrite":
        order = torch.arange(positions.shape[1], device=positions.device).expand_as(positions)
        last = positions.new_full((positions.shape[0], length), -1).scatter_reduce_(1, positions, order, "amax")
        samples = torch.where(last.gather(1, positions) == order, samples, 0)
    return samples.new_zeros(samples.shape[0], length).scatter_add_(1, positions, samples)


def _blocks(values: Tensor, positions: Sequence[int], kernels: Sequence[int], strides: Sequence[int]) -> Tensor:
    """Return every value repeated `kernel` times along each of these axes, with zeros added up to the stride."""
    windows = dict(zip(positions, zip(kernels, strides, strict=True), strict=True))
    sizes, gaps, shape = [], [], []
    for index, n in enumerate(values.shape):
        kernel, stride = windows.get(index, (1, 1))
        sizes += [n, kernel] if index in windows else [n]
        gaps += [0, stride - kernel] if index in windows else [0]
        shape.append(n * stride)
    refuse_large("unpool_avg", values, [n * max(windows.get(index, (1, 1))) for index, n in enumerate(values.shape)])
    for index in reversed(positions):
        values = values.unsqueeze(index + 1)
    blocks = values.expand(sizes)
    if any(gaps):
        blocks = F.pad(blocks, [edge for gap in reversed(gaps) for edge in (0, gap)])
    return blocks.reshape(shape)


def _overlapping(values: Tensor, index: int, axis: Axis, duplicates: str) -> Tensor:
    """Return values copied into windows that may overlap, along one axis; several axes are done one after another.

    A window longer than the stride is split into layers of one stride each. Within a layer no two windows overlap, so each
    layer is one expansion of the values, and the layers are added up.
    """
    small, stride = values.shape[index], axis.stride
    if duplicates == "overwrite":
        tail = values.narrow(index, small - 1, 1)
        first = _blocks(values, [index], [min(axis.kernel, stride)], [stride])
        overhang = max(axis.kernel - stride, 0)
        return torch.cat([first, tail.expand(*(overhang if i == index else n for i, n in enumerate(tail.shape)))], index)
    # Layer number k holds samples k stride to (k + 1) stride of every window, so it is the values' expansion, k strides later.
    layers = -(-axis.kernel // stride)
    total = None
    for layer in range(layers):
        kernel = min(axis.kernel - layer * stride, stride)
        blocks = _padded(_blocks(values, [index], [kernel], [stride]), index, layer * stride, (layers - 1 - layer) * stride)
        total = blocks if total is None else total + blocks
    assert total is not None
    if duplicates == "mean":
        windows = _overlapping(values.new_ones(small), 0, axis, "sum")
        total = total / windows.clamp(min=1).view(-1, *[1] * (values.ndim - 1 - index))
    return total


def _padded(values: Tensor, index: int, before: int, after: int) -> Tensor:
    """Pad with zeros before and after, along one axis."""
    if before <= 0 and after <= 0:
        return values
    return F.pad(values, [0, 0] * (values.ndim - 1 - index) + [max(before, 0), max(after, 0)])
