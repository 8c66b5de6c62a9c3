"""Spikes under a Bernoulli-Gaussian prior: each sample holds a spike or none, and the most probable choice is searched."""

from __future__ import annotations

from collections.abc import Iterator

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

_MOST_FLIPS = 200  # in one round; a search that needs more is cut off there
_COST = 2.0  # degrees of freedom of a spike: its amplitude and its position
_MARGIN = 1e-6  # of the logarithm of the probability: less is rounding
_LIKELY = 0.4  # the largest share of samples that hold spikes
_SEGMENT, _SHORTEST = 3, 64  # kernels long is a segment, and samples at least


@checks_kinds
def bernoulli_gaussian(
    operator: Operator,
    observed: Tensor,
    start: Tensor,
    *,
    noise: float | Tensor | None = None,
    reach: int = 1,
    rounds: int = 4,
    missing: Tensor | None = None,
) -> Iterator[Posterior]:
    """Find spikes x in y = A x + noise from a first choice of them, by single and double most likely replacements.

    A spike is there with one probability and has a Gaussian amplitude. Spikes are added, removed and moved one at a time,
    always by the change that makes the choice most probable, until none does; then the probability, the power of the spikes
    and the noise are estimated anew. Sparse Bayesian learning finds a start with too many spikes, among which this chooses.

    Args:
        operator: a real `Convolution` along one axis, stride 1, boundary "zero" or "unknown".
        observed: (..., *operator.shape_out), real; axes in front are problems of their own.
        start: (..., n), amplitudes, zero where there is no spike.
        noise: standard deviation of a sample's noise: a number, or (...); None: it is estimated.
        reach: spikes may stand so many samples from those of the start.
        rounds: of search and estimation.
        missing: (..., *operator.shape_out), True at samples that do not count.

    Yields:
        The estimate after each round, in float64, which the updates of the search need; converged where nothing changed.

    Raises:
        ShapeError, DtypeError, NonFinite: another operator; `observed` or `start` does not fit.

    Source:
        Kormylo & Mendel, "Maximum likelihood detection and estimation of Bernoulli-Gaussian processes" (1982); Champagnat,
        Goussard & Idier, "Unsupervised deconvolution of sparse spike trains using stochastic approximation" (1996), for the
        updates; Soussen et al., "From Bernoulli-Gaussian deconvolution to sparse signal restoration" (2011).
    """
    admit("bernoulli_gaussian", operator, observed)
    refuse_complex("bernoulli_gaussian", operator, observed)
    shape, n = observed.shape[:-1], operator.shape_in[0]
    if start.shape != (*shape, n):
        raise ShapeError(f"bernoulli_gaussian: start is {tuple(start.shape)}, but {(*shape, n)} was needed. Pass amplitudes.")
    y = observed.reshape(-1, *operator.shape_out).double()
    weights = None if missing is None else (~missing.bool()).expand(observed.shape).reshape(y.shape).double()
    level = None if noise is None else torch.as_tensor(noise).to(y).expand(shape).reshape(-1)
    model = _Model(operator, y if weights is None else y * weights, weights, start.reshape(-1, n).double(), reach)
    model.estimate(level)
    for made in range(1, rounds + 1):
        before = model.on
        model.search(shifted=made % 2 == 0)
        # The two ways to cut the samples into segments must agree that nothing gains.
        done = made > 2 and torch.equal(before, model.on)
        told = [each.reshape(shape) for each in (model.variance.sqrt(), model.evidence())]
        mean, deviation = (each.reshape(*shape, n) for each in (model.mean, model.deviation))
        yield Posterior(operator, observed.double(), mean, made, done, None, deviation, *told)
        if done:
            return
        model.estimate(level)


