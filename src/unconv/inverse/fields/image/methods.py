"""The methods of image restoration: each chooses a solver and its settings for a `Problem`, and yields the iterates.

What the program must know of a method before it runs stands in the table of `unconv.inverse.fields.image.table`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import sqrt

import torch
from torch import Tensor

from unconv.errors import ShapeError
from unconv.inverse.fields.image.problem import Method, Problem, inside
from unconv.inverse.operators.differences import gradient
from unconv.inverse.priors.block_matching import SimilarBlocks
from unconv.inverse.priors.penalties import Wavelet, depth
from unconv.inverse.priors.sliding_dct import SlidingDct
from unconv.inverse.solvers.admm import admm_tv
from unconv.inverse.solvers.fista import fista
from unconv.inverse.solvers.hqs import FIRST, Denoiser, hqs, schedule
from unconv.inverse.solvers.iterate import Iterate
from unconv.inverse.solvers.least_risk import richardson_lucy_of_least_risk
from unconv.inverse.solvers.tikhonov import tikhonov
from unconv.inverse.solvers.wiener import upre_strength, wiener

_STRONGER = 1.3  # than UPRE's choice: that counts errors after the blur, and so hardly counts those that the blur hides
_LOOKED_AT = 256  # samples along each axis that tell a strength
_LEVELS = 4  # of the wavelets
_DETAIL = 0.35  # of the strength that the mean size of the gradient asks for
_HARDLY = 1.001  # more than the last deviation
_ROUGHLY = 1e-3  # Tikhonov's conjugate gradients at an unknown boundary; a finer solution looks the same

# Orthonormal: the mean of the colours first, which carries most of the signal and on which blocks are matched.
_OPPONENT = ((3**-0.5,) * 3, (2**-0.5, 0.0, -(2**-0.5)), (6**-0.5, -2 * 6**-0.5, 6**-0.5))


def similar(problem: Problem) -> Iterator[Iterate]:
    """Plug-and-play splitting with BM3D-style block matching."""
    # Only the last call's picture is shown: before that, other quarters of the groups at each call do as well.
    return plug_and_play(lambda halfway, last: SimilarBlocks(thorough_below=halfway, all_below=_HARDLY * last))(problem)


def dct(problem: Problem) -> Iterator[Iterate]:
    """Plug-and-play splitting with a sliding DCT frame."""
    return plug_and_play(lambda *_: SlidingDct())(problem)


def plug_and_play(make: Callable[[float, float], Denoiser], opponent: bool = True) -> Method:
    """Make a method of half-quadratic splitting with the denoiser that `make` gives, told the deviations half-way and last.

    With `opponent`, the denoiser gets colours as their mean and two differences; else as they are.
    """

    def method(problem: Problem) -> Iterator[Iterate]:
        problem = _noisy(problem, 0.0, 1e-3)
        steps = problem.steps
        colours = opponent and problem.samples.ndim > problem.axes and len(problem.samples) == 3
        turn = torch.tensor(_OPPONENT, dtype=torch.float64).to(problem.samples) if colours else None
        observed = problem.observed if turn is None else torch.tensordot(turn, problem.observed, 1)
        first = max(FIRST * problem.once("contrast", _contrast), 4 * problem.noise)
        deviations = schedule(observed, problem.noise, steps, first)
        chosen = make(sqrt(deviations[0] * deviations[-1]), deviations[-1])
        # The data step is exact only where the FFT diagonalises the blur. So "zero" and "reflect" are solved as unknown,
        # and the denoiser writes into the margin what they say lies there.
        if problem.boundary in ("zero", "reflect"):
            chosen = _bounded(chosen, problem)
        boundary = "circular" if problem.boundary == "circular" else "unknown"
        for iterate in hqs(problem.operator(boundary), observed, chosen, noise=problem.noise, steps=steps, first=first):
            estimate = iterate.estimate if turn is None else torch.tensordot(turn.T, iterate.estimate, 1)
            yield Iterate(problem.operator(boundary), problem.observed, estimate, iterate.steps, iterate.converged)

    return method


def _noisy(problem: Problem, circular: float, other: float) -> Problem:
    """Assume so much noise at least, in standard deviations of the picture: less than iterations can tell from none."""
    share = circular if problem.boundary == "circular" else other
    return replace(problem, noise=max(problem.noise, share * float(problem.samples[~problem.unseen].std(correction=0))))


def total_variation(problem: Problem) -> Iterator[Iterate]:
    """Total variation, by ADMM."""
    problem = _noisy(problem, 1e-3, 5e-3)
    noise = problem.noise if problem.strength is None else None
    return admm_tv(problem.operator(), problem.observed, noise=noise, strength=problem.strength, steps=problem.steps)


def wavelet(problem: Problem) -> Iterator[Iterate]:
    """Sparse wavelets, by accelerated proximal gradients."""
    operator = problem.operator(multiple=2**_LEVELS)
    slopes = problem.once("slopes", lambda whole: float(gradient(whole.observed, whole.axes).abs().mean()))
    weight = problem.strength or _DETAIL * problem.noise**2 / max(slopes, 1e-30)
    penalty = Wavelet(weight, axes=problem.axes)
    halvings = depth(penalty, operator.shape_in)
    if not halvings:
        raise ShapeError(
            f"deblur: method 'wavelet' halves lengths, but {tuple(operator.shape_in[-problem.axes :])} cannot be halved. Use "
            "boundary='unknown', which makes a longer grid, another method, or crop the picture to even lengths."
        )
    penalty = replace(penalty, levels=min(_LEVELS, halvings))
    return fista(operator, problem.observed, penalty, steps=problem.steps, start=problem.flat(operator))


def tikhonov_filter(problem: Problem) -> Iterator[Iterate]:
    """Small gradients, as strong as the discrepancy principle says."""
    unknown = problem.boundary == "unknown"
    problem = _noisy(problem, 0.0, 7e-3 if unknown else 0.0)
    return tikhonov(
        problem.operator(),
        problem.observed,
        strength="discrepancy" if problem.strength is None else problem.strength,
        noise=problem.noise,
        penalty="gradient",
        differences="circular" if unknown else None,
        steps=problem.steps,
        **({"tolerance": _ROUGHLY} if unknown else {}),
    )


def wiener_filter(problem: Problem) -> Iterator[Iterate]:
    """Wiener's filter for pictures, whose power falls with the square of frequency; UPRE tells how high that power is."""
    problem = _noisy(problem, 0.0, 3e-3)
    strength = problem.strength
    if strength is None:
        strength = _STRONGER * problem.once("strength", _least_risk)
    return wiener(problem.operator(), problem.observed, strength=strength)


