"""Blind Richardson-Lucy: the picture and its kernel in turns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from unconv.inverse.operators.by_kernel import ByKernel
from unconv.inverse.operators.convolution import Convolution
from unconv.inverse.operators.operator import fits
from unconv.inverse.solvers.blind.iterate import BlindIterate, refuse_unfit
from unconv.inverse.solvers.iterate import last
from unconv.inverse.solvers.richardson_lucy import richardson_lucy
from unconv.kinds import checks_kinds


@torch.no_grad()
@checks_kinds
def richardson_lucy_blind(
    observed: Tensor,
    kernel_size: Sequence[int],
    *,
    start: Tensor | None = None,
    steps: int = 20,
    inner: int = 5,
    boundary: str = "unknown",
) -> Iterator[BlindIterate]:
    """Restore a picture and its kernel by blind Richardson-Lucy, in turns, with `inner` iterations of each in a step.

    It finds a local optimum near the start, not the best one. If you know nothing about the kernel's shape, use `blind`.

    Args:
        observed: (*n), counts, one to three axes; one picture, not a batch. Negative samples count as zero.
        kernel_size: (*k); outside it the kernel is zero.
        start: (*k), the kernel to begin with, not negative, in any scale; a tap that starts at zero stays there.
            By default a Gaussian whose standard deviation is a quarter of `kernel_size`.
        boundary: as in `Convolution`. At "unknown" the estimate is k - 1 samples longer than `observed`; see `restored`.

    Raises:
        ShapeError: the sizes do not fit.
        DtypeError: `observed` is not real and floating.

    Source:
        Fish, Brinicombe, Pike & Walker, "Blind deconvolution by means of the Richardson-Lucy algorithm" (1995).
    """
    size = tuple(int(k) for k in kernel_size)
    refuse_unfit("richardson_lucy_blind", observed, size, observed.ndim)
    kernel = _gaussian(size).to(observed) if start is None else start.to(observed).clamp(min=0)
    fits("richardson_lucy_blind: start", kernel, size)
    kernel = kernel / kernel.sum()
    margins = [k - 1 if boundary == "unknown" else 0 for k in size]
    shape = tuple(n + margin for n, margin in zip(observed.shape, margins, strict=True))
    picture: Tensor | None = None
    for step in range(1, steps + 1):
        operator = Convolution(kernel, shape, boundary)
        picture = last(richardson_lucy(operator, observed, steps=inner, start=picture, accelerate=False)).estimate
        # Fish et al. (1995): convolution is symmetric, so the same iteration fits the kernel with the picture as operator.
        by_kernel = ByKernel(picture, operator)
        kernel = last(richardson_lucy(by_kernel, observed, steps=inner, start=kernel, accelerate=False)).estimate
        kernel = kernel / kernel.sum()
        yield BlindIterate(Convolution(kernel, shape, boundary), observed, picture, step, kernel=kernel)


def _gaussian(size: tuple[int, ...]) -> Tensor:
    sides = [torch.exp(-((torch.arange(k) - k // 2) ** 2) / (2 * (k / 4) ** 2)) for k in size]
    grid = torch.meshgrid(*sides, indexing="ij")
    return torch.stack(grid).prod(0)
