"""Single-carrier equalisers in the frequency domain: by blocks behind a cyclic prefix, or by overlapping blocks without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import DtypeError, ShapeError
from unconv.inverse.operators.fourier import fast_length
from unconv.inverse.solvers.arrays import as_samples, like
from unconv.inverse.solvers.loudness import refuse_silence
from unconv.kinds import checks_kinds_but

Criterion = Literal["mmse", "zero-forcing"]

_NULL = 1e-10  # of the strongest frequency's power, below which one is not received
_TAIL = 1e-7  # of the equaliser's energy, that may lie outside the guard of a block
_BLOCKS = (256, 2**15)  # least and largest number of symbols of a block without a prefix
_NAMED = 8  # frequencies that a note lists


@dataclass(frozen=True, eq=False)
class FrequencyEqualized:
    """Symbols after an equaliser that is one division at each frequency.

    Attributes:
        soft: (..., K). By MMSE they are `gain` times the symbol and noise: divide by it before deciding QAM or taking ratios.
        gain: (...), what a symbol is multiplied by; 1 of zero-forcing without nulls.
        error: (...), the mean |soft - symbol|^2 to be expected for white symbols of power one.
        nulls: numbers of the frequencies, of the block's, that nothing is received at.
        notes: what was odd.
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
    """Equalise blocks of symbols that each came behind a copy of their own end, a cyclic prefix.

    The prefix makes the channel circular, and the equaliser a division at each frequency: conj(H) / (|H|^2 + noise^2) by MMSE.

    Args:
        received: (..., n), whole blocks from the first sample of the first prefix on; the rest is left.
        channel: (k,) or (..., k), taps at the rate received, the first at delay zero.
        noise: standard deviation of a sample; 0 makes both criteria one.
        block, prefix: symbols. The prefix is at least as long as the channel's memory, (k - 1) / samples_per_symbol.
        criterion: "mmse", for symbols of power one, or "zero-forcing", which raises noise where the channel is weak.

    Raises:
        ShapeError: a prefix that is too short; less than one block; a silent channel. DtypeError, NonFinite: no numbers.

    Source:
        Sari, Karam & Jeanclaude, "Transmission techniques for digital terrestrial TV broadcasting" (1995); Falconer et al.,
        "Frequency domain equalization for single-carrier broadband wireless systems" (2002).
    """
    where, rate = "single_carrier_fde", samples_per_symbol
    signal, taps, kind = links(where, received, channel, noise, rate)
    if not 0 <= prefix <= block or block < 1:
        raise ShapeError(
            f"{where}: block is {block} and prefix {prefix}, but a block of 1 or more symbols, and a prefix of no more than it "
            "has, were needed."
        )
    covered(where, taps, prefix * rate, f"prefix is {prefix} symbols of {rate} samples")
    frames, told = framed(where, signal, (block + prefix) * rate)
    response = torch.fft.fft(taps, block * rate)
    filters, error, gain, nulls = _filters(response, noise, rate, criterion)
    told += null_words(nulls, block, "frequency", "frequencies")
    spectrum = torch.fft.fft(frames[..., prefix * rate :]) * filters[..., None, :]
    soft = torch.fft.ifft(_aliased(spectrum, rate)).flatten(-2)
    return _equalized(received, kind, taps, (soft, gain, error), nulls, told)


