"""Convolution with a known kernel, at four kinds of boundary, and its adjoint, the transposed convolution."""

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

# Taps up to which the plain sum is faster than the FFT: in one dimension, and of small inputs in more.
_DIRECT_LINE, _DIRECT_PLANE, _SMALL = 16, 9, 2**14


class Convolution(Operator):
    """Convolution along the last axes: y[i] = sum over j of kernel[j] x[i + centre - j].

    Boundaries:
        "circular": x goes round. The FFT diagonalises it; `spectrum` is the diagonal.
        "zero": x is zero outside; as much comes out as went in.
        "reflect": x is mirrored at its first and last sample, which is not repeated (torch's padding mode).
        "unknown": only samples in which no boundary had a part come out, `n - k + 1` of `n` ("valid"). It suits
            pictures, which end while the blur goes on.

    Args:
        kernel: (*k), real or complex, one to three axes; or (*b, *k) with `axes`, one kernel for each index of b.
        shape: (*b, *n) of the input; axes before the convolved ones are a batch. More of them may come at each call.
        stride: keep every `stride`-th sample of the output, along each axis.
        centre: the kernel's index that stands on the output's sample; by default the middle, k // 2 along each
            axis, which for an even k is the one after the middle (as in the FFT's order, and MATLAB's psf2otf).
        axes: how many of the last axes are convolved; by default all of the kernel's.
        method: "fft", "direct", or "auto", which chooses the faster by the kernel's size. On a GPU that is always "fft",
            since torch's convolution may round to ten bits there (`torch.backends.cudnn.allow_tf32`).

    Raises:
        ShapeError: a kernel that is empty, longer than the input where the boundary cannot have it, or of more
            axes than the input; a centre outside it; an unknown boundary.
        DtypeError: a kernel of integers that is no tensor of numbers.
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
        self.shape_in = _whole("shape", shape)
        self._k = tuple(self.kernel.shape[-self.axes :])
        self.centre = tuple(k // 2 for k in self._k) if centre is None else _whole("centre", centre)
        self.stride = _whole("stride", stride, self.axes)
        self._check(method)
        n = self.shape_in[-self.axes :]
        whole = tuple(a - k + 1 for a, k in zip(n, self._k, strict=True)) if boundary == "unknown" else n
        self.shape_out = (*self.shape_in[: -self.axes], *(-(-a // s) for a, s in zip(whole, self.stride, strict=True)))
        self._whole, self._n = whole, n
        self._dims = tuple(range(-self.axes, 0))
        self._method, self._small = method, self._is_small()
        self._spectra: dict[Any, Tensor] = {}

    @property
    def diagonalised(self) -> bool:
        """True where the FFT turns the operator into a product with `spectrum`."""
        return self.boundary == "circular" and set(self.stride) == {1}

    def forward(self, x: Tensor) -> Tensor:
        """(..., *shape_out) of (..., *shape_in)."""
        fits("Convolution", x, self.shape_in)
        if self.is_direct(x):
            return self._direct(x)
        grid, first = self.grid()
        spread = mirror(x, self.sides) if self.boundary == "reflect" else x
        y = self._product(spread, grid, adjoint=False)
        return y[self._cut(first)]

    def adjoint(self, y: Tensor) -> Tensor:
        """(..., *shape_in) of (..., *shape_out)."""
        fits("Convolution.adjoint", y, self.shape_out)
        if self.is_direct(y):
            return self._direct_adjoint(y)
        grid, first = self.grid()
        if grid != self._whole or set(self.stride) != {1}:
            spread = self._among_zeros(y, grid, first)
        else:
            spread = y
        x = self._product(spread, grid, adjoint=True)
        if self.boundary == "reflect":
            return mirror_adjoint(x[_firsts(n + k - 1 for n, k in zip(self._n, self._k, strict=True))], self.sides)
        return x if grid == self._n else x[_firsts(self._n)]

    def spectrum(self, like: Tensor) -> Tensor:
        """Return the kernel's discrete Fourier transform on the grid of the FFT, with the precision and device of `like`.

        Half of it (`torch.fft.rfftn`) if both are real. Under "circular" the kernel's centre lies at index 0.
        """
        real = not (like.is_complex() or self.kernel.is_complex())
        dtype = like.dtype if like.is_complex() or real else like.dtype.to_complex()
        return self._kept((dtype, like.device, "spectrum"), lambda: self._transformed(like.device, dtype, real))

    def conjugate(self, like: Tensor) -> Tensor:
        """Return the adjoint's spectrum; it is kept, since torch would copy all of it to conjugate it at every call."""
        spectrum = self.spectrum(like)
        return self._kept(_key(spectrum, "conjugate"), lambda: spectrum.conj().resolve_conj())

    def power(self, like: Tensor) -> Tensor:
        """Return |H|²; it is kept."""
        spectrum = self.spectrum(like)
        return self._kept(_key(spectrum, "power"), lambda: spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag))

    def _kept(self, key: Any, make: Callable[[], Tensor]) -> Tensor:
        if key in self._spectra:
            return self._spectra[key]
        made = make()
        if not (self.kernel.requires_grad or made.is_inference()):
            self._spectra[key] = made
        return made

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
        moved = rfftn(x, grid, self._dims)
        # In place, unless autograd needs both factors.
        recorded = torch.is_grad_enabled() and (x.requires_grad or spectrum.requires_grad)
        return irfftn(moved * spectrum if recorded else moved.mul_(spectrum), grid, self._dims)

    def grid(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Choose (the lengths of the FFT, where on it the output begins before the kernel is centred)."""
        # The FFT goes round. So each grid is long enough that what goes round falls where no output is read.
        sizes = list(zip(self._n, self._k, self.centre, strict=True))
        if self.boundary == "circular":
            return self._n, (0,) * self.axes
        if self.boundary == "zero":
            return tuple(fast_length(n + max(c, k - 1 - c)) for n, k, c in sizes), self.centre
        extra = 1 if self.boundary == "reflect" else 0
        return tuple(fast_length(n + extra * (k - 1)) for n, k, _ in sizes), tuple(k - 1 for k in self._k)

    def _among_zeros(self, y: Tensor, grid: tuple[int, ...], first: tuple[int, ...]) -> Tensor:
        """Put the output's samples in their places on the FFT's grid, and zeros around them."""
        # Large grids are bound by memory: zeros are written only where no sample follows.
        spread = y.new_empty(*y.shape[: -self.axes], *grid)
        if set(self.stride) == {1}:
            for axis, a, n, whole in zip(self._dims, first, self._whole, grid, strict=True):
                spread.narrow(axis, 0, a).zero_()
                spread.narrow(axis, a + n, whole - a - n).zero_()
        else:
            spread.zero_()
        spread[self._cut(first)] = y
        return spread

    def _cut(self, first: tuple[int, ...]) -> Any:
        """Index the output on the FFT's grid."""
        return (..., *(slice(a, a + n, s) for a, n, s in zip(first, self._whole, self.stride, strict=True)))

    def _direct(self, x: Tensor) -> Tensor:
        lead = x.shape[: -self.axes]
        wide = extend(x, self.sides, self.boundary)
        spread = wide.flatten(0, -self.axes - 1) if lead else wide[None]
        y: Tensor = _CONV[self.axes](spread[:, None], self._taps(x), stride=self.stride)
        return y.reshape(*lead, *y.shape[2:])

    def _direct_adjoint(self, y: Tensor) -> Tensor:
        lead = y.shape[: -self.axes]
        flat = y.flatten(0, -self.axes - 1) if lead else y[None]
        rest = [(n - 1) % s for n, s in zip(self._whole, self.stride, strict=True)]
        x = _CONV_TRANSPOSE[self.axes](flat[:, None], self._taps(y), stride=self.stride, output_padding=rest)
        return extend_adjoint(x.reshape(*lead, *x.shape[2:]), self.sides, self.boundary)

    def _taps(self, like: Tensor) -> Tensor:
        return self.kernel.to(like).flip(self._dims)[None, None]

    def is_direct(self, x: Tensor) -> bool:
        """Tell whether the plain sum is computed for such an input, and no FFT."""
        chosen = self._method == "direct" or (self._method == "auto" and self._small and x.device.type == "cpu")
        return chosen and not x.is_complex()

    def _is_small(self) -> bool:
        if self.kernel.is_complex() or self.kernel.ndim != self.axes:
            return False
        taps = self.kernel.numel()
        return taps <= _DIRECT_LINE if self.axes == 1 else taps <= _DIRECT_PLANE and prod(self._n) <= _SMALL

    @property
    def sides(self) -> list[tuple[int, int]]:
        """How many samples before and after the input the output depends on, along each convolved axis."""
        return [(k - 1 - c, c) for k, c in zip(self._k, self.centre, strict=True)]

    def _check(self, method: str) -> None:
        if self.boundary not in BOUNDARIES:
            raise ShapeError(
                f"Convolution: there is no boundary {self.boundary!r}; {', '.join(BOUNDARIES)} there are. "
                f"Nearest: {nearest(str(self.boundary), BOUNDARIES)}."
            )
        if method not in ("auto", "fft", "direct"):
            raise ShapeError(f"Convolution: method {method!r}; 'auto', 'fft' or 'direct' was needed.")
        if method == "direct" and (self.kernel.is_complex() or self.kernel.ndim != self.axes):
            raise ShapeError("Convolution: 'direct' takes one real kernel. Leave the method at 'auto'.")
        few = min(3, len(self.shape_in), self.kernel.ndim)
        if (
            not 1 <= self.axes <= few
            or self.kernel.ndim > len(self.shape_in)
            or 0 in self.kernel.shape
            or min(self.shape_in) < 1
        ):
            raise ShapeError(
                f"Convolution: a kernel {tuple(self.kernel.shape)} along {self.axes} axes of an input {self.shape_in}; "
                "one to three, no more than the input has, were needed. Pass shape=(*batch, *lengths) and a kernel of the last."
            )
        lead, batch = self.shape_in[: -self.axes], self.kernel.shape[: -self.axes]
        if any(b not in (1, n) for b, n in zip(reversed(batch), reversed(lead), strict=False)):
            raise ShapeError(
                f"Convolution: kernels for {tuple(batch)} and an input of {self.shape_in} along {self.axes} axes; one kernel, "
                f"or one for each of {lead}, was needed."
            )
        counts = {len(self.centre), len(self.stride)}
        if counts != {self.axes} or min(self.stride) < 1:
            raise ShapeError(f"Convolution: centre {self.centre} and stride {self.stride} must have {self.axes} integers each.")
        for k, c, n, (before, after) in zip(self._k, self.centre, self.shape_in[-self.axes :], self.sides, strict=True):
            if not 0 <= c < k:
                raise ShapeError(f"Convolution: the centre {self.centre} is not in the kernel {self._k}.")
            if (self.boundary in ("circular", "unknown") and k > n) or (self.boundary == "reflect" and max(before, after) >= n):
                raise ShapeError(
                    f"Convolution: the kernel is {self._k} and the input {self.shape_in}; at a boundary {self.boundary!r} "
                    "the kernel must fit into it. Cut the kernel to where it is not zero, or use boundary='zero'."
                )


def _key(spectrum: Tensor, what: str) -> Any:
    return spectrum.dtype, spectrum.device, spectrum.shape, what  # half a spectrum and a whole one differ


def _firsts(lengths: Iterable[int]) -> Any:
    return (..., *(slice(n) for n in lengths))


def _numbers(kernel: Any) -> Tensor:
    """Copy the kernel, so that nothing the caller does to it later has an effect here."""
    if not isinstance(kernel, Tensor):
        array = np.array(kernel, order="C")
        if array.dtype.kind not in "fciu":
            raise DtypeError(f"Convolution: the kernel is of {array.dtype}, but numbers were needed. Pass a numeric array.")
        known = array.dtype.itemsize <= (16 if array.dtype.kind == "c" else 8) and array.dtype != np.uint64
        return _numbers(torch.from_numpy(array.astype(array.dtype.newbyteorder("=") if known else np.float64)))
    if not fits_kind(kernel, Tensor):
        raise DtypeError(f"Convolution: the kernel is {shown(kernel)}, but a dense tensor with values was needed. Pass one.")
    if kernel.dtype == torch.bool:
        raise DtypeError("Convolution: the kernel is boolean, but numbers were needed. Pass kernel.float().")
    return kernel.clone() if kernel.is_floating_point() or kernel.is_complex() else kernel.double()


def _whole(what: str, given: Any, count: int | None = None) -> tuple[int, ...]:
    """Read whole numbers of any type; with `count`, one number may stand for all axes."""
    try:
        numbers = tuple(index(n) for n in given) if np.ndim(given) else (index(given),)
    except TypeError:
        raise DtypeError(f"Convolution: {what} is {given!r}, but whole numbers were needed.") from None
    return numbers * count if count and len(numbers) == 1 else numbers


_CONV: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE: dict[int, Any] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
