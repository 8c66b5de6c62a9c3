"""Richardson-Lucy: the multiplicative iteration towards the likeliest non-negative picture behind photon counts."""

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

# A sample with less than this part of the greatest sensitivity was hardly observed (Bertero & Boccacci 2005).
_UNSEEN = 1e-2
# The least divisor of the total variation's step; a weight too large would otherwise flip the picture's sign.
_LEAST_DIVISOR = 0.1
# The least part of a sample that an accelerated step leaves.
_LEAST_PART = 0.7
# Slopes below this part of the picture's mean level count as flat; sensitivities this close count as equal.
_EVEN, _EQUAL = 1e-4, 1e-5


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
    """Iterate Richardson-Lucy, x <- x / A*(m) * A*(m y / (A x + b)): each step explains the counts y better, none is negative.

    A*(m), the sensitivity, says how much of each sample was observed. Dividing by it makes the iteration right at an
    unknown boundary and around masked samples. A sample that sends less than 1 % of the best observed one's light into
    `observed` keeps its first value. Negative samples of `observed`, which noise makes where a camera's offset was
    subtracted, count as zero; to lose nothing, leave the offset in and pass it as `background`.

    The operator must map non-negative to non-negative: a kernel without negative taps. No gradient is recorded.

    Args:
        observed: (..., *operator.shape_out), real.
        start: (..., *operator.shape_in), not negative; by default flat, as bright as `observed`.
            A sample that starts at zero stays there.
        accelerate: extrapolate along the last step first (Biggs & Andrews); the likelihood may then fall in single
            steps.
        total_variation: weight of the total variation along all axes of `operator.shape_in`, 0 for none;
            0.002 is Dey's, above 0.1 pictures turn to cartoons. Keep channels and frames in front, as a batch.
        background: light that does not come through the operator, added to A x; one number, or shaped as `observed`.
        mask: (*operator.shape_out), false where a sample is to be ignored, even NaN.
        stop: "discrepancy" stops each picture of a batch once it fits as well as the truth would.
        noise: "poisson", if `observed` counts photons: the discrepancy is then 2 KL(y, A x + b) / M over M samples,
            to reach 1; or a standard deviation: the mean square of A x + b - y is to reach its square.
        tolerance: stop once a step changes no picture of the batch by more than this part of its norm; 0 never stops.

    Raises:
        ShapeError: shapes do not fit the operator; an unknown `stop` or `noise`.
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
    axes = _lasts(operator.shape_in)
    x = problem.flat() if start is None else start.to(problem.counts).clamp(min=0).expand(problem.flat().shape)
    problem, x = problem.embedded(x)
    before, pace, climb, ahead = x, x.new_zeros(()), None, None
    done = torch.zeros(x.shape[: -len(axes)], dtype=torch.bool, device=x.device)
    for step in range(1, steps + 1):
        point = x if climb is None else _ahead(before, x, pace)
        moved = problem.step(point, problem.blurred(point) if ahead is None or accelerate else ahead)
        if total_variation:
            problem.cut(moved).div_((1 - total_variation * curvature(problem.cut(point), axes)).clamp_(min=_LEAST_DIVISOR))
        if accelerate:
            pace, climb = _paced(moved - point, climb, axes)
        before, x = x, x.where(_lifted(done, len(axes)), moved) if stop else moved
        if stop:
            ahead = problem.blurred(x)
            done = done | problem.explained(ahead, noise)
        converged = bool(stop) and bool(done.all())
        if tolerance and not converged:
            converged = bool((_size(x - before, axes) <= tolerance * _size(x, axes)).all())
        yield Iterate(problem.whole, problem.shown, problem.cut(x), step, converged)
        if converged:
            return


@dataclass(frozen=True)
class Problem:
    """What stays the same in all steps.

    Attributes:
        whole, shown: the operator with the mask, and what was observed less the background; zero where masked.
        counts: (..., *shape_out), not negative, zero where masked.
        brightness: `counts` over the sensitivity, where that is one number; else `counts`.
        light: the sum of A*(m): how much of a flat picture of ones was seen.
        gain, kept: (*shape_in), one over the sensitivity and zero; zero and one where hardly anything was seen.
            None where the sensitivity is one number.
        floor: of A x + b, below it lies rounding; (..., 1, 1) with as many ones as shape_out has axes.
        seen: how many samples of a picture were observed.
        grid: as `embed` gives it; None where the iteration is to run on the operator's own.
        given: while it runs on the FFT's grid, the problem off it.
    """

    operator: Operator
    whole: Operator
    shown: Tensor
    counts: Tensor
    brightness: Tensor
    light: Tensor
    gain: Tensor | None
    kept: Tensor | None
    floor: Tensor
    background: float | Tensor
    mask: Tensor | None
    seen: int
    grid: tuple[Convolution, Selection, Crop] | None = None
    given: Problem | None = None

    def embedded(self, x: Tensor) -> tuple[Problem, Tensor]:
        """Move the problem and an estimate to the FFT's grid, where that saves copies; zeros around them stay zeros."""
        if self.grid is None or self.gain is None or self.kept is None:
            return self, x
        circular, chosen, crop = self.grid
        background = self.background
        if isinstance(background, Tensor):
            background = chosen.adjoint(background.expand(self.counts.shape))
        moved = replace(
            self,
            operator=circular,
            counts=chosen.adjoint(self.counts),
            brightness=chosen.adjoint(self.brightness),
            gain=crop.adjoint(self.gain),
            kept=crop.adjoint(self.kept),
            background=background,
            given=self,
        )
        return moved, crop.adjoint(x)

    def cut(self, x: Tensor) -> Tensor:
        """Cut the estimate out of one on the grid."""
        return x if self.given is None or self.grid is None else self.grid[2].forward(x)

    def blurred(self, x: Tensor) -> Tensor:
        """Return A x + b, in memory of its own."""
        y = _own(self.operator.forward(x), x)
        return y.add_(self.background) if _is_lit(self.background) else y

    def step(self, x: Tensor, blurred: Tensor) -> Tensor:
        """Return x / A*(m) * A*(m y / (A x + b)). `blurred` is overwritten, x is not."""
        ratio = torch.maximum(blurred, self.floor, out=blurred)
        ratio = torch.div(self.brightness, ratio, out=ratio)
        correction = _own(self.operator.adjoint(ratio), ratio)
        if self.gain is not None and self.kept is not None:
            correction = torch.addcmul(self.kept, correction, self.gain, out=correction)
        return correction.clamp_(min=0).mul_(x)

    def flat(self) -> Tensor:
        """Return one value for each picture, with which A x + b is as bright as `counts`: (..., *shape_in)."""
        outs = _lasts(self.operator.shape_out)
        lit = self.counts - self.background if self.mask is None else (self.counts - self.background) * self.mask
        level = lit.sum(outs).clamp(min=1e-3 * self.counts.sum(outs)) / self.light
        return _lifted(level, len(self.operator.shape_in)).expand(*level.shape, *self.operator.shape_in)

    def explained(self, blurred: Tensor, noise: str | float) -> Tensor:
        """Tell for each picture whether `blurred` is as near to the observed samples as noise lets the truth be."""
        if self.given is not None and self.grid is not None:
            return self.given.explained(self.grid[1].forward(blurred), noise)
        if isinstance(noise, str):
            light = torch.maximum(blurred, self.floor)
            terms = 2 * (torch.xlogy(self.counts, self.counts / light) + light - self.counts)
            least = 1.0
        else:
            terms = (blurred - self.background - self.shown).square()
            least = noise**2
        terms = terms if self.mask is None else terms * self.mask
        return terms.sum(_lasts(self.operator.shape_out)) <= least * self.seen


