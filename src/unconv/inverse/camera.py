"""How a camera counts light: its gain, offset and read noise, estimated from how the noise of a picture grows with the light.

A camera counts electrons, one for each photon that it caught. The number of electrons has Poisson noise: its variance equals
its mean. Reading adds noise of its own, the gain multiplies both, and an offset keeps the result above zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import comb, sqrt

import torch
from torch import Tensor

from unconv.errors import DtypeError, ShapeError
from unconv.kinds import check_fields, checks_kinds

_ORDER = 4  # of the differences: over five samples a blurred picture has next to none, so that noise alone is left
_SMALLEST, _GROWTH = 48, 1.4  # samples in the smallest bins, at both ends of the levels; how much larger each next bin is
_MOST_DIFFERENCES = 2**20  # a larger picture is thinned out to about so many
_ROUNDS, _PASSES = 20, 4  # iterations of the robust line fit; repetitions of binning and fit together
_SURE = 4.0  # standard errors by which the variance must grow, by default
_RISE = 1.5  # factor by which the variance must grow over the levels of the picture
_OFF = 0.4  # mean distance of the bins from the line, in logarithms of the variance; above it the line is refused
_DARK, _BIN = 0.15, 8  # share of the blocks that must be dark to make a floor; samples along a block's side
_FINE, _BELOW = 3, 5.5  # at a floor, means of 3 samples a side lie at most 5.5 of their deviations below it
_NEAR = 4.0  # block means up to so many deviations above the darkest still belong to the floor
_CUT = 0.02  # share of the samples at the minimum; above it the noise was cut off there
FEWEST = 2 * _BIN  # samples along each axis that `estimate_camera` needs


@dataclass(frozen=True)
class Camera:
    """A camera's gain, offset and read noise.

    Attributes:
        gain: counts per electron (a photon that was caught): the slope of the noise's variance over the level. Data sheets
            often give its reciprocal, electrons per count.
        offset: the count without light.
        read_noise: standard deviation, in electrons.
    """

    gain: float = 1.0
    offset: float = 0.0
    read_noise: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self)

    def electrons(self, samples: Tensor) -> Tensor:
        """Convert samples from counts to electrons."""
        return (samples - self.offset) / self.gain

    def counts(self, electrons: Tensor) -> Tensor:
        """Convert electrons to samples of the camera, in counts."""
        return electrons * self.gain + self.offset

    def variance(self, level: Tensor | float) -> Tensor | float:
        """Return the variance of the noise at a level, in counts squared; `level` is in counts."""
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
    """Estimate a camera's gain, offset and read noise from one blurred picture; None if its noise does not grow with the light.

    The fourth differences of a blurred picture hold only noise. Their variance, taken in bins of equal brightness, lies on a
    line over the level, and the slope of the line is the gain. Its intercept mixes the offset with the read noise. The
    darkest level of the picture separates the two, if enough of the picture is that dark. Light that falls everywhere counts
    as offset, too. A number that you pass is not estimated.

    Args:
        samples: (..., *n) in counts, where n has `axes` axes; NaN where a sample is missing.
        gain: counts per electron, if you know it.
        offset: the count without light, if you know it.
        read_noise: in electrons, if you know it.
        sure: standard errors by which the noise must grow.

    Raises:
        ShapeError: there are fewer than 16 samples along an axis.
        DtypeError: the samples are not floating-point numbers.

    Source:
        Foi, Trimeche, Katkovnik & Egiazarian, "Practical Poissonian-Gaussian noise modeling and fitting for single-image
        raw-data" (2008).
    """
    if not samples.is_floating_point():
        raise DtypeError(f"estimate_camera: the samples are {samples.dtype}, but floats were needed. Pass x.float().")
    if axes < 1 or samples.ndim < axes or min(samples.shape[-axes:]) < FEWEST:
        raise ShapeError(
            f"estimate_camera: got {tuple(samples.shape)}, but at least {FEWEST} samples were needed along "
            f"{'the last axis' if axes == 1 else f'each of the last {axes} axes'}. Give gain, offset and read noise as numbers."
        )
    x = samples.detach().double()
    fine, level = _differences(_above_cut(x), axes)
    sizes = _sizes(len(fine))
    if len(sizes) < 3:
        return None
    levels = torch.stack([part.mean() for part in level.split(sizes)])
    expected, slope, start = torch.ones_like(level), 0.0, 0.0
    for _ in range(_PASSES):
        # The levels differ widely within a bin, and the median of numbers of different scales is biased. So each difference
        # is divided by its expected deviation first, which the fit of the pass before gives.
        ratios = torch.stack([_mean_square(part) for part in (fine / expected.sqrt()).split(sizes)])
        means = torch.stack([part.mean() for part in expected.split(sizes)])
        slope, start, grows = _line(levels, ratios * means, levels.new_tensor([float(n) for n in sizes]), gain, sure)
        expected = (slope * level + start).clamp(min=1e-3 * float((ratios * means).max()) + torch.finfo(level.dtype).tiny)
    if not grows:
        return None
    dark = dark_level(x, axes, lambda level: slope * level + start) if offset is None else offset
    if dark is None:
        # The picture has no dark floor. Take the read noise as zero, or, where the offset would be negative, the offset.
        dark = max(-start / slope, 0.0)
    read_variance = max(start + slope * dark, 0.0)
    return Camera(slope, dark, sqrt(read_variance) / slope if read_noise is None else read_noise)


def _above_cut(x: Tensor) -> Tensor:
    """Return the samples with NaN for those at the minimum, if these are so many that the noise was cut off there."""
    at_minimum = x == x.nan_to_num(float("inf")).min()
    return x.masked_fill(at_minimum, torch.nan) if float(at_minimum.double().mean()) > _CUT else x


def _differences(x: Tensor, axes: int) -> tuple[Tensor, Tensor]:
    """Return fourth differences, scaled to the variance of the noise, and the level around each; sorted by level."""
    taps = torch.tensor([(-1.0) ** k * comb(_ORDER, k) for k in range(_ORDER + 1)], dtype=x.dtype, device=x.device)
    fine, level = x, x
    for axis in range(-axes, 0):
        fine, level = (each.unfold(axis, _ORDER + 1, 1) for each in (fine, level))
        # The variance of a difference is the mean of the samples' variances, weighted by the squares of its taps.
        fine, level = fine @ taps / taps.norm(), level @ taps.square() / taps.square().sum()
    fine, level = fine.flatten(), level.flatten()
    known = ~fine.isnan()
    fine, level = fine[known], level[known]
    step = max(len(fine) // _MOST_DIFFERENCES, 1)
    order = level[::step].argsort()
    return fine[::step][order], level[::step][order]


def _mean_square(x: Tensor) -> Tensor:
    """Return the mean square of normal numbers with outliers: whatever is beyond three deviations counts as three."""
    squares = x.square()
    variance = (squares.median() / 0.6745**2).clamp(min=0.1 * float(squares.mean()))
    for _ in range(_PASSES):
        variance = torch.minimum(squares, 9 * variance).mean() / 0.995
    return variance


def _sizes(total: int) -> list[int]:
    """Return the sizes of bins for `total` sorted samples: small at both ends, where the levels lie far apart."""
    half: list[int] = []
    size = float(_SMALLEST)
    while sum(half) + size < 0.45 * total:
        half.append(int(size))
        size *= _GROWTH
    middle = total - 2 * sum(half)
    return [*half, *([middle] if middle else []), *reversed(half)] if half else []


def _line(levels: Tensor, variances: Tensor, counts: Tensor, gain: float | None, sure: float) -> tuple[float, float, bool]:
    """Fit variance = slope * level + start robustly; also return whether the variance grows, and along a line."""
    tiny = torch.finfo(levels.dtype).tiny
    least = 1e-12 * float(levels.abs().max()) ** 2 + tiny
    slope, start, error = 0.0, float(variances.median()), 0.0
    fitted, trust = variances.clamp(min=least), torch.ones_like(levels)
    # Iteratively reweighted least squares. Each bin weighs by its variance's own uncertainty, which follows from the fitted
    # variance, and by Cauchy's weight, which takes from bins far distance the line.
    for _ in range(_ROUNDS):
        # A robust deviation of n samples is known to 1.17 / sqrt(2 n) of itself; half of them overlap.
        spread = fitted * (4 * 1.36 * 2 / counts + 0.01).sqrt()
        weight = trust / spread.square()
        centre = (weight * levels).sum() / weight.sum()
        across = (weight * (levels - centre).square()).sum().clamp(min=tiny)
        slope = float((weight * (levels - centre) * variances).sum() / across) if gain is None else gain
        start = float((weight * variances).sum() / weight.sum() - slope * centre)
        error = float(across.rsqrt())
        fitted = (slope * levels + start).clamp(min=max(least, 0.05 * float(variances.min())))
        trust = 1 / (1 + ((variances - fitted) / spread / 2).square())
    if gain is not None:
        return gain, start, True
    rise = float(fitted[-1] / fitted[0])
    distance = float(((variances.clamp(min=least).log() - fitted.log()).abs() * counts.sqrt()).sum() / counts.sqrt().sum())
    grows = slope > sure * error and rise > _RISE and distance < _OFF
    return slope, start, grows


def dark_level(samples: Tensor, axes: int, variance: float | Callable[[float], Tensor | float]) -> float | None:
    """Return the level of a picture's dark floor; None if too little of the picture lies there, or spots are darker still.

    Args:
        samples: (..., *n), where n has `axes` axes.
        variance: of the noise; one number, or a function of the level.
    """
    blocks, fine = samples.detach().double(), samples.detach().double()
    for axis in range(-axes, 0):
        blocks = blocks.unfold(axis, min(_BIN, blocks.shape[axis]), _BIN).mean(-1)
        fine = fine.unfold(axis, min(_FINE, fine.shape[axis]), 1).mean(-1)
    means = blocks[~blocks.isnan()].sort().values
    if not len(means):
        return None
    low = float(means[: max(len(means) // 20, 1)].median())  # of the darkest blocks, one in twenty: the minimum is noise
    deviation = sqrt(max(float(variance(low)) if callable(variance) else variance, 0.0))
    near = means[means <= low + _NEAR * deviation / _BIN ** (axes / 2)]
    floor = float(near.median())
    deepest = float(fine[~fine.isnan()].min())  # a darker spot, however small, shows that this is not the floor
    is_floor = len(near) >= _DARK * len(means) and deepest >= floor - _BELOW * deviation / _FINE ** (axes / 2)
    return floor if is_floor else None
