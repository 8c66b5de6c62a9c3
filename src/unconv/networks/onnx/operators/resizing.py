"""Resizing: torch's own where it is exactly what the file asks for, by ONNX' definition otherwise."""

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
from unconv.networks.onnx.operators.table import Setting, axis_of, bounded, chosen, integers, numbers, operator, whole_numbers


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
    """x on another grid: nearest sample, linear or cubic, along each axis."""
    if opset < 11:
        return upsample(x, roi, mode=mode)  # its second input was the scales
    how = Stretch(
        chosen("mode", mode, {"nearest": "nearest", "linear": "linear", "cubic": "cubic"}),
        coordinate_transformation_mode,
        nearest_mode,
        cubic_coeff_a,
        bool(exclude_outside),
        bool(antialias),
        extrapolation_value,
    )
    along = list(range(x.ndim)) if axes is None else [axis_of(axis, x.ndim) for axis in axes]
    stretched = _asked(x, along, scales, sizes, keep_aspect_ratio_policy)
    crops = [(0.0, 1.0)] * len(along)
    if coordinate_transformation_mode == "tf_crop_and_resize" and roi is not None:
        ends = numbers(roi)
        crops = list(zip(ends[: len(along)], ends[len(along) :], strict=True))
    return _resized(
        x, [_Along(a, out, scale, crop) for a, (out, scale), crop in zip(along, stretched, crops, strict=True)], how
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
    """x on a larger grid, whose samples begin where its own do."""
    if scales is None:
        scales = (1.0, 1.0, height_scale or 1.0, width_scale or 1.0)
    kinds = {"nearest": "nearest", "linear": "linear", "bilinear": "linear"}
    how = Stretch(chosen("mode", mode, kinds), "asymmetric", "floor")
    stretched = _asked(x, list(range(x.ndim)), scales, None, "stretch")
    return _resized(x, [_Along(axis, out, scale, (0.0, 1.0)) for axis, (out, scale) in enumerate(stretched)], how)


@dataclass(frozen=True)
class _Along:
    """How one axis is resized: to how many samples, by which factor, and which part of it."""

    axis: int
    out: int
    scale: float
    crop: tuple[float, float]


def _asked(
    x: Tensor,
    along: Sequence[int],
    scales: Sequence[float] | Tensor | None,
    sizes: Setting | None,
    policy: str,
) -> list[tuple[int, float]]:
    """For each axis the samples that come out, and the scale.

    Source:
        ONNX, Resize of opset 19: sizes, scales and keep_aspect_ratio_policy.
    """
    lengths = [x.shape[axis] for axis in along]
    factors = [] if scales is None else numbers(scales)
    if sizes is not None and integers(sizes):
        wanted = integers(sizes)
        if len(wanted) != len(along) or 0 in lengths:
            raise ShapeError(f"it resizes {tuple(x.shape)} to {tuple(wanted)}, but one length for each axis was needed")
        factors = [out / n for out, n in zip(wanted, lengths, strict=True)]
        pick = chosen("keep_aspect_ratio_policy", policy, {"stretch": None, "not_larger": min, "not_smaller": max})
        if pick is not None:
            factors = [pick(factors)] * len(along)
            wanted = [math.floor(factor * n + 0.5) for factor, n in zip(factors, lengths, strict=True)]
        return list(zip(bounded(wanted), factors, strict=True))
    if len(factors) != len(along) or min(factors, default=1) <= 0 or not all(map(math.isfinite, factors)):
        raise ShapeError(f"it resizes {tuple(x.shape)} by {tuple(factors)}, but one scale above 0 for each axis was needed")
    # In float32, as other programs do: 10 samples by 0.7, of which float32 falls short, are 7 and not 6.
    wanted = [math.floor(np.float32(factor) * np.float32(n)) for factor, n in zip(factors, lengths, strict=True)]
    return list(zip(wanted, factors, strict=True))


def _resized(x: Tensor, axes: Sequence[_Along], how: Stretch) -> Tensor:
    # What becomes shorter goes first, so that nothing between is larger than what comes in or out.
    axes = sorted(axes, key=lambda a: a.out / max(x.shape[a.axis], 1))
    changed = [a for a in axes if a.out != x.shape[a.axis] or not math.isclose(a.scale, 1.0) or a.crop != (0.0, 1.0)]
    shape = list(x.shape)
    for a in changed:
        shape[a.axis] = a.out
    bounded(shape)
    if not changed:
        return x
    if how.mode == "nearest" and how.antialias:
        raise UnconvError("it resizes to the nearest sample with antialias, which goes together with linear and cubic only")
    made = _by_torch(x, changed, shape, how)
    if made is not None:
        return made
    kind = x.dtype
    x = x if x.is_floating_point() or how.mode == "nearest" else x.float()
    for a in changed:
        x = _along_one(x, a, how)
    return x if x.dtype == kind else x.round().to(kind)


def _along_one(x: Tensor, a: _Along, how: Stretch) -> Tensor:
    n = x.shape[a.axis]
    at = positions(n, a.out, a.scale, a.crop, how)
    if how.mode == "nearest":
        x = x.index_select(a.axis, whole_numbers(nearest_samples(at, n, how), x))
    else:
        matrix = weights(at, n, a.scale, how).to(x.device, x.dtype)
        x = F.linear(x.movedim(a.axis, -1), matrix).movedim(-1, a.axis)
    outside = (at < 0) | (at > n - 1)
    if how.coordinates == "tf_crop_and_resize" and bool(outside.any()):
        spread = outside.view(-1, *[1] * (x.ndim - 1 - a.axis)).to(x.device)
        x = torch.where(spread, torch.full((), how.extrapolation, dtype=x.dtype, device=x.device), x)
    return x


def _by_torch(x: Tensor, changed: Sequence[_Along], shape: Sequence[int], how: Stretch) -> Tensor | None:
    """The same by `F.interpolate`, whose meaning is known backwards; None where it does something else."""
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
    # A single output sample has a position of its own in two conventions, and is left to our matrix.
    single = any(a.out == 1 for a in changed)
    half = how.coordinates in ("half_pixel", "half_pixel_symmetric") or (how.coordinates == "pytorch_half_pixel" and not single)
    if not exact or not (half or (corners and not single)):
        return None
    mode = {"linear": {1: "linear", 2: "bilinear", 3: "trilinear"}[axes], "cubic": "bicubic"}[how.mode]
    return F.interpolate(x, size, mode=mode, align_corners=corners)


def _torch_nearest(n: int, out: int) -> list[int]:
    """Which samples torch takes, which reckons in float32."""
    step = torch.tensor(n / out, dtype=torch.float32, device="cpu")
    return torch.arange(out, dtype=torch.float32, device="cpu").mul(step).floor().long().clamp(max=n - 1).tolist()
