"""Wiener's filter: the linear estimate of least mean square error, in one pair of FFTs, and exact if samples are missing."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, pi
from typing import Any

import torch
from torch import Tensor

from unconv.errors import ShapeError
from unconv.inverse.noise import estimate_noise
from unconv.inverse.operators.convolution import Convolution
from unconv.inverse.operators.operator import Operator
from unconv.inverse.operators.selection import Selection
from unconv.inverse.operators.spectral import Grid
from unconv.inverse.operators.split import split
from unconv.inverse.solvers.fit import Fit
from unconv.inverse.solvers.iterate import Iterate
from unconv.inverse.solvers.problems import admit, quotient, refuse_complex, spread
from unconv.inverse.solvers.upre import upre
from unconv.kinds import checks_kinds

# Frequencies used to fit the signal's spectrum; more change the fit by less than its own error.
_SUFFICIENT = 2**16
_INFINITE = 1e8  # of N / S, in shares of the largest |H|^2: a frequency without signal


@checks_kinds
def wiener(
    operator: Operator,
    observed: Tensor,
    *,
    noise: float | Tensor | None = None,
    signal: Tensor | None = None,
    nsr: float | Tensor | None = None,
    strength: float | str | None = None,
    steps: int = 100,
    tolerance: float = 1e-4,
) -> Iterator[Iterate]:
    """Apply Wiener's filter, X = conj(H) Y / (|H|^2 + N / S), for a circular convolution, also with missing samples.

    If samples are missing, as at an unknown boundary, under a mask or on a coarser grid (see `split`), the estimate
    minimises |A x - y|^2 + sum of N / S |X|^2 / n by conjugate gradients in the Fourier domain. If none is missing,
    the filter is the minimum of the same sum.

    A power spectrum is E|X|^2 / n, where X is the unnormalised FFT along the convolved axes and n the number of its
    samples: white noise has its variance at every frequency. A spectrum is given on the grid of `torch.fft.fftn`; where
    kernel and observed are real, that of `rfftn` will do as well. Leading axes, if any, are those of `observed`.

    Args:
        noise: N, as a number (the standard deviation of white noise) or as a power spectrum. By default
            `estimate_noise` of each signal.
        signal: S, the truth's power spectrum. By default c / |f|^2, as in natural pictures; S is infinite at f = 0,
            so that the mean is kept.
        nsr: N / S itself, a number or on the grid, in place of `noise` and `signal`.
        strength: N / c, where S = c / |f|^2: a number; "whittle", which fits c to the observed power, the default if no
            sample is missing; or "upre", the default if some are.
        steps, tolerance: of the conjugate gradients: the most of them, and the share of the first residual to reach.

    Yields:
        One estimate, converged. Its `strength` is N / c, the mean over signals and frequencies where it was fitted.

    Raises:
        ShapeError: the operator is not such a convolution; a spectrum is not on the grid; two settings exclude each other.
        DtypeError: the samples are complex and some are missing.

    Source:
        Wiener, "Extrapolation, Interpolation, and Smoothing of Stationary Time Series" (1949); Field, "Relations between
        the statistics of natural images and the response properties of cortical cells" (1987) for 1 / |f|^2.
    """
    admit("wiener", operator, observed)
    circular, selection = _split(operator)
    complete = isinstance(operator, Convolution) and operator.diagonalised
    _check(noise, signal, nsr, strength, complete)
    grid = Grid(circular, observed)
    if nsr is None and signal is None and (strength not in (None, "whittle") or not complete):
        yield _inverse_square(operator, observed, noise, strength, steps, tolerance)
        return
    transformed, strengths = grid.transform(observed) if complete else None, None
    if nsr is not None:
        ratio = grid.placed("wiener: nsr", nsr)
    elif signal is not None:
        spectrum = grid.placed("wiener: signal", signal)
        ratio = _ratio(_level(grid, selection, noise, observed), spectrum)
    else:
        assert transformed is not None
        level = _level(grid, selection, noise, observed)
        strengths = level / _whittle(grid, transformed, circular.power(observed), level)
        ratio = strengths * grid.square_frequency()
    if transformed is not None:
        estimate = grid.back(grid.filtered(transformed, circular.conjugate(observed), circular.power(observed), ratio))
    else:
        refuse_complex("wiener", operator, observed)
        fit = Fit(circular, selection, observed)
        # Conjugate gradients cannot divide by infinity; beyond this, nothing of a frequency is left in any precision.
        ratio = ratio.clamp(min=fit.least, max=_INFINITE * fit.strongest**2)
        estimate = fit.solved(torch.zeros_like(fit.seen), ratio, steps, tolerance)
    yield Iterate(operator, observed, estimate, 1, True, None if strengths is None else float(strengths.mean()))


def upre_strength(operator: Operator, observed: Tensor, noise: float) -> float:
    """Choose N / c of the power spectrum c / |f|^2 by UPRE, for one problem: `observed` is (*operator.shape_out), real.

    The search begins at the c that follows from the observed mean square slope, as if all frequencies were low. The blur
    has flattened the slopes, so this strength is too large rather than too small.
    """
    circular, selection = split(operator)
    samples = _missing_as_nan(selection, observed)
    slopes = torch.stack([samples.diff(dim=axis).square().nanmean() for axis in range(-circular.axes, 0)]).mean()
    # White noise of deviation s adds 2 s² to the mean square of a difference.
    structure = max(float(slopes.nan_to_num()) - 2 * noise**2, 1e-3 * noise**2)
    squares = Grid(circular, observed).square_frequency()
    return upre(operator, observed, noise=noise, penalty=squares, first=4 * pi**2 * noise**2 / structure)


def _inverse_square(
    operator: Operator,
    observed: Tensor,
    noise: float | Tensor | None,
    strength: float | str | None,
    steps: int,
    tolerance: float,
) -> Iterate:
    """Return the estimate for S = c / |f|^2, where c comes from UPRE or from the caller's `strength`."""
    refuse_complex("wiener", operator, observed)
    circular, selection = split(operator)
    grid, fit = Grid(circular, observed), Fit(circular, selection, observed)
    problems = observed.detach().reshape(-1, *operator.shape_out)
    if isinstance(strength, int | float):
        chosen_strength = grid.number(strength)
    else:
        samples = _missing_as_nan(selection, problems)
        deviations = [noise if noise is not None else estimate_noise(problem, grid.axes) for problem in samples]
        strengths = [
            upre_strength(operator, problem, float(deviation)) for problem, deviation in zip(problems, deviations, strict=True)
        ]
        # One strength for each problem: their pictures may differ in contrast, and one batched fit serves them all.
        lead = observed.shape[: observed.ndim - len(operator.shape_out)]
        chosen_strength = spread(grid.number(strengths).reshape(lead), len(operator.shape_in))
    estimate = fit.solved(fit.flat(), grid.square_frequency() * chosen_strength + fit.least, steps, tolerance)
    return Iterate(operator, observed, estimate, 1, True, float(chosen_strength.mean()))


