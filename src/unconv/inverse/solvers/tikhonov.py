"""Least squares with a quadratic penalty, and its strength chosen from the data."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import torch
from torch import Tensor

from unconv.errors import ShapeError, nearest
from unconv.inverse.operators.convolution import Convolution
from unconv.inverse.operators.differences import gradient, gradient_adjoint, laplacian
from unconv.inverse.operators.operator import Composition, Operator
from unconv.inverse.operators.spectral import Grid
from unconv.inverse.solvers.cgls import cgls
from unconv.inverse.solvers.iterate import Iterate, last
from unconv.inverse.solvers.problems import admit, dots, quotient, signs, sizes
from unconv.inverse.solvers.search import lowest, meeting

# How well the search for a strength solves; the gradient there is flat.
_ROUGHLY = 1e-4

PENALTIES = ("identity", "gradient", "laplacian")


def tikhonov(
    operator: Operator,
    observed: Tensor,
    *,
    strength: float | str = "gcv",
    noise: float | None = None,
    penalty: str = "identity",
    steps: int = 200,
) -> Iterator[Iterate]:
    """Minimise |A x - y|^2 + strength |L x|^2, L the identity, first differences or their Laplacian.

    In closed form where the operator is a circular convolution of stride 1, with differences that go round; else by
    conjugate gradients, with differences that stop at the edges of the last axes (those of a `Convolution`, else all).

    Args:
        observed: (..., *operator.shape_out); axes in front are problems of their own, each with its own strength.
        strength: a number; or "gcv", which makes |A x - y|^2 / trace(1 - influence)^2 least; or "discrepancy", where
            |A x - y| = noise sqrt(samples). Without a closed form the trace is an estimate from one random vector, always
            the same one, and the search costs some fifteen rough solutions.
        noise: the standard deviation of a sample's noise, for "discrepancy".
        steps: of the conjugate gradients, for each solution.

    Yields:
        One estimate of the closed form; else those on the way to it, at the strength chosen. `strength` is that number,
        the geometric mean where several problems chose their own. Not converged where no strength meets the discrepancy.

    Raises:
        ShapeError, DtypeError, NonFinite: `observed` does not fit; an unknown strength or penalty; no `noise`.

    Source:
        Golub, Heath & Wahba, "Generalized cross-validation as a method for choosing a good ridge parameter" (1979), eq. 1.4;
        Hutchinson (1990) for the trace; Morozov (1966) for the discrepancy.
    """
    admit("tikhonov", operator, observed)
    _check(strength, noise, penalty, steps)
    problem: _Diagonal | _Iterated = _Iterated(operator, observed, penalty, steps)
    if isinstance(operator, Convolution) and operator.diagonalised:
        problem = _Diagonal(operator, observed, penalty)
    met = True
    with torch.no_grad():
        if strength == "gcv":
            chosen = lowest(problem.score, *problem.interval(), problem.points, problem.rounds)
        elif strength == "discrepancy":
            target = (noise or 0.0) * problem.samples**0.5
            chosen, met = meeting(problem.misfit, target, *problem.interval(), 2 * problem.rounds)
        else:
            chosen = torch.full_like(problem.interval()[0], float(strength))
    said = float(strength) if not isinstance(strength, str) else float(chosen.double().log().mean().exp())
    for step, estimate, ended in problem.solve(chosen):
        yield Iterate(operator, observed, estimate, step, ended and met, said)


class _Diagonal:
    """A circular convolution: all of it sums over frequencies. The penalties are the first powers of `laplacian`."""

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
        """The share of each frequency that stays in the residual; all of it where neither A nor L sees it."""
        kept = strength * self._rough
        total = self._power + kept
        return torch.where(total > 0, kept / torch.where(total > 0, total, 1), 1)


class _Iterated:
    """Any operator, by conjugate gradients, each solution from the last one. Strengths are (...)."""

    points, rounds = 8, 6

    def __init__(self, operator: Operator, observed: Tensor, penalty: str, steps: int) -> None:
        self._operator, self._observed, self._penalty, self._steps = operator, observed, penalty, steps
        self._out = len(operator.shape_out)
        self.samples = prod(operator.shape_out)
        self._back = operator.adjoint(observed)
        self._start = torch.zeros_like(self._back)
        self._pair = torch.stack([self._start, self._start])
        self._probe = signs(observed, operator.shape_out)

    def interval(self) -> tuple[Tensor, Tensor]:
        size = sizes(self._back.detach(), len(self._operator.shape_in))
        largest = quotient(size, sizes(self._observed, self._out)).square()
        largest = torch.where(largest > 0, largest, 1)
        return 1e-6 * largest, 10 * largest

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
        for iterate in self._solve(self._observed, strength, self._start, 1e-6):
            yield iterate.steps, iterate.estimate, iterate.converged

    def _solve(self, observed: Tensor, strength: Tensor, start: Tensor, tolerance: float) -> Iterator[Iterate]:
        system = _Penalised(self._operator, self._penalty, strength.sqrt())
        return cgls(system, system.padded(observed), start=start, steps=self._steps, tolerance=tolerance)


class _Penalised(Operator):
    """A above root L, as one long vector: least squares of it is that of A with the penalty."""

    def __init__(self, operator: Operator, penalty: str, root: Tensor) -> None:
        self.operator, self.penalty, self.root = operator, penalty, root[..., None]
        self.shape_in = operator.shape_in
        self._axes = _axes(operator)
        self._samples = prod(operator.shape_out)
        copies = self._axes if penalty == "gradient" else 1
        self.shape_out = (self._samples + copies * prod(operator.shape_in),)

    def forward(self, x: Tensor) -> Tensor:
        fitted = self.operator.forward(x).flatten(-len(self.operator.shape_out))
        return torch.cat([fitted, self.root * self._rough(x).flatten(-self._rank())], -1)

    def adjoint(self, y: Tensor) -> Tensor:
        fitted, rough = y[..., : self._samples], y[..., self._samples :] * self.root
        shape = (*self.shape_in,) if self.penalty != "gradient" else (self._axes, *self.shape_in)
        return self.operator.adjoint(fitted.unflatten(-1, self.operator.shape_out)) + self._smooth(rough.unflatten(-1, shape))

    def padded(self, observed: Tensor) -> Tensor:
        flat = observed.flatten(-len(self.operator.shape_out))
        return torch.cat([flat, flat.new_zeros(*flat.shape[:-1], self.shape_out[0] - self._samples)], -1)

    def _rank(self) -> int:
        return len(self.shape_in) + (self.penalty == "gradient")

    def _rough(self, x: Tensor) -> Tensor:
        if self.penalty == "identity":
            return x
        g = self._inside(gradient(x, self._axes))
        return g.movedim(0, -self._rank()) if self.penalty == "gradient" else gradient_adjoint(g, self._axes)

    def _smooth(self, y: Tensor) -> Tensor:
        if self.penalty == "identity":
            return y
        g = y.movedim(-self._rank(), 0) if self.penalty == "gradient" else gradient(y, self._axes)
        return gradient_adjoint(self._inside(g.clone()), self._axes)

    def _inside(self, g: Tensor) -> Tensor:
        """Without the differences between the last sample and the first."""
        for k, axis in enumerate(range(-self._axes, 0)):
            g[k].narrow(axis, g[k].shape[axis] - 1, 1).zero_()
        return g


def _axes(operator: Operator) -> int:
    """How many of the last axes of the input are a picture's."""
    while isinstance(operator, Composition):
        operator = operator.inner
    return operator.axes if isinstance(operator, Convolution) else len(operator.shape_in)


def _check(strength: float | str, noise: float | None, penalty: str, steps: int) -> None:
    if steps < 1:
        raise ShapeError(f"tikhonov: steps is {steps}, but at least 1 was needed.")
    if penalty not in PENALTIES:
        raise ShapeError(
            f"tikhonov: penalty is {penalty!r}, but one of {', '.join(PENALTIES)} was needed. "
            f"Nearest: {nearest(str(penalty), PENALTIES)}."
        )
    if strength not in ("gcv", "discrepancy") if isinstance(strength, str) else not strength >= 0:
        raise ShapeError(f"tikhonov: strength is {strength!r}, but 'gcv', 'discrepancy' or a number of at least 0 was needed.")
    if strength == "discrepancy" and noise is None:
        raise ShapeError(
            "tikhonov: strength='discrepancy' came without noise, but the noise's standard deviation was needed. "
            "Pass noise=..., or noise=estimate_noise(observed)."
        )
