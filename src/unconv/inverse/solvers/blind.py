"""Deconvolution with an unknown kernel: picture and kernel are estimated in turns, from what was observed alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil, log
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import DtypeError, ShapeError
from unconv.inverse.operators.convolution import Convolution, smooth
from unconv.inverse.operators.operator import Operator, fits
from unconv.inverse.solvers.iterate import Iterate, last
from unconv.inverse.solvers.richardson_lucy import richardson_lucy

# Of pictures between 0 and 1: the price of an edge in the first step of a level, its fall from step to step, its
# least value, and how far and how fast the splitting stiffens (Pan et al. 2014, after Xu, Zheng & Jia 2013).
_EDGE, _FALL, _LEAST_EDGE, _STIFFEST, _STIFFER = 4e-3, 1.1, 1e-4, 1e5, 2.0
# A kernel's least squares: weights of its square and of its slopes' square, and the steps of the descent.
_RIDGE, _SLOPE, _DESCENT = 1.0, 5.0, 100
# From level to level; the shortest kernel there is; the part of its peak below which a tap is noise.
_PER_LEVEL, _SHORTEST, _FAINT = 2**0.5, 5, 0.05
_STILL = 0.1


@dataclass(frozen=True)
class BlindIterate(Iterate):
    """An iterate of a blind solver; its `operator` is the convolution with its `kernel`.

    Attributes:
        kernel: (*k), not negative, sums to 1; its centre is at k // 2.
    """

    kernel: Tensor = field(default_factory=lambda: torch.empty(0))

    @property
    def restored(self) -> Tensor:
        """The samples of the estimate that lie on those observed: the estimate without its margins."""
        ends = zip(self.kernel.shape, self.operator.shape_in, self.operator.shape_out, strict=True)
        cut = [slice(k - 1 - k // 2, k - 1 - k // 2 + m) if n > m else slice(m) for k, n, m in ends]
        inside: tuple[Any, ...] = (..., *cut)
        return self.estimate[inside]


class ByKernel(Operator):
    """The convolution as a function of its kernel, the picture being known: kernel to blurred picture.

    Args:
        picture: (*n), real.
        operator: a convolution, made for such pictures; its kernel's shape, boundary and centre count, not its taps.
    """

    def __init__(self, picture: Tensor, operator: Convolution) -> None:
        wide = operator._extended(picture)
        self.shape_in, self.shape_out = tuple(operator.kernel.shape), operator.shape_out
        self._dims = tuple(range(-wide.ndim, 0))
        self._grid = tuple(smooth(n) for n in wide.shape)
        self._spectrum = torch.fft.rfftn(wide, self._grid, self._dims)
        self._cut: Any = (..., *(slice(k - 1, k - 1 + m) for k, m in zip(self.shape_in, self.shape_out, strict=True)))

    def forward(self, x: Tensor) -> Tensor:
        """(..., *shape_out) of kernels (..., *k)."""
        fits("ByKernel", x, self.shape_in)
        turned = torch.fft.rfftn(x, self._grid, self._dims) * self._spectrum
        blurred: Tensor = torch.fft.irfftn(turned, self._grid, self._dims)
        return blurred[self._cut]

    def adjoint(self, y: Tensor) -> Tensor:
        """(..., *k) of (..., *shape_out)."""
        fits("ByKernel.adjoint", y, self.shape_out)
        spread = y.new_zeros(*y.shape[: y.ndim - len(self._grid)], *self._grid)
        spread[self._cut] = y
        turned = torch.fft.rfftn(spread, self._grid, self._dims) * self._spectrum.conj()
        kernel: Tensor = torch.fft.irfftn(turned, self._grid, self._dims)
        inside: tuple[Any, ...] = (..., *(slice(k) for k in self.shape_in))
        return kernel[inside]


@torch.no_grad()
def richardson_lucy_blind(
    observed: Tensor,
    kernel_size: Sequence[int],
    *,
    start: Tensor | None = None,
    steps: int = 20,
    inner: int = 5,
    boundary: str = "unknown",
) -> Iterator[BlindIterate]:
    """Richardson-Lucy of the picture and of the kernel in turns, `inner` iterations of each in a step.

    It finds the nearest picture and kernel, not the best: the start decides. Kernels of unknown shape: `blind`.

    Args:
        observed: (*n), counts, one to three axes; a picture, no batch. Negative samples count as zero.
        kernel_size: (*k); outside it the kernel is zero.
        start: (*k), the kernel to begin with, not negative, in any scale; a tap that starts at zero stays there.
            Without it a Gaussian whose standard deviation is a quarter of `kernel_size`.
        boundary: as of `Convolution`. At "unknown" the estimate is k - 1 samples longer than `observed`; see `restored`.

    Raises:
        ShapeError: sizes that do not fit.
        DtypeError: `observed` is not real and floating.

    Source:
        Fish, Brinicombe, Pike & Walker, "Blind deconvolution by means of the Richardson-Lucy algorithm" (1995).
    """
    size = tuple(int(k) for k in kernel_size)
    _check("richardson_lucy_blind", observed, size, observed.ndim)
    kernel = _gaussian(size).to(observed) if start is None else start.to(observed).clamp(min=0)
    fits("richardson_lucy_blind: start", kernel, size)
    kernel = kernel / kernel.sum()
    longer = [k - 1 if boundary == "unknown" else 0 for k in size]
    shape = tuple(n + more for n, more in zip(observed.shape, longer, strict=True))
    picture: Tensor | None = None
    for step in range(1, steps + 1):
        operator = Convolution(kernel, shape, boundary)
        picture = last(richardson_lucy(operator, observed, steps=inner, start=picture, accelerate=False)).estimate
        by_kernel = ByKernel(picture, operator)
        kernel = last(richardson_lucy(by_kernel, observed, steps=inner, start=kernel, accelerate=False)).estimate
        kernel = kernel / kernel.sum()
        yield BlindIterate(Convolution(kernel, shape, boundary), observed, picture, step, kernel=kernel)


def estimate_kernel(observed: Tensor, size: int | Sequence[int], *, steps: int = 5, levels: int | None = None) -> Tensor:
    """The kernel that blurred a picture: (*size), not negative, sums to 1, its centroid at size // 2.

    Arguments, errors and sources are those of `blind`, which also restores the picture.
    """
    *_, (_, _, kernel) = _levels(observed, _pair(size), steps, levels)
    return kernel


@torch.no_grad()
def blind(
    observed: Tensor,
    size: int | Sequence[int],
    *,
    noise: float | None = None,
    steps: int = 5,
    levels: int | None = None,
) -> Iterator[BlindIterate]:
    """A sharp picture and the kernel in turns, from coarse to fine; at last the picture once more, with all of its detail.

    A sharp picture has few edges: each step flattens the picture but for them, deblurs, and fits the kernel that
    makes what was observed of it. The steps on the way yield a grey picture of their level's size; the last iterate
    is of all channels and restored with the total variation. `converged`: the last kernel differs from the one before
    it by less than a tenth of its norm. Pictures without sharp edges somewhere, and noise above some 2 % of
    the range, are not for this method. One blur for the whole picture is assumed.

    The picture's end is handled by continuing it smoothly to its other side, around the FFT's circle.

    Args:
        observed: (*lead, H, W), real, of any range; one picture, whose leading axes (channels) share the kernel.
        size: of the kernel, (height, width) or one for both; somewhat larger than the blur, less than the picture.
        noise: standard deviation, in units of `observed`, for the restoration; without it estimated.
        steps: of each level.
        levels: sizes of the picture, each smaller by the root of two than the one before; without it as many as
            leave the kernel about 5 samples.

    Raises:
        ShapeError: a kernel shorter than 3 or not smaller than the picture.
        DtypeError: `observed` is not real and floating.

    Source:
        Cho & Lee, "Fast motion deblurring" (2009): levels and turns. Xu, Zheng & Jia, "Unnatural L0 sparse
        representation for natural image deblurring" (2013), eq. 6: the picture's step. Pan, Hu, Su & Yang, "Deblurring
        text images via L0-regularized intensity and gradient prior" (2014): constants. The kernel's step is least
        squares of slopes under kernel >= 0.
    """
    sizes = _pair(size)
    before = kernel = torch.empty(0)
    number = 0
    for number, (grey, sharp, found) in enumerate(_levels(observed, sizes, steps, levels), 1):
        before, kernel = kernel, found
        yield BlindIterate(_valid(kernel, grey), grey, sharp, number, kernel=kernel)
    spread = float(observed.max() - observed.min()) or 1.0
    deviation = noise_level(observed) if noise is None else noise
    price = max(18 * (deviation / spread) ** 2, 1e-3)
    wrapped = wrapped_around(observed / spread, sizes)
    picture = _with_margins(sharpened(wrapped, kernel, price, few_slopes), observed, sizes) * spread
    still = before.shape == kernel.shape and bool((kernel - before).norm() <= _STILL * kernel.norm())
    yield BlindIterate(_valid(kernel, observed), observed, picture, number + 1, still, price, kernel)


def sharpened(wrapped: Tensor, kernel: Tensor, price: float, shrink: Callable[[Tensor, float], Tensor]) -> Tensor:
    """The x least in |A x - y|^2 + price * R(grad x), circular, by half-quadratic splitting; `shrink` is R's proximal map."""
    shape = wrapped.shape[-2:]
    along = [Convolution([[1.0, -1.0]], shape), Convolution([[1.0], [-1.0]], shape)]
    blur = Convolution(kernel, shape, method="fft").spectrum(wrapped)
    steep = sum((slope.spectrum(wrapped).abs().square() for slope in along), torch.zeros_like(blur.real))
    energy, seen = blur.abs().square(), blur.conj() * torch.fft.rfft2(wrapped)
    x, stiffness = wrapped, 2 * price
    while stiffness < _STIFFEST:
        slopes = shrink(torch.stack([x.roll(-1, -1) - x, x.roll(-1, -2) - x]), price / stiffness)
        back = slopes[0].roll(1, -1) - slopes[0] + slopes[1].roll(1, -2) - slopes[1]
        turned = (seen + stiffness * torch.fft.rfft2(back)) / (energy + stiffness * steep)
        x = torch.fft.irfft2(turned, shape)
        stiffness *= _STIFFER
    return x


