"""The frequencies on which a circular convolution is a product, and the filters that live there."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from unconv.errors import ShapeError
from unconv.inverse.operators.convolution import Convolution
from unconv.inverse.operators.fourier import fftn, ifftn, irfftn, rfftn


class Grid:
    """The FFT's grid for signals like `observed`: half of it where kernel and signals are real.

    Attributes:
        lengths: those of the convolved axes, the last `axes` ones.
        count: how many samples they have together.
        half: the grid is that of `rfftn`.
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
        """|X|^2."""
        return spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)

    def weights(self) -> Tensor:
        """Count the frequencies of the whole grid that each one stands for: (last length of the grid)."""
        n = self.lengths[-1]
        if not self.half:
            return self.number([1.0] * n)
        return self.number([1.0 if k == 0 or 2 * k == n else 2.0 for k in range(n // 2 + 1)])

    def square_frequency(self) -> Tensor:
        """Return |f|^2 in cycles per sample, summed over the axes; zero at the mean."""
        whole = self._real.new_zeros(())
        for axis, n in enumerate(self.lengths):
            frequency = torch.fft.rfftfreq if self.half and axis == self.axes - 1 else torch.fft.fftfreq
            whole = whole[..., None] + frequency(n, device=self._real.device, dtype=self._real.dtype).square()
        return whole

    def number(self, value: float | Sequence[float] | Tensor) -> Tensor:
        return torch.as_tensor(value, dtype=self._real.dtype, device=self._real.device)

    def placed(self, where: str, spectrum: float | Tensor) -> Tensor:
        """Put on this grid a number, or a real spectrum from the whole grid or from half of it."""
        spectrum = self.number(spectrum)
        kept = self.lengths[-1] // 2 + 1 if self.half else self.lengths[-1]
        whole, mine = self.lengths, (*self.lengths[:-1], kept)
        lead = spectrum.shape[: -self.axes]
        fits = all(a in (1, b) for a, b in zip(reversed(lead), reversed(self._lead), strict=False)) and len(lead) <= len(
            self._lead
        )
        if spectrum.ndim and (spectrum.shape[-self.axes :] not in (whole, mine) or not fits):
            raise ShapeError(
                f"{where} is {tuple(spectrum.shape)}, but a number, {whole} or {mine} was needed, and in front only axes of "
                "what was observed. Take torch.fft.fftn or rfftn along the convolved axes."
            )
        return spectrum[..., :kept] if spectrum.ndim else spectrum

    def filtered(self, seen: Tensor, conjugate: Tensor, power: Tensor, ratio: Tensor) -> Tensor:
        """Return conj(H) Y / (|H|^2 + ratio); 0 where |H|^2 and ratio are both 0, and where ratio is infinite.

        `seen`, Y, is overwritten unless a gradient is recorded.
        """
        total = power + ratio
        if torch.is_grad_enabled() and (seen.requires_grad or total.requires_grad):
            return seen * conjugate / total.clamp(min=torch.finfo(total.dtype).tiny)
        inverse = total.clamp_(min=torch.finfo(total.dtype).tiny).reciprocal_()
        return seen.mul_(conjugate).mul_(inverse)
