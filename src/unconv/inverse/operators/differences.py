"""First differences of neighbours, going round at the edge: total variation and smoothness penalties measure them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def gradient(x: Tensor, axes: int) -> Tensor:
    """Take, along each of the last `axes` axes, the next sample minus this one: (axes, ..., *n) of (..., *n).

    The last sample's next is the first, so that the FFT diagonalises gradient_adjoint(gradient(x)): `laplacian`.
    """
    g = x.new_empty(axes, *x.shape)
    for k, axis in enumerate(range(-axes, 0)):
        part, n = g[k], x.shape[axis]
        part.narrow(axis, 0, n - 1).copy_(x.narrow(axis, 1, n - 1))
        part.narrow(axis, n - 1, 1).copy_(x.narrow(axis, 0, 1))
    return g.sub_(x)


def gradient_adjoint(g: Tensor, axes: int) -> Tensor:
    """The exact adjoint of `gradient`, which is minus the divergence: (..., *n) of (axes, ..., *n)."""
    x = -g.sum(0)
    for part, axis in zip(g, range(-axes, 0), strict=True):
        n = x.shape[axis]
        x.narrow(axis, 1, n - 1).add_(part.narrow(axis, 0, n - 1))
        x.narrow(axis, 0, 1).add_(part.narrow(axis, n - 1, 1))
    return x


def laplacian(shape: Sequence[int], like: Tensor) -> Tensor:
    """Return the eigenvalues of gradient_adjoint(gradient(x)) over all axes of `shape`: sum of 2 - 2 cos(2 pi k / n), real.

    On the grid of `torch.fft.rfftn`, or of `fftn` where `like` is complex; precision and device of `like`.
    """
    dtype = torch.empty(0, dtype=like.dtype).real.dtype
    whole = torch.zeros((), dtype=torch.float64, device="cpu")
    for axis, n in enumerate(shape):
        kept = n if like.is_complex() or axis < len(shape) - 1 else n // 2 + 1
        # 2 - 2 cos(a) = 4 sin^2(a / 2), which keeps its digits at small a.
        line = 4 * torch.sin(torch.pi / n * torch.arange(kept, dtype=torch.float64)).square()
        whole = whole[..., None] + line
    return whole.to(device=like.device, dtype=dtype)
