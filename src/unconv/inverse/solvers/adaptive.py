"""Filters that learn symbol by symbol: LMS, normalised LMS and RLS, first from training and then from their own decisions."""

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

_STEP = 0.1  # of 1 / (power of an input vector): LMS then ends 5 % above the least error
_REGULARISED = 0.01  # of the input's power, on the diagonal that RLS starts with
_WORSE = 1.5  # times the symbols' power: an error above that is worse than silence's
_LAST = 0.1  # of the symbols, over which that is measured
_SILENT = 1e-4  # of the mean power of an input vector
_EVERY = 64  # symbols between two repairs of RLS's matrix
_WIDEST = 1e6  # growth of RLS's matrix, over its start, at which it stops forgetting


@dataclass(frozen=True, eq=False)
class Adapted:
    """What an adaptive filter gave, symbol by symbol, and where it ended.

    Attributes:
        outputs: (..., K), soft symbols, each from the taps before they saw it.
        errors: (..., K), wanted - output: of training, then of decisions. NaN where neither was known.
        taps: (..., L), at the end: output[k] = sum of taps[j] received[k samples_per_symbol + ahead - j].
        feedback: (..., B), at the end: what is added of the last B symbols, the latest first.
        phase: (..., K), radians, by which each input was turned back; zeros where no phase was tracked.
        diverged: (...), whether the errors of the last tenth are worse than those of no filter at all.
        notes: what was odd.
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
    """Equalise by least mean squares: after each symbol the taps move by step * error * conj(input).

    Stable in the mean for 0 < step < 2 / (L power of the input); with Gaussian inputs the error's power stays bounded for a
    third of that. It ends at J_min + J_ex, with J_ex = step J_min tr R / (2 - step tr R).

    Args:
        received: (..., n), real or complex. Signals in front are equalised side by side, at little more than the cost of one.
        training: (T,) or (..., T), the first symbols; T may be 0 if there are decisions.
        length: L, samples that an output is made of.
        decide: how symbols are decided after training: the points (M,) of a constellation, or a function of outputs
            (signals,) as a NumPy array to symbols. None: the taps stay as training left them.
        step: None: 0.1 / (L power of the input), which ends about 5 % above the least error.
        samples_per_symbol: of `received`, from the first symbol on.
        ahead: samples after its own that an output sees; by default half of the length.
        feedback: B decided symbols that are fed back (a decision-feedback equaliser); before the first, zeros.
        phase: bandwidth of a second-order loop that tracks the carrier's phase, times the symbol's length: 0.01, for example;
            0: none. Complex signals only.
        initial: (L,) or (..., L), taps at the start; by default zeros, and without training 1 in the symbol's own place.

    Raises:
        ShapeError: more training than symbols; neither training nor decisions; lengths, steps or bandwidths that cannot be;
            silence. DtypeError: training that is complex where decisions are real; a phase of real signals.

    Source:
        Widrow & Hoff (1960); Haykin, "Adaptive Filter Theory" (4th ed., 2002), ch. 5; Proakis,
        "Digital Communications", ch. 11.
    """
    options = (samples_per_symbol, ahead, feedback, phase, initial)
    given = link("lms", received, training, length, decide, *options)
    bound = float((2 / given.power).min())
    if step is not None and not 0 < step < float("inf"):
        raise ShapeError(f"lms: step is {step}, but one between 0 and {bound:.3g} was needed. Leave it out.")
    rate = _STEP / given.power if step is None else np.full_like(given.power, step)
    unstable = step is not None and step >= bound
    told = (f"step {step:.3g} is not below {bound:.3g}, 2 / (L power): LMS is unstable there",) if unstable else ()
    return _adapted(given, lambda x: rate * x.conj(), told)


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
    """Equalise by normalised LMS: its step is divided by the power of each input vector, so that no scale matters.

    Args:
        step: between 0 and 2; 1 learns fastest, and less ends nearer to the least error.

    Other arguments and refusals are those of `lms`.

    Source:
        Nagumo & Noda, "A learning method for system identification" (1967); Haykin, ch. 6.
    """
    if not 0 < step < 2:
        raise ShapeError(f"nlms: step is {step}, but one between 0 and 2 was needed: beyond, it diverges.")
    options = (samples_per_symbol, ahead, feedback, phase, initial)
    given = link("nlms", received, training, length, decide, *options)
    # What is fed back has the symbols' scale: the input is brought to it, so that neither drowns the other.
    scale = np.sqrt(given.sample_power)
    least = 1e-6 * (length + feedback)

    def gain(x: Array) -> Array:
        g: Array = x.conj() * (step / (least + (x.real**2 + x.imag**2).sum(1, keepdims=True)))
        return g

    return _adapted(given, gain, (), scale)


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
    """Equalise by recursive least squares: at each symbol the taps minimise the weighted sum of all squared errors so far.

    The sum is that of forgetting^(k - i) |error[i]|^2, and forgetting^(k + 1) regularisation |taps - initial|^2.
    Learns in about 2 L symbols, whatever the channel, at O(L^2) each.

    Args:
        forgetting: above 0 and up to 1; 0.999 remembers about 1,000 symbols.
        regularisation: above zero, in units of the input's power; by default 0.01 of that.

    Other arguments and refusals are those of `lms`. In silence nothing is forgotten, nor where the input excites too few of
    the taps (a tone) for so long that the inverse matrix has grown a million times.

    Source:
        Haykin, "Adaptive Filter Theory" (4th ed., 2002), ch. 9; Verhaegen, "Round-off error propagation in four generally
        applicable, recursive, least-squares estimation schemes" (1989), for keeping the matrix Hermitian.
    """
    if not 0 < forgetting <= 1:
        raise ShapeError(f"rls: forgetting is {forgetting}, but one above 0 and up to 1 was needed. Pass 0.999.")
    options = (samples_per_symbol, ahead, feedback, phase, initial)
    given = link("rls", received, training, length, decide, *options)
    if regularisation is not None and not 0 < regularisation < float("inf"):
        raise ShapeError(f"rls: regularisation is {regularisation}, but a number above zero was needed. Leave it out.")
    power = given.sample_power
    weight = _REGULARISED * power if regularisation is None else np.full_like(power, regularisation)
    return _adapted(given, _rls_gain(weight, _SILENT * given.power, length + feedback, given.windows.dtype, forgetting), ())


def _rls_gain(weight: Array, silent: Array, size: int, dtype: Any, forgetting: float) -> Gain:
    """Return the function that takes each input (signals, size) to its gain, and keeps the inverse correlation matrix.

    Args:
        weight: (signals, 1), the regularisation. silent: (signals, 1), power of an input in which nothing is forgotten.
    """
    inverse = (np.eye(size) / weight[:, :, None]).astype(dtype)
    count, usual = 0, np.full_like(weight, forgetting)

    def gain(x: Array) -> Array:
        nonlocal inverse, count, usual
        decay = np.where((x.real**2 + x.imag**2).sum(1, keepdims=True) > silent, usual, 1.0)
        turned = np.matmul(inverse, x.conj()[:, :, None])[:, :, 0]
        against = (x * turned).sum(1, keepdims=True).real + decay
        g = turned / against
        # From one vector and its own conjugate, what is taken away is Hermitian and never of more than rank one.
        inverse -= g[:, :, None] * turned.conj()[:, None, :]
        inverse /= decay[:, :, None]
        count += 1
        if count % _EVERY == 0:
            inverse = (inverse + inverse.conj().swapaxes(1, 2)) / 2
            widest = np.einsum("bii->bi", inverse).real.max(1, keepdims=True)
            usual = np.where(widest > _WIDEST / weight, 1.0, forgetting)
        found: Array = g
        return found

    return gain


def _adapted(given: Link, gain: Gain, told: tuple[str, ...], scale: Any = 1.0) -> Adapted:
    """Run the filter and put what it gave into the kind and shape that the signals came in."""
    # Overflow is what divergence looks like: it is told afterwards, and not by a warning.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        outputs, errors, weights, phases = _run(given, gain, scale)
    length = given.windows.shape[-1]
    known = np.arange(errors.shape[1]) < (given.training.shape[1] if given.decide is None else errors.shape[1])
    last = np.abs(errors[:, known])[:, -max(int(_LAST * known.sum()), 1) :]
    with np.errstate(over="ignore", invalid="ignore"):
        wanted = np.abs(outputs + errors)[:, known]
        reach = _WORSE * np.nanmean(np.where(np.isfinite(wanted), wanted, np.nan) ** 2, 1)
        diverged = ~(np.mean(last**2, 1) <= reach) | ~np.isfinite(weights).all(1)
    if diverged.any():
        which = f" ({int(diverged.sum())} of {len(diverged)} signals)" if len(diverged) > 1 else ""
        told = (*told, f"diverged{which}: the last errors are worse than those of no filter; take a smaller step")

    def back(values: Array, real: bool = False) -> Any:
        kind = given.dtype.to_real() if real else given.dtype
        made = torch.from_numpy(values.real.copy() if real else values).to(kind).reshape(*given.shape, *values.shape[1:])
        return like(given.given, made.to(given.given.device) if isinstance(given.given, Tensor) else made)

    state: Any = torch.from_numpy(diverged).reshape(given.shape)
    state = like(given.given, state) if given.shape else bool(diverged[0])
    parts = back(weights[:, :length] / scale), back(weights[:, length:]), back(phases, real=True)
    return Adapted(back(outputs), back(errors), *parts, state, told)


def _run(given: Link, gain: Gain, scale: Any) -> tuple[Array, Array, Array, Array]:
    """Return outputs and errors (signals, K), weights (signals, L + B) and phases (signals, K)."""
    windows, training, decide = given.windows, given.training, given.decide
    (signals, count, length), (proportional, integral) = windows.shape, given.loop
    x = np.zeros((signals, length + given.feedback), windows.dtype)
    weights = np.concatenate([given.start * scale, np.zeros((signals, given.feedback))], 1).astype(windows.dtype)
    outputs, errors = np.full((2, signals, count), np.nan, windows.dtype)
    phases, phase, frequency = np.zeros((signals, count)), np.zeros(signals), np.zeros(signals)
    row, column = x[:, None, :], weights[:, :, None]  # views: both change in place
    trained, tracks, unit = training.shape[1], proportional > 0, 1 / scale
    for k in range(count):
        x[:, :length] = windows[:, k] * unit
        if tracks:
            x[:, :length] *= np.exp(-1j * phase)[:, None]
            phases[:, k] = phase
        y = np.matmul(row, column)[:, 0, 0]
        outputs[:, k] = y
        if k < trained:
            wanted = training[:, k]
        elif decide is not None:
            wanted = decide(y)
        else:
            continue
        errors[:, k] = error = wanted - y
        weights += gain(x) * error[:, None]
        if tracks:
            # Angle of y against the symbol, to first order; what is left of it is the loop's error.
            off = (y * wanted.conj()).imag / np.maximum((wanted * wanted.conj()).real, 1e-12)
            frequency += integral * off
            phase += frequency + proportional * off
        if given.feedback:
            x[:, length + 1 :] = x[:, length:-1].copy()
            x[:, length] = wanted
    return outputs, errors, weights, phases
