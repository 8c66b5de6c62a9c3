"""A denoiser by BM3D-style block matching: structure repeats in a picture, noise does not.

Reference blocks stand every few samples; the blocks most like each one, within a window, are stacked to a group. A
cosine transform in each block and a Haar transform across the group leave few large coefficients. They are shrunk and
transformed back, and every block returns to its place, where overlapping blocks are averaged. The idea is Dabov, Foi,
Katkovnik & Egiazarian's, "Image denoising by sparse 3-D transform-domain collaborative filtering" (2007); the code is
our own.

Coefficients are computed once for every place, a convolution with 64 cosines; groups gather and scatter their rows;
synthesis is the transposed convolution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, sqrt

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import ShapeError
from unconv.inverse import headway
from unconv.inverse.priors.sliding_dct import (
    SIDE,
    SlidingDct,
    Workspace,
    add_boxes,
    at_once,
    cosines,
    lattice,
    refuse_no_picture,
)
from unconv.kinds import checks_kinds

_REFERENCES = 512  # groups worked on at once
_FRAME_STEP, _OWN = 3, 0.6  # the first estimate: the lattice of its DCT frame, and the share of the groups
_THIN = 2  # blocks are compared at every second sample along each axis
_ROWS = 128  # of the picture, whose coefficients are kept at once

Shrink = Callable[[Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class Matches:
    """Where the blocks most like each reference block of one band of the picture stand.

    Attributes:
        top, height: the rows of the picture, gone round, that the band's blocks touch.
        columns: how many references stand in a row.
        places: (members, references), int64; index into the band's places, row by row, each of them `SIDE` longer than the
            picture's; the most alike first.
    """

    top: int
    height: int
    columns: int
    places: Tensor

    def quarter(self, call: int) -> Matches:
        """Take every second reference of every second row, other ones at each call."""
        all_of_them = self.places.view(len(self.places), -1, self.columns)
        down, across = lattice(call, 2)
        return replace(self, places=all_of_them[:, down::2, across::2].flatten(1))


class SimilarBlocks:
    """A denoiser by block matching: groups of similar blocks pass an empirical Wiener filter, set by a first estimate.

    `SlidingDct` makes the first estimate. Below `thorough_below` it is averaged with a hard threshold of a quarter of the
    groups, at three fifths for the groups, because the errors of the two differ. Above, where a plug-and-play solver is
    still far from its end, references stand twice as far apart. Blocks are matched on the first channel, and again every
    few calls, since a solver's picture changes little from one call to the next. A deviation that rises, or another
    shape, begins anew.

    Args:
        members: blocks in a group, a power of two.
        window: how far from the reference they may stand, in samples.
        step: samples from one reference to the next, even.
        rematch: calls from one matching to the next.
        threshold: as in `SlidingDct`.
        thorough_below: a standard deviation of the noise.
    """

    @checks_kinds
    def __init__(
        self,
        members: int = 16,
        window: int = 14,
        step: int = 4,
        rematch: int = 5,
        threshold: float = 2.45,
        thorough_below: float = inf,
    ) -> None:
        if min(members, window, rematch) < 1 or step not in range(_THIN, SIDE + 1, _THIN) or members not in _powers(window):
            raise ShapeError(
                f"SimilarBlocks: members {members}, window {window}, step {step}, rematch {rematch}, but at least 1 of each, "
                f"an even step of at most {SIDE}, and as members a power of two that the window has places for, were needed. "
                "Leave them at their defaults."
            )
        self.members, self.window, self.step, self.rematch = members, window, step, rematch
        self.threshold, self.thorough_below = threshold, thorough_below
        self.frame = SlidingDct(_FRAME_STEP, threshold)
        self._age, self._matchings, self._space = 0, 0, Workspace()
        self._last: tuple[torch.Size, float, bool] = (torch.Size(), 0.0, False)
        self._matches: list[Matches] = []

    @checks_kinds
    def __call__(self, noisy: Tensor, deviation: float) -> Tensor:
        """(..., H, W) without white noise of this standard deviation; the picture goes round at its edges."""
        refuse_no_picture("SimilarBlocks", noisy, deviation)
        flat = noisy.detach().reshape(-1, *noisy.shape[-2:])
        with headway.part(0, 0.15):
            pilots = self.frame(flat, deviation)
        if min(flat.shape[-2:]) < 2 * self.window + 2 * SIDE:
            return pilots.reshape(noisy.shape)  # no room to look for similar blocks
        thorough = deviation <= self.thorough_below
        with headway.part(0.15, 0.3):
            self._match(pilots[0], deviation, thorough)
        if thorough:
            some, least = [band.quarter(self._age) for band in self._matches], hard_threshold(self.threshold * deviation)
            for number, (plane, pilot) in enumerate(zip(flat, pilots, strict=True)):
                with headway.part(*(0.3 + 0.2 * (number + n) / len(flat) for n in (0, 1))):
                    pilot.lerp_(collaborative_filter(plane, None, some, least, self._space), _OWN)
        gain = empirical_wiener(deviation**2)
        done: list[Tensor] = []
        for plane, pilot in zip(flat, pilots, strict=True):
            with headway.part(*(0.5 + 0.5 * (len(done) + n) / len(flat) for n in (0, 1))):
                done.append(collaborative_filter(plane, pilot, self._matches, gain, self._space))
        return torch.stack(done).reshape(noisy.shape)

    def _match(self, pilot: Tensor, deviation: float, thorough: bool) -> None:
        """Match anew where it is time to."""
        shape, before, was_thorough = self._last
        if (shape, was_thorough) != (pilot.shape, thorough) or deviation > before or self._age >= self.rematch:
            step = self.step if thorough else 2 * self.step
            at = lattice(self._matchings, step)
            self._matches = match_blocks(pilot, self.members, self.window, step, at)
            self._age, self._matchings = 0, self._matchings + 1
        self._age += 1
        self._last = (pilot.shape, deviation, thorough)


def hard_threshold(least: float) -> Shrink:
    """Keep a group's mean and the coefficients of at least this size; weight: one over how many are kept."""

    def shrink(group: Tensor, _pilot: Tensor | None) -> Tensor:
        means = group[0, :, 0].clone()
        kept = group.abs().ge_(least)
        group.mul_(kept)
        group[0, :, 0] = means
        return kept.sum((0, 2)).clamp_(min=1).reciprocal_()

    return shrink


