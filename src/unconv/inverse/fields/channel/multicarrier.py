"""Equalise OFDM: one division for each carrier, with the channel known or estimated from pilots."""

from __future__ import annotations

from dataclasses import dataclass
from math import tau
from typing import Any

import torch
from torch import Tensor

from unconv.errors import DtypeError, ShapeError, counted
from unconv.inverse.fields.channel.frequency import framed, links, null_note, refuse_short_prefix
from unconv.inverse.fields.channel.indices import integers_of
from unconv.inverse.solvers.arrays import as_samples, like
from unconv.kinds import checks_kinds_but, shown

_NULL = 1e-5  # of the strongest carrier's magnitude, below which a carrier counts as a spectral null
_SINGULAR = 1e-6  # ratio of the pilot matrix's singular values below which the taps are undetermined


@dataclass(frozen=True, eq=False)
class Pilots:
    """Pilot carriers, whose symbols are known.

    Args:
        carriers: (p,), indices of the carriers, from 0; those in the upper half are the negative frequencies.
        values: (p,), the same in each OFDM symbol with pilots, or (t, p).
        symbols: (t,), indices of the OFDM symbols with pilots: (0,) for a preamble; None: all.
    """

    carriers: Any
    values: Any
    symbols: Any = None


@dataclass(frozen=True, eq=False)
class OfdmEqualized:
    """Equalised OFDM symbols.

    Attributes:
        symbols: (..., t, carriers), soft symbols: each carrier divided by its response; 0 on a spectral null. They are
            unbiased; MMSE would only scale each carrier.
        response: (..., carriers), the channel's frequency response at each carrier.
        variance: (..., carriers), E|error|^2 of each carrier's symbols, noise^2 / |response|^2, for `Constellation.llr`.
        nulls: indices of the carriers that are spectral nulls of the channel.
        taps: (..., k), the channel.
        notes: warnings about the result.
    """

    symbols: Any
    response: Any
    variance: Any
    nulls: tuple[int, ...]
    taps: Any
    notes: tuple[str, ...] = ()


@checks_kinds_but("received", "channel")
def ofdm_equalize(
    received: Any,
    channel: Any,
    carriers: int,
    prefix: int,
    *,
    noise: float = 0.0,
    pilots: Pilots | None = None,
    length: int | None = None,
) -> OfdmEqualized:
    """Demodulate OFDM, and equalise it by dividing each carrier by the channel's response there.

    The modulator is taken to be a unitary inverse FFT, so that time samples have the power of the symbols.

    Args:
        received: (..., n), complex, complete OFDM symbols from the first sample of the first prefix on; an incomplete last
            one is ignored.
        channel: (k,) or (..., k), taps; None: estimate them from the pilots.
        carriers, prefix: lengths of an OFDM symbol and of its cyclic prefix in samples. The prefix must cover the channel's
            memory.
        noise: standard deviation of a sample's noise, for `variance`.
        pilots: known symbols. The channel's taps are fitted to them by least squares, which interpolates between the carriers.
        length: number of taps that are fitted; by default prefix + 1, or the number of pilot carriers if that is smaller.

    Raises:
        ShapeError: a prefix that is too short; less than one OFDM symbol; neither channel nor pilots, or both; pilots that do
            not fit or do not determine the taps. DtypeError: real samples. NonFinite: NaN.

    Source:
        Weinstein & Ebert, "Data transmission by frequency-division multiplexing using the discrete Fourier transform" (1971);
        van de Beek et al., "On channel estimation in OFDM systems" (1995), for the pilots.
    """
    where = "ofdm_equalize"
    if (channel is None) == (pilots is None):
        came = "neither channel nor pilots was" if channel is None else "both channel and pilots were"
        raise ShapeError(f"{where}: {came} passed, but exactly one was needed. Pass one of them.")
    if not 0 <= prefix <= carriers or carriers < 1:
        raise ShapeError(
            f"{where}: carriers is {carriers} and prefix is {prefix}, but 1 or more carriers and a prefix from 0 to carriers "
            "were needed."
        )
    signal, taps, kind = links(where, received, [1.0] if channel is None else channel, noise)
    if not signal.is_complex():
        raise DtypeError(f"{where}: received is {shown(received)}, but complex samples were needed. Pass the complex baseband.")
    refuse_short_prefix(where, taps, prefix, f"prefix is {counted(prefix, 'sample')}")
    frames, notes = framed(where, signal, carriers + prefix)
    spectrum = torch.fft.fft(frames[..., prefix:], norm="ortho")
    if pilots is not None:
        taps, pilot_notes = _from_pilots(where, spectrum, pilots, prefix, length)
        notes += pilot_notes
    response = torch.fft.fft(taps, carriers)
    size = response.abs()
    # Division by a null would give infinity: its symbols are 0, and its variance is as if it were at the threshold.
    usable = size > _NULL * size.amax(-1, keepdim=True)
    nulls = tuple(torch.nonzero(~usable.reshape(-1, carriers).all(0)).flatten().tolist())
    notes += null_note(nulls, carriers, "carrier", "carriers") + _weak_note(size, usable, noise, carriers)
    divided = torch.where(usable[..., None, :], spectrum / torch.where(usable, response, 1)[..., None, :], 0)
    variance = noise**2 / size.square().clamp(min=(_NULL * size.amax(-1, keepdim=True)).square())
    parts = [like(received, each.to(kind)) for each in (divided, response, taps)]
    return OfdmEqualized(parts[0], parts[1], like(received, variance.to(kind.to_real())), nulls, parts[2], notes)


