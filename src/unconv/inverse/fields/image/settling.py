"""Tell by a result that the noise is more than was assumed, or less, and make it again with another.

Plug-and-play begins smooth, whatever the noise. As it goes on detail comes back; and, where the noise is more than it was
told, so does the noise, which takes over: from a little too little noise to a ruin is a small step.

The noise itself is taken away. A result that lies nearer to what was observed than the noise lets the truth lie shows that
there is less of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from torch import Tensor

from unconv.inverse.fields.image.problem import Problem
from unconv.inverse.solvers.iterate import Iterate

# Over 15 steps the mean slope of results that were right grew by up to 1.55; that of ruined ones by 1.65 to 3.
_GROWTH = 1.65
_RAISE, _RAISES = 1.5, 5
# Of the noise that was estimated, that a result differs at least from what was observed: it was 0.66 and more where noise was
# right, and 0.24 to 0.44 in four pictures that had strong compression and got worse.
_MOVED, _LESS, _LESSER = 0.5, 0.6, 3
_DETAIL = 1.1  # by which less noise has to raise the sum of slopes: 1.16 to 5.7 where it was right, 1.02 in a soft picture
_FALL = 1.3  # of the mean slope, by raising the noise once: less where the result is right, 1.3 to 4 where it is ruined


class Growth:
    """The mean slope of a method's first iterate and of its last one, over all tiles of a picture.

    Args:
        first: the step whose iterate is smooth; None where a method has none.

    Attributes:
        ended: the sum of the last one's slopes.
    """

    def __init__(self, first: int | None) -> None:
        self._first, self._begun, self.ended = first, 0.0, 0.0

    def watched(self, iterates: Iterable[Iterate], problem: Problem) -> Iterator[Iterate]:
        """Pass the iterates on, and look at the first and the last of them."""
        iterate = None
        for iterate in iterates:
            if iterate.steps == self._first:
                self._begun += _slopes(problem, iterate)
            yield iterate
        if iterate is not None and self._first is not None:
            self.ended += _slopes(problem, iterate)

    @property
    def noisy(self) -> bool:
        """The result grew rougher than detail makes it."""
        return self.ended > _GROWTH * self._begun > 0


def settled(
    restore: Callable[[float, Growth], Tensor], noise: float, first: int | None, observed: Tensor | None = None
) -> tuple[Tensor, float]:
    """Restore a picture with its noise, or with what the result shows that it is; return both.

    Args:
        first: the step whose iterate is smooth; None where a method has none.
        observed: what is restored, if its noise was estimated and may be less; NaN where nothing was seen.
    """
    restored, used, slopes = _with_more(restore, noise, first)
    if first is None or observed is None or _moved(restored, observed) >= _MOVED * used:
        return restored, used
    for _ in range(_LESSER):
        noise *= _LESS
        other, less, detailed = _with_more(restore, noise, first)
        if _moved(other, observed) >= _MOVED * less:
            return (other, less) if detailed > _DETAIL * slopes else (restored, used)
    return restored, used


def _moved(restored: Tensor, observed: Tensor) -> float:
    return float((restored - observed).square().nanmean().sqrt())


def _with_more(restore: Callable[[float, Growth], Tensor], noise: float, first: int | None) -> tuple[Tensor, float, float]:
    """Restore a picture with its noise, and with more of it for as long as that takes noise away; return both, and slopes.

    A little more assumed noise takes a little detail. What goes at once by much was noise.
    """
    restored = restore(noise, growth := Growth(first))
    for _ in range(_RAISES):
        if not growth.noisy:
            break
        quieter = restore(noise * _RAISE, less := Growth(first))
        if growth.ended < _FALL * less.ended:
            break
        restored, growth, noise = quieter, less, noise * _RAISE
    return restored, noise, growth.ended


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


def _slopes(problem: Problem, iterate: Iterate) -> float:
    picture = problem.cut(iterate.estimate)
    return sum(float(picture.diff(dim=axis).abs().sum()) for axis in range(-problem.axes, 0))
