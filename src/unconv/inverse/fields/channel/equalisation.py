"""One call from received samples to symbols: the channel given, estimated from a training, or not known at all."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unconv.errors import DtypeError, ShapeError, nearest
from unconv.inverse.fields.channel.constellations import Constellation
from unconv.inverse.fields.channel.constellations import constellation as constellation_of
from unconv.inverse.fields.channel.method_table import ADAPTIVE, BLIND, METHODS, Method
from unconv.inverse.fields.channel.rates import ErrorRate, bit_error_rate, symbol_error_rate
from unconv.inverse.fields.channel.receiving import Found, adapted, blindly, through
from unconv.inverse.fields.channel.synchronisation import Aligned, Settings, by_channel, by_training
from unconv.inverse.solvers.arrays import as_samples, like
from unconv.kinds import checks_kinds_but, fits_kind, shown
from unconv.progress import Progress


@dataclass(frozen=True, eq=False)
class Equalized:
    """Symbols that were sent, as far as they can be told from what was received.

    Attributes:
        symbols: (..., N), decided: points of the constellation, in the kind that came. Symbol i is the i-th that was sent.
        indices: (..., N), which points they are.
        delay: the sample of `received` at which the first of these symbols arrives, by the channel's first tap: 0 where the
            channel was given; where a training was found, which is below 0 if the samples begin later; a tuple, if signals
            differ. Filters' own delays are taken out.
        method: that was used; "auto" is not one.
        noise: the standard deviation of a received sample's noise, E|noise|^2 = noise**2, told or estimated; NaN of blind
            methods.
        channel: (k,), or (rows, k) where each signal has its own: taps at the rate of `received`, of the symbols of the
            constellation; None of adaptive and blind methods.
        states: of the trellis; 0 of others.
        phase, frequency: of the carrier that was turned back: radians at the first symbol, and radians a symbol.
        ambiguity: angles by which all symbols may still be turned, and nothing that was received would tell.
        converged: False where an adaptive or blind method did not settle.
        notes: what was found and done on the way, and where the result is not to be relied on. Read them.
        constellation: the constellation.
        received: the samples, as they came. samples_per_symbol: of them.
    """

    symbols: Any
    indices: Any
    delay: Any
    method: str
    noise: float
    channel: Any
    states: int
    phase: float
    frequency: float
    ambiguity: tuple[float, ...]
    converged: bool
    notes: tuple[str, ...]
    constellation: Constellation
    received: Any = field(repr=False)
    samples_per_symbol: int = 1
    _shape: tuple[int, ...] = field(default=(), repr=False)
    _found: tuple[Found, ...] = field(default=(), repr=False)

    @cached_property
    def bits(self) -> Any:
        """(..., N * m), the bits of the symbols, by the labels of the constellation."""
        return self.constellation.bits(self.indices)

    @cached_property
    def soft(self) -> Any:
        """(..., N), estimates of the symbols before decision: equalised samples; of "mlse" and "bcjr" posterior means."""
        return self._joined([found.soft() for found in self._found])

    @cached_property
    def llr(self) -> Any:
        """(..., N * m), log-likelihood ratios of the bits, log P(bit = 0) / P(bit = 1); exact of "mlse" and "bcjr"."""
        return self._joined([found.ratios() for found in self._found])

    @property
    def mse(self) -> float:
        """The mean squared error of `soft` against decisions, of symbols of mean power 1; too small where some are wrong."""
        soft, symbols = (as_samples("mse", "soft", each, "(..., n)") for each in (self.soft, self.symbols))
        return float((soft - symbols).abs().square().mean()) / self.constellation.power

    def symbol_errors(self, sent: Any) -> ErrorRate:
        """Count wrong symbols against those sent, (..., N) or fewer, from the first on, with an interval of 95 %."""
        return symbol_error_rate(sent, self.symbols[..., : np.shape(sent)[-1]])

    def bit_errors(self, sent: Any) -> ErrorRate:
        """Count wrong bits against those sent, (..., N * m) or fewer, from the first on, with an interval of 95 %."""
        return bit_error_rate(sent, self.bits[..., : np.shape(sent)[-1]])

    def _joined(self, rows: list[Tensor]) -> Any:
        least = min(row.shape[-1] for row in rows)
        whole = torch.cat([row[:, :least] for row in rows])
        return like(self.received, whole.reshape(*self._shape, -1))


@checks_kinds_but("received", "channel", "training", "constellation", "noise", "method")
def equalize(
    received: Any,
    channel: Any = None,
    training: Any = None,
    constellation: Any = "bpsk",
    method: Method = "auto",
    noise: float | str = "estimate",
    *,
    samples_per_symbol: int = 1,
    count: int | None = None,
    training_start: int = 0,
    length: int | None = None,
    feedback: int | None = None,
    taps: int | None = None,
    most_states: int = 4096,
    progress: Progress | None = None,
) -> Equalized:
    """Recover the symbols s of received samples y[t] = sum_k channel[k] s[t - k] + noise.

    What is known decides what is done. With `channel`, symbols are decided through it, and a carrier that turns them is found
    and turned back. With `training`, its place is found, the channel is estimated from it by least squares, once more from
    all decisions, and then used likewise. With both, the training gives the place, the phase and the strength. With
    neither, the symbols are found blindly, up to turns of the constellation and whole symbols of delay; the result says so.

    Args:
        received: (..., n), real or complex samples: an array, a list or a tensor. Several signals may share
            `channel`, and share `training`.
        channel: (k,), the samples at which one symbol is received, or (..., k), one for each signal.
        training: (t,), known symbols, points of the constellation; the first t sent, unless `training_start` says otherwise.
        constellation: "bpsk", "qpsk", "8psk", "4pam", "16qam" and so on, points of one's own, or a `Constellation`.
        method: "auto": the most likely sequence ("mlse") where the channel has at most 256 states, else "decision-feedback";
            the blind ones where nothing is known. "bcjr", "mmse", "zero-forcing"; with a training also "rls", "nlms", "lms";
            without "cma" (PSK) and "multimodulus" (QAM). See docs/channels.md.
        noise: "estimate", or its standard deviation, E|noise|^2 = noise**2 of a sample.
        samples_per_symbol: at which `received` and `channel` are sampled.
        count: how many symbols were sent; by default as many as there are. What stands before and after the symbols,
            nothing or others, is told from the signal; behind a burst in a longer recording, symbols are decided from noise
            alone, which the notes say.
        training_start: the number of the symbol at which the training begins, as of a midamble.
        length: of linear filters and of the forward filter, in symbols; by default enough.
        feedback: decisions that are fed back; by default all that interfere.
        taps: of the channel to be estimated, in samples; by default chosen by a criterion.
        most_states: of a trellis, beyond which "mlse" and "bcjr" are refused.

    Raises:
        ShapeError: no samples, a channel of zeros, fewer samples than taps or training, an unknown method or constellation, a
            training that is none of its points, too many states. DtypeError: no numbers. NonFinite: NaN or infinity.

    Source:
        Proakis & Salehi, "Digital Communications" (2008), ch. 9 and 10; Forney (1972) for the most likely sequence.

    Example:
        >>> import numpy
        >>> sent = numpy.sign(numpy.random.default_rng(0).standard_normal(1000))
        >>> received = numpy.convolve(sent, [0.407, 0.815, 0.407]) + 0.1 * numpy.random.default_rng(1).standard_normal(1002)
        >>> result = equalize(received, [0.407, 0.815, 0.407])
        >>> result.method, int((result.symbols != sent).sum())
        ('mlse', 0)
    """
    _refuse_method(method, channel is not None, training is not None)
    _refuse_counts({"samples_per_symbol": samples_per_symbol, "count": count, "length": length, "taps": taps})
    table = constellation_of(constellation)
    signals = as_samples("equalize", "received", received, "(..., n)")
    rows = signals.reshape(-1, signals.shape[-1])
    silent = torch.nonzero((rows == 0).all(-1)).flatten().tolist()
    if silent:
        raise ShapeError(
            f"equalize: signal {silent[0]} is all zeros, but samples with something in them were needed. Leave it out."
        )
    _refuse_size("received", rows)
    settings = Settings(
        table, method, _level(noise), samples_per_symbol, count, length, feedback, most_states, progress or (lambda *_: None)
    )
    found = tuple(_rows(rows, signals.shape[:-1], channel, training, training_start, taps, settings))
    return _result(received, signals, found, settings)


def _rows(
    rows: Tensor, shape: tuple[int, ...], channel: Any, training: Any, start: int, taps: int | None, settings: Settings
) -> list[Found]:
    """Work on all signals at once where they share a channel, else on one after another."""
    known = None if channel is None else as_samples("equalize", "channel", channel, "(..., k)")
    if known is not None:
        _refuse_channel(known, shape, rows.shape[-1])
    sent = None if training is None else as_samples("equalize", "training", training, "(t,)")
    if sent is not None and sent.ndim != 1:
        raise ShapeError(f"equalize: training is {tuple(sent.shape)}, but (t,) was needed, the same of all signals.")
    if known is not None and known.ndim == 1 and sent is None:
        return [through(Aligned(rows, known, 0), settings)]
    own = None if known is None else known.reshape(-1, known.shape[-1]).expand(len(rows), -1)
    found = []
    for number, row in enumerate(rows):
        settings.progress("equalising", number, len(rows))
        taps_here = None if own is None else own[number]
        if sent is None:
            found.append(blindly(row, settings) if taps_here is None else through(Aligned(row[None], taps_here, 0), settings))
        elif taps_here is not None:
            found.append(through(by_channel(row, taps_here, sent, start, settings), settings))
        elif settings.method in ADAPTIVE:
            found.append(adapted(row, sent, start, settings))
        else:
            found.append(through(by_training(row, sent, start, taps, settings), settings))
    settings.progress("equalising", len(rows), len(rows))
    return found


def _refuse_method(method: str, with_channel: bool, with_training: bool) -> None:
    if method not in METHODS:
        raise ShapeError(
            f"equalize: method is {method!r}; there are {', '.join(METHODS)}. Nearest: {nearest(str(method), METHODS)}."
        )
    if method in ADAPTIVE and (with_channel or not with_training):
        raise ShapeError(
            f"equalize: {method} learns from a training, and takes no channel. Pass training, and leave channel out."
        )
    if method in BLIND and (with_channel or with_training):
        raise ShapeError(
            f"equalize: {method} uses neither channel nor training, but one came. Leave it out, or use another method."
        )
    if method not in {"auto", *BLIND, *ADAPTIVE} and not (with_channel or with_training):
        raise ShapeError(f'equalize: {method} needs channel or training, and neither came. Pass one, or use "cma".')


def _refuse_size(name: str, values: Tensor) -> None:
    """Refuse samples whose squares are no longer numbers."""
    power = values.abs().square().sum(-1)
    if not bool(((power > torch.finfo(power.dtype).tiny) & (power < math.inf)).all()):
        raise ShapeError(
            f"equalize: {name} is of size {float(values.abs().max()):.3g}, whose square is no number in {values.dtype}. Scale "
            "received and channel alike, or pass double precision."
        )


def _refuse_counts(numbers_of: dict[str, int | None]) -> None:
    for name, value in numbers_of.items():
        if value is not None and value < 1:
            raise ShapeError(f"equalize: {name} is {value}, but at least 1 was needed.")


def _refuse_channel(channel: Tensor, shape: tuple[int, ...], n: int) -> None:
    if channel.ndim > 1 and tuple(channel.shape[:-1]) != tuple(shape):
        raise ShapeError(
            f"equalize: channel is {tuple(channel.shape)}, but (k,) or {(*shape, 'k')} was needed, one for each signal."
        )
    if bool((channel == 0).all(-1).any()):
        raise ShapeError("equalize: a channel is all zeros, through which nothing comes. Pass its taps.")
    _refuse_size("channel", channel)
    if channel.shape[-1] > n:
        raise ShapeError(
            f"equalize: channel has {channel.shape[-1]} taps, but received only {n} samples: no symbol was received whole. "
            f"Pass more."
        )


def _level(noise: float | str) -> float | None:
    if isinstance(noise, str) and noise == "estimate":
        return None
    if not fits_kind(noise, float):
        raise DtypeError(
            f'equalize: noise is {shown(noise)}, but "estimate" or a standard deviation was needed. Pass one number.'
        )
    if not 0 < float(noise) < math.inf:
        raise ShapeError(f'equalize: noise is {noise!r}, but "estimate" or a standard deviation above zero was needed.')
    return float(noise)


def _result(received: Any, signals: Tensor, found: tuple[Found, ...], settings: Settings) -> Equalized:
    """Put the rows together; where they hold different numbers of symbols, the shortest counts."""
    table = settings.table
    least = min(each.indices.shape[-1] for each in found)
    notes = [note for each in found for note in each.notes]
    if any(each.indices.shape[-1] > least for each in found):
        notes.append(f"signals hold different numbers of symbols; the first {least} of each are given")
    indices = torch.cat([each.indices[:, :least] for each in found]).reshape(*signals.shape[:-1], least)
    points = table.points.to(signals.device)
    kind = signals.dtype if signals.is_complex() == points.is_complex() else _kind_of(points, signals)
    delays = tuple(each.delay for each in found)
    channels = [each.channel for each in found if each.channel is not None]
    first = found[0]
    return Equalized(
        like(received, points.to(kind)[indices]),
        like(received, indices),
        delays[0] if len(set(delays)) == 1 else delays,
        first.method,
        math.sqrt(sum(each.noise**2 for each in found) / len(found)),
        like(received, channels[0] if len(channels) == 1 else _stacked(channels)) if channels else None,
        first.states,
        first.phase,
        first.frequency,
        first.ambiguity,
        all(each.converged for each in found),
        tuple(dict.fromkeys(notes)),
        table,
        received,
        settings.samples_per_symbol,
        tuple(signals.shape[:-1]),
        found,
    )


def _kind_of(points: Tensor, signals: Tensor) -> torch.dtype:
    """Return the number type of symbols whose signals are complex and they are not, or the other way about."""
    single = signals.dtype in (torch.float32, torch.complex64)
    if points.is_complex():
        return torch.complex64 if single else torch.complex128
    return torch.float32 if single else torch.float64


def _stacked(channels: list[Tensor]) -> Tensor:
    longest = max(len(each) for each in channels)
    return torch.stack([torch.nn.functional.pad(each, (0, longest - len(each))) for each in channels])
