"""The pulse, taken from an echo that stands alone: of a flat wall, or the strongest there is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unconv.errors import ShapeError
from unconv.inverse.fields.gather import flat, gather
from unconv.kinds import checks_kinds_but

_QUIET = 0.02  # of the envelope's largest value: where an echo ends
_TAPER = 0.1  # of the pulse's length, at either end
_LONGEST = 6.0  # times the width of the envelope at half its height: an echo that goes on longer has others in it


@checks_kinds_but("ascan")
def pulse_of_echo(ascan: Any, rate: float, gate: tuple[float, float] | None = None, start: float = 0.0) -> Tensor:
    """Return the pulse of the strongest echo: (k,), float64, its envelope's largest value at k // 2.

    It is the strongest echo of all scans that is not clipped, from where its envelope rises above 2 % to where it falls below.

    Args:
        ascan: (..., n), one A-scan or several.
        rate: samples a second.
        gate: seconds between which the echo's middle stands; by default anywhere.
        start: seconds of the first sample.

    Raises:
        ShapeError: no sound scan, none with an echo there, or one that does not fit into the scan.
    """
    given = gather("pulse_of_echo", ascan, "use")
    y = given.sound.double()
    if not len(y):
        raise ShapeError("pulse_of_echo: no scan is sound, but an echo of one was needed. Pass the pulse, or other scans.")
    y = y - y.median(-1, keepdim=True).values
    envelope = envelope_of(y)
    first, last = gate_samples("pulse_of_echo", gate, rate, start, y.shape[-1])
    inside = envelope[:, first:last].clone()
    # What is clipped has lost its shape, and what lies at the scan's end its tail.
    clipped = flat(given.sound).any(1)
    if bool((~clipped).any()):
        inside[clipped] = 0
    if not inside.numel() or not float(inside.max()) > 0:
        raise ShapeError("pulse_of_echo: there is no echo in the gate. Choose another one, or pass the pulse.")
    row, at = divmod(int(inside.flatten().argmax()), inside.shape[1])
    return _cut(y[row], envelope[row], first + at)


def _cut(y: Tensor, envelope: Tensor, at: int) -> Tensor:
    """Cut out the echo whose envelope is largest at a sample, its ends tapered."""
    high = float(envelope[at])
    longest = max(4, round(_LONGEST * _width(envelope, at, high / 2) / 2))
    before, after = _until(envelope.flip(0), len(y) - 1 - at, high, longest), _until(envelope, at, high, longest)
    reach = max(before, after)
    if reach < 1:
        raise ShapeError("pulse_of_echo: the echo is a single sample, but a pulse of several was needed. Pass the pulse.")
    made = torch.zeros(2 * reach + 1, dtype=torch.float64, device=y.device)
    low, high_end = max(0, at - before), min(len(y), at + after + 1)
    piece = y[low:high_end].clone()
    edge = max(1, round(_TAPER * len(piece)))
    ramp = torch.sin(torch.linspace(0, torch.pi / 2, edge + 1, dtype=torch.float64, device=y.device)[1:]).square()
    piece[:edge] *= ramp
    piece[-edge:] *= ramp.flip(0)
    made[low - at + reach : high_end - at + reach] = piece
    return made


def _width(envelope: Tensor, at: int, level: float) -> int:
    """Return over how many samples around one the envelope stays above a level."""
    below = envelope < level
    after, before = below[at:].nonzero().flatten(), below[: at + 1].flip(0).nonzero().flatten()
    return (int(after[0]) if len(after) else len(envelope) - at) + (int(before[0]) if len(before) else at)


def _until(envelope: Tensor, at: int, high: float, longest: int) -> int:
    """Return how many samples after one the envelope is quiet: at most `longest`, and no more than there are."""
    ahead = envelope[at : at + longest + 1]
    quiet = (ahead < _QUIET * high).nonzero().flatten()
    return int(quiet[0]) if len(quiet) else len(ahead) - 1


def envelope_of(y: Tensor) -> Tensor:
    """Return the size of the analytic signal (..., n)."""
    n = y.shape[-1]
    spectrum = torch.fft.fft(y, 2 * n)
    spectrum[..., n + 1 :] = 0
    spectrum[..., 1:n] *= 2
    envelope: Tensor = torch.fft.ifft(spectrum)[..., :n].abs()
    return envelope


def gate_samples(where: str, gate: tuple[float, float] | None, rate: float, start: float, n: int) -> tuple[int, int]:
    """Return the samples of a gate, in seconds: from the first to the one after the last.

    Raises:
        ShapeError: a rate that is not above zero, or no sample in the gate.
    """
    if not 0 < rate < float("inf"):
        raise ShapeError(f"{where}: rate is {rate}, but samples a second, above zero, were needed.")
    if gate is None:
        return 0, n
    if not all(abs(seconds) < float("inf") for seconds in gate):
        raise ShapeError(f"{where}: gate is {gate[0]} to {gate[1]} s, but two times were needed.")
    begin, end = (round((seconds - start) * rate) for seconds in gate)
    first, last = max(0, begin), min(n, end + 1)
    if last - first < 2:
        end_time = start + (n - 1) / rate
        raise ShapeError(
            f"{where}: gate is {gate[0]:g} to {gate[1]:g} s, but the scan lasts from {start:g} to {end_time:g} s. "
            "Choose times within."
        )
    return first, last
