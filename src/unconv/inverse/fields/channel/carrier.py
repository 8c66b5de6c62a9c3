"""Estimate the carrier phase and frequency offset of equalised symbols, without knowing the symbols."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from unconv.inverse.fields.channel.constellations import Constellation
from unconv.inverse.fields.channel.lookup import Lookup

_SEGMENTS = 16  # of a signal, whose phases are compared
_MIN_SYMBOLS = 64  # below which no phase is estimated
_ANGLES = 48  # tried within one period of the constellation's rotational symmetry
_SAMPLED = 4096  # symbols, at most, that each angle is tried with
_ROUNDS = 3  # of fitting a line to the phase errors of decisions
_MIN_GAIN = 20.0  # log-likelihood ratio: by chance, two parameters gain as much once in 10^8
_SIGNIFICANT = 5.0  # standard deviations beyond which a phase or a slope is not chance
_NEGLIGIBLE = 0.02  # radians: an error of less than 0.04 % of the power, which no decision notices


@dataclass(frozen=True)
class Carrier:
    """A carrier that rotates symbol k by phase + slope * k, in radians.

    Attributes:
        phase, slope: (B,), zero where not significant. The phase is known up to the symmetry of the constellation.
        symmetry: number of rotations that map the constellation onto itself: 2 for BPSK, 4 for QAM.
    """

    phase: Tensor
    slope: Tensor
    symmetry: int

    @property
    def turns(self) -> bool:
        """Whether there is any rotation to remove."""
        return bool((self.phase != 0).any() or (self.slope != 0).any())

    def turned_back(self, samples: Tensor, samples_per_symbol: int = 1) -> Tensor:
        """Return the samples (B, n) with the carrier's rotation removed."""
        time = torch.arange(samples.shape[-1], dtype=self.phase.dtype, device=samples.device) / samples_per_symbol
        angle = self.phase[:, None] + self.slope[:, None] * time
        return samples * torch.polar(torch.ones_like(angle), -angle).to(samples.dtype)


def estimate_carrier(soft: Tensor, table: Constellation, anchored: bool = False) -> Carrier:
    """Estimate carrier phase and frequency offset from symbols (B, N) of mean power 1 by the M-th power method.

    The M-th power, M being the constellation's rotational symmetry, removes the modulation and leaves a spectral line at M
    times the frequency offset. The phase is then the one of least distance to the points. Decisions refine both, since the
    powers of QAM symbols scatter. A carrier is reported only where removing it brings the symbols nearer to the points by more
    than chance explains.

    Args:
        anchored: the first symbols are known not to be rotated, since a training sequence was aligned to them: only a frequency
            offset is searched for.

    Source:
        Viterbi & Viterbi, "Nonlinear estimation of PSK-modulated carrier phase" (1983); Rife &
        Boorstyn, "Single-tone parameter estimation from discrete-time observations" (1974), for the line.
    """
    symmetry, scale = len(table.rotations), math.sqrt(table.power)
    none = soft.new_zeros(len(soft), dtype=torch.float64).real
    points = table.points.to(soft.device, torch.complex128) / scale
    if soft.shape[-1] < _MIN_SYMBOLS or not soft.is_complex() or abs(points.pow(symmetry).mean()) < 1e-3:
        return Carrier(none, none.clone(), symmetry)
    soft = soft.to(torch.complex128)
    lookup = Lookup(points)
    slope = _frequency(soft, points, symmetry)
    carrier = Carrier(none.clone() if anchored else _nearest_phase(soft, slope, lookup, points, symmetry), slope, symmetry)
    for _ in range(_ROUNDS):
        # The phase errors of decisions lie on a line: without a significant slope only its mean is corrected.
        back = carrier.turned_back(soft)
        line = _phase_line(back * points[lookup.nearest(back)].conj(), torch.zeros_like(none))
        drifts = line.slope.abs() > _SIGNIFICANT * line.slope_deviation
        phase = carrier.phase + torch.where(drifts, line.phase, line.level)
        carrier = Carrier(phase, carrier.slope + drifts * line.slope, symmetry)
    before, after = _distance(soft, lookup, points), _distance(carrier.turned_back(soft), lookup, points)
    gain = soft.shape[-1] * (before.log() - after.log())
    large = (carrier.phase.abs() > _NEGLIGIBLE) | (carrier.slope.abs() * soft.shape[-1] > 2 * _NEGLIGIBLE)
    rotated = (gain > _MIN_GAIN) & large
    accepted = rotated & (carrier.slope != 0) if anchored else rotated
    return Carrier(torch.where(accepted, carrier.phase, 0), torch.where(accepted, carrier.slope, 0), symmetry)


