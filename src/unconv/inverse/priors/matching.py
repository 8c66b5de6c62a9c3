"""Block matching: find the blocks most similar to each reference block of a picture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from unconv.inverse import headway
from unconv.inverse.priors.sliding_dct import SIDE, at_once, lattice

THIN = 2  # blocks are compared at every second sample along each axis
_REFERENCES = 4096  # in a band, so that the tensors for one comparison fit into the processor's cache
_GROUPS = 512  # filtered at once
_GPU = 8  # a GPU takes bands of so many times as many references


@dataclass(frozen=True)
class Matches:
    """Positions of the blocks most similar to each reference block, in one band of the picture.

    Attributes:
        top, height: the rows of the picture, taken as periodic, that the band's blocks touch.
        width: the width of the picture.
        columns: the number of references in a row.
        groups: the groups of some references at a time, each (members, references), int64. The values index the band's
            positions, row by row, each row as wide as the picture. The most similar block comes first.
    """

    top: int
    height: int
    width: int
    columns: int
    groups: tuple[Tensor, ...]

    @property
    def members(self) -> int:
        """The number of blocks in a group."""
        return len(self.groups[0])

    def rows(self, like: Tensor) -> Tensor:
        """Return the indices of the band's rows in the picture, on the device of `like`."""
        return (torch.arange(self.height, device=like.device) + self.top) % len(like)

    @cached_property
    def positions(self) -> Tensor:
        """The positions of all blocks, group by group: (blocks)."""
        return torch.cat([batch.flatten() for batch in self.groups])

    @cached_property
    def order(self) -> Tensor:
        """The order that sorts `positions`: first the blocks at the first position, then those at the second, and so on."""
        return self.positions.argsort(stable=True)

    @cached_property
    def starts(self) -> Tensor:
        """For every position of a block, the index in `order` of its first block: ((height - 7) · width)."""
        every = torch.arange((self.height - SIDE + 1) * self.width, device=self.positions.device)
        return torch.searchsorted(self.positions[self.order], every)

    def quarter(self, call: int) -> Matches:
        """Return every second reference of every second row, a different quarter at each call."""
        references = torch.cat(self.groups, 1).view(self.members, -1, self.columns)
        down, across = lattice(call, 2)
        return replace(self, columns=self.columns // 2, groups=_groups(references[:, down::2, across::2].flatten(1)))


def _groups(positions: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.split(positions, at_once(_GROUPS, positions), 1))


def match_blocks(picture: Tensor, members: int, window: int, step: int, at: tuple[int, int]) -> list[Matches]:
    """Return the blocks with the least squared distance to each reference, in bands of the picture.

    Args:
        members: blocks in a group.
        window: how far a block may lie from its reference, in samples.
        step: samples from one reference to the next, even.
        at: row and column of the first reference.
    """
    # The references are periodic with an even number of rows and columns, so that every second one covers the picture, too.
    rows, columns = (_even(n, step) for n in picture.shape)
    many = _REFERENCES if picture.device.type == "cpu" else _GPU * _REFERENCES
    per_band = max(2, many // columns // 2 * 2)
    bands = []
    for first in range(0, rows, per_band):
        headway.tell(first / rows)
        top, count = at[0] + first * step - window, min(per_band, rows - first)
        bands.append(_band(picture, top, at[1] - window, count, columns, members, window, step))
    return bands


def _even(length: int, step: int) -> int:
    """Return the smallest even number of steps that cover the length."""
    return 2 * -(-length // (2 * step))


def _band(picture: Tensor, top: int, left: int, rows: int, columns: int, members: int, window: int, step: int) -> Matches:
    """Match some rows of references, the first of them `window` samples below `top` and right of `left`."""
    height, near, width = (rows - 1) * step + SIDE + 2 * window, 2 * window + 1, picture.shape[1]
    part = _thinned(picture, top, left, height, (columns - 1) * step + SIDE + 2 * window)
    distances = _distances(part, rows, columns, window, step)
    distances[near * near // 2] = -1.0  # the reference itself comes first
    order = distances.topk(members, 0, largest=False).indices.view(members, rows, columns)
    down = torch.arange(rows, device=picture.device)[:, None] * step + order // near
    across = torch.arange(columns, device=picture.device) * step + left + order % near
    return Matches(top, height, width, columns, _groups((down * width + across % width).flatten(1)))


def _thinned(picture: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
    """Return the four phases of a part of the periodic picture, every second sample along each axis: (2, 2, rows, columns).

    They have two rows more than the part needs, into which reads beyond the end of the last row fall.
    """
    tall, wide = (-(-n // THIN) * THIN for n in (height, width))
    rows = (torch.arange(tall + 2 * THIN, device=picture.device) + top) % picture.shape[0]
    columns = (torch.arange(wide, device=picture.device) + left) % picture.shape[1]
    part = picture[rows[:, None], columns[None]]
    return part.view(-1, THIN, wide // THIN, THIN).permute(1, 3, 0, 2).contiguous()


def _distances(part: Tensor, rows: int, columns: int, window: int, step: int) -> Tensor:
    """Return the squared distance of each block within the window to the reference, (offsets, references).

    Args:
        part: from `_thinned`, beginning `window` samples before the first reference.
    """
    near, pitch, apart = 2 * window + 1, part.shape[-1], step // THIN
    # Each of the four phases is a flat array: the sample to the right is one further on, the one below `pitch` further on. A
    # block has four samples a side, whose sum is computed as sums of two, and then of two of these. Each array is only as long
    # as the next sum needs.
    sums = ((rows - 1) * pitch + columns - 1) * apart + 1
    below, beside = sums + 2 * pitch, sums + 3 * pitch
    flat, count = part.view(THIN, THIN, -1), beside + 3
    here = flat[window % THIN, window % THIN, window // THIN * (pitch + 1) :][:count]
    distances = part.new_empty(near, near, rows, columns)
    one, two = part.new_empty(2, window + 1, count)
    for down in range(near):
        for phase in range(THIN):
            a, b = (x[: -(-(near - phase) // THIN)] for x in (one, two))
            shifted = flat[down % THIN, phase, down // THIN * pitch :].unfold(0, count, 1)[: len(a)]
            torch.sub(shifted, here, out=a).square_()
            torch.add(a[:, : beside + 2], a[:, 1 : beside + 3], out=b[:, : beside + 2])
            torch.add(b[:, :beside], b[:, 2 : beside + 2], out=a[:, :beside])
            torch.add(a[:, :below], a[:, pitch : pitch + below], out=b[:, :below])
            torch.add(b[:, :sums], b[:, 2 * pitch : 2 * pitch + sums], out=a[:, :sums])
            distances[down, phase::THIN] = a.as_strided(
                (len(a), rows, columns), (count, apart * pitch, apart), a.storage_offset()
            )
    return distances.view(near * near, -1)
