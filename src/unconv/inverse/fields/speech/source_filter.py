"""A voice as source and filter: linear prediction, spectral envelopes, and the excitation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import ShapeError
from unconv.inverse.fields.speech.frames import Times, framed
from unconv.inverse.fields.speech.signal import as_signal, check_rate
from unconv.inverse.operators.fourier import fast_length
from unconv.inverse.solvers.homomorphic import real_cepstrum
from unconv.inverse.solvers.prediction import autocorrelate
from unconv.inverse.solvers.toeplitz import levinson
from unconv.kinds import checks_kinds_but

EnvelopeMethod = Literal["cepstrum", "lpc"]

_LENGTH, _HOP = 0.03, 0.01  # seconds of a frame, and from one to the next
_WHITE_NOISE = 1e-9  # share of lag 0: keeps pure tones from being predicted without error
_ENVELOPE_QUEFRENCY = 0.002  # seconds; below, a cepstrum describes the envelope, since voices are lower than 500 Hz


@dataclass(frozen=True, eq=False)
class Prediction:
    """Linear prediction of frames by the minimum-phase filter A(z) = 1 + a[1] z^-1 + ...

    Attributes:
        coefficients: (..., order + 1), beginning with 1. A silent frame has 1, 0, ..., 0.
        reflection: (..., order), reflection coefficients between -1 and 1.
        gain: (...), square root of the energy of the prediction error, in the frames' units.
    """

    coefficients: Any
    reflection: Any
    gain: Any


@checks_kinds_but("frames")
def lpc(frames: Any, order: int) -> Prediction:
    """Return the linear prediction of frames by the autocorrelation method (LPC).

    Args:
        frames: (..., k), multiplied by a window already if one is wanted.
        order: number of earlier samples that predict a sample, below k. For speech about the rate in kHz, plus 2 to 4.

    Raises:
        ShapeError: an order below 1 or not below k.
        DtypeError, NonFinite: samples that are not real numbers; NaN or infinite samples.

    Source:
        Makhoul, "Linear prediction: a tutorial review" (1975). A white-noise floor of -90 dB is added.
    """
    signal = as_signal("lpc", frames, "frames")
    size = signal.samples.shape[-1]
    if not 1 <= order < size:
        raise ShapeError(f"lpc: order is {order}, but 1 to {size - 1} was needed for frames of {size} samples.")
    prediction = _predicted(signal.double(), order)
    return Prediction(*(signal.like(each.to(signal.samples.dtype)) for each in prediction))


def _predicted(frames: Tensor, order: int) -> tuple[Tensor, Tensor, Tensor]:
    scale = frames.abs().amax(-1, keepdim=True)
    sounding = scale > 0
    unit = torch.where(sounding, frames / torch.where(sounding, scale, 1), 0)
    r = autocorrelate(unit, order + 1)
    # A silent frame has nothing to predict: the recursion gets the autocorrelation of white noise instead of zeros.
    r = torch.where(sounding, r, F.pad(torch.ones_like(r[..., :1]), (0, order)))
    solution = levinson(r, prewhitening=_WHITE_NOISE)
    gain = torch.where(sounding, solution.error[..., -1:].sqrt() * scale, 0)[..., 0]
    return solution.solution, solution.reflection, gain


@dataclass(frozen=True, eq=False)
class Envelope:
    """The smooth spectrum of a recording over time.

    Attributes:
        times: (T,), middles of the frames in seconds.
        frequencies: (F,), Hz, from 0 to half the rate.
        amplitude: (..., T, F), of a frame's spectrum under a Hann window; 0 for silent frames.
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
        method: "cepstrum" smooths log |X| along frequency by keeping quefrencies below 2 ms. "lpc" is an all-pole spectrum,
            which follows the peaks of the harmonics.
        order: of the prediction, for "lpc"; by default the rate in kHz, plus 2.
        points: number of frequencies.

    Raises:
        ShapeError: a recording shorter than a frame; a rate that is not above zero; an order or number of points that does
            not fit.
        DtypeError, NonFinite: samples that are not real numbers; NaN or infinite samples.
    """
    check_rate("envelope", rate)
    if points < 2:
        raise ShapeError(f"envelope: points is {points}, but at least two frequencies were needed.")
    recording = as_signal("envelope", signal)
    frames, times = framed("envelope", recording.double(), rate, _LENGTH, _HOP)
    frames = frames * torch.hann_window(frames.shape[-1], dtype=torch.float64, device=frames.device)
    if method == "lpc":
        amplitude = _by_prediction(frames, _order("envelope", order, rate, frames), points)
    else:
        amplitude = _by_cepstrum(frames, rate, points)
    frequencies = np.linspace(0, rate / 2, points)
    return Envelope(times, frequencies, recording.like(amplitude.to(recording.samples.dtype)))


def _order(where: str, order: int | None, rate: float, frames: Tensor) -> int:
    chosen = round(rate / 1000) + 2 if order is None else order
    if not 1 <= chosen < frames.shape[-1]:
        raise ShapeError(
            f"{where}: order is {chosen}, but 1 to {frames.shape[-1] - 1} was needed, fewer than a frame's samples."
        )
    return chosen


def _by_prediction(frames: Tensor, order: int, points: int) -> Tensor:
    coefficients, _, gain = _predicted(frames, order)
    grid = 2 * (points - 1)
    if grid < order + 1:
        raise ShapeError(f"envelope: points is {points}, but more than half the order of {order} were needed.")
    amplitude: Tensor = gain[..., None] / torch.fft.rfft(coefficients, grid).abs()
    return amplitude


def _by_cepstrum(frames: Tensor, rate: float, points: int) -> Tensor:
    sounding = (frames != 0).any(-1, keepdim=True)
    grid = max(1024, 1 << (4 * frames.shape[-1]).bit_length())
    cepstrum = real_cepstrum(torch.where(sounding, frames, 1.0), grid)
    high = max(2, round(_ENVELOPE_QUEFRENCY * rate))
    # The lifter keeps the lowest quefrencies. The log spectrum is then a sum of few cosines, at any number of points.
    quefrency = torch.arange(high, dtype=frames.dtype, device=frames.device)
    frequency = torch.linspace(0, torch.pi, points, dtype=frames.dtype, device=frames.device)
    twice = torch.where(quefrency > 0, 2.0, 1.0)
    logarithm = (cepstrum[..., :high] * twice) @ torch.cos(quefrency[:, None] * frequency)
    return torch.where(sounding, logarithm.exp(), 0)


@dataclass(frozen=True, eq=False)
class Separated:
    """A recording as an excitation and the filters that turn the excitation into the recording.

    Attributes:
        excitation: (..., n), pulses at the pitch, or noise, in the recording's units.
        coefficients: (..., T, order + 1), A(z) for each block of `hop` samples.
        hop: samples of a block.
    """

    excitation: Any
    coefficients: Any
    hop: int

    def resynthesis(self) -> Any:
        """Return the recording (..., n), exact to rounding."""
        excitation = as_signal("resynthesis", self.excitation)
        filters = as_signal("resynthesis", self.coefficients).double()
        return excitation.like(_synthesised(excitation.double(), filters, self.hop).to(excitation.samples.dtype))


@checks_kinds_but("signal")
def separate(signal: Any, rate: float, order: int | None = None) -> Separated:
    """Separate a voice into its excitation and the filters of its vocal tract, one for each block of 10 ms.

    A block is filtered by A(z) of the 30 ms around it. The filter's memory is the recording itself, so that the recursion with
    the same filters returns the recording exactly.

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
    recording = as_signal("separate", signal)
    hop = max(1, round(_HOP * rate))
    samples, n = recording.double(), recording.samples.shape[-1]
    count = -(-n // hop)
    around = F.pad(samples, (hop, (count + 1) * hop - n)).unfold(-1, 3 * hop, hop)
    window = torch.hamming_window(3 * hop, periodic=False, dtype=torch.float64, device=samples.device)
    filters, _, _ = _predicted(around * window, _order("separate", order, rate, around))
    # Rounded to the type of the result first, so that resynthesis uses the very filters that made the excitation.
    filters = filters.to(recording.samples.dtype)
    excitation = _whitened(samples, filters.double(), hop).to(recording.samples.dtype)
    return Separated(recording.like(excitation), recording.like(filters), hop)


def _whitened(samples: Tensor, filters: Tensor, hop: int) -> Tensor:
    n, order, count = samples.shape[-1], filters.shape[-1] - 1, filters.shape[-2]
    blocks = F.pad(samples, (order, count * hop - n)).unfold(-1, hop + order, hop)
    excitation = torch.zeros_like(blocks[..., order:])
    for back in range(order + 1):
        excitation = excitation + filters[..., back : back + 1] * blocks[..., order - back : order - back + hop]
    return excitation.flatten(-2)[..., :n]


def _synthesised(excitation: Tensor, filters: Tensor, hop: int) -> Tensor:
    """Run the recursion of 1 / A block by block: first the earlier blocks' contribution, then 1 / A within the block."""
    n, order, count = excitation.shape[-1], filters.shape[-1] - 1, filters.shape[-2]
    blocks = F.pad(excitation, (0, count * hop - n)).unfold(-1, hop, hop)
    grid = fast_length(2 * hop)
    # Only the first `hop` samples of 1 / A matter within a block. With these the convolution fits an FFT of 2 hop without
    # wrapping; 1 / A itself is infinite.
    responses = torch.fft.rfft(_impulse_responses(filters, hop), grid)
    output = excitation.new_zeros(*excitation.shape[:-1], order + count * hop)
    for block in range(count):
        a, begin = filters[..., block, :], order + block * hop
        driving = blocks[..., block, :].clone()
        for back in range(1, order + 1):
            reach = min(back, hop)
            driving[..., :reach] -= a[..., back : back + 1] * output[..., begin - back : begin - back + reach]
        spectrum = torch.fft.rfft(driving, grid) * responses[..., block, :]
        output[..., begin : begin + hop] = torch.fft.irfft(spectrum, grid)[..., :hop]
    return output[..., order : order + n]


def _impulse_responses(filters: Tensor, length: int) -> Tensor:
    order = filters.shape[-1] - 1
    response = filters.new_zeros(*filters.shape[:-1], order + length)
    response[..., order] = 1
    reversed_filters = -filters[..., 1:].flip(-1)
    for at in range(order + 1, order + length):
        response[..., at] = (response[..., at - order : at] * reversed_filters).sum(-1)
    return response[..., order:]
