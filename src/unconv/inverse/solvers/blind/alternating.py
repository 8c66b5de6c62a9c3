"""Blind deconvolution by sparse gradients: picture and kernel in turns, from coarse to fine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, log

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import ShapeError
from unconv.inverse.operators.convolution import Convolution
from unconv.inverse.solvers.blind.iterate import BlindIterate, refuse_unfit
from unconv.inverse.solvers.blind.kernel import centre, drop_faint_taps, drop_specks, enlarge, fit_kernel, two_taps
from unconv.inverse.solvers.blind.picture import (
    hard_threshold,
    noise_level,
    sharpen,
    soft_threshold,
    with_margins,
    wrap_around,
)
from unconv.kinds import checks_kinds

# For pictures between 0 and 1: the price of an edge in the first step of a level, the factor by which it falls in each step,
# and its least value (Pan et al. 2014, after Xu, Zheng & Jia 2013).
_EDGE, _FALL, _LEAST_EDGE = 4e-3, 1.1, 1e-4
_PER_LEVEL, _SHORTEST = 2**0.5, 5  # growth from level to level; length of the kernel at the coarsest level
_STILL = 0.1  # converged: the kernel's last change, relative to its norm


@torch.no_grad()
@checks_kinds
def blind(
    observed: Tensor,
    size: int | Sequence[int],
    *,
    noise: float | None = None,
    steps: int = 5,
    levels: int | None = None,
) -> Iterator[BlindIterate]:
    """Estimate a picture and its unknown kernel by blind deconvolution: in turns, from coarse to fine, then restore in full.

    A sharp picture has few edges. Each step deblurs the picture and flattens everything except its edges (an L0 prior), then
    fits the kernel that turns it into the observed one. These steps yield a grey picture of their level's size; the last
    iterate has all channels and is restored with total variation. It has `converged` if the kernel changed by less than a
    tenth of its norm in the last step. The method needs some sharp edges, noise below about 2 % of the range, and the
    same blur everywhere in the picture.

    A smooth margin joins the picture's end to its beginning, so that the periodic FFT sees no edge there.

    Args:
        observed: (*lead, H, W), real, of any range; one picture, whose leading axes (channels) share the kernel.
        size: the kernel's (height, width), or one number for both; somewhat larger than the blur, less than the picture.
        noise: standard deviation in units of `observed`, for the last restoration; estimated by default.
        steps: at each level.
        levels: how many sizes of the picture, each smaller than the next by the square root of two; by default, so many
            that the kernel has about 5 samples at the coarsest.

    Raises:
        ShapeError: a kernel shorter than 3 or not smaller than the picture.
        DtypeError: `observed` is not real and floating.

    Source:
        Cho & Lee, "Fast motion deblurring" (2009): levels and turns. Xu, Zheng & Jia, "Unnatural L0 sparse
        representation for natural image deblurring" (2013), eq. 6: the picture's step. Pan, Hu, Su & Yang, "Deblurring
        text images via L0-regularized intensity and gradient prior" (2014): constants. The kernel's step is least
        squares of slopes under kernel >= 0.
    """
    sizes = pair(size)
    previous = kernel = torch.empty(0)
    number = 0
    for number, (grey, sharp, new_kernel) in enumerate(turns(observed, sizes, steps, levels), 1):
        previous, kernel = kernel, new_kernel
        yield BlindIterate(_valid(kernel, grey), grey, sharp, number, kernel=kernel)
    # The L0 prior is right for finding the kernel but flattens fine texture. So the final picture is restored anew, with
    # total variation and a price that follows the noise.
    span = float(observed.max() - observed.min()) or 1.0
    deviation = noise_level(observed) if noise is None else noise
    price = max(18 * (deviation / span) ** 2, 1e-3)
    wrapped = wrap_around(observed / span, sizes)
    picture = with_margins(sharpen(wrapped, kernel, price, soft_threshold), observed, sizes) * span
    converged = previous.shape == kernel.shape and bool((kernel - previous).norm() <= _STILL * kernel.norm())
    yield BlindIterate(_valid(kernel, observed), observed, picture, number + 1, converged, price, kernel)


@checks_kinds
def estimate_kernel(observed: Tensor, size: int | Sequence[int], *, steps: int = 5, levels: int | None = None) -> Tensor:
    """Return the estimated kernel that blurred a picture: (*size), not negative, sums to 1, its centroid at size // 2.

    Arguments, errors and sources are those of `blind`, which also restores the picture.
    """
    *_, (_, _, kernel) = turns(observed, pair(size), steps, levels)
    return kernel


def turns(
    observed: Tensor, size: tuple[int, int], steps: int = 5, levels: int | None = None, edge: float = _EDGE
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield (grey picture of the level, sharp picture with margins, kernel) after each step; `edge` is an edge's price."""
    refuse_unfit("blind", observed, size, 2, shortest=3)
    grey = observed.flatten(0, -3).mean(0) if observed.ndim > 2 else observed
    lowest, highest = grey.aminmax()
    grey = (grey - lowest) / (highest - lowest).clamp(min=torch.finfo(grey.dtype).tiny)
    kernel: Tensor | None = None
    # Coarse levels first: there the blur is a few samples long, and a start of two taps is near enough to the kernel.
    for scale in _scales(size, levels):
        lengths = (_odd(size[0] * scale), _odd(size[1] * scale)) if scale < 1 else size
        picture = grey if scale == 1 else _resized(grey, [ceil(n * scale) for n in grey.shape])
        kernel = two_taps(lengths, grey) if kernel is None else enlarge(kernel, lengths, _PER_LEVEL)
        wrapped, price = wrap_around(picture, lengths), edge
        for step in range(steps):
            restored = sharpen(wrapped, kernel, price, hard_threshold)
            kernel = drop_faint_taps(fit_kernel(restored[: picture.shape[0], : picture.shape[1]], picture, kernel))
            # Centre only at the end of a level: picture and kernel may drift together, and moving the kernel between steps
            # would undo the match of the two.
            kernel = centre(drop_specks(kernel)) if step == steps - 1 else kernel
            price = max(price / _FALL, _LEAST_EDGE)
            yield picture, with_margins(restored, picture, lengths), kernel


def _scales(size: tuple[int, int], levels: int | None) -> list[float]:
    count = 1 + max(0, int(log(min(size) / _SHORTEST, _PER_LEVEL))) if levels is None else levels
    return [_PER_LEVEL**-level for level in reversed(range(count))]


def _odd(length: float) -> int:
    return max(3, 2 * (round(length) // 2) + 1)


def _resized(x: Tensor, shape: Sequence[int]) -> Tensor:
    return F.interpolate(x[None, None], tuple(shape), mode="bilinear", antialias=True, align_corners=False)[0, 0]


def _valid(kernel: Tensor, picture: Tensor) -> Convolution:
    shape = [n + k - 1 for n, k in zip(picture.shape[-2:], kernel.shape, strict=True)]
    return Convolution(kernel, shape, "unknown")


def pair(size: int | Sequence[int]) -> tuple[int, int]:
    """Return (height, width) from one number or two."""
    lengths = (size, size) if isinstance(size, int) else tuple(size)
    if len(lengths) != 2 or min(lengths) < 1:
        raise ShapeError(f"blind: size is {size}, but one length, or (height, width), of at least 1 was needed. Pass 15.")
    return int(lengths[0]), int(lengths[1])
