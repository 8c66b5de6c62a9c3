"""Sparse Bayesian learning for spikes behind a known kernel: amplitudes with their deviations, and the noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import ShapeError
from unconv.inverse.operators.operator import Operator
from unconv.inverse.solvers.block_tridiagonal import BlockTridiagonal
from unconv.inverse.solvers.gram import Gram
from unconv.inverse.solvers.posterior import Posterior
from unconv.inverse.solvers.problems import admit, refuse_complex
from unconv.kinds import checks_kinds

_CAREFUL = 5  # first steps by the rule that never lowers the evidence; the others by the faster rule
_GONE = 0.1  # a spike is dropped if its prior power after the kernel is less than this share of the noise's
_FEWER = 0.85  # the matrices are built anew when only this share of the samples is left
_COST = 2.0  # degrees of freedom of a spike: its amplitude and its position


@checks_kinds
def sparse_bayesian(
    operator: Operator,
    observed: Tensor,
    *,
    noise: float | Tensor | None = None,
    steps: int = 60,
    tolerance: float = 1e-3,
    missing: Tensor | None = None,
    starts: Sequence[float] = (0.1, 0.001),
) -> Iterator[Posterior]:
    """Find spikes x in y = A x + noise by sparse Bayesian learning, without parameters to tune.

    Every sample of x has its own prior variance. The variances that make y most probable are chosen, which drives most of
    them to zero. The covariances are bands as wide as the kernel: a step costs O(n k^2), and less as spikes are dropped, where
    the dense form costs O(n^3).

    Args:
        operator: a real `Convolution` along one axis, stride 1, boundary "zero" or "unknown".
        observed: (..., *operator.shape_out), real. Leading axes hold independent problems.
        noise: standard deviation of a sample's noise: a number, or (...); None: estimate it with the spikes.
        tolerance: converged once a step changes the amplitudes by no more than this share of their size.
        missing: (..., *operator.shape_out), True at samples that do not count.
        starts: the first guesses of the noise's share of the observed power, if the noise is estimated. The cost has several
            minima: each problem is solved from every start, side by side, and the result with the largest evidence is
            returned.

    Raises:
        ShapeError, DtypeError, NonFinite: the operator is another one; `observed` does not fit; `noise` is not above zero.

    Source:
        Tipping, "Sparse Bayesian learning and the relevance vector machine" (2001), eqs. 12 to 18; Wipf & Nagarajan, "Iterative
        reweighted l1 and l2 methods for finding sparse solutions" (2010), sec. IV, for the first steps.
    """
    admit("sparse_bayesian", operator, observed)
    refuse_complex("sparse_bayesian", operator, observed)
    axes = len(operator.shape_out)
    y = observed.reshape(-1, *operator.shape_out)
    weights = None if missing is None else (~missing.bool()).expand(observed.shape).reshape(y.shape).to(y)
    level = _level(noise, observed.shape[: observed.ndim - axes], y)
    search = _Search(operator, y if weights is None else y * weights, level, weights, starts)
    shape = observed.shape[: observed.ndim - axes]
    for step in range(1, steps + 1):
        done = search.step(tolerance, careful=step <= _CAREFUL)
        # Of the runs from several starts, the one with the largest evidence is the estimate at every step.
        best = search.evidence.argmax(0)
        selected = [each[best, torch.arange(len(y), device=y.device)] for each in (search.mean, search.deviation)]
        mean, deviation = (each[:, : search.n].reshape(*shape, -1) for each in selected)
        noise_and_evidence = [
            each.gather(0, best[None])[0].reshape(shape) for each in (search.variance.sqrt(), search.evidence)
        ]
        yield Posterior(operator, observed, mean, step, done, None, deviation, *noise_and_evidence)
        if done:
            return


def _level(noise: float | Tensor | None, shape: torch.Size, like: Tensor) -> Tensor | None:
    """Return the noise's standard deviation of each problem: (B,)."""
    if noise is None:
        return None
    level = torch.as_tensor(noise).to(like).expand(shape).reshape(-1)
    if not bool(((level > 0) & torch.isfinite(level)).all()):
        raise ShapeError(
            "sparse_bayesian: noise is not above zero everywhere, but a standard deviation was needed. Or pass None."
        )
    return level


