"""Toeplitz systems by Levinson's recursion, reflection coefficients, and minimum phase."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import NonFinite, ShapeError
from unconv.inverse.operators.fourier import fast_length
from unconv.inverse.operators.operator import fits
from unconv.inverse.solvers.problems import is_finite
from unconv.kinds import checks_kinds

_GRID = 2**14  # least length of the FFT in which a cepstrum is computed: zeros of the wavelet near |z| = 1 alias in it


@dataclass(frozen=True)
class Levinson:
    """The solution of a Toeplitz system, and what the recursion found on the way.

    Attributes:
        solution: (..., n), of the system; without a right side the prediction-error filter (1, a[1], ..., a[n - 1]).
        reflection: (..., n - 1), the last coefficient of the prediction-error filter of each order.
        error: (..., n), the power of the prediction error at orders 0 to n - 1.
    """

    solution: Tensor
    reflection: Tensor
    error: Tensor


@checks_kinds
def levinson(autocorrelation: Tensor, right: Tensor | None = None, prewhitening: float = 0.0) -> Levinson:
    """Solve T x = right by Levinson's recursion, T[i, j] = autocorrelation[i - j], in O(n^2) for each system.

    Args:
        autocorrelation: (..., n), lags 0 to n - 1, real or complex; lags below zero are their conjugates.
        right: (..., n). Axes in front of both are broadcast: several right sides of one system cost one recursion.
        prewhitening: share of lag 0 that is added to it, as white noise of that power would.

    Raises:
        ShapeError: lengths differ; a prewhitening below zero; a sequence that is no autocorrelation or is singular, so that
            the power of a prediction error is not above zero.
        DtypeError, NonFinite: integers, or samples that are NaN or infinite.

    Source:
        Levinson, "The Wiener RMS error criterion in filter design and prediction" (1947); Durbin, "The fitting of time-series
        models" (1960); Golub & Van Loan, "Matrix Computations" (4th ed.), alg. 4.7.2.
    """
    r = _admitted("levinson", autocorrelation)
    n = r.shape[-1]
    if right is not None:
        fits("levinson: right", right, (n,))
        _refuse_broken("levinson: right", right)
    if not 0 <= prewhitening < torch.inf:
        raise ShapeError(f"levinson: prewhitening is {prewhitening}, but a share of lag 0 was needed. Pass 0.001, for example.")
    backwards = r.flip(-1)
    error = r[..., :1].real * (1 + prewhitening)
    a, errors, reflection = torch.ones_like(r[..., :1]), [error], [r[..., :0]]
    x = None if right is None else right[..., :1] / error
    for m in range(1, n):
        lags = backwards[..., n - 1 - m : n - 1]  # r[m], ..., r[1]
        k = -(lags * a).sum(-1, keepdim=True) / error
        a = F.pad(a, (0, 1))
        mirrored = a.flip(-1).conj()
        # T takes `mirrored` to (0, ..., 0, error): it mends the last equation and leaves the others as they are.
        a = a + k * mirrored
        error = error * (1 - k.abs().square())
        if x is not None and right is not None:
            gap = right[..., m : m + 1] - (lags * x).sum(-1, keepdim=True)
            x = F.pad(x, (0, 1)) + gap / error * a.flip(-1).conj()
        errors.append(error)
        reflection.append(k)
    power = torch.cat(errors, -1)
    _refuse_singular(power)
    return Levinson(a if x is None else x, torch.cat(reflection, -1), power)


def _refuse_singular(power: Tensor) -> None:
    """Refuse prediction errors that are not above zero by more than rounding: (..., n)."""
    n = power.shape[-1]
    # One test after the recursion, so that a GPU is waited for once. A comparison with NaN is false.
    sound = (power > n * torch.finfo(power.dtype).eps * power[..., :1]) & (power[..., :1] > 0)
    if bool(sound.all()):
        return
    rows = sound.reshape(-1, n)
    trace = int(torch.nonzero(~rows.all(1))[0])
    order = int(torch.nonzero(~rows[trace])[0])
    value = float(power.reshape(-1, n)[trace, order])
    what = "lag 0" if order == 0 else f"the prediction error's power at order {order}"
    raise ShapeError(
        f"levinson: trace {trace}: {what} is {value:.3g}, but more than zero was needed: the sequence is singular or no "
        f"autocorrelation. {'Leave silent traces out.' if order == 0 else 'Add prewhitening=0.001, or more.'}"
    )


def _admitted(where: str, samples: Tensor) -> Tensor:
    """Return (..., n) samples that are floating or complex, finite, and at least one."""
    fits(where, samples, ())
    if samples.ndim < 1 or samples.numel() == 0:
        raise ShapeError(f"{where}: got {tuple(samples.shape)}, but (..., n) with samples was needed. The last axis counts.")
    _refuse_broken(where, samples)
    return samples


def _refuse_broken(where: str, samples: Tensor) -> None:
    if not is_finite(samples):
        raise NonFinite(f"{where}: samples are NaN or infinite, but numbers were needed. Leave those traces out.")


@checks_kinds
def minimum_phase(filter: Tensor) -> Tensor:
    """Tell whether all zeros of a filter lie inside the unit circle: (...) of (..., n), by |k| < 1 of every reflection.

    The polynomial is filter[0] + filter[1] z^-1 + ...; no root is computed. A filter that begins with zero is not.

    Source:
        The Schur-Cohn test; Robinson & Treitel, "Geophysical Signal Analysis" (1980).
    """
    a = _admitted("minimum_phase", filter)
    return (_stepped_down(a).abs() < 1).all(-1) & (a[..., 0] != 0)


@checks_kinds
def reflection_of(filter: Tensor) -> Tensor:
    """Return the reflection coefficients (..., n - 1) of a filter (..., n), by the step-down recursion.

    The inverse of `from_reflection`, up to the filter's first coefficient, which is divided out.

    Raises:
        ShapeError: the first coefficient is zero, or a reflection coefficient has magnitude 1, beyond which there is none.
    """
    a = _admitted("reflection_of", filter)
    if bool((a[..., 0] == 0).any()):
        raise ShapeError("reflection_of: a filter begins with zero, but another value was needed. Drop the zeros in front.")
    k = _stepped_down(a)
    if bool((k[..., 1:].abs() == 1).any()):
        raise ShapeError(
            "reflection_of: a reflection coefficient of magnitude 1 came, but others were needed: there the recursion divides "
            "by zero. Ask minimum_phase, which needs none beyond it."
        )
    return k


def _stepped_down(a: Tensor) -> Tensor:
    """Return the reflection coefficients of (..., n); where one is of magnitude 1, those of lower order mean nothing."""
    a = a / torch.where(a[..., :1] == 0, 1, a[..., :1])
    found = [a[..., :0]]
    for m in range(a.shape[-1] - 1, 0, -1):
        k = a[..., m:]
        rest = 1 - k.abs().square()
        a = (a[..., :m] - k * a[..., 1:].flip(-1).conj()) / torch.where(rest == 0, 1, rest)
        found.append(k)
    return torch.cat(found[::-1], -1)


@checks_kinds
def from_reflection(reflection: Tensor) -> Tensor:
    """Return the filter (1, a[1], ..., a[n]) (..., n + 1) of reflection coefficients (..., n), by the step-up recursion."""
    fits("from_reflection", reflection, ())
    if reflection.ndim < 1:
        raise ShapeError("from_reflection: got one number, but (..., n) was needed. Pass reflection[None].")
    _refuse_broken("from_reflection", reflection)
    a = reflection.new_ones((*reflection.shape[:-1], 1))
    for m in range(reflection.shape[-1]):
        a = F.pad(a, (0, 1))
        a = a + reflection[..., m : m + 1] * a.flip(-1).conj()
    return a


@checks_kinds
def minimum_phase_of(wavelet: Tensor | None = None, *, autocorrelation: Tensor | None = None) -> Tensor:
    """Return the minimum-phase wavelet (..., n) of the same amplitude spectrum, by Kolmogorov's factorisation.

    Args:
        wavelet: (..., n); or else:
        autocorrelation: (..., n), lags 0 to n - 1 of a wavelet of n samples; lags below zero are their conjugates.

    Returns:
        (..., n), its first coefficient real and above zero. Zeros on the unit circle are passed by: amplitudes below
        1e-7 of the largest (1e-3 in float32) count as so much, and the closer zeros are to the circle, the less exact it is.

    Raises:
        ShapeError: both or neither came; silence; a sequence whose spectrum falls below zero.

    Source:
        Kolmogorov, "Sur l'interpolation et extrapolation des suites stationnaires" (1939); Claerbout, "Fundamentals of
        Geophysical Data Processing" (1976), for the method.
    """
    if (wavelet is None) == (autocorrelation is None):
        raise ShapeError("minimum_phase_of: either wavelet or autocorrelation was needed, and not both. Pass one of them.")
    x = _admitted("minimum_phase_of", wavelet if autocorrelation is None else autocorrelation)  # type: ignore[arg-type]
    grid = fast_length(max(_GRID, 32 * x.shape[-1]))
    spectrum = torch.fft.fft(x, grid)
    power = spectrum.abs().square() if autocorrelation is None else 2 * spectrum.real - x[..., :1].real
    most = power.amax(-1, keepdim=True)
    eps = torch.finfo(power.dtype).eps
    if not bool((most > 0).all()) or bool((power < -(eps**0.5) * most).any()):
        raise ShapeError(
            "minimum_phase_of: the power spectrum is zero or falls below zero, but that of a signal was needed. Leave silent "
            "traces out; taper an autocorrelation that was cut off."
        )
    # The logarithm's cepstrum, all of it moved to times that are not negative: its exponential is causal, and so is 1 over it.
    cepstrum = torch.fft.ifft(power.clamp(min=eps * most).log() / 2)
    half = grid // 2
    folded = F.pad(torch.cat([cepstrum[..., :1], 2 * cepstrum[..., 1:half], cepstrum[..., half : half + 1]], -1), (0, half - 1))
    found: Tensor = torch.fft.ifft(torch.fft.fft(folded).exp())[..., : x.shape[-1]]
    return found if x.is_complex() else found.real
