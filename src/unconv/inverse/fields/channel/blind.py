"""Equalisers that learn from the constellation alone: constant modulus (CMA), multimodulus (MMA), and decisions after them."""

from __future__ import annotations

from dataclasses import dataclass
from math import tau
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import DtypeError, ShapeError
from unconv.inverse.fields.channel.constellations import Constellation, constellation
from unconv.inverse.fields.channel.lookup import Lookup
from unconv.inverse.solvers.arrays import as_samples, like
from unconv.inverse.solvers.constant_modulus import Dispersion, least_dispersion
from unconv.inverse.solvers.loudness import refuse_silence
from unconv.kinds import checks_kinds_but

SYMBOLS_PER_TAP = 10  # symbols for each tap: with five, noise could be made to look like BPSK or QPSK half of the time
_ANGLES = 24  # that a phase is first looked for at, between two symmetries of the constellation
_SHOWN = 4096  # symbols that it is looked for with
_ROUNDS = 20  # of least squares against decisions
_OPEN = 0.5  # of the error that values of no constellation have: below it, the eye is open
_BLOCK = 2**25  # samples of all windows that are held at once


@dataclass(frozen=True, eq=False)
class BlindEqualized:
    """Symbols that were equalised without training.

    Nobody can tell how many symbols late they are, nor by which of the constellation's symmetries they are turned: find out
    with `align` from a few known symbols, or send differences.

    Attributes:
        soft: (..., K), near the points of the constellation.
        taps: (..., L), soft[k] = sum of taps[j] received[k samples_per_symbol + L // 2 - j].
        dispersion: (..., passes + 1), at the start and after each pass over the data, for symbols of mean power one.
        error: (...), mean |soft - nearest point|^2 over the constellation's power.
        ambiguity: angles by which `soft` may be turned; 0 and pi of real constellations: the sign.
        converged: (...), whether the error is below half of that of values anywhere between the points, as those of noise
            are: no more than some 3 % of the decisions are then wrong. And no point has nearly all decisions.
        notes: what was odd.
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
    """Equalise blindly by the constant modulus algorithm: outputs are to lie near one circle, |y|^2 near E|s|^4 / E|s|^2.

    All data are used at once and several times. The phase, which the modulus does not show, is then found by the least distance
    to the points, and least squares against decisions, repeated until they stay, take the error down to that of training.

    Args:
        received: (..., n), real or complex.
        constellation: its name, its points or a `Constellation`; its points are to be sent equally often.
        length: L, samples that an output is made of; half of them lie before its own. About five times the channel's.
        samples_per_symbol: of `received`; two or more make the filter independent of the clock's phase.
        passes: over the data, at most.
        directed: whether decisions are used in the end.

    Raises:
        ShapeError: less than 10 symbols for each tap; silence; an unknown constellation. DtypeError: a real signal of a complex
            constellation. NonFinite: NaN.

    Source:
        Godard, "Self-recovering equalization and carrier tracking in two-dimensional data communication systems" (1980);
        Treichler & Agee (1983); Zarzoso & Comon (2008), for the step.
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
    """Equalise blindly by the multimodulus algorithm (MMA): both parts of the outputs are to lie near two lines each.

    Real and imaginary part are looked at on their own, so that the phase is found with the taps, up to quarter turns. Suits
    square QAM. Arguments and refusals are those of `cma`.

    Raises:
        ShapeError: a constellation whose parts are not alike, as those of BPSK or 8-QAM behind a complex channel; as `cma`.

    Source:
        Yang, Werner & Dumont, "The multimodulus blind equalization and its generalized algorithms" (2002).
    """
    return _blind("multimodulus", received, constellation, length, samples_per_symbol, passes, directed, "parts")


