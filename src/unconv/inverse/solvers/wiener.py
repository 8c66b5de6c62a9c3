"""Wiener's filter: the linear estimate of least mean square error, in one pair of FFTs, or exact where samples are missing."""

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

# Frequencies that the fit of the signal's spectrum looks at; more change it by less than its own error.
_ENOUGH = 2**16
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
    """X = conj(H) Y / (|H|^2 + N / S), for a circular convolution; exact, too, where only some samples were observed.

    Where samples are missing, as at an unknown boundary, below a mask or on a coarser grid (see `split`), the estimate
    minimises |A x - y|^2 + sum of N / S |X|^2 / n, which is the formula where none are, by conjugate gradients in the
    Fourier domain.

    A power spectrum is E|X|^2 / n, X the plain FFT along the convolved axes and n the number of its samples: that of
    white noise is its variance everywhere. It lies on the grid of `torch.fft.fftn` or, where kernel and observed
    are real, also of `rfftn`; axes in front, if any, are those of `observed`.

    Args:
        noise: N, as the standard deviation of white noise, a number, or as a power spectrum. By default
            `estimate_noise` of each signal.
        signal: S, the truth's power spectrum. By default c / |f|^2, as of natural pictures; the mean is kept, by S =
            infinite at f = 0.
        nsr: N / S itself, a number or on the grid, instead of both.
        strength: N / c, where S = c / |f|^2: a number; "whittle", which fits c to the power of what was observed, by
            default where all samples were; or "upre", by default where some are missing.
        steps, tolerance: of the conjugate gradients: at most so many, and the share of the first residual to reach.

    Yields:
        One estimate, converged. Its `strength` is N / c, the mean over signals and frequencies where it was fitted.

    Raises:
        ShapeError: the operator is no such convolution; a spectrum off the grid; settings that exclude each other.
        DtypeError: complex samples, some of which are missing.

    Source:
        Wiener, "Extrapolation, Interpolation, and Smoothing of Stationary Time Series" (1949); Field, "Relations between
        the statistics of natural images and the response properties of cortical cells" (1987) for 1 / |f|^2.
    """
    admit("wiener", operator, observed)
    circular, chosen = _split(operator)
    whole = isinstance(operator, Convolution) and operator.diagonalised
    _check(noise, signal, nsr, strength, whole)
    grid = Grid(circular, observed)
    if nsr is None and signal is None and (strength not in (None, "whittle") or not whole):
        yield _inverse_square(operator, observed, noise, strength, steps, tolerance)
        return
    seen, per = grid.transform(observed) if whole else None, None
    if nsr is not None:
        ratio = grid.placed("wiener: nsr", nsr)
    elif signal is not None:
        spectrum = grid.placed("wiener: signal", signal)
        ratio = _ratio(_level(grid, chosen, noise, observed), spectrum)
    else:
        assert seen is not None
        level = _level(grid, chosen, noise, observed)
        per = level / _whittle(grid, seen, circular.power(observed), level)
        ratio = per * grid.square_frequency()
    if seen is not None:
        estimate = grid.back(grid.filtered(seen, circular.conjugate(observed), circular.power(observed), ratio))
    else:
        refuse_complex("wiener", operator, observed)
        fit = Fit(circular, chosen, observed)
        # Conjugate gradients cannot divide by infinity; beyond this, nothing of a frequency is left in any precision.
        ratio = ratio.clamp(min=fit.least, max=_INFINITE * fit.strongest**2)
        estimate = fit.solved(torch.zeros_like(fit.seen), ratio, steps, tolerance)
    yield Iterate(operator, observed, estimate, 1, True, None if per is None else float(per.mean()))


def upre_strength(operator: Operator, observed: Tensor, noise: float) -> float:
    """Choose N / c of the power spectrum c / |f|^2 by UPRE, for one problem: `observed` is (*operator.shape_out), real.

    The search begins at the c that the mean square slope of what was observed would have, if all of its frequencies were
    low. The blur has flattened the slopes, so that this is too strong rather than too weak.
    """
    circular, chosen = split(operator)
    samples = _missing_as_nan(chosen, observed)
    slopes = torch.stack([samples.diff(dim=axis).square().nanmean() for axis in range(-circular.axes, 0)]).mean()
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
    """The estimate for S = c / |f|^2, c told by UPRE or by the caller's `strength`."""
    refuse_complex("wiener", operator, observed)
    circular, chosen = split(operator)
    grid, fit = Grid(circular, observed), Fit(circular, chosen, observed)
    problems = observed.detach().reshape(-1, *operator.shape_out)
    if isinstance(strength, int | float):
        chosen_strength = grid.number(strength)
    else:
        samples = _missing_as_nan(chosen, problems)
        deviations = [noise if noise is not None else estimate_noise(one, grid.axes) for one in samples]
        found = [upre_strength(operator, one, float(n)) for one, n in zip(problems, deviations, strict=True)]
        lead = observed.shape[: observed.ndim - len(operator.shape_out)]
        chosen_strength = spread(grid.number(found).reshape(lead), len(operator.shape_in))
    estimate = fit.solved(fit.flat(), grid.square_frequency() * chosen_strength + fit.least, steps, tolerance)
    return Iterate(operator, observed, estimate, 1, True, float(chosen_strength.mean()))


