"""Delays between samples: nonlinear least squares on a sum of shifted pulses, and the Cramér-Rao bound of each delay."""

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

_FINE = 8  # table entries a sample: between them, cubic polynomials err by some 1e-6 of a pulse sampled five times a period
_STEPS, _DAMPING, _ENOUGH = 40, 1e-3, 1e-7  # of Levenberg-Marquardt; samples below which a delay has converged
_FURTHEST = 1.0  # samples that one step may move a delay


@dataclass(frozen=True)
class Delays:
    """Pulses found in traces, a row for each trace.

    Attributes:
        delays: (..., K), samples; NaN where there is no pulse.
        amplitudes: (..., K), in units of the pulse; zero where there is none.
        delay_bounds, amplitude_bounds: (..., K), the Cramér-Rao bounds: no unbiased estimate has a smaller standard deviation.
        residual: (...), the sum of squares that is left.
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
    """Fit y(t) = sum of amplitude pulse(t - delay) by moving the delays, from first guesses of them.

    The pulse is taken as band-limited, so that it may stand between samples. No step touches the samples: the residual and its
    slopes follow from the correlations of the trace with the pulse and of the pulse with itself.

    Args:
        observed: (..., n), real.
        pulse: (k,), sampled as the traces are, no longer than them.
        delays: (..., K), in samples, each near a pulse; NaN where there is none.
        centre: the sample of the pulse at its delay; by default its middle, k // 2.
        noise: standard deviation of a sample's noise, for the bounds: a number, or (...); None: from what is left.

    Raises:
        ShapeError, DtypeError: shapes that do not fit.

    Source:
        Levenberg (1944), Marquardt (1963); Kay, "Fundamentals of Statistical Signal Processing" (1993), sec. 3.9, for bounds.
    """
    fits("refine_delays", observed, (observed.shape[-1],))
    if delays.shape[:-1] != observed.shape[:-1] or pulse.ndim != 1 or not 1 <= len(pulse) <= observed.shape[-1]:
        raise ShapeError(
            f"refine_delays: observed is {tuple(observed.shape)}, the pulse {tuple(pulse.shape)} and delays "
            f"{tuple(delays.shape)}; (..., n), (k,) with k <= n, and (..., K) were needed."
        )
    shape, n, count = observed.shape[:-1], observed.shape[-1], delays.shape[-1]
    table = Correlations(observed.reshape(-1, n), pulse, len(pulse) // 2 if centre is None else centre)
    rows = torch.arange(len(table.energy), device=observed.device)
    real = torch.isfinite(delays.reshape(-1, count))
    found = fitted(table, rows, torch.where(real, delays.reshape(-1, count).to(table.energy), 0), real)
    left = (n - 2 * real.sum(1)).clamp(min=1)
    variance = (
        found.residual / left if noise is None else torch.as_tensor(noise).to(table.energy).square().expand(shape).reshape(-1)
    )
    bounds = cramer_rao(table, found, variance)
    told = (torch.where(real, found.delays, torch.nan), found.amplitudes, *bounds)
    delays, amplitudes, *deviations = (each.reshape(*shape, count) for each in told)
    return Delays(delays, amplitudes, deviations[0], deviations[1], found.residual.reshape(shape))


class Correlations:
    """Correlations of traces with a pulse, and of the pulse with itself, at any delay.

    Args:
        observed: (B, n).
        pulse: (k,). `centre`: the sample of it at its delay.
        counted: (B,), how many samples were observed, where some were filled in; None: all.

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
        turns = 2j * pi * torch.fft.rfftfreq(length, dtype=torch.float64, device=y.device)
        # Advanced by the centre, c(t) is the product of the trace with the pulse whose centre stands at t.
        moved = spectrum.conj() * (-turns * centre).exp()
        self._with_trace = _table(torch.fft.rfft(y, length) * moved, turns, length, 3)
        self._with_itself = _table((spectrum * spectrum.conj())[None], turns, length, 4)

    def trace(self, rows: Tensor, delays: Tensor) -> tuple[Tensor, Tensor]:
        """Return the product of traces with pulses at delays (B, K), and its slope."""
        c, slope, bend = (_between(each, rows, delays) for each in self._with_trace)
        return _hermite(c, slope, delays), _hermite(slope, bend, delays)

    def pulses(self, lags: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the product of two pulses that stand `lags` apart, its slope, and the slope's slope."""
        row = torch.zeros(len(lags), dtype=torch.long, device=lags.device)
        flat = lags.flatten(1)
        r, slope, bend, jerk = (_between(each, row, flat) for each in self._with_itself)
        values = _hermite(r, slope, flat), _hermite(slope, bend, flat), _hermite(bend, jerk, flat)
        near = flat.abs() < self.k
        first, second, third = (torch.where(near, each, 0).view_as(lags) for each in values)
        return first, second, third

    def left_over(self, rows: Tensor, delays: Tensor, amplitudes: Tensor) -> Tensor:
        """Return the product of the pulse at every sample with what is left of a trace: (B, n)."""
        samples = torch.arange(self.n, dtype=torch.float64, device=delays.device)
        c = self._with_trace[0][rows][:, : self.n * _FINE : _FINE]
        r = self.pulses((samples[None, :, None] - delays[:, None, :]).flatten(1))[0].view(len(rows), self.n, -1)
        return c - (r @ amplitudes[..., None])[..., 0]


def _table(spectrum: Tensor, turns: Tensor, length: int, count: int) -> list[Tensor]:
    """Return a function on a fine grid, and its derivatives: (B, length * _FINE) each."""
    made = []
    for order in range(count):
        fine = F.pad(spectrum * turns**order, (0, length * _FINE // 2 + 1 - spectrum.shape[-1]))
        made.append(torch.fft.irfft(fine, length * _FINE) * _FINE)
    return made


def _between(table: Tensor, rows: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """Return the table's entries before and after; negative delays stand at its end."""
    before = (at * _FINE).floor().long()
    size = table.shape[-1]
    return table[rows[:, None], before % size], table[rows[:, None], (before + 1) % size]


def _hermite(values: tuple[Tensor, Tensor], slopes: tuple[Tensor, Tensor], at: Tensor) -> Tensor:
    """Return the cubic polynomial with these values and slopes at the ends."""
    u = at * _FINE - (at * _FINE).floor()
    rise = values[1] - values[0]
    begin, end = slopes[0] / _FINE - rise, rise - slopes[1] / _FINE
    return values[0] + u * rise + u * (1 - u) * (begin * (1 - u) + end * u)


@dataclass(frozen=True)
class Fitted:
    """Pulses of each row: (B, K) delays, amplitudes and which are real, and the sum of squares (B,) that is left."""

    rows: Tensor
    delays: Tensor
    amplitudes: Tensor
    real: Tensor
    residual: Tensor


def _normal(table: Correlations, delays: Tensor, real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the products between pulses and their slopes by delay: (B, K, K) each; 0 with pulses that are not real."""
    both = real[:, :, None] & real[:, None, :]
    r, slope, bend = table.pulses(delays[:, :, None] - delays[:, None, :])
    return tuple(torch.where(both, each, 0) for each in (r, slope, bend))  # type: ignore[return-value]


def _amplitudes(table: Correlations, rows: Tensor, delays: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least-squares amplitudes at given delays, and the sum of squares left."""
    c = torch.where(real, table.trace(rows, delays)[0], 0)
    r, _, _ = _normal(table, delays, real)
    # Two pulses at one delay cannot be told apart: a small ridge shares the amplitude between them.
    ridge = 1e-10 * float(r.diagonal(dim1=1, dim2=2).max().clamp(min=1e-300))
    a = torch.linalg.solve(r + torch.diag_embed(ridge + (~real).double()), c[..., None])[..., 0]
    left = table.energy[rows] - 2 * (a * c).sum(1) + (a * (r @ a[..., None])[..., 0]).sum(1)
    return a, left.clamp(min=0)


def fitted(table: Correlations, rows: Tensor, delays: Tensor, real: Tensor, steps: int = _STEPS) -> Fitted:
    """Move delays (B, K) to where the sum of squares is smallest, by Levenberg-Marquardt; `rows`: the trace of each."""
    count = delays.shape[1]
    if not count or not len(rows):
        return Fitted(rows, delays, torch.zeros_like(delays), real, table.energy[rows])
    a, left = _amplitudes(table, rows, delays, real)
    damping = torch.full_like(left, _DAMPING)
    eye = torch.eye(2 * count, dtype=left.dtype, device=left.device)
    for _ in range(steps):
        normal, downhill = _slopes(table, rows, delays, a, real)
        diagonal = normal.diagonal(dim1=1, dim2=2)
        # Marquardt's scaling makes the damping independent of units; rows of pulses that are not real keep a 1.
        held = damping[:, None] * diagonal + (diagonal == 0).double()
        step = torch.linalg.solve(normal + eye * held[:, None, :], downhill[..., None])[..., 0]
        moved = torch.where(real, step[:, count:].clamp(-_FURTHEST, _FURTHEST), 0)
        trial = (delays + moved).clamp(0, table.n - 1)
        # The amplitudes are solved for at each trial, so that only the delays are searched.
        a_then, left_then = _amplitudes(table, rows, trial, real)
        better = left_then <= left
        delays, a = torch.where(better[:, None], trial, delays), torch.where(better[:, None], a_then, a)
        left = torch.where(better, left_then, left)
        damping = torch.where(better, damping / 5, damping * 4).clamp(1e-9, 1e6)
        if bool(((moved.abs().amax(1) < _ENOUGH) | (damping >= 1e6)).all()):
            break
    return Fitted(rows, delays, torch.where(real, a, 0), real, left)


def _slopes(table: Correlations, rows: Tensor, delays: Tensor, a: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Return J*J (B, 2K, 2K) and J* of what is left (B, 2K), J the slopes by amplitudes, then by delays."""
    r, slope, bend = _normal(table, delays, real)
    c, c_slope = (torch.where(real, each, 0) for each in table.trace(rows, delays))
    row, column = a[:, :, None], a[:, None, :]
    # The pulse's slope by its delay is d: <p_i, d_j> = -r'(t_i - t_j) and <d_i, d_j> = -r''(t_i - t_j).
    top = torch.cat([r, -slope * column], 2)
    bottom = torch.cat([slope * row, -bend * row * column], 2)
    by_amplitude = c - (r @ a[..., None])[..., 0]
    by_delay = a * (c_slope - (slope @ a[..., None])[..., 0])
    return torch.cat([top, bottom], 1), torch.cat([by_amplitude, by_delay], 1)


def cramer_rao(table: Correlations, found: Fitted, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Return the bounds on the standard deviations of delays and amplitudes: (B, K) each; NaN where there is no pulse."""
    count = found.delays.shape[1]
    normal, _ = _slopes(table, found.rows, found.delays, found.amplitudes, found.real)
    diagonal = normal.diagonal(dim1=1, dim2=2)
    scale = torch.where(diagonal > 0, diagonal, 1).rsqrt()
    scaled = normal * scale[:, :, None] * scale[:, None, :] + torch.diag_embed((diagonal <= 0).double())
    inverse = torch.linalg.pinv(scaled, hermitian=True, rtol=1e-13)
    spread = (inverse.diagonal(dim1=1, dim2=2) * scale.square() * variance[:, None]).clamp(min=0).sqrt()
    amplitude, delay = spread[:, :count], spread[:, count:]
    return torch.where(found.real, delay, torch.nan), torch.where(found.real, amplitude, torch.nan)
