"""Adaptive equalisers: LMS, normalised LMS and RLS, first by training symbols and then by their own decisions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unconv.errors import ShapeError
from unconv.inverse.solvers.adaptive_link import Array, Link, link
from unconv.inverse.solvers.arrays import like
from unconv.kinds import checks_kinds_but

Gain = Callable[[Array], Array]

_STEP = 0.1  # over the power of an input vector: LMS then ends 5 % above the least error
_REGULARISATION = 0.01  # of the input's power, on the diagonal with which RLS starts
_WORSE = 1.5  # times the symbols' power: an error above that is worse than that of an output of zeros
_LAST = 0.1  # the share of the symbols, at the end, that tells whether a filter diverged
_SILENT = 1e-4  # of the mean power of an input vector: less counts as silence
_EVERY = 64  # symbols between two repairs of RLS's matrix
_WIDEST = 1e6  # growth of RLS's matrix over its start at which it stops forgetting


@dataclass(frozen=True, eq=False)
class Adapted:
    """The outputs of an adaptive filter, symbol by symbol, and its final taps.

    Attributes:
        outputs: (..., K), soft symbols, each computed before the taps learn from it.
        errors: (..., K), desired symbol - output: from training, then from decisions. NaN where there is neither.
        taps: (..., L), the final ones: output[k] = sum of taps[j] received[k samples_per_symbol + ahead - j].
        feedback: (..., B), the final ones: the weights of the last B symbols, the latest first.
        phase: (..., K), radians, the rotation removed from each input; zeros if no phase was tracked.
        diverged: (...), whether the errors of the last tenth are worse than those of an output of zeros.
        notes: warnings, in words.
    """

    outputs: Any
    errors: Any
    taps: Any
    feedback: Any
    phase: Any
    diverged: Any
    notes: tuple[str, ...] = ()


@checks_kinds_but("received", "training", "decide", "initial")
def lms(
    received: Any,
    training: Any,
    length: int,
    decide: Any = None,
    *,
    step: float | None = None,
    samples_per_symbol: int = 1,
    ahead: int | None = None,
    feedback: int = 0,
    phase: float = 0.0,
    initial: Any = None,
) -> Adapted:
    """Equalise by least mean squares (LMS): after each symbol the taps move by step * error * conj(input).

    LMS is stable in the mean for 0 < step < 2 / (L power of the input). With Gaussian inputs, the power of the error stays
    bounded for a third of that. The error ends at J_min + J_ex, with J_ex = step J_min tr R / (2 - step tr R).

    Args:
        received: (..., n), real or complex. Leading axes hold signals, equalised side by side at little more than the cost of
            one.
        training: (T,) or (..., T), the first symbols; T may be 0 if there are decisions.
        length: L, the number of samples that make an output.
        decide: how to decide symbols after training: the points (M,) of a constellation, or a function that maps outputs
            (signals,), a NumPy array, to symbols. None: the taps stay as they are after training.
        step: None: 0.1 / (L power of the input), which ends about 5 % above the least error.
        samples_per_symbol: of `received`, from the first symbol on.
        ahead: the number of samples after a symbol's own that its output uses; by default half of the length.
        feedback: B, the number of decided symbols to feed back (a decision-feedback equaliser); before the first, zeros.
        phase: bandwidth of a second-order loop that tracks the carrier's phase, times the symbol's length, for example 0.01;
            0: no loop. Complex signals only.
        initial: (L,) or (..., L), the first taps; by default zeros, and without training 1 at the symbol's own sample.

    Raises:
        ShapeError: there is more training than symbols, or neither training nor decisions; a length, step or bandwidth is out
            of range; a signal is silent.
        DtypeError: the training is complex but the decisions are real; a phase was asked for real signals.

    Source:
        Widrow & Hoff (1960); Haykin, "Adaptive Filter Theory" (4th ed., 2002), ch. 5; Proakis,
        "Digital Communications", ch. 11.
    """
    options = (samples_per_symbol, ahead, feedback, phase, initial)
    signals = link("lms", received, training, length, decide, *options)
    bound = float((2 / signals.power).min())
    if step is not None and not 0 < step < float("inf"):
        raise ShapeError(f"lms: step is {step}, but one between 0 and {bound:.3g} was needed. Omit it for the default.")
    rate = _STEP / signals.power if step is None else np.full_like(signals.power, step)
    unstable = step is not None and step >= bound
    notes = (f"step {step:.3g} is not below {bound:.3g} = 2 / (L power): LMS is unstable there",) if unstable else ()
    return _adapted(signals, lambda x: rate * x.conj(), notes)


@checks_kinds_but("received", "training", "decide", "initial")
def nlms(
    received: Any,
    training: Any,
    length: int,
    decide: Any = None,
    *,
    step: float = 0.2,
    samples_per_symbol: int = 1,
    ahead: int | None = None,
    feedback: int = 0,
    phase: float = 0.0,
    initial: Any = None,
) -> Adapted:
    """Equalise by normalised LMS, whose step is divided by the power of each input vector, so that scale does not matter.

    Args:
        step: between 0 and 2; 1 learns fastest, and a smaller one ends closer to the least error.

    Other arguments and errors are those of `lms`.

    Source:
        Nagumo & Noda, "A learning method for system identification" (1967); Haykin, ch. 6.
    """
    if not 0 < step < 2:
        raise ShapeError(f"nlms: step is {step}, but one between 0 and 2 was needed. Pass 0.2.")
    options = (samples_per_symbol, ahead, feedback, phase, initial)
    signals = link("nlms", received, training, length, decide, *options)
    # Symbols fed back have a scale of their own. The input is scaled to power 1 like theirs, or the norm of the larger part
    # alone would set the step of both.
    scale = np.sqrt(signals.sample_power)
    least = 1e-6 * (length + feedback)

    def gain(x: Array) -> Array:
        g: Array = x.conj() * (step / (least + (x.real**2 + x.imag**2).sum(1, keepdims=True)))
        return g

    return _adapted(signals, gain, (), scale)


@checks_kinds_but("received", "training", "decide", "initial")
def rls(
    received: Any,
    training: Any,
    length: int,
    decide: Any = None,
    *,
    forgetting: float = 0.999,
    regularisation: float | None = None,
    samples_per_symbol: int = 1,
    ahead: int | None = None,
    feedback: int = 0,
    phase: float = 0.0,
    initial: Any = None,
) -> Adapted:
    """Equalise by recursive least squares (RLS): at each symbol the taps minimise a weighted sum of all squared errors so far.

    The sum is that of forgetting^(k - i) |error[i]|^2 plus forgetting^(k + 1) regularisation |taps - initial|^2.
    RLS learns in about 2 L symbols, for any channel, at O(L^2) each.

    Args:
        forgetting: above 0 and up to 1; 0.999 remembers about 1,000 symbols.
        regularisation: above zero, in units of the input's power; by default 0.01 of that.

    Other arguments and errors are those of `lms`. RLS does not forget during silence, nor while the input has excited too few
    of the taps (as a tone does) for so long that the inverse matrix has grown a millionfold.

    Source:
        Haykin, "Adaptive Filter Theory" (4th ed., 2002), ch. 9; Verhaegen, "Round-off error propagation in four generally
        applicable, recursive, least-squares estimation schemes" (1989), for keeping the matrix Hermitian.
    """
    if not 0 < forgetting <= 1:
        raise ShapeError(f"rls: forgetting is {forgetting}, but one above 0 and up to 1 was needed. Pass 0.999.")
    options = (samples_per_symbol, ahead, feedback, phase, initial)
    signals = link("rls", received, training, length, decide, *options)
    if regularisation is not None and not 0 < regularisation < float("inf"):
        raise ShapeError(f"rls: regularisation is {regularisation}, but a number above zero was needed. Omit it.")
    power = signals.sample_power
    weight = _REGULARISATION * power if regularisation is None else np.full_like(power, regularisation)
    return _adapted(
        signals, _rls_gain(weight, _SILENT * signals.power, length + feedback, signals.windows.dtype, forgetting), ()
    )


def _rls_gain(weight: Array, silent: Array, size: int, dtype: Any, forgetting: float) -> Gain:
    """Return the function that maps each input (signals, size) to its gain, and updates the inverse correlation matrix.

    Args:
        weight: (signals, 1), the regularisation. silent: (signals, 1), the power of an input below which RLS does not forget.
    """
    # Haykin (2002), ch. 9: the matrix inversion lemma turns each new input into an update of rank one, O(L^2) instead of
    # the O(L^3) of a new inverse.
    inverse = (np.eye(size) / weight[:, :, None]).astype(dtype)
    count, decay_if_heard = 0, np.full_like(weight, forgetting)

    def gain(x: Array) -> Array:
        nonlocal inverse, count, decay_if_heard
        decay = np.where((x.real**2 + x.imag**2).sum(1, keepdims=True) > silent, decay_if_heard, 1.0)
        filtered = np.matmul(inverse, x.conj()[:, :, None])[:, :, 0]
        denominator = (x * filtered).sum(1, keepdims=True).real + decay
        g = filtered / denominator
        # Verhaegen (1989): the subtracted matrix is a vector times its own conjugate, so it is Hermitian. Rounding still
        # accumulates, so the matrix is made Hermitian again every `_EVERY` symbols.
        inverse -= g[:, :, None] * filtered.conj()[:, None, :]
        inverse /= decay[:, :, None]
        count += 1
        if count % _EVERY == 0:
            inverse = (inverse + inverse.conj().swapaxes(1, 2)) / 2
            widest = np.einsum("bii->bi", inverse).real.max(1, keepdims=True)
            decay_if_heard = np.where(widest > _WIDEST / weight, 1.0, forgetting)
        result: Array = g
        return result

    return gain


def _adapted(signals: Link, gain: Gain, notes: tuple[str, ...], scale: Any = 1.0) -> Adapted:
    """Run the filter, and return its results in the kind and shape of the received signals."""
    # A filter that diverges overflows: the result says so, instead of a NumPy warning.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        outputs, errors, weights, phases = _run(signals, gain, scale)
    length = signals.windows.shape[-1]
    known = np.arange(errors.shape[1]) < (signals.training.shape[1] if signals.decide is None else errors.shape[1])
    last_errors = np.abs(errors[:, known])[:, -max(int(_LAST * known.sum()), 1) :]
    with np.errstate(over="ignore", invalid="ignore"):
        desired = np.abs(outputs + errors)[:, known]
        limit = _WORSE * np.nanmean(np.where(np.isfinite(desired), desired, np.nan) ** 2, 1)
        diverged = ~(np.mean(last_errors**2, 1) <= limit) | ~np.isfinite(weights).all(1)
    if diverged.any():
        count = f" ({int(diverged.sum())} of {len(diverged)} signals)" if len(diverged) > 1 else ""
        notes = (*notes, f"diverged{count}: the last errors are worse than those of an output of zeros; pass a smaller step")

    def shaped(values: Array, real: bool = False) -> Any:
        kind = signals.dtype.to_real() if real else signals.dtype
        tensor = torch.from_numpy(values.real.copy() if real else values).to(kind).reshape(*signals.shape, *values.shape[1:])
        return like(signals.received, tensor.to(signals.received.device) if isinstance(signals.received, Tensor) else tensor)

    state: Any = torch.from_numpy(diverged).reshape(signals.shape)
    state = like(signals.received, state) if signals.shape else bool(diverged[0])
    parts = shaped(weights[:, :length] / scale), shaped(weights[:, length:]), shaped(phases, real=True)
    return Adapted(shaped(outputs), shaped(errors), *parts, state, notes)


def _run(signals: Link, gain: Gain, scale: Any) -> tuple[Array, Array, Array, Array]:
    """Return outputs and errors (signals, K), weights (signals, L + B) and phases (signals, K)."""
    windows, training, decide = signals.windows, signals.training, signals.decide
    (batch, count, length), (proportional, integral) = windows.shape, signals.loop
    x = np.zeros((batch, length + signals.feedback), windows.dtype)
    weights = np.concatenate([signals.start * scale, np.zeros((batch, signals.feedback))], 1).astype(windows.dtype)
    outputs, errors = np.full((2, batch, count), np.nan, windows.dtype)
    phases, phase, frequency = np.zeros((batch, count)), np.zeros(batch), np.zeros(batch)
    row, column = x[:, None, :], weights[:, :, None]  # views of arrays that change in place
    trained, tracks, unit = training.shape[1], proportional > 0, 1 / scale
    for k in range(count):
        x[:, :length] = windows[:, k] * unit
        if tracks:
            x[:, :length] *= np.exp(-1j * phase)[:, None]
            phases[:, k] = phase
        # The output comes before the update, so that `errors` are those of taps that have not seen the symbol.
        y = np.matmul(row, column)[:, 0, 0]
        outputs[:, k] = y
        if k < trained:
            desired = training[:, k]
        elif decide is not None:
            desired = decide(y)
        else:
            continue
        errors[:, k] = error = desired - y
        weights += gain(x) * error[:, None]
        if tracks:
            # The angle between output and symbol, to first order, is the error of the phase loop.
            angle = (y * desired.conj()).imag / np.maximum((desired * desired.conj()).real, 1e-12)
            frequency += integral * angle
            phase += frequency + proportional * angle
        if signals.feedback:
            x[:, length + 1 :] = x[:, length:-1].copy()
            x[:, length] = desired
    return outputs, errors, weights, phases
