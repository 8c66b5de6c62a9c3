"""Run the solver of each part of a restoration, and report the progress over all of them."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from unconv.inverse import headway
from unconv.inverse.solvers.iterate import Iterate, finite
from unconv.progress import Progress

_FINEST = 1 / 200  # share of the total; inside a step, smaller advances are not reported


class Pace:
    """Run the solver of each part, and report how much is done.

    If a part ends early, the later ones are expected to take as many steps.

    Args:
        progress: called with the name of the part, the steps done and the most steps there can be; also within steps.
        parts: how many there are, counting the tiles of all pictures of a stack.
        steps: the most steps of one part.
        later: the time of a step in the second half of a part, in steps of the first half.

    Attributes:
        steps: the largest number of steps over the parts.
        converged: true if every part converged.
    """

    def __init__(self, progress: Progress | None, parts: int, steps: int, later: float = 1.0) -> None:
        self._progress, self._parts, self._steps, self._later = progress, parts, steps, later
        self._ended, self._step, self._reported, self._begun = 0, 0, -1.0, 0
        self.steps, self.converged = 0, True

    def begin(self, parts: int) -> None:
        """Begin so many parts; if some are done again, there may be more in total than were announced."""
        self._begun += parts
        if self._begun > self._parts:
            self._parts, self._reported = self._begun, -1.0  # the same work is a smaller share now

    def run(self, iterates: Iterable[Iterate]) -> Tensor:
        """Run a part's solver to its end, and return the last estimate.

        Raises:
            NonFinite: the estimate is not finite.
        """
        iterate = None
        self._report(0.0, always=True)
        with headway.heard(self._report):
            for iterate in iterates:
                self._step = iterate.steps
                self._report(0.0, always=True)
        assert iterate is not None
        self.steps, self.converged = max(self.steps, iterate.steps), self.converged and iterate.converged
        self.skip()
        return finite(iterate).estimate

    def skip(self) -> None:
        """Count a part without any observed sample as done."""
        self._ended, self._step = self._ended + 1, 0
        self._report(0.0, always=True)

    def _report(self, share: float, always: bool = False) -> None:
        """Report that this share of the present step is done, if it is an advance; it goes back only if parts are added."""
        if self._progress is None:
            return
        # Parts are weighted equally. Within one, later steps may take longer, so time and not steps is the measure.
        expected = self.steps or self._steps
        part = min(self._time(self._step + min(share, 1.0)) / self._time(max(expected, self._step)), 1.0)
        done = (self._ended + part) / self._parts
        if done > self._reported if always else done >= self._reported + _FINEST:
            self._reported = done
            number = min(self._ended + 1, self._parts)
            total = self._parts * self._steps
            self._progress(f"part {number} of {self._parts}", round(done * total, 6), total)

    def _time(self, steps: float) -> float:
        """Return the time of so many steps of a part."""
        return steps + (self._later - 1) * max(steps - self._steps / 2, 0)