def _missing_as_nan(selection: Selection, observed: Tensor) -> Tensor:
    """Return the observed samples, NaN where a mask hides one."""
    return torch.where(selection.forward(selection.weights(observed)) > 0, observed, torch.nan)


def _split(operator: Operator) -> tuple[Convolution, Selection]:
    try:
        return split(operator)
    except ShapeError as error:
        raise ShapeError(
            f"wiener: the operator is {operator!r}, but a circular convolution was needed, because the FFT makes it diagonal; "
            "samples of it may be missing. Use tikhonov, cgls or fista, which take any operator; or boundary='unknown', "
            "or 'circular' if nothing is cut off."
        ) from error


def _check(
    noise: float | Tensor | None,
    signal: Tensor | None,
    nsr: float | Tensor | None,
    strength: float | str | None,
    complete: bool,
) -> None:
    if nsr is not None and (noise is not None or signal is not None):
        raise ShapeError("wiener: nsr came with noise or signal, but nsr replaces both. Pass nsr alone, or noise and signal.")
    if strength is None:
        by_upre = not complete and nsr is None and signal is None
    elif nsr is not None or signal is not None:
        raise ShapeError(
            "wiener: strength came with nsr or signal, but it belongs to the spectrum c / |f|^2. Pass one of them."
        )
    elif strength not in ("whittle", "upre") if isinstance(strength, str) else not strength >= 0:
        raise ShapeError(f"wiener: strength is {strength!r}, but 'whittle', 'upre' or a number of at least 0 was needed.")
    elif strength == "whittle" and not complete:
        raise ShapeError("wiener: strength='whittle' needs the spectrum of all samples, but some are missing. Use 'upre'.")
    else:
        by_upre = strength == "upre"
    if by_upre and noise is not None and ((isinstance(noise, Tensor) and noise.ndim) or not float(noise) > 0):
        raise ShapeError(
            "wiener: UPRE needs noise as one positive standard deviation. Pass a small one, such as 1e-4, or pass nsr."
        )


