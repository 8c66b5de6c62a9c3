"""OFDM: many carriers behind one cyclic prefix, equalised by one division each, their channel known or from pilots."""

from __future__ import annotations

from dataclasses import dataclass
from math import tau
from typing import Any

import torch
from torch import Tensor

from unconv.errors import DtypeError, ShapeError
from unconv.inverse.fields.channel.frequency import covered, framed, links, null_words
from unconv.inverse.fields.channel.indices import whole
from unconv.inverse.solvers.arrays import as_samples, like
from unconv.kinds import checks_kinds_but, shown

_NULL = 1e-5  # of the strongest carrier's magnitude, below which one is not received
_SINGULAR = 1e-6  # of the pilots' largest singular value: less tells nothing of the channel


@dataclass(frozen=True, eq=False)
class Pilots:
    """Carriers whose symbols are known.

    Args:
        carriers: (p,), their numbers, from 0; those above half of all are the negative frequencies.
        values: (p,), the same in each OFDM symbol that has them, or (t, p).
        symbols: (t,), the numbers of those OFDM symbols: (0,) of a preamble; None: all.
    """

    carriers: Any
    values: Any
    symbols: Any = None


@dataclass(frozen=True, eq=False)
class OfdmEqualized:
    """The carriers' symbols.

    Attributes:
        symbols: (..., t, carriers), each carrier divided by its response; 0 on a spectral null. They are not biased: MMSE would
            only shrink each carrier by a factor of its own.
        response: (..., carriers), the channel at each carrier.
        variance: (..., carriers), E|error|^2 of a symbol of that carrier, noise^2 / |response|^2, for `Constellation.llr`.
        nulls: numbers of the carriers that nothing is received of.
        taps: (..., k), the channel.
        notes: what was odd.
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
    """Demodulate OFDM and divide each carrier by the channel's response there.

    Carriers are those of a unitary inverse FFT: time samples have the power of the symbols.

    Args:
        received: (..., n), complex, whole OFDM symbols from the first sample of the first prefix on; the rest is left.
        channel: (k,) or (..., k), taps; or None, to estimate them from pilots.
        carriers, prefix: samples of an OFDM symbol and of its prefix, which is at least as long as the channel's memory.
        noise: standard deviation of a sample, for `variance`.
        pilots: known symbols. The taps of the channel are fitted to them by least squares, which is the interpolation between
            them that a channel of so many taps admits.
        length: taps that are fitted; by default prefix + 1, or as many as there are pilot carriers, if those are fewer.

    Raises:
        ShapeError: a prefix that is too short; less than one OFDM symbol; neither channel nor pilots, or both; pilots that do
            not fit or do not tell the taps apart. DtypeError: real samples. NonFinite: NaN.

    Source:
        Weinstein & Ebert, "Data transmission by frequency-division multiplexing using the discrete Fourier transform" (1971);
        van de Beek et al., "On channel estimation in OFDM systems" (1995), for the pilots.
    """
    where = "ofdm_equalize"
    if (channel is None) == (pilots is None):
        raise ShapeError(f"{where}: either channel or pilots were needed, and not both. Pass one of them.")
    if not 0 <= prefix <= carriers or carriers < 1:
        raise ShapeError(
            f"{where}: carriers is {carriers} and prefix {prefix}, but 1 or more, and no longer a prefix, were needed."
        )
    signal, taps, kind = links(where, received, [1.0] if channel is None else channel, noise)
    if not signal.is_complex():
        raise DtypeError(f"{where}: received is {shown(received)}, but complex samples were needed. Pass the complex baseband.")
    covered(where, taps, prefix, f"prefix is {prefix}")
    frames, told = framed(where, signal, carriers + prefix)
    spectrum = torch.fft.fft(frames[..., prefix:], norm="ortho")
    if pilots is not None:
        taps, said = _from_pilots(where, spectrum, pilots, prefix, length)
        told += said
    response = torch.fft.fft(taps, carriers)
    size = response.abs()
    there = size > _NULL * size.amax(-1, keepdim=True)
    nulls = tuple(torch.nonzero(~there.reshape(-1, carriers).all(0)).flatten().tolist())
    told += null_words(nulls, carriers, "carrier", "carriers") + _faint(size, there, noise, carriers)
    divided = torch.where(there[..., None, :], spectrum / torch.where(there, response, 1)[..., None, :], 0)
    variance = noise**2 / size.square().clamp(min=(_NULL * size.amax(-1, keepdim=True)).square())
    parts = [like(received, each.to(kind)) for each in (divided, response, taps)]
    return OfdmEqualized(parts[0], parts[1], like(received, variance.to(kind.to_real())), nulls, parts[2], told)


def _faint(size: Tensor, there: Tensor, noise: float, carriers: int) -> tuple[str, ...]:
    """Say how many carriers are received, but below the noise."""
    faint = int((there & (size < noise)).reshape(-1, carriers).any(0).sum())
    return (f"{faint} of {carriers} carriers are received below the noise: see `variance`",) if faint else ()


def _from_pilots(
    where: str, spectrum: Tensor, pilots: Pilots, prefix: int, length: int | None
) -> tuple[Tensor, tuple[str, ...]]:
    """Fit the taps to the carriers (..., t, N) that are known."""
    count, carriers = spectrum.shape[-2:]
    what = f"whole numbers of carriers, 0 to {carriers - 1}, were needed"
    places = whole(where, "pilots.carriers", pilots.carriers, carriers - 1, what).flatten().to(spectrum.device)
    if len(places.unique()) < len(places):
        raise ShapeError(f"{where}: a pilot carrier is named twice, but each once was needed.")
    rows = torch.arange(count, device=spectrum.device)
    if pilots.symbols is not None:
        what = f"whole numbers of OFDM symbols, 0 to {count - 1}, were needed"
        rows = whole(where, "pilots.symbols", pilots.symbols, count - 1, what).flatten().to(spectrum.device)
    values = as_samples(where, "pilots.values", pilots.values, "(..., n)").to(spectrum)
    if tuple(values.shape) not in ((len(places),), (len(rows), len(places))) or not bool((values != 0).all()):
        raise ShapeError(
            f"{where}: pilots.values is {tuple(values.shape)}, but {(len(places),)} or {(len(rows), len(places))}, without "
            "zeros, was needed: a value for each pilot carrier."
        )
    taps = min(prefix + 1, len(places)) if length is None else length
    if not 1 <= taps <= min(len(places), carriers):
        raise ShapeError(
            f"{where}: length is {taps}, but {len(places)} pilot carriers tell 1 to {len(places)} taps apart. Ask for fewer."
        )
    told = () if length is not None or taps == prefix + 1 else (f"{taps} pilots tell no more than {taps} taps apart",)
    # In double from the start: 2j pi times a tensor of whole numbers would be complex64.
    angles = places.double()[:, None] * torch.arange(taps, device=spectrum.device) * (-tau / carriers)
    waves = torch.polar(torch.ones_like(angles), angles)
    design = (values.expand(len(rows), -1)[..., None] * waves).flatten(0, 1)
    singular = torch.linalg.svdvals(design)
    if float(singular[-1]) < _SINGULAR * float(singular[0]):
        raise ShapeError(
            f"{where}: the pilots do not tell {taps} taps apart: they stand too close together. Spread them over the band, or "
            "pass a shorter length."
        )
    observed = spectrum[..., rows, :][..., places].flatten(-2)
    return torch.einsum("kn,...n->...k", torch.linalg.pinv(design), observed), told
