"""Tikhonov regularisation: least squares with a quadratic penalty, whose strength GCV or the discrepancy principle chooses."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from unconv.errors import ShapeError, nearest
from unconv.inverse.operators.convolution import Convolution
from unconv.inverse.operators.differences import gradient, laplacian
from unconv.inverse.operators.operator import Operator
from unconv.inverse.operators.penalised import Penalised
from unconv.inverse.operators.spectral import Grid
from unconv.inverse.operators.split import split
from unconv.inverse.solvers.cgls import cgls
from unconv.inverse.solvers.fit import Fit
from unconv.inverse.solvers.iterate import Iterate, last
from unconv.inverse.solvers.problems import admit, dots, quotient, rademacher, refuse_complex, sizes, spread
from unconv.inverse.solvers.search import bisection, golden_section
from unconv.kinds import checks_kinds

_ROUGHLY = 1e-4  # how well the search for a strength solves: the score is flat at its minimum
_AROUND, _HALVINGS = 12.0, 16  # the interval of a strength's logarithm, to each side of the first; bisections of it
_NEAR = 0.01  # a misfit so close to the discrepancy meets it: less than the noise of the noise, for 10,000 samples

PENALTIES = ("identity", "gradient", "laplacian")


@checks_kinds
def tikhonov(
    operator: Operator,
    observed: Tensor,
    *,
    strength: float | str = "gcv",
    noise: float | None = None,
    penalty: str = "identity",
    differences: str | None = None,
    steps: int = 200,
    tolerance: float = 1e-6,
) -> Iterator[Iterate]:
    """Minimise |A x - y|^2 + strength |L x|^2, L the identity, first differences or their Laplacian.

    There are three ways. A circular convolution of stride 1 has a closed form, with differences that go round. Any
    operator can be solved by conjugate gradients, with differences that stop at the edges of the last axes (those of a
    `Convolution`, else all). With differences="circular", a circular convolution of which some samples were observed
    (see `split`), such as one with an unknown boundary, is solved in the Fourier domain, which takes a fraction of the
    time.

    Args:
        observed: (..., *operator.shape_out); axes in front are problems of their own, each with its own strength.
        strength: a number; or "gcv", which minimises |A x - y|^2 / trace(1 - influence)^2; or "discrepancy", where
            |A x - y| = noise sqrt(samples). Without a closed form the trace is estimated from one random vector, always
            the same one, and the search costs some fifteen rough solutions.
        noise: the standard deviation of a sample's noise, for "discrepancy".
        differences: "circular" or "edge"; by default "circular" where that gives a closed form, else "edge".
        steps: at most so many conjugate gradients for each solution; in the Fourier domain, so many bisections.
        tolerance: of the conjugate gradients: the share of the first residual to reach.

    Yields:
        The closed form's one estimate; else those on the way to it, at the strength chosen. In the Fourier domain,
        one for each bisection towards the discrepancy, which stops within 1 % of it. `strength` is that number, the
        geometric mean where several problems chose their own. Not converged where no strength meets the discrepancy.

    Raises:
        ShapeError, DtypeError, NonFinite: `observed` does not fit; an unknown strength or penalty; no `noise`; circular
            differences with an operator that `split` does not take, or with complex samples.

    Source:
        Golub, Heath & Wahba, "Generalized cross-validation as a method for choosing a good ridge parameter" (1979), eq. 1.4;
        Hutchinson (1990) for the trace; Morozov (1966) for the discrepancy.
    """
    admit("tikhonov", operator, observed)
    _check(strength, noise, penalty, differences, steps)
    problem: _Diagonal | _Fourier | _Iterated
    if isinstance(operator, Convolution) and operator.diagonalised and differences != "edge":
        problem = _Diagonal(operator, observed, penalty)
    elif differences == "circular":
        problem = _Fourier(operator, observed, penalty, tolerance)
        if strength == "discrepancy":
            yield from problem.to_discrepancy(noise or 0.0, steps)
            return
    else:
        problem = _Iterated(operator, observed, penalty, steps, tolerance)
    met = True
    # The choice is not part of the gradient: strengths are numbers, as if the caller had given them.
    with torch.no_grad():
        if strength == "gcv":
            chosen = golden_section(problem.score, *problem.interval(), problem.points, problem.rounds)
        elif strength == "discrepancy":
            target = (noise or 0.0) * problem.samples**0.5
            chosen, met = bisection(problem.misfit, target, *problem.interval(), 2 * problem.rounds)
        else:
            chosen = torch.full_like(problem.interval()[0], float(strength))
    said = float(strength) if not isinstance(strength, str) else _geometric_mean(chosen)
    for step, estimate, ended in problem.solve(chosen):
        yield Iterate(operator, observed, estimate, step, ended and met, said)


class _Diagonal:
    """A circular convolution, for which everything is a sum over frequencies. Penalties are powers of `laplacian`."""

    points, rounds = 33, 25

    def __init__(self, convolution: Convolution, observed: Tensor, penalty: str) -> None:
        self._grid = Grid(convolution, observed)
        self.samples = self._grid.count
        self._conjugate, self._seen = convolution.conjugate(observed), self._grid.transform(observed)
        self._power = convolution.power(observed)
        like = observed if self._grid.half or observed.is_complex() else observed + 0j
        differences = laplacian(self._grid.lengths, like)
        self._rough = differences ** PENALTIES.index(penalty)
        self._energy = self._grid.power(self._seen.detach()) * self._grid.weights() / self._grid.count
        self._dims = tuple(range(-self._grid.axes, 0))

    def interval(self) -> tuple[Tensor, Tensor]:
        largest = self._power.detach().amax(self._dims, keepdim=True)
        largest = torch.where(largest > 0, largest, 1).expand_as(self._energy.sum(self._dims, keepdim=True))
        return 1e-12 * largest, 1e4 * largest

    def misfit(self, strength: Tensor) -> Tensor:
        return (self._energy * self._left(strength).square()).sum(self._dims, keepdim=True).sqrt()

    def score(self, strength: Tensor) -> Tensor:
        left = self._left(strength)
        trace = (left * self._grid.weights()).sum(self._dims, keepdim=True)
        return (self._energy * left.square()).sum(self._dims, keepdim=True) / trace.square()

    def solve(self, strength: Tensor) -> Iterator[tuple[int, Tensor, bool]]:
        filtered = self._grid.filtered(self._seen, self._conjugate, self._power, strength * self._rough)
        yield 1, self._grid.back(filtered), True

    def _left(self, strength: Tensor) -> Tensor:
        """Return the share of each frequency that stays in the residual; all of it where neither A nor L sees it."""
        kept = strength * self._rough
        total = self._power + kept
        return torch.where(total > 0, kept / torch.where(total > 0, total, 1), 1)


class _Fourier:
    """A circular convolution of which some samples were observed; each fit takes conjugate gradients in the Fourier domain."""

    points, rounds = 8, 6

    def __init__(self, operator: Operator, observed: Tensor, penalty: str, tolerance: float) -> None:
        refuse_complex("tikhonov", operator, observed)
        self._operator, self._observed, self._tolerance = operator, observed, tolerance
        self._out, self._in = len(operator.shape_out), len(operator.shape_in)
        self._circular, self._chosen = circular, chosen = split(operator)
        self._fit = Fit(circular, chosen, observed)
        self._rough = laplacian(circular.shape_in[-circular.axes :], observed) ** PENALTIES.index(penalty)
        # A constant has no roughness: so the fits begin with the mean, and keep it where the blur erased it.
        self._around = self._fit.flat() if penalty != "identity" else torch.zeros_like(self._fit.seen)
        self.samples = int(self._fit.weights.sum())

    def interval(self) -> tuple[Tensor, Tensor]:
        return _interval(self._operator.adjoint(self._observed), self._observed, self._in, self._out)

    @cached_property
    def _probe(self) -> Tensor:
        # Zero where a mask hides the sample, or it would count among those that the residual keeps.
        return rademacher(self._observed, self._operator.shape_out) * self._chosen.forward(self._fit.weights)

    @cached_property
    def _pair(self) -> Fit:
        return Fit(self._circular, self._chosen, torch.stack([self._observed, self._probe]))

    def misfit(self, strength: Tensor) -> Tensor:
        return sizes(self._operator.forward(self._solved(strength)) - self._observed, self._out)

    def score(self, strength: Tensor) -> Tensor:
        around = torch.stack([self._around, torch.zeros_like(self._around)])
        fitted, passed = self._operator.forward(self._pair.solved(around, self._penalty(strength), enough=self._tolerance))
        trace = self.samples - dots(self._probe, passed, self._out)
        return (sizes(fitted - self._observed, self._out) / trace).square()

    def solve(self, strength: Tensor) -> Iterator[tuple[int, Tensor, bool]]:
        yield 1, self._solved(strength), True

    def to_discrepancy(self, noise: float, steps: int) -> Iterator[Iterate]:
        """Bisect the strength's logarithm until the misfit is within 1 % of the noise, or the interval is spent."""
        slopes = gradient(self._observed, self._circular.axes).square().sum(0).mean(tuple(range(-self._out, 0))).double()
        # The mean square slope of what was observed puts the strength within a few orders of magnitude, on either side.
        power = max(noise**2, torch.finfo(torch.double).tiny)
        first = (power / slopes.clamp(min=power)).log()
        low, high, target = first - _AROUND, first + _AROUND, noise * self.samples**0.5
        for step in range(1, min(steps, _HALVINGS) + 1):
            middle = (low + high) / 2
            estimate = self._solved(middle.exp())
            misfit = sizes(self._operator.forward(estimate) - self._observed, self._out).double()
            near = (misfit / target - 1).abs() < _NEAR  # a problem that is there stays there while others go on
            low = torch.where(near | (misfit < target), middle, low)
            high = torch.where(near | (misfit >= target), middle, high)
            done = bool(near.all())
            yield Iterate(self._operator, self._observed, estimate, step, done, _geometric_mean(middle.exp()))
            if done:
                return

    def _solved(self, strength: Tensor) -> Tensor:
        return self._fit.solved(self._around, self._penalty(strength), enough=self._tolerance)

    def _penalty(self, strength: Tensor) -> Tensor:
        return spread(strength.to(self._rough), self._in) * self._rough + self._fit.least


