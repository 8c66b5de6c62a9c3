"""A denoiser by BM3D-style block matching: structure repeats in a picture, noise does not.

Reference blocks stand every few samples; the blocks most like each one, within a window, are stacked to a group. A
cosine transform in each block and a Haar transform across the group leave few large coefficients. They are shrunk and
transformed back, and every block returns to its place, where overlapping blocks are averaged. The idea is Dabov, Foi,
Katkovnik & Egiazarian's, "Image denoising by sparse 3-D transform-domain collaborative filtering" (2007); the code is
our own.

Cosines along rows are computed once for every place. Groups gather their blocks row by row, so that cosines down and Haar's
functions are products with small matrices; and every place sums what returns to it. Bands of references come one after the
other, in memory that stays in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, sqrt

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import ShapeError
from unconv.inverse import headway
from unconv.inverse.priors.matching import THIN, Matches, match_blocks
from unconv.inverse.priors.sliding_dct import SIDE, SlidingDct, Workspace, lattice, line_cosines, refuse_no_picture
from unconv.kinds import checks_kinds

_FRAME_STEP, _OWN = 3, 0.6  # the first estimate: the lattice of its DCT frame, and the share of the groups

Shrink = Callable[[Tensor, Tensor | None], Tensor]


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
        step: samples from one reference to the next, even; at most 4, so that every second one covers the picture.
        rematch: calls from one matching to the next.
        threshold: as in `SlidingDct`.
        thorough_below: a standard deviation of the noise.
        all_below: another; above it a quarter of the groups pass the filter, each call other ones.
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
        all_below: float = inf,
    ) -> None:
        if min(members, window, rematch) < 1 or step not in range(THIN, SIDE // 2 + 1, THIN) or members not in _powers(window):
            raise ShapeError(
                f"SimilarBlocks: members {members}, window {window}, step {step}, rematch {rematch}, but at least 1 of each, "
                f"an even step of at most {SIDE // 2}, and as members a power of two that the window has places for, were "
                "needed. Leave them at their defaults."
            )
        self.members, self.window, self.step, self.rematch = members, window, step, rematch
        self.threshold, self.thorough_below, self.all_below = threshold, thorough_below, all_below
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
        some = [band.quarter(self._age) for band in self._matches] if thorough else self._matches
        if thorough:
            least = hard_threshold(self.threshold * deviation)
            for number, (plane, pilot) in enumerate(zip(flat, pilots, strict=True)):
                with headway.part(*(0.3 + 0.2 * (number + n) / len(flat) for n in (0, 1))):
                    pilot.lerp_(collaborative_filter(plane, None, some, least, self._space), _OWN)
        gain = empirical_wiener(deviation**2)
        done: list[Tensor] = []
        for plane, pilot in zip(flat, pilots, strict=True):
            with headway.part(*(0.5 + 0.5 * (len(done) + n) / len(flat) for n in (0, 1))):
                groups = self._matches if deviation <= self.all_below else some
                done.append(collaborative_filter(plane, pilot, groups, gain, self._space))
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
        return kept.sum(0).sum(1).clamp_(min=1).reciprocal_()

    return shrink


def empirical_wiener(variance: float) -> Shrink:
    """Shrink each coefficient except the mean as its pilot's power says; weight: one over the sum of squared gains."""

    def shrink(group: Tensor, pilot: Tensor | None) -> Tensor:
        assert pilot is not None
        gains = pilot.square_()
        gains.div_(gains + variance)
        gains[0, :, 0] = 1
        group.mul_(gains)
        return gains.square_().sum(0).sum(1).clamp_(min=1e-6).reciprocal_()

    return shrink


def _powers(window: int) -> list[int]:
    """Return the numbers of members that a group may have."""
    return [2**k for k in range(31) if 2**k <= (2 * window + 1) ** 2]


def collaborative_filter(
    noisy: Tensor, pilot: Tensor | None, matches: list[Matches], shrink: Shrink, space: Workspace
) -> Tensor:
    """Shrink every group, put every block back, and average with the weights that `shrink` gives: (H, W)."""
    total, weight = torch.zeros_like(noisy), torch.zeros_like(noisy)
    for number, band in enumerate(matches):
        headway.tell(number / len(matches))
        made, weights = _filter_band(band, noisy, pilot, shrink, space)
        rows = band.rows(noisy)
        total.index_add_(0, rows, made)
        weight.index_add_(0, rows, weights)
    return total.div_(weight.clamp_(min=torch.finfo(weight.dtype).tiny))


