"""Lengths along one axis: integers only, no torch."""

from __future__ import annotations


def kernel_extent(kernel: int, dilation: int = 1) -> int:
    """Samples from the first to the last tap of a dilated kernel, both counted."""
    return dilation * (kernel - 1) + 1


def conv_transpose_length(n: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """Samples along one axis after a transposed convolution of `n` samples, without output padding."""
    return (n - 1) * stride - 2 * padding + kernel_extent(kernel, dilation)


def pool_divisor(out: int, n: int, kernel: int, stride: int, padding: int, count_include_pad: bool) -> list[int]:
    """By how many samples each of `out` windows of an average pool divides, along one axis.

    A window that ceil mode lets hang over the padded end counts only what lies before that end.

    Source:
        `torch.nn.AvgPool2d`, PyTorch 2.6: ceil_mode and count_include_pad.
    """
    lengths = []
    for i in range(out):
        start = i * stride - padding
        end = min(start + kernel, n + padding)
        lengths.append(end - start if count_include_pad else min(end, n) - max(start, 0))
    return lengths


def adaptive_windows(n: int, out: int) -> tuple[int, int] | None:
    """(kernel, stride) of an adaptive pool of `n` samples into `out`; None where its windows are uneven."""
    return (n // out, n // out) if n % out == 0 else None
