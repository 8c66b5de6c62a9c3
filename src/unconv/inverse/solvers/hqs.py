"""Plug-and-play half-quadratic splitting (HQS): any denoiser as the prior."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import sqrt

import torch
from torch import Tensor

from unconv.errors import ShapeError
from unconv.inverse import headway
from unconv.inverse.operators.operator import Operator, fits
from unconv.inverse.operators.split import split
from unconv.inverse.solvers.fit import Fit
from unconv.inverse.solvers.iterate import Iterate
from unconv.inverse.solvers.problems import admit, refuse_complex
from unconv.kinds import checks_kinds

Denoiser = Callable[[Tensor, float], Tensor]

_BALANCE = 0.29  # the penalty's weight; below 0.25 the fit has more noise than its denoiser expects
FIRST = 0.8  # the first deviation, in standard deviations of the observed samples
_FITTING = 0.3  # share of a step's time that the fit takes
_INNER, _ENOUGH = 30, 1e-3  # the most conjugate gradients a step, and the share of the first residual to reach


@torch.no_grad()
@checks_kinds
def hqs(
    operator: Operator,
    observed: Tensor,
    denoiser: Denoiser,
    *,
    noise: float,
    steps: int = 15,
    first: float | None = None,
    start: Tensor | None = None,
) -> Iterator[Iterate]:
    """Restore by plug-and-play half-quadratic splitting: fit the observed samples and denoise in turns, at falling noise.

    Each step minimises |A x - y|² / noise² + balance |x - v|² / s², where v is the estimate so far and s falls from
    `first` to `noise`; then the denoiser makes the next estimate from that x and s. A is a circular convolution, of which
    samples may be missing (see `split`). If none is, the minimum is one product in the Fourier domain; otherwise a few
    conjugate gradients find it there, one FFT pair each, with the circular solution as preconditioner.

    Args:
        observed: (..., *operator.shape_out), real; a batch shares one schedule of deviations.
        denoiser: `denoiser(x, s)` returns (..., *operator.shape_in) without white noise of standard deviation s.
            unconv has `SimilarBlocks()` and `SlidingDct()`; a network of yours works as well.
        noise: standard deviation, in the units of `observed`.
        first: the first s; by default 0.8 standard deviations of `observed`, and at least four times `noise`.

    Raises:
        ShapeError: the operator is not such a convolution, the samples do not fit it, `noise` is not positive, or the
            denoiser changes the shape.
        NonFinite: the samples are not finite.

    Source:
        Geman & Yang (1995); Zoran & Weiss, "From learning models of natural image patches to whole image restoration"
        (2011); Zhang et al., "Plug-and-play image restoration with deep denoiser prior" (2021), sec. 4: the schedule.
    """
    admit("hqs", operator, observed)
    refuse_complex("hqs", operator, observed)
    if not noise > 0:
        raise ShapeError(
            f"hqs: noise is {noise}, but a positive standard deviation was needed. Pass a small one, such as 1e-4."
        )
    circular, selection = split(operator)
    fit = Fit(circular, selection, observed)
    if start is not None:
        fits("hqs: start", start, operator.shape_in)
    x, effort = fit.filled() if start is None else start, _effort(noise / max(float(observed.std()), noise))
    for step, s in enumerate(schedule(observed, noise, steps, first), 1):
        # Fit first, then denoise: the last estimate is the denoiser's, so that no noise of the fit is left in it.
        with headway.part(0, _FITTING):
            fitted = fit.solved(x, penalty(fit, s / noise), *effort)
        with headway.part(_FITTING, 1):
            x = denoiser(fitted, s)
        if x.shape != fit.seen.shape:
            raise ShapeError(
                f"hqs: the denoiser made {tuple(x.shape)} of {tuple(fit.seen.shape)}, but the same shape was needed. "
                "Correct the denoiser."
            )
        yield Iterate(operator, observed, x, step, step == steps)


def _effort(share: float) -> tuple[int, float]:
    """Return the most conjugate gradients of a step, and their tolerance, at noise of this share of the picture's deviation.

    Their error must stay below the noise: otherwise the denoiser keeps it as a part of the picture, and it grows with every
    step.
    """
    enough = min(max(40 * share**2, 1e-6), _ENOUGH)
    return min(round(_INNER * (_ENOUGH / enough) ** 0.4), 10 * _INNER), enough


def schedule(observed: Tensor, noise: float, steps: int, first: float | None = None) -> list[float]:
    """Return the standard deviations that `hqs` passes to its denoiser, falling geometrically."""
    largest = first or max(FIRST * float(observed.std()), 4 * noise)
    return [largest * (noise / largest) ** (step / max(steps - 1, 1)) for step in range(steps)]


def penalty(fit: Fit, ratio: float) -> float:
    """Return the least penalty with which no frequency of the fit has more noise than the denoiser expects.

    With penalty p, the noise at a frequency of response h is multiplied by h / (h² + p). That is at most
    1 / (2 sqrt(p)), where h = sqrt(p) if the blur has such a response.
    """
    gain = ratio / (2 * sqrt(_BALANCE))
    response = min(max(sqrt(_BALANCE) / ratio, fit.weakest), fit.strongest)
    return max(response / gain - response**2, 1e-3 * _BALANCE / ratio**2)
