"""The iterates of blind solvers, and the check of their arguments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unconv.errors import DtypeError, ShapeError
from unconv.inverse.operators.operator import fits
from unconv.inverse.solvers.iterate import Iterate


@dataclass(frozen=True)
class BlindIterate(Iterate):
    """An iterate of a blind solver; its `operator` is the convolution with its `kernel`.

    Attributes:
        kernel: (*k), not negative, sums to 1; its centre is at k // 2.
    """

    kernel: Tensor = field(default_factory=lambda: torch.empty(0))

    @property
    def restored(self) -> Tensor:
        """The estimate without its margins: the samples that coincide with observed ones."""
        ends = zip(self.kernel.shape, self.operator.shape_in, self.operator.shape_out, strict=True)
        cut = [slice(k - 1 - k // 2, k - 1 - k // 2 + m) if n > m else slice(m) for k, n, m in ends]
        inside: tuple[Any, ...] = (..., *cut)
        return self.estimate[inside]


def refuse_unfit(where: str, observed: Tensor, size: tuple[int, ...], axes: int, shortest: int = 1) -> None:
    """Refuse complex pictures, and kernels shorter than `shortest` or not smaller than the picture."""
    fits(where, observed, ())
    if observed.is_complex():
        raise DtypeError(f"{where}: observed is complex, but a real picture was needed. Pass observed.abs().")
    few = observed.ndim < axes or len(size) != axes
    if few or any(not shortest <= k < n for k, n in zip(size, observed.shape[-axes:], strict=True)):
        raise ShapeError(
            f"{where}: a kernel {size} for a picture {tuple(observed.shape)} came, but one length for each of {axes} "
            f"{'axis' if axes == 1 else 'axes'} was needed, at least {shortest} and less than the picture's. Choose a smaller "
            "kernel, or pass one picture at a time."
        )
