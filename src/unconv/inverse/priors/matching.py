"""Where the blocks most like each reference block of a picture stand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from unconv.inverse import headway
from unconv.inverse.priors.sliding_dct import SIDE, at_once, lattice

THIN = 2  # blocks are compared at every second sample along each axis
_REFERENCES = 4096  # of a band: what is written for them, and for what they are compared with, lies in the processor's cache
_GROUPS = 512  # worked on at once
_GPU = 8  # times as many at once on a GPU


@dataclass(frozen=True)
class Matches:
    """Where the blocks most like each reference block of one band of the picture stand.

    Attributes:
        top, height: the rows of the picture, gone round, that the band's blocks touch.
        width: of the picture.
        columns: how many references stand in a row.
        groups: of some references at a time, (members, references), int64; index into the band's places, row by row, each as
            wide as the picture; the most alike first.
    """

    top: int
    height: int
    width: int
    columns: int
    groups: tuple[Tensor, ...]

    @property
    def members(self) -> int:
        """How many blocks are in a group."""
        return len(self.groups[0])

    def rows(self, like: Tensor) -> Tensor:
        """Return which rows of the picture the band's are, on the device of `like`."""
        return (torch.arange(self.height, device=like.device) + self.top) % len(like)

    @cached_property
    def places(self) -> Tensor:
        """Where all blocks stand, group by group: (blocks)."""
        return torch.cat([some.flatten() for some in self.groups])

    @cached_property
    def order(self) -> Tensor:
        """Which of `places` are the first place, then which are the second, and so on: (blocks)."""
        return self.places.argsort(stable=True)

    @cached_property
    def starts(self) -> Tensor:
        """For every place of a block, where in `order` its own begin: ((height - 7) · width)."""
        every = torch.arange((self.height - SIDE + 1) * self.width, device=self.places.device)
        return torch.searchsorted(self.places[self.order], every)

    def quarter(self, call: int) -> Matches:
        """Take every second reference of every second row, other ones at each call."""
        all_of_them = torch.cat(self.groups, 1).view(self.members, -1, self.columns)
        down, across = lattice(call, 2)
        return replace(self, columns=self.columns // 2, groups=_groups(all_of_them[:, down::2, across::2].flatten(1)))


def _groups(places: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.split(places, at_once(_GROUPS, places), 1))


def match_blocks(picture: Tensor, members: int, window: int, step: int, at: tuple[int, int]) -> list[Matches]:
    """Find the blocks most like each reference, by the squared distance of their samples, in bands of the picture.

    Args:
        members: blocks in a group.
        window: how far from the reference they may stand.
        step: from one reference to the next, even.
        at: where the first reference stands.
    """
    # Rows and columns of references go round, an even number of each: every other one covers the picture, too.
    rows, columns = (_even(n, step) for n in picture.shape)
    many = _REFERENCES if picture.device.type == "cpu" else _GPU * _REFERENCES
    per_band = max(2, many // columns // 2 * 2)
    made = []
    for first in range(0, rows, per_band):
        headway.tell(first / rows)
        top, count = at[0] + first * step - window, min(per_band, rows - first)
        made.append(_band(picture, top, at[1] - window, count, columns, members, window, step))
    return made


def _even(length: int, step: int) -> int:
    """Return the least even number of steps that cover the length."""
    return 2 * -(-length // (2 * step))


def _band(picture: Tensor, top: int, left: int, rows: int, columns: int, members: int, window: int, step: int) -> Matches:
    """Match the blocks of some rows of references, the first of which stands `window` samples from `top` and `left`."""
    height, near, width = (rows - 1) * step + SIDE + 2 * window, 2 * window + 1, picture.shape[1]
    part = _thinned(picture, top, left, height, (columns - 1) * step + SIDE + 2 * window)
    distances = _distances(part, rows, columns, window, step)
    distances[near * near // 2] = -1.0  # the reference itself comes first
    order = distances.topk(members, 0, largest=False).indices.view(members, rows, columns)
    down = torch.arange(rows, device=picture.device)[:, None] * step + order // near
    across = torch.arange(columns, device=picture.device) * step + left + order % near
    return Matches(top, height, width, columns, _groups((down * width + across % width).flatten(1)))


def _thinned(picture: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
    """Cut a part out of the picture, going round, and thin it from every sample of a square on: (2, 2, rows, columns).

    There are two rows more than the part has, into which the end of the last one reads on.
    """
    tall, wide = (-(-n // THIN) * THIN for n in (height, width))
    rows = (torch.arange(tall + 2 * THIN, device=picture.device) + top) % picture.shape[0]
    columns = (torch.arange(wide, device=picture.device) + left) % picture.shape[1]
    part = picture[rows[:, None], columns[None]]
    return part.view(-1, THIN, wide // THIN, THIN).permute(1, 3, 0, 2).contiguous()


def _distances(part: Tensor, rows: int, columns: int, window: int, step: int) -> Tensor:
    """(offsets, references): how far each block within the window is from the reference; offsets row by row.

    Args:
        part: as `_thinned` gives it, beginning `window` samples before the first reference.
    """
    near, pitch, apart = 2 * window + 1, part.shape[-1], step // THIN
    # Each of the four thinned pictures lies flat: what is to the right is one further on, what is below one row further on.
    # A block has four samples a side: sums of two, and of two of these, each list as long as the next one needs.
    sums = ((rows - 1) * pitch + columns - 1) * apart + 1
    below, beside = sums + 2 * pitch, sums + 3 * pitch
    flat, count = part.view(THIN, THIN, -1), beside + 3
    here = flat[window % THIN, window % THIN, window // THIN * (pitch + 1) :][:count]
    found = part.new_empty(near, near, rows, columns)
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
            found[down, phase::THIN] = a.as_strided((len(a), rows, columns), (count, apart * pitch, apart), a.storage_offset())
    return found.view(near * near, -1)