def _frequency(soft: Tensor, points: Tensor, symmetry: int) -> Tensor:
    """Return the frequency offset in radians per symbol (B,), zero where the spectral line of the power is not clear."""
    n = soft.shape[-1]
    powers = soft.pow(symmetry) * points.pow(symmetry).mean().conj()
    # The outer points of QAM dominate this power. Its magnitude says nothing about the phase: the root evens out the points.
    powers = powers / powers.abs().sqrt().clamp(min=1e-12)
    bins = torch.fft.fftfreq(4 * n, dtype=torch.float64, device=soft.device)
    line = _phase_line(powers, 2 * math.pi * bins[torch.fft.fft(powers, 4 * n).abs().argmax(-1)])
    certain = (
        line.clear
        & (line.slope.abs() > _SIGNIFICANT * line.slope_deviation)
        & (line.slope.abs() * n > 4 * symmetry * _NEGLIGIBLE)
    )
    return torch.where(certain, line.slope / symmetry, 0)


def _nearest_phase(soft: Tensor, slope: Tensor, lookup: Lookup, points: Tensor, symmetry: int) -> Tensor:
    """Return the phase (B,) of least distance between symbols and points, in the symmetry's period around zero."""
    step = max(1, soft.shape[-1] // _SAMPLED)
    few = soft[:, ::step]
    back = Carrier(torch.zeros_like(slope), slope * step, symmetry).turned_back(few)
    angles = (torch.arange(_ANGLES, dtype=torch.float64, device=soft.device) / _ANGLES - 0.5) * 2 * math.pi / symmetry
    distances = torch.stack([_distance(back * torch.polar(torch.ones_like(a), -a), lookup, points) for a in angles])
    return angles[distances.argmin(0)]


def _distance(soft: Tensor, lookup: Lookup, points: Tensor) -> Tensor:
    """Return the mean squared distance (B,) to the nearest points, kept above zero for its logarithm."""
    return (soft - points[lookup.nearest(soft)]).abs().square().mean(-1) + 1e-12


@dataclass(frozen=True)
class _Line:
    """A straight line through the phases of a signal's segments, (B,) each, in radians and radians per symbol."""

    level: Tensor  # the mean phase
    level_deviation: Tensor
    phase: Tensor  # at the first symbol
    slope: Tensor
    slope_deviation: Tensor
    clear: Tensor  # whether there is a line: without one, phases are uniform, with a standard deviation of 1.8 radians


def _phase_line(powers: Tensor, slope: Tensor) -> _Line:
    """Fit a line to the phases of segments, after removing an approximate slope, so that no phase wraps."""
    count, n = powers.shape
    time = torch.arange(n, dtype=torch.float64, device=powers.device)
    flat = powers * torch.polar(torch.ones_like(time), -slope[:, None] * time)
    size = n // _SEGMENTS
    segments = flat[:, : size * _SEGMENTS].reshape(count, _SEGMENTS, size).sum(-1)
    middles = (torch.arange(_SEGMENTS, dtype=torch.float64, device=powers.device) + 0.5) * size - 0.5
    base = segments.sum(-1).angle()
    angles = (segments * torch.polar(torch.ones_like(base), -base)[:, None]).angle()
    # Segments after a burst's end hold noise alone, whose powers cancel in the sum: they get little weight by themselves.
    weights = segments.abs() / segments.abs().sum(-1, keepdim=True)
    centre = (weights * middles).sum(-1, keepdim=True)
    centred = middles - centre
    mean, spread = (weights * angles).sum(-1), (weights * centred.square()).sum(-1)
    rise = (weights * angles * centred).sum(-1) / spread
    left = angles - mean[:, None] - rise[:, None] * centred
    scatter = (weights * left.square()).sum(-1).mul(_SEGMENTS / (_SEGMENTS - 2)).sqrt()
    number = 1 / weights.square().sum(-1)  # effective number of segments
    level = base + mean
    return _Line(
        level,
        scatter / number.sqrt(),
        level - rise * centre[:, 0],
        slope + rise,
        scatter / (number * spread).sqrt(),
        scatter < 0.6,
    )
