"""Samples that a camera spoiled: hot and dead ones, and those that more light than it counts has filled."""

from __future__ import annotations

from functools import reduce
from math import inf, pi, sqrt

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.pictures.measured import Measured

# How much further from its neighbours than any point of light a defect is; what a point is taken for at least, as by so many
# of its neighbours' spreads noise may lie apart; and deviations of the noise. First to be sure that there are any; where there
# are, less tells more of them.
_SURE, _LIKELY = (1.5, 1.6, 8.0), (0.5, 1.0, 5.0)
_KNOWN = 5  # defects that make others likely
_SHARE = 0.01  # of the picture's range, that a defect is apart at least
_SHARPEST = 12.0  # a PSF whose points stand further apart cannot be told from a defect
_MOST = 0.03  # share of samples: more are no defects
_OUTERMOST = 1 / 3  # of what its distance tells of a sample inside, that of one at the border does
_PASSES = 3  # one defect hides the next
_LOOKED_AT = 2**16  # samples that tell the noise
_ROUND = 0.3  # the noise of rounding to whole numbers
# How many times as many defects there are as samples between what is taken for one and so much less; from the bound on, what
# is taken for one is tried in so many steps.
_CLEAR, _STEP, _LEVELS = 2.0, 1.5, 6
_FULL, _FILLED = 4, 0.05  # samples that make a plateau, and its largest share: larger ones are white skies and pages
_BLOCK = 3.5  # how many of 3 × 3 samples, itself among them, most samples of a plateau have there
_FLAT = 0.02  # share of a PSF's largest value below which it counts as that
_STEEPER, _STEEPER_AT_WHITE = 2.0, 1.6  # than a picture that is not cut off can be beside a plateau
_SIDES = 0.25  # share of the samples beside a plateau that must be so
_WHITES = tuple(2.0**bits - 1 for bits in range(8, 17))  # the largest samples of cameras
_COMPRESSED = 5.0  # how far below white JPEG leaves samples that were white
_BESIDE = 2  # samples beside full ones of a photograph, which hold a part of the same light


def defects(given: Measured, kernel: Tensor, saturated: bool = True, counts: bool = False) -> tuple[Tensor | None, list[str]]:
    """Find the samples that are to be treated as missing, and say how many; None if there are none.

    A hot or dead sample stands further from its neighbours than a point of light, which is as wide as the PSF; and clearly so:
    there are fewer that stand just too far. A full one lies on a plateau at the picture's largest value that begins more
    steeply than the PSF lets a blurred picture rise. In photographs, of 8 bits, those beside it go with it: what little they
    hold of a lamp's light would have to come from somewhere, and would come as trails of dots.

    Args:
        kernel: the PSF; of a volume its planes count.
        saturated: full samples are looked for, too.
        counts: those beside full ones are kept, as what they hold of the light is counted.
    """
    if min(given.samples.shape[-2:]) < 8:
        return None, []
    compressed, photograph = given.jpeg is not None, given.peak == _WHITES[0] and not counts
    planes = given.samples.contiguous().reshape(-1, *given.samples.shape[-2:])
    whole = 1.0 if given.bounds is not None else 0.0
    # One neighbour at each end is left out, as it may be a defect, too; lines of one sample need all.
    ends = 1 if sharpness(kernel) <= _SHARPEST else 0
    sharp = sharpness(kernel, ends)
    made = []
    for samples in planes:
        plane = _Plane(samples, ends, whole)
        none = torch.zeros_like(plane.found)
        lone = none if compressed else _lone(plane, sharp)  # JPEG smears them
        made.append((lone, _full(plane, kernel, whole, compressed) if saturated else none))
    lone, full = (torch.stack(each) for each in zip(*made, strict=True))
    count, beside = int(full.count_nonzero()), ""
    if photograph and count:
        full, beside = _widened(full, len(full) if given.colour and given.samples.ndim == 3 else 1), " with those beside them"
    found, notes = (lone | full).reshape(given.samples.shape), []
    if bool(lone.any()):
        notes.append(f"deblur: {int(lone.sum())} hot or dead samples, narrower than the PSF, were treated as missing.")
    if count:
        filled = "; what shone there, such as lamps, is not restored" if beside else ""
        notes.append(f"deblur: {count} saturated samples{beside} were treated as missing{filled}.")
    return (found if notes else None), notes


def sharpness(kernel: Tensor, ends: int = 1) -> float:
    """Return by how many spreads of its neighbours a sample of the PSF lies apart from them at most.

    Args:
        ends: how many neighbours are left out at each end of their order.
    """
    planes = F.pad(kernel.double().abs(), (3, 3, 3, 3)).reshape(-1, *(n + 6 for n in kernel.shape[-2:]))
    planes = planes[planes.amax((1, 2)) > 0.1 * planes.max()]
    apart, spread = _beside(torch.stack([plane.unfold(0, 3, 1).unfold(1, 3, 1).reshape(-1, 9) for plane in planes]), ends)
    counts = apart.abs() > 0.02 * planes.max()
    ratios = torch.where(spread > 0, apart.abs() / spread, inf)[counts]
    return float(ratios.max()) if len(ratios) else 0.0


