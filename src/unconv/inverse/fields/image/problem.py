"""The input of every method of image restoration: one picture, or one tile, with its PSF and its noise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from unconv.inverse.operators.convolution import Convolution
from unconv.inverse.operators.fourier import fast_length
from unconv.inverse.operators.operator import Operator
from unconv.inverse.operators.selection import Mask, Window
from unconv.inverse.solvers.iterate import Iterate


@dataclass(frozen=True)
class Problem:
    """One picture, or one tile, to restore.

    Attributes:
        samples: (C, *n) or (*n), where n has as many axes as the kernel; NaN where a sample is missing.
        kernel: sums to 1; with a factor, it is on the fine grid.
        noise: standard deviation.
        steps: the most steps of the method.
        counts: the noise is Poisson noise, and `noise` is ignored.
        factor: samples of the estimate for each observed one, along each axis.
        light: with counts, light that was subtracted from the samples but whose noise is in them, in their units.
        entire: the problem of the entire picture, if this is a tile.
        choices: numbers that were chosen from this picture for all its tiles.
    """

    samples: Tensor
    kernel: Tensor
    centre: tuple[int, ...] | None
    boundary: str
    noise: float
    steps: int
    strength: float | None = None
    counts: bool = False
    factor: int = 1
    light: float = 0.0
    entire: Problem | None = None
    choices: dict[str, float] = field(default_factory=dict, compare=False)

    def once(self, name: str, choose: Callable[[Problem], float]) -> float:
        """Return a number that `choose` computes from the entire picture, once for all its tiles."""
        entire = self.entire or self
        if name not in entire.choices:
            entire.choices[name] = choose(replace(entire))  # on a copy, so that its cached tensors are freed
        return entire.choices[name]

    @property
    def axes(self) -> int:
        return self.kernel.ndim

    @cached_property
    def missing(self) -> Tensor:
        """A mask of the missing samples; a pixel is missing if one of its colours is."""
        missing = self.samples.isnan()
        return missing.any(0, keepdim=True).expand_as(missing) if self.samples.ndim > self.axes else missing

    @cached_property
    def observed(self) -> Tensor:
        """The samples, with zeros for the missing ones."""
        return torch.where(self.missing, 0, self.samples)

    def operator(self, boundary: str | None = None, multiple: int = 1) -> Operator:
        """Return the operator from the grid of the estimate to the observed samples.

        With an unknown boundary that grid is longer than the picture: by the kernel, and further to lengths that are fast for
        the FFT and multiples of `multiple`. The additional samples are missing, too.
        """
        boundary = boundary or self.boundary
        lead, n = self.samples.shape[: -self.axes], self.samples.shape[-self.axes :]
        if boundary == "unknown":
            least = (a * self.factor + k - 1 for a, k in zip(n, self.kernel.shape, strict=True))
            grid = tuple(multiple * fast_length(-(-a // multiple)) for a in least)
            blur = Convolution(self.kernel, (*lead, *grid), "unknown", centre=self.centre, method="fft")
            # The phase is the middle of the fine samples that an observed one covers.
            phase, step = ((self.factor - 1) // 2,) * self.axes, (self.factor,) * self.axes
            operator: Operator = Window(blur.shape_out, phase, n, step) @ blur
        else:
            operator = Convolution(self.kernel, self.samples.shape, boundary, centre=self.centre, method="fft")
        return Mask(~self.missing) @ operator if bool(self.missing.any()) else operator

    def flat(self, operator: Operator) -> Tensor:
        """Return a constant estimate, the mean of the observed samples."""
        return self.observed.new_full(operator.shape_in, float(self.samples[~self.missing].mean()))

    def cut(self, estimate: Tensor) -> Tensor:
        """Return the part of an estimate that the picture covers."""
        n = self.samples.shape[-self.axes :]
        if estimate.shape == self.samples.shape and self.factor == 1:
            return estimate
        return estimate[inside(self.start, (m * self.factor for m in n))]

    @property
    def start(self) -> tuple[int, ...]:
        """The index at which the picture begins on the grid of an unknown boundary."""
        centre = tuple(k // 2 for k in self.kernel.shape) if self.centre is None else self.centre
        return tuple(k - 1 - c for k, c in zip(self.kernel.shape, centre, strict=True))


def inside(start: Iterable[int], size: Iterable[int]) -> tuple[Any, ...]:
    """Return the index of a box of the last axes."""
    return (..., *(slice(a, a + m) for a, m in zip(start, size, strict=True)))


Method = Callable[[Problem], Iterator[Iterate]]
