"""Richardson-Lucy: the multiplicative iteration to the maximum-likelihood non-negative picture of photon counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from unconv.errors import DtypeError, ShapeError
from unconv.inverse.operators.convolution import Convolution
from unconv.inverse.operators.operator import Composition, Operator, fits
from unconv.inverse.operators.selection import Crop, Mask, Selection
from unconv.inverse.operators.split import embed
from unconv.inverse.priors.penalties import spreads
from unconv.inverse.solvers.iterate import Iterate
from unconv.kinds import checks_kinds

# A sample with less than this share of the greatest sensitivity was hardly observed (Bertero & Boccacci 2005).
_UNSEEN = 1e-2
# The least divisor of the total variation's step; a weight too large would otherwise flip the picture's sign.
_LEAST_DIVISOR = 0.1
# The least share of a sample that extrapolation leaves.
_LEAST_SHARE = 0.7
# Slopes below this share of the picture's mean level count as flat; sensitivities this close count as equal.
_FLAT, _EQUAL = 1e-4, 1e-5


@torch.no_grad()
@checks_kinds
def richardson_lucy(
    operator: Operator,
    observed: Tensor,
    *,
    steps: int = 100,
    start: Tensor | None = None,
    accelerate: bool = True,
    total_variation: float = 0.0,
    background: float | Tensor = 0.0,
    mask: Tensor | None = None,
    stop: str | None = None,
    noise: str | float = "poisson",
    tolerance: float = 0.0,
) -> Iterator[Iterate]:
    """Restore by Richardson-Lucy, x <- x / A*(m) * A*(m y / (A x + b)): each step raises the likelihood of the counts y.

    A*(m), the sensitivity, is the share of each sample's light that was observed. Dividing by it makes the iteration right
    at an unknown boundary and around masked samples. A sample with less than 1 % of the greatest sensitivity keeps its first
    value. Negative samples of `observed`, which noise makes where a camera's offset was subtracted, count as zero; to lose
    nothing, leave the offset in and pass it as `background`.

    The operator must map non-negative pictures to non-negative ones, so its kernel has no negative taps. The estimate is
    never negative. No gradient is recorded.

    Args:
        observed: (..., *operator.shape_out), real.
        start: (..., *operator.shape_in), not negative; by default flat, as bright as `observed`.
            A sample that starts at zero stays there.
        accelerate: extrapolate along the last step first (Biggs & Andrews); the likelihood may then fall in single
            steps.
        total_variation: weight of the total variation along all axes of `operator.shape_in`, 0 for none. Dey's is 0.002;
            above 0.1, pictures look like cartoons. Keep channels and frames in front, as a batch.
        background: light that does not come through the operator, added to A x; one number, or shaped as `observed`.
        mask: (*operator.shape_out), false where a sample is to be ignored, even NaN.
        stop: "discrepancy" stops each picture of a batch once it fits as well as the truth would.
        noise: "poisson", if `observed` counts photons: stop where 2 KL(y, A x + b) / M over M samples reaches 1; or a
            standard deviation: stop where the mean square of A x + b - y reaches its square.
        tolerance: stop once a step changes no picture of the batch by more than this share of its norm; 0 never stops.

    Raises:
        ShapeError: shapes do not fit the operator; `stop` or `noise` is unknown.
        DtypeError: `observed` is not floating.

    Source:
        Richardson, "Bayesian-based iterative method of image restoration" (1972); Lucy, "An iterative technique for
        the rectification of observed distributions" (1974). Boundary: Bertero & Boccacci, "A simple method for the
        reduction of boundary effects in the Richardson-Lucy approach to image deconvolution" (2005). Acceleration:
        Biggs & Andrews, "Acceleration of iterative image restoration algorithms" (1997), eqs. 8 to 10. Total
        variation: Dey et al., "Richardson-Lucy algorithm with total variation regularization for 3D confocal
        microscope deconvolution" (2006), eq. 12. Stop: Bertero et al., "A discrepancy principle for Poisson data" (2010).
    """
    _check(operator, observed, start, mask, stop, noise)
    problem = _problem(operator, observed, background, mask)
    axes = _last_axes(operator.shape_in)
    x = problem.flat() if start is None else start.to(problem.counts).clamp(min=0).expand(problem.flat().shape)
    problem, x = problem.embedded(x)
    before, momentum, change, next_blurred = x, x.new_zeros(()), None, None
    done = torch.zeros(x.shape[: -len(axes)], dtype=torch.bool, device=x.device)
    for step in range(1, steps + 1):
        point = x if change is None else _extrapolated(before, x, momentum)
        new = problem.step(point, problem.blurred(point) if next_blurred is None or accelerate else next_blurred)
        # Dey et al. (2006), eq. 12: the update divided by 1 - weight * curvature of the point it started from.
        if total_variation:
            problem.cut(new).div_((1 - total_variation * curvature(problem.cut(point), axes)).clamp_(min=_LEAST_DIVISOR))
        if accelerate:
            momentum, change = _momentum(new - point, change, axes)
        before, x = x, x.where(_broadcastable(done, len(axes)), new) if stop else new
        # A picture that fits stays as it is. Its A x serves the next step, unless that one starts from an extrapolated point.
        if stop:
            next_blurred = problem.blurred(x)
            done = done | problem.explained(next_blurred, noise)
        converged = bool(stop) and bool(done.all())
        if tolerance and not converged:
            converged = bool((_size(x - before, axes) <= tolerance * _size(x, axes)).all())
        yield Iterate(problem.masked, problem.signal, problem.cut(x), step, converged)
        if converged:
            return


@dataclass(frozen=True)
class Problem:
    """What stays the same in all steps.

    Attributes:
        masked, signal: the operator with the mask, and the observed samples less the background; zero where masked.
        counts: (..., *shape_out), not negative, zero where masked.
        brightness: `counts` over the sensitivity, where that is one number; else `counts`.
        light: the sum of A*(m): the light that arrives from a picture of ones.
        gain, unseen: (*shape_in). Gain is one over the sensitivity, and zero where a sample was hardly observed; `unseen` is
            one there and zero elsewhere. None where the sensitivity is one number.
        floor: the least A x + b, below which is rounding; (..., 1, 1) with as many ones as shape_out has axes.
        count: observed samples of a picture.
        grid: as `embed` returns it; None where the iteration runs on the operator's own grid.
        original: while the iteration runs on the FFT's grid, the problem on the operator's own.
    """

    operator: Operator
    masked: Operator
    signal: Tensor
    counts: Tensor
    brightness: Tensor
    light: Tensor
    gain: Tensor | None
    unseen: Tensor | None
    floor: Tensor
    background: float | Tensor
    mask: Tensor | None
    count: int
    grid: tuple[Convolution, Selection, Crop] | None = None
    original: Problem | None = None

    def embedded(self, x: Tensor) -> tuple[Problem, Tensor]:
        """Return problem and estimate on the FFT's grid, where that saves copies; zeros around them stay zeros."""
        if self.grid is None or self.gain is None or self.unseen is None:
            return self, x
        circular, selection, crop = self.grid
        background = self.background
        if isinstance(background, Tensor):
            background = selection.adjoint(background.expand(self.counts.shape))
        embedded = replace(
            self,
            operator=circular,
            counts=selection.adjoint(self.counts),
            brightness=selection.adjoint(self.brightness),
            gain=crop.adjoint(self.gain),
            unseen=crop.adjoint(self.unseen),
            background=background,
            original=self,
        )
        return embedded, crop.adjoint(x)

    def cut(self, x: Tensor) -> Tensor:
        """Return the estimate on the operator's own samples."""
        return x if self.original is None or self.grid is None else self.grid[2].forward(x)

    def blurred(self, x: Tensor) -> Tensor:
        """Return A x + b, in memory of its own."""
        y = _own(self.operator.forward(x), x)
        return y.add_(self.background) if _is_lit(self.background) else y

    def step(self, x: Tensor, blurred: Tensor) -> Tensor:
        """Return x / A*(m) * A*(m y / (A x + b)). `blurred` is overwritten, x is not."""
        ratio = torch.maximum(blurred, self.floor, out=blurred)
        ratio = torch.div(self.brightness, ratio, out=ratio)
        correction = _own(self.operator.adjoint(ratio), ratio)
        if self.gain is not None and self.unseen is not None:
            correction = torch.addcmul(self.unseen, correction, self.gain, out=correction)
        return correction.clamp_(min=0).mul_(x)

    def flat(self) -> Tensor:
        """Return a constant picture for which A x + b is as bright as `counts`: (..., *shape_in)."""
        outs = _last_axes(self.operator.shape_out)
        lit = self.counts - self.background if self.mask is None else (self.counts - self.background) * self.mask
        level = lit.sum(outs).clamp(min=1e-3 * self.counts.sum(outs)) / self.light
        return _broadcastable(level, len(self.operator.shape_in)).expand(*level.shape, *self.operator.shape_in)

    def explained(self, blurred: Tensor, noise: str | float) -> Tensor:
        """Tell for each picture whether `blurred` meets the discrepancy principle, as the truth would."""
        if self.original is not None and self.grid is not None:
            return self.original.explained(self.grid[1].forward(blurred), noise)
        if isinstance(noise, str):
            light = torch.maximum(blurred, self.floor)
            # Bertero et al. (2010): twice the Kullback-Leibler divergence of Poisson counts has a mean near 1 for each sample.
            terms = 2 * (torch.xlogy(self.counts, self.counts / light) + light - self.counts)
            target = 1.0
        else:
            terms = (blurred - self.background - self.signal).square()
            target = noise**2
        terms = terms if self.mask is None else terms * self.mask
        return terms.sum(_last_axes(self.operator.shape_out)) <= target * self.count


