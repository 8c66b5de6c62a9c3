"""The phase of spectra, unwrapped: followed along the unit circle in steps that the derivative of the logarithm confirms."""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

from unconv.errors import ShapeError

_TURN = 0.5  # |d log X| that a step may promise at either end: a zero that is nearer than two steps promises more
_OFF = 0.1  # how far a step's increment may be from what the derivatives at its ends promise
_FINE, _FINER = 64, 256  # points of the FFT for each sample; of long signals, whose sums cost more
_LONG, _MOST = 10_000, 2**24  # samples from which on; points beyond which no more are taken than have to be
_NARROW = 1e-13  # radians: a step of less stands on a zero
_TOGETHER = 2**22  # products of a direct sum at a time


def unwrapped(rows: Tensor, grid: int) -> Tensor:
    """Return the phase of real signals (B, n), times the sign of their sum, at 2 pi k / grid for k = 0 ... grid / 2.

    Along each step d log X = X' / X dw is compared with what log X gained. Where a zero is near, the derivative is large or the
    two differ, and the step is halved. A double zero between two samples of a coarse grid turns the phase by 2 pi, which the
    phases alone do not show, but the derivatives do.

    Raises:
        ShapeError: a zero on the unit circle, or so near that rounding hides on which side.
    """
    n = rows.shape[1]
    # Noise of n samples has zeros as near to the circle as 1 / n^2, and many as near as 1 / n: the finer the FFT, the fewer
    # steps are left to be halved, each of which costs sums over all samples.
    points = max(_FINE * n, min(_FINER * n, _MOST) if n > _LONG else 0)
    fine = 2 ** (max(1, -(-points // grid)) - 1).bit_length()
    many = max(1, _TOGETHER // (fine * grid))
    return torch.cat([_followed(rows[some : some + many], grid, fine) for some in range(0, len(rows), many)])


def _followed(rows: Tensor, grid: int, fine: int) -> Tensor:
    n = rows.shape[1]
    step = 2 * pi / (fine * grid)
    # Time counts from the signal's middle: a delay of half the signal promises half as much.
    centred = torch.arange(n, dtype=rows.dtype, device=rows.device) - (n - 1) / 2
    at = step * torch.arange(fine * grid // 2 + 1, dtype=rows.dtype, device=rows.device)
    spectrum = torch.fft.rfft(rows, fine * grid)
    _refuse_zeros(rows, spectrum, at.expand(len(rows), -1))
    turn = (1j * at * (n - 1) / 2).exp()
    value, slope = spectrum * turn, -1j * torch.fft.rfft(rows * centred, fine * grid) * turn
    gained, sure = _gain(value[:, :-1], value[:, 1:], slope[:, :-1], slope[:, 1:], step)
    gained = torch.where(sure, gained, 0)
    row, place = torch.nonzero(~sure, as_tuple=True)
    ends = [torch.stack([each[row, place], each[row, place + 1]]) for each in (value, slope)]
    gained.index_put_((row, place), _halved(rows, centred, row, at[place], step, ends[0], ends[1]), accumulate=True)
    phase = torch.cat([torch.zeros_like(gained[:, :1]), gained.cumsum(1)], 1)
    found: Tensor = (phase - at * (n - 1) / 2)[:, ::fine]
    return found


def _gain(low: Tensor, high: Tensor, slope_low: Tensor, slope_high: Tensor, step: Tensor | float) -> tuple[Tensor, Tensor]:
    """Return what the phase gains along steps, and which of these can be relied on."""
    first, last = slope_low / low * step, slope_high / high * step
    promised = (first + last) / 2
    gained = (high / low).log()
    turns = ((promised.imag - gained.imag) / (2 * pi)).round()
    off = gained + 2j * pi * turns - promised
    sure = (first.abs() < _TURN) & (last.abs() < _TURN) & (off.abs() < _OFF)
    return gained.imag + 2 * pi * turns, sure


def _halved(rows: Tensor, centred: Tensor, row: Tensor, begin: Tensor, step: float, value: Tensor, slope: Tensor) -> Tensor:
    """Return what the phase gains along steps (m,) of the rows named, each halved until all its parts can be relied on.

    Args:
        begin: (m,), radians. value, slope: (2, m), at both ends.
    """
    total = torch.zeros_like(begin)
    owner = torch.arange(len(begin), device=begin.device)
    while len(owner):
        step /= 2
        middle = begin + step
        if step < _NARROW:
            raise _zero_at(float(middle[0]))
        x, dx = _summed(rows, centred, row, middle)
        _refuse_zeros(rows, x[:, None], middle[:, None], row)
        begin = torch.cat([begin, middle])
        value, slope = (
            torch.stack([torch.cat([value[0], x]), torch.cat([x, value[1]])]),
            torch.stack([torch.cat([slope[0], dx]), torch.cat([dx, slope[1]])]),
        )
        row, owner = row.repeat(2), owner.repeat(2)
        gained, sure = _gain(value[0], value[1], slope[0], slope[1], step)
        total.index_add_(0, owner[sure], gained[sure])
        again = ~sure
        row, owner, begin, value, slope = row[again], owner[again], begin[again], value[:, again], slope[:, again]
    return total


def _summed(rows: Tensor, centred: Tensor, row: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """Return spectra and their derivatives at any frequency by the sum itself: (m,) each."""
    parts = []
    many = max(1, _TOGETHER // rows.shape[1])
    for some in range(0, len(at), many):
        waves = torch.polar(torch.ones_like(centred), -centred * at[some : some + many, None])
        samples = rows[row[some : some + many]]
        parts.append(((waves * samples).sum(1), -1j * (waves * (samples * centred)).sum(1)))
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def _refuse_zeros(rows: Tensor, spectrum: Tensor, at: Tensor, row: Tensor | None = None) -> None:
    """Refuse spectra that are zero to rounding somewhere."""
    largest = rows.abs().sum(1)
    largest = largest if row is None else largest[row]
    there = spectrum.abs() <= 8 * torch.finfo(rows.dtype).eps * largest[:, None]
    if bool(there.any()):
        raise _zero_at(float(at[there][0]))


def _zero_at(radians: float) -> ShapeError:
    where = (
        "frequency 0, the mean of the samples" if radians == 0 else f"frequency {radians / (2 * pi):.6g} of the sampling rate"
    )
    return ShapeError(
        f"complex_cepstrum: the spectrum is zero, or next to it, at {where}, where its logarithm is infinite. Move the "
        "zeros inward, as x * 0.99 ** torch.arange(n) does, or use real_cepstrum."
    )