def _filter_band(band: Matches, noisy: Tensor, pilot: Tensor | None, shrink: Shrink, space: Workspace) -> tuple[Tensor, Tensor]:
    """Filter one band: (sum of weighted blocks, sum of weights), each (height of the band, W)."""
    source, guide = lines(noisy, band), None if pilot is None else lines(pilot, band)
    down, across = line_cosines(noisy.dtype, noisy.device), haar(band.members, noisy.dtype, noisy.device)
    returned = space.take("returned", noisy, SIDE, len(band.places) * SIDE)
    shares, done = [], 0
    for places in band.groups:
        here = slice(done, done := done + places.numel() * SIDE)
        one, two, three = (space.take(name, noisy, SIDE, here.stop - here.start) for name in ("one", "two", "three"))
        group = _stacked(source, band, places, down, across, one, two)
        told = None if guide is None else _stacked(guide, band, places, down, across, one, three)
        weights = shrink(group, told)
        shares.append(weights.expand(band.members, -1).flatten())
        apart = group.mul_(weights[:, None]).view(SIDE, band.members, -1)
        torch.matmul(across.t(), apart, out=one.view_as(apart))
        torch.mm(down.t(), one, out=returned[:, here])
    total = torch.zeros_like(source)
    for row, blocks in enumerate(returned):
        part = F.embedding_bag(band.order, blocks.view(-1, SIDE), band.starts, mode="sum").view(-1, *source.shape[1:])
        total[row : row + len(part)] += part
    weight = noisy.new_zeros(band.height - SIDE + 1, band.width)
    weight.view(-1).index_add_(0, band.places, torch.cat(shares))
    return synthesis(total), boxes(weight)


def _stacked(source: Tensor, band: Matches, places: Tensor, down: Tensor, across: Tensor, one: Tensor, out: Tensor) -> Tensor:
    """Gather groups and transform them, cosines down and Haar's functions across the group: (8 · members, groups, 8)."""
    rows = torch.arange(SIDE, device=places.device)[:, None] * band.width + places.flatten()
    torch.index_select(source.view(-1, SIDE), 0, rows.flatten(), out=out.view(-1, SIDE))
    torch.mm(down, out, out=one)
    torch.matmul(across, one.view(SIDE, band.members, -1), out=out.view(SIDE, band.members, -1))
    return out.view(SIDE * band.members, -1, SIDE)


def lines(picture: Tensor, band: Matches) -> Tensor:
    """Return the cosine coefficients, along its row, of the eight samples from every one on, going round: (height, W, 8)."""
    part = picture[band.rows(picture)]
    around = torch.cat([part, part[:, : SIDE - 1]], 1)
    shifted = around.unfold(1, band.width, 1).transpose(0, 1).reshape(SIDE, -1)
    return (shifted.t() @ line_cosines(picture.dtype, picture.device).t()).view(*part.shape, SIDE)


def synthesis(coefficients: Tensor) -> Tensor:
    """The adjoint of `lines`, but for its choice of rows: (height, W)."""
    basis = line_cosines(coefficients.dtype, coefficients.device)
    samples = torch.mm(basis.t(), coefficients.view(-1, SIDE).t()).view(SIDE, *coefficients.shape[:2])
    return _shifted_sum(samples)


def boxes(weights: Tensor) -> Tensor:
    """Spread the weight of every block over its samples, going round along rows: (H + 7, W) of (H, W)."""
    tall, wide = weights.shape
    columns = _shifted_sum(weights.expand(SIDE, tall, wide))
    total = weights.new_zeros(tall + SIDE - 1, wide)
    for row in range(SIDE):
        total[row : row + tall].add_(columns)
    return total


def _shifted_sum(samples: Tensor) -> Tensor:
    """Sum (8, H, W), the n-th of the eight n samples further to the right, going round: (H, W)."""
    width = samples.shape[-1]
    total = samples.new_zeros(samples.shape[1], width + SIDE - 1)
    for column, each in enumerate(samples):
        total[:, column : column + width].add_(each)
    total[:, : SIDE - 1] += total[:, width:]
    return total[:, :width]


def haar(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the orthonormal Haar transform, (n, n), n a power of two: the mean first, the finest differences last."""
    rows = torch.ones(1, 1, dtype=torch.float64)
    while len(rows) < n:
        sums = torch.kron(rows, torch.tensor([[1.0, 1.0]], dtype=torch.float64))
        differences = torch.kron(torch.eye(len(rows), dtype=torch.float64), torch.tensor([[1.0, -1.0]], dtype=torch.float64))
        rows = torch.cat([sums, differences]) / sqrt(2)
    return rows.to(device=device, dtype=dtype)
