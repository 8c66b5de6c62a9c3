"""Pools: the maximum, mean or p-norm of each window or of an entire map; and max unpooling."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from unconv.errors import ShapeError, UnconvError
from unconv.networks.onnx.operators.padding import padded
from unconv.networks.onnx.operators.table import Setting, bounded, integers, operator
from unconv.networks.onnx.operators.windows import Windows, window_count, windows

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_MEAN = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_UNPOOL = {1: F.max_unpool1d, 2: F.max_unpool2d, 3: F.max_unpool3d}


@operator("MaxPool")
def max_pool(
    x: Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    kernel_shape: Sequence[int],
    outputs: int,
    pads: Sequence[int] | None = None,
    storage_order: int = 0,
    strides: Sequence[int] | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Return the largest sample of each window, and its index in the entire tensor if the node names that output."""
    over = windows(x, kernel_shape, strides, dilations, pads, auto_pad)
    if not x.is_floating_point():
        pooled_floats = max_pool(
            x.float(), auto_pad=auto_pad, ceil_mode=ceil_mode, dilations=dilations, kernel_shape=kernel_shape,
            outputs=outputs, pads=pads, storage_order=storage_order, strides=strides,
        )  # fmt: skip
        if isinstance(pooled_floats, Tensor):
            return pooled_floats.to(x.dtype)
        return pooled_floats[0].to(x.dtype), pooled_floats[1]
    size, ceil = x.shape[2:], bool(ceil_mode) and not auto_pad.startswith("SAME")
    padding: tuple[int, ...] = tuple(before for before, _ in over.pads)
    if not over.symmetric or any(2 * pad > k for pad, k in zip(padding, over.kernel, strict=True)):
        # torch pads both sides equally, by at most half a window. Otherwise pad first, with a value that is never the largest.
        x, padding = padded(x, _fitting_pads(x, over, ceil), float("-inf")), (0,) * len(padding)
        ceil = False
    settings = (over.kernel, over.stride, padding, over.dilation, ceil)
    pool = _MAX[x.ndim - 2]
    if outputs == 1:
        pooled: Tensor = pool(x, *settings)
        return pooled
    pooled, indices = pool(x, *settings, return_indices=True)
    # torch counts within the map that it was passed, which may be padded by now; ONNX within the original tensor.
    offsets = [0] * len(size) if any(padding) else [before for before, _ in over.pads]
    return pooled, _onnx_indices(indices, x.shape[2:], size, offsets, storage_order)


def _fitting_pads(x: Tensor, over: Windows, ceil: bool) -> list[tuple[int, int]]:
    """Return the padding with which the last windows just fit."""
    rows = zip(x.shape[2:], over.extent, over.stride, over.pads, strict=True)
    return [(pads[0], window_count(n, e, s, pads, ceil)[1]) for n, e, s, pads in rows]


def _onnx_indices(
    indices: Tensor, padded_size: Sequence[int], size: Sequence[int], offsets: Sequence[int], order: int
) -> Tensor:
    """Return indices into a padded map as ONNX counts them: through batch and channels, along rows or columns first."""
    coordinates: list[Tensor] = []
    rest = indices
    for n, before in zip(reversed(padded_size), reversed(offsets), strict=True):
        coordinates.insert(0, rest % n - before)
        rest = rest // n
    index, pitch = torch.zeros_like(indices), 1
    for axis in range(len(size)) if order else reversed(range(len(size))):
        index, pitch = index + coordinates[axis] * pitch, pitch * size[axis]
    planes = torch.arange(prod(indices.shape[:2]), device=indices.device)
    return index + planes.view(*indices.shape[:2], *[1] * len(size)) * pitch


