"""Frequency-domain equalisers for a single carrier: blocks with a cyclic prefix, or overlapping blocks without one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import DtypeError, ShapeError, counted
from unconv.inverse.operators.fourier import fast_length
from unconv.inverse.solvers.arrays import as_samples, like
from unconv.inverse.solvers.loudness import refuse_silence
from unconv.kinds import checks_kinds_but

Criterion = Literal["mmse", "zero-forcing"]

_NULL = 1e-10  # of the strongest frequency's power, below which a frequency counts as a spectral null
_TAIL = 1e-7  # of the energy of the equaliser's impulse response that may lie outside a block's guard
_BLOCKS = (256, 2**15)  # smallest and largest block without a prefix, in symbols
_NAMED = 8  # frequencies that a note lists, at most


@dataclass(frozen=True, eq=False)
class FrequencyEqualized:
    """Symbols after a frequency-domain equaliser.

    Attributes:
        soft: (..., K), soft symbols. MMSE scales them by `gain`: divide by it before deciding QAM or computing ratios.
        gain: (...), the factor of a symbol in `soft`; 1 for zero forcing without nulls.
        error: (...), expected mean |soft - symbol|^2 for white symbols of power 1.
        nulls: indices of the block's frequencies that are spectral nulls of the channel.
        notes: warnings about the result.
    """

    soft: Any
    gain: Any
    error: Any
    nulls: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


@checks_kinds_but("received", "channel")
def single_carrier_fde(
    received: Any,
    channel: Any,
    noise: float,
    block: int,
    prefix: int,
    criterion: Criterion = "mmse",
    samples_per_symbol: int = 1,
) -> FrequencyEqualized:
    """Equalise blocks of single-carrier symbols with a cyclic prefix in the frequency domain (SC-FDE).

    The prefix makes the channel's convolution circular, so that the equaliser is one factor for each frequency: for MMSE,
    conj(H) / (|H|^2 + noise^2).

    Args:
        received: (..., n), complete blocks from the first sample of the first prefix on; an incomplete last one is ignored.
        channel: (k,) or (..., k), taps at the rate of `received`, the first at delay zero.
        noise: standard deviation of a sample's noise; with 0 both criteria are the same.
        block, prefix: lengths in symbols. The prefix must cover the channel's memory, (k - 1) / samples_per_symbol.
        criterion: "mmse", for symbols of power 1, or "zero-forcing", which raises the noise where the channel is weak.
        samples_per_symbol: the rate of `received` and `channel`.

    Raises:
        ShapeError: a prefix that is too short; less than one block; a silent channel. DtypeError, NonFinite: not finite
            numbers.

    Source:
        Sari, Karam & Jeanclaude, "Transmission techniques for digital terrestrial TV broadcasting" (1995); Falconer et al.,
        "Frequency domain equalization for single-carrier broadband wireless systems" (2002).
    """
    where, rate = "single_carrier_fde", samples_per_symbol
    signal, taps, kind = links(where, received, channel, noise, rate)
    if not 0 <= prefix <= block or block < 1:
        raise ShapeError(
            f"{where}: block is {block} and prefix is {prefix}, but a block of 1 or more symbols and a prefix no longer than "
            "the block were needed."
        )
    refuse_short_prefix(
        where, taps, prefix * rate, f"prefix is {counted(prefix, 'symbol')} ({counted(prefix * rate, 'sample')})"
    )
    frames, notes = framed(where, signal, (block + prefix) * rate)
    response = torch.fft.fft(taps, block * rate)
    filters, error, gain, nulls = _filters(response, noise, rate, criterion)
    notes += null_note(nulls, block, "frequency", "frequencies")
    # Filter at the rate of the samples, then fold to one sample per symbol: folding sums what the symbols cannot tell apart.
    spectrum = torch.fft.fft(frames[..., prefix * rate :]) * filters[..., None, :]
    soft = torch.fft.ifft(_aliased(spectrum, rate)).flatten(-2)
    return _equalized(received, kind, taps, (soft, gain, error), nulls, notes)


@checks_kinds_but("received", "channel")
def overlap_fde(
    received: Any, channel: Any, noise: float, samples_per_symbol: int = 1, criterion: Criterion = "mmse"
) -> FrequencyEqualized:
    """Equalise a signal without cyclic prefixes in the frequency domain, in overlapping blocks whose edges are dropped.

    The equaliser is the one of infinite length. Blocks grow until its impulse response decays within a quarter of a block.
    Samples before and after the signal count as zero.

    Args:
        received, channel, noise, samples_per_symbol, criterion: as in `single_carrier_fde`; symbol 0 meets tap 0 at sample 0.

    Returns:
        Results whose `soft` has ceil(n / samples_per_symbol) symbols.

    Raises:
        ShapeError, DtypeError, NonFinite: as `single_carrier_fde`.

    Source:
        Falconer & Ariyavisitakul, "Broadband wireless using single carrier and frequency domain equalization" (2002).
    """
    where, rate = "overlap_fde", samples_per_symbol
    signal, taps, kind = links(where, received, channel, noise, rate)
    size = fast_length(max(_BLOCKS[0], 8 * -(-taps.shape[-1] // rate)))
    while True:
        filters, error, gain, nulls = _filters(torch.fft.fft(taps, size * rate), noise, rate, criterion)
        guard, left = _guard(filters, rate)
        if guard <= size // 4 or size >= _BLOCKS[1]:
            break
        size = fast_length(2 * size)
    notes = null_note(nulls, size, "frequency", "frequencies")
    if guard > size // 4:
        notes += (
            f"the equaliser's impulse response does not decay within {size // 4:,} symbols: {left:.1g} of its energy is cut "
            "off",
        )
        guard = size // 4
    # Overlap-save with a guard on both sides, since the equaliser's impulse response is not causal.
    count, hop = -(-signal.shape[-1] // rate), size - 2 * guard
    blocks = -(-count // hop)
    padded = F.pad(signal, (guard * rate, (blocks * hop + guard) * rate - signal.shape[-1]))
    spectrum = torch.fft.fft(padded.unfold(-1, size * rate, hop * rate)) * filters[..., None, :]
    soft = torch.fft.ifft(_aliased(spectrum, rate))[..., guard : guard + hop].flatten(-2)[..., :count]
    return _equalized(received, kind, taps, (soft, gain, error), nulls, notes)


def links(where: str, received: Any, channel: Any, noise: float, rate: int = 1) -> tuple[Tensor, Tensor, torch.dtype]:
    """Return the signals and the channel's taps, (..., k), in double precision, and the dtype of the signals.

    Raises:
        ShapeError: shapes, a noise or a rate that do not fit; a silent channel. DtypeError: a complex channel for a real
            signal.
    """
    signal, taps = as_samples(where, "received", received, "(..., n)"), as_samples(where, "channel", channel, "(..., n)")
    if not 0 <= noise < 1e120 or rate < 1:
        raise ShapeError(
            f"{where}: noise is {noise} and samples_per_symbol is {rate}, but 0 or more and 1 or more were needed."
        )
    if taps.is_complex() and not signal.is_complex():
        raise DtypeError(
            f"{where}: channel is complex and received is real, but complex samples were needed. Pass the complex baseband."
        )
    if taps.ndim > 1 and taps.shape[:-1] != signal.shape[:-1]:
        raise ShapeError(
            f"{where}: channel is {tuple(taps.shape)}, but (k,) or {(*signal.shape[:-1], 'k')} was needed to match received."
        )
    refuse_silence(where, "channel", taps)
    kind = torch.complex128 if signal.is_complex() else torch.float64
    return signal.to(kind), taps.to(signal.device, kind), signal.dtype


def refuse_short_prefix(where: str, taps: Tensor, samples: int, prefix: str) -> None:
    """Refuse a channel whose memory is longer than the prefix of so many samples; `prefix` says in words what was passed."""
    size = taps.abs()
    significant = (size > 1e-12 * size.amax(-1, keepdim=True)).reshape(-1, taps.shape[-1]).any(0)
    memory = int(torch.nonzero(significant)[-1])
    if memory > samples:
        raise ShapeError(
            f"{where}: {prefix}, but at least the channel's memory of {counted(memory, 'sample')} was needed: otherwise "
            "adjacent blocks interfere. Send a longer prefix, or pass only the significant taps."
        )


def framed(where: str, signal: Tensor, size: int) -> tuple[Tensor, tuple[str, ...]]:
    """Return complete blocks (..., blocks, size) with their prefixes, and a note on samples that remain."""
    n = signal.shape[-1]
    if n < size:
        raise ShapeError(
            f"{where}: received has {counted(n, 'sample')}, but at least {size}, one block with its prefix, were needed. Pass "
            "more samples, or a smaller block."
        )
    notes = (f"ignored {counted(n % size, 'sample')} after the last complete block",) if n % size else ()
    return signal[..., : n - n % size].unflatten(-1, (-1, size)), notes


def null_note(nulls: tuple[int, ...], count: int, noun: str, nouns: str) -> tuple[str, ...]:
    """Say which frequencies, or carriers, are spectral nulls."""
    if not nulls:
        return ()
    more = f" and {len(nulls) - _NAMED} more" if len(nulls) > _NAMED else ""
    listed = f"{', '.join(map(str, nulls[:_NAMED]))}{more} of {count}"
    if len(nulls) == 1:
        return (f"{noun} {listed} is a spectral null of the channel: nothing is received there",)
    return (f"{nouns} {listed} are spectral nulls of the channel: nothing is received there",)


def _aliased(spectrum: Tensor, rate: int) -> Tensor:
    """Sum the frequencies (..., rate * N) that alias to the same symbol frequency, (..., N)."""
    folded: Tensor = spectrum.unflatten(-1, (rate, -1)).sum(-2)
    return folded


def _filters(response: Tensor, noise: float, rate: int, criterion: Criterion) -> tuple[Tensor, Tensor, Tensor, tuple[int, ...]]:
    """Return filters (..., rate * N), the expected error and gain (...), and the symbol frequencies that are nulls.

    The spectrum of the symbols repeats `rate` times in that of the samples. In a DFT of rate * N samples, the noise has the
    power rate * noise^2 where the symbols have 1.
    """
    power = _aliased(response.abs().square(), rate)
    received = power > _NULL * power.amax(-1, keepdim=True)
    level = rate * noise**2
    added = level if criterion == "mmse" else 0.0
    inverse = torch.where(received, 1 / (power + added).clamp(min=torch.finfo(torch.float64).tiny), 0)
    gain = power * inverse
    error = ((1 - gain).square() + level * power * inverse.square()).mean(-1)
    missing = ~received.reshape(-1, received.shape[-1]).all(0)
    nulls = tuple(torch.nonzero(missing).flatten().tolist())
    return response.conj() * torch.cat([inverse] * rate, -1), error, gain.mean(-1), nulls


def _guard(filters: Tensor, rate: int) -> tuple[int, float]:
    """Return how many symbols a filter's impulse response spans on either side, and its share of energy beyond N / 4."""
    size = filters.shape[-1] // rate
    energy = torch.fft.ifft(filters).abs().square().unflatten(-1, (size, rate)).sum(-1).reshape(-1, size).roll(size // 2, -1)
    share = energy / energy.sum(-1, keepdim=True)
    middle = size // 2
    # Energy outside [middle - g, middle + g], for every g at once.
    sides = share[:, :middle].flip(-1).cumsum(-1) + F.pad(share[:, middle + 1 :], (0, 1 - size % 2)).cumsum(-1)[:, :middle]
    outside = 1 - share[:, middle, None] - sides
    enough = (outside < _TAIL).all(0)
    guard = int(torch.nonzero(enough)[0]) + 2 if bool(enough.any()) else size
    return guard, float(outside[:, size // 4].max())


def _equalized(
    received: Any,
    kind: torch.dtype,
    taps: Tensor,
    parts: tuple[Tensor, Tensor, Tensor],
    nulls: tuple[int, ...],
    notes: tuple[str, ...],
) -> FrequencyEqualized:
    """Return results as arrays or tensors, real or complex, and in the precision of `received`."""
    soft, *scalars = parts
    soft = soft if kind.is_complex else soft.real
    shape = taps.shape[:-1]
    gain, error = (like(received, each.to(kind.to_real())) if shape else float(each) for each in scalars)
    return FrequencyEqualized(like(received, soft.to(kind)), gain, error, nulls, notes)