def _level(grid: Grid, selection: Selection, noise: float | Tensor | None, observed: Tensor) -> Tensor:
    """Return the noise's power: a number, one for each signal, or on the grid."""
    if isinstance(noise, Tensor) and noise.ndim:
        return grid.placed("wiener: noise", noise)
    if noise is not None:
        return grid.number(noise) ** 2
    samples = observed if observed.is_complex() else _missing_as_nan(selection, observed)
    signals = samples.detach().reshape(-1, *observed.shape[-grid.axes :])
    if observed.is_complex():
        # The estimator takes real samples; complex noise has half its variance in each part.
        pairs = (torch.stack([signal.real, signal.imag]) for signal in signals)
        deviations = [2**0.5 * max(estimate_noise(part, grid.axes) for part in pair) for pair in pairs]
    else:
        deviations = [estimate_noise(signal, grid.axes) for signal in signals]
    return grid.number(deviations).square().reshape(*observed.shape[: -grid.axes], *(1,) * grid.axes)


def _ratio(noise: Tensor, signal: Tensor) -> Tensor:
    """Return N / S, infinite where S is zero: frequencies without signal are left out, with noise or without."""
    return (noise / signal).nan_to_num(nan=torch.inf, posinf=torch.inf)


def _whittle(grid: Grid, transformed: Tensor, power: Tensor, level: Tensor) -> Tensor:
    """Fit c of S = c / |f|^2, one for each signal, to the moments E|Y|^2 / n = g c + N, g = |H|^2 / |f|^2.

    Each frequency gives a c with the standard error (g c + N) / g. Their mean, weighted by the inverse square of that
    error at the last c, is the next c: a few rounds maximise Whittle's likelihood (1953) by Fisher scoring. The first c
    matches the sums.
    """
    squares = grid.square_frequency()
    stride = max(1, ceil((squares.numel() / _SUFFICIENT) ** (1 / grid.axes)))
    sampled: Any = (..., *(slice(None, None, stride),) * grid.axes)
    tiny, dims = torch.finfo(squares.dtype).tiny, tuple(range(-grid.axes, 0))
    noise = level[sampled] if level.shape[-grid.axes :] == squares.shape else level
    gain = quotient(power[sampled], squares[sampled])
    excess = grid.power(transformed[sampled]) / grid.count - noise
    excess = torch.where(gain > 0, excess, 0)
    c = excess.sum(dims, keepdim=True) / gain.sum(dims, keepdim=True).clamp(min=tiny)
    # The sums alone leave c to the few lowest frequencies, where the power and therefore its scatter are greatest.
    for _ in range(6):
        least = torch.finfo(c.dtype).eps * excess.abs().amax(dims, keepdim=True) / gain.amax(dims, keepdim=True).clamp(min=tiny)
        c = c.clamp(min=least.clamp(min=tiny))
        weight = (gain * c + noise).square().clamp(min=tiny).reciprocal()
        c = (weight * gain * excess).sum(dims, keepdim=True) / (weight * gain.square()).sum(dims, keepdim=True).clamp(min=tiny)
    return c.clamp(min=least)
