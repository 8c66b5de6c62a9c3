"""Find the defective samples of a picture: hot and dead ones, and saturated ones."""

from __future__ import annotations

from functools import reduce
from math import inf, pi, sqrt

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.pictures.measured import Measured

# Bounds for a defect, compared with a point of light: how many times sharper it must be than the PSF, the least sharpness
# assumed for the PSF (noise alone gives as much), and standard deviations of the noise. The first bounds find the certain
# ones. Where there are some, lower bounds find more of them.
_SURE, _LIKELY = (1.5, 1.6, 8.0), (0.5, 1.0, 5.0)
_KNOWN = 5  # so many certain defects make others likely
_SHARE = 0.01  # a defect differs from its neighbours by at least this share of the picture's range
_SHARPEST = 12.0  # a PSF sharper than this looks like a defect itself
_MOST = 0.03  # a larger share of the samples cannot be defects
_OUTERMOST = 1 / 3  # weight of a border sample's distance, whose neighbours are partly mirrored
_PASSES = 3  # one defect may hide the next
_LOOKED_AT = 2**16  # samples from which the noise is estimated
_ROUND = 0.3  # the noise of rounding to integers
# A bound is accepted if at least 2 times as many samples lie above it as in the step just below it. At most 6 bounds
# are tried, each 1.5 times the one before.
_CLEAR, _STEP, _LEVELS = 2.0, 1.5, 6
_FULL, _FILLED = 4, 0.05  # fewest samples of a plateau, and its largest share of the picture; larger ones are skies and pages
_BLOCK = 3.5  # most samples of a plateau have at least so many of their 3 × 3 neighbourhood in it, themselves included
_FLAT = 0.02  # samples of a PSF that fall below its maximum by less than this share belong to its own plateau
_STEEPER, _STEEPER_AT_WHITE = 2.0, 1.6  # how many times steeper than any blurred edge a saturated plateau must fall off
_SIDES = 0.25  # share of the samples beside a plateau that must be so steep
_WHITES = tuple(2.0**bits - 1 for bits in range(8, 17))  # largest sample values of cameras
_COMPRESSED = 5.0  # how far below white JPEG may leave samples that were white
_BESIDE = 2  # width of the rim around saturated samples of a photograph, which received part of the same light


def defects(picture: Measured, kernel: Tensor, saturated: bool = True, counts: bool = False) -> tuple[Tensor | None, list[str]]:
    """Return a mask of the samples to treat as missing, and notes with their number; the mask is None if there are none.

    A hot or dead sample differs more from its neighbours than a point of light, which is as wide as the PSF. The difference
    must be clear: fewer samples lie just below the bound than above it. A saturated sample lies on a plateau at the picture's
    maximum whose sides are steeper than the PSF allows. In photographs of 8 bits the samples beside it are treated as missing,
    too. They hold a little of a lamp's light, which a solver would explain by trails of dots.

    Args:
        picture: what was observed.
        kernel: the PSF; for a volume, the sharpness of its planes counts.
        saturated: look for saturated samples, too.
        counts: keep the samples beside saturated ones, because their light is counted.
    """
    if min(picture.samples.shape[-2:]) < 8:
        return None, []
    compressed, photograph = picture.jpeg is not None, picture.peak == _WHITES[0] and not counts
    planes = picture.samples.contiguous().reshape(-1, *picture.samples.shape[-2:])
    rounding = 1.0 if picture.bounds is not None else 0.0
    # The largest and the smallest neighbour are left out, because they may be defects, too. The PSF of a motion along a line of
    # single samples would look too sharp then, so there all neighbours count.
    ends = 1 if sharpness(kernel) <= _SHARPEST else 0
    sharp = sharpness(kernel, ends)
    masks = []
    for samples in planes:
        plane = _Plane(samples, ends, rounding)
        none = torch.zeros_like(plane.defects)
        lone = none if compressed else _lone(plane, sharp)  # JPEG spreads a defect over its block
        masks.append((lone, _full(plane, kernel, rounding, compressed) if saturated else none))
    lone, full = (torch.stack(each) for each in zip(*masks, strict=True))
    count, beside = int(full.count_nonzero()), ""
    if photograph and count:
        full, beside = (
            _widened(full, len(full) if picture.colour and picture.samples.ndim == 3 else 1),
            " and the samples beside them",
        )
    mask, notes = (lone | full).reshape(picture.samples.shape), []
    if bool(lone.any()):
        number = int(lone.sum())
        words = "sample, narrower than the PSF, was" if number == 1 else "samples, narrower than the PSF, were"
        notes.append(f"deblur: {number} hot or dead {words} treated as missing.")
    if count:
        lost = "; the lights there, such as lamps, are not restored" if beside else ""
        notes.append(f"deblur: {count} saturated samples{beside} were treated as missing{lost}.")
    return (mask if notes else None), notes


