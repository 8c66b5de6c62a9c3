"""Operators that select samples: a mask, a crop, downsampling. Their adjoints put the samples back among zeros.

Adjoint times forward is a diagonal of ones and zeros, `weights`. With it solvers keep the speed of the FFT; see `split`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from unconv.errors import DtypeError, ShapeError
from unconv.inverse.operators.operator import Operator, fits
from unconv.kinds import checks_kinds, fits_kind, shown


class Selection(Operator):
    """Select some of the samples; the adjoint puts them back at their positions, among zeros."""

    def weights(self, like: Tensor) -> Tensor:
        """Return 1 where a sample is selected and 0 elsewhere, (*shape_in), in the dtype and on the device of `like`."""
        return self.adjoint(torch.ones(self.shape_out, dtype=like.dtype, device=like.device))


class Mask(Selection):
    """Keep the samples where `observed` is true, and set the others to zero; the shape stays.

    Args:
        observed: (*shape), boolean.
    """

    def __init__(self, observed: Tensor) -> None:
        try:
            self.observed = torch.as_tensor(observed) != 0
        except (TypeError, ValueError, RuntimeError) as error:
            raise DtypeError(
                f"Mask: observed is {shown(observed)}, but a boolean tensor was needed. Pass x != 0, say."
            ) from error
        if not fits_kind(self.observed, Tensor):
            raise DtypeError(f"Mask: observed is {shown(observed)}, but a dense tensor with values was needed. Pass one.")
        self.shape_in = self.shape_out = tuple(self.observed.shape)

    def forward(self, x: Tensor) -> Tensor:
        fits("Mask", x, self.shape_in)
        return torch.where(self.observed.to(x.device), x, 0)  # a product would keep NaN

    def adjoint(self, y: Tensor) -> Tensor:
        return self.forward(y)


class Window(Selection):
    """Take `size` samples from `start` on, every `step`-th, along each of the last axes: crop and downsample in one.

    Raises:
        ShapeError: the window does not lie inside `shape`.
    """

    @checks_kinds
    def __init__(
        self, shape: Sequence[int], start: Sequence[int], size: Sequence[int], step: Sequence[int] | None = None
    ) -> None:
        steps = (1,) * len(size) if step is None else tuple(step)
        if not len(start) == len(size) == len(steps) <= len(shape):
            raise ShapeError(
                f"Window: shape is {tuple(shape)}, start {tuple(start)}, size {tuple(size)} and step {steps}, but one "
                "number for each of the last axes was needed. Pass as many of each."
            )
        lead = len(shape) - len(size)
        lasts = [s + (n - 1) * k for s, n, k in zip(start, size, steps, strict=True)]
        inside = (
            0 <= s and 1 <= n and last < length for s, n, last, length in zip(start, size, lasts, shape[lead:], strict=True)
        )
        if lead < 0 or min(steps) < 1 or not all(inside):
            raise ShapeError(
                f"Window: size {tuple(size)} from start {tuple(start)} with step {steps} does not fit into shape "
                f"{tuple(shape)}, but must. Choose a smaller window."
            )
        self._slices: tuple[Any, ...] = (..., *(slice(s, last + 1, k) for s, last, k in zip(start, lasts, steps, strict=True)))
        self.shape_in = tuple(shape)
        self.shape_out = (*shape[:lead], *size)

    def forward(self, x: Tensor) -> Tensor:
        fits("Window", x, self.shape_in)
        return x[self._slices]

    def adjoint(self, y: Tensor) -> Tensor:
        fits("Window.adjoint", y, self.shape_out)
        x = y.new_zeros(*y.shape[: y.ndim - len(self.shape_out)], *self.shape_in)
        x[self._slices] = y
        return x


class Crop(Window):
    """Crop the last axes: take `size` samples from `start` on."""

    @checks_kinds
    def __init__(self, shape: Sequence[int], start: Sequence[int], size: Sequence[int]) -> None:
        super().__init__(shape, start, size)


class Downsample(Window):
    """Take every `factor`-th sample of the last `axes` axes, from `phase` on.

    It does not smooth first; compose it with a `Convolution` for that.

    Args:
        factor, phase: one integer, or one for each of the last axes.
        axes: how many of the last axes; by default one for each number in `factor`, or all if it is one integer.
    """

    @checks_kinds
    def __init__(
        self, shape: Sequence[int], factor: int | Sequence[int], phase: int | Sequence[int] = 0, axes: int | None = None
    ) -> None:
        axes = axes or (len(shape) if isinstance(factor, int) else len(factor))
        steps = (factor,) * axes if isinstance(factor, int) else tuple(factor)
        starts = (phase,) * axes if isinstance(phase, int) else tuple(phase)
        if not steps or min(steps) < 1:
            raise ShapeError(f"Downsample: factor is {factor}, but at least 1 was needed.")
        if not len(steps) == len(starts) == axes <= len(shape):
            raise ShapeError(
                f"Downsample: factor is {factor} and phase {phase} for axes={axes} of {tuple(shape)}, but one number, or one "
                "for each of these axes, was needed. Pass as many of each."
            )
        sizes = [-(-(n - start) // step) for n, start, step in zip(shape[-axes:], starts, steps, strict=True)]
        super().__init__(shape, starts, sizes, steps)
