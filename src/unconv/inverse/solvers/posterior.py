"""The result of the spike solvers: amplitudes with their standard deviations."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from unconv.inverse.solvers.iterate import Iterate


@dataclass(frozen=True)
class Posterior(Iterate):
    """An estimate of spikes with its uncertainty.

    Attributes:
        estimate: (..., n), the posterior mean of the amplitudes; zero where there is no spike.
        deviation: (..., n), the posterior standard deviation of the amplitudes, for known positions; zero where no spike is.
        noise: (...), the standard deviation of a sample's noise.
        evidence: (...), the logarithm of the probability of the observed samples, up to a constant.
    """

    deviation: Tensor = field(default_factory=lambda: torch.zeros(()))
    noise: Tensor = field(default_factory=lambda: torch.zeros(()))
    evidence: Tensor = field(default_factory=lambda: torch.zeros(()))
