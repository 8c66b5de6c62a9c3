"""Denoise by BM3D-style block matching: structure repeats in a picture, noise does not.

Reference blocks lie every few samples. For each one, the most similar blocks within a window are stacked to a group. A DCT in
each block and a Haar transform across the group leave few large coefficients. These are shrunk and transformed back, and every
block returns to its position, where overlapping blocks are averaged. The idea is that of Dabov, Foi, Katkovnik & Egiazarian,
"Image denoising by sparse 3-D transform-domain collaborative filtering" (2007); the code is our own.

The DCT along rows is computed once for every position. Groups gather their blocks row by row, so that the DCT down the columns
and the Haar transform are products with small matrices. Bands of references are processed one after the other, in memory that
stays in the processor's cache.
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

_FRAME_STEP, _OWN = 3, 0.6  # the first estimate: step of its sliding DCT; weight of its groups against that

Shrink = Callable[[Tensor, Tensor | None], Tensor]


class SimilarBlocks:
    """Denoise by block matching: groups of similar blocks pass an empirical Wiener filter, set by a first estimate.

    `SlidingDct` makes the first estimate. For noise up to `thorough_below`, this is averaged with a second one, the hard
    threshold of a quarter of the groups, in a share of three fifths for the groups, because the errors of the two differ. For
    stronger noise, where a plug-and-play solver is still far from its end, references lie twice as far apart. Blocks are
    matched on the first channel. They are matched again only every few calls, because a solver's picture changes little from
    one call to the next. If the deviation rises or the shape changes, they are matched at once.

    Args:
        members: blocks in a group, a power of two.
        window: how far a block may lie from its reference, in samples.
        step: samples from one reference to the next; even, and at most 4, so that every second reference covers the picture.
        rematch: calls from one matching to the next.
        threshold: as in `SlidingDct`.
        thorough_below: a standard deviation of the noise; see above.
        all_below: a standard deviation of the noise; above it only a quarter of the groups pass the filter, another quarter at
            each call.
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
                f"SimilarBlocks: members is {members}, window {window}, step {step} and rematch {rematch}, but at least 1 of "
                f"each, an even step of at most {SIDE // 2}, and a power of two for members that the window has room for, "
                "were needed. Leave them at their defaults."
            )
        self.members, self.window, self.step, self.rematch = members, window, step, rematch
        self.threshold, self.thorough_below, self.all_below = threshold, thorough_below, all_below
        self.frame = SlidingDct(_FRAME_STEP, threshold)
        self._age, self._matchings, self._space = 0, 0, Workspace()
        self._last: tuple[torch.Size, float, bool] = (torch.Size(), 0.0, False)
        self._matches: list[Matches] = []

    @checks_kinds
    def __call__(self, noisy: Tensor, deviation: float) -> Tensor:
        """Remove white noise of this standard deviation from (..., H, W); the picture is treated as periodic."""
        refuse_no_picture("SimilarBlocks", noisy, deviation)
        flat = noisy.detach().reshape(-1, *noisy.shape[-2:])
        with headway.part(0, 0.15):
            pilots = self.frame(flat, deviation)
        if min(flat.shape[-2:]) < 2 * self.window + 2 * SIDE:
            return pilots.reshape(noisy.shape)  # too small for a window of similar blocks
        thorough = deviation <= self.thorough_below
        with headway.part(0.15, 0.3):
            self._match(pilots[0], deviation, thorough)
        some = [band.quarter(self._age) for band in self._matches] if thorough else self._matches
        if thorough:
            least = hard_threshold(self.threshold * deviation)
            for number, (plane, pilot) in enumerate(zip(flat, pilots, strict=True)):
                with headway.part(*(0.3 + 0.2 * (number + n) / len(flat) for n in (0, 1))):
                    pilot.lerp_(collaborative_filter(plane, None, some, least, self._space), _OWN)
        # While a solver is far from its end, a quarter of the groups is enough: the next call takes another quarter.
        gain = empirical_wiener(deviation**2)
        done: list[Tensor] = []
        for plane, pilot in zip(flat, pilots, strict=True):
            with headway.part(*(0.5 + 0.5 * (len(done) + n) / len(flat) for n in (0, 1))):
                groups = self._matches if deviation <= self.all_below else some
                done.append(collaborative_filter(plane, pilot, groups, gain, self._space))
        return torch.stack(done).reshape(noisy.shape)

    def _match(self, pilot: Tensor, deviation: float, thorough: bool) -> None:
        """Match blocks again if a new matching is due."""
        shape, before, was_thorough = self._last
        if (shape, was_thorough) != (pilot.shape, thorough) or deviation > before or self._age >= self.rematch:
            step = self.step if thorough else 2 * self.step
            at = lattice(self._matchings, step)
            self._matches = match_blocks(pilot, self.members, self.window, step, at)
            self._age, self._matchings = 0, self._matchings + 1
        self._age += 1
        self._last = (pilot.shape, deviation, thorough)


