"""Estimate the noise of a picture from its samples alone."""

from __future__ import annotations

from math import isnan, pi

import torch
from torch import Tensor

from unconv.errors import DtypeError, NonFinite, ShapeError
from unconv.kinds import checks_kinds

_SIDE = 8  # samples of a block along every axis
_MANY = 2**14  # with so many samples the highest frequency is enough; with fewer, the two highest count


@checks_kinds
def estimate_noise(observed: Tensor, axes: int = 2) -> float:
    """Estimate the standard deviation of white noise, in the units of `observed`.

    The estimate is the median absolute DCT coefficient of 8 × 8 blocks at their highest frequencies, divided by 0.6745. A
    blurred picture has next to nothing there. Fine texture that was not blurred makes the estimate a few per cent too high.
    Noise that is not white, as after JPEG or a camera's own smoothing, makes it too low. Blocks with a NaN do not count.

    Args:
        observed: (..., *n), where n has `axes` axes of at least 8 samples each. One of three axes may be shorter, such as the
            depth of a volume; it is left out.

    Raises:
        ShapeError: there are fewer samples.
        NonFinite: every block has a NaN.

    Source:
        Donoho & Johnstone, "Ideal spatial adaptation by wavelet shrinkage" (1994), sec. 4.2: the median over 0.6745;
        on the DCT of blocks: Ponomarenko et al., "An automatic approach to lossy compression of AVIRIS images" (2007).
    """
    if not observed.is_floating_point():
        raise DtypeError(f"estimate_noise: the samples are {observed.dtype}, but real floats were needed. Pass x.float().")
    long = [axis for axis in range(-axes, 0) if observed.ndim >= axes and observed.shape[axis] >= _SIDE]
    if axes < 1 or len(long) < min(axes, 2):
        raise ShapeError(
            f"estimate_noise: got {tuple(observed.shape)}, but at least {_SIDE} samples were needed along "
            f"{'the last axis' if axes == 1 else f'each of the last {axes} axes'}. Give the noise as a number."
        )
    first = _SIDE - 1 if observed.numel() >= _MANY else _SIDE - 2
    index, order = torch.arange(_SIDE, dtype=torch.float64), torch.arange(first, _SIDE, dtype=torch.float64)[:, None]
    high = (torch.cos(pi * (2 * index + 1) * order / (2 * _SIDE)) * (2 / _SIDE) ** 0.5).to(observed)
    finest = observed.detach()
    for axis in long:
        # `_along` keeps the axis in its position; `stack` puts a new axis for the frequencies in front.
        finest = torch.stack([_along(finest, axis, taps) for taps in high.tolist()])
    middle = float(finest.abs_().nanmedian())
    if isnan(middle):
        raise NonFinite(
            "estimate_noise: every block of 8 samples a side has a NaN, but one without was needed. Give the noise as a number."
        )
    return middle / 0.6745


def _along(x: Tensor, axis: int, taps: list[float]) -> Tensor:
    """Return the inner products of taps with every run of samples along one axis (valid correlation)."""
    # One shifted sum of the entire picture for each tap. Writing out the blocks (`unfold`) takes eight times the memory and
    # three times as long.
    many = x.shape[axis] - len(taps) + 1
    total = x.narrow(axis, 0, many) * taps[0]
    for start, tap in enumerate(taps[1:], 1):
        total.add_(x.narrow(axis, start, many), alpha=tap)
    return total
