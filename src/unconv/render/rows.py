"""Select the traces that a picture shows: checked, evenly thinned if there are many, with their time axis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unconv.errors import DtypeError, NonFinite, ShapeError, printable
from unconv.kinds import fits_kind, shown

Array = np.ndarray[Any, Any]

_PREFIXES = (
    (1.0, 1.0, "s"),
    (1e-3, 1e3, "ms"),
    (0.0, 1e6, "µs"),
)  # the least largest time, the factor for the times, and the unit
_EVEN = 0.5  # of a step: the allowed deviation of times from equal steps, so that no sample is drawn a whole sample off
_FULL = 99  # the percentile of the magnitudes that is drawn at full scale


@dataclass(frozen=True)
class Clock:
    """The time axis: the times (n,) as shown, their label, and the factor by which the caller's times were multiplied."""

    at: Array
    label: str
    factor: float

    @property
    def edges(self) -> tuple[float, float]:
        """The times at which the first sample begins and the last one ends."""
        step = float(self.at[-1] - self.at[0]) / (len(self.at) - 1) if len(self.at) > 1 else 1.0
        return float(self.at[0]) - step / 2, float(self.at[-1]) + step / 2


@dataclass(frozen=True)
class Rows:
    """The traces shown: values (k, p) at times (p,), their numbers (k,) out of `count` traces, and the full-scale magnitude."""

    values: Array
    at: Array
    numbers: Array
    count: int
    full: float

    def said(self, noun: str) -> str:
        """Return the label of the trace axis: the noun, and how many traces are shown if not all are."""
        few = len(self.numbers)
        return noun if few == self.count else f"{noun} ({few:,} of {self.count:,} shown)"

    @property
    def spacing(self) -> float:
        """The distance at which two neighbouring traces are drawn, in trace numbers."""
        return self.count / len(self.numbers)

    @property
    def places(self) -> Array:
        """The positions (k,) of the traces: their numbers, or, if not all are shown, the middles of the parts they are from."""
        return (np.arange(len(self.numbers)) + 0.5) * self.spacing - 0.5

    @property
    def span(self) -> tuple[float, float]:
        """The range of an axis with wiggles, in trace numbers."""
        return -1.2 * self.spacing, self.count - 1 + 1.2 * self.spacing

    def wiggles(self) -> Iterator[tuple[Array, Array, float]]:
        """Yield times, values and position of each trace, scaled so that `full` is the distance between two traces."""
        for trace, position in zip(self.values, self.places, strict=True):
            yield *with_crossings(self.at, self.spacing * (trace / (self.full or 1.0))), float(position)


def clock(where: str, times: Any, unit: str) -> Clock:
    """Return the axis of times (n,), in ms or µs if all are below 1 s or 1 ms.

    Raises:
        ShapeError, NonFinite: the times are not finite, or do not increase in equal steps.
    """
    at = array(where, "times", times, (None,))
    if not len(at) or not np.isfinite(at).all():
        problem = "empty" if not len(at) else f"not finite at {np.flatnonzero(~np.isfinite(at))[0]}"
        raise (NonFinite if len(at) else ShapeError)(
            f"{where}: times is {problem}, but the time of each sample was needed. Pass start + arange(n) / rate."
        )
    equal_steps = np.linspace(at[0], at[-1], len(at))
    step = equal_steps[1] - equal_steps[0] if len(at) > 1 else 1.0
    if step <= 0 or np.abs(at - equal_steps).max() > _EVEN * step:
        raise ShapeError(
            f"{where}: times goes from {at[0]:g} to {at[-1]:g} in steps of {np.diff(at).min():g} to {np.diff(at).max():g}, but "
            "times rising in equal steps were needed. Resample the traces, or pass start + arange(n) / rate."
        )
    largest = np.abs(at).max()
    factor, name = next((f, n) for least, f, n in _PREFIXES if unit != "s" or largest >= least)
    return Clock(at * factor, f"time, {name if unit == 's' else printable(unit)}", factor)