def empirical_wiener(variance: float) -> Shrink:
    """Shrink each coefficient except the mean as its pilot's power says; weight: one over the sum of squared gains."""

    def shrink(group: Tensor, pilot: Tensor | None) -> Tensor:
        assert pilot is not None
        gains = pilot.square_()
        gains.div_(gains + variance)
        gains[0, :, 0] = 1
        group.mul_(gains)
        return gains.square_().sum((0, 2)).clamp_(min=1e-6).reciprocal_()

    return shrink


def _powers(window: int) -> list[int]:
    """Return the numbers of members that a group may have."""
    return [2**k for k in range(31) if 2**k <= (2 * window + 1) ** 2]


def match_blocks(picture: Tensor, members: int, window: int, step: int, at: tuple[int, int]) -> list[Matches]:
    """The blocks most like each reference, by the squared distance of their samples, in bands of the picture."""
    # Rows and columns of references go round, an even number of each: every other one covers the picture, too.
    tops = range(at[0], at[0] + _even(picture.shape[0], step) * step, step)
    per_band = max(2, _ROWS // step // 2 * 2)
    bands = (tops[first : first + per_band] for first in range(0, len(tops), per_band))
    made = []
    for number, band in enumerate(bands):
        headway.tell(number * per_band / len(tops))
        made.append(_band(picture, list(band), members, window, step, at[1]))
    return made


def _even(length: int, step: int) -> int:
    """Return the least even number of steps that cover the length."""
    return 2 * -(-length // (2 * step))


def _band(picture: Tensor, tops: list[int], members: int, window: int, step: int, left: int) -> Matches:
    width = picture.shape[1]
    top, tall = tops[0] - window, (tops[-1] - tops[0]) + 2 * window + SIDE
    around = _rows(picture, top, tall, window, 2 * step + SIDE)
    columns = _even(width, step)
    high, wide = (len(tops) - 1) * step + SIDE, (columns - 1) * step + SIDE
    near = 2 * window + 1
    here = around[window : window + high : _THIN, window + left : window + left + wide : _THIN].contiguous()
    distances = picture.new_empty(near, near, len(tops) * columns)
    shifted = picture.new_empty(near, *here.shape)
    for down in range(near):
        for right in range(near):
            there = around[down : down + high : _THIN, left + right : left + right + wide : _THIN]
            torch.sub(there, here, out=shifted[right])
        distances[down] = F.avg_pool2d(shifted.square_()[None], SIDE // _THIN, step // _THIN)[0].flatten(1)
    distances[window, window] = -1.0  # the reference itself comes first
    order = distances.view(near * near, -1).topk(members, 0, largest=False).indices
    rows = torch.arange(len(tops), device=picture.device)[:, None] * step + order.view(members, len(tops), columns) // near
    across = torch.arange(columns, device=picture.device) * step + left - window
    places = rows * (width + SIDE) + (across + order.view(members, len(tops), columns) % near) % width
    return Matches(top, tall, columns, places.flatten(1).contiguous())


def _rows(picture: Tensor, top: int, tall: int, margin: int = 0, beyond: int = SIDE) -> Tensor:
    """Take `tall` rows from `top` on, with `margin` samples on both sides and `beyond` more to the right, going round."""
    height, width = picture.shape
    rows = (torch.arange(tall, device=picture.device) + top) % height
    columns = torch.arange(-margin, width + margin + beyond, device=picture.device) % width
    return picture[rows[:, None], columns[None]]


def collaborative_filter(
    noisy: Tensor, pilot: Tensor | None, matches: list[Matches], shrink: Shrink, space: Workspace
) -> Tensor:
    """Shrink every group, put every block back, and average with the weights that `shrink` gives: (H, W)."""
    height, width = noisy.shape
    total, weight = torch.zeros_like(noisy), torch.zeros_like(noisy)
    for number, band in enumerate(matches):
        headway.tell(number / len(matches))
        made, weights = _filter_band(band, noisy, pilot, shrink, space)
        rows = (torch.arange(band.height, device=noisy.device) + band.top) % height
        for whole, part in ((total, made), (weight, weights)):
            part[:, : SIDE - 1] += part[:, width:]
            whole.index_add_(0, rows, part[:, :width].contiguous())
    return total.div_(weight.clamp_(min=torch.finfo(weight.dtype).tiny))


def _filter_band(band: Matches, noisy: Tensor, pilot: Tensor | None, shrink: Shrink, space: Workspace) -> tuple[Tensor, Tensor]:
    """Filter one band: (sum of weighted blocks, sum of weights), each (height of the band, W + 7)."""
    width, places = noisy.shape[1], band.places
    source = coefficients(noisy, band, space, "source")
    guide = None if pilot is None else coefficients(pilot, band, space, "guide")
    members = len(places)
    across = haar(members, noisy.dtype, noisy.device)
    total, weight = space.take("total", noisy, *source.shape).zero_(), noisy.new_zeros(len(source))
    for some in places.split(at_once(_REFERENCES, noisy), 1):
        index = some.reshape(-1)
        one, two, three = (space.take(name, noisy, len(index), SIDE**2) for name in ("one", "two", "three"))

        def stacked(rows: Tensor, out: Tensor, index: Tensor = index, one: Tensor = one) -> Tensor:
            torch.index_select(rows, 0, index, out=one)
            return torch.mm(across, one.view(members, -1), out=out.view(members, -1)).view(members, -1, SIDE**2)

        group = stacked(source, two)
        weights = shrink(group, None if guide is None else stacked(guide, three))
        group.mul_(weights[:, None])
        torch.mm(across.t(), group.view(members, -1), out=one.view(members, -1))
        total.index_add_(0, index, one)
        weight.index_add_(0, index, weights.expand(members, -1).reshape(-1))
    return synthesis(total, width, space), boxes(weight, width)


def coefficients(picture: Tensor, band: Matches, space: Workspace, name: str) -> Tensor:
    """Return the cosine coefficients of the block at every place, row by row: (places of the band, 64).

    Rows are `SIDE` longer than the picture's; the places there belong to no block.
    """
    pitch, tall = picture.shape[1] + SIDE, band.height - SIDE + 1
    around = _rows(picture, band.top, band.height + 1)  # one row more, into which the last one's end reads on
    basis = cosines(picture.dtype, picture.device).t()
    made = space.take(name, picture, tall * pitch, SIDE**2)
    many = min(tall, at_once(_SLICE, picture))
    some = space.take("slice", picture, many * pitch, SIDE, SIDE)
    for first in range(0, tall, many):
        count = min(many, tall - first) * pitch
        some[:count].copy_(around.as_strided((count, SIDE, SIDE), (1, pitch, 1), first * pitch))
        torch.mm(some[:count].view(-1, SIDE**2), basis, out=made[first * pitch : first * pitch + count])
    return made


_SLICE = 16  # rows of places transformed at once


def synthesis(rows: Tensor, width: int, space: Workspace) -> Tensor:
    """The adjoint of `coefficients`, without going round: (H, W + 7) of (H - 7 times W + 8, 64); zero where no block is."""
    pitch = width + SIDE
    tall = len(rows) // pitch
    total = rows.new_zeros(tall + SIDE - 1, width + SIDE - 1)
    basis = cosines(rows.dtype, rows.device).t()
    many = at_once(_SLICE, rows)
    for first in range(0, tall, many):
        part = rows[first * pitch : (first + many) * pitch]
        samples = torch.mm(basis, part.t(), out=space.take("turned", rows, SIDE**2, len(part)))
        add_rows(total, samples.view(SIDE, SIDE, -1, pitch), first)
    return total


def add_rows(total: Tensor, samples: Tensor, first: int) -> None:
    """Add blocks, (8, 8, rows, W + 8) with zeros in the last 8 columns, where they stand from row `first` on.

    The n-th column of a block goes n columns to the right. Those zeros let one view do that, which steps back by n.
    """
    down, across, along, _ = samples.stride()
    _, _, count, pitch = samples.shape
    lines = samples.as_strided((SIDE, SIDE, count, pitch - 1), (down, across - 1, along, 1)).sum(1)
    for row, line in enumerate(lines):
        total[first + row : first + row + count].add_(line)


def boxes(weights: Tensor, width: int) -> Tensor:
    """Spread the weight of every block over its samples: (H, W + 7)."""
    tall = len(weights) // (width + SIDE)
    total = weights.new_zeros(tall + SIDE - 1, width + SIDE - 1)
    add_boxes(total, weights.view(tall, width + SIDE)[:, :width], 0, 1)
    return total


def haar(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the orthonormal Haar transform, (n, n), n a power of two: the mean first, the finest differences last."""
    rows = torch.ones(1, 1, dtype=torch.float64)
    while len(rows) < n:
        sums = torch.kron(rows, torch.tensor([[1.0, 1.0]], dtype=torch.float64))
        differences = torch.kron(torch.eye(len(rows), dtype=torch.float64), torch.tensor([[1.0, -1.0]], dtype=torch.float64))
        rows = torch.cat([sums, differences]) / sqrt(2)
    return rows.to(device=device, dtype=dtype)
