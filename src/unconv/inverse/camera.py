"""How a camera counts light: its gain, offset and read noise, told from a picture by how its noise grows with the light.

A camera counts electrons, each of them a photon that was caught. Light of so many electrons comes with Poisson noise of that
variance; reading adds noise of its own, the gain multiplies both, and an offset keeps the result above zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import comb, sqrt

import torch
from torch import Tensor

from unconv.errors import DtypeError, ShapeError
from unconv.kinds import check_fields, checks_kinds

_ORDER = 4  # of the differences that leave noise alone: five samples, which answer a blurred picture with next to nothing
_SMALLEST, _GROWTH = 48, 1.4  # samples of the smallest bins, at both ends of the levels, and how much larger the next one is
_MANY = 2**20  # differences that are looked at
_ROUNDS, _PASSES = 20, 4  # of the robust fit of a line, and of all from the bins on
_SURE = 4.0  # standard errors by which the variance must grow, unless more than that speaks for it
_RISE = 1.5  # by which factor it must grow over the levels there are
_OFF = 0.4  # mean distance of the bins from the line, in logarithms of the variance, above which it is no line
_DARK, _BIN = 0.15, 8  # share of blocks, and samples along their sides, that make a floor
_FINE, _BELOW = 3, 5.5  # means of so many samples a side lie at most so many deviations below a floor
_NEAR = 4.0  # deviations of a block's mean above the darkest that are still the floor
_CUT = 0.02  # share of samples at the least value, above which noise went further
FEWEST = 2 * _BIN  # samples along each axis that `estimate_camera` needs


@dataclass(frozen=True)
class Camera:
    """A camera's numbers.

    Attributes:
        gain: counts for each electron (a photon that was caught): a picture's variance over its level. Data sheets often
            give electrons per count, which is one over it.
        offset: counts without light.
        read_noise: standard deviation, in electrons.
    """

    gain: float = 1.0
    offset: float = 0.0
    read_noise: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self)

    def electrons(self, samples: Tensor) -> Tensor:
        """Return samples as electrons."""
        return (samples - self.offset) / self.gain

    def counts(self, electrons: Tensor) -> Tensor:
        """Return electrons as samples of the camera."""
        return electrons * self.gain + self.offset

    def variance(self, level: Tensor | float) -> Tensor | float:
        """Return the variance of samples around this level, both in counts."""
        light = level - self.offset
        light = light.clamp(min=0) if isinstance(light, Tensor) else max(light, 0.0)
        return self.gain * light + (self.gain * self.read_noise) ** 2

    def __str__(self) -> str:
        return f"gain {self.gain:.3g} counts per electron, offset {self.offset:.4g}, read noise {self.read_noise:.3g} electrons"


@checks_kinds
def estimate_camera(
    samples: Tensor,
    axes: int = 2,
    *,
    gain: float | None = None,
    offset: float | None = None,
    read_noise: float | None = None,
    sure: float = _SURE,
) -> Camera | None:
    """Estimate a camera from one blurred picture; None where its noise does not grow with the light.

    High differences of the samples hold noise alone, since a blur leaves nothing so fine. Their variance, bin by bin
    of the local mean, is a line: its slope is the gain. Where it meets zero lies the offset less what reading adds; the two
    are told apart by the darkest level, where a good part of the picture is that dark. Light that is everywhere counts
    as offset, too. Numbers that are given are not estimated.

    Args:
        samples: (..., *n) in counts, n of `axes` axes; NaN where none was observed.
        sure: standard errors by which the noise must grow.

    Raises:
        ShapeError: fewer than 16 samples along an axis.
        DtypeError: no floating samples.

    Source:
        Foi, Trimeche, Katkovnik & Egiazarian, "Practical Poissonian-Gaussian noise modeling and fitting for single-image
        raw-data" (2008).
    """
    if not samples.is_floating_point():
        raise DtypeError(f"estimate_camera: the samples are {samples.dtype}, but floats were needed. Pass x.float().")
    if axes < 1 or samples.ndim < axes or min(samples.shape[-axes:]) < FEWEST:
        raise ShapeError(
            f"estimate_camera: got {tuple(samples.shape)}, but {FEWEST} samples along each of the last {axes} axes were "
            "needed. Give gain, offset and read noise as numbers."
        )
    x = samples.detach().double()
    fine, level = _differences(_above_cut(x), axes)
    sizes = _sizes(len(fine))
    if len(sizes) < 3:
        return None
    levels = torch.stack([part.mean() for part in level.split(sizes)])
    expected, slope, start = torch.ones_like(level), 0.0, 0.0
    for _ in range(_PASSES):
        # Each difference over its expected size: levels differ widely within a bin, and a median of what is not alike lies.
        shares = torch.stack([_square(part) for part in (fine / expected.sqrt()).split(sizes)])
        means = torch.stack([part.mean() for part in expected.split(sizes)])
        slope, start, grows = _line(levels, shares * means, levels.new_tensor([float(n) for n in sizes]), gain, sure)
        expected = (slope * level + start).clamp(min=1e-3 * float((shares * means).max()) + torch.finfo(level.dtype).tiny)
    if not grows:
        return None
    dark = dark_level(x, axes, lambda level: slope * level + start) if offset is None else offset
    if dark is None:  # no floor to be seen: as if reading added nothing, or nothing were below zero
        dark = max(-start / slope, 0.0)
    left = max(start + slope * dark, 0.0)
    return Camera(slope, dark, sqrt(left) / slope if read_noise is None else read_noise)


def _above_cut(x: Tensor) -> Tensor:
    """Return samples with NaN for the least of them, where so many are alike that noise was cut off there."""
    least = x.nan_to_num(float("inf")).min()
    is_least = x == least
    return x.masked_fill(is_least, torch.nan) if float(is_least.double().mean()) > _CUT else x


def _differences(x: Tensor, axes: int) -> tuple[Tensor, Tensor]:
    """Return high differences of the samples, of the noise's own variance, and the level around each; sorted by that."""
    taps = torch.tensor([(-1.0) ** k * comb(_ORDER, k) for k in range(_ORDER + 1)], dtype=x.dtype, device=x.device)
    fine, level = x, x
    for axis in range(-axes, 0):
        fine, level = (each.unfold(axis, _ORDER + 1, 1) for each in (fine, level))
        # The variance of a difference is the mean of the samples' variances, weighted by the squares of its taps.
        fine, level = fine @ taps / taps.norm(), level @ taps.square() / taps.square().sum()
    fine, level = fine.flatten(), level.flatten()
    known = ~fine.isnan()
    fine, level = fine[known], level[known]
    every = max(len(fine) // _MANY, 1)
    order = level[::every].argsort()
    return fine[::every][order], level[::every][order]


def _square(x: Tensor) -> Tensor:
    """Return the mean square of normal numbers, some of which are not: what is beyond three deviations counts as three."""
    squares = x.square()
    found = (squares.median() / 0.6745**2).clamp(min=0.1 * float(squares.mean()))
    for _ in range(_PASSES):
        found = torch.minimum(squares, 9 * found).mean() / 0.995
    return found


def _sizes(total: int) -> list[int]:
    """Cut `total` sorted samples into bins that are small at both ends, where the levels lie far apart."""
    half: list[int] = []
    size = float(_SMALLEST)
    while sum(half) + size < 0.45 * total:
        half.append(int(size))
        size *= _GROWTH
    middle = total - 2 * sum(half)
    return [*half, *([middle] if middle else []), *reversed(half)] if half else []


def _line(levels: Tensor, variances: Tensor, counts: Tensor, gain: float | None, sure: float) -> tuple[float, float, bool]:
    """Fit variance = slope * level + start robustly, and say whether the variance grows, and along a line."""
    tiny = torch.finfo(levels.dtype).tiny
    least = 1e-12 * float(levels.abs().max()) ** 2 + tiny
    slope, start, error = 0.0, float(variances.median()), 0.0
    fitted, trust = variances.clamp(min=least), torch.ones_like(levels)
    for _ in range(_ROUNDS):
        # A robust deviation of n samples is known to 1.17 / sqrt(2 n) of itself; half of them overlap.
        spread = fitted * (4 * 1.36 * 2 / counts + 0.01).sqrt()
        weight = trust / spread.square()
        middle = (weight * levels).sum() / weight.sum()
        across = (weight * (levels - middle).square()).sum().clamp(min=tiny)
        slope = float((weight * (levels - middle) * variances).sum() / across) if gain is None else gain
        start = float((weight * variances).sum() / weight.sum() - slope * middle)
        error = float(across.rsqrt())
        fitted = (slope * levels + start).clamp(min=max(least, 0.05 * float(variances.min())))
        trust = 1 / (1 + ((variances - fitted) / spread / 2).square())
    if gain is not None:
        return gain, start, True
    rise = float(fitted[-1] / fitted[0])
    off = float(((variances.clamp(min=least).log() - fitted.log()).abs() * counts.sqrt()).sum() / counts.sqrt().sum())
    grows = slope > sure * error and rise > _RISE and off < _OFF
    return slope, start, grows


def dark_level(samples: Tensor, axes: int, variance: float | Callable[[float], Tensor | float]) -> float | None:
    """Return the level of a picture's dark part; None where no good part of it is as dark as its noise lets it be.

    Args:
        samples: (..., *n), n of `axes` axes.
        variance: of the noise; one number, or a function of the level.
    """
    blocks, fine = samples.detach().double(), samples.detach().double()
    for axis in range(-axes, 0):
        blocks = blocks.unfold(axis, min(_BIN, blocks.shape[axis]), _BIN).mean(-1)
        fine = fine.unfold(axis, min(_FINE, fine.shape[axis]), 1).mean(-1)
    means = blocks[~blocks.isnan()].sort().values
    if not len(means):
        return None
    low = float(means[: max(len(means) // 20, 1)].median())
    deviation = sqrt(max(float(variance(low)) if callable(variance) else variance, 0.0))
    near = means[means <= low + _NEAR * deviation / _BIN ** (axes / 2)]
    found = float(near.median())
    deepest = float(fine[~fine.isnan()].min())  # darker spots, however few, say that it is no floor
    is_floor = len(near) >= _DARK * len(means) and deepest >= found - _BELOW * deviation / _FINE ** (axes / 2)
    return found if is_floor else None
