"""Blind equalisers: constant modulus (CMA) and multimodulus (MMA), followed by decision-directed least squares."""

from __future__ import annotations

from dataclasses import dataclass
from math import tau
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import DtypeError, ShapeError, counted
from unconv.inverse.fields.channel.constellations import Constellation, constellation
from unconv.inverse.fields.channel.lookup import Lookup
from unconv.inverse.solvers.arrays import as_samples, like
from unconv.inverse.solvers.constant_modulus import Dispersion, least_dispersion
from unconv.inverse.solvers.loudness import refuse_silence
from unconv.kinds import checks_kinds_but

SYMBOLS_PER_TAP = 10  # required: with five, noise alone could be made to look like BPSK or QPSK half of the time
_ANGLES = 24  # tried for the phase, within one period of the constellation's rotational symmetry
_SAMPLED = 4096  # symbols, at most, that each angle is tried with
_ROUNDS = 20  # of decision-directed least squares, at most
_OPEN = 0.5  # of the error that arbitrary values have: below it, the eye is open
_BLOCK = 2**25  # samples of all windows that are in memory at a time


@dataclass(frozen=True, eq=False)
class BlindEqualized:
    """Symbols that were equalised without a training sequence.

    Their delay is unknown by a whole number of symbols, and their phase up to the rotational symmetry of the constellation.
    Resolve both with a few known symbols and `align`, or use differential encoding.

    Attributes:
        soft: (..., K), soft symbols, near the points of the constellation.
        taps: (..., L), soft[k] = sum of taps[j] received[k samples_per_symbol + L // 2 - j].
        dispersion: (..., passes + 1), the cost at the start and after each pass over the data, for symbols of mean power 1.
        error: (...), mean |soft - nearest point|^2 over the constellation's power.
        ambiguity: angles by which `soft` may be rotated; 0 and pi for real constellations, whose sign is unknown.
        converged: (...), whether the eye is open: the error is below half of that of arbitrary values, such as noise, so that
            at most about 3 % of the decisions are wrong; and no single point has nearly all decisions.
        notes: warnings about the result.
    """

    soft: Any
    taps: Any
    dispersion: Any
    error: Any
    ambiguity: tuple[float, ...]
    converged: Any
    notes: tuple[str, ...] = ()


@checks_kinds_but("received", "constellation")
def cma(
    received: Any,
    constellation: Any,
    length: int,
    samples_per_symbol: int = 1,
    *,
    passes: int = 200,
    directed: bool = True,
) -> BlindEqualized:
    """Equalise blindly by the constant modulus algorithm (CMA): bring the outputs near one circle, |y|^2 = E|s|^4 / E|s|^2.

    Each pass is a step over all data at once. The modulus does not show the phase, which is then chosen for the least distance
    to the points. Decision-directed least squares, repeated until the decisions stay the same, lower the error to that of
    training.

    Args:
        received: (..., n), real or complex.
        constellation: its name, its points or a `Constellation`; the points must be sent equally often.
        length: L, the number of filter taps, centred on the output's sample; about five times the channel's length.
        samples_per_symbol: the rate of `received`; two or more make the filter insensitive to the sampling phase.
        passes: largest number of passes over the data.
        directed: whether decision-directed least squares follow.

    Raises:
        ShapeError: fewer than 10 symbols for each tap; silence; an unknown constellation. DtypeError: a real signal for a
            complex constellation. NonFinite: NaN.

    Source:
        Godard, "Self-recovering equalization and carrier tracking in two-dimensional data communication systems" (1980);
        Treichler & Agee, "A new approach to multipath correction of constant modulus signals" (1983); Zarzoso & Comon,
        "Optimal step-size constant modulus algorithm" (2008), for the step.
    """
    return _blind("cma", received, constellation, length, samples_per_symbol, passes, directed, "modulus")


@checks_kinds_but("received", "constellation")
def multimodulus(
    received: Any,
    constellation: Any,
    length: int,
    samples_per_symbol: int = 1,
    *,
    passes: int = 200,
    directed: bool = True,
) -> BlindEqualized:
    """Equalise blindly by the multimodulus algorithm (MMA): bring real and imaginary parts each near two lines.

    Since both parts count separately, the taps come with their phase, up to quarter turns. Suits square QAM. The arguments are
    those of `cma`.

    Raises:
        ShapeError: a constellation whose real and imaginary parts differ in dispersion, such as BPSK or 8-QAM for a complex
            signal; and as `cma`.

    Source:
        Yang, Werner & Dumont, "The multimodulus blind equalization and its generalized algorithms" (2002).
    """
    return _blind("multimodulus", received, constellation, length, samples_per_symbol, passes, directed, "parts")


