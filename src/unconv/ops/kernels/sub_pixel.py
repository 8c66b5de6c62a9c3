"""Sub-pixel convolution: a stride as channels, which are then interleaved."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from unconv.ops.kernels.direct import convolve
from unconv.ops.spatial import cut, grown


def sub_pixel_kernels(weight: Tensor, strides: Sequence[int]) -> Tensor:
    """Split kernels (in, out, kernel..) into (out times strides, in, ..), of stride 1, that make every phase of the strides.

    A kernel whose length the stride does not divide is filled up with zeros. Then an infinite sample makes NaN where it
    did not reach before: refuse such kernels where samples may be infinite.
    """
    count = len(strides)
    parts = [-(-kernel // stride) for kernel, stride in zip(weight.shape[2:], strides, strict=True)]
    missing = [part * s - kernel for part, s, kernel in zip(parts, strides, weight.shape[2:], strict=True)]
    if any(missing):
        weight = F.pad(weight, [edge for more in reversed(missing) for edge in (0, more)])
    # Tap t of an axis is in phase t mod stride, and there the tap t // stride.
    split = weight.reshape(*weight.shape[:2], *(n for pair in zip(parts, strides, strict=True) for n in pair))
    phases = split.permute(1, *range(3, 3 + 2 * count, 2), 0, *range(2, 2 + 2 * count, 2))
    return phases.reshape(-1, weight.shape[0], *parts).flip(list(range(2, 2 + count)))


def sub_pixel(planes: Tensor, kernels: Tensor, strides: Sequence[int], first: Sequence[int], size: Sequence[int]) -> Tensor:
    """Compute the transposed convolution by one convolution of stride 1, with the kernels that `sub_pixel_kernels` makes.

    Pays where there are few output channels: they leave most lanes of a vector register empty, the phases fill them.

    Source:
        Shi et al., "Is the deconvolution layer the same as a convolutional layer?" (2016), arXiv 1609.07009.
    """
    count, plain = len(strides), [1] * len(strides)
    parts = convolve(planes, kernels, [(part - 1, part - 1) for part in kernels.shape[2:]], plain, plain)
    lengths = parts.shape[2:]
    split = parts.reshape(parts.shape[0], -1, *strides, *lengths)
    # (N, out, phases.., samples..): each axis' phases go right after its samples.
    paired = split.permute(0, 1, *(axis for i in range(count) for axis in (2 + count + i, 2 + i)))
    whole = paired.reshape(*paired.shape[:2], *(n * stride for n, stride in zip(lengths, strides, strict=True)))
    ends = [start + length for start, length in zip(first, size, strict=True)]
    if any(end > n for end, n in zip(ends, whole.shape[2:], strict=True)):
        whole = grown(whole, (*whole.shape[:2], *map(max, ends, whole.shape[2:])))
    return cut(whole, first, size)
