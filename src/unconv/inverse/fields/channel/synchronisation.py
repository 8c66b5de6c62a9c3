"""Synchronise signals by a training sequence: cut them so that sample 0 is where the first symbol arrives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unconv.errors import ShapeError
from unconv.inverse.fields.channel.constellations import Constellation
from unconv.inverse.fields.channel.estimation import estimate_channel

_SHORT = 16  # samples: too few to tell symbols from silence
_LOUD = 0.5  # of the power after the training sequence's start: as much before it may be symbols, not silence
_DETECTED = 0.5  # normalised correlation at which the training sequence counts as found


@dataclass(frozen=True)
class Settings:
    """The arguments of `equalize` other than the signal, its channel and its training sequence."""

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
class AlignedSignals:
    """Signals that begin with the first symbol.

    Attributes:
        rows: (B, n). channel: (k,), at the rate of the signals. delay: samples that were cut off in front.
        training: (t,), indices of the known symbols; None if there are none. start: number of the first of them.
        notes: for the user. noise: that of the channel estimate; None if the channel was given.
    """

    rows: Tensor
    channel: Tensor
    delay: int
    training: Tensor | None = None
    start: int = 0
    notes: tuple[str, ...] = ()
    noise: float | None = None


def _training_indices(sent: Tensor, settings: Settings) -> Tensor:
    """Return the indices (t,) of a training sequence's symbols."""
    try:
        indices: Tensor = settings.table.indices_of(sent)
    except ShapeError as error:
        raise ShapeError(f"equalize: training has a symbol outside the constellation. {error}") from error
    return indices


def align_by_training(row: Tensor, sent: Tensor, start: int, taps: int | None, settings: Settings) -> AlignedSignals:
    """Find a training sequence (t,) in a signal (n,), and estimate the channel from it by least squares."""
    indices = _training_indices(sent, settings)
    searched = _search_range(row, len(sent), start, settings)
    estimate = estimate_channel(searched, sent, "estimate" if taps is None else taps, settings.samples_per_symbol)
    delay = _first_sample(estimate.offset, start, settings.samples_per_symbol)
    channel: Tensor = estimate.taps
    kind = torch.promote_types(row.dtype, channel.dtype) if row.is_complex() else row.dtype
    rows, notes = from_sample(row, delay)[None], (*estimate.notes, *_earlier_note(row, delay))
    return AlignedSignals(rows, channel.to(kind), delay, indices, start, notes, noise=float(estimate.noise))


def align_with_channel(row: Tensor, channel: Tensor, sent: Tensor, start: int, settings: Settings) -> AlignedSignals:
    """Find a training sequence (t,) sent through a known channel, and the complex gain that it was received with.

    By normalised cross-correlation with the channel's response to the sequence.
    """
    indices = _training_indices(sent, settings)
    sps = settings.samples_per_symbol
    entire, row = row, _search_range(row, len(sent), start, settings)
    kind = torch.promote_types(torch.promote_types(row.dtype, channel.dtype), sent.dtype)
    spaced = torch.zeros(sps * (len(sent) - 1) + 1, dtype=kind, device=row.device)
    spaced[::sps] = sent.to(kind)
    pattern = _convolved(spaced, channel.to(kind))
    if len(pattern) > len(row):
        raise ShapeError(
            f"equalize: the training sequence takes {len(pattern)} samples after the channel, but only {len(row)} were "
            "received. Pass more samples."
        )
    size = 1 << (len(row) + len(pattern) - 1).bit_length()
    product = torch.fft.ifft(torch.fft.fft(row.to(kind), size) * torch.fft.fft(pattern, size).conj())
    products = product[: len(row) - len(pattern) + 1]
    sums = torch.nn.functional.pad(row.abs().square().cumsum(0), (1, 0))
    power = (sums[len(pattern) :] - sums[: len(row) - len(pattern) + 1]).clamp(min=1e-30)
    correlation = products.abs() / (power * pattern.abs().square().sum()).sqrt()
    # Quiet stretches are excluded: normalised by next to nothing, noise alone may correlate well with anything.
    best = int((correlation * (power > 0.1 * power.max())).argmax())
    share = 100 * float(correlation[best]) ** 2
    gain = products[best] / pattern.abs().square().sum()
    if not row.is_complex() and not channel.is_complex():
        gain = gain.real
    notes = (f"training sequence found at sample {best}, where it explains {share:.0f} % of the power",)
    if float(correlation[best]) < _DETECTED:
        raise ShapeError(
            f"equalize: the training sequence was not found in received: where it fits best, at sample {best}, it explains "
            f"{share:.0f} % of the power, but at least {100 * _DETECTED**2:.0f} % was needed. Check training and channel, or "
            "leave the channel out to have it estimated."
        )
    delay = _first_sample(best, start, sps)
    return AlignedSignals(
        from_sample(entire, delay)[None],
        channel * gain.to(kind if gain.is_complex() else channel.dtype),
        delay,
        indices,
        start,
        (*notes, *_earlier_note(entire, delay)),
    )


def _search_range(row: Tensor, training: int, start: int, settings: Settings) -> Tensor:
    """Return the samples in which a training sequence may begin: all symbols sent after it must have room, too."""
    later = max(0, (settings.count or 0) - start - training)
    return row[: max(len(row) - later * settings.samples_per_symbol, min(len(row), training * settings.samples_per_symbol))]


def _earlier_note(row: Tensor, delay: int) -> tuple[str, ...]:
    """Say that the samples before the first symbol are about as strong as those after it."""
    if delay < _SHORT or float(row[:delay].abs().square().mean()) < _LOUD * float(row[delay:].abs().square().mean()):
        return ()
    return (
        f"the {delay} samples before the training sequence are about as strong as those after: if they carry symbols, pass "
        "training_start",
    )


def _first_sample(offset: int, start: int, samples_per_symbol: int) -> int:
    """Return the sample at which symbol 0 arrives, where the training sequence begins with symbol number `start`."""
    delay = offset - start * samples_per_symbol
    if start < 0 or (start > 0 and delay < 0):
        raise ShapeError(
            f"equalize: training_start is {start}, but the training sequence was found at sample {offset}, "
            f"{math.floor(offset / samples_per_symbol)} symbol periods after the first. Pass a number from 0 to that."
        )
    return delay


def from_sample(row: Tensor, delay: int) -> Tensor:
    """Return the (n - delay,) samples from `delay` on, zeros in front where it is negative."""
    return row[delay:] if delay >= 0 else torch.nn.functional.pad(row, (-delay, 0))


def _convolved(x: Tensor, taps: Tensor) -> Tensor:
    full = x.new_zeros(len(x) + len(taps) - 1)
    for lag, tap in enumerate(taps):
        full[lag : lag + len(x)] += tap * x
    return full