def array(where: str, name: str, values: Any, shape: tuple[int | None, ...]) -> Array:
    """Return numbers as float64, with infinite and masked ones as NaN; `None` in `shape` allows any length.

    Raises:
        DtypeError, ShapeError: the values are not real numbers, or have another shape.
    """
    plain = _plain(where, name, values)
    if plain.ndim != len(shape) or any(
        expected not in (None, length) for expected, length in zip(shape, plain.shape, strict=True)
    ):
        needed = ", ".join("any" if expected is None else str(expected) for expected in shape)
        raise ShapeError(f"{where}: {name} is {plain.shape}, but ({needed}) was needed. Pass one that fits the others.")
    return _finite(plain)


def _plain(where: str, name: str, values: Any) -> Array:
    """Return an array, a tensor or a list of numbers as an array, without copying if possible."""
    if isinstance(values, Tensor) and fits_kind(values, Tensor):
        tensor = values.detach().cpu().resolve_conj().resolve_neg()
        values = (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()
    try:
        plain: Array = np.ma.asarray(values) if not isinstance(values, Tensor) else np.empty(0, object)
    except ValueError:
        plain = np.empty(0, object)  # a list of lists of several lengths
    if plain.dtype.kind not in "fiu":
        raise DtypeError(
            f"{where}: {name} is {shown(values)}, but real numbers were needed. Pass an array or a tensor of them."
        )
    return plain


def _finite(plain: Array) -> Array:
    filled = np.ma.filled(plain.astype(np.float64), np.nan)
    return np.where(np.isfinite(filled), filled, np.nan)


def rows(where: str, name: str, values: Any, times: Clock, most: int, points: int, count: int | None = None) -> Rows:
    """Select at most `most` of the traces (m, n), evenly, and the strongest sample in each of `points` parts of a trace.

    Raises:
        DtypeError, ShapeError: the values are not real numbers, there is no trace or not `count` of them, or they have
            another length than the times.
    """
    plain = _plain(where, name, values)
    fits = plain.ndim == 2 and plain.shape[0] and plain.shape[1] == len(times.at)
    if not fits or count not in (None, plain.shape[0]):
        raise ShapeError(
            f"{where}: {name} is {plain.shape}, but ({count or 'traces'}, {len(times.at)}) was needed, as the times and the "
            "other arrays are. Pass values[None] for one trace, and reshape a volume."
        )
    shown_count = min(plain.shape[0], most)
    # The middles of equal parts, so that each chosen trace stands inside its own part of the axis.
    numbers = ((np.arange(shown_count) + 0.5) * plain.shape[0] / shown_count).astype(int)
    selected = _finite(plain[numbers])
    sizes = np.abs(selected[np.isfinite(selected) & (selected != 0)])
    full = float(np.percentile(sizes, _FULL)) if len(sizes) else 0.0
    return Rows(_strongest(selected, points), _middles(times, points), numbers, plain.shape[0], full)


def thinned(times: Clock, trace: Array, points: int) -> tuple[Array, Array]:
    """Return times and a trace (n,) reduced to the strongest sample in each of `points` parts."""
    return _middles(times, points), _strongest(trace[None], points)[0]


def _middles(times: Clock, points: int) -> Array:
    """Return the times themselves, or the middles of `points` equal parts if there are more."""
    first, last = times.edges
    return times.at if len(times.at) <= points else first + (np.arange(points) + 0.5) * (last - first) / points


def _strongest(values: Array, points: int) -> Array:
    """Keep the sample of largest magnitude in each of `points` parts; averaging or decimation would remove spikes."""
    n = values.shape[1]
    if n <= points:
        return values
    starts = np.arange(points) * n // points
    highest, lowest = (extreme.reduceat(values, starts, axis=1) for extreme in (np.fmax, np.fmin))
    return np.where(highest >= -lowest, highest, lowest)


def with_crossings(at: Array, trace: Array) -> tuple[Array, Array]:
    """Add the points at which a trace crosses zero, so that its lobes end there."""
    before, after = trace[:-1], trace[1:]
    indices = np.flatnonzero(np.sign(before) * np.sign(after) < 0)
    fractions = before[indices] / (before[indices] - after[indices])
    crossings = at[indices] + (at[indices + 1] - at[indices]) * fractions
    return np.insert(at, indices + 1, crossings), np.insert(trace, indices + 1, 0.0)
