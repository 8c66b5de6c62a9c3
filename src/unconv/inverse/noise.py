"""Estimate how strong the noise is, from the observed samples alone."""

from __future__ import annotations

from math import isnan, pi

import torch
from torch import Tensor

from unconv.errors import DtypeError, NonFinite, ShapeError
from unconv.kinds import checks_kinds

_SIDE = 8  # samples of a block along every axis
_MANY = 2**14  # with so many samples the last cosine alone is enough; with fewer the last two count


@checks_kinds
def estimate_noise(observed: Tensor, axes: int = 2) -> float:
    """Estimate the standard deviation of white noise, in the units of `observed`.

    It is the median size of the DCT coefficients of 8 × 8 blocks at their highest frequencies, where a blurred picture has
    next to nothing. Fine texture that was not blurred makes it a few per cent too high; noise that is not white, as after
    JPEG or a camera's own smoothing, too low. Blocks with a NaN do not count.

    Args:
        observed: (..., *n), n of `axes` axes, each of at least 8 samples; of three one may be shorter, as the depth of a
            volume is, and is left out.

    Raises:
        ShapeError: fewer samples.
        NonFinite: no block without NaN.

    Source:
        Donoho & Johnstone, "Ideal spatial adaptation by wavelet shrinkage" (1994), sec. 4.2: the median over 0.6745;
        on cosines of blocks: Ponomarenko et al., "An automatic approach to lossy compression of AVIRIS images" (2007).
    """
    if not observed.is_floating_point():
        raise DtypeError(f"estimate_noise: the samples are {observed.dtype}, but real floats were needed. Pass x.float().")
    long = [axis for axis in range(-axes, 0) if observed.ndim >= axes and observed.shape[axis] >= _SIDE]
    if axes < 1 or len(long) < min(axes, 2):
        raise ShapeError(
            f"estimate_noise: got {tuple(observed.shape)}, but at least {_SIDE} samples along each of the last {axes} axes "
            "were needed. Give the noise as a number."
        )
    first = _SIDE - 1 if observed.numel() >= _MANY else _SIDE - 2
    place, order = torch.arange(_SIDE, dtype=torch.float64), torch.arange(first, _SIDE, dtype=torch.float64)[:, None]
    high = (torch.cos(pi * (2 * place + 1) * order / (2 * _SIDE)) * (2 / _SIDE) ** 0.5).to(observed)
    finest = observed.detach()
    for axis in long:
        # The axis stays where it was; the cosines go to the front.
        finest = torch.stack([_along(finest, axis, taps) for taps in high.tolist()])
    middle = float(finest.abs_().nanmedian())
    if isnan(middle):
        raise NonFinite("estimate_noise: there is no block of 8 samples a side without NaN. Give the noise as a number.")
    return middle / 0.6745


def _along(x: Tensor, axis: int, taps: list[float]) -> Tensor:
    """Return the inner products of taps with the samples from every place on, along one axis."""
    # Sums of whole pictures: blocks written out one by one take eight times the memory, and three times as long.
    many = x.shape[axis] - len(taps) + 1
    total = x.narrow(axis, 0, many) * taps[0]
    for place, tap in enumerate(taps[1:], 1):
        total.add_(x.narrow(axis, place, many), alpha=tap)
    return total
