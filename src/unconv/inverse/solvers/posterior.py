"""What solvers say of spikes: amplitudes, and how sure they are."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from unconv.inverse.solvers.iterate import Iterate


@dataclass(frozen=True)
class Posterior(Iterate):
    """An estimate of spikes, and how sure it is.

    Attributes:
        estimate: (..., n), the posterior mean of the amplitudes; zero where there is no spike.
        deviation: (..., n), the posterior standard deviation of the amplitudes, given where the spikes are; zero where none is.
        noise: (...), the standard deviation of a sample's noise.
        evidence: (...), the logarithm of the probability of what was observed, up to a constant.
    """

    deviation: Tensor = field(default_factory=lambda: torch.zeros(()))
    noise: Tensor = field(default_factory=lambda: torch.zeros(()))
    evidence: Tensor = field(default_factory=lambda: torch.zeros(()))
