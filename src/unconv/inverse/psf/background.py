"""Subtract the background of a measured PSF, such as a camera's offset, estimated from its border, where a bead is dark."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor

_LEAST_SIDE, _SMALL = 7, 24  # samples: a smaller kernel has no room for a border; in one up to 24 the border is one sample wide
_SHARE = 0.02  # share of the mass that a background must have to matter
_ALIKE = 0.1  # parts of a flat border differ by at most this share of the background, and of the peak above it
_CONTRAST = 0.02  # the PSF must exceed the background by this share of it
_CUT = 3.0  # standard deviations of the noise; smaller samples are set to zero


def without_background(kernel: Tensor, where: str) -> tuple[Tensor, list[str]]:
    """Return a PSF without its constant background, and a note if there was one.

    There is a background if the sides of the border are as bright as its corners, and nothing inside is darker. A PSF that
    falls off with distance, as a Gaussian of any width does, is brighter at the sides than in the corners. In a volume half
    of the planes must agree.

    Args:
        kernel: finite. One that is small, or has other than two or three axes, is returned unchanged.
        where: the name of the PSF in the note.
    """
    if kernel.ndim not in (2, 3) or min(kernel.shape[-2:]) < _LEAST_SIDE:
        return kernel, []
    background = _level(kernel if kernel.ndim == 3 else kernel[None])
    if background is None:
        return kernel, []
    level, noise = background
    difference = kernel - level
    # Noise that stayed would act as a faint veil as wide as the kernel.
    difference = torch.where(difference > _CUT * noise, difference, 0)
    spread = f" ± {noise:.3g}" if noise > 1e-6 * level else ""
    return difference, [
        f"{where}: its border shows a constant level of {level:.4g}{spread}, such as a camera's offset. The level was "
        "subtracted, and samples no larger than the noise were set to zero."
    ]


def _level(planes: Tensor) -> tuple[float, float] | None:
    """Return the level of the border and the standard deviation of its noise; None if it is not flat, or next to zero."""
    ring = torch.stack([_ring(plane) for plane in planes])
    medians = ring.median(1).values
    low = float(medians.quantile(0.25))
    # The light of a PSF is no noise. Where it falls off smoothly, second differences cancel it; where it makes rings,
    # differences of opposite samples do. The smaller of the two is the noise.
    second, opposite = ring.diff(n=2, dim=1) / sqrt(6), (ring - ring.roll(ring.shape[1] // 2, 1)) / sqrt(2)
    noise = min(float(part.quantile(0.84) - part.quantile(0.16)) / 2 for part in (second, opposite))
    above = float(planes.max()) - low
    if low * planes.numel() < _SHARE * float(planes.sum()) or above < max(_CONTRAST * low, 2 * _CUT * noise):
        return None
    bound = min(_ALIKE * low, _ALIKE * above)
    darkest = float(planes.flatten().kthvalue(1 + planes.numel() // 100).values)  # except for dead samples
    if darkest < low - bound - 2 * _CUT * noise:
        return None  # it is darker inside, as an Airy pattern is between its rings
    alike = [plane for plane, median in zip(planes, medians, strict=True) if abs(float(median) - low) <= bound + noise]
    if 2 * len(alike) < len(planes):
        return None
    parts = torch.stack(_parts(torch.stack(alike)))
    spread = float(parts[:, 0].max() - parts[:, 0].min())
    if spread > bound + 4 * noise / sqrt(float(parts[:, 1].min())):
        return None
    return low, noise


def _ring(plane: Tensor) -> Tensor:
    """Return the border samples of (H, W), in order around it."""
    return torch.cat([plane[0], plane[1:, -1], plane[-1, :-1].flip(0), plane[1:-1, 0].flip(0)])


def _parts(planes: Tensor) -> list[Tensor]:
    """Return mean and number of samples for the middle of each side of (D, H, W), and for each corner."""
    _, height, width = planes.shape
    down, across = (slice(n // 3, n - n // 3) for n in (height, width))
    y, x = (max(2, n // 10) for n in (height, width))
    depth = 1 if min(height, width) < _SMALL else 2  # samples
    sides = [planes[:, :depth, across], planes[:, -depth:, across], planes[:, down, :depth], planes[:, down, -depth:]]
    corners = [planes[:, rows, columns] for rows in (slice(y), slice(-y, None)) for columns in (slice(x), slice(-x, None))]
    return [torch.stack([part.mean(), part.new_tensor(part.numel())]) for part in (*sides, *corners)]