def _missing_as_nan(chosen: Selection, observed: Tensor) -> Tensor:
    """The observed samples, NaN where a mask hides one."""
    return torch.where(chosen.forward(chosen.weights(observed)) > 0, observed, torch.nan)


def _split(operator: Operator) -> tuple[Convolution, Selection]:
    try:
        return split(operator)
    except ShapeError as error:
        raise ShapeError(
            f"wiener: the operator is {operator!r}, but a circular convolution was needed, of which samples may be missing: "
            "the FFT makes it diagonal. Use tikhonov, cgls or fista, which take any operator; or boundary='unknown', or "
            "'circular' if nothing is cut off."
        ) from error


def _check(
    noise: float | Tensor | None,
    signal: Tensor | None,
    nsr: float | Tensor | None,
    strength: float | str | None,
    whole: bool,
) -> None:
    if nsr is not None and (noise is not None or signal is not None):
        raise ShapeError("wiener: nsr came with noise or signal, but it stands for both. Leave the others out, or nsr.")
    if strength is None:
        told = not whole and nsr is None and signal is None
    elif nsr is not None or signal is not None:
        raise ShapeError("wiener: strength came with nsr or signal, but it is for the spectrum c / |f|^2. Leave one out.")
    elif strength not in ("whittle", "upre") if isinstance(strength, str) else not strength >= 0:
        raise ShapeError(f"wiener: strength is {strength!r}, but 'whittle', 'upre' or a number of at least 0 was needed.")
    elif strength == "whittle" and not whole:
        raise ShapeError("wiener: strength='whittle' reads the spectrum of all samples, but some are missing. Use 'upre'.")
    else:
        told = strength == "upre"
    if told and noise is not None and ((isinstance(noise, Tensor) and noise.ndim) or not float(noise) > 0):
        raise ShapeError(
            "wiener: UPRE needs noise as one positive standard deviation. Pass a small one, such as 1e-4, or nsr instead."
        )


def _level(grid: Grid, chosen: Selection, noise: float | Tensor | None, observed: Tensor) -> Tensor:
    """The noise's power: a number, one for each signal, or on the grid."""
    if isinstance(noise, Tensor) and noise.ndim:
        return grid.placed("wiener: noise", noise)
    if noise is not None:
        return grid.number(noise) ** 2
    samples = observed if observed.is_complex() else _missing_as_nan(chosen, observed)
    signals = samples.detach().reshape(-1, *observed.shape[-grid.axes :])
    if observed.is_complex():
        pairs = (torch.stack([signal.real, signal.imag]) for signal in signals)
        found = [2**0.5 * max(estimate_noise(part, grid.axes) for part in pair) for pair in pairs]
    else:
        found = [estimate_noise(signal, grid.axes) for signal in signals]
    return grid.number(found).square().reshape(*observed.shape[: -grid.axes], *(1,) * grid.axes)


def _ratio(noise: Tensor, signal: Tensor) -> Tensor:
    """N / S, and infinite where S is zero: frequencies without signal are left out, noise or not."""
    return (noise / signal).nan_to_num(nan=torch.inf, posinf=torch.inf)


def _whittle(grid: Grid, seen: Tensor, power: Tensor, level: Tensor) -> Tensor:
    """Fit c of S = c / |f|^2, one for each signal, to the moments E|Y|^2 / n = g c + N, g = |H|^2 / |f|^2.

    Each frequency's c has a standard error of (g c + N) / g: their mean, weighted by that, with the last c in
    it; a few rounds of it are Whittle's likelihood (1953) by scoring. The first c matches the sums.
    """
    bend = grid.square_frequency()
    every = max(1, ceil((bend.numel() / _ENOUGH) ** (1 / grid.axes)))
    few: Any = (..., *(slice(None, None, every),) * grid.axes)
    tiny, dims = torch.finfo(bend.dtype).tiny, tuple(range(-grid.axes, 0))
    noise = level[few] if level.shape[-grid.axes :] == bend.shape else level
    gain = quotient(power[few], bend[few])
    excess = grid.power(seen[few]) / grid.count - noise
    excess = torch.where(gain > 0, excess, 0)
    c = excess.sum(dims, keepdim=True) / gain.sum(dims, keepdim=True).clamp(min=tiny)
    for _ in range(6):
        least = torch.finfo(c.dtype).eps * excess.abs().amax(dims, keepdim=True) / gain.amax(dims, keepdim=True).clamp(min=tiny)
        c = c.clamp(min=least.clamp(min=tiny))
        weight = (gain * c + noise).square().clamp(min=tiny).reciprocal()
        c = (weight * gain * excess).sum(dims, keepdim=True) / (weight * gain.square()).sum(dims, keepdim=True).clamp(min=tiny)
    return c.clamp(min=least)
