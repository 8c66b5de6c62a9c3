"""Deconvolution with an unknown kernel: the kernel is estimated from the blurred picture itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import log

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import DtypeError, ShapeError
from unconv.inverse.convolution import Convolution, smooth
from unconv.inverse.iterate import Iterate, last
from unconv.inverse.operator import Operator, fits
from unconv.inverse.richardson_lucy import richardson_lucy

# Xu, Zheng & Jia's and Pan et al.'s constants, for pictures between 0 and 1.
_SPARSITY, _LEAST_SPARSITY, _DECAY = 4e-3, 1e-4, 1.1
_STIFFEST, _STIFFER = 1e5, 2.0
_RIDGE = 2.0
_PER_LEVEL = 2**0.5
_COARSEST = 5
_ISOLATED, _FAINT = 0.1, 0.05


@dataclass(frozen=True)
class BlindIterate(Iterate):
    """An iterate of a blind solver; `operator` is the convolution with `kernel`.

    Attributes:
        kernel: (*k), not negative, sums to 1; its centre is at k // 2.
    """

    kernel: Tensor = torch.empty(0)

    @property
    def restored(self) -> Tensor:
        """The samples of the estimate that lie under those of what was observed."""
        starts = [k - 1 - k // 2 if n > m else 0 for k, n, m in self._sizes()]
        cut = tuple(slice(s, s + m) for s, (_, _, m) in zip(starts, self._sizes(), strict=True))
        return self.estimate[(..., *cut)]

    def _sizes(self) -> list[tuple[int, int, int]]:
        axes = self.kernel.ndim
        return list(zip(self.kernel.shape, self.estimate.shape[-axes:], self.observed.shape[-axes:], strict=True))


def estimate_kernel(observed: Tensor, size: int | tuple[int, int], *, steps: int = 5, levels: int | None = None) -> Tensor:
    """The kernel that blurred a picture: (k, k), not negative, sums to 1, centroid near k // 2.

    As `blind`, which yields what lies between.
    """
    *_, ended = _estimated(observed, size, steps, levels)
    return ended[0]


@torch.no_grad()
def blind(
    observed: Tensor, size: int | tuple[int, int], *, noise: float | None = None, steps: int = 5, levels: int | None = None
) -> Iterator[BlindIterate]:
    number = 0
    for kernel in _estimated(observed, size, steps, levels):
        number += 1
    yield kernel


def _estimated(observed: Tensor, size, steps: int, levels: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    """(kernel, sharp picture) after each step, coarse to fine; each as large as its level."""
    grey = observed.flatten(0, -3).mean(0) if observed.ndim > 2 else observed
    lowest, highest = grey.aminmax()
    grey = (grey - lowest) / (highest - lowest).clamp(min=torch.finfo(grey.dtype).tiny)
    final = (size, size) if isinstance(size, int) else size
    kernel = None
    for scale in _scales(final, levels):
        shape = tuple(_odd(k * scale) if scale < 1 else k for k in final)
        picture = grey if scale == 1 else _resized(grey, [round(n * scale) for n in grey.shape])
        kernel = _first(shape, grey) if kernel is None else _grown(kernel, shape)
        sparsity = _SPARSITY
        slopes = _slopes(picture)
        wrapped = wrap(picture, shape)
        for _ in range(steps):
            sharp = sharpened(wrapped, kernel, sparsity, l0)[: picture.shape[0], : picture.shape[1]]
            kernel = fitted(slopes, _salient(_slopes(sharp), max(shape)), shape)
            kernel = _cleaned(kernel)
            sparsity = max(sparsity / _DECAY, _LEAST_SPARSITY)
            yield kernel, sharp
        kernel = _centred(kernel)
    kernel = kernel.where(kernel >= _FAINT * kernel.max(), 0)
    yield kernel / kernel.sum(), sharp


def _scales(size, levels):
    whole = max(0, int(log(min(size) / _COARSEST) / log(_PER_LEVEL)))
    count = whole + 1 if levels is None else levels
    return [_PER_LEVEL**-level for level in reversed(range(count))]


def _odd(length: float) -> int:
    return max(3, 2 * (round(length) // 2) + 1)


def _first(shape, like):
    kernel = like.new_zeros(shape)
    middle = [k // 2 for k in shape]
    kernel[middle[0], middle[1] - 1 : middle[1] + 1] = 0.5
    return kernel


def _resized(x, shape):
    return F.interpolate(x[None, None], tuple(shape), mode="bilinear", antialias=True, align_corners=False)[0, 0]


def _grown(kernel, shape):
    factor = _PER_LEVEL
    bigger = F.interpolate(kernel[None, None], [round(k * factor) for k in kernel.shape], mode="bicubic", align_corners=False)[0, 0]
    out = kernel.new_zeros(shape)
    pads = []
    for have, want in zip(reversed(bigger.shape), reversed(shape)):
        before = want // 2 - have // 2
        pads += [before, want - have - before]
    out = F.pad(bigger, pads).clamp(min=0)
    return _centred(out / out.sum())


def _slopes(x):
    return torch.stack([torch.diff(x, dim=-2, append=x[..., -1:, :]), torch.diff(x, dim=-1, append=x[..., :, -1:])])


def wrap(x, size):
    for axis, k in zip((-2, -1), size):
        n = x.shape[axis]
        extra = smooth(n + 2 * k) - n
        w = (torch.arange(1, extra + 1, dtype=x.dtype) / (extra + 1))
        w = 0.5 - 0.5 * torch.cos(torch.pi * w)
        w = w.reshape(-1, *[1] * (-axis - 1))
        m = min(extra, n - 1)
        def mirror(part):
            return part if part.shape[axis] == extra else part
        end = x.narrow(axis, n - extra, extra).flip(axis)
        begin = x.narrow(axis, 0, extra).flip(axis)
        x = torch.cat([x, (1 - w) * end + w * begin], axis)
    return x


def l0(slopes, sparsity, stiffness):
    return slopes.where(slopes.square().sum(0) > sparsity / stiffness, 0)


def tv(slopes, sparsity, stiffness):
    size = slopes.square().sum(0).sqrt()
    return slopes * (1 - sparsity / (2 * stiffness) / size.clamp(min=1e-12)).clamp(min=0)


def sharpened(wrapped, kernel, sparsity, shrink):
    shape = wrapped.shape
    blur = Convolution(kernel, shape).spectrum(wrapped)
    ups = torch.stack([Convolution([[1.0], [-1.0]], shape, centre=(1, 0)).spectrum(wrapped), Convolution([[1.0, -1.0]], shape, centre=(0, 1)).spectrum(wrapped)])
    energy, steep = blur.abs().square(), ups.abs().square().sum(0)
    data = blur.conj() * torch.fft.rfft2(wrapped)
    x, stiffness = wrapped, 2 * sparsity
    while stiffness < _STIFFEST:
        d = torch.stack([x.roll(-1, -2) - x, x.roll(-1, -1) - x])
        d = shrink(d, sparsity, stiffness)
        back = d[0].roll(1, -2) - d[0] + d[1].roll(1, -1) - d[1]
        x = torch.fft.irfft2((data + stiffness * torch.fft.rfft2(back)) / (energy + stiffness * steep), shape)
        stiffness *= _STIFFER
    return x


def _salient(slopes, k):
    return slopes


def fitted(blurred, sharp, shape):
    grid = [smooth(n + 2 * k) for n, k in zip(sharp.shape[-2:], shape)]
    S, B = torch.fft.rfft2(sharp, grid), torch.fft.rfft2(blurred, grid)
    auto = torch.fft.irfft2(S.abs().square().sum(0), grid)
    cross = torch.fft.irfft2((S.conj() * B).sum(0), grid)
    ky, kx = shape
    i = torch.arange(ky); j = torch.arange(kx)
    ly = (i[:, None] - i[None, :]); lx = j[:, None] - j[None, :]
    T = auto[ly[:, None, :, None] % grid[0], lx[None, :, None, :] % grid[1]].reshape(ky * kx, ky * kx)
    r = cross[((i - ky // 2) % grid[0])[:, None], ((j - kx // 2) % grid[1])[None]].reshape(-1)
    T = T + _RIDGE * torch.eye(ky * kx)
    return torch.linalg.solve(T, r).reshape(shape)


def _cleaned(kernel):
    kernel = kernel.where(kernel >= _FAINT * kernel.max(), 0)
    return kernel / kernel.sum()


def _centred(kernel):
    shifts = []
    for axis, k in enumerate(kernel.shape):
        place = (kernel.sum(1 - axis) * torch.arange(k)).sum()
        shifts.append(round(k // 2 - float(place)))
    ky, kx = kernel.shape
    out = F.pad(kernel, (kx, kx, ky, ky)).roll(shifts, (0, 1))[ky : 2 * ky, kx : 2 * kx]
    return out / out.sum()