def curvature(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Return the curvature of level sets, div(grad x / |grad x|), by forward differences and their adjoint; flat outside."""
    slopes = [torch.diff(x, dim=axis, append=x.narrow(axis, x.shape[axis] - 1, 1)) for axis in axes]
    steepness = torch.stack(slopes).square_().sum(0).sqrt_()
    steepness += _EVEN * x.abs().mean(axes, keepdim=True) + torch.finfo(x.dtype).tiny
    total = torch.zeros_like(x)
    for axis, slope in zip(axes, slopes, strict=True):
        flow = slope / steepness
        total += torch.diff(flow, dim=axis, prepend=torch.zeros_like(flow.narrow(axis, 0, 1)))
    return total


def _ahead(before: Tensor, x: Tensor, pace: Tensor) -> Tensor:
    """Return x + pace (x - before), but at least a part of x: a sample that becomes zero would stay so."""
    point = torch.lerp(before, x, 1 + pace)
    return torch.maximum(point, _LEAST_PART * x, out=point)


def _paced(climb: Tensor, last: Tensor | None, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return how far to extrapolate along the last step, [0, 1) for each picture (Biggs & Andrews, eq. 10), and `climb`."""
    if last is None:
        return climb.new_zeros(()), climb
    flat, earlier = climb.flatten(-len(axes)), last.flatten(-len(axes))
    size = torch.linalg.vecdot(earlier, earlier).clamp(min=torch.finfo(climb.dtype).tiny)
    pace = torch.linalg.vecdot(flat, earlier) / size
    return _lifted(pace.clamp(0, 1 - torch.finfo(climb.dtype).eps), len(axes)), climb


def _problem(operator: Operator, observed: Tensor, background: float | Tensor, mask: Tensor | None) -> Problem:
    for name, given in (("background", background), ("mask", mask)):
        if isinstance(given, Tensor) and not spreads(given.shape, observed.shape):
            raise ShapeError(
                f"richardson_lucy: {name} is {tuple(given.shape)}, but one that spreads over the "
                f"observed {tuple(observed.shape)} was needed. Cut it."
            )
    observed = observed.detach()
    background = background.to(observed) if isinstance(background, Tensor) else background
    shown = observed - background if _is_lit(background) else observed
    whole, seen = operator, prod(operator.shape_out)
    if mask is not None:
        mask = mask.to(observed.device) != 0
        observed, shown = observed.where(mask, 0), shown.where(mask, 0)
        whole, seen = Composition(Mask(mask), operator), int(mask.sum())
    counts, grid = observed.clamp(min=0), embed(whole, observed)
    if isinstance(whole, Convolution) and whole.diagonalised and whole.kernel.ndim == whole.axes:
        sensitivity = whole.kernel.sum().real.to(observed)  # everywhere
    else:
        sensitivity = _sensitivity(whole, grid, observed.new_ones(operator.shape_out))
    least, greatest = (float(end) for end in sensitivity.aminmax())
    if not greatest > 0:
        raise ShapeError(
            f"richardson_lucy: the adjoint of ones is at most {greatest:.3g}, but light that adds up was needed. "
            "Pass a kernel that is not negative, and a mask that leaves something to see."
        )
    gain, kept, brightness = None, None, counts
    if greatest - least < _EQUAL * greatest:
        mean = float(sensitivity.mean())
        brightness = counts / mean if abs(mean - 1) > _EQUAL else counts
    else:
        unseen = sensitivity < _UNSEEN * greatest
        gain, kept = (1 / sensitivity).where(~unseen, 0), unseen.to(observed.dtype)
    limits = torch.finfo(observed.dtype)
    floor = (limits.eps * counts.amax(_lasts(operator.shape_out), keepdim=True)).clamp(min=limits.tiny)
    light = sensitivity.sum() * (prod(operator.shape_in) / sensitivity.numel())
    return Problem(operator, whole, shown, counts, brightness, light, gain, kept, floor, background, mask, seen, grid)


def _sensitivity(whole: Operator, grid: tuple[Convolution, Selection, Crop] | None, ones: Tensor) -> Tensor:
    """Return A*(m), on the grid where there is one: the kernel's FFT is then made once."""
    if grid is None:
        return whole.adjoint(ones)
    circular, chosen, crop = grid
    return crop.forward(circular.adjoint(chosen.adjoint(ones)))


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
            f"richardson_lucy: the mask is {tuple(mask.shape)}, but {operator.shape_out} was needed, one for all pictures "
            "of a batch. Restore pictures with masks of their own one by one."
        )
    if stop not in (None, "discrepancy"):
        raise ShapeError(f"richardson_lucy: stop {stop!r}; 'discrepancy' or None was needed.")
    if noise != "poisson" and (isinstance(noise, str) or not noise > 0):
        raise ShapeError(f"richardson_lucy: noise {noise!r}; 'poisson' or a standard deviation above zero was needed.")


def _own(made: Tensor, of: Tensor) -> Tensor:
    """Copy an operator's output where it is a view of its input."""
    shared = made.untyped_storage().data_ptr() == of.untyped_storage().data_ptr()
    return made.clone() if shared else made


def _size(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    size: Tensor = torch.linalg.vector_norm(x, dim=axes)
    return size


def _lifted(number: Tensor, axes: int) -> Tensor:
    """Shape one number for each picture to multiply its samples: `axes` ones behind."""
    return number.reshape(*number.shape, *[1] * axes)


def _lasts(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(range(-len(shape), 0))


def _is_lit(background: float | Tensor) -> bool:
    return isinstance(background, Tensor) or background != 0
