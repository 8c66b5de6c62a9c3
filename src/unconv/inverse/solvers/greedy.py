"""Spikes behind a known kernel, one by one: matching pursuit on the autocorrelation."""

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

_ASK = 16  # spikes between two checks whether all problems are done, each of which waits for the GPU


@checks_kinds
def matching_pursuit(
    operator: Operator,
    observed: Tensor,
    spikes: int,
    *,
    noise: float | Tensor | None = None,
    min_gain: float = 0.0,
) -> Iterator[Iterate]:
    """Explain y = A x + noise by matching pursuit: one spike at a time, always the one that explains most of the residual.

    The observed samples are correlated with the kernel once. Each spike then subtracts its part by the inner products of the
    kernel's shifted copies: O(k) sums and a maximum over n samples, without an FFT. Amplitudes are not fitted again; a
    sample may be chosen more than once, and then its amplitudes add up. For echoes that overlap, `sparse_bayesian` is far
    more accurate.

    Args:
        operator: a real `Convolution` along one axis, stride 1, boundary "zero" or "unknown"; of a copy that the observation
            cuts off, the remaining part counts.
        observed: (..., *operator.shape_out), real. Leading axes hold independent problems.
        spikes: the most spikes.
        noise: standard deviation of a sample's noise, a number or (...): a problem is done once |A x - y| is at most
            1.01 noise sqrt(samples).
        min_gain: a problem is done once its next spike would explain less than this share of |y|^2.

    Yields:
        The estimate after each spike; converged if every problem has met its rule before it ran out of spikes.

    Raises:
        ShapeError, DtypeError, NonFinite: the operator is another one; `observed` does not fit; a number is out of range.

    Source:
        Mallat & Zhang, "Matching pursuits with time-frequency dictionaries" (1993), also for the update; Kikuchi &
        Kanamori, "Inversion of complex body waves" (1982); Morozov (1966) for the discrepancy.
    """
    admit("matching_pursuit", operator, observed)
    refuse_complex("matching_pursuit", operator, observed)
    rules = _Rules.checked(spikes, min_gain, noise, observed)
    y = observed.detach().reshape(-1, *operator.shape_out)
    correlation = operator.adjoint(y).detach()
    searches = _searches(correlation, _neighbour_products(Gram(operator, y)), y.square().sum(-1), rules)
    # Mallat & Zhang (1993): by the inner products of atoms, the correlations are updated without computing a residual.
    for number in range(1, spikes + 1):
        for search in searches:
            search.add(1)
        done = all(search.done for search in searches)
        x = torch.cat([search.amplitudes() for search in searches]).reshape(*observed.shape[:-1], -1)
        yield Iterate(operator, observed, x, number, done)
        if done:
            return