def _weak_note(size: Tensor, usable: Tensor, noise: float, carriers: int) -> tuple[str, ...]:
    """Say how many carriers are received below the noise."""
    weak = int((usable & (size < noise)).reshape(-1, carriers).any(0).sum())
    return (f"the signal is below the noise on {weak} of {carriers} carriers: see `variance`",) if weak else ()


def _from_pilots(
    where: str, spectrum: Tensor, pilots: Pilots, prefix: int, length: int | None
) -> tuple[Tensor, tuple[str, ...]]:
    """Fit the channel's taps to the pilots among the carriers (..., t, N) by least squares."""
    count, carriers = spectrum.shape[-2:]
    what = f"indices of carriers, 0 to {carriers - 1}, were needed"
    indices = integers_of(where, "pilots.carriers", pilots.carriers, carriers - 1, what).flatten().to(spectrum.device)
    if len(indices.unique()) < len(indices):
        raise ShapeError(f"{where}: pilots.carriers has an index twice, but distinct ones were needed. Pass each carrier once.")
    rows = torch.arange(count, device=spectrum.device)
    if pilots.symbols is not None:
        what = f"indices of OFDM symbols, 0 to {count - 1}, were needed"
        rows = integers_of(where, "pilots.symbols", pilots.symbols, count - 1, what).flatten().to(spectrum.device)
    values = as_samples(where, "pilots.values", pilots.values, "(..., n)").to(spectrum)
    if tuple(values.shape) not in ((len(indices),), (len(rows), len(indices))) or not bool((values != 0).all()):
        raise ShapeError(
            f"{where}: pilots.values is {tuple(values.shape)}, but {(len(indices),)} or {(len(rows), len(indices))}, without "
            "zeros, was needed. Pass a value for each pilot carrier."
        )
    taps = min(prefix + 1, len(indices)) if length is None else length
    if not 1 <= taps <= min(len(indices), carriers):
        raise ShapeError(
            f"{where}: length is {taps}, but 1 to {len(indices)} was needed for {counted(len(indices), 'pilot carrier')}. Pass "
            "a smaller length, or more pilot carriers."
        )
    note = f"{counted(taps, 'pilot carrier')} can determine no more than {counted(taps, 'tap')}, fewer than the prefix allows"
    notes = () if length is not None or taps == prefix + 1 else (note,)
    # In double from the start: 2j pi times a tensor of integers would be complex64.
    angles = indices.double()[:, None] * torch.arange(taps, device=spectrum.device) * (-tau / carriers)
    waves = torch.polar(torch.ones_like(angles), angles)
    design = (values.expand(len(rows), -1)[..., None] * waves).flatten(0, 1)
    singular = torch.linalg.svdvals(design)
    if float(singular[-1]) < _SINGULAR * float(singular[0]):
        raise ShapeError(
            f"{where}: the pilot carriers are too close together to determine {counted(taps, 'tap')}. Spread them over the "
            "band, or pass a smaller length."
        )
    observed = spectrum[..., rows, :][..., indices].flatten(-2)
    return torch.einsum("kn,...n->...k", torch.linalg.pinv(design), observed), notes
