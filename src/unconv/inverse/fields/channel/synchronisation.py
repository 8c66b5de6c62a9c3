"""Where in a signal the symbols begin, by a training: its samples are then the channel's answer from the first one on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unconv.errors import ShapeError
from unconv.inverse.fields.channel.constellations import Constellation
from unconv.inverse.fields.channel.estimation import estimate_channel

_SHORT = 16  # samples, too few to be called loud
_LOUD = 0.5  # of the power behind it: so much before a burst is not silence
_SURE = 0.5  # likeness of signal and training, from which on it is taken for found


@dataclass(frozen=True)
class Settings:
    """What `equalize` was asked for, beyond the signal and what is known of the channel."""

    table: Constellation
    method: str
    noise: float | None
    samples_per_symbol: int
    count: int | None
    length: int | None
    feedback: int | None
    most_states: int
    progress: Callable[[str, float, int], None]


@dataclass(frozen=True)
class Aligned:
    """Signals that begin with the first symbol.

    Attributes:
        rows: (B, n). channel: (k,), at the rate of the signals. delay: samples that were cut off in front.
        training: (t,), indices of the known symbols, the first of which is number `start`; None without any.
        notes: on the way. noise: of a channel that was estimated from the training.
    """

    rows: Tensor
    channel: Tensor
    delay: int
    training: Tensor | None = None
    start: int = 0
    notes: tuple[str, ...] = ()
    noise: float | None = None


def by_training(row: Tensor, sent: Tensor, start: int, taps: int | None, settings: Settings) -> Aligned:
    """Estimate the channel of a signal (n,) from its training (t,), whose place in the signal is found."""
    indices = settings.table.indices_of(sent)
    room = _room(row, len(sent), start, settings)
    estimate = estimate_channel(room, sent, "estimate" if taps is None else taps, settings.samples_per_symbol)
    delay = _first_sample(estimate.offset, start, settings.samples_per_symbol)
    found: Tensor = estimate.taps
    kind = torch.promote_types(row.dtype, found.dtype) if row.is_complex() else row.dtype
    notes = (*estimate.notes, *_earlier_words(row, delay))
    return Aligned(from_sample(row, delay)[None], found.to(kind), delay, indices, start, notes, noise=float(estimate.noise))


def by_channel(row: Tensor, channel: Tensor, sent: Tensor, start: int, settings: Settings) -> Aligned:
    """Find a training (t,) that came through a known channel: its place, and the phase and strength of what was received."""
    indices = settings.table.indices_of(sent)
    sps = settings.samples_per_symbol
    whole, row = row, _room(row, len(sent), start, settings)
    kind = torch.promote_types(torch.promote_types(row.dtype, channel.dtype), sent.dtype)
    spaced = torch.zeros(sps * (len(sent) - 1) + 1, dtype=kind, device=row.device)
    spaced[::sps] = sent.to(kind)
    pattern = _convolved(spaced, channel.to(kind))
    if len(pattern) > len(row):
        raise ShapeError(
            f"equalize: training and channel together take {len(pattern)} samples, but only {len(row)} were received. Pass "
            f"more."
        )
    size = 1 << (len(row) + len(pattern) - 1).bit_length()
    product = torch.fft.ifft(torch.fft.fft(row.to(kind), size) * torch.fft.fft(pattern, size).conj())
    products = product[: len(row) - len(pattern) + 1]
    sums = torch.nn.functional.pad(row.abs().square().cumsum(0), (1, 0))
    power = (sums[len(pattern) :] - sums[: len(row) - len(pattern) + 1]).clamp(min=1e-30)
    likeness = products.abs() / (power * pattern.abs().square().sum()).sqrt()
    # The whole row's power lets no quiet stretch win: there, noise alone may look like anything.
    at = int((likeness * (power > 0.1 * power.max())).argmax())
    gain = products[at] / pattern.abs().square().sum()
    if not row.is_complex() and not channel.is_complex():
        gain = gain.real
    notes = (f"the training was found at sample {at}, {100 * float(likeness[at]) ** 2:.0f} % of the power there",)
    if float(likeness[at]) < _SURE:
        raise ShapeError(
            f"equalize: the training is not in the signal: where it fits best, at sample {at}, it explains "
            f"{100 * float(likeness[at]) ** 2:.0f} % of the power, but at least {100 * _SURE**2:.0f} % was needed. Check "
            f"training and channel, "
            "or leave the channel out, which is then estimated."
        )
    delay = _first_sample(at, start, sps)
    return Aligned(
        from_sample(whole, delay)[None],
        channel * gain.to(kind if gain.is_complex() else channel.dtype),
        delay,
        indices,
        start,
        (*notes, *_earlier_words(whole, delay)),
    )


def _room(row: Tensor, training: int, start: int, settings: Settings) -> Tensor:
    """Return the samples in which a training may be: behind it, all other symbols that were sent must have room."""
    later = max(0, (settings.count or 0) - start - training)
    return row[: max(len(row) - later * settings.samples_per_symbol, min(len(row), training * settings.samples_per_symbol))]


def _earlier_words(row: Tensor, delay: int) -> tuple[str, ...]:
    """Say that what stands before the first symbol is as loud as what follows."""
    if delay < _SHORT or float(row[:delay].abs().square().mean()) < _LOUD * float(row[delay:].abs().square().mean()):
        return ()
    return (f"the {delay} samples before the training are as loud as it is: if symbols are in them, give training_start",)


def _first_sample(offset: int, start: int, samples_per_symbol: int) -> int:
    """Return the sample at which symbol 0 arrives, when the training's first is number `start`."""
    delay = offset - start * samples_per_symbol
    if start < 0 or (start > 0 and delay < 0):
        raise ShapeError(
            f"equalize: training_start is {start}, but the training was found at sample {offset}, "
            f"{math.floor(offset / samples_per_symbol)} "
            "symbols after the first sample. Pass a number from 0 to that."
        )
    return delay


def from_sample(row: Tensor, delay: int) -> Tensor:
    """Return (n - delay,) samples from one on; zeros stand for what is missing where the signal begins after it."""
    return row[delay:] if delay >= 0 else torch.nn.functional.pad(row, (-delay, 0))


def _convolved(x: Tensor, taps: Tensor) -> Tensor:
    made = x.new_zeros(len(x) + len(taps) - 1)
    for lag, tap in enumerate(taps):
        made[lag : lag + len(x)] += tap * x
    return made