def _blind(
    where: str, received: Any, name: Any, length: int, rate: int, passes: int, directed: bool, kind: Dispersion
) -> BlindEqualized:
    """Equalise signals block by block, as many at a time as memory allows, and combine the results."""
    points = constellation(name)
    signal = _admitted(where, as_samples(where, "received", received, "(..., n)"), points, length, rate, passes, kind)
    rows = signal.to(torch.complex128 if signal.is_complex() else torch.float64).reshape(-1, signal.shape[-1])
    size = rows.abs().square().mean(-1, keepdim=True).sqrt()
    count = -(-rows.shape[-1] // rate)
    several = max(_BLOCK // (count * length), 1)  # matrix products copy the windows, which overlap
    results = [_Run(block, points, length, rate, passes, directed, kind).best() for block in (rows / size).split(several)]
    soft, taps, error = (torch.cat([each[k] for each in results]) for k in (0, 1, 3))
    # Blocks take different numbers of passes: the shorter curves are continued at their last value.
    longest = max(each[2].shape[-1] for each in results)
    curve = torch.cat([torch.cat([c, c[:, -1:].expand(-1, longest - c.shape[-1])], -1) for _, _, c, _ in results])
    limit = closed_eye(points, signal.is_complex())
    converged = error < limit * (1 - length / count)
    shape, real = signal.shape[:-1], signal.dtype.to_real()
    notes: tuple[str, ...] = () if bool(converged.all()) else (_not_converged_note(converged, error, limit),)
    lopsided = _lopsided(points, soft)
    if bool(lopsided.any()):
        converged = converged & ~lopsided
        notes += ("nearly all decisions fall on one point: the signal may be constant, or the symbols are not equally likely",)

    def restored(values: Tensor, dtype: torch.dtype) -> Any:
        shaped = values.reshape((*shape, *values.shape[1:]))
        return like(received, shaped.to(dtype)) if shaped.ndim else shaped.item()

    parts = restored(soft, signal.dtype), restored(taps / size, signal.dtype), restored(curve, real), restored(error, real)
    return BlindEqualized(*parts, points.rotations, restored(converged, torch.bool), notes)


def _admitted(
    where: str, signal: Tensor, points: Constellation, length: int, rate: int, passes: int, kind: Dispersion
) -> Tensor:
    """Return the signal, or refuse one that cannot be equalised blindly."""
    if points.points.is_complex() and not signal.is_complex():
        raise DtypeError(
            f"{where}: received is real, but {points.name} is complex, so complex samples were needed. Pass the complex "
            "baseband, or use pam."
        )
    if min(length, rate, passes) < 1:
        raise ShapeError(
            f"{where}: length is {length}, samples_per_symbol is {rate} and passes is {passes}, but 1 or more was needed for "
            "each."
        )
    count = -(-signal.shape[-1] // rate)
    if count < SYMBOLS_PER_TAP * length:
        raise ShapeError(
            f"{where}: received holds {counted(count, 'symbol')} for {counted(length, 'tap')}, but at least "
            f"{SYMBOLS_PER_TAP * length:,} were needed. Pass a smaller length, or more samples."
        )
    refuse_silence(where, "received", signal)
    # The multimodulus cost has one radius for both parts, which fits only if their moments agree.
    fourths = [float(part.pow(4).mean()) for part in (points.points.real, points.points.to(torch.complex128).imag)]
    if kind == "parts" and signal.is_complex() and abs(fourths[0] - fourths[1]) > 0.01 * fourths[0]:
        raise ShapeError(
            f"{where}: the real and imaginary parts of {points.name} differ in their fourth moments, but equal moments were "
            "needed. Use cma."
        )
    return signal


def closed_eye(points: Constellation, is_complex: bool) -> float:
    """Return the mean squared error, over the power, at which the eye closes: half of that of arbitrary values.

    Values spread uniformly over a square around each point have the mean squared error spacing^2 / 6, those on a line half of
    that. At half of this error, the decision boundary is 2.4 standard deviations away.
    """
    return _OPEN * points.spacing**2 / (6 if is_complex else 12) / points.power


def _lopsided(points: Constellation, soft: Tensor) -> Tensor:
    """Return which signals (signals, K) have most of their decisions on one point, as constant ones do: (signals,)."""
    count = len(points.points)
    indices = Lookup(points.points).nearest(soft)
    most = torch.stack([torch.bincount(row, minlength=count).max() for row in indices])
    return most > (1 + 1 / count) / 2 * soft.shape[-1]


def _not_converged_note(converged: Tensor, error: Tensor, limit: float) -> str:
    closed = int((~converged).sum())
    which = f" ({closed} of {len(converged)} signals)" if len(converged) > 1 else ""
    return (
        f"not converged{which}: the mean squared error of the decisions is {float(error.max()):.2g} of the power, where noise "
        f"alone has about {limit / _OPEN:.2g}; more symbols, a longer filter or another constellation may help"
    )


@dataclass(frozen=True, eq=False)
class _Run:
    """One block of signals (signals, n) of power 1, with the settings of the equaliser."""

    signals: Tensor
    points: Constellation
    length: int
    rate: int
    passes: int
    directed: bool
    kind: Dispersion

    def best(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return soft symbols, taps, curves and errors; if the eye stays closed, try other initial taps, too."""
        windows, inner = self._windows()
        best = self._from(windows, inner, self.length // 2)
        limit = closed_eye(self.points, self.signals.is_complex())
        # The dispersion has local minima: a spike at the centre tap may lock onto an echo.
        for spike in (self.length // 4, 3 * self.length // 4):
            closed = best[3] >= limit
            if not bool(closed.any()) or self.length < 4:
                break
            other = self._from(windows, inner, spike)
            better = closed & (other[3] < best[3])
            best = self._where(better, other, best)
        return best

    def _where(self, better: Tensor, first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> Any:
        longest = max(first[2].shape[-1], second[2].shape[-1])
        a, b = ((s, t, torch.cat([c, c[:, -1:].expand(-1, longest - c.shape[-1])], -1), e) for s, t, c, e in (first, second))
        return tuple(torch.where(better.reshape(-1, *[1] * (x.ndim - 1)), x, y) for x, y in zip(a, b, strict=True))

    def _windows(self) -> tuple[Tensor, slice]:
        """Return the samples of each output, (signals, K, L), latest first, and which outputs use no padding."""
        n, ahead = self.signals.shape[-1], self.length // 2
        count = -(-n // self.rate)
        edge = max((count - 1) * self.rate + ahead + 1 - n, 0)
        padded = F.pad(self.signals, (self.length - 1 - ahead, edge))
        windows = padded.unfold(-1, self.length, self.rate)[:, :count].flip(-1)
        first = -(-(self.length - 1 - ahead) // self.rate)
        return windows, slice(first, (n - 1 - ahead) // self.rate + 1)

    def _from(self, windows: Tensor, inner: slice, spike: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Equalise from a spike at one tap: least dispersion, then the phase, then decision-directed least squares."""
        inside = windows[:, inner]
        start = inside.new_zeros((len(inside), self.length))
        start[:, spike] = 1
        unit = self.points.points / self.points.power**0.5
        values = unit.real if self.kind == "parts" and inside.is_complex() else unit
        # Godard's constant: with it, the undistorted constellation is a stationary point of the dispersion.
        radius = float(values.abs().pow(4).mean() / values.abs().square().mean())
        descent = least_dispersion(inside, start, radius, self.kind, self.passes)
        taps = descent.taps * self.points.power**0.5
        y = torch.einsum("skl,sl->sk", inside, taps)
        if inside.is_complex():
            rotation = self._rotation(y)[:, None]
            taps, y = taps * rotation, y * rotation
        if self.directed:
            taps, y = self._directed(inside, taps, y)
        error = (y - self._decided(y)).abs().square().mean(-1) / self.points.power
        return torch.einsum("skl,sl->sk", windows, taps), taps, descent.curve, error

    def _decided(self, y: Tensor) -> Tensor:
        points = self.points.points.to(y.device)
        return points[Lookup(self.points.points).nearest(y)].to(y.dtype)

    def _rotation(self, y: Tensor) -> Tensor:
        """Return the factors (signals,) of magnitude 1 that bring the outputs nearest to the points."""
        sampled = y[:, :: max(y.shape[1] // _SAMPLED, 1)]
        period = tau / len(self.points.rotations)
        angles = period * torch.arange(_ANGLES, dtype=torch.float64, device=y.device) / _ANGLES
        factors = torch.polar(torch.ones_like(angles), angles)
        errors = [(sampled * t - self._decided(sampled * t)).abs().square().mean(-1) for t in factors]
        rotation = factors[torch.stack(errors).argmin(0)]
        # From the best angle of the grid on, alternate between decisions and their least-squares phase.
        for _ in range(5):
            decided = self._decided(sampled * rotation[:, None])
            product = (sampled.conj() * decided).sum(-1)
            rotation = product / product.abs().clamp(min=1e-300)
        return rotation

    def _directed(self, windows: Tensor, taps: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Fit the taps to the decisions by least squares until the decisions stay the same."""
        adjoint = windows.conj().transpose(1, 2)
        matrix = adjoint @ windows
        # The windows stay the same in all rounds: one Cholesky factor, slightly loaded in case it is singular.
        load = 1e-9 * matrix.diagonal(dim1=-2, dim2=-1).real.mean(-1)
        eye = torch.eye(self.length, dtype=matrix.dtype, device=matrix.device)
        factor = torch.linalg.cholesky(matrix + load[:, None, None] * eye)
        decided = self._decided(y)
        for _ in range(_ROUNDS):
            taps = torch.cholesky_solve(adjoint @ decided[..., None], factor)[..., 0]
            y = torch.einsum("skl,sl->sk", windows, taps)
            before, decided = decided, self._decided(y)
            if bool((before == decided).all()):
                break
        return taps, y
