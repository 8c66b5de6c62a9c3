"""Whether a picture was blurred as light, before its samples were made of it, and what takes them back to light.

A lens blurs light; a program that blurs a picture usually blurs its samples. What a file says of its samples does not tell
which of the two it was. The picture does: through the wrong one, edges of high contrast cannot be explained.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unconv.errors import DtypeError, ShapeError
from unconv.inverse.fields.image.problem import Problem
from unconv.inverse.fields.image.table import row
from unconv.inverse.solvers.iterate import last
from unconv.inverse.solvers.lbfgs import lbfgs
from unconv.pictures.measured import Measured
from unconv.pictures.transfer import SRGB, Transfer, said_by

_EIGHT_BITS = 255.0
_LOOKED_AT = 128  # samples along each axis, of one colour
_FIRST_STEPS, _STEPS = 40, 20  # of the fit that both begin with, and of each
_ROUND = 0.3  # of the mean slope: smaller ones cost their square, so that gradients have no jump
# Nats for each sample by which light has to explain a picture better than samples: where its file says what its samples are,
# and where nobody does.
_SAID, _SILENT = 0.005, 0.01
_BLACK = 0.01  # the darkest that the fits begin with, as a share of white: there the slope of samples over light is steep


@dataclass(frozen=True)
class Linear:
    """How a picture's samples become light and come back; both in the picture's own units.

    Attributes:
        white: the sample that stands for the most light.
    """

    transfer: Transfer
    white: float

    def light(self, samples: Tensor) -> Tensor:
        """Return samples as light, as much at white as these."""
        return self.transfer.light(samples / self.white) * self.white

    def samples(self, light: Tensor) -> Tensor:
        """Return light as samples."""
        return self.transfer.samples(light / self.white) * self.white

    def noise(self, noise: float, samples: Tensor) -> float:
        """Return the standard deviation that noise of the samples has as light: the root of the mean of its squares."""
        seen = samples[~samples.isnan()] / self.white
        return noise * float(self.transfer.slope(seen).square().mean().sqrt())


def check_linear(asked: bool | str, given: Measured, counts: bool) -> None:
    """Refuse what `linear` cannot be, and what cannot be taken to light.

    Raises:
        DtypeError, ShapeError.
    """
    if not isinstance(asked, bool) and asked != "auto":
        raise DtypeError(f"deblur: linear is {asked!r}, but True, False or 'auto' was needed.")
    if asked is not True:
        return
    if counts:
        raise ShapeError(
            "deblur: linear=True, for samples that are not proportional to light, came with noise of counts or a background, "
            "for samples that are. Leave linear out, or the others."
        )
    if given.peak is None:
        seen = given.samples[~given.samples.isnan()]
        low, high = float(seen.min()), float(seen.max())
        if low < 0 or high > 1:
            raise ShapeError(
                f"deblur: linear=True came with floats from {low:.4g} to {high:.4g}, which do not say what is white; floats "
                "from 0 to 1 were needed. Divide them by their white."
            )


def taken_to_light(
    given: Measured, samples: Tensor, asked: bool | str, kernel: Tensor, centre: tuple[int, ...] | None, noise: float
) -> tuple[Linear | None, list[str]]:
    """Return what takes a picture's samples to light, where it is to be restored as light, and what is to be said of it.

    Args:
        given: the picture; `samples`: of the first one of a stack.
        asked: as `linear` of `deblur`.
        noise: standard deviation of a sample.
    """
    if asked is False:
        return None, []
    said, white = said_by(given.metadata), given.peak
    linear = Linear(said or SRGB, white or 1.0)
    if asked is True:
        return linear, []
    photograph = said is not None or (white == _EIGHT_BITS and (given.colour or given.jpeg is not None))
    if not photograph or white is None or kernel.ndim != 2 or linear.transfer.plain:
        return None, []
    if not blurred_as_light(samples, linear, kernel, centre, noise, said is not None):
        return None, []
    return linear, ["deblur: the blur explains the picture's light better than its samples; restored as light."]


def blurred_as_light(
    samples: Tensor, linear: Linear, kernel: Tensor, centre: tuple[int, ...] | None, noise: float, said: bool
) -> bool:
    """Tell whether light explains one blurred picture better than its samples do.

    Either way the picture is sought that costs least: squares of what it leaves unexplained, and its slopes, both in the
    picture's samples, so that the two costs can be compared.

    Args:
        samples: (H, W) or (C, H, W).
        noise: standard deviation of a sample.
        said: the picture's file says what its samples are.
    """
    part = _part(samples, kernel) / linear.white
    if bool(part.isnan().all()) or bool((kernel < 0).any()) or min(part.shape) < max(kernel.shape):
        return False
    problem = Problem(part, kernel.to(part), centre, "unknown", noise / linear.white, _FIRST_STEPS)
    begun = last(row("tv").function()(problem)).estimate
    slope = float(_slopes(problem.cut(begun)).mean()) or 1.0
    begun = begun.clamp(_BLACK, 1.0)
    as_samples, as_light = (_cost(problem, begun, slope, transfer) for transfer in (None, linear.transfer))
    return as_samples - as_light > (_SAID if said else _SILENT)


def _part(samples: Tensor, kernel: Tensor) -> Tensor:
    """Cut the middle out of the picture, of green where it has colours."""
    plane = samples[len(samples) // 2] if samples.ndim > 2 else samples
    size = [min(n, max(_LOOKED_AT, 4 * k)) for n, k in zip(plane.shape, kernel.shape, strict=True)]
    top, left = ((n - m) // 2 for n, m in zip(plane.shape, size, strict=True))
    return plane[top : top + size[0], left : left + size[1]].contiguous()


def _slopes(picture: Tensor, least: float = 0.0) -> Tensor:
    down, across = picture.diff(dim=0)[:, :-1], picture.diff(dim=1)[:-1]
    return (down.square() + across.square() + least**2).sqrt() - least


def _cost(problem: Problem, begun: Tensor, slope: float, transfer: Transfer | None) -> float:
    """Return the least cost for each sample, in nats, of a picture that was blurred as light, or as it is."""
    operator = problem.operator()

    def cost(picture: Tensor) -> Tensor:
        if transfer is None:
            blurred = operator.forward(picture)
        else:
            blurred = transfer.samples(operator.forward(transfer.light(picture)))
        left = (blurred - problem.observed) / problem.noise
        return left.square().sum() / 2 + _slopes(picture, _ROUND * slope).sum() / slope

    return float(cost(lbfgs(cost, begun, _STEPS))) / problem.samples.numel()
