"""Convolution with a known kernel at one of four boundary conditions, and its adjoint, the transposed convolution."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod
from operator import index
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import DtypeError, ShapeError, nearest
from unconv.inverse.operators.boundaries import BOUNDARIES
from unconv.inverse.operators.extension import extend, extend_adjoint, mirror, mirror_adjoint
from unconv.inverse.operators.fourier import fast_length, fftn, ifftn, irfftn, rfftn
from unconv.inverse.operators.operator import Operator, fits
from unconv.kinds import checks_kinds, fits_kind, shown

# Up to so many taps the plain sum is faster than the FFT: in one dimension, and for small inputs in more.
_DIRECT_LINE, _DIRECT_PLANE, _SMALL = 16, 9, 2**14


class Convolution(Operator):
    """Convolve along the last axes with a known kernel: y[i] = sum over j of kernel[j] x[i + centre - j].

    Boundaries:
        "circular": x is periodic. The FFT diagonalises the operator; `spectrum` is the diagonal.
        "zero": x is zero outside. The output has the size of the input ("same").
        "reflect": x is mirrored at its first and last sample, without repeating them (as torch's padding mode).
        "unknown": only the `n - k + 1` of `n` samples come out that do not depend on the boundary ("valid"). This suits
            pictures, because the scene goes on beyond their border.

    Args:
        kernel: (*k), real or complex, with one to three axes; or (*b, *k) with `axes`, one kernel for each index of b.
        shape: (*b, *n) of the input. Axes before the convolved ones are a batch, and each call may add more of them.
        stride: keep every `stride`-th sample of the output, along each axis.
        centre: the index of the kernel that lies on the output's sample. By default k // 2 along each axis; for an even k
            that is the index after the middle, as in the FFT's order and in MATLAB's psf2otf.
        axes: how many of the last axes are convolved; by default all axes of the kernel.
        method: "fft", "direct", or "auto", which chooses the faster by the kernel's size. On a GPU "auto" is always "fft",
            because torch's convolution may round to ten bits there (`torch.backends.cudnn.allow_tf32`).

    Raises:
        ShapeError: the kernel is empty, has more axes than the input, or is longer than the input where the boundary does
            not allow that; the centre lies outside the kernel; the boundary is unknown.
        DtypeError: the kernel does not consist of numbers.
    """

    @checks_kinds
    def __init__(
        self,
        kernel: Any,
        shape: Sequence[int],
        boundary: str = "circular",
        *,
        stride: int | Sequence[int] = 1,
        centre: Sequence[int] | None = None,
        axes: int | None = None,
        method: str = "auto",
    ) -> None:
        self.kernel = _numbers(kernel)
        self.axes = axes or self.kernel.ndim
        self.boundary = boundary
        self.shape_in = _integers("shape", shape)
        self._k = tuple(self.kernel.shape[-self.axes :])
        self.centre = tuple(k // 2 for k in self._k) if centre is None else _integers("centre", centre)
        self.stride = _integers("stride", stride, self.axes)
        self._check(method)
        n = self.shape_in[-self.axes :]
        dense = tuple(a - k + 1 for a, k in zip(n, self._k, strict=True)) if boundary == "unknown" else n
        self.shape_out = (*self.shape_in[: -self.axes], *(-(-a // s) for a, s in zip(dense, self.stride, strict=True)))
        self._dense, self._n = dense, n  # lengths of the output before the stride, and of the input
        self._dims = tuple(range(-self.axes, 0))
        self._method, self._small = method, self._is_small()
        self._spectra: dict[Any, Tensor] = {}

    @property
    def diagonalised(self) -> bool:
        """True if the FFT turns the operator into a product with `spectrum`."""
        return self.boundary == "circular" and set(self.stride) == {1}

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x (..., *shape_in); return (..., *shape_out)."""
        fits("Convolution", x, self.shape_in)
        if self.is_direct(x):
            return self._direct(x)
        grid, first = self.grid()
        spread = mirror(x, self.sides) if self.boundary == "reflect" else x
        y = self._product(spread, grid, adjoint=False)
        return y[self._cut(first)]

    def adjoint(self, y: Tensor) -> Tensor:
        """Apply the transposed convolution to y (..., *shape_out); return (..., *shape_in)."""
        fits("Convolution.adjoint", y, self.shape_out)
        if self.is_direct(y):
            return self._direct_adjoint(y)
        grid, first = self.grid()
        if grid != self._dense or set(self.stride) != {1}:
            spread = self._among_zeros(y, grid, first)
        else:
            spread = y
        x = self._product(spread, grid, adjoint=True)
        if self.boundary == "reflect":
            return mirror_adjoint(x[_firsts(n + k - 1 for n, k in zip(self._n, self._k, strict=True))], self.sides)
        return x if grid == self._n else x[_firsts(self._n)]

    def spectrum(self, like: Tensor) -> Tensor:
        """Return the discrete Fourier transform of the kernel on the grid of the FFT, with the precision and device of `like`.

        If both are real, it is half of the spectrum, as from `torch.fft.rfftn`. Under "circular" the kernel's centre lies at
        index 0.
        """
        real = not (like.is_complex() or self.kernel.is_complex())
        dtype = like.dtype if like.is_complex() or real else like.dtype.to_complex()
        return self._cached((dtype, like.device, "spectrum"), lambda: self._transformed(like.device, dtype, real))

    def conjugate(self, like: Tensor) -> Tensor:
        """Return the spectrum of the adjoint. It is cached, because torch would copy it to conjugate it at every call."""
        spectrum = self.spectrum(like)
        return self._cached(_key(spectrum, "conjugate"), lambda: spectrum.conj().resolve_conj())

    def power(self, like: Tensor) -> Tensor:
        """Return |H|², the power of the spectrum. It is cached."""
        spectrum = self.spectrum(like)
        return self._cached(_key(spectrum, "power"), lambda: spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag))

    def _cached(self, key: Any, make: Callable[[], Tensor]) -> Tensor:
        if key in self._spectra:
            return self._spectra[key]
        spectrum = make()
        # A spectrum with a gradient belongs to one backward pass, and autograd refuses an inference tensor later.
        if not (self.kernel.requires_grad or spectrum.is_inference()):
            self._spectra[key] = spectrum
        return spectrum

    def _transformed(self, device: torch.device, dtype: torch.dtype, real: bool) -> Tensor:
        kernel = self.kernel.to(device=device, dtype=dtype)
        grid, _ = self.grid()
        if self.boundary == "circular":
            kernel = F.pad(kernel, [p for n, k in zip(reversed(grid), reversed(self._k), strict=True) for p in (0, n - k)])
            kernel = kernel.roll([-c for c in self.centre], self._dims)
        return (rfftn if real else fftn)(kernel, grid, self._dims)

    def _product(self, x: Tensor, grid: tuple[int, ...], adjoint: bool) -> Tensor:
        spectrum = self.conjugate(x) if adjoint else self.spectrum(x)
        if x.is_complex() or self.kernel.is_complex():
            return ifftn(fftn(x, grid, self._dims) * spectrum, grid, self._dims)
        transform = rfftn(x, grid, self._dims)
        # In place, unless autograd needs both factors.
        recorded = torch.is_grad_enabled() and (x.requires_grad or spectrum.requires_grad)
        return irfftn(transform * spectrum if recorded else transform.mul_(spectrum), grid, self._dims)

    def grid(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the lengths of the FFT, and the index on its grid at which the output begins, before the kernel is centred."""
        # The FFT is periodic. Each grid is long enough that samples which wrap round fall where no output is read.
        sizes = list(zip(self._n, self._k, self.centre, strict=True))
        if self.boundary == "circular":
            return self._n, (0,) * self.axes
        if self.boundary == "zero":
            return tuple(fast_length(n + max(c, k - 1 - c)) for n, k, c in sizes), self.centre
        extra = 1 if self.boundary == "reflect" else 0
        return tuple(fast_length(n + extra * (k - 1)) for n, k, _ in sizes), tuple(k - 1 for k in self._k)

    def _among_zeros(self, y: Tensor, grid: tuple[int, ...], first: tuple[int, ...]) -> Tensor:
        """Put the samples of the output on the FFT's grid, with zeros around them."""
        # Memory bandwidth limits large grids, so zeros are written only where no sample is written after them.
        spread = y.new_empty(*y.shape[: -self.axes], *grid)
        if set(self.stride) == {1}:
            for axis, a, n, length in zip(self._dims, first, self._dense, grid, strict=True):
                spread.narrow(axis, 0, a).zero_()
                spread.narrow(axis, a + n, length - a - n).zero_()
        else:
            spread.zero_()
        spread[self._cut(first)] = y
        return spread

    def _cut(self, first: tuple[int, ...]) -> Any:
        """Return the index of the output on the FFT's grid."""
        return (..., *(slice(a, a + n, s) for a, n, s in zip(first, self._dense, self.stride, strict=True)))

    def _direct(self, x: Tensor) -> Tensor:
        # All batch axes become the batch of a convolution with one channel. torch correlates, hence the flipped taps.
        lead = x.shape[: -self.axes]
        wide = extend(x, self.sides, self.boundary)
        spread = wide.flatten(0, -self.axes - 1) if lead else wide[None]
        y: Tensor = _CONV[self.axes](spread[:, None], self._taps(x), stride=self.stride)
        return y.reshape(*lead, *y.shape[2:])

    def _direct_adjoint(self, y: Tensor) -> Tensor:
        lead = y.shape[: -self.axes]
        flat = y.flatten(0, -self.axes - 1) if lead else y[None]
        # Without output_padding, the samples after the last one that the stride kept would be missing.
        rest = [(n - 1) % s for n, s in zip(self._dense, self.stride, strict=True)]
        x = _CONV_TRANSPOSE[self.axes](flat[:, None], self._taps(y), stride=self.stride, output_padding=rest)
        return extend_adjoint(x.reshape(*lead, *x.shape[2:]), self.sides, self.boundary)

    def _taps(self, like: Tensor) -> Tensor:
        return self.kernel.to(like).flip(self._dims)[None, None]

    def is_direct(self, x: Tensor) -> bool:
        """Return whether such an input is convolved by the plain sum, without the FFT."""
        chosen = self._method == "direct" or (self._method == "auto" and self._small and x.device.type == "cpu")
        return chosen and not x.is_complex()

    def _is_small(self) -> bool:
        if self.kernel.is_complex() or self.kernel.ndim != self.axes:
            return False
        taps = self.kernel.numel()
        return taps <= _DIRECT_LINE if self.axes == 1 else taps <= _DIRECT_PLANE and prod(self._n) <= _SMALL

    @property
    def sides(self) -> list[tuple[int, int]]:
        """How many samples before and after the input the output depends on, as pairs, one for each convolved axis."""
        return [(k - 1 - c, c) for k, c in zip(self._k, self.centre, strict=True)]

    def _check(self, method: str) -> None:
        # Later checks rely on earlier ones: `sides`, for instance, needs one centre for each axis.
        if self.boundary not in BOUNDARIES:
            raise ShapeError(
                f"Convolution: there is no boundary {self.boundary!r}. Pass one of {', '.join(BOUNDARIES)}. "
                f"Nearest: {nearest(str(self.boundary), BOUNDARIES)}."
            )
        if method not in ("auto", "fft", "direct"):
            raise ShapeError(f"Convolution: method is {method!r}, but 'auto', 'fft' or 'direct' was needed.")
        if method == "direct" and (self.kernel.is_complex() or self.kernel.ndim != self.axes):
            raise ShapeError("Convolution: method 'direct' needs one real kernel. Leave the method at 'auto'.")
        few = min(3, len(self.shape_in), self.kernel.ndim)
        if (
            not 1 <= self.axes <= few
            or self.kernel.ndim > len(self.shape_in)
            or 0 in self.kernel.shape
            or min(self.shape_in) < 1
        ):
            raise ShapeError(
                f"Convolution: the kernel is {tuple(self.kernel.shape)}, the input {self.shape_in} and axes {self.axes}, but 1 "
                "to 3 axes that both have were needed, none of length 0. Pass shape=(*batch, *lengths) and a kernel for these."
            )
        lead, batch = self.shape_in[: -self.axes], self.kernel.shape[: -self.axes]
        if any(b not in (1, n) for b, n in zip(reversed(batch), reversed(lead), strict=False)):
            raise ShapeError(
                f"Convolution: the kernels have batch axes {tuple(batch)} and the input {lead}, but one kernel, or one for "
                "each picture, was needed. Make the batch axes of both equal, or 1."
            )
        counts = {len(self.centre), len(self.stride)}
        if counts != {self.axes} or min(self.stride) < 1:
            raise ShapeError(
                f"Convolution: centre is {self.centre} and stride {self.stride}, but one index and one positive stride for "
                f"each of axes={self.axes} were needed."
            )
        for k, c, n, (before, after) in zip(self._k, self.centre, self.shape_in[-self.axes :], self.sides, strict=True):
            if not 0 <= c < k:
                raise ShapeError(f"Convolution: centre is {self.centre}, but an index into the kernel {self._k} was needed.")
            if (self.boundary in ("circular", "unknown") and k > n) or (self.boundary == "reflect" and max(before, after) >= n):
                raise ShapeError(
                    f"Convolution: the kernel is {self._k} and the input {self.shape_in}, but with boundary {self.boundary!r} "
                    "the kernel must fit into the input. Crop zeros off the kernel's border, or use boundary='zero'."
                )


def _key(spectrum: Tensor, what: str) -> Any:
    return spectrum.dtype, spectrum.device, spectrum.shape, what  # the shape tells half a spectrum from a full one


def _firsts(lengths: Iterable[int]) -> Any:
    return (..., *(slice(n) for n in lengths))


def _numbers(kernel: Any) -> Tensor:
    """Return a copy of the kernel as a tensor, so that the caller's later changes have no effect here."""
    if not isinstance(kernel, Tensor):
        array = np.array(kernel, order="C")
        if array.dtype.kind not in "fciu":
            raise DtypeError(f"Convolution: the kernel is {array.dtype}, but numbers were needed. Pass a numeric array.")
        # `from_numpy` takes no long doubles and no foreign byte order.
        known = array.dtype.itemsize <= (16 if array.dtype.kind == "c" else 8) and array.dtype != np.uint64
        return _numbers(torch.from_numpy(array.astype(array.dtype.newbyteorder("=") if known else np.float64)))
    if not fits_kind(kernel, Tensor):
        raise DtypeError(f"Convolution: the kernel is {shown(kernel)}, but a dense tensor with values was needed. Pass one.")
    if kernel.dtype == torch.bool:
        raise DtypeError("Convolution: the kernel is boolean, but numbers were needed. Pass kernel.float().")
    return kernel.clone() if kernel.is_floating_point() or kernel.is_complex() else kernel.double()


def _integers(name: str, value: Any, count: int | None = None) -> tuple[int, ...]:
    """Return integers of any type as a tuple; with `count`, one number may stand for all axes."""
    try:
        numbers = tuple(index(n) for n in value) if np.ndim(value) else (index(value),)
    except TypeError:
        raise DtypeError(f"Convolution: {name} is {value!r}, but whole numbers were needed. Pass integers.") from None
    return numbers * count if count and len(numbers) == 1 else numbers


_CONV: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE: dict[int, Any] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
