"""A convolution's reverse on windows, by the way that is fastest for its sizes; all of them give the same.

On the CPU torch's kernels run at the floating-point limit, but for two cases. Few output channels
leave most lanes of a vector register empty. And kernels of 3 by 3, the most common ones, can be
had with a quarter of the multiplications. What was measured is in docs/benchmarks.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property
from itertools import product
from math import prod

import torch
from torch import Tensor

from unconv.axis import kernel_extent
from unconv.reverse.window import Cut, cropped

_BLOCK = 256  # tiles that go through the products together: what they take stays in the cache


class Filters:
    """A convolution's weight (above, below / groups, kernel..) as its reverse wants it.

    What is derived from the weight is made on first use and kept: share one over all units of a walk.
    """

    def __init__(self, weight: Tensor, dtype: torch.dtype, stride: Sequence[int], dilation: Sequence[int], groups: int) -> None:
        self.stride, self.dilation, self.groups = tuple(stride), tuple(dilation), groups
        kinds = {4: torch.channels_last, 5: torch.channels_last_3d}
        kind = kinds.get(weight.ndim, torch.contiguous_format)
        self.weight = weight.detach().to(dtype).contiguous(memory_format=kind)

    @property
    def extent(self) -> tuple[int, ...]:
        """Samples of the map below from a kernel's first tap to its last."""
        return tuple(kernel_extent(k, d) for k, d in zip(self.weight.shape[2:], self.dilation, strict=True))

    @property
    def plain(self) -> bool:
        """Whether the kernels' taps lie side by side and so do the places they are put."""
        return self.groups == 1 and {*self.stride, *self.dilation} == {1}

    @cached_property
    def rows(self) -> Tensor:
        """(above, kernel.., below): what one unit of a channel sees, sample by sample."""
        return self.weight.movedim(1, -1).contiguous()

    @cached_property
    def taps(self) -> Tensor:
        """(taps times below, above), the taps in reading order."""
        return self.weight.permute(*range(2, self.weight.ndim), 1, 0).reshape(-1, len(self.weight)).contiguous()

    @cached_property
    def phases(self) -> Tensor:
        """(phases times below, above, ..): kernels of a plain convolution whose channels are the stride's phases."""
        kernel = self.weight.shape[2:]
        parts = [-(-k // stride) for k, stride in zip(kernel, self.stride, strict=True)]
        missing = [part * stride - k for part, stride, k in zip(parts, self.stride, kernel, strict=True)]
        filled = torch.nn.functional.pad(self.weight, (0, missing[1], 0, missing[0])).contiguous()
        split = filled.view(*self.weight.shape[:2], parts[0], self.stride[0], parts[1], self.stride[1])
        made = split.permute(3, 5, 1, 0, 2, 4).flip(4, 5).reshape(-1, len(self.weight), *parts)
        return made.contiguous(memory_format=torch.channels_last)

    @cached_property
    def tiles(self) -> Tensor:
        """(36, above, below): the kernels as products of tiles need them."""
        filters, _, _ = _tile_matrices(self.weight.dtype)
        flipped = self.weight.flip(2, 3).permute(2, 3, 0, 1).reshape(9, -1)
        return (filters @ flipped).view(-1, *self.weight.shape[:2])


def transposed(values: Tensor, filters: Filters, cut: Cut) -> Tensor:
    """(B, above, samples..) to (B, below, samples..), without the samples `cut`.

    Args:
        values: channels last in memory.
        cut: per axis, samples before and after to leave out; after may be below 0: zeros to add.
    """
    if values.is_cpu and values.ndim == 4 and filters.groups == 1 and set(filters.dilation) == {1}:
        few = filters.weight.shape[1] <= 4
        if filters.plain and few and values.shape[3] >= 64:
            return _by_rows(values, filters, cut)
        if not filters.plain and few and values.shape[3] >= 16:
            return _by_phases(values, filters, cut)
        if filters.plain and _tiles_pay(values, filters, cut):
            return _by_tiles(values, filters, cut)
    padding, more = [], []
    for (before, after), extent, stride in zip(cut, filters.extent, filters.stride, strict=True):
        # With padding, torch's kernels along three axes may write beside maps that are shorter than the kernel.
        pad = 0 if values.ndim == 5 else max(0, min(before, after + stride - 1, extent - 1))
        padding.append(pad)
        more.append(max(0, pad - after))
    made = torch.convolution(
        values, filters.weight, None, filters.stride, padding, filters.dilation, True, more, filters.groups
    )
    rest = [(before - pad, after + extra - pad) for (before, after), pad, extra in zip(cut, padding, more, strict=True)]
    return cropped(made, rest)


def from_one_channel(values: Tensor, channel: Tensor, filters: Filters, cut: Cut) -> Tensor | None:
    """As `transposed`, of windows that hold one channel each; None where it is no cheaper than with all of them.

    A single unit's result is a slice of the weights.

    Args:
        values: (B, 1, samples..). channel: (B,), which of those above.
    """
    if filters.groups > 1 or set(filters.dilation) != {1}:
        return None
    axes = values.ndim - 2
    rows = filters.rows[channel.to(values.device)]  # (B, kernel.., below)
    if all(n == 1 for n in values.shape[2:]) and all(after >= 0 for _, after in cut):
        whole = rows * values.view(-1, *[1] * (axes + 1))
        return cropped(whole.movedim(-1, 1), cut)
    if not filters.plain:
        return None
    kernel = filters.weight.shape[2:]
    pads = [(k - 1 - before, k - 1 - after) for k, (before, after) in zip(kernel, cut, strict=True)]
    padded = torch.nn.functional.pad(values, [pad for pair in reversed(pads) for pad in pair])
    seen = padded[:, 0]
    for axis, k in enumerate(kernel):
        seen = seen.unfold(axis + 1, k, 1)
    lengths = seen.shape[1 : axes + 1]
    columns = seen.reshape(len(values), prod(lengths), prod(kernel)).flip(-1)
    made = torch.bmm(columns, rows.reshape(len(values), prod(kernel), -1))
    return made.view(len(values), *lengths, -1).movedim(-1, 1)


def call_price(weight: Tensor) -> int:
    """What one more call of a convolution costs, in samples that it could have done instead.

    It reads the weight again, and torch's library may have to write a kernel for a size it has not met, 1 to 2 ms.
    """
    return 64 + 150_000_000 // max(weight.numel(), 1)


def _by_rows(values: Tensor, filters: Filters, cut: Cut) -> Tensor:
    """A matrix product for each row of the map gives what it puts at every tap; these are added in their places.

    Pays with few output channels.
    """
    units, above, height, width = values.shape
    kernel = filters.weight.shape[2:]
    rows = values.permute(0, 2, 3, 1).reshape(units * height, width, above)
    taps = filters.taps
    made = torch.bmm(taps.expand(len(rows), *taps.shape), rows.mT)  # (units * height, taps * below, width)
    parts = made.view(units, height, *kernel, -1, width).movedim(1, -2)  # units, taps, below, height, width
    (top, bottom), (left, right) = cut
    full = (height + kernel[0] - 1 - min(bottom, 0), width + kernel[1] - 1 - min(right, 0))
    out = made.new_zeros(units, parts.shape[3], *full)
    for y, x in product(*map(range, kernel)):
        out[:, :, y : y + height, x : x + width] += parts[:, y, x]
    return cropped(out, [(top, max(bottom, 0)), (left, max(right, 0))])


def _by_phases(values: Tensor, filters: Filters, cut: Cut) -> Tensor:
    """With a stride: a plain convolution makes the samples of each of its phases as channels; then they are interleaved.

    Pays with few output channels.

    Source:
        Shi et al., "Is the deconvolution layer the same as a convolutional layer?" (2016), arXiv 1609.07009.
    """
    (down, across), kernels = filters.stride, filters.phases
    parts = kernels.shape[2:]
    made = torch.nn.functional.conv2d(values, kernels, padding=[part - 1 for part in parts])
    height, width = made.shape[2:]
    split = made.reshape(len(made), down, across, -1, height, width).permute(0, 3, 4, 1, 5, 2)
    whole = split.reshape(len(made), -1, height * down, width * across)
    spans = zip(parts, filters.stride, filters.weight.shape[2:], cut, strict=True)
    rest = [(before, part * stride - k + after) for part, stride, k, (before, after) in spans]
    if any(after < 0 for _, after in rest):
        whole = torch.nn.functional.pad(whole, [n for _, after in reversed(rest) for n in (0, max(-after, 0))])
    return cropped(whole, [(before, max(after, 0)) for before, after in rest])


def _tiles_pay(values: Tensor, filters: Filters, cut: Cut) -> bool:
    """Whether tiles are quicker than torch's convolution: what each takes, in multiplications' time, as it was measured."""
    units, above, *lengths = values.shape
    below = filters.weight.shape[1]
    if tuple(filters.weight.shape[2:]) != (3, 3) or values.dtype not in (torch.float32, torch.float64):
        return False
    made = [n + 2 - before - after for n, (before, after) in zip(lengths, cut, strict=True)]
    tiles, pairs = units * prod(-(-n // 4) for n in made), above * below
    return 45 * tiles * pairs + 6300 * tiles * (above + below) + 240 * pairs < 9 * units * prod(made) * pairs


@cache
def _tile_matrices(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """For kernels (36, 9), tiles (36, 36) and results (16, 36).

    Along one axis, four samples of a convolution with three taps come from six products: of polynomials, at the points
    0, 1, -1, 1/2, -2 and infinity. These points lose no more digits than the convolution itself; the usual 2 and -2 do.

    Source:
        Winograd, "Arithmetic Complexity of Computations" (1980); Lavin & Gray, "Fast Algorithms for
        Convolutional Neural Networks" (2016).
    """
    points = torch.tensor([0, 1, -1, 0.5, -2], dtype=torch.float64)
    last = torch.tensor([[0, 0, 1.0]]), torch.tensor([[0], [0], [0], [1.0]])
    kernels = torch.cat([torch.vander(points, 3, increasing=True), last[0]])  # values of the kernel's polynomial
    results = torch.cat([torch.vander(points, 4, increasing=True).T, last[1]], 1)
    products = torch.stack([results[i] * kernels[:, j] for i in range(4) for j in range(3)])
    wanted = torch.stack([torch.eye(6, dtype=torch.float64)[i + j] for i in range(4) for j in range(3)])
    samples = torch.linalg.lstsq(products, wanted).solution  # such that results @ (kernels @ k * samples @ x) convolves
    k, s, r = (torch.kron(matrix, matrix).to(dtype) for matrix in (kernels, samples, results))
    return k, s, r


def _by_tiles(values: Tensor, filters: Filters, cut: Cut) -> Tensor:
    """3 by 3 kernels at stride 1: tiles of 4 by 4 results from 36 products, not 144, of each pair of channels."""
    units, above = values.shape[:2]
    _, samples, results = _tile_matrices(values.dtype)
    below = filters.weight.shape[1]
    made = [n + 2 - before - after for n, (before, after) in zip(values.shape[2:], cut, strict=True)]
    down, across = (-(-n // 4) for n in made)
    (top, _), (left, _) = cut
    after = [
        4 * tiles + 2 - n - 2 + first for tiles, n, first in zip((down, across), values.shape[2:], (top, left), strict=True)
    ]
    rows = values.permute(0, 2, 3, 1)
    padded = torch.nn.functional.pad(rows, (0, 0, 2 - left, after[1], 2 - top, after[0])).contiguous()
    steps = padded.stride()
    out = values.new_empty(units, down, 4, across, 4, below)
    deep = min(down, max(1, _BLOCK // across))  # rows of tiles at a time; of several units, if one has fewer
    wide = max(1, _BLOCK // (across * down)) if deep == down else 1
    for unit, row in product(range(0, units, wide), range(0, down, deep)):
        target = out[unit : unit + wide, row : row + deep]
        size = (6, 6, *target.shape[:2], across, above)
        strides = (steps[1], steps[2], steps[0], 4 * steps[1], 4 * steps[2], 1)
        begin = padded.storage_offset() + unit * steps[0] + 4 * row * steps[1]
        tiles = torch.mm(samples, padded.as_strided(size, strides, begin).reshape(36, -1)).view(36, -1, above)
        sums = torch.bmm(tiles, filters.tiles)
        finished = torch.mm(results, sums.view(36, -1)).view(4, 4, *target.shape[:2], across, below)
        target.copy_(finished.permute(2, 3, 0, 4, 1, 5))
    return out.view(units, 4 * down, 4 * across, below)[:, : made[0], : made[1]].permute(0, 3, 1, 2)
