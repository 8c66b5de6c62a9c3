"""The level on which a measured PSF stands, such as a camera's offset: told from the border, where a bead gives no light."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor

_LEAST_SIDE, _SMALL = 7, 24  # samples: the border and what is beside it must leave room for the PSF
_SHARE = 0.02  # of the mass, which a level must have to matter
_ALIKE = 0.1  # by which parts of a level border may differ: of the level, and of what stands above it
_CONTRAST = 0.02  # of the level, by which the PSF must stand above it
_CUT = 3.0  # standard deviations, above which a sample is more than noise


def without_background(kernel: Tensor, where: str) -> tuple[Tensor, list[str]]:
    """Return a PSF without a constant level under it, and a note if there was one.

    The border is level if its sides are as bright as its corners, and nothing within is darker; light that falls off with
    distance, as that of a Gaussian of any width does, is brighter at the sides. In a volume half of the planes must agree.

    Args:
        kernel: finite, of two or three axes; of others, and of small ones, no border tells anything.
        where: what the note calls it.
    """
    if kernel.ndim not in (2, 3) or min(kernel.shape[-2:]) < _LEAST_SIDE:
        return kernel, []
    found = _level(kernel if kernel.ndim == 3 else kernel[None])
    if found is None:
        return kernel, []
    level, noise = found
    left = kernel - level
    # What is no more than noise would make a veil of the kernel's whole width.
    left = torch.where(left > _CUT * noise, left, 0)
    said = f" ± {noise:.3g}" if noise > 1e-6 * level else ""
    return left, [
        f"{where}: it stands on a level of {level:.4g}{said}, as on a camera's offset, told from its border; subtracted, "
        "and what is no more than noise set to zero."
    ]


def _level(planes: Tensor) -> tuple[float, float] | None:
    """Return the level of a border and the standard deviation of its noise; None if it is not level, or next to nothing."""
    ring = torch.stack([_ring(plane) for plane in planes])
    medians = ring.median(1).values
    low = float(medians.quantile(0.25))
    # Neighbours are alike where light falls off smoothly, and opposite samples where it makes rings: neither is noise.
    bends, turns = ring.diff(n=2, dim=1) / sqrt(6), (ring - ring.roll(ring.shape[1] // 2, 1)) / sqrt(2)
    noise = min(float(part.quantile(0.84) - part.quantile(0.16)) / 2 for part in (bends, turns))
    above = float(planes.max()) - low
    if low * planes.numel() < _SHARE * float(planes.sum()) or above < max(_CONTRAST * low, 2 * _CUT * noise):
        return None
    bound = min(_ALIKE * low, _ALIKE * above)
    darkest = float(planes.flatten().kthvalue(1 + planes.numel() // 100).values)  # but for dead samples
    if darkest < low - bound - 2 * _CUT * noise:
        return None  # it is dark within, as between the rings of an aperture
    alike = [plane for plane, median in zip(planes, medians, strict=True) if abs(float(median) - low) <= bound + noise]
    if 2 * len(alike) < len(planes):
        return None
    parts = torch.stack(_parts(torch.stack(alike)))
    spread = float(parts[:, 0].max() - parts[:, 0].min())
    if spread > bound + 4 * noise / sqrt(float(parts[:, 1].min())):
        return None
    return low, noise


def _ring(plane: Tensor) -> Tensor:
    """Return the samples at the border of (H, W), in a circle."""
    return torch.cat([plane[0], plane[1:, -1], plane[-1, :-1].flip(0), plane[1:-1, 0].flip(0)])


def _parts(planes: Tensor) -> list[Tensor]:
    """Return the mean, and the number of samples, of the middle of each side of (D, H, W), and of each corner."""
    _, height, width = planes.shape
    down, across = (slice(n // 3, n - n // 3) for n in (height, width))
    y, x = (max(2, n // 10) for n in (height, width))
    deep = 1 if min(height, width) < _SMALL else 2  # samples
    sides = [planes[:, :deep, across], planes[:, -deep:, across], planes[:, down, :deep], planes[:, down, -deep:]]
    corners = [planes[:, rows, columns] for rows in (slice(y), slice(-y, None)) for columns in (slice(x), slice(-x, None))]
    return [torch.stack([part.mean(), part.new_tensor(part.numel())]) for part in (*sides, *corners)]