@checks_kinds_but("received", "channel")
def overlap_fde(
    received: Any, channel: Any, noise: float, samples_per_symbol: int = 1, criterion: Criterion = "mmse"
) -> FrequencyEqualized:
    """Equalise a signal without prefixes by the equaliser of infinite length, in overlapping blocks whose edges are dropped.

    Blocks grow until the equaliser's response dies out within a quarter of one. Before and after the signal, zeros are taken.

    Args:
        received, channel, noise, samples_per_symbol, criterion: as in `single_carrier_fde`; symbol 0 meets tap 0 at sample 0.

    Returns:
        `soft` of ceil(n / samples_per_symbol) symbols.

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
    told = null_words(nulls, size, "frequency", "frequencies")
    if guard > size // 4:
        told += (f"the equaliser does not die out within {size // 4:,} symbols: {left:.1g} of its energy is left outside",)
        guard = size // 4
    count, hop = -(-signal.shape[-1] // rate), size - 2 * guard
    blocks = -(-count // hop)
    padded = F.pad(signal, (guard * rate, (blocks * hop + guard) * rate - signal.shape[-1]))
    spectrum = torch.fft.fft(padded.unfold(-1, size * rate, hop * rate)) * filters[..., None, :]
    soft = torch.fft.ifft(_aliased(spectrum, rate))[..., guard : guard + hop].flatten(-2)[..., :count]
    return _equalized(received, kind, taps, (soft, gain, error), nulls, told)


def links(where: str, received: Any, channel: Any, noise: float, rate: int = 1) -> tuple[Tensor, Tensor, torch.dtype]:
    """Return what was received and the channel's taps, (..., k), in double precision, and the precision that came.

    Raises:
        ShapeError: shapes, a noise or a rate that do not fit; silence. DtypeError: a complex channel of a real signal.
    """
    signal, taps = as_samples(where, "received", received, "(..., n)"), as_samples(where, "channel", channel, "(..., n)")
    if not 0 <= noise < 1e120 or rate < 1:
        raise ShapeError(f"{where}: noise is {noise} and samples_per_symbol {rate}, but 0 and 1 or more were needed.")
    if taps.is_complex() and not signal.is_complex():
        raise DtypeError(f"{where}: the channel is complex, but what was received is real. Pass the complex baseband.")
    if taps.ndim > 1 and taps.shape[:-1] != signal.shape[:-1]:
        raise ShapeError(
            f"{where}: channel is {tuple(taps.shape)}, but (k,) or {(*signal.shape[:-1], 'k')} was needed, as `received` is."
        )
    refuse_silence(where, "channel", taps)
    kind = torch.complex128 if signal.is_complex() else torch.float64
    return signal.to(kind), taps.to(signal.device, kind), signal.dtype


def covered(where: str, taps: Tensor, room: int, said: str) -> None:
    """Refuse a channel whose memory is longer than `room` samples of a prefix."""
    size = taps.abs()
    there = (size > 1e-12 * size.amax(-1, keepdim=True)).reshape(-1, taps.shape[-1]).any(0)
    memory = int(torch.nonzero(there)[-1])
    if memory > room:
        raise ShapeError(
            f"{where}: {said}, but the channel's memory is {memory} samples: blocks run into each other. Send a longer prefix, "
            "or pass the taps that matter."
        )


def framed(where: str, signal: Tensor, size: int) -> tuple[Tensor, tuple[str, ...]]:
    """Return whole blocks (..., blocks, size) with their prefixes, and what is said of samples that are left."""
    n = signal.shape[-1]
    if n < size:
        raise ShapeError(f"{where}: {n} samples came, but a block with its prefix has {size}. Pass one or more.")
    told = (f"{n % size} samples after the last whole block were left",) if n % size else ()
    return signal[..., : n - n % size].unflatten(-1, (-1, size)), told


def null_words(nulls: tuple[int, ...], count: int, noun: str, nouns: str) -> tuple[str, ...]:
    """Say which frequencies nothing is received at."""
    if not nulls:
        return ()
    more = f" and {len(nulls) - _NAMED} more" if len(nulls) > _NAMED else ""
    listed = f"{', '.join(map(str, nulls[:_NAMED]))}{more} of {count}"
    if len(nulls) == 1:
        return (f"{noun} {listed} stands on a spectral null: nothing of it is received",)
    return (f"{nouns} {listed} stand on spectral nulls: nothing of them is received",)


def _aliased(spectrum: Tensor, rate: int) -> Tensor:
    """Sum the frequencies (..., rate * N) that symbols cannot tell apart, (..., N)."""
    folded: Tensor = spectrum.unflatten(-1, (rate, -1)).sum(-2)
    return folded


def _filters(response: Tensor, noise: float, rate: int, criterion: Criterion) -> tuple[Tensor, Tensor, Tensor, tuple[int, ...]]:
    """Return filters (..., rate * N), the error and the gain to be expected (...), and the symbols' frequencies without power.

    A symbol's spectrum repeats `rate` times in that of the samples, whose noise has the power rate noise^2 for its one.
    """
    power = _aliased(response.abs().square(), rate)
    there = power > _NULL * power.amax(-1, keepdim=True)
    level = rate * noise**2
    added = level if criterion == "mmse" else 0.0
    inverse = torch.where(there, 1 / (power + added).clamp(min=torch.finfo(torch.float64).tiny), 0)
    gain = power * inverse
    error = ((1 - gain).square() + level * power * inverse.square()).mean(-1)
    missing = ~there.reshape(-1, there.shape[-1]).all(0)
    nulls = tuple(torch.nonzero(missing).flatten().tolist())
    return response.conj() * torch.cat([inverse] * rate, -1), error, gain.mean(-1), nulls


def _guard(filters: Tensor, rate: int) -> tuple[int, float]:
    """Return how many symbols the response of a filter reaches to each side, and what of its energy lies outside N / 4."""
    size = filters.shape[-1] // rate
    energy = torch.fft.ifft(filters).abs().square().unflatten(-1, (size, rate)).sum(-1).reshape(-1, size).roll(size // 2, -1)
    share = energy / energy.sum(-1, keepdim=True)
    middle = size // 2
    # Energy outside [middle - g, middle + g], for every g.
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
    told: tuple[str, ...],
) -> FrequencyEqualized:
    """Put results into the kind and precision that came."""
    soft, *numbers_ = parts
    soft = soft if kind.is_complex else soft.real
    shape = taps.shape[:-1]
    gain, error = (like(received, each.to(kind.to_real())) if shape else float(each) for each in numbers_)
    return FrequencyEqualized(like(received, soft.to(kind)), gain, error, nulls, told)