@operator("AveragePool")
def average_pool(
    x: Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sequence[int] | None = None,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """Return the mean of each window, over its samples on the map or, with `count_include_pad`, on the padded map."""
    over = windows(x, kernel_shape, strides, dilations, pads, auto_pad)
    ceil = bool(ceil_mode) and not auto_pad.startswith("SAME")
    halves = all(2 * before <= k for (before, _), k in zip(over.pads, over.kernel, strict=True))
    if over.symmetric and halves and max(over.dilation) == 1:
        padding = tuple(before for before, _ in over.pads)
        means: Tensor = _MEAN[x.ndim - 2](x, over.kernel, over.stride, padding, ceil, bool(count_include_pad))
        return means
    # torch has no dilation here, and pads both sides equally: divide sums by counts instead.
    counts = _counts(x, over, ceil, bool(count_include_pad))
    return _sums(padded(x, _fitting_pads(x, over, ceil)), over) / counts


def _sums(x: Tensor, over: Windows) -> Tensor:
    """Return the sum of each window of a padded map."""
    axes = x.ndim - 2
    if max(over.dilation) == 1:
        means: Tensor = _MEAN[axes](x, over.kernel, over.stride)
        return means * prod(over.kernel)
    ones = torch.ones(x.shape[1], 1, *over.kernel, dtype=x.dtype, device=x.device)
    return _CONVOLUTIONS[axes](x, ones, None, over.stride, 0, over.dilation, x.shape[1])


def _counts(x: Tensor, over: Windows, ceil: bool, padding: bool) -> Tensor:
    """Return the number of samples of each window on the map, or on the map and its padding."""
    # Counts along the axes are independent, so that those of a window are their outer product.
    counts = torch.ones((), dtype=torch.float64, device="cpu")
    for n, k, s, d, e, pads in zip(x.shape[2:], over.kernel, over.stride, over.dilation, over.extent, over.pads, strict=True):
        windows_along, _ = window_count(n, e, s, pads, ceil)
        low, high = (-pads[0], n + pads[1]) if padding else (0, n)
        starts = torch.arange(bounded([windows_along, k], 2**24)[0], device="cpu") * s - pads[0]
        taps = starts[:, None] + torch.arange(k, device="cpu") * d
        counts = counts[..., None] * ((taps >= low) & (taps < high)).sum(1)
    return counts.to(x.device, x.dtype)


@operator("LpPool")
def lp_pool(
    x: Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    kernel_shape: Sequence[int],
    p: float = 2,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """Return the p-norm of each window."""
    over = windows(x, kernel_shape, strides, dilations, pads, auto_pad)
    ceil = bool(ceil_mode) and not auto_pad.startswith("SAME")
    return _sums(padded(x.abs().pow(p), _fitting_pads(x, over, ceil)), over).pow(1 / p)


@operator("GlobalAveragePool")
def global_average_pool(x: Tensor) -> Tensor:
    """Return the mean of each map."""
    pools = {3: F.adaptive_avg_pool1d, 4: F.adaptive_avg_pool2d, 5: F.adaptive_avg_pool3d}
    pooled: Tensor = pools[x.ndim](x, 1) if x.ndim in pools else x.mean(_sample_axes(x), keepdim=True)
    return pooled


@operator("GlobalMaxPool")
def global_max_pool(x: Tensor) -> Tensor:
    """Return the largest sample of each map."""
    pools = {4: F.adaptive_max_pool2d, 5: F.adaptive_max_pool3d}
    pooled: Tensor = pools[x.ndim](x, 1) if x.ndim in pools else x.amax(_sample_axes(x), keepdim=True)
    return pooled


@operator("GlobalLpPool")
def global_lp_pool(x: Tensor, *, p: float = 2) -> Tensor:
    """Return the p-norm of each map."""
    return x.abs().pow(p).sum(_sample_axes(x), keepdim=True).pow(1 / p)


def _sample_axes(x: Tensor) -> list[int]:
    if x.ndim < 3:
        raise ShapeError(f"its input is {tuple(x.shape)}, but (N, C, samples..) was needed")
    return list(range(2, x.ndim))


@operator("MaxUnpool", settings=("output_shape",))
def max_unpool(
    x: Tensor,
    indices: Tensor,
    output_shape: Setting | None = None,
    *,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """Return each sample at its index in the entire output; zeros elsewhere."""
    over = windows(x, kernel_shape, strides, None, pads, "NOTSET")
    rows = zip(x.shape[2:], over.stride, over.kernel, over.pads, strict=True)
    size = [(n - 1) * s + k - sum(pair) for n, s, k, pair in rows]
    if output_shape is not None:
        size = integers(output_shape)[-len(size) :]
    bounded([*x.shape[:2], *size])
    if prod(size) == 0 or x.numel() == 0:
        raise UnconvError(f"it would unpool {tuple(x.shape)} to {tuple(size)}, but neither may be empty")
    # ONNX counts through batch and channels, torch within a map: the remainder is the index within the map.
    full_shape = [*x.shape[:2], *size]
    unpooled: Tensor = _UNPOOL[len(size)](x, indices % prod(size), over.kernel, over.stride, [0] * len(size), full_shape)
    return unpooled