def pursue(
    correlation: Tensor, autocorrelation: Tensor, energy: Tensor, spikes: int, min_gain: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Run `matching_pursuit` to its end, for observations that cut off no copy of the kernel.

    Args:
        correlation: (B, n), of the observed samples with the kernel.
        autocorrelation: (1 or B, k), the kernel's, lags 0 to k - 1; zero beyond.
        energy: (B,), the sum of squares of the observed samples.

    Returns:
        Amplitudes (B, n), and the unexplained energy (B,).
    """
    rules = _Rules.checked(spikes, min_gain, None, correlation)
    lags = autocorrelation[:, : correlation.shape[-1]]
    products = torch.cat([lags[:, 1:].flip(-1), lags], -1)[:, None]
    searches = _searches(correlation, products, energy, rules)
    for search in searches:
        search.add(spikes)
    return torch.cat([search.amplitudes() for search in searches]), torch.cat([search.unexplained() for search in searches])


@dataclass(frozen=True)
class _Rules:
    """The stopping rules: `gain`, a share of the observed energy; `least` (B,), an energy, or None."""

    gain: float
    least: Tensor | None

    @classmethod
    def checked(cls, spikes: int, min_gain: float, noise: float | Tensor | None, observed: Tensor) -> _Rules:
        if spikes < 1 or not 0 <= min_gain < 1:
            raise ShapeError(
                f"matching_pursuit: spikes is {spikes} and min_gain is {min_gain}, but 1 or more spikes and a share of at "
                "least 0 and below 1 were needed."
            )
        if noise is None:
            return cls(min_gain, None)
        level = torch.as_tensor(noise).to(observed).expand(observed.shape[:-1]).reshape(-1)
        if not bool(((level >= 0) & torch.isfinite(level)).all()):
            raise ShapeError(
                "matching_pursuit: noise is below zero or not finite, but standard deviations were needed. Or pass None."
            )
        return cls(min_gain, (1.01 * level).square() * observed.shape[-1])


def _neighbour_products(gram: Gram) -> Tensor:
    """Return each copy's inner products with its neighbours: (1, n, 2 k - 1), the middle one with itself."""
    n, k = gram.n, min(gram.k, gram.n)
    band = gram.band[0, :k, :n]
    # band[d, a] belongs to samples a and a + d: products with later copies are at a, those with earlier ones at a - d.
    before = [F.pad(band[d, : n - d], (d, 0)) for d in range(k - 1, 0, -1)]
    return torch.stack([*before, *band]).T[None].contiguous()


def _searches(correlation: Tensor, products: Tensor, energy: Tensor, rules: _Rules) -> list[_One | _Many]:
    """Return the searches to run: on a GPU one for all problems, on the CPU one for each.

    Side by side on the CPU, 64 traces of 1,200 samples take 2 to 5 times as long as one after the other, since the rows that
    change lie far apart in memory. A single trace takes 13 times as long, since torch's calls cost more than its sums.

    Args:
        products: (1 or B, 1 or n, 2 k - 1), inner products of a copy with its neighbours.
    """
    if correlation.device.type != "cpu":
        return [_Many(*_limits(correlation, products, energy, rules))]
    correlation, products, energy, least, gain = _limits(correlation, products, energy, rules)
    rows = products.expand(len(correlation), -1, -1)
    return [
        _One(correlation[i].numpy(), rows[i].numpy(), float(energy[i]), float(least[i]), float(gain[i]))
        for i in range(len(correlation))
    ]


def _limits(correlation: Tensor, products: Tensor, energy: Tensor, rules: _Rules) -> tuple[Tensor, ...]:
    """Return the arguments of a search: the first three, the energy (B,) at which to stop, and the least gain (B,)."""
    # A residual below this is rounding.
    floor = torch.finfo(correlation.dtype).eps * energy
    least = floor if rules.least is None else rules.least.maximum(floor)
    return correlation, products, energy, least, rules.gain * energy


class _One:
    """The search in one trace, in NumPy, whose calls take a tenth of the time of torch's.

    Attributes:
        done: the problem has met a stopping rule.
    """

    def __init__(self, correlation: Any, products: Any, energy: float, least: float, gain: float) -> None:
        reach = self._reach = products.shape[-1] // 2
        self._correlation, self._size = correlation.copy(), np.empty_like(correlation)
        self._products, self._copy_energies = products, products[:, reach].tolist()
        with np.errstate(divide="ignore"):
            self._scale = None if len(products) == 1 else np.where(products[:, reach] > 0, products[:, reach] ** -0.5, 0)
        self._x = np.zeros_like(correlation)
        self._residual_energy, self._least, self._gain, self.done = energy, least, gain, energy <= least

    def add(self, count: int) -> None:
        """Add `count` spikes, or fewer if the problem is done before."""
        correlation, size, scale, products, reach = self._correlation, self._size, self._scale, self._products, self._reach
        for _ in range(0 if self.done else count):
            np.abs(correlation, out=size)
            if scale is not None:
                size *= scale
            # The spike that lowers |residual|^2 most has the largest |correlation| / |copy|; its gain is that squared.
            at = int(size.argmax())
            row = 0 if scale is None else at
            height, copy_energy = float(correlation[at]), self._copy_energies[row]
            amplitude = height / copy_energy if copy_energy > 0 else 0.0
            explained = amplitude * height
            if explained <= self._gain:
                self.done = True
                return
            before = min(at, reach)
            neighbours = correlation[at - before : at + reach + 1]
            neighbours -= amplitude * products[row, reach - before :][: len(neighbours)]
            self._x[at] += amplitude
            self._residual_energy -= explained
            if self._residual_energy <= self._least:
                self.done = True
                return

    def amplitudes(self) -> Tensor:
        """Return a copy: (1, n)."""
        return torch.from_numpy(self._x.copy())[None]

    def unexplained(self) -> Tensor:
        """Return the energy of the residual: (1,)."""
        return torch.from_numpy(np.array([max(self._residual_energy, 0)], dtype=self._x.dtype))


class _Many:
    """The search in many traces side by side; those that are done add spikes of height zero."""

    def __init__(self, correlation: Tensor, products: Tensor, energy: Tensor, least: Tensor, gain: Tensor) -> None:
        count, n = correlation.shape
        reach = products.shape[-1] // 2
        self._padded = F.pad(correlation, (reach, reach))
        self._inner, self._products = self._padded[:, reach : reach + n], products.expand(count, -1, -1)
        self._copy_energies = self._products[..., reach].expand(-1, n)
        self._scale = (
            None if products.shape[1] == 1 else torch.where(self._copy_energies > 0, self._copy_energies, torch.inf).rsqrt()
        )
        self._window = torch.arange(products.shape[-1], device=correlation.device)
        self._rows = torch.arange(count, device=correlation.device)
        self._x, self._residual_energy, self._least, self._gain = torch.zeros_like(correlation), energy.clone(), least, gain
        self._active = energy > least

    @property
    def done(self) -> bool:
        return not bool((self._active & (self._residual_energy > self._least)).any())

    def add(self, count: int) -> None:
        """Add `count` spikes in each problem that is not done."""
        for number in range(count):
            if number % _ASK == 0 and self.done:
                return
            size = self._inner.abs() if self._scale is None else self._inner.abs().mul_(self._scale)
            at = size.argmax(1)
            copy_energy = self._copy_energies[self._rows, at]
            amplitude = torch.where(copy_energy > 0, self._inner[self._rows, at] / copy_energy, 0)
            explained = amplitude.square() * copy_energy
            self._active = self._active & (explained > self._gain) & (self._residual_energy > self._least)
            amplitude = amplitude * self._active
            neighbours = self._products[:, 0] if self._scale is None else self._products[self._rows, at]
            self._padded.scatter_add_(1, at[:, None] + self._window, neighbours * -amplitude[:, None])
            self._x.scatter_add_(1, at[:, None], amplitude[:, None])
            self._residual_energy = self._residual_energy - explained * self._active

    def amplitudes(self) -> Tensor:
        """Return a copy: (B, n)."""
        return self._x.clone()

    def unexplained(self) -> Tensor:
        """Return the energy of the residual: (B,)."""
        return self._residual_energy.clamp(min=0)
