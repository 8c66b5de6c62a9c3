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

_SEARCH_TOLERANCE = 1e-4  # of the solutions that only compare strengths: the score is flat at its minimum
_HALF_INTERVAL, _BISECTIONS = 12.0, 16  # in logarithms of the strength, on each side of the first guess
_NEAR = 0.01  # a misfit this close to the discrepancy meets it: less than the noise of the noise, for 10,000 samples

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
    """Minimise |A x - y|^2 + strength |L x|^2 (Tikhonov), where L is the identity, first differences or their Laplacian.

    There are three ways. A circular convolution of stride 1 has a closed form, with differences that wrap around. Any
    operator can be solved by conjugate gradients, with differences that stop at the edges of the last axes (those of a
    `Convolution`, else all). With differences="circular", a circular convolution with missing samples (see `split`),
    such as one with an unknown boundary, is solved in the Fourier domain, in a fraction of the time.

    Args:
        observed: (..., *operator.shape_out). Leading axes hold independent problems, each with its own strength.
        strength: a number; "gcv", which minimises |A x - y|^2 / trace(1 - influence)^2; or "discrepancy", which makes
            |A x - y| = noise sqrt(samples). Without a closed form, one Rademacher probe (always the same) estimates the
            trace, and the search costs about fifteen rough solutions.
        noise: the standard deviation of a sample's noise, for "discrepancy".
        differences: "circular" or "edge"; by default "circular" where that gives a closed form, else "edge".
        steps: the most conjugate gradients for each solution; in the Fourier domain, the most bisections.
        tolerance: the conjugate gradients stop at this share of the first residual.

    Yields:
        The one estimate of the closed form; otherwise the estimates on the way to the solution at the chosen strength.
        In the Fourier domain with "discrepancy", one estimate for each bisection, which stops within 1 % of the
        discrepancy. `strength` is the chosen one, the geometric mean where several problems chose their own. The
        last iterate has not converged if no strength meets the discrepancy.

    Raises:
        ShapeError, DtypeError, NonFinite: `observed` does not fit; the strength or penalty is unknown; `noise` is
            missing; circular differences came with an operator that `split` refuses, or with complex samples.

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
    reached = True
    # The choice is not part of the gradient: the strength counts as a number that the caller passed.
    with torch.no_grad():
        if strength == "gcv":
            chosen = golden_section(problem.score, *problem.interval(), problem.points, problem.rounds)
        elif strength == "discrepancy":
            target = (noise or 0.0) * problem.samples**0.5
            chosen, reached = bisection(problem.misfit, target, *problem.interval(), 2 * problem.rounds)
        else:
            chosen = torch.full_like(problem.interval()[0], float(strength))
    reported = float(strength) if not isinstance(strength, str) else _geometric_mean(chosen)
    for step, estimate, converged in problem.solve(chosen):
        yield Iterate(operator, observed, estimate, step, converged and reached, reported)


class _Diagonal:
    """Solve a circular convolution, for which everything is a sum over frequencies. Penalties are powers of `laplacian`."""

    points, rounds = 33, 25

    def __init__(self, convolution: Convolution, observed: Tensor, penalty: str) -> None:
        self._grid = Grid(convolution, observed)
        self.samples = self._grid.count
        self._conjugate, self._spectrum = convolution.conjugate(observed), self._grid.transform(observed)
        self._power = convolution.power(observed)
        like = observed if self._grid.half or observed.is_complex() else observed + 0j
        differences = laplacian(self._grid.lengths, like)
        self._roughness = differences ** PENALTIES.index(penalty)
        self._energy = self._grid.power(self._spectrum.detach()) * self._grid.weights() / self._grid.count
        self._dims = tuple(range(-self._grid.axes, 0))

    def interval(self) -> tuple[Tensor, Tensor]:
        largest = self._power.detach().amax(self._dims, keepdim=True)
        largest = torch.where(largest > 0, largest, 1).expand_as(self._energy.sum(self._dims, keepdim=True))
        return 1e-12 * largest, 1e4 * largest

    def misfit(self, strength: Tensor) -> Tensor:
        return (self._energy * self._residual_share(strength).square()).sum(self._dims, keepdim=True).sqrt()

    def score(self, strength: Tensor) -> Tensor:
        # Golub, Heath & Wahba (1979), eq. 1.4: here the trace of 1 - influence is an exact sum over the eigenvalues.
        share = self._residual_share(strength)
        trace = (share * self._grid.weights()).sum(self._dims, keepdim=True)
        return (self._energy * share.square()).sum(self._dims, keepdim=True) / trace.square()

    def solve(self, strength: Tensor) -> Iterator[tuple[int, Tensor, bool]]:
        filtered = self._grid.filtered(self._spectrum, self._conjugate, self._power, strength * self._roughness)
        yield 1, self._grid.back(filtered), True

    def _residual_share(self, strength: Tensor) -> Tensor:
        """Return the share of each frequency that stays in the residual; 1 where both A and L are zero."""
        penalty = strength * self._roughness
        total = self._power + penalty
        return torch.where(total > 0, penalty / torch.where(total > 0, total, 1), 1)


class _Fourier:
    """Solve a circular convolution with missing samples; each fit takes conjugate gradients in the Fourier domain."""

    points, rounds = 8, 6

    def __init__(self, operator: Operator, observed: Tensor, penalty: str, tolerance: float) -> None:
        refuse_complex("tikhonov", operator, observed)
        self._operator, self._observed, self._tolerance = operator, observed, tolerance
        self._axes_out, self._axes_in = len(operator.shape_out), len(operator.shape_in)
        self._circular, self._selection = circular, selection = split(operator)
        self._fit = Fit(circular, selection, observed)
        self._roughness = laplacian(circular.shape_in[-circular.axes :], observed) ** PENALTIES.index(penalty)
        # A constant has no roughness, so the penalty cannot determine the mean: start at it, and keep it where the blur
        # erased it.
        self._base = self._fit.flat() if penalty != "identity" else torch.zeros_like(self._fit.seen)
        self.samples = int(self._fit.weights.sum())

    def interval(self) -> tuple[Tensor, Tensor]:
        return _interval(self._operator.adjoint(self._observed), self._observed, self._axes_in, self._axes_out)

    @cached_property
    def _probe(self) -> Tensor:
        # Zero where a mask hides the sample; otherwise hidden samples would count in the trace of the residual.
        return rademacher(self._observed, self._operator.shape_out) * self._selection.forward(self._fit.weights)

    @cached_property
    def _joint_fit(self) -> Fit:
        return Fit(self._circular, self._selection, torch.stack([self._observed, self._probe]))

    def misfit(self, strength: Tensor) -> Tensor:
        return sizes(self._operator.forward(self._solution(strength)) - self._observed, self._axes_out)

    def score(self, strength: Tensor) -> Tensor:
        base = torch.stack([self._base, torch.zeros_like(self._base)])
        fitted, influenced = self._operator.forward(
            self._joint_fit.solved(base, self._penalties(strength), enough=self._tolerance)
        )
        trace = self.samples - dots(self._probe, influenced, self._axes_out)
        return (sizes(fitted - self._observed, self._axes_out) / trace).square()

    def solve(self, strength: Tensor) -> Iterator[tuple[int, Tensor, bool]]:
        yield 1, self._solution(strength), True

    def to_discrepancy(self, noise: float, steps: int) -> Iterator[Iterate]:
        """Bisect the strength's logarithm until the misfit is within 1 % of the noise, at most `_BISECTIONS` times."""
        slope = gradient(self._observed, self._circular.axes).square().sum(0).mean(tuple(range(-self._axes_out, 0))).double()
        # The observed mean square slope gives the strength to within a few orders of magnitude, on either side.
        power = max(noise**2, torch.finfo(torch.double).tiny)
        centre = (power / slope.clamp(min=power)).log()
        low, high, target = centre - _HALF_INTERVAL, centre + _HALF_INTERVAL, noise * self.samples**0.5
        for step in range(1, min(steps, _BISECTIONS) + 1):
            middle = (low + high) / 2
            estimate = self._solution(middle.exp())
            misfit = sizes(self._operator.forward(estimate) - self._observed, self._axes_out).double()
            close = (misfit / target - 1).abs() < _NEAR  # a problem that has met it keeps its strength while others continue
            low = torch.where(close | (misfit < target), middle, low)
            high = torch.where(close | (misfit >= target), middle, high)
            done = bool(close.all())
            yield Iterate(self._operator, self._observed, estimate, step, done, _geometric_mean(middle.exp()))
            if done:
                return

    def _solution(self, strength: Tensor) -> Tensor:
        return self._fit.solved(self._base, self._penalties(strength), enough=self._tolerance)

    def _penalties(self, strength: Tensor) -> Tensor:
        return spread(strength.to(self._roughness), self._axes_in) * self._roughness + self._fit.least


