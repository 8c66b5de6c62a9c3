"""How a carrier turns equalised symbols: its phase and its frequency, found without knowing the symbols."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from unconv.inverse.fields.channel.constellations import Constellation
from unconv.inverse.fields.channel.lookup import Lookup

_SEGMENTS = 16  # pieces of a signal whose phases are compared
_FEWEST = 64  # symbols, below which a phase is not asked for
_ANGLES = 48  # tried between two turns of the symmetry
_SHOWN = 4096  # symbols that they are tried with
_ROUNDS = 3  # of fitting a line to decisions
_MORE_LIKELY = 20.0  # logarithm of likelihoods: by chance, two parameters gain as much once in 10^8
_SURE = 5.0  # standard deviations from which on a turn is believed
_SMALL = 0.02  # radians: less than 0.04 % of the power, which no decision notices


@dataclass(frozen=True)
class Carrier:
    """A turn of symbols by phase + slope * number of the symbol, in radians.

    Attributes:
        phase, slope: (B,), zero where none is certain. The phase is known up to the symmetry of the constellation.
        symmetry: turns that map the constellation onto itself: 2 of BPSK, 4 of QAM.
    """

    phase: Tensor
    slope: Tensor
    symmetry: int

    @property
    def turns(self) -> bool:
        """Whether there is anything to turn back."""
        return bool((self.phase != 0).any() or (self.slope != 0).any())

    def turned_back(self, samples: Tensor, samples_per_symbol: int = 1) -> Tensor:
        """Return (B, n) samples without the turn."""
        at = torch.arange(samples.shape[-1], dtype=self.phase.dtype, device=samples.device) / samples_per_symbol
        angle = self.phase[:, None] + self.slope[:, None] * at
        return samples * torch.polar(torch.ones_like(angle), -angle).to(samples.dtype)


def estimate_carrier(soft: Tensor, table: Constellation, anchored: bool = False) -> Carrier:
    """Estimate phase and frequency of a carrier from symbols (B, N) of mean power 1, without knowing them.

    The power of the constellation's symmetry removes the symbols: what is left is a line in the spectrum, whose frequency is so
    many times the carrier's. The phase is looked for where the symbols come nearest to the points, and both are made exact
    by the decisions, of which QAM's power is far less sure. A signal is called turned only where the symbols then are nearer by
    more than chance explains.

    Args:
        anchored: the first symbols are known not to be turned (a training was aligned to them): only a slope is looked for.

    Source:
        Viterbi & Viterbi, "Nonlinear estimation of PSK-modulated carrier phase" (1983); Rife & Boorstyn (1974), for the line.
    """
    symmetry, scale = len(table.rotations), math.sqrt(table.power)
    none = soft.new_zeros(len(soft), dtype=torch.float64).real
    points = table.points.to(soft.device, torch.complex128) / scale
    if soft.shape[-1] < _FEWEST or not soft.is_complex() or abs(points.pow(symmetry).mean()) < 1e-3:
        return Carrier(none, none.clone(), symmetry)
    soft = soft.to(torch.complex128)
    look = Lookup(points)
    slope = _drift(soft, points, symmetry)
    turn = Carrier(none.clone() if anchored else _nearest_phase(soft, slope, look, points, symmetry), slope, symmetry)
    for _ in range(_ROUNDS):
        back = turn.turned_back(soft)
        line = _fitted(back * points[look.nearest(back)].conj(), torch.zeros_like(none))
        drifts = line.slope.abs() > _SURE * line.of_slope
        turn = Carrier(turn.phase + torch.where(drifts, line.phase, line.level), turn.slope + drifts * line.slope, symmetry)
    gained = soft.shape[-1] * (_distance(soft, look, points).log() - _distance(turn.turned_back(soft), look, points).log())
    turned = (gained > _MORE_LIKELY) & ((turn.phase.abs() > _SMALL) | (turn.slope.abs() * soft.shape[-1] > 2 * _SMALL))
    stays = turned & (turn.slope != 0) if anchored else turned
    return Carrier(torch.where(stays, turn.phase, 0), torch.where(stays, turn.slope, 0), symmetry)


def _drift(soft: Tensor, points: Tensor, symmetry: int) -> Tensor:
    """Return radians a symbol (B,), zero where the line in the spectrum of the power is not certain."""
    n = soft.shape[-1]
    powers = soft.pow(symmetry) * points.pow(symmetry).mean().conj()
    # Outer points of QAM scatter most in this power; its magnitude tells nothing about the phase that its angle does not.
    powers = powers / powers.abs().sqrt().clamp(min=1e-12)
    bins = torch.fft.fftfreq(4 * n, dtype=torch.float64, device=soft.device)
    line = _fitted(powers, 2 * math.pi * bins[torch.fft.fft(powers, 4 * n).abs().argmax(-1)])
    certain = line.clear & (line.slope.abs() > _SURE * line.of_slope) & (line.slope.abs() * n > 4 * symmetry * _SMALL)
    return torch.where(certain, line.slope / symmetry, 0)


def _nearest_phase(soft: Tensor, slope: Tensor, look: Lookup, points: Tensor, symmetry: int) -> Tensor:
    """Return the angle (B,), the nearest to zero of those that the symmetry has, at which symbols are nearest to the points."""
    step = max(1, soft.shape[-1] // _SHOWN)
    few = soft[:, ::step]
    back = Carrier(torch.zeros_like(slope), slope * step, symmetry).turned_back(few)
    angles = (torch.arange(_ANGLES, dtype=torch.float64, device=soft.device) / _ANGLES - 0.5) * 2 * math.pi / symmetry
    apart = torch.stack([_distance(back * torch.polar(torch.ones_like(a), -a), look, points) for a in angles])
    return angles[apart.argmin(0)]


def _distance(soft: Tensor, look: Lookup, points: Tensor) -> Tensor:
    """Return the mean squared distance (B,) to the nearest points, not quite zero."""
    return (soft - points[look.nearest(soft)]).abs().square().mean(-1) + 1e-12


@dataclass(frozen=True)
class _Line:
    """A straight line through the angles of a signal's pieces, (B,) each: radians, and radians a symbol."""

    level: Tensor  # the mean angle
    of_level: Tensor  # its standard deviation
    phase: Tensor  # at the first symbol
    slope: Tensor
    of_slope: Tensor
    clear: Tensor  # whether there is a line: without one, angles spread over the whole circle, by 1.8 radians


