"""Convolution as an operator on the kernel, for a known picture; blind deconvolution solves it for the kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unconv.inverse.operators.convolution import Convolution
from unconv.inverse.operators.extension import extend
from unconv.inverse.operators.fourier import fast_length
from unconv.inverse.operators.operator import Operator, fits


class ByKernel(Operator):
    """Map a kernel to the blurred picture, for one known picture: convolution as a linear operator on the kernel.

    Args:
        picture: (*n), real.
        operator: a convolution of such pictures. Only its boundary, its centre and the shape of its kernel matter.
    """

    def __init__(self, picture: Tensor, operator: Convolution) -> None:
        wide = extend(picture, operator.sides, operator.boundary)
        self.shape_in, self.shape_out = tuple(operator.kernel.shape), operator.shape_out
        self._dims = tuple(range(-wide.ndim, 0))
        self._grid = tuple(fast_length(n) for n in wide.shape)
        self._spectrum = torch.fft.rfftn(wide, self._grid, self._dims)
        # The complete convolution wraps round on this grid, but only in its first k - 1 samples, which are cut off.
        self._cut: Any = (..., *(slice(k - 1, k - 1 + m) for k, m in zip(self.shape_in, self.shape_out, strict=True)))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve the picture with kernels (..., *k); return (..., *shape_out)."""
        fits("ByKernel", x, self.shape_in)
        spectrum = torch.fft.rfftn(x, self._grid, self._dims) * self._spectrum
        blurred: Tensor = torch.fft.irfftn(spectrum, self._grid, self._dims)
        return blurred[self._cut]

    def adjoint(self, y: Tensor) -> Tensor:
        """Correlate (..., *shape_out) with the picture; return (..., *k)."""
        fits("ByKernel.adjoint", y, self.shape_out)
        spread = y.new_zeros(*y.shape[: y.ndim - len(self._grid)], *self._grid)
        spread[self._cut] = y
        spectrum = torch.fft.rfftn(spread, self._grid, self._dims) * self._spectrum.conj()
        kernel: Tensor = torch.fft.irfftn(spectrum, self._grid, self._dims)
        inside: tuple[Any, ...] = (..., *(slice(k) for k in self.shape_in))
        return kernel[inside]
