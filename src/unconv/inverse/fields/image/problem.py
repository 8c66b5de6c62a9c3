"""One picture, or one tile, to restore: what every method of image restoration is given."""

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
        samples: (C, *n) or (*n), n of as many axes as the kernel has; NaN where none was observed.
        kernel: sums to 1; with a factor, on the fine grid.
        noise: standard deviation.
        counts: the noise is Poisson noise, and `noise` is ignored.
        steps: the most that the method may make.
        light: with counts, what came beside the blur and adds noise, in the samples' units; they are without it.
        factor: samples of the estimate for each observed one, along each axis.
        whole: the problem of the picture that this is a tile of.
        chosen: what was chosen by this picture, for all its tiles.
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
    whole: Problem | None = None
    chosen: dict[str, float] = field(default_factory=dict, compare=False)

    def once(self, what: str, choose: Callable[[Problem], float]) -> float:
        """Choose a number by the whole picture, once for all its tiles."""
        whole = self.whole or self
        if what not in whole.chosen:
            whole.chosen[what] = choose(replace(whole))  # with which goes what it keeps
        return whole.chosen[what]

    @property
    def axes(self) -> int:
        return self.kernel.ndim

    @cached_property
    def unseen(self) -> Tensor:
        """True where a sample, or another colour of it, was not observed."""
        unseen = self.samples.isnan()
        return unseen.any(0, keepdim=True).expand_as(unseen) if self.samples.ndim > self.axes else unseen

    @cached_property
    def observed(self) -> Tensor:
        """The samples, with zero for those that were not observed."""
        return torch.where(self.unseen, 0, self.samples)

    def operator(self, boundary: str | None = None, multiple: int = 1) -> Operator:
        """Make the operator from the grid of the estimate to the observed samples.

        With an unknown boundary that grid is longer than the picture: by the kernel, and further to lengths that suit
        the FFT and are multiples of `multiple`. The samples there were not observed either.
        """
        boundary = boundary or self.boundary
        lead, n = self.samples.shape[: -self.axes], self.samples.shape[-self.axes :]
        if boundary == "unknown":
            least = (a * self.factor + k - 1 for a, k in zip(n, self.kernel.shape, strict=True))
            grid = tuple(multiple * fast_length(-(-a // multiple)) for a in least)
            blur = Convolution(self.kernel, (*lead, *grid), "unknown", centre=self.centre, method="fft")
            phase, step = ((self.factor - 1) // 2,) * self.axes, (self.factor,) * self.axes
            made: Operator = Window(blur.shape_out, phase, n, step) @ blur
        else:
            made = Convolution(self.kernel, self.samples.shape, boundary, centre=self.centre, method="fft")
        return Mask(~self.unseen) @ made if bool(self.unseen.any()) else made

    def flat(self, operator: Operator) -> Tensor:
        """Make an estimate of one value, the mean of the observed samples."""
        return self.observed.new_full(operator.shape_in, float(self.samples[~self.unseen].mean()))

    def cut(self, estimate: Tensor) -> Tensor:
        """Cut the picture's own part out of an estimate."""
        n = self.samples.shape[-self.axes :]
        if estimate.shape == self.samples.shape and self.factor == 1:
            return estimate
        return estimate[inside(self.start, (m * self.factor for m in n))]

    @property
    def start(self) -> tuple[int, ...]:
        """Where the picture begins on the grid of an unknown boundary."""
        centre = tuple(k // 2 for k in self.kernel.shape) if self.centre is None else self.centre
        return tuple(k - 1 - c for k, c in zip(self.kernel.shape, centre, strict=True))


def inside(start: Iterable[int], size: Iterable[int]) -> tuple[Any, ...]:
    """The index of a box of the last axes."""
    return (..., *(slice(a, a + m) for a, m in zip(start, size, strict=True)))


Method = Callable[[Problem], Iterator[Iterate]]
