"""Resizing along one axis, as ONNX defines it: the position of each new sample, and its weights.

Source:
    ONNX, Resize of opset 19.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, floor

import torch
from torch import Tensor

from unconv.networks.onnx.operators.table import bounded, choose

_LONGEST = 2**20  # samples along an axis that is resized


@dataclass(frozen=True)
class Stretch:
    """The attributes of a resizing.

    Args:
        coordinates: coordinate_transformation_mode.
        rounding: nearest_mode.
        cubic: cubic_coeff_a.
        exclude: whether samples beyond the ends have no weight; otherwise the end sample is repeated there.
        extrapolation: the value outside a crop.
    """

    mode: str
    coordinates: str
    rounding: str
    cubic: float = -0.75
    exclude: bool = False
    antialias: bool = False
    extrapolation: float = 0.0


def positions(n: int, out: int, scale: float, crop: tuple[float, float], how: Stretch) -> Tensor:
    """Return the position of each of `out` new samples among the n old ones."""
    bounded([out], _LONGEST)
    y = torch.arange(out, dtype=torch.float64, device="cpu")
    width = scale * n  # the new length before it was rounded to `out`
    start, end = crop

    def crop_and_resize() -> Tensor:
        if width == 1:
            return torch.full_like(y, (start + end) * (n - 1) / 2)
        return start * (n - 1) + y * (end - start) * (n - 1) / (width - 1)

    rows: dict[str, Callable[[], Tensor]] = {
        "half_pixel": lambda: (y + 0.5) / scale - 0.5,
        "half_pixel_symmetric": lambda: n / 2 * (1 - out / width) + (y + 0.5) / scale - 0.5,
        "pytorch_half_pixel": lambda: (y + 0.5) / scale - 0.5 if width != 1 else torch.full_like(y, -0.5),
        "align_corners": lambda: y * (n - 1) / (width - 1) if width != 1 else torch.zeros_like(y),
        "asymmetric": lambda: y / scale,
        "tf_half_pixel_for_nn": lambda: (y + 0.5) / scale,
        "tf_crop_and_resize": crop_and_resize,
    }
    result: Tensor = choose("coordinate_transformation_mode", how.coordinates, rows)()
    return result


def nearest_samples(at: Tensor, n: int, how: Stretch) -> list[int]:
    """Return the old sample that each new one copies."""
    rows: dict[str, Callable[[], Tensor]] = {
        "round_prefer_floor": lambda: (at - 0.5).ceil(),
        "round_prefer_ceil": lambda: (at + 0.5).floor(),
        "floor": at.floor,
        "ceil": at.ceil,
    }
    rounded: Tensor = choose("nearest_mode", how.rounding, rows)()
    return [int(sample) for sample in rounded.clamp(0, n - 1).tolist()]


def weights(at: Tensor, n: int, scale: float, how: Stretch) -> Tensor:
    """Return a matrix (out, n): the weight of each old sample in each new one."""
    # With antialias, a smaller grid widens the kernel by the same factor.
    shrunk = min(scale, 1.0) if how.antialias else 1.0
    reach = {"linear": 1, "cubic": 2}[how.mode] / shrunk
    bounded([len(at) + 1, n + 2 * ceil(reach) + 2], 2**26)
    first = at.floor()
    taps = torch.arange(floor(-reach) + 1, ceil(reach) + 1, dtype=torch.float64, device="cpu")
    sources = (first[:, None] + taps).long()
    kernel = _linear if how.mode == "linear" else _cubic(how.cubic)
    shares = kernel(((first[:, None] + taps - at[:, None]) * shrunk).abs())
    if how.antialias:
        shares = shares / shares.sum(1, keepdim=True)
    if how.exclude:
        shares = shares.where((sources >= 0) & (sources < n), torch.zeros_like(shares))
        total = shares.sum(1, keepdim=True)
        shares = shares / torch.where(total == 0, torch.ones_like(total), total)
    # Samples beyond the ends are the end sample: several weights may add up in one entry.
    matrix = torch.zeros(len(at), n, dtype=torch.float64, device="cpu")
    return matrix.scatter_add_(1, sources.clamp(0, n - 1), shares)


def _linear(distance: Tensor) -> Tensor:
    return (1 - distance).clamp(min=0)


def _cubic(a: float) -> Callable[[Tensor], Tensor]:
    def kernel(x: Tensor) -> Tensor:
        near = ((a + 2) * x - (a + 3)) * x * x + 1
        far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
        return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))

    return kernel
