"""First differences between neighbours, periodic at the border, for total variation and smoothness penalties."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def gradient(x: Tensor, axes: int) -> Tensor:
    """Return the forward differences of x (..., *n) along each of its last `axes` axes: (axes, ..., *n).

    The last sample is followed by the first, so that the FFT diagonalises gradient_adjoint(gradient(x)); see `laplacian`.
    """
    g = x.new_empty(axes, *x.shape)
    for k, axis in enumerate(range(-axes, 0)):
        part, n = g[k], x.shape[axis]
        part.narrow(axis, 0, n - 1).copy_(x.narrow(axis, 1, n - 1))
        part.narrow(axis, n - 1, 1).copy_(x.narrow(axis, 0, 1))
    return g.sub_(x)


def gradient_adjoint(g: Tensor, axes: int) -> Tensor:
    """Apply the exact adjoint of `gradient`, minus the divergence, to g (axes, ..., *n); return (..., *n)."""
    x = -g.sum(0)
    for part, axis in zip(g, range(-axes, 0), strict=True):
        n = x.shape[axis]
        x.narrow(axis, 1, n - 1).add_(part.narrow(axis, 0, n - 1))
        x.narrow(axis, 0, 1).add_(part.narrow(axis, n - 1, 1))
    return x


def laplacian(shape: Sequence[int], like: Tensor) -> Tensor:
    """Return the eigenvalues of gradient_adjoint(gradient(x)) over all axes of `shape`: the sum of 2 - 2 cos(2 pi k / n).

    They are real and lie on the grid of `torch.fft.rfftn`, or of `fftn` if `like` is complex. Precision and device are those
    of `like`.
    """
    dtype = torch.empty(0, dtype=like.dtype).real.dtype
    total = torch.zeros((), dtype=torch.float64, device="cpu")
    for axis, n in enumerate(shape):
        length = n if like.is_complex() or axis < len(shape) - 1 else n // 2 + 1
        # 2 - 2 cos(a) = 4 sin^2(a / 2), which keeps its digits at small a.
        line = 4 * torch.sin(torch.pi / n * torch.arange(length, dtype=torch.float64)).square()
        total = total[..., None] + line
    return total.to(device=like.device, dtype=dtype)