def _contrast(problem: Problem) -> float:
    """The standard deviation of what was observed."""
    return float(problem.samples[~problem.unseen].std(correction=0))


def _least_risk(problem: Problem) -> float:
    """Choose the strength by UPRE."""
    part = _middle(problem)
    return float(upre_strength(part.operator(), part.observed, part.noise))


def _middle(problem: Problem) -> Problem:
    """Cut the middle out of a large picture with an unknown boundary: it tells the strength in less time than the whole."""
    if problem.boundary != "unknown":
        return problem
    n = problem.samples.shape[-problem.axes :]
    size = [min(a, max(_LOOKED_AT, 4 * k)) for a, k in zip(n, problem.kernel.shape, strict=True)]
    part = problem.samples[inside([(a - b) // 2 for a, b in zip(n, size, strict=True)], size)]
    if part.shape == problem.samples.shape or bool(part.isnan().all()):
        return problem
    return replace(problem, samples=part)


def counts(problem: Problem) -> Iterator[Iterate]:
    """Richardson-Lucy, stopped where the predictive risk is least."""
    mask = ~problem.unseen if bool(problem.unseen.any()) else None
    plain = replace(problem, samples=problem.observed)
    observed = problem.observed + problem.light if mask is None else (problem.observed + problem.light) * mask
    noise = None if problem.counts else problem.noise
    run = richardson_lucy_of_least_risk
    return run(plain.operator(), observed, steps=problem.steps, background=problem.light, mask=mask, noise=noise)


def _bounded(denoiser: Denoiser, problem: Problem) -> Denoiser:
    """Let the denoiser also write, outside the picture, what the boundary says lies there."""
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
