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
    """An estimate on the way, or at the end of it.

    Attributes:
        estimate: (..., *operator.shape_in). The solver continues from it: do not write into it.
        steps: how many were made, including this one.
        converged: the solver's own rule for stopping was met; False on the way, and where it ran out of steps.
        strength: of the regularisation, where the solver chose it; else None.
    """

    operator: Operator
    observed: Tensor
    estimate: Tensor
    steps: int
    converged: bool = False
    strength: float | None = None

    @cached_property
    def residual(self) -> float:
        """|A x - y| / |y|; computed when first asked for, at the price of one forward."""
        size = self.observed.norm().clamp(min=torch.finfo(self.observed.dtype).tiny)
        return float((self.operator.forward(self.estimate) - self.observed).norm() / size)


@checks_kinds
def last(iterates: Iterable[Iterate]) -> Iterate:
    """Run a solver to its end, and return its last iterate.

    Raises:
        NonFinite: an estimate is not finite; the step is named.
        UnconvError: nothing was yielded.
    """
    ended = deque(iterates, maxlen=1)
    if not ended:
        raise UnconvError("last: the solver made no step. Allow at least one.")
    return finite(ended[0])


def finite(iterate: Iterate) -> Iterate:
    """Return the iterate; refuse one whose estimate is NaN or infinite."""
    if not is_finite(iterate.estimate):
        raise NonFinite(
            f"solver: the estimate after step {iterate.steps} is not finite. Look for NaN or infinite samples in what was "
            "observed and in the kernel; of a step size or penalty that you chose, choose a smaller one."
        )
    return iterate
