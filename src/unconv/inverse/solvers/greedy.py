"""Spikes behind a known kernel, one after the other: matching pursuit by way of the autocorrelation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import ShapeError
from unconv.inverse.operators.operator import Operator
from unconv.inverse.solvers.gram import Gram
from unconv.inverse.solvers.iterate import Iterate
from unconv.inverse.solvers.problems import admit, refuse_complex
from unconv.kinds import checks_kinds

_ASK = 16  # spikes between two questions whether all problems are done, for which a GPU has to be waited


@checks_kinds
def matching_pursuit(
    operator: Operator,
    observed: Tensor,
    spikes: int,
    *,
    noise: float | Tensor | None = None,
    min_gain: float = 0.0,
) -> Iterator[Iterate]:
    """Explain y = A x + noise by one spike after the other, always by the one that leaves the least unexplained.

    The observed samples are correlated with the kernel once. Then a spike takes its share of that by the inner products of the
    kernel's shifted copies: O(k) sums and the search of a maximum among n, without an FFT. Amplitudes are not fitted
    again; a place may be chosen more than once, and then its amplitudes add up. For echoes that overlap, `sparse_bayesian` is
    far more accurate.

    Args:
        operator: a real `Convolution` along one axis, stride 1, boundary "zero" or "unknown"; copies that the observation cuts
            off count with what is left of them.
        observed: (..., *operator.shape_out), real; axes in front are problems of their own.
        spikes: at most so many are put.
        noise: standard deviation of a sample's noise, a number or (...): a problem is done where |A x - y| is no more than
            1.01 noise sqrt(samples).
        min_gain: a problem is done where its next spike would explain less than this share of |y|^2.

    Yields:
        The estimate after each spike; converged where every problem met its rule, before it ran out of spikes.

    Raises:
        ShapeError, DtypeError, NonFinite: another operator; `observed` does not fit; numbers that are below zero.

    Source:
        Mallat & Zhang, "Matching pursuits with time-frequency dictionaries" (1993), also for the update; Kikuchi &
        Kanamori, "Inversion of complex body waves" (1982); Morozov (1966) for the discrepancy.
    """
    admit("matching_pursuit", operator, observed)
    refuse_complex("matching_pursuit", operator, observed)
    rules = _Rules.checked(spikes, min_gain, noise, observed)
    y = observed.detach().reshape(-1, *operator.shape_out)
    toward = operator.adjoint(y).detach()
    searches = _searches(toward, _around(Gram(operator, y)), y.square().sum(-1), rules)
    for made in range(1, spikes + 1):
        for each in searches:
            each.put(1)
        done = all(each.done for each in searches)
        x = torch.cat([each.amplitudes() for each in searches]).reshape(*observed.shape[:-1], -1)
        yield Iterate(operator, observed, x, made, done)
        if done:
            return


def pursue(
    toward: Tensor, autocorrelation: Tensor, energy: Tensor, spikes: int, min_gain: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Run `matching_pursuit` to its end, where no copy of the kernel is cut off.

    Args:
        toward: (B, n), the observed samples' correlation with the kernel.
        autocorrelation: (1 or B, k), the kernel's, lags 0 to k - 1; zero beyond.
        energy: (B,), the sum of squares of what was observed.

    Returns:
        Amplitudes (B, n), and the energy that is left unexplained (B,).
    """
    rules = _Rules.checked(spikes, min_gain, None, toward)
    lags = autocorrelation[:, : toward.shape[-1]]
    around = torch.cat([lags[:, 1:].flip(-1), lags], -1)[:, None]
    searches = _searches(toward, around, energy, rules)
    for each in searches:
        each.put(spikes)
    return torch.cat([each.amplitudes() for each in searches]), torch.cat([each.unexplained() for each in searches])


@dataclass(frozen=True)
class _Rules:
    """When a problem is done: `gain` is a share of the observed energy; `least` (B,) an energy, or None."""

    gain: float
    least: Tensor | None

    @classmethod
    def checked(cls, spikes: int, min_gain: float, noise: float | Tensor | None, observed: Tensor) -> _Rules:
        if spikes < 1 or not 0 <= min_gain < 1:
            raise ShapeError(
                f"matching_pursuit: spikes is {spikes} and min_gain is {min_gain}, but 1 or more spikes and a share from 0 "
                "to 1 were needed."
            )
        if noise is None:
            return cls(min_gain, None)
        level = torch.as_tensor(noise).to(observed).expand(observed.shape[:-1]).reshape(-1)
        if not bool(((level >= 0) & torch.isfinite(level)).all()):
            raise ShapeError("matching_pursuit: noise is below zero, but standard deviations were needed. Or pass None.")
        return cls(min_gain, (1.01 * level).square() * observed.shape[-1])


def _around(gram: Gram) -> Tensor:
    """Return each copy's inner products with its neighbours: (1, n, 2 k - 1), the middle one with itself."""
    n, k = gram.n, min(gram.k, gram.n)
    band = gram.band[0, :k, :n]
    # band[d, a] belongs to samples a and a + d: what follows a stands there, what precedes it at a - d.
    before = [F.pad(band[d, : n - d], (d, 0)) for d in range(k - 1, 0, -1)]
    return torch.stack([*before, *band]).T[None].contiguous()


