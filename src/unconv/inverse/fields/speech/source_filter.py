"""A voice as source and filter: linear prediction, spectral envelopes, and what is left to excite them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import ShapeError
from unconv.inverse.fields.speech.frames import Times, framed
from unconv.inverse.fields.speech.signal import check_rate, taken
from unconv.inverse.operators.fourier import fast_length
from unconv.inverse.solvers.homomorphic import real_cepstrum
from unconv.inverse.solvers.prediction import autocorrelate
from unconv.inverse.solvers.toeplitz import levinson
from unconv.kinds import checks_kinds_but

EnvelopeMethod = Literal["cepstrum", "lpc"]

_LENGTH, _HOP = 0.03, 0.01  # seconds of a frame, and between two
_WHITE = 1e-9  # share of white noise that keeps pure tones from being predicted without error
_PITCHLESS = 0.002  # seconds of quefrency below which a cepstrum is the envelope's: voices are lower than 500 Hz


@dataclass(frozen=True, eq=False)
class Prediction:
    """Linear prediction of frames: A(z) = 1 + a[1] z^-1 + ..., which is of minimum phase.

    Attributes:
        coefficients: (..., order + 1), 1 first. A frame of silence has 1, 0, ..., 0.
        reflection: (..., order), between -1 and 1.
        gain: (...), the square root of what is left of a frame's energy, in the frames' units.
    """

    coefficients: Any
    reflection: Any
    gain: Any


@checks_kinds_but("frames")
def lpc(frames: Any, order: int) -> Prediction:
    """Predict each sample of frames from those before it, by the autocorrelation method.

    Args:
        frames: (..., k), windowed already where that is wanted.
        order: samples that are looked back, below k. About the rate in kHz, plus 2 to 4, for speech.

    Raises:
        ShapeError: an order below 1 or not below k. DtypeError, NonFinite: no real numbers; NaN or infinite samples.

    Source:
        Makhoul, "Linear prediction: a tutorial review" (1975); a white-noise floor of -90 dB is added.
    """
    given = taken("lpc", frames, "frames")
    if not 1 <= order < given.samples.shape[-1]:
        raise ShapeError(
            f"lpc: order is {order}, but 1 to {given.samples.shape[-1] - 1} was needed, for frames of that length."
        )
    made = _predicted(given.double(), order)
    kind = given.samples.dtype
    return Prediction(*(given.like(each.to(kind)) for each in made))


def _predicted(frames: Tensor, order: int) -> tuple[Tensor, Tensor, Tensor]:
    scale = frames.abs().amax(-1, keepdim=True)
    sounding = scale > 0
    unit = torch.where(sounding, frames / torch.where(sounding, scale, 1), 0)
    r = autocorrelate(unit, order + 1)
    # Silence is predicted by nothing: the recursion is given white noise in its place.
    r = torch.where(sounding, r, F.pad(torch.ones_like(r[..., :1]), (0, order)))
    solved = levinson(r, prewhitening=_WHITE)
    gain = torch.where(sounding, solved.error[..., -1:].sqrt() * scale, 0)[..., 0]
    return solved.solution, solved.reflection, gain


@dataclass(frozen=True, eq=False)
class Envelope:
    """The smooth spectrum of a recording over time.

    Attributes:
        times: (T,), seconds of the frames' middles.
        frequencies: (F,), Hz, 0 to half the rate.
        amplitude: (..., T, F), of a frame's spectrum under a Hann window; 0 where there is silence.
    """

    times: Times
    frequencies: Times
    amplitude: Any


@checks_kinds_but("signal")
def envelope(
    signal: Any, rate: float, method: EnvelopeMethod = "cepstrum", *, order: int | None = None, points: int = 257
) -> Envelope:
    """Return the spectral envelope of a voice: its formants, without the harmonics of its pitch.

    Args:
        signal: (..., n), at least 30 ms.
        rate: samples a second.
        method: "cepstrum": the mean of log |X| along frequency, from quefrencies below 2 ms; "lpc": an all-pole spectrum, which
            goes along the harmonics' tops.
        order: of "lpc"; by default the rate in kHz, plus 2.
        points: frequencies.

    Raises:
        ShapeError: a recording shorter than a frame, a rate or an order that does not fit. DtypeError, NonFinite: no real
            numbers; NaN or infinite samples.
    """
    check_rate("envelope", rate)
    if points < 2:
        raise ShapeError(f"envelope: points is {points}, but two frequencies or more were needed.")
    given = taken("envelope", signal)
    frames, times = framed("envelope", given.double(), rate, _LENGTH, _HOP)
    frames = frames * torch.hann_window(frames.shape[-1], dtype=torch.float64, device=frames.device)
    made = _by_prediction(frames, _order("envelope", order, rate, frames), points) if method == "lpc" else None
    made = _by_cepstrum(frames, rate, points) if made is None else made
    frequencies = np.linspace(0, rate / 2, points)
    return Envelope(times, frequencies, given.like(made.to(given.samples.dtype)))


def _order(where: str, order: int | None, rate: float, frames: Tensor) -> int:
    chosen = round(rate / 1000) + 2 if order is None else order
    if not 1 <= chosen < frames.shape[-1]:
        raise ShapeError(f"{where}: order is {chosen}, but 1 to {frames.shape[-1] - 1} was needed, below a frame's samples.")
    return chosen


def _by_prediction(frames: Tensor, order: int, points: int) -> Tensor:
    coefficients, _, gain = _predicted(frames, order)
    grid = 2 * (points - 1)
    if grid < order + 1:
        raise ShapeError(f"envelope: points is {points}, but more than half the order, {order}, were needed.")
    made: Tensor = gain[..., None] / torch.fft.rfft(coefficients, grid).abs()
    return made


def _by_cepstrum(frames: Tensor, rate: float, points: int) -> Tensor:
    sounding = (frames != 0).any(-1, keepdim=True)
    grid = max(1024, 1 << (4 * frames.shape[-1]).bit_length())
    cepstrum = real_cepstrum(torch.where(sounding, frames, 1.0), grid)
    high = max(2, round(_PITCHLESS * rate))
    # A lifter that keeps the lowest quefrencies, then the spectrum at any number of points as a sum of few cosines.
    quefrency = torch.arange(high, dtype=frames.dtype, device=frames.device)
    frequency = torch.linspace(0, torch.pi, points, dtype=frames.dtype, device=frames.device)
    twice = torch.where(quefrency > 0, 2.0, 1.0)
    logarithm = (cepstrum[..., :high] * twice) @ torch.cos(quefrency[:, None] * frequency)
    return torch.where(sounding, logarithm.exp(), 0)


@dataclass(frozen=True, eq=False)
class Separated:
    """A recording as an excitation and the filters that make it of that.

    Attributes:
        excitation: (..., n): pulses of the pitch, or noise; in the recording's units.
        coefficients: (..., T, order + 1), A(z) of each block of `hop` samples.
        hop: samples of a block.
    """

    excitation: Any
    coefficients: Any
    hop: int

    def resynthesis(self) -> Any:
        """Return the recording (..., n), to rounding."""
        given = taken("resynthesis", self.excitation)
        filters = taken("resynthesis", self.coefficients).double()
        return given.like(_synthesised(given.double(), filters, self.hop).to(given.samples.dtype))


@checks_kinds_but("signal")
def separate(signal: Any, rate: float, order: int | None = None) -> Separated:
    """Separate a voice into its source and the filter of its throat and mouth, block by block of 10 ms.

    Each block is filtered by A(z) of the 30 ms around it, with the samples before it as they are, so that the recursion with
    the same filters gives them back exactly.

    Args:
        signal: (..., n).
        rate: samples a second.
        order: of the prediction; by default the rate in kHz, plus 2.

    Raises:
        ShapeError, DtypeError, NonFinite: as `envelope`.

    Source:
        Atal & Hanauer, "Speech analysis and synthesis by linear prediction of the speech wave" (1971).
    """
    check_rate("separate", rate)
    given = taken("separate", signal)
    hop = max(1, round(_HOP * rate))
    samples, n = given.double(), given.samples.shape[-1]
    count = -(-n // hop)
    around = F.pad(samples, (hop, (count + 1) * hop - n)).unfold(-1, 3 * hop, hop)
    window = torch.hamming_window(3 * hop, periodic=False, dtype=torch.float64, device=samples.device)
    filters, _, _ = _predicted(around * window, _order("separate", order, rate, around))
    # In the type in which they are handed out, so that whoever resynthesises has the same filters.
    filters = filters.to(given.samples.dtype)
    excitation = _whitened(samples, filters.double(), hop).to(given.samples.dtype)
    return Separated(given.like(excitation), given.like(filters), hop)


def _whitened(samples: Tensor, filters: Tensor, hop: int) -> Tensor:
    n, order, count = samples.shape[-1], filters.shape[-1] - 1, filters.shape[-2]
    blocks = F.pad(samples, (order, count * hop - n)).unfold(-1, hop + order, hop)
    total = torch.zeros_like(blocks[..., order:])
    for back in range(order + 1):
        total = total + filters[..., back : back + 1] * blocks[..., order - back : order - back + hop]
    return total.flatten(-2)[..., :n]


def _synthesised(excitation: Tensor, filters: Tensor, hop: int) -> Tensor:
    """Run the recursion block by block: what the samples before a block have to do with it, then 1 / A within it."""
    n, order, count = excitation.shape[-1], filters.shape[-1] - 1, filters.shape[-2]
    blocks = F.pad(excitation, (0, count * hop - n)).unfold(-1, hop, hop)
    grid = fast_length(2 * hop)
    # The first `hop` samples of 1 / A: a longer FFT would not see its wrapped tail end any sooner.
    responses = torch.fft.rfft(_impulse_responses(filters, hop), grid)
    made = excitation.new_zeros(*excitation.shape[:-1], order + count * hop)
    for block in range(count):
        a, begin = filters[..., block, :], order + block * hop
        driven = blocks[..., block, :].clone()
        for back in range(1, order + 1):
            reach = min(back, hop)
            driven[..., :reach] -= a[..., back : back + 1] * made[..., begin - back : begin - back + reach]
        spectrum = torch.fft.rfft(driven, grid) * responses[..., block, :]
        made[..., begin : begin + hop] = torch.fft.irfft(spectrum, grid)[..., :hop]
    return made[..., order : order + n]


def _impulse_responses(filters: Tensor, length: int) -> Tensor:
    order = filters.shape[-1] - 1
    made = filters.new_zeros(*filters.shape[:-1], order + length)
    made[..., order] = 1
    turned = -filters[..., 1:].flip(-1)
    for at in range(order + 1, order + length):
        made[..., at] = (made[..., at - order : at] * turned).sum(-1)
    return made[..., order:]
