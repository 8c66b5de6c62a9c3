"""Fourier transforms, and back: torch's numbers and shapes, for small real signals in less time.

MKL, as torch 2.6 calls it, refuses expanded tensors (of stride 0), so none reaches it, forward or from autograd.
`torch.fft.rfftn` copies its result into order, and `irfftn` copies it out of order again. Here a small half spectrum lies
as the last transform left it, with its last axis outermost. For large ones the extra memory costs more than it saves.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

_SMALL = 2**21  # samples


def fftn(x: Tensor, lengths: Sequence[int], dims: Sequence[int]) -> Tensor:
    """Transform (..., *n) to (..., *lengths); zeros fill it up along `dims`, the last axes."""
    spectrum: Tensor = torch.fft.fftn(_dense(x), lengths, dims)
    return spectrum


def ifftn(spectrum: Tensor, lengths: Sequence[int], dims: Sequence[int]) -> Tensor:
    """Transform back to the complex (..., *lengths): the inverse of `fftn`."""
    return _with_dense_gradient(torch.fft.ifftn(spectrum, lengths, dims))


def rfftn(x: Tensor, lengths: Sequence[int], dims: Sequence[int]) -> Tensor:
    """Transform the real (..., *n, n') to (..., *n, n' // 2 + 1); zeros fill it to `lengths` along `dims`, the last axes."""
    x = _dense(x)
    if not _is_small(lengths, x):
        spectrum: Tensor = torch.fft.rfftn(x, lengths, dims)
        return spectrum
    missing = [n - have for n, have in zip(reversed(lengths), reversed(x.shape), strict=False)]
    x = F.pad(x, [side for n in missing for side in (0, n)]) if any(missing) else x
    small: Tensor = torch.fft.fftn(torch.fft.rfft(x, dim=dims[-1]), dim=dims[:-1])
    return small


def irfftn(spectrum: Tensor, lengths: Sequence[int], dims: Sequence[int]) -> Tensor:
    """Transform back to the real (..., *lengths): the inverse of `rfftn`."""
    if not _is_small(lengths, spectrum):
        return _with_dense_gradient(torch.fft.irfftn(spectrum, lengths, dims))
    half = torch.fft.ifftn(spectrum, dim=dims[:-1])
    return _with_dense_gradient(torch.fft.irfft(half, lengths[-1], dims[-1]))


def fast_length(n: int) -> int:
    """Return the least length of at least `n` with no prime factor above 5, for which the FFT is fast."""
    best = 1 << (n - 1).bit_length() if n > 1 else 1
    five = 1
    while five < best:
        three = five
        while three < best:
            two = three << max(0, (-(-n // three) - 1).bit_length())
            best = min(best, two)
            three *= 3
        five *= 5
    return best


def _dense(x: Tensor) -> Tensor:
    return x.contiguous() if 0 in x.stride() else x


def _with_dense_gradient(x: Tensor) -> Tensor:
    # The gradient of a sum is expanded; that of a slice, even one of everything, is a copy.
    return x.narrow(-1, 0, x.shape[-1]) if x.requires_grad else x


def _is_small(lengths: Sequence[int], like: Tensor) -> bool:
    # The batch does not count, so that a kernel's spectrum and that of many pictures lie alike.
    return len(lengths) > 1 and prod(lengths) <= _SMALL and like.device.type == "cpu"