class _Search:
    """Several runs of several problems, side by side: (runs, B, ...).

    Attributes:
        mean, deviation: (runs, B, n + 1); the last sample is the target of padding.
        variance: (runs, B), of the noise. evidence: (runs, B).
    """

    def __init__(
        self, operator: Operator, y: Tensor, level: Tensor | None, weights: Tensor | None, starts: Sequence[float]
    ) -> None:
        self.operator, self.n, self.estimated = operator, operator.shape_in[0], level is None
        self.gram = Gram(operator, y, weights)
        runs, count = len(starts) if self.estimated else 1, len(y)
        # Thresholds are relative to the power of the observed samples, so that none depends on their unit.
        samples = y.new_full((count,), y.shape[-1]) if weights is None else weights.sum(-1)
        power = y.square().sum(-1) / samples.clamp(min=1)
        self.silent = power == 0
        self._samples = samples.repeat(runs)
        self._power = power.repeat(runs)
        self._y, self._weights = y.repeat(runs, 1), None if weights is None else weights.repeat(runs, 1)
        self._correlation = F.pad(operator.adjoint(y), (0, 1)).repeat(runs, 1)
        self._kernel_energy = self.gram.band[:, 0].amax()
        first = y.new_tensor(tuple(starts))[:, None] * power if level is None else level.square()[None]
        self.variance = first.reshape(runs, count).clone()
        self.mean = y.new_zeros((runs, count, self.n + 1))
        self.deviation, self.evidence = torch.zeros_like(self.mean), torch.zeros_like(self.variance)
        sounding = ~self.silent.repeat(runs)
        self._rows = torch.arange(runs * count, device=y.device)[sounding]
        observable = self.gram.seen.expand(count, -1).repeat(runs, 1)[self._rows]
        samples_of_x = torch.where(observable, torch.arange(self.n, device=y.device), self.n).sort(1).values
        prior = (self._power[self._rows] / self._kernel_energy)[:, None] * (samples_of_x < self.n)
        self._continue_with(samples_of_x, prior)

    def _continue_with(self, active: Tensor, prior: Tensor) -> None:
        """Continue with some samples only: (rows, s), ascending, padded with n; `prior`: their variances."""
        width = min(self.gram.width(active), max(1, active.shape[-1]))
        padding = -active.shape[-1] % width
        self._active, self._prior = F.pad(active, (0, padding), value=self.n), F.pad(prior, (0, padding))
        # With weights, each row has its own blocks; without, one band serves all.
        self._width = width
        self._blocks = self.gram.blocks(self._active, width, self._rows % self.mean.shape[1])

    def step(self, tolerance: float, careful: bool) -> bool:
        """Make one step in every run that has not converged; return whether all have."""
        if not len(self._rows):
            return True
        rows, noise = self._rows, self.variance.view(-1)[self._rows, None]
        mean, unexplained, logarithm = self._posterior(noise)
        x = mean.new_zeros((len(rows), self.n + 1)).scatter_(1, self._active, mean)
        x[:, self.n] = 0
        means = self.mean.view(-1, self.n + 1)
        done = (x - means[rows]).norm(dim=1) <= tolerance * x.norm(dim=1)
        means[rows] = x
        # How well the data determine each sample: 1 where they fix it, 0 where only the prior does (Tipping 2001, eq. 17).
        determined = (1 - unexplained).clamp(min=0)
        deviations = (self._prior * unexplained).sqrt()
        self.deviation.view(-1, self.n + 1)[rows] = torch.zeros_like(x).scatter_(1, self._active, deviations)
        correlation = self._correlation[rows].gather(1, self._active)
        fit = (self._y[rows].square().sum(1) - (mean * correlation).sum(1)) / noise[:, 0]
        self.evidence.view(-1)[rows] = -(self._samples[rows] * noise[:, 0].log() + logarithm + fit) / 2
        if self.estimated:
            self.variance.view(-1)[rows] = self._noise(rows, x, determined)
        # MacKay's fixed point, mean^2 / determined, converges fast but may overshoot; Wipf's step goes halfway to it, in
        # logarithms, and never lowers the evidence.
        fixed_point = mean.square() / determined.clamp(min=torch.finfo(mean.dtype).tiny)
        prior = (self._prior * fixed_point).sqrt() if careful else fixed_point
        self._drop(torch.where(self._prior > 0, prior, 0), done)
        return not len(self._rows)

    def _posterior(self, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the active samples' posterior mean and variance (as a share of the prior's), and log |B| of each row."""
        root = self._prior.sqrt()
        r = root.unflatten(-1, (-1, self._width))
        diagonal, below = self._blocks
        scale = noise[..., None, None]
        # Tipping (2001), eqs. 12 and 13, by B = 1 + R A*A R / noise^2, where R^2 is the prior: the eigenvalues of B are 1 and
        # above, so that float32 is enough, also for priors near zero.
        scaled = diagonal * (r[..., :, None] * r[..., None, :] / scale)
        scaled.diagonal(dim1=-2, dim2=-1).add_(1)
        factors = BlockTridiagonal(scaled, below * (r[:, 1:, :, None] * r[:, :-1, None, :] / scale))
        correlation = self._correlation[self._rows].gather(1, self._active)
        mean = root * factors.solve((root * correlation / noise).view_as(r)).flatten(1)
        return mean, factors.inverse_diagonal().flatten(1), factors.logarithm()

    def _noise(self, rows: Tensor, x: Tensor, determined: Tensor) -> Tensor:
        """Return the noise's variance, estimated from the spikes' residual (Tipping 2001, eq. 18, with `_COST`)."""
        residual = self._y[rows] - self.operator.forward(x[:, : self.n])
        if self._weights is not None:
            residual = residual * self._weights[rows]
        degrees_of_freedom = (self._samples[rows] - _COST * determined.sum(1)).clamp(min=1)
        # A positive floor: where the spikes fit exactly, later steps would divide by zero.
        least = torch.finfo(x.dtype).eps * self._power[rows]
        return torch.maximum(residual.square().sum(1) / degrees_of_freedom, least)

    def _drop(self, prior: Tensor, done: Tensor) -> None:
        """Drop the samples whose prior has vanished, and the runs that are done."""
        noise = self.variance.view(-1)[self._rows, None]
        self._prior = torch.where(prior * self._kernel_energy > _GONE * noise, prior, 0)
        remaining = (self._prior > 0).sum(1)
        done = done | (remaining == 0)
        self._silence(self._rows[remaining == 0])
        longest = int(remaining[~done].max()) if not bool(done.all()) else 0
        if longest < _FEWER * self._active.shape[1] or bool(done.any()):
            self._rows, active, prior = self._rows[~done], self._active[~done], self._prior[~done]
            active, order = torch.where(prior > 0, active, self.n).sort(1)
            self._continue_with(active[:, :longest].contiguous(), prior.gather(1, order)[:, :longest])

    def _silence(self, rows: Tensor) -> None:
        """Set the estimates of rows without a spike to zero."""
        self.mean.view(-1, self.n + 1)[rows] = 0
        self.deviation.view(-1, self.n + 1)[rows] = 0