class _Iterated:
    """Solve any operator by conjugate gradients, each from the previous strength's solution. Strengths are (...)."""

    points, rounds = 8, 6

    def __init__(self, operator: Operator, observed: Tensor, penalty: str, steps: int, tolerance: float) -> None:
        self._operator, self._observed, self._penalty, self._steps = operator, observed, penalty, steps
        self._tolerance = tolerance
        self._axes_out = len(operator.shape_out)
        self.samples = prod(operator.shape_out)
        self._adjoint = operator.adjoint(observed)
        self._start = torch.zeros_like(self._adjoint)
        self._pair = torch.stack([self._start, self._start])
        self._probe = rademacher(observed, operator.shape_out)

    def interval(self) -> tuple[Tensor, Tensor]:
        return _interval(self._adjoint, self._observed, len(self._operator.shape_in), self._axes_out)

    def misfit(self, strength: Tensor) -> Tensor:
        self._start = last(self._solve(self._observed, strength, self._start, _SEARCH_TOLERANCE)).estimate
        return sizes(self._operator.forward(self._start) - self._observed, self._axes_out)

    def score(self, strength: Tensor) -> Tensor:
        # Hutchinson's estimate: z*(1 - influence) z, with the probe z solved for beside the samples, in one batch.
        data = torch.stack([self._observed, self._probe])
        self._pair = last(self._solve(data, strength, self._pair, _SEARCH_TOLERANCE)).estimate
        self._start = self._pair[0]
        fitted = self._operator.forward(self._pair)
        trace = self.samples - dots(self._probe, fitted[1], self._axes_out)
        return (sizes(fitted[0] - self._observed, self._axes_out) / trace).square()

    def solve(self, strength: Tensor) -> Iterator[tuple[int, Tensor, bool]]:
        for iterate in self._solve(self._observed, strength, self._start, self._tolerance):
            yield iterate.steps, iterate.estimate, iterate.converged

    def _solve(self, observed: Tensor, strength: Tensor, start: Tensor, tolerance: float) -> Iterator[Iterate]:
        # CGLS on the stacked [A; sqrt(strength) L]: A*A + strength L*L is never formed, whose condition is the square.
        system = Penalised(self._operator, self._penalty, strength.sqrt())
        return cgls(system, system.padded(observed), start=start, steps=self._steps, tolerance=tolerance)


def _interval(back: Tensor, observed: Tensor, axes_in: int, axes_out: int) -> tuple[Tensor, Tensor]:
    """Return the ends of the search, around (|A* y| / |y|)², which is near the square of the largest singular value."""
    largest = quotient(sizes(back.detach(), axes_in), sizes(observed, axes_out)).square()
    largest = torch.where(largest > 0, largest, 1)
    return 1e-6 * largest, 10 * largest


def _geometric_mean(strengths: Tensor) -> float:
    return float(strengths.double().log().mean().exp())


def _check(strength: float | str, noise: float | None, penalty: str, differences: str | None, steps: int) -> None:
    if steps < 1:
        raise ShapeError(f"tikhonov: steps is {steps}, but at least 1 was needed. Pass a positive integer.")
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