def _beside(blocks: Tensor, ends: int = 1) -> tuple[Tensor, Tensor]:
    """Of (..., 9) blocks: how far the sample in the middle lies from the median of the others, and how far those spread."""
    around = blocks[..., [0, 1, 2, 3, 5, 6, 7, 8]].sort(-1).values
    return blocks[..., 4] - (around[..., 3] + around[..., 4]) / 2, around[..., 7 - ends] - around[..., ends]


class _Plane:
    """One plane, the defects found so far, and how strong its noise is.

    Attributes:
        hidden: where nothing was observed, or all is.
        found: its defects.
        wide: its samples, mirrored by one; defects are replaced.
        noise: its standard deviation.
        least: how far from its neighbours a defect is at least.
    """

    def __init__(self, plane: Tensor, ends: int, whole: float) -> None:
        self.hidden, self.found, self._ends = plane.isnan(), torch.zeros_like(plane, dtype=torch.bool), ends
        every = max(plane.numel() // _LOOKED_AT, 1)
        few = plane.flatten()[::every]
        few = few[~few.isnan()] if bool((~few.isnan()).any()) else few.new_zeros(1)
        filled = torch.where(self.hidden, few.median(), plane)
        self.wide = F.pad(filled[None, None], (1, 1, 1, 1), mode="reflect")[0, 0]
        low, high = torch.quantile(few, few.new_tensor([0.01, 0.99])).tolist()
        self.least = _SHARE * (high - low)
        # Where the picture is flat, as where its range ends, no noise can be seen.
        apart = self.beside(torch.arange(0, plane.numel(), every, device=plane.device))[0].abs()
        apart = apart[apart > 0]
        self.noise = max(float(apart.median()) / 0.6745 / 1.2 if len(apart) else 0.0, _ROUND * whole)

    @property
    def samples(self) -> Tensor:
        inner: Tensor = self.wide[1:-1, 1:-1]
        return inner

    def blocks(self, places: Tensor) -> Tensor:
        """(len(places), 9): the samples around each place, an index into the plane."""
        w, flat = self.found.shape[1], self.wide.view(-1)
        corners: Tensor = places + 2 * torch.div(places, w, rounding_mode="floor")
        steps = torch.tensor([i * (w + 2) + j for i in range(3) for j in range(3)], device=places.device)
        return flat[corners[:, None] + steps]

    def beside(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Tell how far samples lie from the median of their neighbours, and how far these spread."""
        return _beside(self.blocks(places), self._ends)

    def extremes(self, least: float) -> Tensor:
        """Find the samples beyond all their neighbours, and at least so far from their mean."""
        (h, w), x = self.found.shape, self.samples
        rows = [self.wide[i : h + i] for i in range(3)]
        high, low, total = reduce(torch.maximum, rows), reduce(torch.minimum, rows), rows[0] + rows[1] + rows[2]
        high, low = (
            reduce(of, [ends[:, i : w + i] for i in range(3)]) for of, ends in ((torch.maximum, high), (torch.minimum, low))
        )
        mean = (total[:, :-2] + total[:, 1:-1]).add_(total[:, 2:]).sub_(x).div_(8)
        far = mean.sub_(x).abs_() > least
        places: Tensor = (((x >= high) | (x <= low)) & far & ~self.hidden).view(-1).nonzero()[:, 0]
        return places

    def mark(self, places: Tensor) -> Tensor:
        """Mark defects, replace them, and return their neighbours."""
        (h, w), (down, across) = self.found.shape, self._apart(places)
        self.found.view(-1)[places] = True
        self.wide[down + 1, across + 1] -= self.beside(places)[0]
        near = [(down + i).clamp(0, h - 1) * w + (across + j).clamp(0, w - 1) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        around: Tensor = torch.cat(near).unique()
        return around

    def inner(self, places: Tensor) -> Tensor:
        """Tell which places have all their neighbours."""
        (h, w), (down, across) = self.found.shape, self._apart(places)
        return (down > 0) & (down < h - 1) & (across > 0) & (across < w - 1)

    def _apart(self, places: Tensor) -> tuple[Tensor, Tensor]:
        w = self.found.shape[1]
        return torch.div(places, w, rounding_mode="floor"), places % w


def _lone(plane: _Plane, sharp: float) -> Tensor:
    """Tell hot and dead samples of one plane."""
    none = torch.zeros_like(plane.found)
    if sharp > _SHARPEST or bool(plane.hidden.all()):
        return none
    extremes = plane.extremes(0.5 * max(_LIKELY[2] * plane.noise, plane.least))  # one beside another draws the mean near
    for further, least, noises in (_SURE, _LIKELY):
        known = int(plane.found.count_nonzero())
        if least == _LIKELY[1] and known < _KNOWN:
            break
        places, level = extremes, None
        for _ in range(_PASSES):
            apart, spread = plane.beside(places)
            beyond = (apart.abs() - max(noises * plane.noise, plane.least)) / (further * max(sharp, least) * spread)
            beyond[(plane.found | plane.hidden).view(-1)[places]] = 0
            # Mirrored, the neighbours of the outermost samples are much alike, and tell less.
            beyond[~plane.inner(places)] *= _OUTERMOST if known else 0
            level = _gap(beyond, known) if level is None else level
            fresh = places[beyond > level]
            if not len(fresh):
                break
            places = plane.mark(fresh)
    return plane.found if int(plane.found.count_nonzero()) <= _MOST * plane.found.numel() else none


def _gap(beyond: Tensor, known: int) -> float:
    """Return how far beyond the bound defects begin: where more samples lie further away than just before.

    What belongs to the picture gets rare by and by: then what lies beyond is only its end. Where some are known, no more than
    these are added.
    """
    for level in (_STEP**n for n in range(_LEVELS)):
        further = int((beyond > level).sum())
        just = int(((beyond > level / _STEP) & (beyond <= level)).sum())
        if further >= _CLEAR * just and not 0 < known < further:
            return level
    return inf


def _full(plane: _Plane, kernel: Tensor, whole: float, compressed: bool) -> Tensor:
    """Tell the samples of a plateau at the plane's largest value, where no blurred picture has one."""
    none = torch.zeros_like(plane.found)
    top = plane.samples.max()
    white = whole > 0 and float(top) in _WHITES
    if compressed and not white:
        return none
    level = top - _COMPRESSED if compressed else top
    full = plane.samples >= level
    count = int(full.count_nonzero())
    if not _FULL <= count <= _FILLED * full.numel():
        return none
    # A point of light may have a plateau itself, as large as the PSF's; at white a larger one is of more light than that.
    flat = int((kernel >= (1 - _FLAT) * kernel.max()).sum())
    if flat >= _FULL and not (white and _extent(full, 2 * max(kernel.shape)) > flat):
        return none
    blocks = plane.blocks(full.view(-1).nonzero()[:, 0])
    rim = blocks[blocks < level]
    if float(((blocks >= level).sum(1) >= _BLOCK).double().mean()) < 0.5 or not len(rim):
        return none
    # A peak that is rounded has a plateau of one unit, and falls by the next with the square of its radius.
    rounded = whole * (1 + sqrt(pi / count)) ** 2
    rise = _rise(kernel, float(top - plane.samples.min()), whole + 4 * plane.noise)
    steeper = _STEEPER_AT_WHITE if white and not compressed else _STEEPER
    least = steeper * rise + 4 * plane.noise + rounded + (_COMPRESSED if compressed else 0.0)
    # At white the sides of a streak, which are steep, tell; elsewhere a peak of counts may have a few steep ones by chance.
    few = rim[:: max(len(rim) // _LOOKED_AT, 1)].double()
    beside = float(few.quantile(_SIDES if white else 0.5))
    return full if float(top) - beside > least else none


def _extent(full: Tensor, steps: int) -> float:
    """How many samples a plateau has, in the median of all samples of plateaus; they may be so many samples long."""
    number = torch.arange(1, full.numel() + 1, dtype=torch.double, device=full.device).view_as(full) * full
    for _ in range(steps):
        number = F.max_pool2d(number[None, None], 3, 1, 1)[0, 0] * full
    _, of, counts = number[full].unique(return_inverse=True, return_counts=True)
    return float(counts[of].double().median())


def _widened(full: Tensor, colours: int) -> Tensor:
    """Add the samples beside full ones, in all colours."""
    side = 2 * _BESIDE + 1
    of_all = full.view(-1, colours, *full.shape[1:]).any(1, keepdim=True)
    wide: Tensor = F.max_pool2d(of_all.float(), side, 1, _BESIDE) > 0
    return wide.expand(-1, colours, -1, -1).reshape(full.shape)


def _rise(kernel: Tensor, contrast: float, unseen: float) -> float:
    """Return how far a blurred edge of so much contrast rises in one sample at most, beside samples that rise unseen."""
    plane = kernel.double().abs()
    plane = plane.sum(0) if plane.ndim == 3 else plane
    rises = []
    for line in (plane.sum(0), plane.sum(1)):
        for way in (line, line.flip(0)):
            mass = contrast * way.cumsum(0) / way.sum()
            rises.append(float(mass[min(int((mass <= unseen).sum()), len(mass) - 1)]))
    return max(rises)
