"""Toeplitz systems by the Levinson recursion, reflection coefficients, and minimum phase."""

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

_GRID = 2**14  # the least FFT of a cepstrum: with a shorter one, zeros of the wavelet near |z| = 1 alias


@dataclass(frozen=True)
class Levinson:
    """The solution of a Toeplitz system, and the prediction errors of all orders.

    Attributes:
        solution: (..., n), of the system; without a right-hand side, the prediction-error filter (1, a[1], ..., a[n - 1]).
        reflection: (..., n - 1), the last coefficient of the prediction-error filter of each order.
        error: (..., n), the power of the prediction error at orders 0 to n - 1.
    """

    solution: Tensor
    reflection: Tensor
    error: Tensor


@checks_kinds
def levinson(autocorrelation: Tensor, right: Tensor | None = None, prewhitening: float = 0.0) -> Levinson:
    """Solve T x = right by the Levinson recursion, where T[i, j] = autocorrelation[i - j], in O(n^2) for each system.

    Args:
        autocorrelation: (..., n), lags 0 to n - 1, real or complex; negative lags are their conjugates.
        right: (..., n). Leading axes of both broadcast: several right-hand sides of one system cost one recursion.
        prewhitening: the share of lag 0 to add to lag 0, like white noise of that power.

    Raises:
        ShapeError: the lengths differ; the prewhitening is below zero; the sequence is not an autocorrelation or is singular,
            so that the power of a prediction error is not above zero.
        DtypeError, NonFinite: the samples are integers; or are NaN or infinite.

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
    filter, errors, reflection = torch.ones_like(r[..., :1]), [error], [r[..., :0]]
    solution = None if right is None else right[..., :1] / error
    for m in range(1, n):
        lags = backwards[..., n - 1 - m : n - 1]  # r[m], ..., r[1]
        k = -(lags * filter).sum(-1, keepdim=True) / error
        filter = F.pad(filter, (0, 1))
        mirrored = filter.flip(-1).conj()
        # T times `mirrored` is (0, ..., 0, error): adding it corrects the last equation and leaves the others as they are.
        filter = filter + k * mirrored
        error = error * (1 - k.abs().square())
        if solution is not None and right is not None:
            deficit = right[..., m : m + 1] - (lags * solution).sum(-1, keepdim=True)
            solution = F.pad(solution, (0, 1)) + deficit / error * filter.flip(-1).conj()
        errors.append(error)
        reflection.append(k)
    power = torch.cat(errors, -1)
    _refuse_singular(power)
    return Levinson(filter if solution is None else solution, torch.cat(reflection, -1), power)


def _refuse_singular(power: Tensor) -> None:
    """Refuse prediction errors (..., n) that are not above zero by more than rounding."""
    n = power.shape[-1]
    # One test after the recursion, so that the program waits for a GPU only once. A comparison with NaN is false, too.
    sound = (power > n * torch.finfo(power.dtype).eps * power[..., :1]) & (power[..., :1] > 0)
    if bool(sound.all()):
        return
    rows = sound.reshape(-1, n)
    trace = int(torch.nonzero(~rows.all(1))[0])
    order = int(torch.nonzero(~rows[trace])[0])
    value = float(power.reshape(-1, n)[trace, order])
    what = "lag 0" if order == 0 else f"the prediction error's power at order {order}"
    raise ShapeError(
        f"levinson: trace {trace}: {what} is {value:.3g}, but more than zero was needed: the sequence is singular or not an "
        f"autocorrelation. {'Leave silent traces out.' if order == 0 else 'Add prewhitening=0.001, or more.'}"
    )


def _admitted(where: str, samples: Tensor) -> Tensor:
    """Return samples (..., n), after checks that they are floating or complex, finite, and at least one."""
    fits(where, samples, ())
    if samples.ndim < 1 or samples.numel() == 0:
        raise ShapeError(
            f"{where}: got {tuple(samples.shape)}, but (..., n) with samples was needed. The last axis is the sequence."
        )
    _refuse_broken(where, samples)
    return samples


def _refuse_broken(where: str, samples: Tensor) -> None:
    if not is_finite(samples):
        raise NonFinite(f"{where}: some samples are NaN or infinite, but finite ones were needed. Leave those traces out.")


@checks_kinds
def minimum_phase(filter: Tensor) -> Tensor:
    """Tell whether filters (..., n) are of minimum phase, with all zeros inside the unit circle: (...).

    The polynomial is filter[0] + filter[1] z^-1 + ... It is of minimum phase if all its reflection coefficients are below 1 in
    magnitude, so no root is computed. A filter that begins with zero is not of minimum phase.

    Source:
        The Schur-Cohn test; Robinson & Treitel, "Geophysical Signal Analysis" (1980).
    """
    a = _admitted("minimum_phase", filter)
    return (_stepped_down(a).abs() < 1).all(-1) & (a[..., 0] != 0)


@checks_kinds
def reflection_of(filter: Tensor) -> Tensor:
    """Return the reflection coefficients (..., n - 1) of a filter (..., n), by the step-down recursion.

    This is the inverse of `from_reflection`, up to the filter's first coefficient, by which the filter is divided.

    Raises:
        ShapeError: the first coefficient is zero, or a reflection coefficient has magnitude 1, which ends the recursion.
    """
    a = _admitted("reflection_of", filter)
    if bool((a[..., 0] == 0).any()):
        raise ShapeError("reflection_of: a filter begins with zero, but another value was needed. Drop the zeros in front.")
    k = _stepped_down(a)
    if bool((k[..., 1:].abs() == 1).any()):
        raise ShapeError(
            "reflection_of: a reflection coefficient of magnitude 1 came, but another magnitude was needed, since the "
            "recursion then divides by zero. Use minimum_phase, which does not need the coefficients that follow."
        )
    return k


def _stepped_down(a: Tensor) -> Tensor:
    """Return the reflection coefficients of (..., n); below the order of one with magnitude 1, they are meaningless."""
    a = a / torch.where(a[..., :1] == 0, 1, a[..., :1])
    coefficients = [a[..., :0]]
    for m in range(a.shape[-1] - 1, 0, -1):
        k = a[..., m:]
        rest = 1 - k.abs().square()
        a = (a[..., :m] - k * a[..., 1:].flip(-1).conj()) / torch.where(rest == 0, 1, rest)
        coefficients.append(k)
    return torch.cat(coefficients[::-1], -1)


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
    """Return the minimum-phase wavelet (..., n) with the same amplitude spectrum, by Kolmogorov's factorisation.

    Args:
        wavelet: (..., n). Pass this or `autocorrelation`.
        autocorrelation: (..., n), lags 0 to n - 1 of a wavelet of n samples; negative lags are their conjugates.

    Returns:
        (..., n), its first coefficient real and above zero. Zeros on the unit circle are allowed: amplitudes are at least
        1e-7 of the largest (1e-3 in float32). The closer a zero is to the circle, the less exact is the result.

    Raises:
        ShapeError: both or neither came; a wavelet is zero everywhere; the spectrum of a sequence falls below zero.

    Source:
        Kolmogorov, "Sur l'interpolation et extrapolation des suites stationnaires" (1939); Claerbout, "Fundamentals of
        Geophysical Data Processing" (1976), for the method.
    """
    if (wavelet is None) == (autocorrelation is None):
        came = "neither" if wavelet is None else "both"
        raise ShapeError(f"minimum_phase_of: {came} came, but either wavelet or autocorrelation was needed. Pass one of them.")
    x = _admitted("minimum_phase_of", wavelet if autocorrelation is None else autocorrelation)  # type: ignore[arg-type]
    grid = fast_length(max(_GRID, 32 * x.shape[-1]))
    spectrum = torch.fft.fft(x, grid)
    power = spectrum.abs().square() if autocorrelation is None else 2 * spectrum.real - x[..., :1].real
    largest = power.amax(-1, keepdim=True)
    eps = torch.finfo(power.dtype).eps
    if not bool((largest > 0).all()) or bool((power < -(eps**0.5) * largest).any()):
        raise ShapeError(
            "minimum_phase_of: the power spectrum is zero or falls below zero, but that of a signal was needed. Leave silent "
            "traces out; taper an autocorrelation that is cut off."
        )
    # Kolmogorov (1939): fold the cepstrum of the log amplitude onto times that are not negative. Its exponential and the
    # inverse of that are then both causal, which is minimum phase.
    cepstrum = torch.fft.ifft(power.clamp(min=eps * largest).log() / 2)
    half = grid // 2
    folded = F.pad(torch.cat([cepstrum[..., :1], 2 * cepstrum[..., 1:half], cepstrum[..., half : half + 1]], -1), (0, half - 1))
    result: Tensor = torch.fft.ifft(torch.fft.fft(folded).exp())[..., : x.shape[-1]]
    return result if x.is_complex() else result.real
