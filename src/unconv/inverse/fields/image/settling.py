"""Tell by a result that the noise is more than was assumed, or less, and make it again with another.

Plug-and-play begins smooth, whatever the noise. As it goes on detail comes back; and, where the noise is more than it was
told, so does the noise, which takes over: from a little too little noise to a ruin is a small step.

What an estimate of the noise is worth shows in what the blur would take from the result, x - H x: there detail is restored,
and noise amplified. A little more assumed noise takes a little detail. What goes at once by much was noise.

The noise itself is taken away. A result that lies nearer to what was observed than the noise lets the truth lie shows that
there is less of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import sqrt

from torch import Tensor

from unconv.inverse.fields.image.problem import Problem
from unconv.inverse.operators.convolution import Convolution
from unconv.inverse.solvers.iterate import Iterate

# Over 15 steps the mean slope of results that were right grew by up to 1.55; that of ruined ones by 1.65 to 3.
_GROWTH = 1.65
_FALL = 1.3  # of the mean slope, by raising the noise once: less where the result is right, 1.3 to 4 where it is ruined
_RAISE, _RAISES = 1.5, 5
# By which what the blur would take falls, if the noise is raised once: some 1.0 to 1.1 where it was right, 1.2 to 5 where it
# was too little. Where only white noise was found, which is mostly right, it has to fall further.
_TAKEN, _TAKEN_OF_WHITE = 1.15, 1.25
_RUIN = 0.3  # of the picture's contrast: so much noise ruins nothing any more, and what goes by raising it is the picture
# Of the noise that was estimated, that a result differs at least from what was observed: it was 0.66 and more where noise was
# right, and 0.24 to 0.44 in four pictures that had strong compression and got worse.
_MOVED, _LESS, _LESSER = 0.5, 0.6, 3
# By which less noise has to raise what the blur would take; and by lowering it once at most: 1.05 to 1.2 where it was
# detail, 1.3 to 4.5 where it was noise.
_DETAIL, _NOISE = 1.1, 1.2


class Growth:
    """How a method's first iterate and its last one differ, over all tiles of a picture.

    Args:
        first: the step whose iterate is smooth; None where a method has none.

    Attributes:
        ended: the sum of the last one's slopes.
        taken: the sum of the squares that the blur would take from it.
    """

    def __init__(self, first: int | None) -> None:
        self._first, self._begun, self.ended, self.taken = first, 0.0, 0.0, 0.0

    def watched(self, iterates: Iterable[Iterate], problem: Problem) -> Iterator[Iterate]:
        """Pass the iterates on, and look at the first and the last of them."""
        iterate = None
        for iterate in iterates:
            if iterate.steps == self._first:
                self._begun += _slopes(problem.cut(iterate.estimate), problem.axes)
            yield iterate
        if iterate is not None and self._first is not None:
            picture = problem.cut(iterate.estimate)
            self.ended += _slopes(picture, problem.axes)
            self.taken += _taken(picture, problem)

    @property
    def noisy(self) -> bool:
        """The result grew rougher than detail makes it."""
        return self.ended > _GROWTH * self._begun > 0


Restore = Callable[[float, Growth], Tensor]


@dataclass(frozen=True)
class Estimated:
    """What is known of an estimated noise.

    Attributes:
        observed: what is restored; NaN where nothing was seen.
        white: the noise was found to be white, and nothing else.
    """

    observed: Tensor
    white: bool


def settled(
    restore: Restore, noise: float, first: int | None, estimated: Estimated | None = None, trial: Restore | None = None
) -> tuple[Tensor, float]:
    """Restore a picture with its noise, or with what the result shows that it is; return both.

    Args:
        first: the step whose iterate is smooth; None where a method has none.
        estimated: None where the noise was not estimated: then it is raised only where the result is ruined.
        trial: restores a part of the picture, `estimated.observed`, that tells the noise in less time than all of it.
    """
    if first is None:
        return restore(noise, Growth(None)), noise
    if estimated is None:
        return _with_more(restore, noise, first)
    restored, used = _corrected(trial or restore, noise, first, estimated)
    return (restored if trial is None else restore(used, Growth(None))), used


def _with_more(restore: Restore, noise: float, first: int) -> tuple[Tensor, float]:
    """Restore a picture with its noise, and with more of it for as long as that takes noise away; return both."""
    restored = restore(noise, growth := Growth(first))
    for _ in range(_RAISES):
        if not growth.noisy:
            break
        quieter = restore(noise * _RAISE, less := Growth(first))
        if growth.ended < _FALL * less.ended:
            break
        restored, growth, noise = quieter, less, noise * _RAISE
    return restored, noise


def _corrected(restore: Restore, noise: float, first: int, estimated: Estimated) -> tuple[Tensor, float]:
    """Restore a picture with less noise than was estimated, or with more, where the results show it; return both."""
    restored = restore(noise, growth := Growth(first))
    if _moved(restored, estimated.observed) < _MOVED * noise:
        # So little was taken away that more would be only further from what was observed.
        return _with_less(restore, noise, growth, first, estimated.observed) or (restored, noise)
    known = estimated.observed[~estimated.observed.isnan()]
    most, fall = _RUIN * float(known.std(correction=0)), _TAKEN_OF_WHITE if estimated.white else _TAKEN
    for _ in range(_RAISES):
        if noise > most:
            break
        quieter = restore(noise * _RAISE, less := Growth(first))
        if growth.taken <= fall**2 * less.taken:
            break
        restored, growth, noise = quieter, less, noise * _RAISE
    return restored, noise


def _with_less(restore: Restore, noise: float, growth: Growth, first: int, observed: Tensor) -> tuple[Tensor, float] | None:
    """Restore a picture with as much less noise as its result then shows; None where that brings noise, or nothing, back."""
    before = growth
    for _ in range(_LESSER):
        noise *= _LESS
        restored = restore(noise, now := Growth(first))
        if now.taken > _NOISE**2 * before.taken:
            return None
        if _moved(restored, observed) >= _MOVED * noise:
            return (restored, noise) if now.taken > _DETAIL**2 * growth.taken else None
        before = now
    return None


def _moved(restored: Tensor, observed: Tensor) -> float:
    return sqrt(float((restored - observed).square().nanmean()))


def another(noise: float, used: float) -> list[str]:
    """Say that a picture was restored with another noise than was found or said."""
    if used > noise:
        return [
            f"deblur: with a noise of {noise:.3g} the result kept on getting rougher, as where noise is taken for detail; it "
            f"was restored with {used:.3g} instead."
        ]
    if used < noise:
        return [
            f"deblur: a noise of {noise:.3g}, taken away, would change the picture by more than it did; it was restored with "
            f"{used:.3g} instead."
        ]
    return []


def _slopes(picture: Tensor, axes: int) -> float:
    return sum(float(picture.diff(dim=axis).abs().sum()) for axis in range(-axes, 0))


def _taken(picture: Tensor, problem: Problem) -> float:
    """Return the sum of squares that the blur would take from a picture, mirrored at its borders."""
    blur = Convolution(problem.kernel, picture.shape, "reflect", centre=problem.centre, method="fft")
    return float((picture - blur.forward(picture)).square().sum())
