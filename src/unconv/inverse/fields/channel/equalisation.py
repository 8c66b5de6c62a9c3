"""Recover symbols from received samples in one call: the channel known, estimated from a training sequence, or unknown."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unconv.errors import DtypeError, ShapeError, counted, nearest
from unconv.inverse.fields.channel.constellations import Constellation
from unconv.inverse.fields.channel.constellations import constellation as constellation_of
from unconv.inverse.fields.channel.method_table import ADAPTIVE, BLIND, METHODS, Method
from unconv.inverse.fields.channel.rates import ErrorRate, bit_error_rate, symbol_error_rate
from unconv.inverse.fields.channel.receiving import LinkResult, equalize_adaptively, equalize_blindly, equalize_known
from unconv.inverse.fields.channel.synchronisation import AlignedSignals, Settings, align_by_training, align_with_channel
from unconv.inverse.solvers.arrays import as_samples, like
from unconv.kinds import checks_kinds_but, fits_kind, shown
from unconv.progress import Progress


@dataclass(frozen=True, eq=False)
class Equalized:
    """The symbols that were sent, as decided from the received samples.

    Attributes:
        symbols: (..., N), decided points of the constellation, an array or a tensor as `received` is. Symbol i is the i-th
            that was sent.
        indices: (..., N), the same as indices into the points of the constellation.
        delay: the sample of `received` at which symbol 0 arrives through the channel's first tap; a tuple where signals
            differ. It is 0 without a training sequence, and negative where the samples begin after that arrival. The decision
            delay of the equaliser itself is already removed.
        method: the method that was used, never "auto".
        noise: standard deviation of the noise of a received sample, E|noise|^2 = noise**2, as passed or estimated; NaN for
            blind methods.
        channel: (k,), or (signals, k) where each signal has its own: taps at the rate of `received`, for symbols in the units
            of the constellation; None for adaptive and blind methods.
        states: states of the trellis; 0 for methods without one.
        phase, frequency: the carrier phase at the first symbol, in radians, and the carrier frequency offset, in radians per
            symbol, that were removed; those of the first signal.
        ambiguity: the phase ambiguity: angles by which all symbols may still be rotated; the samples cannot tell which.
        converged: False where an adaptive or blind method did not converge.
        notes: what was estimated and corrected, and why the result may not be reliable. Read them.
        constellation: the constellation.
        received: the samples as they were passed. samples_per_symbol: their rate.
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
    _results: tuple[LinkResult, ...] = field(default=(), repr=False)

    @cached_property
    def bits(self) -> Any:
        """(..., N * m), the bits of the symbols, by the labels of the constellation."""
        return self.constellation.bits(self.indices)

    @cached_property
    def soft(self) -> Any:
        """(..., N), soft symbols before the decision: equalised samples; for "mlse" and "bcjr" posterior means."""
        return self._joined([result.soft() for result in self._results])

    @cached_property
    def llr(self) -> Any:
        """(..., N * m), log-likelihood ratios of the bits, log P(bit = 0) / P(bit = 1); exact for "mlse" and "bcjr"."""
        return self._joined([result.ratios() for result in self._results])

    @property
    def mse(self) -> float:
        """Mean squared error of `soft` against the decisions, over the mean symbol power; too small where some are wrong."""
        soft, symbols = (as_samples("mse", "soft", each, "(..., n)") for each in (self.soft, self.symbols))
        return float((soft - symbols).abs().square().mean()) / self.constellation.power

    def symbol_errors(self, sent: Any) -> ErrorRate:
        """Return the symbol error rate against the symbols sent, (..., N) or fewer, with its 95 % interval."""
        return symbol_error_rate(sent, self.symbols[..., : np.shape(sent)[-1]])

    def bit_errors(self, sent: Any) -> ErrorRate:
        """Return the bit error rate against the bits sent, (..., N * m) or fewer, with its 95 % interval."""
        return bit_error_rate(sent, self.bits[..., : np.shape(sent)[-1]])

    def _joined(self, rows: list[Tensor]) -> Any:
        least = min(row.shape[-1] for row in rows)
        joined = torch.cat([row[:, :least] for row in rows])
        return like(self.received, joined.reshape(*self._shape, -1))


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
    """Equalise received samples y[t] = sum_k channel[k] s[t - k] + noise, and decide the symbols s that were sent.

    What is known of the channel decides what is done:

    - With `channel`, the carrier's phase and frequency offset are estimated and removed, and symbols are decided.
    - With `training`, the training sequence is found in the signal, the channel is estimated from it by least squares, and
      symbols are decided as above; then the channel is estimated again from all decisions.
    - With both, the training sequence gives the delay and the channel's complex gain.
    - With neither, equalisation is blind: a phase ambiguity and an unknown delay of whole symbols remain, as the notes say.

    Args:
        received: (..., n), real or complex samples: an array, a list or a tensor. Several signals may share
            `channel`, and share `training`.
        channel: (k,), impulse response from symbol to samples, pulse shaping included; or (..., k), one for each signal.
        training: (t,), known symbols, points of the constellation; the first t sent, unless `training_start` says otherwise.
        constellation: "bpsk", "qpsk", "8psk", "4pam", "16qam" and so on, an array of points, or a `Constellation`.
        method: "auto" chooses the most likely sequence ("mlse") where the trellis has at most 256 states, else
            "decision-feedback", and a blind method where nothing is known. Others are "bcjr", "mmse" and "zero-forcing"; with
            a training sequence also "rls", "nlms" and "lms"; without one "cma" (PSK) and "multimodulus" (QAM). See
            docs/channels.md.
        noise: "estimate", or the standard deviation of a sample's noise, E|noise|^2 = noise**2.
        samples_per_symbol: the rate of `received` and `channel`.
        count: how many symbols were sent; by default as many as `received` holds. Whether other symbols or silence surround
            them is estimated. After a burst in a longer recording, decisions are made on noise alone; a note says so.
        training_start: number of the symbol at which the training sequence begins, as for a midamble.
        length: length of a linear filter, or of a decision-feedback equaliser's forward filter, in symbols; by default chosen.
        feedback: how many decisions are fed back; by default as many as interfere.
        taps: length of the channel to be estimated, in samples; by default chosen by the Bayesian information criterion.
        most_states: largest trellis that "mlse" and "bcjr" may use.
        progress: called with what is being done, how much is done, and how much there is in all.

    Raises:
        ShapeError: no samples, a channel of zeros, fewer samples than taps or training symbols, an unknown method or
            constellation, training symbols that are not points of it, a trellis with too many states.
        DtypeError: values that are not numbers. NonFinite: NaN or infinity.

    Source:
        Proakis & Salehi, "Digital Communications" (2008), ch. 9 and 10; Forney, "Maximum-likelihood sequence estimation of
        digital sequences in the presence of intersymbol interference" (1972), for the most likely sequence.

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
        raise ShapeError(f"equalize: signal {silent[0]} is all zeros, but samples that hold symbols were needed. Leave it out.")
    _refuse_size("received", rows)
    settings = Settings(
        table, method, _level(noise), samples_per_symbol, count, length, feedback, most_states, progress or (lambda *_: None)
    )
    results = tuple(_each(rows, signals.shape[:-1], channel, training, training_start, taps, settings))
    return _result(received, signals, results, settings)


def _each(
    rows: Tensor, shape: tuple[int, ...], channel: Any, training: Any, start: int, taps: int | None, settings: Settings
) -> list[LinkResult]:
    """Equalise all signals at once where they share a known channel, else one after another."""
    known = None if channel is None else as_samples("equalize", "channel", channel, "(..., k)")
    if known is not None:
        _refuse_channel(known, shape, rows.shape[-1])
    sent = None if training is None else as_samples("equalize", "training", training, "(t,)")
    if sent is not None and sent.ndim != 1:
        raise ShapeError(
            f"equalize: training is {tuple(sent.shape)}, but (t,) was needed, the same for all signals. Pass one sequence."
        )
    if known is not None and known.ndim == 1 and sent is None:
        return [equalize_known(AlignedSignals(rows, known, 0), settings)]
    # A training sequence lies at another sample of each signal, so that these cannot be equalised side by side.
    channels = None if known is None else known.reshape(-1, known.shape[-1]).expand(len(rows), -1)
    results = []
    for number, row in enumerate(rows):
        settings.progress("equalising", number, len(rows))
        own = None if channels is None else channels[number]
        if sent is None:
            aligned = None if own is None else AlignedSignals(row[None], own, 0)
            results.append(equalize_blindly(row, settings) if aligned is None else equalize_known(aligned, settings))
        elif own is not None:
            results.append(equalize_known(align_with_channel(row, own, sent, start, settings), settings))
        elif settings.method in ADAPTIVE:
            results.append(equalize_adaptively(row, sent, start, settings))
        else:
            results.append(equalize_known(align_by_training(row, sent, start, taps, settings), settings))
    settings.progress("equalising", len(rows), len(rows))
    return results


def _refuse_method(method: str, with_channel: bool, with_training: bool) -> None:
    if method not in METHODS:
        raise ShapeError(
            f"equalize: method is {method!r}, but one of {', '.join(METHODS)} was needed. Nearest: "
            f"{nearest(str(method), METHODS)}."
        )
    if method in ADAPTIVE and (with_channel or not with_training):
        raise ShapeError(
            f"equalize: method is {method!r}, which adapts to a training sequence and takes no channel. Pass training, and "
            "leave channel out."
        )
    if method in BLIND and (with_channel or with_training):
        raise ShapeError(
            f"equalize: method is {method!r}, which is blind, but channel or training was passed. Leave them out, or use "
            "another method."
        )
    if method not in {"auto", *BLIND, *ADAPTIVE} and not (with_channel or with_training):
        raise ShapeError(
            f'equalize: method is {method!r}, which needs channel or training, but neither was passed. Pass one, or use "cma".'
        )


def _refuse_size(name: str, values: Tensor) -> None:
    """Refuse samples whose squares overflow or underflow."""
    power = values.abs().square().sum(-1)
    if not bool(((power > torch.finfo(power.dtype).tiny) & (power < math.inf)).all()):
        raise ShapeError(
            f"equalize: {name} reaches {float(values.abs().max()):.3g}, whose square overflows or underflows in "
            f"{values.dtype}. Scale received and channel by the same factor, or pass double precision."
        )


def _refuse_counts(numbers_of: dict[str, int | None]) -> None:
    for name, value in numbers_of.items():
        if value is not None and value < 1:
            raise ShapeError(f"equalize: {name} is {value}, but 1 or more was needed.")


def _refuse_channel(channel: Tensor, shape: tuple[int, ...], n: int) -> None:
    if channel.ndim > 1 and tuple(channel.shape[:-1]) != tuple(shape):
        raise ShapeError(
            f"equalize: channel is {tuple(channel.shape)}, but (k,) or {(*shape, 'k')} was needed, one for each signal."
        )
    if bool((channel == 0).all(-1).any()):
        raise ShapeError("equalize: a channel is all zeros, but at least one tap other than 0 was needed. Pass its taps.")
    _refuse_size("channel", channel)
    if channel.shape[-1] > n:
        raise ShapeError(
            f"equalize: channel has {counted(channel.shape[-1], 'tap')}, but received has only {counted(n, 'sample')}, too few "
            "for the response to one symbol. Pass more samples, or fewer taps."
        )


def _level(noise: float | str) -> float | None:
    if isinstance(noise, str) and noise == "estimate":
        return None
    if not fits_kind(noise, float):
        raise DtypeError(
            f'equalize: noise is {shown(noise)}, but "estimate" or a standard deviation was needed. Pass one number.'
        )
    if not 0 < float(noise) < math.inf:
        raise ShapeError(f'equalize: noise is {noise!r}, but "estimate" or a standard deviation above 0 was needed.')
    return float(noise)


def _result(received: Any, signals: Tensor, results: tuple[LinkResult, ...], settings: Settings) -> Equalized:
    """Combine the results of all signals; where they hold different numbers of symbols, the smallest number counts."""
    table = settings.table
    least = min(each.indices.shape[-1] for each in results)
    notes = [note for each in results for note in each.notes]
    if any(each.indices.shape[-1] > least for each in results):
        notes.append(f"signals hold different numbers of symbols; only the first {least} of each are returned")
    indices = torch.cat([each.indices[:, :least] for each in results]).reshape(*signals.shape[:-1], least)
    points = table.points.to(signals.device)
    kind = signals.dtype if signals.is_complex() == points.is_complex() else _kind_of(points, signals)
    delays = tuple(each.delay for each in results)
    channels = [each.channel for each in results if each.channel is not None]
    first = results[0]
    return Equalized(
        like(received, points.to(kind)[indices]),
        like(received, indices),
        delays[0] if len(set(delays)) == 1 else delays,
        first.method,
        math.sqrt(sum(each.noise**2 for each in results) / len(results)),
        like(received, channels[0] if len(channels) == 1 else _stacked(channels)) if channels else None,
        first.states,
        first.phase,
        first.frequency,
        first.ambiguity,
        all(each.converged for each in results),
        tuple(dict.fromkeys(notes)),  # each note once, however many signals it is about
        table,
        received,
        settings.samples_per_symbol,
        tuple(signals.shape[:-1]),
        results,
    )


def _kind_of(points: Tensor, signals: Tensor) -> torch.dtype:
    """Return the dtype of symbols, in the precision of signals that are complex where they are real, or vice versa."""
    single = signals.dtype in (torch.float32, torch.complex64)
    if points.is_complex():
        return torch.complex64 if single else torch.complex128
    return torch.float32 if single else torch.float64


def _stacked(channels: list[Tensor]) -> Tensor:
    longest = max(len(each) for each in channels)
    return torch.stack([torch.nn.functional.pad(each, (0, longest - len(each))) for each in channels])
