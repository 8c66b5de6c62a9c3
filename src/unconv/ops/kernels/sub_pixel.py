"""Sub-pixel convolution: the phases of a stride are computed as channels, which are then interleaved."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from unconv.ops.kernels.direct import convolve
from unconv.ops.spatial import cut, grown


def sub_pixel_kernels(weight: Tensor, strides: Sequence[int]) -> Tensor:
    """Split kernels (in, out, kernel..) into kernels (out times strides, in, ..) of stride 1, one for each phase.

    A kernel whose length is not a multiple of the stride is filled up with zeros. An infinite sample times such a zero is
    NaN where the sample did not reach before, so refuse such kernels where samples may be infinite.
    """
    count = len(strides)
    lengths = [-(-kernel // stride) for kernel, stride in zip(weight.shape[2:], strides, strict=True)]
    fill = [length * s - kernel for length, s, kernel in zip(lengths, strides, weight.shape[2:], strict=True)]
    if any(fill):
        weight = F.pad(weight, [edge for zeros in reversed(fill) for edge in (0, zeros)])
    # Shi et al. (2016): tap t of an axis belongs to phase t mod stride, and is tap t // stride there.
    split = weight.reshape(*weight.shape[:2], *(n for pair in zip(lengths, strides, strict=True) for n in pair))
    phases = split.permute(1, *range(3, 3 + 2 * count, 2), 0, *range(2, 2 + 2 * count, 2))
    return phases.reshape(-1, weight.shape[0], *lengths).flip(list(range(2, 2 + count)))


def sub_pixel(planes: Tensor, kernels: Tensor, strides: Sequence[int], first: Sequence[int], size: Sequence[int]) -> Tensor:
    """Return the transposed convolution by one convolution of stride 1, with kernels from `sub_pixel_kernels`.

    It pays where there are few output channels: they leave most lanes of a vector register empty, and the phases fill them.

    Source:
        Shi et al., "Is the deconvolution layer the same as a convolutional layer?" (2016), arXiv 1609.07009.
    """
    count, ones = len(strides), [1] * len(strides)
    phases = convolve(planes, kernels, [(part - 1, part - 1) for part in kernels.shape[2:]], ones, ones)
    lengths = phases.shape[2:]
    split = phases.reshape(phases.shape[0], -1, *strides, *lengths)
    # From (N, out, phases.., samples..): the phases of each axis go right after its samples, so a reshape interleaves them.
    paired = split.permute(0, 1, *(axis for i in range(count) for axis in (2 + count + i, 2 + i)))
    full = paired.reshape(*paired.shape[:2], *(n * stride for n, stride in zip(lengths, strides, strict=True)))
    ends = [start + length for start, length in zip(first, size, strict=True)]
    if any(end > n for end, n in zip(ends, full.shape[2:], strict=True)):
        full = grown(full, (*full.shape[:2], *map(max, ends, full.shape[2:])))
    return cut(full, first, size)
