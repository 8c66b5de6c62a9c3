"""Resizing: by torch if it computes exactly what the file asks for, otherwise by ONNX' definition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unconv.errors import ShapeError, UnconvError
from unconv.networks.onnx.operators.resize_matrix import Stretch, nearest_samples, positions, weights
from unconv.networks.onnx.operators.table import Setting, axis_of, bounded, choose, index_tensor, integers, numbers, operator


@operator("Resize", settings=("roi", "scales", "sizes"))
def resize(
    x: Tensor,
    roi: Sequence[float] | Tensor | None = None,
    scales: Sequence[float] | Tensor | None = None,
    sizes: Setting | None = None,
    *,
    antialias: int = 0,
    axes: Sequence[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
    opset: int,
) -> Tensor:
    """Return x resampled along each axis: by the nearest sample, linearly or by cubics."""
    if opset < 11:
        return upsample(x, roi, mode=mode)  # the second input was the scales
    how = Stretch(
        choose("mode", mode, {"nearest": "nearest", "linear": "linear", "cubic": "cubic"}),
        coordinate_transformation_mode,
        nearest_mode,
        cubic_coeff_a,
        bool(exclude_outside),
        bool(antialias),
        extrapolation_value,
    )
    along = list(range(x.ndim)) if axes is None else [axis_of(axis, x.ndim) for axis in axes]
    targets = _targets(x, along, scales, sizes, keep_aspect_ratio_policy)
    crops = [(0.0, 1.0)] * len(along)
    if coordinate_transformation_mode == "tf_crop_and_resize" and roi is not None:
        ends = numbers(roi)
        crops = list(zip(ends[: len(along)], ends[len(along) :], strict=True))
    return _resize(
        x, [_AxisResize(a, out, scale, crop) for a, (out, scale), crop in zip(along, targets, crops, strict=True)], how
    )


@operator("Upsample", settings=("scales",))
def upsample(
    x: Tensor,
    scales: Sequence[float] | Tensor | None = None,
    *,
    height_scale: float | None = None,
    mode: str = "nearest",
    width_scale: float | None = None,
) -> Tensor:
    """Return x on a larger grid that begins at the same position."""
    if scales is None:
        scales = (1.0, 1.0, height_scale or 1.0, width_scale or 1.0)
    kinds = {"nearest": "nearest", "linear": "linear", "bilinear": "linear"}
    how = Stretch(choose("mode", mode, kinds), "asymmetric", "floor")
    targets = _targets(x, list(range(x.ndim)), scales, None, "stretch")
    return _resize(x, [_AxisResize(axis, out, scale, (0.0, 1.0)) for axis, (out, scale) in enumerate(targets)], how)


@dataclass(frozen=True)
class _AxisResize:
    """The resizing of one axis: its new length, the factor, and the part of it that is resized."""

    axis: int
    out: int
    scale: float
    crop: tuple[float, float]


def _targets(
    x: Tensor,
    along: Sequence[int],
    scales: Sequence[float] | Tensor | None,
    sizes: Setting | None,
    policy: str,
) -> list[tuple[int, float]]:
    """Return the new length and the scale of each axis.

    Source:
        ONNX, Resize of opset 19: sizes, scales and keep_aspect_ratio_policy.
    """
    lengths = [x.shape[axis] for axis in along]
    factors = [] if scales is None else numbers(scales)
    if sizes is not None and integers(sizes):
        new_lengths = integers(sizes)
        if len(new_lengths) != len(along) or 0 in lengths:
            raise ShapeError(f"it resizes {tuple(x.shape)} to {tuple(new_lengths)}, but one length for each axis was needed")
        factors = [out / n for out, n in zip(new_lengths, lengths, strict=True)]
        select = choose("keep_aspect_ratio_policy", policy, {"stretch": None, "not_larger": min, "not_smaller": max})
        if select is not None:
            factors = [select(factors)] * len(along)
            new_lengths = [math.floor(factor * n + 0.5) for factor, n in zip(factors, lengths, strict=True)]
        return list(zip(bounded(new_lengths), factors, strict=True))
    if len(factors) != len(along) or min(factors, default=1) <= 0 or not all(map(math.isfinite, factors)):
        raise ShapeError(f"it resizes {tuple(x.shape)} by {tuple(factors)}, but one scale above 0 for each axis was needed")
    # In float32, as other programs do: the file's 0.7 is a little less, and 10 times that is 7 in float32, but not in float64.
    new_lengths = [math.floor(np.float32(factor) * np.float32(n)) for factor, n in zip(factors, lengths, strict=True)]
    return list(zip(new_lengths, factors, strict=True))


def _resize(x: Tensor, axes: Sequence[_AxisResize], how: Stretch) -> Tensor:
    # Axes that become shorter go first, so that no intermediate result is larger than both input and output.
    axes = sorted(axes, key=lambda a: a.out / max(x.shape[a.axis], 1))
    changed = [a for a in axes if a.out != x.shape[a.axis] or not math.isclose(a.scale, 1.0) or a.crop != (0.0, 1.0)]
    shape = list(x.shape)
    for a in changed:
        shape[a.axis] = a.out
    bounded(shape)
    if not changed:
        return x
    if how.mode == "nearest" and how.antialias:
        raise UnconvError("its mode is nearest with antialias, but antialias needs linear or cubic")
    result = _by_torch(x, changed, shape, how)
    if result is not None:
        return result
    dtype = x.dtype
    x = x if x.is_floating_point() or how.mode == "nearest" else x.float()
    for a in changed:
        x = _resize_axis(x, a, how)
    return x if x.dtype == dtype else x.round().to(dtype)


def _resize_axis(x: Tensor, a: _AxisResize, how: Stretch) -> Tensor:
    n = x.shape[a.axis]
    sources = positions(n, a.out, a.scale, a.crop, how)
    if how.mode == "nearest":
        x = x.index_select(a.axis, index_tensor(nearest_samples(sources, n, how), x))
    else:
        matrix = weights(sources, n, a.scale, how).to(x.device, x.dtype)
        x = F.linear(x.movedim(a.axis, -1), matrix).movedim(-1, a.axis)
    outside = (sources < 0) | (sources > n - 1)
    if how.coordinates == "tf_crop_and_resize" and bool(outside.any()):
        mask = outside.view(-1, *[1] * (x.ndim - 1 - a.axis)).to(x.device)
        x = torch.where(mask, torch.full((), how.extrapolation, dtype=x.dtype, device=x.device), x)
    return x


def _by_torch(x: Tensor, changed: Sequence[_AxisResize], shape: Sequence[int], how: Stretch) -> Tensor | None:
    """Return the result of `F.interpolate`, which has a reverse rule; None if it would compute something else."""
    axes = x.ndim - 2
    if axes not in (1, 2, 3) or any(a.axis < 2 for a in changed) or how.antialias or how.exclude or not x.is_floating_point():
        return None
    size = list(shape[2:])
    if 0 in x.shape or 0 in size or how.coordinates == "tf_crop_and_resize":
        return None
    if how.mode == "nearest":
        for a in changed:
            n = x.shape[a.axis]
            if nearest_samples(positions(n, a.out, a.scale, a.crop, how), n, how) != _torch_nearest(n, a.out):
                return None
        return F.interpolate(x, size)
    # torch has bicubic in two dimensions only, with the coefficient -0.75.
    if how.mode == "cubic" and (axes != 2 or how.cubic != -0.75):
        return None
    exact = all(math.isclose(a.scale * x.shape[a.axis], a.out, rel_tol=1e-6) for a in changed)
    corners = how.coordinates == "align_corners"
    # A single output sample has a special position in two conventions, and is left to our own matrix.
    single = any(a.out == 1 for a in changed)
    half = how.coordinates in ("half_pixel", "half_pixel_symmetric") or (how.coordinates == "pytorch_half_pixel" and not single)
    if not exact or not (half or (corners and not single)):
        return None
    mode = {"linear": {1: "linear", 2: "bilinear", 3: "trilinear"}[axes], "cubic": "bicubic"}[how.mode]
    return F.interpolate(x, size, mode=mode, align_corners=corners)


def _torch_nearest(n: int, out: int) -> list[int]:
    """Return the samples that torch takes; it computes positions in float32."""
    step = torch.tensor(n / out, dtype=torch.float32, device="cpu")
    return torch.arange(out, dtype=torch.float32, device="cpu").mul(step).floor().long().clamp(max=n - 1).tolist()
