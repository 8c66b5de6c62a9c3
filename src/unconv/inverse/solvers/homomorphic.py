"""Cepstra, which turn a convolution into a sum, so that a wavelet and its echoes, or a voice and its source, separate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import pi

import torch
from torch import Tensor

from unconv.errors import DtypeError, NonFinite, ShapeError
from unconv.inverse.operators.operator import fits
from unconv.inverse.solvers.problems import is_finite
from unconv.inverse.solvers.unwrapping import unwrapped
from unconv.kinds import checks_kinds

_LEAST, _MOST = 1024, 2**18  # the shortest and the longest FFT to try
_ALIASING = {torch.float64: 1e-13, torch.float32: 1e-6}  # below which a longer FFT gains nothing
_FLOOR = {torch.float64: 1e-14, torch.float32: 1e-7}  # the least amplitude, as a share of the largest


@dataclass(frozen=True, eq=False)
class ComplexCepstrum:
    """The complex cepstrum of signals, with the delay and sign that it leaves out, from which the signals can be restored.

    Attributes:
        values: (..., N), the inverse transform of the spectrum's logarithm: quefrencies 0, 1, 2, ... and at the end -2, -1.
            Those after 0 come from zeros inside the unit circle (minimum phase), those before it from zeros outside.
        delay: (...), int64: samples of the linear phase that is left out. It is the number of zeros outside the unit circle
            plus the zero samples at the signal's beginning.
        sign: (...), +1 or -1, of the signal's sum.
        aliasing: (...), the largest magnitude near quefrency N / 2, where a cepstrum has died away if N is large enough. The
            error of other values is about as large. The inverse is exact all the same.
        samples: the number of samples of the signal.
    """

    values: Tensor
    delay: Tensor
    sign: Tensor
    aliasing: Tensor
    samples: int

    def inverse(self) -> Tensor:
        """Return the signal (..., samples)."""
        return from_cepstrum(self)

    def __add__(self, other: ComplexCepstrum) -> ComplexCepstrum:
        """Return the cepstrum of the convolution of two signals; both cepstra need the same N, at least its samples."""
        samples = self.samples + other.samples - 1
        if self.values.shape[-1] != other.values.shape[-1] or self.values.shape[-1] < samples:
            raise ShapeError(
                f"ComplexCepstrum: cepstra of {self.values.shape[-1]} and {other.values.shape[-1]} samples cannot be "
                f"added, but one length of {samples} or more was needed. Pass it as `length` to complex_cepstrum."
            )
        aliasing = self.aliasing + other.aliasing
        sums = self.values + other.values, self.delay + other.delay, self.sign * other.sign
        return ComplexCepstrum(*sums, aliasing, samples)


@checks_kinds
def complex_cepstrum(x: Tensor, length: int | None = None) -> ComplexCepstrum:
    """Return the complex cepstrum of signals: the inverse transform of log X, with its phase unwrapped and checked.

    The phase is unwrapped along the unit circle. Each step must agree with the derivative of log X; if it does not, it is
    halved until it does. The result is therefore the right phase, unless there is a zero on the circle, which has none.

    Args:
        x: (..., n), real.
        length: N of the FFT, even, n or more. None: 1024 or more, doubled until aliasing is negligible, up to 2**18.

    Raises:
        ShapeError: a signal is zero everywhere, or its spectrum has a zero on the unit circle or too near to it, where the
            logarithm is infinite; the message names the frequency. A signal without a mean has such a zero at frequency 0.
            `x * 0.99 ** torch.arange(n)` moves zeros inward.
        DtypeError, NonFinite: the samples are not real floats; or are NaN or infinite.

    Source:
        Oppenheim & Schafer, "Discrete-Time Signal Processing" (3rd ed., 2010), ch. 13; Tribolet, "A new phase unwrapping
        algorithm" (1977), for the adaptive steps.

    Example:
        >>> echo = torch.tensor([1.0, 0.0, 0.5], dtype=torch.float64)  # a^k (-1)^(k + 1) / k at 2 k
        >>> complex_cepstrum(echo).values[:5].numpy().round(6) + 0.0
        array([ 0.   ,  0.   ,  0.5  ,  0.   , -0.125])
    """
    _admit("complex_cepstrum", x)
    n = x.shape[-1]
    if length is not None and (length < n or length % 2):
        raise ShapeError(f"complex_cepstrum: length is {length}, but an even number of {n} or more was needed.")
    rows = x.detach().double().reshape(-1, n)
    _refuse_silence("complex_cepstrum", rows)
    # Scaled to a maximum of 1, so that no product of very large or small samples leaves the range of float64.
    scale = rows.abs().amax(1, keepdim=True)
    unit = rows / scale
    grid = length or _long_enough(unit, _ALIASING[x.dtype])
    phase = unwrapped(unit, grid)
    # The spectrum is real at frequency 1/2, so the phase there is an integer multiple of pi: one for each sample of delay.
    delay = (-phase[:, -1] / pi).round()
    spectrum = torch.fft.rfft(unit, grid)
    sign = spectrum[:, 0].real.sign()
    # The unwrapped phase gives only the number of turns, and the linear part is removed in integers. A long signal turns
    # thousands of times, and so large a phase, as a float, has lost digits that the spectrum's own angle still has.
    angle = (spectrum * sign[:, None]).angle()
    turns = ((phase - angle) / (2 * pi)).round().long() * grid + delay.long()[:, None] * _frequencies(grid, rows)
    values = torch.fft.irfft(torch.complex((spectrum.abs() * scale).log(), angle + turns.double() * (2 * pi / grid)), grid)
    delay_and_sign = [each.reshape(x.shape[:-1]) for each in (delay.long(), sign.to(x.dtype))]
    aliasing = _around_the_middle(values).to(x.dtype).reshape(x.shape[:-1])
    return ComplexCepstrum(values.to(x.dtype).reshape(*x.shape[:-1], grid), delay_and_sign[0], delay_and_sign[1], aliasing, n)


def _long_enough(rows: Tensor, settled: float) -> int:
    """Return the length of the FFT at which aliasing is negligible, or the longest one to try.

    Amplitudes are enough: the real cepstrum is the even part of the complex one, and needs no unwrapped phase.
    """
    grid = max(_LEAST, 1 << (rows.shape[1] - 1).bit_length())
    while grid < _MOST:
        cepstrum = torch.fft.irfft(torch.fft.rfft(rows, grid).abs().clamp(min=_FLOOR[torch.float64]).log(), grid)
        if float(_around_the_middle(cepstrum).max()) < settled:
            return grid
        grid *= 2
    return grid


def _around_the_middle(values: Tensor) -> Tensor:
    """Return the largest magnitude in the middle eighth of quefrencies, where only an aliased cepstrum is not zero: (...)."""
    n = values.shape[-1]
    return values[..., 7 * n // 16 : 9 * n // 16 + 1].abs().amax(-1)


def _frequencies(grid: int, like: Tensor) -> Tensor:
    """Return the frequencies of a half spectrum as int64, in units of the sampling rate over `grid`."""
    return torch.arange(grid // 2 + 1, device=like.device)


@checks_kinds
def from_cepstrum(cepstrum: ComplexCepstrum) -> Tensor:
    """Return the signal (..., samples) of a complex cepstrum: the inverse of `complex_cepstrum`, to rounding.

    After a lifter the signal may be longer than the original; what lies beyond its number of samples is cut off.

    Raises:
        ShapeError: the cepstrum is shorter than the signal, or its length is odd.
    """
    grid = cepstrum.values.shape[-1]
    if grid < cepstrum.samples or grid % 2:
        raise ShapeError(
            f"from_cepstrum: the cepstrum has {grid} quefrencies, but an even number of {cepstrum.samples} or more was needed."
        )
    values = cepstrum.values.double()
    # Multiples of 2 pi are removed while they are still integers, which loses no digits.
    turns = (cepstrum.delay[..., None] * _frequencies(grid, values)) % grid
    logarithm = torch.fft.rfft(values) - 1j * (turns.double() * (2 * pi / grid))
    signal: Tensor = torch.fft.irfft(logarithm.exp(), grid)[..., : cepstrum.samples] * cepstrum.sign[..., None]
    return signal.to(cepstrum.values.dtype)


@checks_kinds
def real_cepstrum(x: Tensor, length: int | None = None) -> Tensor:
    """Return the real cepstrum (..., N): the inverse transform of log |X|, the same at quefrencies q and -q.

    It has no phase, needs no unwrapping, and accepts any signal: amplitudes are at least 1e-14 of the largest (1e-7 in
    float32). The cepstrum of the power spectrum is twice as large.

    Args:
        x: (..., n), real.
        length: N of the FFT, n or more. None: the first power of two from 4 n on, at least 1024.

    Raises:
        ShapeError: a signal is zero everywhere, or the length is below n. DtypeError, NonFinite: the samples are not real
            floats; or are NaN or infinite.

    Source:
        Bogert, Healy & Tukey, "The quefrency alanysis of time series for echoes" (1963); Oppenheim & Schafer (2010), sec. 13.3.
    """
    _admit("real_cepstrum", x)
    n = x.shape[-1]
    grid = max(_LEAST, 4 * 2 ** (n - 1).bit_length()) if length is None else length
    if grid < n:
        raise ShapeError(f"real_cepstrum: length is {length}, but {n} or more was needed.")
    amplitude = torch.fft.rfft(x, grid).abs()
    largest = amplitude.amax(-1, keepdim=True)
    _refuse_silence("real_cepstrum", x)
    cepstrum: Tensor = torch.fft.irfft(amplitude.clamp(min=_FLOOR[x.dtype] * largest).log(), grid)
    return cepstrum


@checks_kinds
def lifter(cepstrum: Tensor | ComplexCepstrum, low: int = 0, high: int | None = None) -> Tensor | ComplexCepstrum:
    """Return a cepstrum with the quefrencies q outside low <= |q| < high set to zero.

    Low quefrencies are the smooth envelope of the spectrum. High ones are its ripples: pitch and echoes.

    Args:
        cepstrum: (..., N) from `real_cepstrum` or in the same order, or a `ComplexCepstrum`.
        low, high: samples; None: no upper end.

    Raises:
        ShapeError: low is below zero, or high not above low.
    """
    if isinstance(cepstrum, ComplexCepstrum):
        return replace(cepstrum, values=_liftered(cepstrum.values, low, high))
    return _liftered(cepstrum, low, high)


def _liftered(values: Tensor, low: int, high: int | None) -> Tensor:
    if low < 0 or (high is not None and high <= low):
        raise ShapeError(
            f"lifter: low is {low} and high {high}, but 0 <= low < high was needed. Pass high=None for no upper end."
        )
    index = torch.arange(values.shape[-1], device=values.device)
    quefrency = torch.minimum(index, values.shape[-1] - index)
    return torch.where((quefrency >= low) & (quefrency < (high or values.shape[-1])), values, 0)


def _admit(where: str, x: Tensor) -> None:
    fits(where, x, ())
    if x.is_complex():
        raise DtypeError(f"{where}: the samples are {x.dtype}, but real ones were needed. Pass x.real.")
    if x.ndim < 1 or x.numel() == 0:
        raise ShapeError(f"{where}: x is {tuple(x.shape)}, but (..., n) with samples was needed. The last axis is time.")
    if not is_finite(x):
        raise NonFinite(f"{where}: there are NaN or infinite samples, but finite ones were needed. Replace them.")


def _refuse_silence(where: str, x: Tensor) -> None:
    if not bool((x != 0).any(-1).all()):
        raise ShapeError(
            f"{where}: a signal is zero everywhere, but its spectrum must have a logarithm. Leave silent signals out."
        )