def sharpness(kernel: Tensor, ends: int = 1) -> float:
    """Return the sharpness of a PSF: the largest distance of a sample from its neighbours' median, over their spread.

    Args:
        ends: how many neighbours are left out at each end of their sorted order.
    """
    planes = F.pad(kernel.double().abs(), (3, 3, 3, 3)).reshape(-1, *(n + 6 for n in kernel.shape[-2:]))
    planes = planes[planes.amax((1, 2)) > 0.1 * planes.max()]
    apart, spread = _beside(torch.stack([plane.unfold(0, 3, 1).unfold(1, 3, 1).reshape(-1, 9) for plane in planes]), ends)
    counts = apart.abs() > 0.02 * planes.max()
    ratios = torch.where(spread > 0, apart.abs() / spread, inf)[counts]
    return float(ratios.max()) if len(ratios) else 0.0


def _beside(blocks: Tensor, ends: int = 1) -> tuple[Tensor, Tensor]:
    """Return, for (..., 9) blocks, the middle sample minus the median of the others, and the spread of these."""
    around = blocks[..., [0, 1, 2, 3, 5, 6, 7, 8]].sort(-1).values
    return blocks[..., 4] - (around[..., 3] + around[..., 4]) / 2, around[..., 7 - ends] - around[..., ends]


