"""The reference pulse, cut out of a separate echo: that of a flat wall, or the strongest one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unconv.errors import ShapeError
from unconv.inverse.fields.gather import flat, gather
from unconv.kinds import checks_kinds_but

_END = 0.02  # of the envelope's maximum: where an echo ends
_TAPER = 0.1  # of the pulse's length, at either end
_MAX_WIDTHS = 6.0  # a longer echo, in full widths at half maximum of its envelope, would include other echoes


@checks_kinds_but("ascan")
def pulse_of_echo(ascan: Any, rate: float, gate: tuple[float, float] | None = None, start: float = 0.0) -> Tensor:
    """Return the pulse of the strongest echo, (k,), float64, with the maximum of its envelope at k // 2.

    The echo is the strongest of all scans without clipped samples, or of all scans if each has some. It is cut where its
    envelope falls below 2 % of the maximum, and tapered.

    Args:
        ascan: (..., n), one A-scan or several.
        rate: samples a second.
        gate: range of times in seconds for the middle of the echo. By default the entire scan.
        start: seconds of the first sample.

    Raises:
        ShapeError: no usable scan; no echo in the gate; an echo of a single sample.
    """
    scans = gather("pulse_of_echo", ascan, "use")
    y = scans.sound.double()
    if not len(y):
        raise ShapeError("pulse_of_echo: all scans are dead or have NaN, but one with an echo was needed. Pass other scans.")
    y = y - y.median(-1, keepdim=True).values
    envelope = envelope_of(y)
    first, last = gate_samples("pulse_of_echo", gate, rate, start, y.shape[-1])
    inside = envelope[:, first:last].clone()
    # A clipped echo has lost its shape.
    clipped = flat(scans.sound).any(1)
    if bool((~clipped).any()):
        inside[clipped] = 0
    if not inside.numel() or not float(inside.max()) > 0:
        raise ShapeError("pulse_of_echo: the gate holds no echo, but one was needed. Pass another gate, or the pulse itself.")
    row, sample = divmod(int(inside.flatten().argmax()), inside.shape[1])
    return _cut(y[row], envelope[row], first + sample)


def _cut(y: Tensor, envelope: Tensor, at: int) -> Tensor:
    """Return the echo whose envelope has its maximum at a sample, with tapered ends."""
    high = float(envelope[at])
    longest = max(4, round(_MAX_WIDTHS * _width(envelope, at, high / 2) / 2))
    before, after = _decay(envelope.flip(0), len(y) - 1 - at, high, longest), _decay(envelope, at, high, longest)
    reach = max(before, after)
    if reach < 1:
        raise ShapeError(
            "pulse_of_echo: the echo has a single sample, but a pulse of several was needed. Pass the pulse itself."
        )
    # Padded to the same length on both sides, so that the maximum is in the middle.
    pulse = torch.zeros(2 * reach + 1, dtype=torch.float64, device=y.device)
    low, high_end = max(0, at - before), min(len(y), at + after + 1)
    piece = y[low:high_end].clone()
    edge = max(1, round(_TAPER * len(piece)))
    ramp = torch.sin(torch.linspace(0, torch.pi / 2, edge + 1, dtype=torch.float64, device=y.device)[1:]).square()
    piece[:edge] *= ramp
    piece[-edge:] *= ramp.flip(0)
    pulse[low - at + reach : high_end - at + reach] = piece
    return pulse


def _width(envelope: Tensor, at: int, level: float) -> int:
    """Return the number of samples around one for which the envelope stays above a level."""
    below = envelope < level
    after, before = below[at:].nonzero().flatten(), below[: at + 1].flip(0).nonzero().flatten()
    return (int(after[0]) if len(after) else len(envelope) - at) + (int(before[0]) if len(before) else at)


def _decay(envelope: Tensor, at: int, high: float, longest: int) -> int:
    """Return the number of samples from one to where the echo ends: at most `longest`, and at most those there are."""
    ahead = envelope[at : at + longest + 1]
    quiet = (ahead < _END * high).nonzero().flatten()
    return int(quiet[0]) if len(quiet) else len(ahead) - 1


def envelope_of(y: Tensor) -> Tensor:
    """Return the envelope (..., n): the magnitude of the analytic signal."""
    # Twice the length, so that the ends do not wrap into each other.
    n = y.shape[-1]
    spectrum = torch.fft.fft(y, 2 * n)
    spectrum[..., n + 1 :] = 0
    spectrum[..., 1:n] *= 2
    envelope: Tensor = torch.fft.ifft(spectrum)[..., :n].abs()
    return envelope


def gate_samples(where: str, gate: tuple[float, float] | None, rate: float, start: float, n: int) -> tuple[int, int]:
    """Return the first sample of a gate in seconds, and the one after the last.

    Raises:
        ShapeError: a rate that is not above zero, or a gate with fewer than two samples of the scan.
    """
    if not 0 < rate < float("inf"):
        raise ShapeError(f"{where}: rate is {rate}, but a number of samples a second above zero was needed.")
    if gate is None:
        return 0, n
    if not all(abs(seconds) < float("inf") for seconds in gate):
        raise ShapeError(f"{where}: gate is {gate[0]} to {gate[1]} s, but two finite times were needed.")
    begin, end = (round((seconds - start) * rate) for seconds in gate)
    first, last = max(0, begin), min(n, end + 1)
    if last - first < 2:
        end_time = start + (n - 1) / rate
        raise ShapeError(
            f"{where}: gate is {gate[0]:g} to {gate[1]:g} s, but the scan lasts from {start:g} to {end_time:g} s. Pass two "
            "ascending times inside the scan."
        )
    return first, last