def few_edges(slopes: Tensor, price: float) -> Tensor:
    """The proximal map of the number of places with a slope: small slopes become zero, great ones stay."""
    return slopes.where(slopes.square().sum(0) >= price, 0)


def few_slopes(slopes: Tensor, price: float) -> Tensor:
    """The proximal map of the total variation: each slope is shortened by half the price."""
    size = slopes.square().sum(0).sqrt().clamp(min=torch.finfo(slopes.dtype).tiny)
    return slopes * (1 - price / 2 / size).clamp(min=0)


def fitted(sharp: Tensor, blurred: Tensor, start: Tensor) -> Tensor:
    """The kernel k >= 0 least in |k * grad sharp - grad blurred|^2, plus a ridge and its slopes, within `start`'s support.

    The normal equations of a kernel are small: the autocorrelation of the slopes at lags below its size.
    """
    size = start.shape
    grid = [smooth(n + k) for n, k in zip(sharp.shape, size, strict=True)]
    ours, theirs = torch.fft.rfft2(_slopes(sharp), grid), torch.fft.rfft2(_slopes(blurred), grid)
    alike = torch.fft.irfft2(ours.abs().square().sum(0), grid)
    crossed = torch.fft.irfft2((ours.conj() * theirs).sum(0), grid)
    lags = [torch.arange(1 - k, k, device=sharp.device) for k in size]
    small = alike[(lags[0] % grid[0])[:, None], lags[1] % grid[1]]
    small[size[0] - 1, size[1] - 1] += _RIDGE + 4 * _SLOPE
    for y, x in ((0, 1), (1, 0), (1, 2), (2, 1)):
        small[size[0] - 2 + y, size[1] - 2 + x] -= _SLOPE
    normal = Convolution(small, size, "zero", method="fft")
    places = [torch.arange(k, device=sharp.device) - k // 2 for k in size]
    aim = crossed[(places[0] % grid[0])[:, None], places[1] % grid[1]]
    return _nonnegative(normal, aim, start)


def _nonnegative(normal: Operator, aim: Tensor, start: Tensor) -> Tensor:
    """The x >= 0 least in x*Nx / 2 - x*aim, by accelerated projected descent (Beck & Teboulle 2009)."""
    rate = 1 / float(normal.spectrum(aim).abs().max())  # type: ignore[attr-defined]
    x = ahead = start
    pace = 1.0
    for _ in range(_DESCENT):
        moved = (ahead - rate * (normal.forward(ahead) - aim)).clamp(min=0)
        faster = (1 + (1 + 4 * pace**2) ** 0.5) / 2
        ahead = moved + (pace - 1) / faster * (moved - x)
        x, pace = moved, faster
    return x


def wrapped_around(picture: Tensor, size: Sequence[int]) -> Tensor:
    """(..., H, W) continued below and to the right, so that its end runs smoothly into its beginning.

    The margin is a blend of the mirrored end and the mirrored beginning, at least twice as long as the kernel
    where the picture is long enough.
    """
    for axis, k in zip((-2, -1), size, strict=True):
        n = picture.shape[axis]
        margin = min(smooth(n + 2 * k) - n, n)
        turn = torch.linspace(0, torch.pi, margin + 2, dtype=picture.dtype, device=picture.device)[1:-1]
        share = (0.5 - 0.5 * turn.cos()).reshape(-1, *[1] * (-1 - axis))
        end, begin = picture.narrow(axis, n - margin, margin).flip(axis), picture.narrow(axis, 0, margin).flip(axis)
        picture = torch.cat([picture, torch.lerp(end, begin, share)], axis)
    return picture


def noise_level(observed: Tensor) -> float:
    """The standard deviation of white noise, from the median of the finest diagonal Haar coefficients (Donoho 1995)."""
    a, b = observed[..., :-1, :-1] + observed[..., 1:, 1:], observed[..., 1:, :-1] + observed[..., :-1, 1:]
    return float(((a - b) / 2).abs().median() / 0.6745)


def _levels(observed: Tensor, size: tuple[int, int], steps: int, levels: int | None) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(grey picture of the level, sharp picture with margins, kernel) after each step."""
    _check("blind", observed, size, 2, shortest=3)
    grey = observed.flatten(0, -3).mean(0) if observed.ndim > 2 else observed
    lowest, highest = grey.aminmax()
    grey = (grey - lowest) / (highest - lowest).clamp(min=torch.finfo(grey.dtype).tiny)
    kernel: Tensor | None = None
    for scale in _scales(size, levels):
        lengths = (_odd(size[0] * scale), _odd(size[1] * scale)) if scale < 1 else size
        picture = grey if scale == 1 else _resized(grey, [ceil(n * scale) for n in grey.shape])
        kernel = _two_taps(lengths, grey) if kernel is None else _grown(kernel, lengths)
        wrapped, price = wrapped_around(picture, lengths), _EDGE
        for step in range(steps):
            circle = sharpened(wrapped, kernel, price, few_edges)
            kernel = _cleaned(fitted(circle[: picture.shape[0], : picture.shape[1]], picture, kernel))
            kernel = _centred(kernel) if step == steps - 1 else kernel
            price = max(price / _FALL, _LEAST_EDGE)
            yield picture, _with_margins(circle, picture, lengths), kernel


def _scales(size: tuple[int, int], levels: int | None) -> list[float]:
    count = 1 + max(0, int(log(min(size) / _SHORTEST, _PER_LEVEL))) if levels is None else levels
    return [_PER_LEVEL**-level for level in reversed(range(count))]


def _odd(length: float) -> int:
    return max(3, 2 * (round(length) // 2) + 1)


def _two_taps(size: tuple[int, int], like: Tensor) -> Tensor:
    """Two neighbours of one half each: with a single one the picture would be its own sharp picture."""
    kernel = like.new_zeros(size)
    kernel[size[0] // 2, size[1] // 2 - 1 : size[1] // 2 + 1] = 0.5
    return kernel


def _resized(x: Tensor, shape: Sequence[int]) -> Tensor:
    return F.interpolate(x[None, None], tuple(shape), mode="bilinear", antialias=True, align_corners=False)[0, 0]


def _grown(kernel: Tensor, size: tuple[int, int]) -> Tensor:
    """The kernel of the next level: taller and wider, padded or cut to `size` about its middle."""
    lengths = [round(k * _PER_LEVEL) for k in kernel.shape]
    wide = F.interpolate(kernel[None, None], lengths, mode="bicubic", align_corners=False)[0, 0].clamp(min=0)
    sides = [(to // 2 - of // 2, to - of - (to // 2 - of // 2)) for of, to in zip(lengths, size, strict=True)]
    return _centred(F.pad(wide, (*sides[1], *sides[0])))


def _cleaned(kernel: Tensor) -> Tensor:
    """Without its faint taps; a point where nothing was found."""
    peak = kernel.max()
    if not peak > 0:
        kernel = torch.zeros_like(kernel)
        kernel[kernel.shape[0] // 2, kernel.shape[1] // 2] = 1
        return kernel
    kernel = kernel.where(kernel >= _FAINT * peak, 0)
    return kernel / kernel.sum()


def _centred(kernel: Tensor) -> Tensor:
    """Moved by whole samples until its centroid is nearest to its middle; what leaves is lost."""
    height, width = kernel.shape
    rows = torch.arange(height, dtype=kernel.dtype, device=kernel.device)
    columns = torch.arange(width, dtype=kernel.dtype, device=kernel.device)
    total = kernel.sum()
    down = height // 2 - round(float((kernel.sum(1) * rows).sum() / total))
    right = width // 2 - round(float((kernel.sum(0) * columns).sum() / total))
    moved = F.pad(kernel, (right, -right, down, -down))
    return moved / moved.sum()


def _slopes(x: Tensor) -> Tensor:
    """(2, H - 1, W - 1): differences along the width and the height."""
    return torch.stack([x.diff(dim=1)[:-1], x.diff(dim=0)[:, :-1]])


def _with_margins(circle: Tensor, picture: Tensor, size: Sequence[int]) -> Tensor:
    """The samples around a circle that had a part in `picture`: k - 1 more along each axis."""
    before = [k - 1 - k // 2 for k in size]
    return circle.roll(before, (-2, -1))[..., : picture.shape[-2] + size[0] - 1, : picture.shape[-1] + size[1] - 1]


def _valid(kernel: Tensor, picture: Tensor) -> Convolution:
    shape = [n + k - 1 for n, k in zip(picture.shape[-2:], kernel.shape, strict=True)]
    return Convolution(kernel, shape, "unknown")


def _gaussian(size: tuple[int, ...]) -> Tensor:
    sides = [torch.exp(-((torch.arange(k) - k // 2) ** 2) / (2 * (k / 4) ** 2)) for k in size]
    grid = torch.meshgrid(*sides, indexing="ij")
    return torch.stack(grid).prod(0)


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


def _check(where: str, observed: Tensor, size: tuple[int, ...], axes: int, shortest: int = 1) -> None:
    fits(where, observed, ())
    if observed.is_complex():
        raise DtypeError(f"{where}: observed is complex, but a real picture was needed. Pass observed.abs().")
    few = observed.ndim < axes or len(size) != axes
    if few or any(not shortest <= k < n for k, n in zip(size, observed.shape[-axes:], strict=True)):
        raise ShapeError(
            f"{where}: a kernel {size} for a picture {tuple(observed.shape)}; one length for each of {axes} axes was needed, "
            f"at least {shortest} and less than the picture's. Choose a smaller kernel, or pass one picture at a time."
        )
