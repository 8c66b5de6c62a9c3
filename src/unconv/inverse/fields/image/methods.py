"""The methods of image restoration: each runs a solver with settings for a `Problem`, and yields its iterates.

`unconv.inverse.fields.image.table` lists what the program must know of each method before it runs.
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

_STRONGER = 1.3  # factor on UPRE's strength: UPRE measures errors after the blur, and so ignores those that the blur hides
_LOOKED_AT = 256  # samples along each axis from which a strength is chosen
_LEVELS = 4  # of the wavelets
_DETAIL = 0.35  # factor on the strength that follows from the mean gradient
_HARDLY = 1.001  # factor that makes a bound just above the last deviation
_ROUGHLY = 1e-3  # tolerance of Tikhonov's conjugate gradients at an unknown boundary; a finer one looks the same

# An orthonormal opponent colour space. Its first axis is the mean of the colours, which has most of the signal and on which
# blocks are matched.
_OPPONENT = ((3**-0.5,) * 3, (2**-0.5, 0.0, -(2**-0.5)), (6**-0.5, -2 * 6**-0.5, 6**-0.5))


def similar(problem: Problem) -> Iterator[Iterate]:
    """Plug-and-play splitting with BM3D-style block matching."""
    # Only the last call makes the result. Before it, another quarter of the groups at each call does as well.
    return plug_and_play(lambda halfway, last: SimilarBlocks(thorough_below=halfway, all_below=_HARDLY * last))(problem)


def dct(problem: Problem) -> Iterator[Iterate]:
    """Plug-and-play splitting with a sliding DCT frame."""
    return plug_and_play(lambda *_: SlidingDct())(problem)


def plug_and_play(make: Callable[[float, float], Denoiser], opponent: bool = True) -> Method:
    """Return a method of half-quadratic splitting with a plug-and-play denoiser.

    Args:
        make: returns the denoiser, from the deviation half-way through the schedule and the last one.
        opponent: pass colours to the denoiser as their mean and two differences.
    """

    def method(problem: Problem) -> Iterator[Iterate]:
        problem = _noisy(problem, 0.0, 1e-3)
        steps = problem.steps
        colours = opponent and problem.samples.ndim > problem.axes and len(problem.samples) == 3
        rotation = torch.tensor(_OPPONENT, dtype=torch.float64).to(problem.samples) if colours else None
        observed = problem.observed if rotation is None else torch.tensordot(rotation, problem.observed, 1)
        first = max(FIRST * problem.once("contrast", _contrast), 4 * problem.noise)
        deviations = schedule(observed, problem.noise, steps, first)
        denoiser = make(sqrt(deviations[0] * deviations[-1]), deviations[-1])
        # The data step is exact only if the FFT diagonalises the blur. So "zero" and "reflect" are solved as "unknown", and the
        # denoiser writes their samples into the margin.
        if problem.boundary in ("zero", "reflect"):
            denoiser = _bounded(denoiser, problem)
        boundary = "circular" if problem.boundary == "circular" else "unknown"
        for iterate in hqs(problem.operator(boundary), observed, denoiser, noise=problem.noise, steps=steps, first=first):
            estimate = iterate.estimate if rotation is None else torch.tensordot(rotation.T, iterate.estimate, 1)
            yield Iterate(problem.operator(boundary), problem.observed, estimate, iterate.steps, iterate.converged)

    return method


def _noisy(problem: Problem, circular: float, other: float) -> Problem:
    """Return the problem with a minimum noise, in standard deviations of the picture: iterations cannot resolve less."""
    share = circular if problem.boundary == "circular" else other
    return replace(problem, noise=max(problem.noise, share * float(problem.samples[~problem.missing].std(correction=0))))


def total_variation(problem: Problem) -> Iterator[Iterate]:
    """Total variation by ADMM."""
    problem = _noisy(problem, 1e-3, 5e-3)
    noise = problem.noise if problem.strength is None else None
    return admm_tv(problem.operator(), problem.observed, noise=noise, strength=problem.strength, steps=problem.steps)


def wavelet(problem: Problem) -> Iterator[Iterate]:
    """Sparse wavelets by FISTA, accelerated proximal gradients."""
    operator = problem.operator(multiple=2**_LEVELS)
    # The rule noise^2 / mean gradient is that of a Laplacian prior, chosen once for all tiles.
    slopes = problem.once("slopes", lambda picture: float(gradient(picture.observed, picture.axes).abs().mean()))
    weight = problem.strength or _DETAIL * problem.noise**2 / max(slopes, 1e-30)
    penalty = Wavelet(weight, axes=problem.axes)
    halvings = depth(penalty, operator.shape_in)
    if not halvings:
        raise ShapeError(
            f"deblur: method 'wavelet' needs even lengths, but the picture is {tuple(operator.shape_in[-problem.axes :])}. Use "
            "boundary='unknown', which has a longer grid, or another method; or crop the picture to even lengths."
        )
    penalty = replace(penalty, levels=min(_LEVELS, halvings))
    return fista(operator, problem.observed, penalty, steps=problem.steps, start=problem.flat(operator))


def tikhonov_filter(problem: Problem) -> Iterator[Iterate]:
    """Tikhonov regularisation of the gradient, with the strength by the discrepancy principle."""
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
    """Wiener filter for a power that falls with the square of frequency; UPRE chooses the strength."""
    problem = _noisy(problem, 0.0, 3e-3)
    strength = problem.strength
    if strength is None:
        strength = _STRONGER * problem.once("strength", _upre)
    return wiener(problem.operator(), problem.observed, strength=strength)


def _contrast(problem: Problem) -> float:
    """Return the standard deviation of the observed samples."""
    return float(problem.samples[~problem.missing].std(correction=0))


def _upre(problem: Problem) -> float:
    """Return the strength by UPRE."""
    part = _middle(problem)
    return float(upre_strength(part.operator(), part.observed, part.noise))


def _middle(problem: Problem) -> Problem:
    """Return the middle of a large picture with an unknown boundary, which is enough to choose the strength."""
    if problem.boundary != "unknown":
        return problem
    n = problem.samples.shape[-problem.axes :]
    size = [min(a, max(_LOOKED_AT, 4 * k)) for a, k in zip(n, problem.kernel.shape, strict=True)]
    part = problem.samples[inside([(a - b) // 2 for a, b in zip(n, size, strict=True)], size)]
    if part.shape == problem.samples.shape or bool(part.isnan().all()):
        return problem
    return replace(problem, samples=part)


def counts(problem: Problem) -> Iterator[Iterate]:
    """Richardson-Lucy, stopped at the least predictive risk."""
    mask = ~problem.missing if bool(problem.missing.any()) else None
    plain = replace(problem, samples=problem.observed)
    observed = problem.observed + problem.light if mask is None else (problem.observed + problem.light) * mask
    noise = None if problem.counts else problem.noise
    run = richardson_lucy_of_least_risk
    return run(plain.operator(), observed, steps=problem.steps, background=problem.light, mask=mask, noise=noise)


def _bounded(denoiser: Denoiser, problem: Problem) -> Denoiser:
    """Return a denoiser that also writes the samples of the boundary condition outside the picture."""
    n = problem.samples.shape[-problem.axes :]

    def bounded(x: Tensor, deviation: float) -> Tensor:
        picture = problem.cut(denoiser(x, deviation))
        if problem.boundary == "zero":
            outside = torch.zeros_like(x)
            outside[inside(problem.start, n)] = picture
            return outside
        for axis, start, m in zip(range(-problem.axes, 0), problem.start, n, strict=True):
            index = (torch.arange(x.shape[axis], device=x.device) - start) % (2 * m - 2)
            picture = picture.index_select(axis, torch.minimum(index, 2 * m - 2 - index))
        return picture

    return bounded
