"""Estimate the wavelet from the traces: its spectrum from their autocorrelation, its phase by choice or by a statistic."""

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
_TURNS = 180  # phases that are tried
_FLAT = 0.02  # of the largest power: what is weaker is not made white, where a phase is chosen
_MOST, _RIDGE = 64, 1e-3  # traces to which a wavelet is fitted; of the spikes' largest power
_HELD = 1e-3  # of the largest amplitude, for minimum phase
_CERTAIN = 1.05  # ratio of the kurtosis at the phase chosen to that at the worst, below which nothing is told


@dataclass(frozen=True, eq=False)
class Wavelet:
    """An estimated wavelet.

    Attributes:
        samples: (k,), largest absolute value 1, in the kind the traces came in.
        centre: the sample of it at a reflection's time.
        phase: "zero", "minimum" or "mixed". `rotation`: degrees, of a mixed one from zero phase.
        notes: what was odd, and how far the estimate goes.
    """

    samples: Any
    centre: int
    phase: str
    rotation: float = 0.0
    notes: tuple[str, ...] = ()


@checks_kinds_but("traces")
def estimate_wavelet(traces: Any, length: int, phase: Phase = "zero", *, rounds: int = 0, clipped: str = "keep") -> Wavelet:
    """Estimate the wavelet of traces whose reflectivity is white: its autocorrelation is theirs, up to a factor.

    The autocorrelation, averaged over traces and tapered to `length`, gives the amplitude spectrum. The phase it cannot tell:
    "zero" and "minimum" choose it, "mixed" rotates a zero-phase wavelet by the constant angle at which the traces, made
    white, have the largest kurtosis, since spikes have a larger one than any rotation of them. The sign stays unknown.

    Args:
        traces: (..., n), as `sparse_spikes` takes them.
        rounds: in each of which spikes are found with the wavelet, and the wavelet that fits them best takes its place. They
            mend what the autocorrelation gets wrong, if there are tens of traces; a phase that is far off they do not turn.
        phase: "minimum" needs a spectrum that does not fall to nothing inside its band: it is of no use for a Ricker wavelet.
        length: samples of the wavelet; of zero and mixed phase it is odd, one more than asked for if need be.

    Raises:
        ShapeError: a length that is not between 3 and the traces' own; no sound trace; an unknown phase; rounds below 0.

    Source:
        Robinson & Treitel, "Geophysical Signal Analysis" (1980), ch. 10; Levy & Oldenburg, "Automatic phase correction of
        common-midpoint stacked data" (1987) for the rotation; White, "Maximum kurtosis phase
        correction" (1988) for its reliability.
    """
    given = _admitted(traces, length, phase, rounds, clipped)
    y, said = without_offset(given.sound.double())
    y = y - y.mean(1, keepdim=True)
    # Every trace counts alike, however loud it is.
    y = y / y.square().mean(1, keepdim=True).sqrt()
    half = length // 2 + 1
    # A wavelet's autocorrelation is as long as it is on either side; the taper lets it come to its end.
    correlation = autocorrelate(y, min(length, y.shape[1])).mean(0)
    lags = torch.arange(len(correlation), dtype=torch.float64, device=y.device) / len(correlation)
    tapered = correlation * torch.cos(lags.sub(0.5).clamp(min=0) * pi).square()
    notes = (*given.notes, *([said] if said else []), "the sign of the wavelet cannot be told from the traces")
    zero, grid = _zero_phase(tapered, y.shape[1])
    if phase == "minimum":
        # A spectrum that falls to nothing has a minimum-phase wavelet without end: 60 dB below its peak it is held.
        held = torch.fft.irfft(grid.clamp(min=_HELD * float(grid.max())), 2 * y.shape[1]).roll(y.shape[1])
        return Wavelet(_kind(_fitted(y, minimum_phase_of(held)[:length], 0, rounds), traces), 0, phase, notes=notes)
    angle = 0.0
    if phase == "mixed":
        angle, ratio = _most_kurtosis(y, grid)
        if ratio < _CERTAIN:
            notes = (
                *notes,
                f"kurtosis hardly depends on the phase (a factor of {ratio:.3f}): the rotation is not to be trusted",
            )
    rotated = _rotated(zero, angle)
    middle = len(rotated) // 2
    cut = rotated[middle - (half - 1) : middle + half]
    return Wavelet(_kind(_fitted(y, cut, half - 1, rounds), traces), half - 1, phase, float(np.rad2deg(angle)), notes)