def hard_threshold(least: float) -> Shrink:
    """Return a hard threshold that keeps a group's mean; the weight is one over the number of coefficients mask."""

    def shrink(group: Tensor, _pilot: Tensor | None) -> Tensor:
        means = group[0, :, 0].clone()
        mask = group.abs().ge_(least)
        group.mul_(mask)
        group[0, :, 0] = means
        return mask.sum(0).sum(1).clamp_(min=1).reciprocal_()

    return shrink


def empirical_wiener(variance: float) -> Shrink:
    """Return a Wiener filter set by a pilot, which keeps the mean; the weight is one over the sum of squared gains."""

    def shrink(group: Tensor, pilot: Tensor | None) -> Tensor:
        assert pilot is not None
        gains = pilot.square_()
        gains.div_(gains + variance)
        gains[0, :, 0] = 1
        group.mul_(gains)
        return gains.square_().sum(0).sum(1).clamp_(min=1e-6).reciprocal_()

    return shrink


def _powers(window: int) -> list[int]:
    """Return the powers of two that a window has room for."""
    return [2**k for k in range(31) if 2**k <= (2 * window + 1) ** 2]


def collaborative_filter(
    noisy: Tensor, pilot: Tensor | None, matches: list[Matches], shrink: Shrink, space: Workspace
) -> Tensor:
    """Shrink every group and average its blocks at their positions, with the weights from `shrink`; return (H, W)."""
    total, weight = torch.zeros_like(noisy), torch.zeros_like(noisy)
    for number, band in enumerate(matches):
        headway.tell(number / len(matches))
        blocks, weights = _filter_band(band, noisy, pilot, shrink, space)
        rows = band.rows(noisy)
        total.index_add_(0, rows, blocks)
        weight.index_add_(0, rows, weights)
    return total.div_(weight.clamp_(min=torch.finfo(weight.dtype).tiny))


def _filter_band(band: Matches, noisy: Tensor, pilot: Tensor | None, shrink: Shrink, space: Workspace) -> tuple[Tensor, Tensor]:
    """Filter one band: (sum of weighted blocks, sum of weights), each (height of the band, W)."""
    source, guide = lines(noisy, band), None if pilot is None else lines(pilot, band)
    # Groups go through the transforms a few hundred at a time, so that the three work tensors stay in the cache. All blocks
    # come back before they are summed, so that `embedding_bag` sums those of each position in one pass.
    down, across = line_cosines(noisy.dtype, noisy.device), haar(band.members, noisy.dtype, noisy.device)
    returned = space.take("returned", noisy, SIDE, len(band.positions) * SIDE)
    shares, done = [], 0
    for positions in band.groups:
        columns = slice(done, done := done + positions.numel() * SIDE)
        one, two, three = (space.take(name, noisy, SIDE, columns.stop - columns.start) for name in ("one", "two", "three"))
        group = _stacked(source, band, positions, down, across, one, two)
        guide_group = None if guide is None else _stacked(guide, band, positions, down, across, one, three)
        weights = shrink(group, guide_group)
        shares.append(weights.expand(band.members, -1).flatten())
        apart = group.mul_(weights[:, None]).view(SIDE, band.members, -1)
        torch.matmul(across.t(), apart, out=one.view_as(apart))
        torch.mm(down.t(), one, out=returned[:, columns])
    total = torch.zeros_like(source)
    for row, blocks in enumerate(returned):
        part = F.embedding_bag(band.order, blocks.view(-1, SIDE), band.starts, mode="sum").view(-1, *source.shape[1:])
        total[row : row + len(part)] += part
    weight = noisy.new_zeros(band.height - SIDE + 1, band.width)
    weight.view(-1).index_add_(0, band.positions, torch.cat(shares))
    return synthesis(total), boxes(weight)


