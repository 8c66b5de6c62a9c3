"""How far a restoration has come, over the steps of all its parts; and how it ended."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from unconv.inverse import headway
from unconv.inverse.solvers.iterate import Iterate, finite
from unconv.progress import Progress

_FINEST = 1 / 200  # of the whole: less is not told, apart from whole steps


class Pace:
    """Runs the solver of each part, and tells how much is done of what there is to do.

    A part that ended early tells how many steps the next ones take.

    Args:
        progress: called with the part, and how much is done of how much there is at most, in steps; also within steps.
        parts: how many there are: pictures of a stack, and their tiles.
        steps: the most that one part may make.
        later: how long a step in the second half of these takes, in steps of the first half.

    Attributes:
        made: steps, the most over the parts.
        converged: every part was.
    """

    def __init__(self, progress: Progress | None, parts: int, steps: int, later: float = 1.0) -> None:
        self._progress, self._parts, self._steps, self._later = progress, parts, steps, later
        self._ended, self._step, self._told, self._begun = 0, 0, -1.0, 0
        self.made, self.converged = 0, True

    def begin(self, parts: int) -> None:
        """Begin so many parts; they may be more than were foreseen, where some are done again."""
        self._begun += parts
        if self._begun > self._parts:
            self._parts, self._told = self._begun, -1.0  # what is done is a smaller share now

    def run(self, iterates: Iterable[Iterate]) -> Tensor:
        """Run a part's solver to its end, and return the last estimate.

        Raises:
            NonFinite: that is not finite.
        """
        iterate = None
        self._tell(0.0, always=True)
        with headway.heard(self._tell):
            for iterate in iterates:
                self._step = iterate.steps
                self._tell(0.0, always=True)
        assert iterate is not None
        self.made, self.converged = max(self.made, iterate.steps), self.converged and iterate.converged
        self.skip()
        return finite(iterate).estimate

    def skip(self) -> None:
        """Count a part as done of which nothing was observed."""
        self._ended, self._step = self._ended + 1, 0
        self._tell(0.0, always=True)

    def _tell(self, share: float, always: bool = False) -> None:
        """Tell that this share of the present step is done, where that is news: it goes back only where parts are added."""
        if self._progress is None:
            return
        expected = self.made or self._steps
        part = min(self._time(self._step + min(share, 1.0)) / self._time(max(expected, self._step)), 1.0)
        done = (self._ended + part) / self._parts
        if done > self._told if always else done >= self._told + _FINEST:
            self._told = done
            number = min(self._ended + 1, self._parts)
            total = self._parts * self._steps
            self._progress(f"part {number} of {self._parts}", round(done * total, 6), total)

    def _time(self, steps: float) -> float:
        """How long so many steps of a part take."""
        return steps + (self._later - 1) * max(steps - self._steps / 2, 0)