class _Iterated:
    """Any operator, by conjugate gradients that start from the solution before. Strengths are (...)."""

    points, rounds = 8, 6

    def __init__(self, operator: Operator, observed: Tensor, penalty: str, steps: int, tolerance: float) -> None:
        self._operator, self._observed, self._penalty, self._steps = operator, observed, penalty, steps
        self._tolerance = tolerance
        self._out = len(operator.shape_out)
        self.samples = prod(operator.shape_out)
        self._back = operator.adjoint(observed)
        self._start = torch.zeros_like(self._back)
        self._pair = torch.stack([self._start, self._start])
        self._probe = rademacher(observed, operator.shape_out)

    def interval(self) -> tuple[Tensor, Tensor]:
        return _interval(self._back, self._observed, len(self._operator.shape_in), self._out)

    def misfit(self, strength: Tensor) -> Tensor:
        self._start = last(self._solve(self._observed, strength, self._start, _ROUGHLY)).estimate
        return sizes(self._operator.forward(self._start) - self._observed, self._out)

    def score(self, strength: Tensor) -> Tensor:
        both = torch.stack([self._observed, self._probe])
        self._pair = last(self._solve(both, strength, self._pair, _ROUGHLY)).estimate
        self._start = self._pair[0]
        passed = self._operator.forward(self._pair)
        trace = self.samples - dots(self._probe, passed[1], self._out)
        return (sizes(passed[0] - self._observed, self._out) / trace).square()

    def solve(self, strength: Tensor) -> Iterator[tuple[int, Tensor, bool]]:
        for iterate in self._solve(self._observed, strength, self._start, self._tolerance):
            yield iterate.steps, iterate.estimate, iterate.converged

    def _solve(self, observed: Tensor, strength: Tensor, start: Tensor, tolerance: float) -> Iterator[Iterate]:
        system = Penalised(self._operator, self._penalty, strength.sqrt())
        return cgls(system, system.padded(observed), start=start, steps=self._steps, tolerance=tolerance)


