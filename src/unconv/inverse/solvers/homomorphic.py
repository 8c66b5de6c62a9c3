"""Cepstra: where a convolution is a sum, so that a wavelet and its echoes, or a voice and its source, can be told apart."""

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

_LEAST, _MOST = 1024, 2**18  # lengths of the FFT that are tried for themselves
_SETTLED = {torch.float64: 1e-13, torch.float32: 1e-6}  # aliasing below which a longer FFT gains nothing
_DRY = {torch.float64: 1e-14, torch.float32: 1e-7}  # amplitudes below that share of the largest count as so much


@dataclass(frozen=True, eq=False)
class ComplexCepstrum:
    """The complex cepstrum of signals, with what it leaves out, so that the signals come back from it.

    Attributes:
        values: (..., N), the inverse transform of the spectrum's logarithm: quefrencies 0, 1, 2, ... and at the end -2, -1.
            What lies after 0 is of zeros inside the unit circle (minimum phase), what lies before it of those outside.
        delay: (...), int64: samples of the linear phase that was taken out. It is how many zeros lie outside the unit circle,
            and the signal's own zeros at its beginning.
        sign: (...), +1 or -1, of the signal's sum.
        aliasing: (...), the largest magnitude near quefrency N / 2, where a cepstrum has died away if N is large enough; about
            as much may be wrong elsewhere. The inverse is exact all the same.
        samples: of the signal.
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
        """Return the cepstrum of the convolution of two signals, whose cepstra have one length N of at least its samples."""
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
    """Return the complex cepstrum of signals: the inverse transform of log X, its phase unwrapped and checked.

    The phase is followed along the unit circle in steps that agree with the derivative of log X, and where they do not, at
    frequencies between, until they do. So it is the right one, or there is a zero on the circle and no phase.

    Args:
        x: (..., n), real.
        length: N of the FFT, even, n or more. None: 1024 or more, until what is aliased is next to nothing, up to 2**18.

    Raises:
        ShapeError: silence; a zero on the unit circle or too near to it, and at which frequency: there the logarithm is
            infinite. The mean of the samples is one at frequency 0. `x * 0.99 ** torch.arange(n)` moves zeros inward.
        DtypeError, NonFinite: not real floats; NaN or infinite samples.

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
    # A scale that float64 holds both of large and of small numbers.
    scale = rows.abs().amax(1, keepdim=True)
    unit = rows / scale
    grid = length or _long_enough(unit, _SETTLED[x.dtype])
    phase = unwrapped(unit, grid)
    # The spectrum is real at frequency 1/2: there the phase is a whole number of half turns, one for each sample of delay.
    delay = (-phase[:, -1] / pi).round()
    spectrum = torch.fft.rfft(unit, grid)
    sign = spectrum[:, 0].real.sign()
    # Only whole turns are taken from the phase, and its linear part leaves it in whole numbers: long signals turn thousands of
    # times, and such a phase, as a float, has lost digits that the spectrum still has.
    angle = (spectrum * sign[:, None]).angle()
    turns = ((phase - angle) / (2 * pi)).round().long() * grid + delay.long()[:, None] * _frequencies(grid, rows)
    values = torch.fft.irfft(torch.complex((spectrum.abs() * scale).log(), angle + turns.double() * (2 * pi / grid)), grid)
    told = [each.reshape(x.shape[:-1]) for each in (delay.long(), sign.to(x.dtype))]
    aliasing = _around_the_middle(values).to(x.dtype).reshape(x.shape[:-1])
    return ComplexCepstrum(values.to(x.dtype).reshape(*x.shape[:-1], grid), told[0], told[1], aliasing, n)


def _long_enough(rows: Tensor, settled: float) -> int:
    """Return the length of the FFT at which nothing aliases, or the longest one that is tried.

    Amplitudes alone tell: the real cepstrum is the even part of the complex one, and no phase has to be unwrapped for it.
    """
    grid = max(_LEAST, 1 << (rows.shape[1] - 1).bit_length())
    while grid < _MOST:
        cepstrum = torch.fft.irfft(torch.fft.rfft(rows, grid).abs().clamp(min=_DRY[torch.float64]).log(), grid)
        if float(_around_the_middle(cepstrum).max()) < settled:
            return grid
        grid *= 2
    return grid