class _Model:
    """Which samples hold spikes, their amplitudes, and the prior: a row for each problem.

    Attributes:
        near: (B, n), the candidates. on: (B, n), which of them are spikes.
        mean, deviation: (B, n), of the amplitudes.
        power, rate: (B,), of the spikes' amplitudes, and the probability of one. variance: (B,), of the noise.
    """

    def __init__(self, operator: Operator, y: Tensor, weights: Tensor | None, start: Tensor, reach: int) -> None:
        self.operator, self.y, self.weights = operator, y, weights
        self.gram, self.n = Gram(operator, y, weights), start.shape[-1]
        self.on, self.mean, self.deviation = start != 0, start, torch.zeros_like(start)
        self.near = F.max_pool1d(self.on[:, None].double(), 2 * reach + 1, 1, reach)[:, 0] > 0
        self.near &= self.gram.seen
        self.on &= self.near
        self.mean = self.mean * self.on
        self.samples = y.new_full((len(y),), y.shape[-1]) if weights is None else weights.sum(1)

    def estimate(self, level: Tensor | None) -> None:
        """Estimate the prior from the spikes, and the noise's variance where no level is given."""
        count = self.on.sum(1)
        square = (self.mean.square() + self.deviation.square()) * self.on
        self.power = (square.sum(1) / count.clamp(min=1)).clamp(min=torch.finfo(self.y.dtype).tiny)
        self.rate = (count / self.n).clamp(1 / self.n, _LIKELY)
        if level is not None:
            self.variance = level.square()
            return
        free = (self.samples - _COST * count).clamp(min=1)
        # Where spikes fit exactly, nothing would be left to divide by.
        least = torch.finfo(torch.float32).eps * self.y.square().mean(1) + torch.finfo(self.y.dtype).tiny
        self.variance = torch.maximum(self._left().square().sum(1) / free, least)

    def _left(self) -> Tensor:
        left = self.y - self.operator.forward(self.mean)
        return left if self.weights is None else left * self.weights

    def search(self, shifted: bool) -> None:
        """Change the choice until no change makes it more probable, in all segments at once; then find the amplitudes.

        A change is felt as far as kernels overlap, and little beyond. So each segment is searched by itself, with what the
        spikes of others explain taken away: the price grows with the length, not with its square.
        """
        where, problems = self._segments(shifted)
        if len(problems):  # else nothing is a candidate anywhere
            self.on = self._chosen(where, problems)
        self._solve()

    def _chosen(self, where: Tensor, problems: Tensor) -> Tensor:
        """Return which samples hold spikes after a search of the segments' candidates (S, c) of problems (S,): (B, n)."""
        there = F.pad(self.mean, (0, 1))[problems[:, None], where]
        between = self.gram.between(where, problems)
        toward = F.pad(self.operator.adjoint(self._left()), (0, 1))[problems[:, None], where]
        on = F.pad(self.on, (0, 1))[problems[:, None], where]
        toward = toward + (between @ there[..., None])[..., 0]
        prior = (each[problems] for each in (self.power, self.rate, self.variance))
        on = _search(between, toward, on, where < self.n, *prior)
        after = F.pad(torch.zeros_like(self.on), (0, 1))
        after[problems[:, None], where] = on
        chosen: Tensor = after[:, : self.n]
        return chosen

    def _segments(self, shifted: bool) -> tuple[Tensor, Tensor]:
        """Return the candidates of each segment that has some, (S, c) with n for none, and their problems, (S,)."""
        side = max(_SEGMENT * self.gram.k, _SHORTEST)
        samples = torch.arange(self.n, device=self.y.device)
        number = (samples + (side // 2 if shifted else 0)) // side
        count = int(number[-1]) + 1
        of = torch.where(self.near, number, count)
        found = [torch.where(of == k, samples, self.n).sort(1).values for k in range(count)]
        most = max(1, *(int((each < self.n).sum(1).max()) for each in found))
        where = torch.stack([F.pad(each, (0, most), value=self.n)[:, :most] for each in found], 1).flatten(0, 1)
        problems = torch.arange(len(self.y), device=self.y.device).repeat_interleave(count)
        filled = where[:, 0] < self.n
        return where[filled], problems[filled]

    def _solve(self) -> None:
        """Find the amplitudes of the spikes, their deviations, and log |B|: exactly, over all segments."""
        most = max(1, int(self.on.sum(1).max()))
        active = torch.where(self.on, torch.arange(self.n, device=self.y.device), self.n).sort(1).values[:, :most].contiguous()
        width = min(self.gram.width(active), most)
        active = F.pad(active, (0, -most % width), value=self.n)
        ratio = (self.power / self.variance)[:, None]
        diagonal, below = (each * ratio[..., None, None] for each in self.gram.blocks(active, width))
        diagonal.diagonal(dim1=-2, dim2=-1).add_(1)
        factors = BlockTridiagonal(diagonal, below)
        toward = F.pad(self.operator.adjoint(self.y), (0, 1)).gather(1, active)
        mean = factors.solve((ratio * toward).unflatten(1, (-1, width))).flatten(1)
        deviation = (self.power[:, None] * factors.inverse_diagonal().flatten(1)).sqrt()
        empty = self.y.new_zeros((len(self.y), self.n + 1))
        self.mean, self.deviation = (empty.scatter(1, active, each)[:, : self.n] for each in (mean, deviation))
        fit = (self.y.square().sum(1) - (mean * toward).sum(1)) / self.variance
        self._likelihood = -(self.samples * self.variance.log() + factors.logarithm() + fit) / 2

    def evidence(self) -> Tensor:
        """Return the logarithm of the probability of the choice and of what was observed, up to a constant: (B,)."""
        count = self.on.sum(1)
        return self._likelihood + count * self.rate.log() + (self.n - count) * (1 - self.rate).log()


def _search(gram: Tensor, toward: Tensor, on: Tensor, real: Tensor, power: Tensor, rate: Tensor, variance: Tensor) -> Tensor:
    """Return the choice in which no single change, and no change of a spike with another candidate, gains.

    Args:
        gram: (S, c, c) between candidates. toward: (S, c), A* of what they may explain. on: (S, c), which are spikes.
        real: (S, c), False where there is no candidate. power, rate, variance: (S,).
    """
    root = on * power[:, None].sqrt()
    scale = variance[:, None, None]
    scaled = root[:, :, None] * gram * root[:, None, :] / scale
    scaled.diagonal(dim1=1, dim2=2).add_(1)
    factor = torch.linalg.cholesky(scaled)
    # With C the covariance of y: s = A* C^-1 A and q = A* C^-1 y tell what each change gains, without another factor.
    half = torch.linalg.solve_triangular(factor, root[:, :, None] * gram, upper=False)
    right = torch.linalg.solve_triangular(factor, (root * toward)[..., None], upper=False)
    s = (gram - half.mT @ half / scale) / scale
    q = (toward - (half.mT @ right)[..., 0] / scale[..., 0]) / scale[..., 0]
    found, here, rows = on.clone(), on, torch.arange(len(on), device=q.device)
    odds, power = ((1 - rate) / rate).log()[:, None], power[:, None]
    for _ in range(_MOST_FLIPS):
        first, second, gain = _best(s, q, here, odds, power, real)
        more = gain > _MARGIN
        found[rows] = here
        if not bool(more.all()):
            # The rows that are done leave: what each step costs is what the others need.
            rows, s, q, here, odds, power, real = (each[more] for each in (rows, s, q, here, odds, power, real))
            first, second = first[more], second[more]
        if not len(rows):
            break
        for chosen in (first, second):
            s, q, here = _flipped(s, q, here, chosen, power[:, 0])
    return found


def _gain(q: Tensor, s: Tensor, change: Tensor, odds: Tensor) -> Tensor:
    """Return what changing candidates gains; `change`: 1 / power where one is added, -1 / power where one is taken away."""
    # Champagnat et al. (1996), eq. 12: the likelihood's gain, less the price of a spike.
    return (q.square() / (change + s) - torch.log1p(s / change).clamp(min=-1e30)) / 2 - change.sign() * odds


def _best(s: Tensor, q: Tensor, on: Tensor, odds: Tensor, power: Tensor, real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best change of each row: a candidate, a second one that changes with it or -1, and what is gained."""
    change = torch.where(on, -1.0, 1.0) / power
    diagonal = s.diagonal(dim1=1, dim2=2)
    alone = _gain(q, diagonal, change, odds).masked_fill(~real, -torch.inf)
    best, first = alone.max(1)
    # A spike that is taken away, and what may change with it. It is often a neighbour: then the spike moves.
    most = max(1, int(on.sum(1).max()))
    spikes = on.to(torch.uint8).topk(most, dim=1).indices
    share = 1 / (change + diagonal)
    crossed = s.gather(1, spikes[:, :, None].expand(-1, -1, s.shape[2]))
    weight = share.gather(1, spikes)
    s_then = diagonal[:, None] - crossed.square() * weight[:, :, None]
    q_then = q[:, None] - crossed * (weight * q.gather(1, spikes))[:, :, None]
    both = alone.gather(1, spikes)[:, :, None] + _gain(q_then, s_then, change[:, None], odds[:, None])
    both = both.masked_fill(~(real[:, None] & on.gather(1, spikes)[:, :, None]), -torch.inf)
    both.scatter_(2, spikes[:, :, None], -torch.inf)
    together, at = both.flatten(1).max(1)
    double = together > best + _MARGIN
    moved = spikes.gather(1, (at // s.shape[2])[:, None])[:, 0]
    return torch.where(double, moved, first), torch.where(double, at % s.shape[2], -1), torch.maximum(best, together)


def _flipped(s: Tensor, q: Tensor, on: Tensor, at: Tensor, power: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Change one candidate of each row, or none where `at` is -1: updates of rank one."""
    rows, there = torch.arange(len(at), device=at.device), at.clamp(min=0)
    change = torch.where(on[rows, there], -1.0, 1.0) / power
    share = torch.where(at >= 0, 1 / (change + s[rows, there, there]), 0)
    column = s[rows, :, there]
    q = q - column * (share * q[rows, there])[:, None]
    s = torch.baddbmm(s, column[:, :, None] * share[:, None, None], column[:, None, :], alpha=-1)
    on = on.clone()
    on[rows, there] ^= at >= 0
    return s, q, on
