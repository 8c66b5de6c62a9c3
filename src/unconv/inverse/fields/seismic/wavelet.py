"""Wavelet estimation from traces: the spectrum from their autocorrelation, the phase by choice or by kurtosis."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from unconv.errors import ShapeError
from unconv.inverse.fields.gather import Gather, gather, without_offset
from unconv.inverse.fields.seismic.spikes import sparse_spikes
from unconv.inverse.solvers.prediction import autocorrelate
from unconv.inverse.solvers.toeplitz import minimum_phase_of
from unconv.kinds import checks_kinds_but

Phase = Literal["zero", "minimum", "mixed"]
_PHASES = 180  # that are tried
_WHITENING_FLOOR = 0.02  # of the largest power: weaker frequencies are not whitened for the choice of a phase
_MAX_TRACES, _RIDGE = 64, 1e-3  # to which a wavelet is fitted; regularisation of the fit, of the spikes' largest power
_MIN_AMPLITUDE = 1e-3  # of the largest amplitude, for a minimum-phase wavelet
_MIN_RATIO = 1.05  # of the largest kurtosis over all phases to the smallest: below, a note says that the phase is unreliable


@dataclass(frozen=True, eq=False)
class Wavelet:
    """An estimated wavelet.

    Attributes:
        samples: (k,), with largest absolute value 1, in the type of the traces.
        centre: index of the sample at a reflection's time.
        phase: "zero", "minimum" or "mixed".
        rotation: of a mixed-phase wavelet relative to zero phase, in degrees.
        notes: anything unusual, and the limits of the estimate.
    """

    samples: Any
    centre: int
    phase: str
    rotation: float = 0.0
    notes: tuple[str, ...] = ()


@checks_kinds_but("traces")
def estimate_wavelet(traces: Any, length: int, phase: Phase = "zero", *, rounds: int = 0, clipped: str = "keep") -> Wavelet:
    """Return the wavelet of traces by statistical estimation, for reflectivity that is white.

    The autocorrelation of white reflectivity is a spike, so that of the traces is the wavelet's, up to a factor. Averaged over
    traces and tapered to `length`, it gives the amplitude spectrum, but not the phase. "zero" and "minimum" assume one. "mixed"
    rotates a zero-phase wavelet by the constant angle for which the whitened traces have the largest kurtosis, because spikes
    have a larger kurtosis than any rotation of them. The sign stays unknown.

    Args:
        traces: (..., n), as for `sparse_spikes`.
        length: samples of the wavelet. A zero-phase or mixed-phase wavelet gets one more if `length` is even.
        phase: "zero", "minimum" or "mixed". "minimum" needs a spectrum without zeros inside its band; it does not suit a Ricker
            wavelet.
        rounds: number of refinements. Each finds the spikes with the current wavelet, then fits the wavelet to them by least
            squares. With tens of traces this corrects errors of the autocorrelation, but not a phase that is far off.
        clipped: "keep" leaves clipped traces out; "use" includes them.

    Raises:
        ShapeError: a length below 3 or longer than the traces; no usable trace; an unknown phase; negative rounds.

    Source:
        Robinson & Treitel, "Geophysical Signal Analysis" (1980), ch. 10; Levy & Oldenburg, "Automatic phase correction of
        common-midpoint stacked data" (1987) for the rotation; White, "Maximum kurtosis phase
        correction" (1988) for its reliability.
    """
    section = _checked(traces, length, phase, rounds, clipped)
    y, offset_note = without_offset(section.sound.double())
    y = y - y.mean(1, keepdim=True)
    # Normalised, so that loud traces do not dominate the mean.
    y = y / y.square().mean(1, keepdim=True).sqrt()
    half = length // 2 + 1
    # The autocorrelation of a wavelet of `length` samples ends at that lag; the taper removes the noise towards it.
    correlation = autocorrelate(y, min(length, y.shape[1])).mean(0)
    lags = torch.arange(len(correlation), dtype=torch.float64, device=y.device) / len(correlation)
    tapered = correlation * torch.cos(lags.sub(0.5).clamp(min=0) * pi).square()
    notes = (*section.notes, *([offset_note] if offset_note else []), "the traces do not determine the sign of the wavelet")
    zero, amplitude = _zero_phase(tapered, y.shape[1])
    if phase == "minimum":
        # The minimum-phase wavelet of a spectrum with zeros never ends: the floor is 60 dB below the peak.
        floored = torch.fft.irfft(amplitude.clamp(min=_MIN_AMPLITUDE * float(amplitude.max())), 2 * y.shape[1]).roll(y.shape[1])
        return Wavelet(_like(_refined(y, minimum_phase_of(floored)[:length], 0, rounds), traces), 0, phase, notes=notes)
    angle = 0.0
    if phase == "mixed":
        angle, ratio = _rotation_by_kurtosis(y, amplitude)
        if ratio < _MIN_RATIO:
            notes = (
                *notes,
                f"the kurtosis hardly depends on the phase (a factor of {ratio:.3f}): do not rely on the rotation",
            )
    rotated = _rotated(zero, angle)
    middle = len(rotated) // 2
    cut = rotated[middle - (half - 1) : middle + half]
    return Wavelet(_like(_refined(y, cut, half - 1, rounds), traces), half - 1, phase, float(np.rad2deg(angle)), notes)


def _checked(traces: Any, length: int, phase: str, rounds: int, clipped: str) -> Gather:
    """Return the traces, and refuse arguments that no wavelet can be estimated with."""
    if phase not in get_args(Phase):
        raise ShapeError(f"estimate_wavelet: phase is {phase!r}, but 'zero', 'minimum' or 'mixed' was needed.")
    if rounds < 0:
        raise ShapeError(f"estimate_wavelet: rounds is {rounds}, but 0 or more was needed.")
    section = gather("estimate_wavelet", traces, clipped)
    n, sound = section.samples.shape[1], len(section.sound)
    if not 3 <= length <= n or not sound:
        raise ShapeError(
            f"estimate_wavelet: length is {length}, and {sound} of {len(section.samples)} traces of {n} samples can be used, "
            f"but a length from 3 to {n} and at least one usable trace were needed. Pass another length, or other traces."
        )
    if phase != "minimum" and length // 2 * 2 + 1 > n:
        raise ShapeError(
            f"estimate_wavelet: length is {length}, raised to an odd {n + 1}, but the traces have {n} samples. Pass {n - 1}."
        )
    return section


def _refined(y: Tensor, wavelet: Tensor, centre: int, rounds: int) -> Tensor:
    """Return the wavelet, refined by alternating between spikes and a least-squares fit, with its largest sample at 1."""
    some = y[:: max(1, len(y) // _MAX_TRACES)].float()
    for _ in range(rounds):
        spikes = sparse_spikes(some, wavelet, centre=centre).spikes.double()
        grid = 2 * y.shape[1]
        of_spikes, of_traces = torch.fft.rfft(spikes, grid), torch.fft.rfft(some.double(), grid)
        power = of_spikes.abs().square().sum(0)
        spectrum = (of_spikes.conj() * of_traces).sum(0) / (power + _RIDGE * power.max())
        wavelet = torch.fft.irfft(spectrum, grid).roll(centre)[: len(wavelet)]
    return wavelet / wavelet.abs().max()


def _zero_phase(correlation: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return the zero-phase wavelet, centred on a grid of 2n samples, and its amplitude spectrum."""
    length = 2 * n
    two_sided = torch.zeros(length, dtype=correlation.dtype, device=correlation.device)
    two_sided[: len(correlation)] = correlation
    two_sided[-len(correlation) + 1 :] = correlation[1:].flip(0)
    # Its spectrum is the power spectrum; the taper may have made it slightly negative.
    amplitude = torch.fft.rfft(two_sided).real.clamp(min=0).sqrt()
    return torch.fft.irfft(amplitude, length).roll(length // 2), amplitude


def _rotated(samples: Tensor, angle: float) -> Tensor:
    """Return samples with the phase of every frequency rotated by a constant angle."""
    spectrum = torch.fft.rfft(samples)
    factors = torch.full_like(spectrum, complex(np.cos(angle), np.sin(angle)))
    factors[0] = np.cos(angle)  # the mean has no phase
    rotated: Tensor = torch.fft.irfft(spectrum * factors, len(samples))
    return rotated


def _rotation_by_kurtosis(y: Tensor, amplitude: Tensor) -> tuple[float, float]:
    """Return the angle by which the wavelet is rotated, and the ratio of the largest kurtosis to the smallest."""
    spectrum = torch.fft.rfft(y, 2 * y.shape[1])
    power = amplitude.square()
    white = spectrum * amplitude / (power + _WHITENING_FLOOR * power.max())
    # Any rotation is a combination of the traces and their Hilbert transform: two transforms serve all angles.
    whitened = torch.fft.irfft(white, 2 * y.shape[1])[:, : y.shape[1]]
    hilbert = torch.fft.irfft(white * -1j, 2 * y.shape[1])[:, : y.shape[1]]
    angles = torch.arange(_PHASES, dtype=torch.float64) * pi / _PHASES
    kurtosis = []
    for angle in angles.tolist():
        # The traces are rotated back, by minus the angle of the wavelet.
        rotated = np.cos(angle) * whitened - np.sin(angle) * -hilbert
        kurtosis.append(float((rotated.pow(4).mean(1) / rotated.square().mean(1).square()).mean()))
    best = int(np.argmax(kurtosis))
    angle = float(angles[best])
    return (angle - pi if angle > pi / 2 else angle), max(kurtosis) / min(kurtosis)


def _like(samples: Tensor, like: Any) -> Any:
    return samples if isinstance(like, Tensor) else samples.cpu().numpy()