class _Plane:
    """One plane, its defects and its noise.

    Attributes:
        hidden: a mask of its missing samples.
        defects: a mask of the defects found so far.
        padded: its samples with defects replaced, and one mirrored sample around.
        noise: its standard deviation.
        least: the least distance of a defect from its neighbours.
    """

    def __init__(self, plane: Tensor, ends: int, rounding: float) -> None:
        self.hidden, self.defects, self._ends = plane.isnan(), torch.zeros_like(plane, dtype=torch.bool), ends
        step = max(plane.numel() // _LOOKED_AT, 1)
        few = plane.flatten()[::step]
        few = few[~few.isnan()] if bool((~few.isnan()).any()) else few.new_zeros(1)
        filled = torch.where(self.hidden, few.median(), plane)
        self.padded = F.pad(filled[None, None], (1, 1, 1, 1), mode="reflect")[0, 0]
        low, high = torch.quantile(few, few.new_tensor([0.01, 0.99])).tolist()
        self.least = _SHARE * (high - low)
        # Where the picture is flat, as where it is saturated, the distances are zero and show no noise.
        apart = self.beside(torch.arange(0, plane.numel(), step, device=plane.device))[0].abs()
        apart = apart[apart > 0]
        self.noise = max(float(apart.median()) / 0.6745 / 1.2 if len(apart) else 0.0, _ROUND * rounding)

    @property
    def samples(self) -> Tensor:
        inner: Tensor = self.padded[1:-1, 1:-1]
        return inner

    def blocks(self, at: Tensor) -> Tensor:
        """Return the 3 × 3 samples around each index `at` into the plane, (len(at), 9)."""
        w, flat = self.defects.shape[1], self.padded.view(-1)
        corners: Tensor = at + 2 * torch.div(at, w, rounding_mode="floor")
        steps = torch.tensor([i * (w + 2) + j for i in range(3) for j in range(3)], device=at.device)
        return flat[corners[:, None] + steps]

    def beside(self, at: Tensor) -> tuple[Tensor, Tensor]:
        """Return the distances of samples from the median of their neighbours, and the spreads of these."""
        return _beside(self.blocks(at), self._ends)

    def extremes(self, least: float) -> Tensor:
        """Return the indices of local maxima and minima that lie at least so far from their neighbours' mean."""
        (h, w), x = self.defects.shape, self.samples
        # Maximum, minimum and sum are separable: three rows, and then three columns of the results.
        rows = [self.padded[i : h + i] for i in range(3)]
        high, low, total = reduce(torch.maximum, rows), reduce(torch.minimum, rows), rows[0] + rows[1] + rows[2]
        high, low = (
            reduce(of, [ends[:, i : w + i] for i in range(3)]) for of, ends in ((torch.maximum, high), (torch.minimum, low))
        )
        mean = (total[:, :-2] + total[:, 1:-1]).add_(total[:, 2:]).sub_(x).div_(8)
        far = mean.sub_(x).abs_() > least
        at: Tensor = (((x >= high) | (x <= low)) & far & ~self.hidden).view(-1).nonzero()[:, 0]
        return at

    def mark(self, at: Tensor) -> Tensor:
        """Mark defects, replace them by their neighbours' median, and return the indices of the neighbours."""
        (h, w), (down, across) = self.defects.shape, self._row_and_column(at)
        self.defects.view(-1)[at] = True
        self.padded[down + 1, across + 1] -= self.beside(at)[0]
        near = [(down + i).clamp(0, h - 1) * w + (across + j).clamp(0, w - 1) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        around: Tensor = torch.cat(near).unique()
        return around

    def inner(self, at: Tensor) -> Tensor:
        """Return a mask of the indices that are not at the border."""
        (h, w), (down, across) = self.defects.shape, self._row_and_column(at)
        return (down > 0) & (down < h - 1) & (across > 0) & (across < w - 1)

    def _row_and_column(self, at: Tensor) -> tuple[Tensor, Tensor]:
        w = self.defects.shape[1]
        return torch.div(at, w, rounding_mode="floor"), at % w


def _lone(plane: _Plane, sharp: float) -> Tensor:
    """Return a mask of the hot and dead samples of one plane."""
    none = torch.zeros_like(plane.defects)
    if sharp > _SHARPEST or bool(plane.hidden.all()):
        return none
    extremes = plane.extremes(
        0.5 * max(_LIKELY[2] * plane.noise, plane.least)
    )  # half, because a defect beside another moves the mean towards it
    for further, least, noises in (_SURE, _LIKELY):
        known = int(plane.defects.count_nonzero())
        if least == _LIKELY[1] and known < _KNOWN:
            break
        at, level = extremes, None
        for _ in range(_PASSES):
            apart, spread = plane.beside(at)
            beyond = (apart.abs() - max(noises * plane.noise, plane.least)) / (further * max(sharp, least) * spread)
            beyond[(plane.defects | plane.hidden).view(-1)[at]] = 0
            # At the border the mirrored neighbours repeat each other, so their spread is too small.
            beyond[~plane.inner(at)] *= _OUTERMOST if known else 0
            level = _gap(beyond, known) if level is None else level
            fresh = at[beyond > level]
            if not len(fresh):
                break
            at = plane.mark(fresh)  # only these may show defects that the fresh ones hid
    return plane.defects if int(plane.defects.count_nonzero()) <= _MOST * plane.defects.numel() else none


def _gap(beyond: Tensor, known: int) -> float:
    """Return the level above which samples are defects: the first with clearly more samples above it than just below.

    The samples of the picture itself get rare only gradually, so that a level without such a gap has their tail above it. If
    some defects are known, at most as many are added.
    """
    for level in (_STEP**n for n in range(_LEVELS)):
        further = int((beyond > level).sum())
        just = int(((beyond > level / _STEP) & (beyond <= level)).sum())
        if further >= _CLEAR * just and not 0 < known < further:
            return level
    return inf


def _full(plane: _Plane, kernel: Tensor, rounding: float, compressed: bool) -> Tensor:
    """Return a mask of the saturated samples: a plateau at the plane's maximum that no blurred picture can have."""
    none = torch.zeros_like(plane.defects)
    top = plane.samples.max()
    white = rounding > 0 and float(top) in _WHITES
    if compressed and not white:
        return none
    level = top - _COMPRESSED if compressed else top
    full = plane.samples >= level
    count = int(full.count_nonzero())
    if not _FULL <= count <= _FILLED * full.numel():
        return none
    # The image of a point has a plateau itself, if the PSF has one. At white, only a larger plateau is saturated.
    flat = int((kernel >= (1 - _FLAT) * kernel.max()).sum())
    if flat >= _FULL and not (white and _extent(full, 2 * max(kernel.shape)) > flat):
        return none
    blocks = plane.blocks(full.view(-1).nonzero()[:, 0])
    rim = blocks[blocks < level]
    if float(((blocks >= level).sum(1) >= _BLOCK).double().mean()) < 0.5 or not len(rim):
        return none
    # Rounding gives a smooth peak a plateau, and its sides fall by the next unit with the square of the radius.
    rounded = rounding * (1 + sqrt(pi / count)) ** 2
    rise = _rise(kernel, float(top - plane.samples.min()), rounding + 4 * plane.noise)
    steeper = _STEEPER_AT_WHITE if white and not compressed else _STEEPER
    least = steeper * rise + 4 * plane.noise + rounded + (_COMPRESSED if compressed else 0.0)
    # At white a quarter of steep sides is enough, as a streak has. Below white half must be steep, because a peak of counts
    # may have a few steep sides by chance.
    few = rim[:: max(len(rim) // _LOOKED_AT, 1)].double()
    beside = float(few.quantile(_SIDES if white else 0.5))
    return full if float(top) - beside > least else none


def _extent(full: Tensor, steps: int) -> float:
    """Return the size of the plateau of the median saturated sample; plateaus may be up to `steps` samples long."""
    # Connected components: the largest label spreads to all neighbours, one sample a step.
    number = torch.arange(1, full.numel() + 1, dtype=torch.double, device=full.device).view_as(full) * full
    for _ in range(steps):
        number = F.max_pool2d(number[None, None], 3, 1, 1)[0, 0] * full
    _, label, counts = number[full].unique(return_inverse=True, return_counts=True)
    return float(counts[label].double().median())


def _widened(full: Tensor, colours: int) -> Tensor:
    """Widen the mask of saturated samples by their rim, in all colours."""
    side = 2 * _BESIDE + 1
    in_any = full.view(-1, colours, *full.shape[1:]).any(1, keepdim=True)
    widened: Tensor = F.max_pool2d(in_any.float(), side, 1, _BESIDE) > 0
    return widened.expand(-1, colours, -1, -1).reshape(full.shape)


def _rise(kernel: Tensor, contrast: float, unseen: float) -> float:
    """Return the largest step between samples of a blurred edge, next to samples that rise by no more than `unseen`."""
    plane = kernel.double().abs()
    plane = plane.sum(0) if plane.ndim == 3 else plane
    # The plateau may hide the first part of the edge, up to `unseen`. The edge response is the cumulative sum of the PSF.
    rises = []
    for line in (plane.sum(0), plane.sum(1)):
        for side in (line, line.flip(0)):
            mass = contrast * side.cumsum(0) / side.sum()
            rises.append(float(mass[min(int((mass <= unseen).sum()), len(mass) - 1)]))
    return max(rises)