def curvature(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Return the curvature of level sets, div(grad x / |grad x|), by forward differences and their adjoint; flat outside."""
    slopes = [torch.diff(x, dim=axis, append=x.narrow(axis, x.shape[axis] - 1, 1)) for axis in axes]
    steepness = torch.stack(slopes).square_().sum(0).sqrt_()
    steepness += _FLAT * x.abs().mean(axes, keepdim=True) + torch.finfo(x.dtype).tiny
    total = torch.zeros_like(x)
    for axis, slope in zip(axes, slopes, strict=True):
        flow = slope / steepness
        total += torch.diff(flow, dim=axis, prepend=torch.zeros_like(flow.narrow(axis, 0, 1)))
    return total


def _extrapolated(before: Tensor, x: Tensor, momentum: Tensor) -> Tensor:
    """Return x + momentum (x - before), but at least a share of x, since a sample that becomes zero stays zero."""
    point = torch.lerp(before, x, 1 + momentum)
    return torch.maximum(point, _LEAST_SHARE * x, out=point)


def _momentum(change: Tensor, last_change: Tensor | None, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return how far to extrapolate along the last step, [0, 1) for each picture (Biggs & Andrews, eq. 10), and `change`."""
    if last_change is None:
        return change.new_zeros(()), change
    flat, earlier = change.flatten(-len(axes)), last_change.flatten(-len(axes))
    size = torch.linalg.vecdot(earlier, earlier).clamp(min=torch.finfo(change.dtype).tiny)
    momentum = torch.linalg.vecdot(flat, earlier) / size
    return _broadcastable(momentum.clamp(0, 1 - torch.finfo(change.dtype).eps), len(axes)), change


def _problem(operator: Operator, observed: Tensor, background: float | Tensor, mask: Tensor | None) -> Problem:
    for name, argument in (("background", background), ("mask", mask)):
        if isinstance(argument, Tensor) and not spreads(argument.shape, observed.shape):
            raise ShapeError(
                f"richardson_lucy: {name} is {tuple(argument.shape)}, but a shape that broadcasts to the "
                f"observed {tuple(observed.shape)} was needed. Cut it to that."
            )
    observed = observed.detach()
    background = background.to(observed) if isinstance(background, Tensor) else background
    signal = observed - background if _is_lit(background) else observed
    masked, count = operator, prod(operator.shape_out)
    if mask is not None:
        mask = mask.to(observed.device) != 0
        observed, signal = observed.where(mask, 0), signal.where(mask, 0)
        masked, count = Composition(Mask(mask), operator), int(mask.sum())
    counts, grid = observed.clamp(min=0), embed(masked, observed)
    if isinstance(masked, Convolution) and masked.diagonalised and masked.kernel.ndim == masked.axes:
        sensitivity = masked.kernel.sum().real.to(observed)  # the same at every sample
    else:
        sensitivity = _sensitivity(masked, grid, observed.new_ones(operator.shape_out))
    lowest, greatest = (float(end) for end in sensitivity.aminmax())
    if not greatest > 0:
        raise ShapeError(
            f"richardson_lucy: the adjoint of ones is at most {greatest:.3g}, but more than zero was needed. "
            "Pass a kernel without negative taps, and a mask that leaves some samples."
        )
    # With one sensitivity for all samples, dividing the counts once saves a pass over the picture in every step.
    gain, unseen, brightness = None, None, counts
    if greatest - lowest < _EQUAL * greatest:
        mean = float(sensitivity.mean())
        brightness = counts / mean if abs(mean - 1) > _EQUAL else counts
    else:
        hidden = sensitivity < _UNSEEN * greatest
        gain, unseen = (1 / sensitivity).where(~hidden, 0), hidden.to(observed.dtype)
    limits = torch.finfo(observed.dtype)
    floor = (limits.eps * counts.amax(_last_axes(operator.shape_out), keepdim=True)).clamp(min=limits.tiny)
    light = sensitivity.sum() * (prod(operator.shape_in) / sensitivity.numel())
    return Problem(operator, masked, signal, counts, brightness, light, gain, unseen, floor, background, mask, count, grid)


def _sensitivity(masked: Operator, grid: tuple[Convolution, Selection, Crop] | None, ones: Tensor) -> Tensor:
    """Return A*(m), by way of the grid if there is one, so that the kernel's FFT is computed once."""
    if grid is None:
        return masked.adjoint(ones)
    circular, selection, crop = grid
    return crop.forward(circular.adjoint(selection.adjoint(ones)))


def _check(
    operator: Operator, observed: Tensor, start: Tensor | None, mask: Tensor | None, stop: str | None, noise: str | float
) -> None:
    fits("richardson_lucy: observed", observed, operator.shape_out)
    if observed.is_complex():
        raise DtypeError("richardson_lucy: observed is complex, but counts were needed. Pass observed.abs().")
    if start is not None:
        fits("richardson_lucy: start", start, operator.shape_in)
    if mask is not None and tuple(mask.shape) != operator.shape_out:
        raise ShapeError(
            f"richardson_lucy: the mask is {tuple(mask.shape)}, but {operator.shape_out} was needed, one mask for all "
            "pictures of a batch. Restore pictures with different masks one by one."
        )
    if stop not in (None, "discrepancy"):
        raise ShapeError(f"richardson_lucy: stop is {stop!r}, but 'discrepancy' or None was needed.")
    if noise != "poisson" and (isinstance(noise, str) or not noise > 0):
        raise ShapeError(f"richardson_lucy: noise is {noise!r}, but 'poisson' or a standard deviation above zero was needed.")


def _own(output: Tensor, source: Tensor) -> Tensor:
    """Return an operator's output, copied if it is a view of its input, since the caller writes into it."""
    shared = output.untyped_storage().data_ptr() == source.untyped_storage().data_ptr()
    return output.clone() if shared else output


def _size(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    size: Tensor = torch.linalg.vector_norm(x, dim=axes)
    return size


def _broadcastable(number: Tensor, axes: int) -> Tensor:
    """Shape one number for each picture to multiply its samples: `axes` ones behind."""
    return number.reshape(*number.shape, *[1] * axes)


def _last_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(range(-len(shape), 0))


def _is_lit(background: float | Tensor) -> bool:
    return isinstance(background, Tensor) or background != 0
