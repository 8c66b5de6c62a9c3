"""Recognise from a result that the assumed noise is too little or too much, and restore again with a better value.

Plug-and-play begins smooth, whatever the noise. As it goes on, detail comes back. If the noise is stronger than assumed, the
noise comes back, too, and takes over: an assumed noise that is only a little too small ruins the result.

The quality of an estimated noise shows in the part of the result that the blur would remove, x - H x, where detail is restored
and noise is amplified. A little more assumed noise removes a little detail there. A large decrease at once was noise.

The restoration removes the noise from the observed picture. If the result is closer to that than the noise allows for the
truth, there is less noise than assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import sqrt

from torch import Tensor

from unconv.inverse.fields.image.problem import Problem
from unconv.inverse.operators.convolution import Convolution
from unconv.inverse.solvers.iterate import Iterate

# Over 15 steps the mean slope grew by up to 1.55 in good results, and by 1.65 to 3 in ruined ones.
_GROWTH = 1.65
_FALL = 1.3  # raising the noise once lowers the mean slope by less than this in good results, by 1.3 to 4 in ruined ones
_RAISE, _RAISES = 1.5, 5  # factor on the noise, and how often it may be raised
# Raising the noise once lowers the part that the blur would remove by 1.0 to 1.1 if the noise was right, by 1.2 to 5 if it was
# too small. If the estimate found only white noise, which is usually right, the bound is higher.
_REMOVED, _REMOVED_OF_WHITE = 1.15, 1.25
_RUIN = 0.3  # of the picture's contrast; above this, raising the noise would only remove the picture
# A result differs from the observed picture by at least this share of the noise: 0.66 and more with the right noise, and 0.24
# to 0.44 for four pictures with strong compression, which got worse. Then the factor on the noise, and how often it applies.
_DISTANCE, _LOWER, _LOWERINGS = 0.5, 0.6, 3
# Lowering the noise must raise the part that the blur would remove by 1.1 in total, and by at most 1.2 at once: detail raised
# it by 1.05 to 1.2, noise by 1.3 to 4.5.
_DETAIL, _NOISE = 1.1, 1.2


class Growth:
    """The slopes of a method's first and last iterates, over all tiles of a picture.

    Args:
        first: the step whose iterate is smooth; None if the method has none.

    Attributes:
        slopes: the sum of the slopes of the last iterate.
        removed: the sum of squares that the blur would remove from it.
    """

    def __init__(self, first: int | None) -> None:
        self._first, self._started, self.slopes, self.removed = first, 0.0, 0.0, 0.0

    def watched(self, iterates: Iterable[Iterate], problem: Problem) -> Iterator[Iterate]:
        """Yield the iterates, and measure the first and the last of them."""
        iterate = None
        for iterate in iterates:
            if iterate.steps == self._first:
                self._started += _slopes(problem.cut(iterate.estimate), problem.axes)
            yield iterate
        if iterate is not None and self._first is not None:
            picture = problem.cut(iterate.estimate)
            self.slopes += _slopes(picture, problem.axes)
            self.removed += _removed(picture, problem)

    @property
    def noisy(self) -> bool:
        """True if the result grew rougher than detail makes it."""
        return self.slopes > _GROWTH * self._started > 0


Restore = Callable[[float, Growth], Tensor]


@dataclass(frozen=True)
class Estimated:
    """An estimated noise, to be corrected by results.

    Attributes:
        observed: the observed samples; NaN where a sample is missing.
        white: the estimate found only white noise.
    """

    observed: Tensor
    white: bool


def settled(
    restore: Restore, noise: float, first: int | None, estimated: Estimated | None = None, trial: Restore | None = None
) -> tuple[Tensor, float]:
    """Restore a picture with its noise, corrected if the result shows that it is wrong; return the result and the noise.

    Args:
        restore: restores the picture with a noise, and measures its iterates.
        noise: standard deviation.
        first: the step whose iterate is smooth; None if the method has none.
        estimated: None if the noise was not estimated. It is then raised only if the result is ruined.
        trial: restores only a part of the picture, `estimated.observed`, to correct the noise in less time.
    """
    if first is None:
        return restore(noise, Growth(None)), noise
    if estimated is None:
        return _with_more(restore, noise, first)
    restored, used = _corrected(trial or restore, noise, first, estimated)
    return (restored if trial is None else restore(used, Growth(None))), used


def _with_more(restore: Restore, noise: float, first: int) -> tuple[Tensor, float]:
    """Restore a picture, with more noise as long as that lowers the roughness; return the result and the noise."""
    restored = restore(noise, growth := Growth(first))
    for _ in range(_RAISES):
        if not growth.noisy:
            break
        smoother = restore(noise * _RAISE, less := Growth(first))
        if growth.slopes < _FALL * less.slopes:
            break
        restored, growth, noise = smoother, less, noise * _RAISE
    return restored, noise


def _corrected(restore: Restore, noise: float, first: int, estimated: Estimated) -> tuple[Tensor, float]:
    """Restore a picture with an estimated noise, lowered or raised if the results show it; return the result and the noise."""
    restored = restore(noise, growth := Growth(first))
    if _distance(restored, estimated.observed) < _DISTANCE * noise:
        # The restoration removed less than the noise, so the noise is less. Raising it cannot help.
        return _with_less(restore, noise, growth, first, estimated.observed) or (restored, noise)
    known = estimated.observed[~estimated.observed.isnan()]
    most, fall = _RUIN * float(known.std(correction=0)), _REMOVED_OF_WHITE if estimated.white else _REMOVED
    for _ in range(_RAISES):
        if noise > most:
            break
        smoother = restore(noise * _RAISE, less := Growth(first))
        if growth.removed <= fall**2 * less.removed:
            break
        restored, growth, noise = smoother, less, noise * _RAISE
    return restored, noise


def _with_less(restore: Restore, noise: float, growth: Growth, first: int, observed: Tensor) -> tuple[Tensor, float] | None:
    """Restore a picture with less noise, until the result agrees with it; None if that brings back noise, or nothing."""
    before = growth
    for _ in range(_LOWERINGS):
        noise *= _LOWER
        restored = restore(noise, after := Growth(first))
        if after.removed > _NOISE**2 * before.removed:
            return None
        if _distance(restored, observed) >= _DISTANCE * noise:
            return (restored, noise) if after.removed > _DETAIL**2 * growth.removed else None
        before = after
    return None


def _distance(restored: Tensor, observed: Tensor) -> float:
    return sqrt(float((restored - observed).square().nanmean()))


def another(noise: float, used: float) -> list[str]:
    """Return a note if a picture was restored with another noise than the estimate or the caller's number."""
    if used > noise:
        return [
            f"deblur: with a noise of {noise:.3g} the result kept getting rougher, as when noise is restored as detail; the "
            f"picture was restored with {used:.3g} instead."
        ]
    if used < noise:
        return [
            f"deblur: with a noise of {noise:.3g} the result stayed closer to the observed picture than such noise allows; the "
            f"picture was restored with {used:.3g} instead."
        ]
    return []


def _slopes(picture: Tensor, axes: int) -> float:
    return sum(float(picture.diff(dim=axis).abs().sum()) for axis in range(-axes, 0))


def _removed(picture: Tensor, problem: Problem) -> float:
    """Return the sum of squares that the blur would remove from a picture, mirrored at its borders."""
    blur = Convolution(problem.kernel, picture.shape, "reflect", centre=problem.centre, method="fft")
    return float((picture - blur.forward(picture)).square().sum())