def _admitted(traces: Any, length: int, phase: str, rounds: int, clipped: str) -> Gather:
    """Take the traces, and refuse what no wavelet can be estimated by."""
    if phase not in get_args(Phase):
        raise ShapeError(f"estimate_wavelet: phase is {phase!r}, but 'zero', 'minimum' or 'mixed' was needed.")
    if rounds < 0:
        raise ShapeError(f"estimate_wavelet: rounds is {rounds}, but 0 or more were needed.")
    given = gather("estimate_wavelet", traces, clipped)
    n, sound = given.samples.shape[1], len(given.sound)
    if not 3 <= length <= n or not sound:
        raise ShapeError(
            f"estimate_wavelet: length is {length}, and {sound} of {len(given.samples)} traces of {n} samples are sound; a "
            "length from 3 to that of the traces and at least one sound trace were needed."
        )
    if phase != "minimum" and length // 2 * 2 + 1 > n:
        raise ShapeError(f"estimate_wavelet: length is {length}, and would be {n + 1}, longer than the traces. Ask for less.")
    return given


def _fitted(y: Tensor, wavelet: Tensor, centre: int, rounds: int) -> Tensor:
    """Find spikes, fit the wavelet to them by least squares, and so on; return it with its largest sample at 1."""
    some = y[:: max(1, len(y) // _MOST)].float()
    for _ in range(rounds):
        spikes = sparse_spikes(some, wavelet, centre=centre).spikes.double()
        grid = 2 * y.shape[1]
        of_spikes, of_traces = torch.fft.rfft(spikes, grid), torch.fft.rfft(some.double(), grid)
        power = of_spikes.abs().square().sum(0)
        spectrum = (of_spikes.conj() * of_traces).sum(0) / (power + _RIDGE * power.max())
        wavelet = torch.fft.irfft(spectrum, grid).roll(centre)[: len(wavelet)]
    return wavelet / wavelet.abs().max()


def _zero_phase(correlation: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return the zero-phase wavelet, its middle in the middle, and its amplitude spectrum on the grid of 2n samples."""
    length = 2 * n
    whole = torch.zeros(length, dtype=correlation.dtype, device=correlation.device)
    whole[: len(correlation)] = correlation
    whole[-len(correlation) + 1 :] = correlation[1:].flip(0)
    amplitude = torch.fft.rfft(whole).real.clamp(min=0).sqrt()
    return torch.fft.irfft(amplitude, length).roll(length // 2), amplitude


def _rotated(samples: Tensor, angle: float) -> Tensor:
    """Turn the phase of all frequencies by a constant angle."""
    spectrum = torch.fft.rfft(samples)
    turn = torch.full_like(spectrum, complex(np.cos(angle), np.sin(angle)))
    turn[0] = np.cos(angle)  # the mean has no phase
    rotated: Tensor = torch.fft.irfft(spectrum * turn, len(samples))
    return rotated


def _most_kurtosis(y: Tensor, amplitude: Tensor) -> tuple[float, float]:
    """Return by which angle the wavelet is rotated, and the ratio of the largest kurtosis to the smallest."""
    spectrum = torch.fft.rfft(y, 2 * y.shape[1])
    power = amplitude.square()
    white = spectrum * amplitude / (power + _FLAT * power.max())
    straight = torch.fft.irfft(white, 2 * y.shape[1])[:, : y.shape[1]]
    across = torch.fft.irfft(white * -1j, 2 * y.shape[1])[:, : y.shape[1]]
    angles = torch.arange(_TURNS, dtype=torch.float64) * pi / _TURNS
    found = []
    for angle in angles.tolist():
        # What a wavelet was rotated by is taken back: the traces are turned the other way.
        turned = np.cos(angle) * straight - np.sin(angle) * -across
        found.append(float((turned.pow(4).mean(1) / turned.square().mean(1).square()).mean()))
    best = int(np.argmax(found))
    angle = float(angles[best])
    return (angle - pi if angle > pi / 2 else angle), max(found) / min(found)


def _kind(samples: Tensor, like: Any) -> Any:
    return samples if isinstance(like, Tensor) else samples.cpu().numpy()
