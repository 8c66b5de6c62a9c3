"""Delays to a fraction of a sample: nonlinear least squares on a sum of pulses, and the Cramér-Rao bound of each delay."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import ShapeError
from unconv.inverse.operators.fourier import fast_length
from unconv.inverse.operators.operator import fits
from unconv.kinds import checks_kinds

_FINE = 8  # table entries a sample: cubics between them err by about 1e-6 of a pulse that is sampled five times a period
_STEPS, _DAMPING, _CONVERGED = 40, 1e-3, 1e-7  # of Levenberg-Marquardt: steps, first damping, least move in samples
_FURTHEST = 1.0  # the most samples by which one step moves a delay


@dataclass(frozen=True)
class Delays:
    """The delays and amplitudes of the pulses in each trace.

    Attributes:
        delays: (..., K), in samples; NaN where there is no pulse.
        amplitudes: (..., K), in units of the pulse; zero where there is none.
        delay_bounds, amplitude_bounds: (..., K), the Cramér-Rao bounds: no unbiased estimate has a smaller standard deviation.
        residual: (...), the sum of squares of the residual.
    """

    delays: Tensor
    amplitudes: Tensor
    delay_bounds: Tensor
    amplitude_bounds: Tensor
    residual: Tensor


@checks_kinds
def refine_delays(
    observed: Tensor, pulse: Tensor, delays: Tensor, *, centre: int | None = None, noise: float | Tensor | None = None
) -> Delays:
    """Fit y(t) = sum of amplitude pulse(t - delay) by Levenberg-Marquardt, from first guesses of the delays.

    The pulse is assumed to be band-limited, so that a delay may be any fraction of a sample. No step touches the samples:
    the residual and its derivatives follow from the correlations of the trace with the pulse and of the pulse with itself.

    Args:
        observed: (..., n), real.
        pulse: (k,), at the sampling rate of the traces, no longer than they are.
        delays: (..., K), in samples, each near a pulse; NaN where there is none.
        centre: the sample of the pulse at its delay; by default its middle, k // 2.
        noise: standard deviation of a sample's noise, for the bounds: a number, or (...); None: from the residual.

    Raises:
        ShapeError, DtypeError: the shapes do not fit.

    Source:
        Levenberg (1944), Marquardt (1963); Kay, "Fundamentals of Statistical Signal Processing" (1993), sec. 3.9, for bounds.
    """
    fits("refine_delays", observed, (observed.shape[-1],))
    if delays.shape[:-1] != observed.shape[:-1] or pulse.ndim != 1 or not 1 <= len(pulse) <= observed.shape[-1]:
        raise ShapeError(
            f"refine_delays: observed is {tuple(observed.shape)}, the pulse {tuple(pulse.shape)} and delays "
            f"{tuple(delays.shape)}, but (..., n), (k,) with k <= n, and (..., K) were needed. Reshape them."
        )
    shape, n, count = observed.shape[:-1], observed.shape[-1], delays.shape[-1]
    table = Correlations(observed.reshape(-1, n), pulse, len(pulse) // 2 if centre is None else centre)
    rows = torch.arange(len(table.energy), device=observed.device)
    real = torch.isfinite(delays.reshape(-1, count))
    fit = fit_delays(table, rows, torch.where(real, delays.reshape(-1, count).to(table.energy), 0), real)
    # Each pulse takes two degrees of freedom from the residual: a delay and an amplitude.
    degrees_of_freedom = (n - 2 * real.sum(1)).clamp(min=1)
    variance = (
        fit.residual / degrees_of_freedom
        if noise is None
        else torch.as_tensor(noise).to(table.energy).square().expand(shape).reshape(-1)
    )
    bounds = cramer_rao(table, fit, variance)
    estimates = (torch.where(real, fit.delays, torch.nan), fit.amplitudes, *bounds)
    delays, amplitudes, *deviations = (each.reshape(*shape, count) for each in estimates)
    return Delays(delays, amplitudes, deviations[0], deviations[1], fit.residual.reshape(shape))


class Correlations:
    """Correlations of traces with a pulse, and of the pulse with itself, at any delay.

    Args:
        observed: (B, n).
        pulse: (k,). `centre`: the sample of it at its delay.
        counted: (B,), the number of observed samples, where others were filled in; None: all.

    Attributes:
        energy: (B,), the traces' sums of squares. size: the pulse's. counted: (B,).
    """

    def __init__(self, observed: Tensor, pulse: Tensor, centre: int, counted: Tensor | None = None) -> None:
        y, p = observed.double(), pulse.to(observed.device).double()
        self.n, self.k, self.centre = y.shape[-1], len(p), centre
        self.counted = y.new_full((len(y),), self.n) if counted is None else counted.to(y)
        self.energy, self.size = y.square().sum(-1), float(p.square().sum())
        length = fast_length(self.n + 2 * self.k)
        spectrum = torch.fft.rfft(p, length)
        derivative = 2j * pi * torch.fft.rfftfreq(length, dtype=torch.float64, device=y.device)
        # Advanced by the centre, c(t) is the product of the trace with a pulse whose centre is at t.
        conjugate = spectrum.conj() * (-derivative * centre).exp()
        self._with_trace = _table(torch.fft.rfft(y, length) * conjugate, derivative, length, 3)
        self._with_itself = _table((spectrum * spectrum.conj())[None], derivative, length, 4)

    def trace(self, rows: Tensor, delays: Tensor) -> tuple[Tensor, Tensor]:
        """Return the product of traces with pulses at delays (B, K), and its derivative."""
        c, slope, curvature = (_neighbours(each, rows, delays) for each in self._with_trace)
        return _hermite(c, slope, delays), _hermite(slope, curvature, delays)

    def pulses(self, lags: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the product of two pulses that are `lags` apart, and its first and second derivative."""
        # Beyond the pulse's length the product is zero; the band-limited table is zero there at integer lags only.
        row = torch.zeros(len(lags), dtype=torch.long, device=lags.device)
        flat = lags.flatten(1)
        r, slope, curvature, jerk = (_neighbours(each, row, flat) for each in self._with_itself)
        values = _hermite(r, slope, flat), _hermite(slope, curvature, flat), _hermite(curvature, jerk, flat)
        near = flat.abs() < self.k
        first, second, third = (torch.where(near, each, 0).view_as(lags) for each in values)
        return first, second, third

    def left_over(self, rows: Tensor, delays: Tensor, amplitudes: Tensor) -> Tensor:
        """Return the product of the pulse at every sample with the residual of a trace: (B, n)."""
        samples = torch.arange(self.n, dtype=torch.float64, device=delays.device)
        c = self._with_trace[0][rows][:, : self.n * _FINE : _FINE]
        r = self.pulses((samples[None, :, None] - delays[:, None, :]).flatten(1))[0].view(len(rows), self.n, -1)
        return c - (r @ amplitudes[..., None])[..., 0]