def _blind(
    where: str, received: Any, name: Any, length: int, rate: int, passes: int, directed: bool, kind: Dispersion
) -> BlindEqualized:
    """Check what came, equalise block by block, and put the parts together."""
    points = constellation(name)
    signal = _admitted(where, as_samples(where, "received", received, "(..., n)"), points, length, rate, passes, kind)
    rows = signal.to(torch.complex128 if signal.is_complex() else torch.float64).reshape(-1, signal.shape[-1])
    size = rows.abs().square().mean(-1, keepdim=True).sqrt()
    count = -(-rows.shape[-1] // rate)
    several = max(_BLOCK // (count * length), 1)  # the windows are copied in products
    found = [_Run(some, points, length, rate, passes, directed, kind).best() for some in (rows / size).split(several)]
    soft, taps, error = (torch.cat([each[k] for each in found]) for k in (0, 1, 3))
    # Blocks need different numbers of passes: a curve goes on at its last value.
    longest = max(each[2].shape[-1] for each in found)
    curve = torch.cat([torch.cat([c, c[:, -1:].expand(-1, longest - c.shape[-1])], -1) for _, _, c, _ in found])
    limit = closed_eye(points, signal.is_complex())
    converged = error < limit * (1 - length / count)
    shape, real = signal.shape[:-1], signal.dtype.to_real()
    told: tuple[str, ...] = () if bool(converged.all()) else (_words(converged, error, limit),)
    alone = _lopsided(points, soft)
    if bool(alone.any()):
        converged = converged & ~alone
        told += ("nearly all decisions are one point: the signal may be constant, or the symbols are not equally likely",)

    def back(values: Tensor, dtype: torch.dtype) -> Any:
        made = values.reshape((*shape, *values.shape[1:]))
        return like(received, made.to(dtype)) if made.ndim else made.item()

    parts = back(soft, signal.dtype), back(taps / size, signal.dtype), back(curve, real), back(error, real)
    return BlindEqualized(*parts, points.rotations, back(converged, torch.bool), told)


def _admitted(
    where: str, signal: Tensor, points: Constellation, length: int, rate: int, passes: int, kind: Dispersion
) -> Tensor:
    """Return the signal, or refuse what cannot be equalised."""
    if points.points.is_complex() and not signal.is_complex():
        raise DtypeError(f"{where}: a real signal came, but {points.name} is complex. Pass the complex baseband, or take pam.")
    if min(length, rate, passes) < 1:
        raise ShapeError(
            f"{where}: length is {length}, samples_per_symbol {rate} and passes {passes}, but 1 or more each were needed."
        )
    count = -(-signal.shape[-1] // rate)
    if count < SYMBOLS_PER_TAP * length:
        raise ShapeError(
            f"{where}: {count} symbols came for {length} taps, but {SYMBOLS_PER_TAP * length} or more were needed. Take a "
            "shorter filter, or more of the signal."
        )
    refuse_silence(where, "received", signal)
    fourths = [float(part.pow(4).mean()) for part in (points.points.real, points.points.to(torch.complex128).imag)]
    if kind == "parts" and signal.is_complex() and abs(fourths[0] - fourths[1]) > 0.01 * fourths[0]:
        raise ShapeError(
            f"{where}: real and imaginary parts of {points.name} are not alike, but their common spread is what the algorithm "
            "looks for. Use cma."
        )
    return signal


def closed_eye(points: Constellation, is_complex: bool) -> float:
    """Return the error, over the power, at which the eye closes: half of that of values anywhere between the points.

    Values that lie evenly in a square about each point are off by spacing^2 / 6, those on a line by half of that. At half as
    much, the border of a decision is 2.4 standard deviations away.
    """
    return _OPEN * points.spacing**2 / (6 if is_complex else 12) / points.power


def _lopsided(points: Constellation, soft: Tensor) -> Tensor:
    """Tell which signals (signals, K) have one point for most of their decisions, as constant ones do: (signals,)."""
    count = len(points.points)
    found = Lookup(points.points).nearest(soft)
    most = torch.stack([torch.bincount(row, minlength=count).max() for row in found])
    return most > (1 + 1 / count) / 2 * soft.shape[-1]


def _words(converged: Tensor, error: Tensor, limit: float) -> str:
    bad = int((~converged).sum())
    which = f" ({bad} of {len(converged)} signals)" if len(converged) > 1 else ""
    return (
        f"not converged{which}: decisions are off by {float(error.max()):.2g} of the power, and those of noise by about "
        f"{limit / _OPEN:.2g}; more symbols, a longer filter or another constellation may help"
    )


@dataclass(frozen=True, eq=False)
class _Run:
    """One block of signals, (signals, n), of power one, and what is asked of them."""

    signals: Tensor
    points: Constellation
    length: int
    rate: int
    passes: int
    directed: bool
    kind: Dispersion

    def best(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return soft symbols, taps, curves and errors; signals whose eye stays closed are tried from other places, too."""
        windows, whole = self._windows()
        best = self._from(windows, whole, self.length // 2)
        limit = closed_eye(self.points, self.signals.is_complex())
        for place in (self.length // 4, 3 * self.length // 4):
            closed = best[3] >= limit
            if not bool(closed.any()) or self.length < 4:
                break
            # The dispersion has other minima: an echo may be what the middle of the filter finds.
            other = self._from(windows, whole, place)
            better = closed & (other[3] < best[3])
            best = self._where(better, other, best)
        return best

    def _where(self, better: Tensor, first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> Any:
        longest = max(first[2].shape[-1], second[2].shape[-1])
        a, b = ((s, t, torch.cat([c, c[:, -1:].expand(-1, longest - c.shape[-1])], -1), e) for s, t, c, e in (first, second))
        return tuple(torch.where(better.reshape(-1, *[1] * (x.ndim - 1)), x, y) for x, y in zip(a, b, strict=True))

    def _windows(self) -> tuple[Tensor, slice]:
        """Return what each output is made of, (signals, K, L), the latest first, and which outputs see no edge."""
        n, ahead = self.signals.shape[-1], self.length // 2
        count = -(-n // self.rate)
        edge = max((count - 1) * self.rate + ahead + 1 - n, 0)
        padded = F.pad(self.signals, (self.length - 1 - ahead, edge))
        windows = padded.unfold(-1, self.length, self.rate)[:, :count].flip(-1)
        first = -(-(self.length - 1 - ahead) // self.rate)
        return windows, slice(first, (n - 1 - ahead) // self.rate + 1)

    def _from(self, windows: Tensor, whole: slice, place: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Equalise from a spike at one tap: least dispersion, then the phase, then decisions."""
        inside = windows[:, whole]
        start = inside.new_zeros((len(inside), self.length))
        start[:, place] = 1
        parts = self.points.points / self.points.power**0.5
        values = parts.real if self.kind == "parts" and inside.is_complex() else parts
        radius = float(values.abs().pow(4).mean() / values.abs().square().mean())
        found = least_dispersion(inside, start, radius, self.kind, self.passes)
        taps = found.taps * self.points.power**0.5
        y = torch.einsum("skl,sl->sk", inside, taps)
        if inside.is_complex():
            turn = self._turn(y)[:, None]
            taps, y = taps * turn, y * turn
        if self.directed:
            taps, y = self._directed(inside, taps, y)
        error = (y - self._decided(y)).abs().square().mean(-1) / self.points.power
        return torch.einsum("skl,sl->sk", windows, taps), taps, found.curve, error

    def _decided(self, y: Tensor) -> Tensor:
        points = self.points.points.to(y.device)
        return points[Lookup(self.points.points).nearest(y)].to(y.dtype)

    def _turn(self, y: Tensor) -> Tensor:
        """Return the factors (signals,) of magnitude one that bring outputs nearest to the points."""
        some = y[:, :: max(y.shape[1] // _SHOWN, 1)]
        period = tau / len(self.points.rotations)
        angles = period * torch.arange(_ANGLES, dtype=torch.float64, device=y.device) / _ANGLES
        turns = torch.polar(torch.ones_like(angles), angles)
        errors = [(some * t - self._decided(some * t)).abs().square().mean(-1) for t in turns]
        turn = turns[torch.stack(errors).argmin(0)]
        for _ in range(5):
            decided = self._decided(some * turn[:, None])
            product = (some.conj() * decided).sum(-1)
            turn = product / product.abs().clamp(min=1e-300)
        return turn

    def _directed(self, windows: Tensor, taps: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Fit the taps to decisions by least squares until these stay."""
        adjoint = windows.conj().transpose(1, 2)
        matrix = adjoint @ windows
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
