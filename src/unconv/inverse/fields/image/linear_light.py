"""Decide whether a picture was blurred in linear light, and convert its samples to light and back.

A lens blurs light; a program usually blurs the encoded samples of a picture. The file does not tell which of the two happened,
but the picture does: edges of high contrast cannot be explained by the wrong one.
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
_LOOKED_AT = 128  # samples along each axis, in one colour
_FIRST_STEPS, _STEPS = 40, 20  # of the common first fit, and of each of the two fits after it
_ROUND = 0.3  # of the mean slope; the cost of smaller slopes is rounded off, so that its gradient has no jump
# Nats for each sample by which linear light must explain a picture better: if its file names the encoding, and if it does not.
_NAMED, _SILENT = 0.005, 0.01
_BLACK = 0.01  # share of white at which the start of the fits is clipped; below it the encoding is too steep


@dataclass(frozen=True)
class Linear:
    """The conversion of a picture's samples to linear light and back, both in the picture's own units.

    Attributes:
        transfer: the transfer curve of the samples, from 0 to 1.
        white: the sample value of the most light.
    """

    transfer: Transfer
    white: float

    def light(self, samples: Tensor) -> Tensor:
        """Convert samples to light; white keeps its value."""
        return self.transfer.light(samples / self.white) * self.white

    def samples(self, light: Tensor) -> Tensor:
        """Convert light to samples."""
        return self.transfer.samples(light / self.white) * self.white

    def noise(self, noise: float, samples: Tensor) -> float:
        """Convert a standard deviation of the samples' noise to light, as the root mean square over the picture."""
        observed = samples[~samples.isnan()] / self.white
        return noise * float(self.transfer.slope(observed).square().mean().sqrt())


def check_linear(choice: bool | str, picture: Measured, counts: bool) -> None:
    """Refuse impossible values of `linear`, and pictures that cannot be converted to light.

    Raises:
        DtypeError, ShapeError: `linear` does not fit.
    """
    if not isinstance(choice, bool) and choice != "auto":
        raise DtypeError(f"deblur: linear is {choice!r}, but True, False or 'auto' was needed.")
    if choice is not True:
        return
    if counts:
        raise ShapeError(
            "deblur: linear=True is for samples that are not proportional to light, but counts and a background need samples "
            "that are. Leave linear out, or the noise of counts and the background."
        )
    if picture.peak is None:
        observed = picture.samples[~picture.samples.isnan()]
        low, high = float(observed.min()), float(observed.max())
        if low < 0 or high > 1:
            raise ShapeError(
                f"deblur: linear=True came with floats from {low:.4g} to {high:.4g}, but floats from 0 to 1 were needed, where "
                "1 is white. Divide them by the value of white."
            )


def taken_to_light(
    stack: Measured, samples: Tensor, choice: bool | str, kernel: Tensor, centre: tuple[int, ...] | None, noise: float
) -> tuple[Linear | None, list[str]]:
    """Return the conversion to linear light, or None to restore the samples themselves; and notes on it.

    Args:
        stack: what was observed.
        samples: of the first picture of the stack.
        choice: `linear` of `deblur`.
        noise: standard deviation of a sample.
    """
    if choice is False:
        return None, []
    encoding, white = said_by(stack.metadata), stack.peak
    linear = Linear(encoding or SRGB, white or 1.0)
    if choice is True:
        return linear, []
    # Only photographs are tested; other pictures are assumed to be proportional to light.
    photograph = encoding is not None or (white == _EIGHT_BITS and (stack.colour or stack.jpeg is not None))
    if not photograph or white is None or kernel.ndim != 2 or linear.transfer.plain:
        return None, []
    if not blurred_as_light(samples, linear, kernel, centre, noise, encoding is not None):
        return None, []
    return linear, [
        "deblur: the picture was restored in linear light, because the blur explains it better there than in its samples."
    ]


def blurred_as_light(
    samples: Tensor, linear: Linear, kernel: Tensor, centre: tuple[int, ...] | None, noise: float, named: bool
) -> bool:
    """Return whether a blur in linear light explains a picture better than a blur of its samples.

    Each hypothesis is fitted by the picture of least cost, which is the squared residual and the total variation. Both are
    measured in the picture's samples, so that the two costs are comparable.

    Args:
        samples: (H, W) or (C, H, W).
        noise: standard deviation of a sample.
        named: the picture's file names its encoding.
    """
    part = _part(samples, kernel) / linear.white
    if bool(part.isnan().all()) or bool((kernel < 0).any()) or min(part.shape) < max(kernel.shape):
        return False
    problem = Problem(part, kernel.to(part), centre, "unknown", noise / linear.white, _FIRST_STEPS)
    start = last(row("tv").function()(problem)).estimate
    slope = float(_slopes(problem.cut(start)).mean()) or 1.0
    start = start.clamp(_BLACK, 1.0)
    as_samples, as_light = (_cost(problem, start, slope, transfer) for transfer in (None, linear.transfer))
    return as_samples - as_light > (_NAMED if named else _SILENT)


def _part(samples: Tensor, kernel: Tensor) -> Tensor:
    """Return the middle of the picture; in a colour picture, that of green."""
    plane = samples[len(samples) // 2] if samples.ndim > 2 else samples
    size = [min(n, max(_LOOKED_AT, 4 * k)) for n, k in zip(plane.shape, kernel.shape, strict=True)]
    top, left = ((n - m) // 2 for n, m in zip(plane.shape, size, strict=True))
    return plane[top : top + size[0], left : left + size[1]].contiguous()


def _slopes(picture: Tensor, least: float = 0.0) -> Tensor:
    down, across = picture.diff(dim=0)[:, :-1], picture.diff(dim=1)[:-1]
    return (down.square() + across.square() + least**2).sqrt() - least


def _cost(problem: Problem, start: Tensor, slope: float, transfer: Transfer | None) -> float:
    """Return the least cost per sample, in nats, for a blur in linear light, or of the samples if `transfer` is None."""
    operator = problem.operator()

    def cost(picture: Tensor) -> Tensor:
        if transfer is None:
            blurred = operator.forward(picture)
        else:
            blurred = transfer.samples(operator.forward(transfer.light(picture)))
        residual = (blurred - problem.observed) / problem.noise
        return residual.square().sum() / 2 + _slopes(picture, _ROUND * slope).sum() / slope

    return float(cost(lbfgs(cost, start, _STEPS))) / problem.samples.numel()