def _around_the_middle(values: Tensor) -> Tensor:
    """Return the largest magnitude in the middle eighth of quefrencies, where a cepstrum has died away or aliases: (...)."""
    n = values.shape[-1]
    return values[..., 7 * n // 16 : 9 * n // 16 + 1].abs().amax(-1)


def _frequencies(grid: int, like: Tensor) -> Tensor:
    """Return the frequencies of a half spectrum, int64, of which `grid` are the sampling rate."""
    return torch.arange(grid // 2 + 1, device=like.device)


@checks_kinds
def from_cepstrum(cepstrum: ComplexCepstrum) -> Tensor:
    """Return the signal (..., samples) of a complex cepstrum: the inverse of `complex_cepstrum`, to rounding.

    After a lifter it is the signal of what was kept, which may be longer than it; what lies beyond its samples is cut off.

    Raises:
        ShapeError: a cepstrum that is shorter than the signal.
    """
    grid = cepstrum.values.shape[-1]
    if grid < cepstrum.samples or grid % 2:
        raise ShapeError(
            f"from_cepstrum: the cepstrum has {grid} quefrencies, but an even number of {cepstrum.samples} or more was needed."
        )
    values = cepstrum.values.double()
    # Whole turns are left out while they are whole numbers.
    late = (cepstrum.delay[..., None] * _frequencies(grid, values)) % grid
    logarithm = torch.fft.rfft(values) - 1j * (late.double() * (2 * pi / grid))
    made: Tensor = torch.fft.irfft(logarithm.exp(), grid)[..., : cepstrum.samples] * cepstrum.sign[..., None]
    return made.to(cepstrum.values.dtype)


@checks_kinds
def real_cepstrum(x: Tensor, length: int | None = None) -> Tensor:
    """Return the real cepstrum (..., N): the inverse transform of log |X|, the same at quefrencies q and -q.

    It has no phase, needs no unwrapping, and takes any signal: amplitudes below 1e-14 of the largest (1e-7 in float32) count as
    so much. That of a power spectrum is twice as large.

    Args:
        x: (..., n), real.
        length: N of the FFT, n or more. None: the power of two from 4 n on, at least 1024.

    Raises:
        ShapeError: silence, or a length below n. DtypeError, NonFinite: not real floats; NaN or infinite samples.

    Source:
        Bogert, Healy & Tukey, "The quefrency alanysis of time series for echoes" (1963); Oppenheim & Schafer (2010), sec. 13.3.
    """
    _admit("real_cepstrum", x)
    n = x.shape[-1]
    grid = max(_LEAST, 4 * 2 ** (n - 1).bit_length()) if length is None else length
    if grid < n:
        raise ShapeError(f"real_cepstrum: length is {length}, but {n} or more was needed.")
    amplitude = torch.fft.rfft(x, grid).abs()
    most = amplitude.amax(-1, keepdim=True)
    _refuse_silence("real_cepstrum", x)
    made: Tensor = torch.fft.irfft(amplitude.clamp(min=_DRY[x.dtype] * most).log(), grid)
    return made


@checks_kinds
def lifter(cepstrum: Tensor | ComplexCepstrum, low: int = 0, high: int | None = None) -> Tensor | ComplexCepstrum:
    """Keep the quefrencies q with low <= |q| < high of a cepstrum, and set the others to zero.

    Low ones are the smooth envelope of the spectrum, high ones its ripples: pitch and echoes.

    Args:
        cepstrum: (..., N) from `real_cepstrum` or of the same order, or a `ComplexCepstrum`.
        low, high: samples; None: no upper end.

    Raises:
        ShapeError: low below zero, or high not above it.
    """
    if isinstance(cepstrum, ComplexCepstrum):
        return replace(cepstrum, values=_liftered(cepstrum.values, low, high))
    return _liftered(cepstrum, low, high)


def _liftered(values: Tensor, low: int, high: int | None) -> Tensor:
    if low < 0 or (high is not None and high <= low):
        raise ShapeError(f"lifter: low is {low} and high {high}, but 0 <= low < high was needed, in samples.")
    place = torch.arange(values.shape[-1], device=values.device)
    quefrency = torch.minimum(place, values.shape[-1] - place)
    return torch.where((quefrency >= low) & (quefrency < (high or values.shape[-1])), values, 0)


def _admit(where: str, x: Tensor) -> None:
    fits(where, x, ())
    if x.is_complex():
        raise DtypeError(f"{where}: the samples are {x.dtype}, but real ones were needed. Pass x.real.")
    if x.ndim < 1 or x.numel() == 0:
        raise ShapeError(f"{where}: got {tuple(x.shape)}, but (..., n) with samples was needed. The last axis is time.")
    if not is_finite(x):
        raise NonFinite(f"{where}: there are NaN or infinite samples, but numbers were needed. Replace them.")


def _refuse_silence(where: str, x: Tensor) -> None:
    if not bool((x != 0).any(-1).all()):
        raise ShapeError(f"{where}: a signal is zero everywhere, which has no logarithm. Leave silent ones out.")
