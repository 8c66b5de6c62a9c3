"""The frequency grid on which a circular convolution is a product, and the regularised inverse filter on it."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from unconv.errors import ShapeError
from unconv.inverse.operators.convolution import Convolution
from unconv.inverse.operators.fourier import fftn, ifftn, irfftn, rfftn


class Grid:
    """The frequency grid of a circular convolution for signals like `observed`; half of it if kernel and signals are real.

    Attributes:
        axes: how many of the last axes are convolved.
        lengths: their lengths.
        count: the product of the lengths.
        half: true if the grid is that of `rfftn`.
    """

    def __init__(self, convolution: Convolution, observed: Tensor) -> None:
        self.axes = convolution.axes
        self.lengths = convolution.shape_in[-self.axes :]
        self.count = prod(self.lengths)
        self.half = not (observed.is_complex() or convolution.kernel.is_complex())
        self._lead = observed.shape[: -self.axes]
        self._real = observed.real
        self._dims = tuple(range(-self.axes, 0))

    def transform(self, x: Tensor) -> Tensor:
        return (rfftn if self.half else fftn)(x, self.lengths, self._dims)

    def back(self, spectrum: Tensor) -> Tensor:
        return (irfftn if self.half else ifftn)(spectrum, self.lengths, self._dims)

    def power(self, spectrum: Tensor) -> Tensor:
        """Return |X|^2."""
        return spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)

    def weights(self) -> Tensor:
        """Return how many frequencies of the full grid each one stands for, 1 or 2, along the last axis."""
        n = self.lengths[-1]
        if not self.half:
            return self.number([1.0] * n)
        return self.number([1.0 if k == 0 or 2 * k == n else 2.0 for k in range(n // 2 + 1)])

    def square_frequency(self) -> Tensor:
        """Return |f|^2, the sum over the axes, with f in cycles per sample; zero at frequency 0."""
        total = self._real.new_zeros(())
        for axis, n in enumerate(self.lengths):
            frequency = torch.fft.rfftfreq if self.half and axis == self.axes - 1 else torch.fft.fftfreq
            total = total[..., None] + frequency(n, device=self._real.device, dtype=self._real.dtype).square()
        return total

    def number(self, value: float | Sequence[float] | Tensor) -> Tensor:
        return torch.as_tensor(value, dtype=self._real.dtype, device=self._real.device)

    def placed(self, where: str, spectrum: float | Tensor) -> Tensor:
        """Return a number, or a real spectrum from the full grid or half of it, as a tensor for this grid."""
        spectrum = self.number(spectrum)
        last = self.lengths[-1] // 2 + 1 if self.half else self.lengths[-1]
        full, own = self.lengths, (*self.lengths[:-1], last)
        lead = spectrum.shape[: -self.axes]
        fits = all(a in (1, b) for a, b in zip(reversed(lead), reversed(self._lead), strict=False)) and len(lead) <= len(
            self._lead
        )
        if spectrum.ndim and (spectrum.shape[-self.axes :] not in (full, own) or not fits):
            raise ShapeError(
                f"{where} is {tuple(spectrum.shape)}, but a number, {full} or {own} was needed, with no axes in front that the "
                "observed samples lack. Take torch.fft.fftn or rfftn along the convolved axes."
            )
        return spectrum[..., :last] if spectrum.ndim else spectrum

    def filtered(self, spectrum: Tensor, conjugate: Tensor, power: Tensor, ratio: Tensor) -> Tensor:
        """Return the filtered spectrum conj(H) Y / (|H|^2 + ratio); 0 where both terms are 0, and where ratio is infinite.

        `spectrum` is Y. It is overwritten unless autograd records.
        """
        total = power + ratio
        if torch.is_grad_enabled() and (spectrum.requires_grad or total.requires_grad):
            return spectrum * conjugate / total.clamp(min=torch.finfo(total.dtype).tiny)
        inverse = total.clamp_(min=torch.finfo(total.dtype).tiny).reciprocal_()
        return spectrum.mul_(conjugate).mul_(inverse)