def _interval(back: Tensor, observed: Tensor, axes_in: int, axes_out: int) -> tuple[Tensor, Tensor]:
    """Strengths between which to search, around (|A* y| / |y|)², which is near the largest singular value squared."""
    largest = quotient(sizes(back.detach(), axes_in), sizes(observed, axes_out)).square()
    largest = torch.where(largest > 0, largest, 1)
    return 1e-6 * largest, 10 * largest


def _geometric_mean(strengths: Tensor) -> float:
    return float(strengths.double().log().mean().exp())


def _check(strength: float | str, noise: float | None, penalty: str, differences: str | None, steps: int) -> None:
    if steps < 1:
        raise ShapeError(f"tikhonov: steps is {steps}, but at least 1 was needed.")
    if penalty not in PENALTIES:
        raise ShapeError(
            f"tikhonov: penalty is {penalty!r}, but one of {', '.join(PENALTIES)} was needed. "
            f"Nearest: {nearest(str(penalty), PENALTIES)}."
        )
    if differences not in (None, "circular", "edge"):
        raise ShapeError(f"tikhonov: differences is {differences!r}, but 'circular', 'edge' or None was needed.")
    if strength not in ("gcv", "discrepancy") if isinstance(strength, str) else not strength >= 0:
        raise ShapeError(f"tikhonov: strength is {strength!r}, but 'gcv', 'discrepancy' or a number of at least 0 was needed.")
    if strength == "discrepancy" and noise is None:
        raise ShapeError(
            "tikhonov: strength='discrepancy' came without noise, but the noise's standard deviation was needed. "
            "Pass noise=..., or noise=estimate_noise(observed)."
        )
