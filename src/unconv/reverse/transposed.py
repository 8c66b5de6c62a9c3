"""Run a convolution backwards on windows, by the algorithm that is fastest for its sizes; all give the same result.

On the CPU torch's kernels run at the floating-point limit, except in two cases. Few output channels leave most lanes of
a vector register empty. And kernels of 3 by 3, the most common ones, take a quarter of the multiplications by Winograd.
The measurements are in docs/benchmarks.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from unconv.axis import kernel_extent
from unconv.ops.kernels.direct import conv_transpose
from unconv.ops.kernels.gemm_col2im import gemm_col2im_by_rows
from unconv.ops.kernels.sub_pixel import sub_pixel, sub_pixel_kernels
from unconv.ops.kernels.winograd import winograd, winograd_kernels
from unconv.reverse.window import Cut, cropped


class Filters:
    """A convolution's weight (above, below / groups, kernel..), prepared for its reverse.

    Forms derived from the weight are computed on first use and cached: share one `Filters` over all units of a walk.
    """

    def __init__(self, weight: Tensor, dtype: torch.dtype, stride: Sequence[int], dilation: Sequence[int], groups: int) -> None:
        self.stride, self.dilation, self.groups = tuple(stride), tuple(dilation), groups
        kinds = {4: torch.channels_last, 5: torch.channels_last_3d}
        kind = kinds.get(weight.ndim, torch.contiguous_format)
        self.weight = weight.detach().to(dtype).contiguous(memory_format=kind)

    @property
    def extent(self) -> tuple[int, ...]:
        """Samples of the map below from the kernel's first tap to its last."""
        return tuple(kernel_extent(k, d) for k, d in zip(self.weight.shape[2:], self.dilation, strict=True))

    @property
    def plain(self) -> bool:
        """Whether stride and dilation are 1 and there are no groups."""
        return self.groups == 1 and {*self.stride, *self.dilation} == {1}

    @cached_property
    def rows(self) -> Tensor:
        """(above, kernel.., below): for each channel above, the weights of the samples that one unit sees."""
        return self.weight.movedim(1, -1).contiguous()

    @cached_property
    def taps(self) -> Tensor:
        """(taps times below, above), the taps in reading order."""
        return self.weight.permute(*range(2, self.weight.ndim), 1, 0).reshape(-1, len(self.weight)).contiguous()

    @cached_property
    def sub_pixel(self) -> Tensor:
        """(phases times below, above, ..): kernels of a plain convolution whose channels are the stride's phases.

        Where a phase has fewer taps, zeros fill it up. They do no harm, as every sample of a tape is finite.
        """
        return sub_pixel_kernels(self.weight, self.stride).contiguous(memory_format=torch.channels_last)

    @cached_property
    def winograd(self) -> Tensor:
        """(36, above, below): the kernels, transformed for Winograd."""
        return winograd_kernels(self.weight)


def transposed(values: Tensor, filters: Filters, cut: Cut) -> Tensor:
    """Run a convolution backwards: (B, above, samples..) to (B, below, samples..), without the samples `cut`.

    Args:
        values: channels last in memory.
        cut: per axis, samples before and after to leave out; a negative number after adds zeros.
    """
    # The conditions are measured, not derived: see docs/benchmarks.md.
    first, kernel = [before for before, _ in cut], filters.weight.shape[2:]
    axes = zip(values.shape[2:], filters.extent, filters.stride, cut, strict=True)
    size = [(n - 1) * stride + extent - before - after for n, extent, stride, (before, after) in axes]
    if values.is_cpu and values.ndim == 4 and filters.groups == 1 and set(filters.dilation) == {1}:
        few = filters.weight.shape[1] <= 4
        if filters.plain and few and values.shape[3] >= 64:
            return gemm_col2im_by_rows(values, filters.taps, kernel, first, size)
        if not filters.plain and few and values.shape[3] >= 16:
            return sub_pixel(values, filters.sub_pixel, filters.stride, first, size)
        if filters.plain and _winograd_pays(values, filters, size):
            return winograd(values, filters.winograd, first, size)
    return conv_transpose(values, filters.weight, filters.stride, filters.dilation, first, size, filters.groups)


def from_one_channel(values: Tensor, channel: Tensor, filters: Filters, cut: Cut) -> Tensor | None:
    """Do the same as `transposed` for windows of one channel each; None where that is no cheaper than with all channels.

    A single unit's result is a slice of the weights.

    Args:
        values: (B, 1, samples..). channel: (B,), which of those above.
    """
    if filters.groups > 1 or set(filters.dilation) != {1}:
        return None
    axes = values.ndim - 2
    rows = filters.rows[channel.to(values.device)]  # (B, kernel.., below)
    if all(n == 1 for n in values.shape[2:]) and all(after >= 0 for _, after in cut):
        signals = rows * values.view(-1, *[1] * (axes + 1))
        return cropped(signals.movedim(-1, 1), cut)
    if not filters.plain:
        return None
    kernel = filters.weight.shape[2:]
    pads = [(k - 1 - before, k - 1 - after) for k, (before, after) in zip(kernel, cut, strict=True)]
    padded = torch.nn.functional.pad(values, [pad for pair in reversed(pads) for pad in pair])
    # One matrix product for each unit (im2col): the units differ in their channel, so that no convolution serves them all.
    patches = padded[:, 0]
    for axis, k in enumerate(kernel):
        patches = patches.unfold(axis + 1, k, 1)
    lengths = patches.shape[1 : axes + 1]
    columns = patches.reshape(len(values), prod(lengths), prod(kernel)).flip(-1)
    results = torch.bmm(columns, rows.reshape(len(values), prod(kernel), -1))
    return results.view(len(values), *lengths, -1).movedim(-1, 1)


def call_price(weight: Tensor) -> int:
    """Return the price of one more call of a convolution, in samples that it could have computed instead.

    The call reads the weight again, and for a new size torch's library may have to compile a kernel, which takes 1 to 2 ms.
    """
    return 64 + 150_000_000 // max(weight.numel(), 1)


def _winograd_pays(values: Tensor, filters: Filters, size: Sequence[int]) -> bool:
    """Whether Winograd is faster than torch's convolution, by measured costs in units of one multiplication."""
    units, above = values.shape[:2]
    below = filters.weight.shape[1]
    if tuple(filters.weight.shape[2:]) != (3, 3) or values.dtype not in (torch.float32, torch.float64):
        return False
    tiles, pairs = units * prod(-(-n // 4) for n in size), above * below
    return 45 * tiles * pairs + 6300 * tiles * (above + below) + 240 * pairs < 9 * units * prod(size) * pairs