def _table(spectrum: Tensor, derivative: Tensor, length: int, count: int) -> list[Tensor]:
    """Return a function on a fine grid, and its derivatives: (B, length * _FINE) each, by zero padding of its spectrum."""
    tables = []
    for order in range(count):
        fine = F.pad(spectrum * derivative**order, (0, length * _FINE // 2 + 1 - spectrum.shape[-1]))
        tables.append(torch.fft.irfft(fine, length * _FINE) * _FINE)
    return tables


def _neighbours(table: Tensor, rows: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """Return the table's entries before and after a position; negative ones are at its end."""
    before = (at * _FINE).floor().long()
    size = table.shape[-1]
    return table[rows[:, None], before % size], table[rows[:, None], (before + 1) % size]


def _hermite(values: tuple[Tensor, Tensor], slopes: tuple[Tensor, Tensor], at: Tensor) -> Tensor:
    """Return the cubic Hermite polynomial with these values and slopes at the ends of the interval that contains `at`."""
    u = at * _FINE - (at * _FINE).floor()
    rise = values[1] - values[0]
    begin, end = slopes[0] / _FINE - rise, rise - slopes[1] / _FINE
    return values[0] + u * rise + u * (1 - u) * (begin * (1 - u) + end * u)


@dataclass(frozen=True)
class Fitted:
    """Pulses of each row: (B, K) delays, amplitudes and which are real (not padding), and the residual (B,)."""

    rows: Tensor
    delays: Tensor
    amplitudes: Tensor
    real: Tensor
    residual: Tensor


def _normal(table: Correlations, delays: Tensor, real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the products between pulses and their derivatives by delay: (B, K, K) each; 0 for padding."""
    pairs = real[:, :, None] & real[:, None, :]
    r, slope, second = table.pulses(delays[:, :, None] - delays[:, None, :])
    return tuple(torch.where(pairs, each, 0) for each in (r, slope, second))  # type: ignore[return-value]


def _amplitudes(table: Correlations, rows: Tensor, delays: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least-squares amplitudes at given delays, and the residual's sum of squares."""
    c = torch.where(real, table.trace(rows, delays)[0], 0)
    r, _, _ = _normal(table, delays, real)
    # Two pulses at the same delay make the system singular: a small ridge shares the amplitude between them.
    ridge = 1e-10 * float(r.diagonal(dim1=1, dim2=2).max().clamp(min=1e-300))
    a = torch.linalg.solve(r + torch.diag_embed(ridge + (~real).double()), c[..., None])[..., 0]
    residual = table.energy[rows] - 2 * (a * c).sum(1) + (a * (r @ a[..., None])[..., 0]).sum(1)
    return a, residual.clamp(min=0)


def fit_delays(table: Correlations, rows: Tensor, delays: Tensor, real: Tensor, steps: int = _STEPS) -> Fitted:
    """Return the fit at the delays (B, K) of least residual, by Levenberg-Marquardt; `rows`: the trace of each."""
    count = delays.shape[1]
    if not count or not len(rows):
        return Fitted(rows, delays, torch.zeros_like(delays), real, table.energy[rows])
    a, residual = _amplitudes(table, rows, delays, real)
    damping = torch.full_like(residual, _DAMPING)
    eye = torch.eye(2 * count, dtype=residual.dtype, device=residual.device)
    for _ in range(steps):
        normal, gradient = _slopes(table, rows, delays, a, real)
        diagonal = normal.diagonal(dim1=1, dim2=2)
        # Marquardt (1963): damping in proportion to the diagonal makes it independent of units; rows of padding keep a 1.
        damped = damping[:, None] * diagonal + (diagonal == 0).double()
        step = torch.linalg.solve(normal + eye * damped[:, None, :], gradient[..., None])[..., 0]
        move = torch.where(real, step[:, count:].clamp(-_FURTHEST, _FURTHEST), 0)
        trial = (delays + move).clamp(0, table.n - 1)
        # The amplitudes are linear: solved exactly at each trial, they leave a search over the delays only.
        a_trial, residual_trial = _amplitudes(table, rows, trial, real)
        better = residual_trial <= residual
        delays, a = torch.where(better[:, None], trial, delays), torch.where(better[:, None], a_trial, a)
        residual = torch.where(better, residual_trial, residual)
        damping = torch.where(better, damping / 5, damping * 4).clamp(1e-9, 1e6)
        if bool(((move.abs().amax(1) < _CONVERGED) | (damping >= 1e6)).all()):
            break
    return Fitted(rows, delays, torch.where(real, a, 0), real, residual)


def _slopes(table: Correlations, rows: Tensor, delays: Tensor, a: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Return J*J (B, 2K, 2K) and J* residual (B, 2K), where J has the derivatives by amplitudes, then by delays."""
    r, slope, second = _normal(table, delays, real)
    c, c_slope = (torch.where(real, each, 0) for each in table.trace(rows, delays))
    row, column = a[:, :, None], a[:, None, :]
    # With d the pulse's derivative by its delay: <p_i, d_j> = -r'(t_i - t_j) and <d_i, d_j> = -r''(t_i - t_j).
    top = torch.cat([r, -slope * column], 2)
    bottom = torch.cat([slope * row, -second * row * column], 2)
    by_amplitude = c - (r @ a[..., None])[..., 0]
    by_delay = a * (c_slope - (slope @ a[..., None])[..., 0])
    return torch.cat([top, bottom], 1), torch.cat([by_amplitude, by_delay], 1)


def cramer_rao(table: Correlations, fit: Fitted, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Return the bounds on the standard deviations of delays and amplitudes: (B, K) each; NaN where there is no pulse."""
    # Kay (1993), sec. 3.9: the bounds are the diagonal of variance (J*J)^-1. Scaled to a unit diagonal first, since amplitudes
    # and delays have different units, and inverted by its eigenvalues, since pulses at the same delay make it singular.
    count = fit.delays.shape[1]
    normal, _ = _slopes(table, fit.rows, fit.delays, fit.amplitudes, fit.real)
    diagonal = normal.diagonal(dim1=1, dim2=2)
    scale = torch.where(diagonal > 0, diagonal, 1).rsqrt()
    scaled = normal * scale[:, :, None] * scale[:, None, :] + torch.diag_embed((diagonal <= 0).double())
    inverse = torch.linalg.pinv(scaled, hermitian=True, rtol=1e-13)
    deviation = (inverse.diagonal(dim1=1, dim2=2) * scale.square() * variance[:, None]).clamp(min=0).sqrt()
    amplitude, delay = deviation[:, :count], deviation[:, count:]
    return torch.where(fit.real, delay, torch.nan), torch.where(fit.real, amplitude, torch.nan)