def _searches(toward: Tensor, around: Tensor, energy: Tensor, rules: _Rules) -> list[_One | _Many]:
    """Begin: on a GPU with one search for all problems, on the CPU with one for each.

    Side by side on the CPU, 64 traces of 1,200 samples take 2 to 5 times as long as one after the other, since the rows to be
    changed lie far apart, and a single one takes 13 times as long, since torch's calls cost more than its sums.

    Args:
        around: (1 or B, 1 or n, 2 k - 1), inner products of a copy with its neighbours.
    """
    if toward.device.type != "cpu":
        return [_Many(*_limits(toward, around, energy, rules))]
    toward, around, energy, least, gain = _limits(toward, around, energy, rules)
    rows = around.expand(len(toward), -1, -1)
    return [
        _One(toward[i].numpy(), rows[i].numpy(), float(energy[i]), float(least[i]), float(gain[i])) for i in range(len(toward))
    ]


def _limits(toward: Tensor, around: Tensor, energy: Tensor, rules: _Rules) -> tuple[Tensor, ...]:
    """Return what a search takes: the first three, the energy (B,) that is little enough, and the least gain (B,)."""
    # Rounding: below this, a residual is nothing.
    floor = torch.finfo(toward.dtype).eps * energy
    least = floor if rules.least is None else rules.least.maximum(floor)
    return toward, around, energy, least, rules.gain * energy


class _One:
    """The search in one trace, in NumPy, whose calls take a tenth of the time of torch's.

    Attributes:
        done: the problem has met its rule.
    """

    def __init__(self, toward: Any, around: Any, energy: float, least: float, gain: float) -> None:
        reach = self._reach = around.shape[-1] // 2
        self._toward, self._size = toward.copy(), np.empty_like(toward)
        self._around, self._own = around, around[:, reach].tolist()
        with np.errstate(divide="ignore"):
            self._scale = None if len(around) == 1 else np.where(around[:, reach] > 0, around[:, reach] ** -0.5, 0)
        self._x = np.zeros_like(toward)
        self._left, self._least, self._gain, self.done = energy, least, gain, energy <= least

    def put(self, count: int) -> None:
        """Put so many spikes, or fewer if the problem is done before."""
        toward, size, scale, around, reach = self._toward, self._size, self._scale, self._around, self._reach
        for _ in range(0 if self.done else count):
            np.abs(toward, out=size)
            if scale is not None:
                size *= scale
            at = int(size.argmax())
            row = 0 if scale is None else at
            height, own = float(toward[at]), self._own[row]
            amplitude = height / own if own > 0 else 0.0
            gained = amplitude * height
            if gained <= self._gain:
                self.done = True
                return
            before = min(at, reach)
            near = toward[at - before : at + reach + 1]
            near -= amplitude * around[row, reach - before :][: len(near)]
            self._x[at] += amplitude
            self._left -= gained
            if self._left <= self._least:
                self.done = True
                return

    def amplitudes(self) -> Tensor:
        """(1, n), a copy."""
        return torch.from_numpy(self._x.copy())[None]

    def unexplained(self) -> Tensor:
        """(1,)"""
        return torch.from_numpy(np.array([max(self._left, 0)], dtype=self._x.dtype))


class _Many:
    """The search in many traces side by side; those that are done put spikes of height zero."""

    def __init__(self, toward: Tensor, around: Tensor, energy: Tensor, least: Tensor, gain: Tensor) -> None:
        count, n = toward.shape
        reach = around.shape[-1] // 2
        self._padded = F.pad(toward, (reach, reach))
        self._inner, self._around = self._padded[:, reach : reach + n], around.expand(count, -1, -1)
        self._own = self._around[..., reach].expand(-1, n)
        self._scale = None if around.shape[1] == 1 else torch.where(self._own > 0, self._own, torch.inf).rsqrt()
        self._window = torch.arange(around.shape[-1], device=toward.device)
        self._rows = torch.arange(count, device=toward.device)
        self._x, self._left, self._least, self._gain = torch.zeros_like(toward), energy.clone(), least, gain
        self._going = energy > least

    @property
    def done(self) -> bool:
        return not bool((self._going & (self._left > self._least)).any())

    def put(self, count: int) -> None:
        """Put so many spikes in each problem that is not done."""
        for made in range(count):
            if made % _ASK == 0 and self.done:
                return
            size = self._inner.abs() if self._scale is None else self._inner.abs().mul_(self._scale)
            at = size.argmax(1)
            own = self._own[self._rows, at]
            amplitude = torch.where(own > 0, self._inner[self._rows, at] / own, 0)
            gained = amplitude.square() * own
            self._going = self._going & (gained > self._gain) & (self._left > self._least)
            amplitude = amplitude * self._going
            near = self._around[:, 0] if self._scale is None else self._around[self._rows, at]
            self._padded.scatter_add_(1, at[:, None] + self._window, near * -amplitude[:, None])
            self._x.scatter_add_(1, at[:, None], amplitude[:, None])
            self._left = self._left - gained * self._going

    def amplitudes(self) -> Tensor:
        """(B, n), a copy."""
        return self._x.clone()

    def unexplained(self) -> Tensor:
        """(B,)"""
        return self._left.clamp(min=0)