def _fitted(powers: Tensor, slope: Tensor) -> _Line:
    """Fit a line to the angles of pieces, after a slope that is nearly right was taken out, so that no angle wraps."""
    count, n = powers.shape
    at = torch.arange(n, dtype=torch.float64, device=powers.device)
    flat = powers * torch.polar(torch.ones_like(at), -slope[:, None] * at)
    size = n // _SEGMENTS
    pieces = flat[:, : size * _SEGMENTS].reshape(count, _SEGMENTS, size).sum(-1)
    middles = (torch.arange(_SEGMENTS, dtype=torch.float64, device=powers.device) + 0.5) * size - 0.5
    base = pieces.sum(-1).angle()
    angles = (pieces * torch.polar(torch.ones_like(base), -base)[:, None]).angle()
    # Pieces behind a burst's end hold noise alone, whose powers cancel: their angles count as little as they add.
    weights = pieces.abs() / pieces.abs().sum(-1, keepdim=True)
    centre = (weights * middles).sum(-1, keepdim=True)
    centred = middles - centre
    mean, spread = (weights * angles).sum(-1), (weights * centred.square()).sum(-1)
    rise = (weights * angles * centred).sum(-1) / spread
    left = angles - mean[:, None] - rise[:, None] * centred
    scatter = (weights * left.square()).sum(-1).mul(_SEGMENTS / (_SEGMENTS - 2)).sqrt()
    number = 1 / weights.square().sum(-1)  # of pieces, as many as count
    level = base + mean
    return _Line(
        level,
        scatter / number.sqrt(),
        level - rise * centre[:, 0],
        slope + rise,
        scatter / (number * spread).sqrt(),
        scatter < 0.6,
    )
