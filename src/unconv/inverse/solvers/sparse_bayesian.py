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

_CAREFUL = 5  # steps that never make the evidence worse; then those that get there sooner
_GONE = 0.1  # a spike is dropped whose prior power behind the kernel is less than this share of the noise's
_FEWER = 0.85  # the matrices are made anew when only this share of the samples is left
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
    """Find spikes x in y = A x + noise by sparse Bayesian learning; nothing is to be tuned.

    Every sample of x has a prior variance of its own, and those are chosen that make y most probable, which drives most of
    them to zero. The covariances are bands as wide as the kernel: a step costs O(n k^2), and less the fewer spikes are left,
    where the dense form costs O(n^3).

    Args:
        operator: a real `Convolution` along one axis, stride 1, boundary "zero" or "unknown".
        observed: (..., *operator.shape_out), real; axes in front are problems of their own.
        noise: standard deviation of a sample's noise: a number, or (...); None: it is estimated with the spikes.
        tolerance: converged where a step changes the amplitudes by no more than this share of their size.
        missing: (..., *operator.shape_out), True at samples that do not count.
        starts: where the noise is estimated, the noise's share of the observed power to begin with. The cost has several
            minima: each problem is solved from every start, side by side, and what has the largest evidence is returned.

    Raises:
        ShapeError, DtypeError, NonFinite: another operator; `observed` does not fit; a noise that is not above zero.

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
        best = search.evidence.argmax(0)
        chosen = [each[best, torch.arange(len(y), device=y.device)] for each in (search.mean, search.deviation)]
        mean, deviation = (each[:, : search.n].reshape(*shape, -1) for each in chosen)
        told = [each.gather(0, best[None])[0].reshape(shape) for each in (search.variance.sqrt(), search.evidence)]
        yield Posterior(operator, observed, mean, step, done, None, deviation, *told)
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
        mean, deviation: (runs, B, n + 1); the last sample stands for those that were left out.
        variance: (runs, B), of the noise. evidence: (runs, B).
    """

    def __init__(
        self, operator: Operator, y: Tensor, level: Tensor | None, weights: Tensor | None, starts: Sequence[float]
    ) -> None:
        self.operator, self.n, self.estimated = operator, operator.shape_in[0], level is None
        self.gram = Gram(operator, y, weights)
        runs, count = len(starts) if self.estimated else 1, len(y)
        # Everything is measured in units of the observed samples' own size, so that no threshold depends on their unit.
        samples = y.new_full((count,), y.shape[-1]) if weights is None else weights.sum(-1)
        power = y.square().sum(-1) / samples.clamp(min=1)
        self.silent = power == 0
        self._samples = samples.repeat(runs)
        self._power = power.repeat(runs)
        self._y, self._weights = y.repeat(runs, 1), None if weights is None else weights.repeat(runs, 1)
        self._toward = F.pad(operator.adjoint(y), (0, 1)).repeat(runs, 1)
        self._reach = self.gram.band[:, 0].amax()  # the energy of the kernel
        begun = y.new_tensor(tuple(starts))[:, None] * power if level is None else level.square()[None]
        self.variance = begun.reshape(runs, count).clone()
        self.mean = y.new_zeros((runs, count, self.n + 1))
        self.deviation, self.evidence = torch.zeros_like(self.mean), torch.zeros_like(self.variance)
        live = ~self.silent.repeat(runs)
        self._rows = torch.arange(runs * count, device=y.device)[live]
        seen = self.gram.seen.expand(count, -1).repeat(runs, 1)[self._rows]
        samples_of_x = torch.where(seen, torch.arange(self.n, device=y.device), self.n).sort(1).values
        prior = (self._power[self._rows] / self._reach)[:, None] * (samples_of_x < self.n)
        self._take(samples_of_x, prior)

    def _take(self, active: Tensor, prior: Tensor) -> None:
        """Go on with some samples only: (rows, s), ascending, n for those left out; `prior`: their variances."""
        width = min(self.gram.width(active), max(1, active.shape[-1]))
        short = -active.shape[-1] % width
        self._active, self._prior = F.pad(active, (0, short), value=self.n), F.pad(prior, (0, short))
        # Blocks of rows with weights are their own; without weights one band serves all.
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
        flat = self.mean.view(-1, self.n + 1)
        done = (x - flat[rows]).norm(dim=1) <= tolerance * x.norm(dim=1)
        flat[rows] = x
        # What the data say of each sample: 1 where they fix it, 0 where only the prior speaks.
        told = (1 - unexplained).clamp(min=0)
        spreads = (self._prior * unexplained).sqrt()
        self.deviation.view(-1, self.n + 1)[rows] = torch.zeros_like(x).scatter_(1, self._active, spreads)
        toward = self._toward[rows].gather(1, self._active)
        fit = (self._y[rows].square().sum(1) - (mean * toward).sum(1)) / noise[:, 0]
        self.evidence.view(-1)[rows] = -(self._samples[rows] * noise[:, 0].log() + logarithm + fit) / 2
        if self.estimated:
            self.variance.view(-1)[rows] = self._noise(rows, x, told)
        # MacKay's fixed point, mean^2 / told, is soon there but may overshoot; Wipf's is halfway to it, in logarithms.
        fixed = mean.square() / told.clamp(min=torch.finfo(mean.dtype).tiny)
        prior = (self._prior * fixed).sqrt() if careful else fixed
        self._drop(torch.where(self._prior > 0, prior, 0), done)
        return not len(self._rows)

    def _posterior(self, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return of the active samples the mean and the share of the prior variance that is left, and log |B| of each row."""
        root = self._prior.sqrt()
        r = root.unflatten(-1, (-1, self._width))
        diagonal, below = self._blocks
        scale = noise[..., None, None]
        # B = 1 + R A*A R / noise^2, R^2 the prior: its eigenvalues are 1 and above, so that float32 will do.
        scaled = diagonal * (r[..., :, None] * r[..., None, :] / scale)
        scaled.diagonal(dim1=-2, dim2=-1).add_(1)
        factors = BlockTridiagonal(scaled, below * (r[:, 1:, :, None] * r[:, :-1, None, :] / scale))
        toward = self._toward[self._rows].gather(1, self._active)
        mean = root * factors.solve((root * toward / noise).view_as(r)).flatten(1)
        return mean, factors.inverse_diagonal().flatten(1), factors.logarithm()

    def _noise(self, rows: Tensor, x: Tensor, told: Tensor) -> Tensor:
        """Estimate the noise's variance from what the spikes leave."""
        left = self._y[rows] - self.operator.forward(x[:, : self.n])
        if self._weights is not None:
            left = left * self._weights[rows]
        free = (self._samples[rows] - _COST * told.sum(1)).clamp(min=1)
        # It may not fall to nothing where the spikes fit exactly: then nothing would be left to divide by.
        least = torch.finfo(x.dtype).eps * self._power[rows]
        return torch.maximum(left.square().sum(1) / free, least)

    def _drop(self, prior: Tensor, done: Tensor) -> None:
        """Go on without the samples whose prior has vanished, and without the runs that are done."""
        noise = self.variance.view(-1)[self._rows, None]
        self._prior = torch.where(prior * self._reach > _GONE * noise, prior, 0)
        left = (self._prior > 0).sum(1)
        done = done | (left == 0)
        self._silence(self._rows[left == 0])
        most = int(left[~done].max()) if not bool(done.all()) else 0
        if most < _FEWER * self._active.shape[1] or bool(done.any()):
            self._rows, active, prior = self._rows[~done], self._active[~done], self._prior[~done]
            active, order = torch.where(prior > 0, active, self.n).sort(1)
            self._take(active[:, :most].contiguous(), prior.gather(1, order)[:, :most])

    def _silence(self, rows: Tensor) -> None:
        """Rows without a spike hold noise only."""
        self.mean.view(-1, self.n + 1)[rows] = 0
        self.deviation.view(-1, self.n + 1)[rows] = 0
