"""Traces that a picture shows: checked, evenly chosen where there are many, and the times they stand at."""

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

_PREFIXES = ((1.0, 1.0, "s"), (1e-3, 1e3, "ms"), (0.0, 1e6, "µs"))  # from where on, and what times are multiplied with
_EVEN = 0.5  # of a step, by which times may be off equal steps: each sample is drawn less than a sample off
_FULL = 99  # percentile of the magnitudes that is drawn in full


@dataclass(frozen=True)
class Clock:
    """The time axis: times (n,) as they are shown, its label, and the factor that the times came to be multiplied with."""

    at: Array
    label: str
    factor: float

    @property
    def edges(self) -> tuple[float, float]:
        """Where the first sample begins and the last one ends."""
        step = float(self.at[-1] - self.at[0]) / (len(self.at) - 1) if len(self.at) > 1 else 1.0
        return float(self.at[0]) - step / 2, float(self.at[-1]) + step / 2


@dataclass(frozen=True)
class Rows:
    """Traces that are shown: values (k, p) at times (p,), their numbers (k,) among `count` ones, and the magnitude `full`."""

    values: Array
    at: Array
    numbers: Array
    count: int
    full: float

    def said(self, noun: str) -> str:
        """Return the axis's label: the noun, and how many are shown if not all are."""
        few = len(self.numbers)
        return noun if few == self.count else f"{noun} ({few:,} of {self.count:,} shown)"

    @property
    def spacing(self) -> float:
        """How far apart two of them are drawn, in trace numbers."""
        return self.count / len(self.numbers)

    @property
    def places(self) -> Array:
        """(k,), where they are drawn: their numbers, or, where not all are shown, the middles of the parts they stand for."""
        return (np.arange(len(self.numbers)) + 0.5) * self.spacing - 0.5

    @property
    def span(self) -> tuple[float, float]:
        """What an axis with wiggles reaches over, in trace numbers."""
        return -1.2 * self.spacing, self.count - 1 + 1.2 * self.spacing

    def wiggles(self) -> Iterator[tuple[Array, Array, float]]:
        """Give times, values and the place of each trace; `full` is scaled to the distance of two."""
        for trace, place in zip(self.values, self.places, strict=True):
            yield *with_crossings(self.at, self.spacing * (trace / (self.full or 1.0))), float(place)


def clock(where: str, times: Any, unit: str) -> Clock:
    """Return the axis of times (n,); seconds become ms or µs where the largest is below one.

    Raises:
        ShapeError, NonFinite: times that are not finite, or do not rise in equal steps.
    """
    at = array(where, "times", times, (None,))
    if not len(at) or not np.isfinite(at).all():
        came = "empty" if not len(at) else f"not finite at {np.flatnonzero(~np.isfinite(at))[0]}"
        raise (NonFinite if len(at) else ShapeError)(
            f"{where}: times is {came}, but the time of each sample was needed. Pass start + arange(n) / rate."
        )
    even = np.linspace(at[0], at[-1], len(at))
    step = even[1] - even[0] if len(at) > 1 else 1.0
    if step <= 0 or np.abs(at - even).max() > _EVEN * step:
        raise ShapeError(
            f"{where}: times goes from {at[0]:g} to {at[-1]:g} by {np.diff(at).min():g} to {np.diff(at).max():g}, but rising "
            "equal steps were needed. Resample the traces, or pass start + arange(n) / rate."
        )
    largest = np.abs(at).max()
    factor, name = next((f, n) for least, f, n in _PREFIXES if unit != "s" or largest >= least)
    return Clock(at * factor, f"time, {name if unit == 's' else printable(unit)}", factor)


def array(where: str, name: str, values: Any, shape: tuple[int | None, ...]) -> Array:
    """Return numbers as float64, infinite and masked ones as NaN; `None` in a shape stands for any length.

    Raises:
        DtypeError, ShapeError: no real numbers, or another shape.
    """
    plain = _plain(where, name, values)
    if plain.ndim != len(shape) or any(need not in (None, came) for need, came in zip(shape, plain.shape, strict=True)):
        needed = ", ".join("any" if need is None else str(need) for need in shape)
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
    """Choose at most `most` of the traces (m, n), evenly, and of their samples the strongest in each of `points` parts.

    Raises:
        DtypeError, ShapeError: no real numbers, no traces, traces of another length than the times, or not `count` traces.
    """
    plain = _plain(where, name, values)
    fits = plain.ndim == 2 and plain.shape[0] and plain.shape[1] == len(times.at)
    if not fits or count not in (None, plain.shape[0]):
        raise ShapeError(
            f"{where}: {name} is {plain.shape}, but ({count or 'traces'}, {len(times.at)}) was needed, as the times and the "
            "other arrays are. Pass values[None] for one trace, and reshape a volume."
        )
    few = min(plain.shape[0], most)
    # The middles of equal parts, so that each chosen trace stands inside its own part of the axis.
    numbers = ((np.arange(few) + 0.5) * plain.shape[0] / few).astype(int)
    chosen = _finite(plain[numbers])
    sizes = np.abs(chosen[np.isfinite(chosen) & (chosen != 0)])
    full = float(np.percentile(sizes, _FULL)) if len(sizes) else 0.0
    return Rows(_strongest(chosen, points), _middles(times, points), numbers, plain.shape[0], full)


def thinned(times: Clock, trace: Array, points: int) -> tuple[Array, Array]:
    """Return times and a trace (n,) of at most `points` samples, the strongest ones."""
    return _middles(times, points), _strongest(trace[None], points)[0]


def _middles(times: Clock, points: int) -> Array:
    """Return the times themselves, or the middles of `points` equal parts of them."""
    first, last = times.edges
    return times.at if len(times.at) <= points else first + (np.arange(points) + 0.5) * (last - first) / points


def _strongest(values: Array, points: int) -> Array:
    """Keep the sample of the largest magnitude in each of `points` parts: averaged or left out, spikes would vanish."""
    n = values.shape[1]
    if n <= points:
        return values
    starts = np.arange(points) * n // points
    highest, lowest = (each.reduceat(values, starts, axis=1) for each in (np.fmax, np.fmin))
    return np.where(highest >= -lowest, highest, lowest)


def with_crossings(at: Array, trace: Array) -> tuple[Array, Array]:
    """Add the points at which a trace crosses zero, so that its lobes end there."""
    before, after = trace[:-1], trace[1:]
    here = np.flatnonzero(np.sign(before) * np.sign(after) < 0)
    part = before[here] / (before[here] - after[here])
    crossings = at[here] + (at[here + 1] - at[here]) * part
    return np.insert(at, here + 1, crossings), np.insert(trace, here + 1, 0.0)