def _stacked(
    source: Tensor, band: Matches, positions: Tensor, down: Tensor, across: Tensor, one: Tensor, out: Tensor
) -> Tensor:
    """Gather groups and transform them, by the DCT down and Haar across the group; return (8 · members, groups, 8)."""
    rows = torch.arange(SIDE, device=positions.device)[:, None] * band.width + positions.flatten()
    torch.index_select(source.view(-1, SIDE), 0, rows.flatten(), out=out.view(-1, SIDE))
    torch.mm(down, out, out=one)
    torch.matmul(across, one.view(SIDE, band.members, -1), out=out.view(SIDE, band.members, -1))
    return out.view(SIDE * band.members, -1, SIDE)


def lines(picture: Tensor, band: Matches) -> Tensor:
    """Return the DCT along rows of the eight samples from every sample on, periodic: (height, W, 8)."""
    part = picture[band.rows(picture)]
    around = torch.cat([part, part[:, : SIDE - 1]], 1)
    shifted = around.unfold(1, band.width, 1).transpose(0, 1).reshape(SIDE, -1)
    return (shifted.t() @ line_cosines(picture.dtype, picture.device).t()).view(*part.shape, SIDE)


def synthesis(coefficients: Tensor) -> Tensor:
    """Apply the adjoint of `lines`, except for its choice of rows; return (height, W)."""
    basis = line_cosines(coefficients.dtype, coefficients.device)
    samples = torch.mm(basis.t(), coefficients.view(-1, SIDE).t()).view(SIDE, *coefficients.shape[:2])
    return _shifted_sum(samples)


def boxes(weights: Tensor) -> Tensor:
    """Spread the weights (H, W) of blocks over their samples, periodic along rows; return (H + 7, W)."""
    tall, wide = weights.shape
    columns = _shifted_sum(weights.expand(SIDE, tall, wide))
    total = weights.new_zeros(tall + SIDE - 1, wide)
    for row in range(SIDE):
        total[row : row + tall].add_(columns)
    return total


def _shifted_sum(samples: Tensor) -> Tensor:
    """Sum (8, H, W) over its first axis, the n-th plane shifted right by n samples, periodic; return (H, W)."""
    width = samples.shape[-1]
    total = samples.new_zeros(samples.shape[1], width + SIDE - 1)
    for column, each in enumerate(samples):
        total[:, column : column + width].add_(each)
    total[:, : SIDE - 1] += total[:, width:]
    return total[:, :width]


def haar(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the orthonormal Haar transform, (n, n), with n a power of two: the mean first, the finest differences last."""
    rows = torch.ones(1, 1, dtype=torch.float64)
    while len(rows) < n:
        sums = torch.kron(rows, torch.tensor([[1.0, 1.0]], dtype=torch.float64))
        differences = torch.kron(torch.eye(len(rows), dtype=torch.float64), torch.tensor([[1.0, -1.0]], dtype=torch.float64))
        rows = torch.cat([sums, differences]) / sqrt(2)
    return rows.to(device=device, dtype=dtype)
