"""Operators that choose samples: a mask, a crop, every second one. Their adjoints put the samples back among zeros.

Adjoint times forward is a diagonal of ones and zeros, `weights`; solvers use it to stay at the FFT's speed: see `split`.
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
    """Choose some of the samples. The adjoint puts them back where they were, among zeros."""

    def weights(self, like: Tensor) -> Tensor:
        """(*shape_in): 1 where a sample is chosen, 0 where not; dtype and device of `like`."""
        return self.adjoint(torch.ones(self.shape_out, dtype=like.dtype, device=like.device))


class Mask(Selection):
    """Keep the samples where `observed` is true; the others become zero, in their places.

    Args:
        observed: (*shape), boolean.
    """

    def __init__(self, observed: Tensor) -> None:
        try:
            self.observed = torch.as_tensor(observed) != 0
        except (TypeError, ValueError, RuntimeError) as error:
            raise DtypeError(f"Mask: observed is {shown(observed)}, but a boolean tensor was needed. Pass one.") from error
        if not fits_kind(self.observed, Tensor):
            raise DtypeError(f"Mask: observed is {shown(observed)}, but a dense tensor with values was needed. Pass one.")
        self.shape_in = self.shape_out = tuple(self.observed.shape)

    def forward(self, x: Tensor) -> Tensor:
        fits("Mask", x, self.shape_in)
        return torch.where(self.observed.to(x.device), x, 0)  # not a product, which would keep NaN

    def adjoint(self, y: Tensor) -> Tensor:
        return self.forward(y)


class Window(Selection):
    """Take `size` samples from `start` on, every `step`-th, along each of the last axes: crop and downsampling in one.

    Raises:
        ShapeError: the window does not lie in `shape`.
    """

    @checks_kinds
    def __init__(
        self, shape: Sequence[int], start: Sequence[int], size: Sequence[int], step: Sequence[int] | None = None
    ) -> None:
        steps = (1,) * len(size) if step is None else tuple(step)
        if not len(start) == len(size) == len(steps) <= len(shape):
            raise ShapeError(
                f"Window: shape {tuple(shape)}, start {tuple(start)}, size {tuple(size)} and step {steps} were given, but one "
                "number for each of the last axes was needed. Pass as many of each."
            )
        lead = len(shape) - len(size)
        lasts = [s + (n - 1) * k for s, n, k in zip(start, size, steps, strict=True)]
        inside = (
            0 <= s and 1 <= n and last < whole for s, n, last, whole in zip(start, size, lasts, shape[lead:], strict=True)
        )
        if lead < 0 or min(steps) < 1 or not all(inside):
            raise ShapeError(
                f"Window: {tuple(size)} samples from {tuple(start)} on, every {steps}, do not lie in {tuple(shape)}. "
                "Choose a smaller window."
            )
        self._cut: tuple[Any, ...] = (..., *(slice(s, last + 1, k) for s, last, k in zip(start, lasts, steps, strict=True)))
        self.shape_in = tuple(shape)
        self.shape_out = (*shape[:lead], *size)

    def forward(self, x: Tensor) -> Tensor:
        fits("Window", x, self.shape_in)
        return x[self._cut]

    def adjoint(self, y: Tensor) -> Tensor:
        fits("Window.adjoint", y, self.shape_out)
        x = y.new_zeros(*y.shape[: y.ndim - len(self.shape_out)], *self.shape_in)
        x[self._cut] = y
        return x


class Crop(Window):
    """Take `size` samples of the last axes, from `start` on."""

    @checks_kinds
    def __init__(self, shape: Sequence[int], start: Sequence[int], size: Sequence[int]) -> None:
        super().__init__(shape, start, size)


class Downsample(Window):
    """Take every `factor`-th sample of the last `axes` axes, from `phase` on.

    It does not smooth; compose it with a `Convolution` for that.

    Args:
        factor, phase: one integer, or one for each of the last axes.
        axes: how many of the last axes; by default as many as `factor` has, or all.
    """

    @checks_kinds
    def __init__(
        self, shape: Sequence[int], factor: int | Sequence[int], phase: int | Sequence[int] = 0, axes: int | None = None
    ) -> None:
        axes = axes or (len(shape) if isinstance(factor, int) else len(factor))
        steps = (factor,) * axes if isinstance(factor, int) else tuple(factor)
        starts = (phase,) * axes if isinstance(phase, int) else tuple(phase)
        if not steps or min(steps) < 1:
            raise ShapeError(f"Downsample: factor {factor}; it must be at least 1.")
        if not len(steps) == len(starts) == axes <= len(shape):
            raise ShapeError(
                f"Downsample: factor {factor} and phase {phase} for the last {axes} axes of {tuple(shape)}, but one number, or "
                "one for each of them, was needed. Pass as many of each."
            )
        sizes = [-(-(n - start) // step) for n, start, step in zip(shape[-axes:], starts, steps, strict=True)]
        super().__init__(shape, starts, sizes, steps)
