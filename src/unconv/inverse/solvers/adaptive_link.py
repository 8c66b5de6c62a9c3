"""The input of adaptive filters: signals cut into windows, one for each output, with training and decisions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import torch

from unconv.errors import DtypeError, ShapeError, counted
from unconv.inverse.solvers.arrays import as_samples
from unconv.inverse.solvers.loudness import refuse_silence
from unconv.kinds import shown

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Link:
    """Signals side by side, in double precision: the input of all three algorithms.

    Args:
        received: the caller's array. shape, dtype: of the signals, and of results.
        windows: (signals, K, L), the samples of each output, the latest first. training: (signals, T).
        decide: maps outputs (signals,) to symbols, or None. feedback: B. loop: gains of the phase loop; zeros: no loop.
        start: (signals, L), the first taps. sample_power: (signals, 1), the mean power of a sample.
    """

    received: Any
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
        """The mean power of an input vector with its fed-back symbols, the trace of its correlation matrix: (signals, 1)."""
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
    """Check the arguments, and return the signals cut into windows.

    Args:
        where: the function to name in errors. The others are those of `lms`.

    Raises:
        ShapeError, DtypeError: as `lms`.
    """
    if length < 1 or rate < 1 or feedback < 0:
        raise ShapeError(
            f"{where}: length is {length}, samples_per_symbol {rate} and feedback {feedback}, but at least 1, 1 and 0 "
            "were needed."
        )
    samples = as_samples(where, "received", received, "(..., n)")
    refuse_silence(where, "received", samples)
    shape, n = tuple(samples.shape[:-1]), samples.shape[-1]
    rows = samples.reshape(-1, n).cpu().resolve_conj().numpy()
    count = -(-n // rate)
    known = _training(where, training, rows, shape, count)
    function, points = _decisions(where, decide)
    complex_ = any(np.iscomplexobj(each) for each in (rows, known, points))
    _refuse_unfit(where, rows, known, points, decide is not None, feedback, phase, count)
    kind = np.complex128 if complex_ else np.float64
    lead = length // 2 if ahead is None else ahead
    if not 0 <= lead < length:
        raise ShapeError(f"{where}: ahead is {lead}, but 0 to {length - 1}, a sample of the filter, was needed.")
    # Window k begins at sample k rate + ahead and goes back in time. A strided view: the windows overlap, and copies of them
    # would take `length` times the memory of the signals.
    after = max((count - 1) * rate + lead + 1 - n, 0)
    padded = np.pad(rows.astype(kind), [(0, 0), (length - 1 - lead, after)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, length, axis=1)[:, : (count - 1) * rate + 1 : rate, ::-1]
    power: Array = np.mean(np.abs(rows.astype(kind)) ** 2, 1, keepdims=True)
    start = _initial(where, initial, len(rows), length, shape)
    if initial is None and not known.shape[1]:
        start[:, lead] = 1 / np.sqrt(power[:, 0])
    double = samples.dtype in (torch.float64, torch.complex128)
    dtype = torch.float64 if double else torch.float32
    dtype = dtype.to_complex() if complex_ else dtype
    loop, known, start = _loop(where, phase), known.astype(kind), start.astype(kind)
    return Link(received, shape, dtype, windows, known, function, feedback, loop, start, power)


def _training(where: str, training: Any, rows: Array, shape: tuple[int, ...], count: int) -> Array:
    """Return the training of each signal, (signals, T)."""
    if training is None or np.size(training) == 0:
        return np.zeros((len(rows), 0))
    known = as_samples(where, "training", training, "(..., n)")
    if known.ndim > 1 and tuple(known.shape[:-1]) != shape:
        raise ShapeError(
            f"{where}: training is {tuple(known.shape)}, but (T,) or {(*shape, 'T')} was needed, one row for each signal."
        )
    if known.shape[-1] > count:
        raise ShapeError(
            f"{where}: {counted(known.shape[-1], 'training symbol')} came, but `received` has only {count}. Pass fewer."
        )
    table = known.cpu().resolve_conj().numpy().reshape(-1, known.shape[-1])
    return np.broadcast_to(table, (len(rows), table.shape[1]))


def _decisions(where: str, decide: Any) -> tuple[Callable[[Array], Array] | None, Array]:
    """Return the function that decides, and its points; none if the caller's function decides."""
    if decide is None or callable(decide):
        return decide, np.zeros(0)
    if isinstance(decide, str):
        raise DtypeError(
            f"{where}: decide is {shown(decide)}, but points (M,) or a function was needed. Pass the constellation's points."
        )
    points = as_samples(where, "decide", decide, "(..., n)").reshape(-1).cpu().numpy()

    def nearest(y: Array) -> Array:
        nearest_points: Array = points[np.abs(y[:, None] - points).argmin(1)]
        return nearest_points

    return nearest, points


def _refuse_unfit(
    where: str, rows: Array, known: Array, points: Array, decides: bool, feedback: int, phase: float, count: int
) -> None:
    """Refuse signals without anything to learn from, and real arguments beside complex ones."""
    if not decides and not known.shape[1]:
        raise ShapeError(
            f"{where}: neither training nor decisions came, but one of them was needed. Pass `training` or `decide`."
        )
    if feedback and not decides and known.shape[1] < count:
        raise ShapeError(
            f"{where}: feedback is {feedback}, but after training it needs decisions. Pass `decide`, or feedback=0."
        )
    if len(points) and not np.iscomplexobj(points) and np.iscomplexobj(known) and known.imag.any():
        raise DtypeError(
            f"{where}: training is complex, but decisions are real. Pass the points of the constellation that was sent."
        )
    if phase and not np.iscomplexobj(rows):
        raise DtypeError(
            f"{where}: phase is {phase}, but real signals have none to track. Pass the complex baseband, or phase=0."
        )


def _loop(where: str, bandwidth: float) -> tuple[float, float]:
    """Return both gains of a second-order loop with damping 1 / sqrt(2) (Rice, "Digital Communications", app. C)."""
    if not 0 <= bandwidth < 0.25:
        raise ShapeError(f"{where}: phase is {bandwidth}, but a loop bandwidth from 0 up to 0.25 was needed. Pass 0.01.")
    damping = sqrt(0.5)
    angle = bandwidth / (damping + 1 / (4 * damping))
    below = 1 + 2 * damping * angle + angle**2
    return 4 * damping * angle / below, 4 * angle**2 / below


def _initial(where: str, initial: Any, signals: int, length: int, shape: tuple[int, ...]) -> Array:
    """Return the first taps, (signals, L)."""
    if initial is None:
        return np.zeros((signals, length))
    taps = as_samples(where, "initial", initial, "(..., n)")
    if taps.shape[-1] != length or (taps.ndim > 1 and tuple(taps.shape[:-1]) != shape):
        raise ShapeError(f"{where}: initial is {tuple(taps.shape)}, but ({length},) or {(*shape, length)} was needed.")
    return np.broadcast_to(taps.cpu().resolve_conj().numpy().reshape(-1, length), (signals, length)).copy()
