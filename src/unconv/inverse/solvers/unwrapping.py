"""Phase unwrapping along the unit circle, in steps that the derivative of the spectrum's logarithm confirms."""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

from unconv.errors import ShapeError

_TURN = 0.5  # the largest |d log X| at either end of a step: a zero nearer than two steps has more
_OFF = 0.1  # the largest difference between a step's increment and the integral of the derivatives at its ends
_FINE, _FINER = 64, 256  # points of the FFT for each sample; and for long signals, whose direct sums cost more
_LONG, _MOST = 10_000, 2**24  # samples of a long signal; the most points of its FFT
_NARROW = 1e-13  # radians: a step below that is at a zero
_TOGETHER = 2**22  # products of a direct sum to compute at a time


def unwrapped(rows: Tensor, grid: int) -> Tensor:
    """Return the unwrapped phase of real signals (B, n), times the sign of their sum, at 2 pi k / grid for k = 0 ... grid / 2.

    Along each step, d log X = X' / X dw is compared with the increment of log X. Near a zero the derivative is large, or the
    two differ, and the step is halved (Tribolet 1977). Phases alone would not do: a double zero between two points of a coarse
    grid turns the phase by 2 pi, which only the derivatives show.

    Raises:
        ShapeError: there is a zero on the unit circle, or so near that rounding hides on which side.
    """
    n = rows.shape[1]
    # Noise of n samples has zeros as near to the circle as 1 / n^2, and many as near as 1 / n. A finer FFT leaves fewer steps
    # to halve, each of which costs sums over all samples.
    points = max(_FINE * n, min(_FINER * n, _MOST) if n > _LONG else 0)
    fine = 2 ** (max(1, -(-points // grid)) - 1).bit_length()
    batch = max(1, _TOGETHER // (fine * grid))
    return torch.cat([_unwrapped(rows[first : first + batch], grid, fine) for first in range(0, len(rows), batch)])


def _unwrapped(rows: Tensor, grid: int, fine: int) -> Tensor:
    n = rows.shape[1]
    step = 2 * pi / (fine * grid)
    # Time counts from the signal's middle, which halves the largest linear phase, and with it d log X.
    centred = torch.arange(n, dtype=rows.dtype, device=rows.device) - (n - 1) / 2
    frequencies = step * torch.arange(fine * grid // 2 + 1, dtype=rows.dtype, device=rows.device)
    spectrum = torch.fft.rfft(rows, fine * grid)
    _refuse_zeros(rows, spectrum, frequencies.expand(len(rows), -1))
    rotation = (1j * frequencies * (n - 1) / 2).exp()
    value, slope = spectrum * rotation, -1j * torch.fft.rfft(rows * centred, fine * grid) * rotation
    increments, reliable = _increment(value[:, :-1], value[:, 1:], slope[:, :-1], slope[:, 1:], step)
    increments = torch.where(reliable, increments, 0)
    row, step_index = torch.nonzero(~reliable, as_tuple=True)
    ends = [torch.stack([each[row, step_index], each[row, step_index + 1]]) for each in (value, slope)]
    increments.index_put_(
        (row, step_index), _by_halving(rows, centred, row, frequencies[step_index], step, ends[0], ends[1]), accumulate=True
    )
    phase = torch.cat([torch.zeros_like(increments[:, :1]), increments.cumsum(1)], 1)
    result: Tensor = (phase - frequencies * (n - 1) / 2)[:, ::fine]
    return result


def _increment(low: Tensor, high: Tensor, slope_low: Tensor, slope_high: Tensor, step: Tensor | float) -> tuple[Tensor, Tensor]:
    """Return the increment of the phase along steps, and whether each is reliable."""
    # The trapezoidal rule over X' / X fixes the multiple of 2 pi, and its error, real part included, tells when it cannot.
    first, last = slope_low / low * step, slope_high / high * step
    predicted = (first + last) / 2
    increment = (high / low).log()
    turns = ((predicted.imag - increment.imag) / (2 * pi)).round()
    error = increment + 2j * pi * turns - predicted
    reliable = (first.abs() < _TURN) & (last.abs() < _TURN) & (error.abs() < _OFF)
    return increment.imag + 2 * pi * turns, reliable


def _by_halving(rows: Tensor, centred: Tensor, row: Tensor, begin: Tensor, step: float, value: Tensor, slope: Tensor) -> Tensor:
    """Return the increment of the phase along steps (m,) of the given rows, each halved until all its parts are reliable.

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
        x, dx = _direct_sum(rows, centred, row, middle)
        _refuse_zeros(rows, x[:, None], middle[:, None], row)
        # Both halves of every step go on as steps of their own; `owner` says to which of the first steps they belong.
        begin = torch.cat([begin, middle])
        value, slope = (
            torch.stack([torch.cat([value[0], x]), torch.cat([x, value[1]])]),
            torch.stack([torch.cat([slope[0], dx]), torch.cat([dx, slope[1]])]),
        )
        row, owner = row.repeat(2), owner.repeat(2)
        increments, reliable = _increment(value[0], value[1], slope[0], slope[1], step)
        total.index_add_(0, owner[reliable], increments[reliable])
        unreliable = ~reliable
        row, owner, begin, value, slope = (
            row[unreliable],
            owner[unreliable],
            begin[unreliable],
            value[:, unreliable],
            slope[:, unreliable],
        )
    return total


def _direct_sum(rows: Tensor, centred: Tensor, row: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """Return spectra and their derivatives at any frequency by direct sums: (m,) each."""
    parts = []
    batch = max(1, _TOGETHER // rows.shape[1])
    for first in range(0, len(at), batch):
        waves = torch.polar(torch.ones_like(centred), -centred * at[first : first + batch, None])
        samples = rows[row[first : first + batch]]
        parts.append(((waves * samples).sum(1), -1j * (waves * (samples * centred)).sum(1)))
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def _refuse_zeros(rows: Tensor, spectrum: Tensor, at: Tensor, row: Tensor | None = None) -> None:
    """Refuse spectra that are zero, up to rounding, at some frequency."""
    largest = rows.abs().sum(1)
    largest = largest if row is None else largest[row]
    zero = spectrum.abs() <= 8 * torch.finfo(rows.dtype).eps * largest[:, None]
    if bool(zero.any()):
        raise _zero_at(float(at[zero][0]))


def _zero_at(radians: float) -> ShapeError:
    where = (
        "frequency 0, the mean of the samples" if radians == 0 else f"frequency {radians / (2 * pi):.6g} of the sampling rate"
    )
    return ShapeError(
        f"complex_cepstrum: the spectrum is zero, or close to it, at {where}, but its logarithm was needed there. Move the "
        "zeros inward, for example by x * 0.99 ** torch.arange(n), or use real_cepstrum."
    )
