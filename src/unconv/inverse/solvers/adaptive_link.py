"""What adaptive filters work on: signals cut into the windows that outputs are made of, training, and decisions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import torch

from unconv.errors import DtypeError, ShapeError
from unconv.inverse.solvers.arrays import as_samples
from unconv.inverse.solvers.loudness import refuse_silence
from unconv.kinds import shown

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Link:
    """Signals side by side, in double precision: all that the three algorithms share.

    Args:
        windows: (signals, K, L), the samples that each output is made of, the latest first. training: (signals, T).
        decide: symbols of outputs, (signals,), or None. feedback: B. loop: gains of the phase loop, zeros: none.
        start: (signals, L) taps at the start. sample_power: (signals, 1), mean power of a sample.
    """

    given: Any
    shape: tuple[int, ...]
    dtype: torch.dtype
    windows: Array
    training: Array
    decide: Callable[[Array], Array] | None
    feedback: int
    loop: tuple[float, float]
    start: Array
    sample_power: Array

    @property
    def power(self) -> Array:
        """(signals, 1), mean power of an input vector, the symbols fed back included: the trace of its correlation matrix."""
        fed: Any = np.mean(np.abs(self.training) ** 2, 1, keepdims=True) if self.training.size else 1.0
        power: Array = self.sample_power * self.windows.shape[-1] + self.feedback * fed
        return power


def link(
    where: str,
    received: Any,
    training: Any,
    length: int,
    decide: Any,
    rate: int,
    ahead: int | None,
    feedback: int,
    phase: float,
    initial: Any,
) -> Link:
    """Check what came, and lay out the windows.

    Args:
        where: who asks; the others are those of `lms`.

    Raises:
        ShapeError, DtypeError: as `lms`.
    """
    if length < 1 or rate < 1 or feedback < 0:
        raise ShapeError(
            f"{where}: length is {length}, samples_per_symbol {rate} and feedback {feedback}, but 1, 1 and 0 or more were "
            "needed."
        )
    samples = as_samples(where, "received", received, "(..., n)")
    refuse_silence(where, "received", samples)
    shape, n = tuple(samples.shape[:-1]), samples.shape[-1]
    plain = samples.reshape(-1, n).cpu().resolve_conj().numpy()
    count = -(-n // rate)
    known = _training(where, training, plain, shape, count)
    function, points = _decisions(where, decide)
    complex_ = any(np.iscomplexobj(each) for each in (plain, known, points))
    _refuse_unfit(where, plain, known, points, decide is not None, feedback, phase, count)
    kind = np.complex128 if complex_ else np.float64
    look = length // 2 if ahead is None else ahead
    if not 0 <= look < length:
        raise ShapeError(f"{where}: ahead is {look}, but a sample of the filter, 0 to {length - 1}, was needed.")
    # Window k begins at sample k rate + ahead and goes back in time.
    edge = max((count - 1) * rate + look + 1 - n, 0)
    padded = np.pad(plain.astype(kind), [(0, 0), (length - 1 - look, edge)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, length, axis=1)[:, : (count - 1) * rate + 1 : rate, ::-1]
    power: Array = np.mean(np.abs(plain.astype(kind)) ** 2, 1, keepdims=True)
    start = _initial(where, initial, len(plain), length, shape)
    if initial is None and not known.shape[1]:
        start[:, look] = 1 / np.sqrt(power[:, 0])
    wide = samples.dtype in (torch.float64, torch.complex128)
    dtype = torch.float64 if wide else torch.float32
    dtype = dtype.to_complex() if complex_ else dtype
    loop, known, start = _loop(where, phase), known.astype(kind), start.astype(kind)
    return Link(received, shape, dtype, windows, known, function, feedback, loop, start, power)


def _training(where: str, training: Any, plain: Array, shape: tuple[int, ...], count: int) -> Array:
    """Return the training of each signal, (signals, T)."""
    if training is None or np.size(training) == 0:
        return np.zeros((len(plain), 0))
    known = as_samples(where, "training", training, "(..., n)")
    if known.ndim > 1 and tuple(known.shape[:-1]) != shape:
        raise ShapeError(
            f"{where}: training is {tuple(known.shape)}, but (T,) or {(*shape, 'T')} was needed, as `received` has signals."
        )
    if known.shape[-1] > count:
        raise ShapeError(
            f"{where}: {known.shape[-1]} training symbols came, but `received` has only {count}. Pass those that were received."
        )
    table = known.cpu().resolve_conj().numpy().reshape(-1, known.shape[-1])
    return np.broadcast_to(table, (len(plain), table.shape[1]))


def _decisions(where: str, decide: Any) -> tuple[Callable[[Array], Array] | None, Array]:
    """Return the function that decides, and the points that it decides among, if they are known."""
    if decide is None or callable(decide):
        return decide, np.zeros(0)
    if isinstance(decide, str):
        raise DtypeError(f"{where}: decide is {shown(decide)}, but points (M,) or a function was needed. Pass its points.")
    points = as_samples(where, "decide", decide, "(..., n)").reshape(-1).cpu().numpy()

    def among(y: Array) -> Array:
        chosen: Array = points[np.abs(y[:, None] - points).argmin(1)]
        return chosen

    return among, points


def _refuse_unfit(
    where: str, plain: Array, known: Array, points: Array, decides: bool, feedback: int, phase: float, count: int
) -> None:
    """Refuse what cannot be equalised: nothing to learn from, real beside complex."""
    if not decides and not known.shape[1]:
        raise ShapeError(f"{where}: neither training nor decisions came, but one was needed. Pass `training` or `decide`.")
    if feedback and not decides and known.shape[1] < count:
        raise ShapeError(f"{where}: feedback is {feedback}, but after training it needs decisions. Pass `decide`.")
    if len(points) and not np.iscomplexobj(points) and np.iscomplexobj(known) and known.imag.any():
        raise DtypeError(f"{where}: training is complex, but decisions are real. Pass the points that were sent.")
    if phase and not np.iscomplexobj(plain):
        raise DtypeError(f"{where}: phase is {phase}, but real signals have none to track. Pass the complex baseband.")


def _loop(where: str, bandwidth: float) -> tuple[float, float]:
    """Return both gains of a second-order loop, critically damped by 1 / sqrt(2); Rice, "Digital Communications", app. C."""
    if not 0 <= bandwidth < 0.25:
        raise ShapeError(f"{where}: phase is {bandwidth}, but a loop bandwidth from 0 up to 0.25 was needed. Pass 0.01.")
    damping = sqrt(0.5)
    angle = bandwidth / (damping + 1 / (4 * damping))
    below = 1 + 2 * damping * angle + angle**2
    return 4 * damping * angle / below, 4 * angle**2 / below


def _initial(where: str, initial: Any, signals: int, length: int, shape: tuple[int, ...]) -> Array:
    """Return the taps at the start, (signals, L)."""
    if initial is None:
        return np.zeros((signals, length))
    taps = as_samples(where, "initial", initial, "(..., n)")
    if taps.shape[-1] != length or (taps.ndim > 1 and tuple(taps.shape[:-1]) != shape):
        raise ShapeError(f"{where}: initial is {tuple(taps.shape)}, but ({length},) or {(*shape, length)} was needed.")
    return np.broadcast_to(taps.cpu().resolve_conj().numpy().reshape(-1, length), (signals, length)).copy()
