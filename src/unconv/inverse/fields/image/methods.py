"""The methods of image restoration, each a function from what was observed to a solver's iterates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property
from math import exp, log, pi, sqrt
from typing import Any

import torch
from torch import Tensor

from unconv.errors import ShapeError
from unconv.inverse.operators.convolution import Convolution, smooth, split
from unconv.inverse.operators.differences import gradient, laplacian
from unconv.inverse.operators.operator import Operator
from unconv.inverse.operators.selection import Mask, Window
from unconv.inverse.operators.spectral import Grid
from unconv.inverse.priors.block_matching import SimilarBlocks
from unconv.inverse.priors.penalties import Wavelet, depth
from unconv.inverse.priors.sliding_dct import SlidingDct
from unconv.inverse.solvers.admm import admm_tv
from unconv.inverse.solvers.fista import fista
from unconv.inverse.solvers.fit import Fit
from unconv.inverse.solvers.hqs import FIRST, Denoiser, hqs, schedule
from unconv.inverse.solvers.iterate import Iterate
from unconv.inverse.solvers.problems import signs
from unconv.inverse.solvers.richardson_lucy import richardson_lucy
from unconv.inverse.solvers.tikhonov import tikhonov

STEPS = 15  # of plug-and-play splitting
_HALVINGS = 16  # of the interval of a quadratic penalty's strength
MOST = {"tv": 150, "wavelet": 200, "tikhonov": 100, "wiener": 1, "richardson-lucy": 100}  # steps; else STEPS
_NOWHERE = 1e-10  # penalty of every frequency: what the blur has erased and no roughness tells of stays zero
_MANY, _NEAR = 100, 1e-4  # conjugate gradients of a last fit: at most so many, to this share of the first residual
_MORE = 1.3  # of the strength of least risk, which counts an error less where the blur hides it
_LOOKED_AT = 256  # samples along each axis that tell a strength
_LEVELS = 4  # of the wavelets
_DETAIL = 0.35  # of the strength that the mean size of the gradient asks for

# Orthonormal: the mean of the colours first, which tells most and in which similar blocks are looked for.
_OPPONENT = ((3**-0.5,) * 3, (2**-0.5, 0.0, -(2**-0.5)), (6**-0.5, -2 * 6**-0.5, 6**-0.5))


@dataclass(frozen=True)
class Problem:
    """One picture, or one tile, to restore.

    Attributes:
        samples: (C, *n) or (*n), n of as many axes as the kernel has; NaN where nothing was observed.
        kernel: sums to 1; of the fine grid where there is a factor.
        noise: standard deviation.
        counts: the noise is Poisson's, and `noise` means nothing.
        factor: samples of the estimate to one of the observed, along each axis.
    """

    samples: Tensor
    kernel: Tensor
    centre: tuple[int, ...] | None
    boundary: str
    noise: float
    strength: float | None = None
    steps: int | None = None
    counts: bool = False
    factor: int = 1

    @property
    def axes(self) -> int:
        return self.kernel.ndim

    @cached_property
    def unseen(self) -> Tensor:
        """True where a sample, or another colour of it, was not observed."""
        unseen = self.samples.isnan()
        return unseen.any(0, keepdim=True).expand_as(unseen) if self.samples.ndim > self.axes else unseen

    @cached_property
    def observed(self) -> Tensor:
        """The samples, zero where none was observed."""
        return torch.where(self.unseen, 0, self.samples)

    def operator(self, boundary: str | None = None, multiple: int = 1) -> Operator:
        """From the estimate's grid to the observed samples. Under "unknown" that grid is longer than the picture by the
        kernel and by what makes its lengths fast for the FFT and multiples of `multiple`; what lies there was not
        observed either."""
        boundary = boundary or self.boundary
        lead, n = self.samples.shape[: -self.axes], self.samples.shape[-self.axes :]
        if boundary == "unknown":
            least = (a * self.factor + k - 1 for a, k in zip(n, self.kernel.shape, strict=True))
            grid = tuple(multiple * smooth(-(-a // multiple)) for a in least)
            blur = Convolution(self.kernel, (*lead, *grid), "unknown", centre=self.centre, method="fft")
            phase, step = ((self.factor - 1) // 2,) * self.axes, (self.factor,) * self.axes
            made: Operator = Window(blur.shape_out, phase, n, step) @ blur
        else:
            made = Convolution(self.kernel, self.samples.shape, boundary, centre=self.centre, method="fft")
        return Mask(~self.unseen) @ made if bool(self.unseen.any()) else made

    def flat(self, operator: Operator) -> Tensor:
        """An estimate of one value: the mean of what was observed."""
        return self.observed.new_full(operator.shape_in, float(self.samples[~self.unseen].mean()))

    def cut(self, estimate: Tensor) -> Tensor:
        """The picture's own part of an estimate."""
        n = self.samples.shape[-self.axes :]
        if estimate.shape == self.samples.shape and self.factor == 1:
            return estimate
        return estimate[inside(self.start, (m * self.factor for m in n))]

    @property
    def start(self) -> tuple[int, ...]:
        """Where the picture begins on the grid of an unknown boundary."""
        centre = tuple(k // 2 for k in self.kernel.shape) if self.centre is None else self.centre
        return tuple(k - 1 - c for k, c in zip(self.kernel.shape, centre, strict=True))


def inside(start: Iterable[int], size: Iterable[int]) -> tuple[Any, ...]:
    """The index of a box of the last axes."""
    return (..., *(slice(a, a + m) for a, m in zip(start, size, strict=True)))


Method = Callable[[Problem], Iterator[Iterate]]


def plug_and_play(make: Callable[[float], Denoiser], opponent: bool = True) -> Method:
    """Half-quadratic splitting with the denoiser that `make` makes, given the deviation half-way.

    With `opponent`, it gets colours as their mean and two differences; else as they are.
    """

    def method(problem: Problem) -> Iterator[Iterate]:
        steps = problem.steps or STEPS
        colours = opponent and problem.samples.ndim > problem.axes and len(problem.samples) == 3
        turn = torch.tensor(_OPPONENT, dtype=torch.float64).to(problem.samples) if colours else None
        observed = problem.observed if turn is None else torch.tensordot(turn, problem.observed, 1)
        first = max(FIRST * float(problem.samples[~problem.unseen].std(correction=0)), 4 * problem.noise)
        deviations = schedule(observed, problem.noise, steps, first)
        chosen = make(sqrt(deviations[0] * deviations[-1]))
        if problem.boundary in ("zero", "reflect"):
            chosen = _bounded(chosen, problem)
        boundary = "circular" if problem.boundary == "circular" else "unknown"
        for iterate in hqs(problem.operator(boundary), observed, chosen, noise=problem.noise, steps=steps, first=first):
            estimate = iterate.estimate if turn is None else torch.tensordot(turn.T, iterate.estimate, 1)
            yield Iterate(problem.operator(boundary), problem.observed, estimate, iterate.steps, iterate.converged)

    return method


def total_variation(problem: Problem) -> Iterator[Iterate]:
    """Small total variation, by ADMM."""
    _unbounded("tv", problem)
    noise = problem.noise if problem.strength is None else None
    return admm_tv(
        problem.operator(), problem.observed, noise=noise, strength=problem.strength, steps=problem.steps or MOST["tv"]
    )


def wavelet(problem: Problem) -> Iterator[Iterate]:
    """Sparse wavelets, by accelerated proximal gradients."""
    operator = problem.operator(multiple=2**_LEVELS)
    slopes = float(gradient(problem.observed, problem.axes).abs().mean())
    weight = problem.strength or _DETAIL * problem.noise**2 / max(slopes, 1e-30)
    penalty = Wavelet(weight, axes=problem.axes)
    halvings = depth(penalty, operator.shape_in)
    if not halvings:
        raise ShapeError(
            f"deblur: method 'wavelet' halves lengths, but {tuple(operator.shape_in[-problem.axes :])} cannot be halved. Use "
            "boundary='unknown', which makes a longer grid, another method, or crop the picture to even lengths."
        )
    penalty = replace(penalty, levels=min(_LEVELS, halvings))
    return fista(operator, problem.observed, penalty, steps=problem.steps or MOST["wavelet"], start=problem.flat(operator))


def wiener_filter(problem: Problem) -> Iterator[Iterate]:
    """Wiener's filter, the picture's power falling with the square of frequency; exact at an unknown boundary, too.

    How high that power is, the least predictive risk tells.
    """
    _unbounded("wiener", problem)
    operator = problem.operator()
    circular, chosen = split(operator)
    squares, flat = Grid(circular, problem.observed).square_frequency(), problem.flat(operator)
    strength = problem.strength or _MORE * _least_risk(_middle(problem))
    fit = Fit(circular, chosen, problem.observed)
    estimate = fit.solved(flat, squares * strength + _NOWHERE, _MANY, _NEAR)
    yield Iterate(operator, problem.observed, estimate, 1, True, strength)


def _middle(problem: Problem) -> Problem:
    """Of a large picture at an unknown boundary, where fits take their time, the middle: what is told there of the whole."""
    if problem.boundary != "unknown":
        return problem
    n = problem.samples.shape[-problem.axes :]
    size = [min(a, max(_LOOKED_AT, 4 * k)) for a, k in zip(n, problem.kernel.shape, strict=True)]
    part = problem.samples[inside([(a - b) // 2 for a, b in zip(n, size, strict=True)], size)]
    if part.shape == problem.samples.shape or bool(part.isnan().all()):
        return problem
    return replace(problem, samples=part)


def _least_risk(problem: Problem) -> float:
    """N / S times |f|² by which |A x - y|² + 2 N tr(A dx/dy), the error of A x but for a constant, is least.

    The trace is that of one vector of random signs. The search goes downhill from what the slopes of the picture ask for,
    which is too much rather than too little.

    Source:
        Mallows, "Some comments on C_p" (1973); Vogel, "Computational methods for inverse problems" (2002), sec. 7.1.
    """
    operator, y = problem.operator(), problem.observed
    squares = Grid(split(operator)[0], y).square_frequency()
    probe = signs(y, y.shape[-problem.axes :])  # the same for each colour
    fit = Fit(*split(operator), torch.stack([y, probe]))
    prior = torch.stack([problem.flat(operator), torch.zeros(operator.shape_in).to(y)])

    @cache
    def risk(place: int) -> float:
        made, told = operator.forward(fit.solved(prior, squares * strength(place) + _NOWHERE))
        return float((made - y).square().sum() + 2 * problem.noise**2 * (told * probe).sum())

    def strength(place: float) -> float:
        return _from_slopes(problem) * 10 ** (-place / 2)

    way = 1 if risk(1) < risk(0) else -1
    best = max(way, 0)
    while abs(best) < _HALVINGS and risk(best + way) < risk(best):
        best += way
    before, least, after = risk(best - 1), risk(best), risk(best + 1)
    bend = before - 2 * least + after
    return strength(best + (before - after) / (2 * bend) if bend > 0 else best)


def _from_slopes(problem: Problem) -> float:
    """N / S times |f|² by the mean square of the slopes that are not noise."""
    slopes = torch.stack([problem.samples.diff(dim=axis).square().nanmean() for axis in range(-problem.axes, 0)]).mean()
    structure = max(float(slopes.nan_to_num()) - 2 * problem.noise**2, 1e-3 * problem.noise**2)
    return 4 * pi**2 * problem.noise**2 / structure


def tikhonov_filter(problem: Problem) -> Iterator[Iterate]:
    """Gradients as small as leaves the noise: the discrepancy principle."""
    operator = problem.operator()
    rule = "discrepancy" if problem.strength is None else problem.strength
    if problem.boundary != "unknown":
        return tikhonov(
            operator,
            problem.observed,
            strength=rule,
            noise=problem.noise,
            penalty="gradient",
            steps=problem.steps or MOST["tikhonov"],
        )
    return _tikhonov_unknown(problem, operator)


def _tikhonov_unknown(problem: Problem, operator: Operator) -> Iterator[Iterate]:
    """By halving the interval of the strength's logarithm; fits at the FFT's speed."""
    fit = Fit(*split(operator), problem.observed)
    rough = laplacian(operator.shape_in[-problem.axes :], problem.observed)
    slopes = float(gradient(problem.observed, problem.axes).square().sum(0).mean())
    low, high = (log(problem.noise**2 / max(slopes, problem.noise**2)) + around for around in (-12.0, 12.0))
    target = problem.noise * sqrt(problem.observed.numel() - int(problem.unseen.sum()))
    flat = problem.flat(operator)
    for step in range(1, (problem.steps or _HALVINGS) + 1):
        strength = problem.strength or exp((low + high) / 2)
        estimate = fit.solved(flat, rough * strength + _NOWHERE)
        misfit = float((operator.forward(estimate) - problem.observed).norm())
        low, high = ((low + high) / 2, high) if misfit < target else (low, (low + high) / 2)
        done = problem.strength is not None or abs(misfit / target - 1) < 0.01
        yield Iterate(operator, problem.observed, estimate, step, done, strength)
        if done:
            return


def counts(problem: Problem) -> Iterator[Iterate]:
    """Richardson-Lucy, stopped when what is left is as large as the noise."""
    noise: float | str = "poisson" if problem.counts else problem.noise
    mask = ~problem.unseen if bool(problem.unseen.any()) else None
    plain = replace(problem, samples=problem.observed)
    steps = problem.steps or MOST["richardson-lucy"]
    return richardson_lucy(plain.operator(), problem.observed, steps=steps, mask=mask, stop="discrepancy", noise=noise)


METHODS: dict[str, Method] = {
    "similar": plug_and_play(lambda halfway: SimilarBlocks(thorough_below=halfway)),
    "dct": plug_and_play(lambda _halfway: SlidingDct()),
    "tv": total_variation,
    "wavelet": wavelet,
    "tikhonov": tikhonov_filter,
    "wiener": wiener_filter,
    "richardson-lucy": counts,
}


def _bounded(denoiser: Denoiser, problem: Problem) -> Denoiser:
    """The denoiser, and then outside the picture what the boundary says lies there."""
    n = problem.samples.shape[-problem.axes :]

    def bounded(x: Tensor, deviation: float) -> Tensor:
        kept = problem.cut(denoiser(x, deviation))
        if problem.boundary == "zero":
            outside = torch.zeros_like(x)
            outside[inside(problem.start, n)] = kept
            return outside
        for axis, start, m in zip(range(-problem.axes, 0), problem.start, n, strict=True):
            place = (torch.arange(x.shape[axis], device=x.device) - start) % (2 * m - 2)
            kept = kept.index_select(axis, torch.minimum(place, 2 * m - 2 - place))
        return kept

    return bounded


def _unbounded(name: str, problem: Problem) -> None:
    if problem.boundary not in ("circular", "unknown"):
        raise ShapeError(
            f"deblur: method {name!r} takes boundary 'unknown' or 'circular', not {problem.boundary!r}. Use 'unknown', which "
            "assumes less, or a method that takes it: similar, dct, wavelet, tikhonov, richardson-lucy."
        )
