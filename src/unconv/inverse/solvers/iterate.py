"""The iterates that solvers yield, and how to take the last one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from unconv.errors import NonFinite, UnconvError
from unconv.inverse.operators.operator import Operator
from unconv.inverse.solvers.problems import is_finite
from unconv.kinds import checks_kinds


@dataclass(frozen=True)
class Iterate:
    """A solver's estimate after one of its steps.

    Attributes:
        estimate: (..., *operator.shape_in). The solver continues from it: do not write into it.
        steps: the number of steps so far, including this one.
        converged: the solver's own stopping rule is met; False before that, and if the solver ran out of steps.
        strength: of the regularisation, if the solver chose it; else None.
    """

    operator: Operator
    observed: Tensor
    estimate: Tensor
    steps: int
    converged: bool = False
    strength: float | None = None

    @cached_property
    def residual(self) -> float:
        """The relative residual |A x - y| / |y|, computed at the first access at the price of one forward."""
        size = self.observed.norm().clamp(min=torch.finfo(self.observed.dtype).tiny)
        return float((self.operator.forward(self.estimate) - self.observed).norm() / size)


@checks_kinds
def last(iterates: Iterable[Iterate]) -> Iterate:
    """Run a solver to its end, and return its last iterate.

    Raises:
        NonFinite: the last estimate is not finite; the message names its step.
        UnconvError: the solver yielded nothing.
    """
    tail = deque(iterates, maxlen=1)
    if not tail:
        raise UnconvError("last: the solver made no step, but at least one was needed. Pass steps=1 or more.")
    return finite(tail[0])


def finite(iterate: Iterate) -> Iterate:
    """Return the iterate; refuse one whose estimate is NaN or infinite."""
    if not is_finite(iterate.estimate):
        raise NonFinite(
            f"solver: the estimate after step {iterate.steps} is not finite. Look for NaN or infinite samples in the observed "
            "samples and in the kernel; if you chose a step size or penalty, choose a smaller one."
        )
    return iterate
