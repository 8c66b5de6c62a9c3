"""Spikes under a Bernoulli-Gaussian prior: a search for the most probable set of samples that hold spikes."""

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

_MOST_CHANGES = 200  # in one round; a search that needs more ends there
_COST = 2.0  # degrees of freedom of a spike: its amplitude and its position
_MARGIN = 1e-6  # in the logarithm of the probability: less is rounding
_LIKELY = 0.4  # the largest share of samples that hold spikes
_SEGMENT, _SHORTEST = 3, 64  # length of a segment in kernels, and at least in samples


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
    """Find spikes x in y = A x + noise by single and double most likely replacement (SMLR), from a first set of spikes.

    Each sample holds a spike with the same probability, and spikes have Gaussian amplitudes. Spikes are added, removed and
    moved one at a time, always by the change that raises the probability most, until no change raises it. Then the
    probability of a spike, the power of the spikes and the noise are estimated anew. Sparse Bayesian learning gives a good
    start: it finds too many spikes, and this search selects among them.

    Args:
        operator: a real `Convolution` along one axis, stride 1, boundary "zero" or "unknown".
        observed: (..., *operator.shape_out), real. Leading axes hold independent problems.
        start: (..., n), amplitudes, zero where there is no spike.
        noise: standard deviation of a sample's noise: a number, or (...); None: estimate it.
        reach: the most samples between a spike and the nearest one of the start.
        rounds: of search and estimation.
        missing: (..., *operator.shape_out), True at samples that do not count.

    Yields:
        The estimate after each round, in float64, which the updates of the search need; converged once nothing changes.

    Raises:
        ShapeError, DtypeError, NonFinite: the operator is another one; `observed` or `start` does not fit.

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
    for number in range(1, rounds + 1):
        previous = model.on
        model.search(shifted=number % 2 == 0)
        # Rounds alternate between two segmentations. Only when neither finds a gain has the search converged.
        done = number > 2 and torch.equal(previous, model.on)
        noise_and_evidence = [each.reshape(shape) for each in (model.variance.sqrt(), model.evidence())]
        mean, deviation = (each.reshape(*shape, n) for each in (model.mean, model.deviation))
        yield Posterior(operator, observed.double(), mean, number, done, None, deviation, *noise_and_evidence)
        if done:
            return
        model.estimate(level)


class _Model:
    """The samples that hold spikes, their amplitudes, and the prior: a row for each problem.

    Attributes:
        candidates: (B, n), where a spike may be. on: (B, n), where one is.
        mean, deviation: (B, n), of the amplitudes.
        power, rate: (B,), of the spikes' amplitudes, and the probability of one. variance: (B,), of the noise.
    """

    def __init__(self, operator: Operator, y: Tensor, weights: Tensor | None, start: Tensor, reach: int) -> None:
        self.operator, self.y, self.weights = operator, y, weights
        self.gram, self.n = Gram(operator, y, weights), start.shape[-1]
        self.on, self.mean, self.deviation = start != 0, start, torch.zeros_like(start)
        self.candidates = F.max_pool1d(self.on[:, None].double(), 2 * reach + 1, 1, reach)[:, 0] > 0
        self.candidates &= self.gram.seen
        self.on &= self.candidates
        self.mean = self.mean * self.on
        self.samples = y.new_full((len(y),), y.shape[-1]) if weights is None else weights.sum(1)

    def estimate(self, level: Tensor | None) -> None:
        """Estimate the prior from the spikes, and the noise's variance if no level is given."""
        count = self.on.sum(1)
        square = (self.mean.square() + self.deviation.square()) * self.on
        self.power = (square.sum(1) / count.clamp(min=1)).clamp(min=torch.finfo(self.y.dtype).tiny)
        self.rate = (count / self.n).clamp(1 / self.n, _LIKELY)
        if level is not None:
            self.variance = level.square()
            return
        degrees_of_freedom = (self.samples - _COST * count).clamp(min=1)
        # A positive floor: spikes that fit exactly leave a residual of zero, by which later steps would divide.
        least = torch.finfo(torch.float32).eps * self.y.square().mean(1) + torch.finfo(self.y.dtype).tiny
        self.variance = torch.maximum(self._residual().square().sum(1) / degrees_of_freedom, least)

    def _residual(self) -> Tensor:
        residual = self.y - self.operator.forward(self.mean)
        return residual if self.weights is None else residual * self.weights

    def search(self, shifted: bool) -> None:
        """Change the set of spikes until no change raises its probability, in all segments at once; then fit the amplitudes.

        A change affects samples as far as kernels overlap, and few beyond. So each segment is searched separately, after the
        spikes of the others are subtracted: the cost grows with the length, not with its square.
        """
        where, problems = self._segments(shifted)
        if len(problems):  # otherwise there are no candidates
            self.on = self._selected(where, problems)
        self._solve()

    def _selected(self, where: Tensor, problems: Tensor) -> Tensor:
        """Return which samples hold spikes after a search among the segments' candidates (S, c) of problems (S,): (B, n)."""
        amplitudes = F.pad(self.mean, (0, 1))[problems[:, None], where]
        between = self.gram.between(where, problems)
        correlation = F.pad(self.operator.adjoint(self._residual()), (0, 1))[problems[:, None], where]
        on = F.pad(self.on, (0, 1))[problems[:, None], where]
        # The residual lacks what the segment's own spikes explain; their amplitudes times the Gram matrix put it back.
        correlation = correlation + (between @ amplitudes[..., None])[..., 0]
        prior = (each[problems] for each in (self.power, self.rate, self.variance))
        on = _search(between, correlation, on, where < self.n, *prior)
        after = F.pad(torch.zeros_like(self.on), (0, 1))
        after[problems[:, None], where] = on
        selected: Tensor = after[:, : self.n]
        return selected

    def _segments(self, shifted: bool) -> tuple[Tensor, Tensor]:
        """Return the candidates of each segment that has any, (S, c), padded with n, and their problems, (S,)."""
        # Segments that are shifted by half have their ends where those of the other rounds have their middles.
        side = max(_SEGMENT * self.gram.k, _SHORTEST)
        samples = torch.arange(self.n, device=self.y.device)
        number = (samples + (side // 2 if shifted else 0)) // side
        count = int(number[-1]) + 1
        segment = torch.where(self.candidates, number, count)
        positions = [torch.where(segment == k, samples, self.n).sort(1).values for k in range(count)]
        longest = max(1, *(int((each < self.n).sum(1).max()) for each in positions))
        where = torch.stack([F.pad(each, (0, longest), value=self.n)[:, :longest] for each in positions], 1).flatten(0, 1)
        problems = torch.arange(len(self.y), device=self.y.device).repeat_interleave(count)
        occupied = where[:, 0] < self.n
        return where[occupied], problems[occupied]

    def _solve(self) -> None:
        """Compute the spikes' amplitudes and deviations, and the likelihood: exactly, across all segments."""
        # B = 1 + (power / variance) A*A over the spikes is block tridiagonal, so its factors cost as much as the band.
        count = max(1, int(self.on.sum(1).max()))
        active = torch.where(self.on, torch.arange(self.n, device=self.y.device), self.n).sort(1).values[:, :count].contiguous()
        width = min(self.gram.width(active), count)
        active = F.pad(active, (0, -count % width), value=self.n)
        ratio = (self.power / self.variance)[:, None]
        diagonal, below = (each * ratio[..., None, None] for each in self.gram.blocks(active, width))
        diagonal.diagonal(dim1=-2, dim2=-1).add_(1)
        factors = BlockTridiagonal(diagonal, below)
        correlation = F.pad(self.operator.adjoint(self.y), (0, 1)).gather(1, active)
        mean = factors.solve((ratio * correlation).unflatten(1, (-1, width))).flatten(1)
        deviation = (self.power[:, None] * factors.inverse_diagonal().flatten(1)).sqrt()
        empty = self.y.new_zeros((len(self.y), self.n + 1))
        self.mean, self.deviation = (empty.scatter(1, active, each)[:, : self.n] for each in (mean, deviation))
        fit = (self.y.square().sum(1) - (mean * correlation).sum(1)) / self.variance
        self._likelihood = -(self.samples * self.variance.log() + factors.logarithm() + fit) / 2

    def evidence(self) -> Tensor:
        """Return the logarithm of the joint probability of the spikes and the observed samples, up to a constant: (B,)."""
        count = self.on.sum(1)
        return self._likelihood + count * self.rate.log() + (self.n - count) * (1 - self.rate).log()


def _search(
    gram: Tensor, correlation: Tensor, on: Tensor, real: Tensor, power: Tensor, rate: Tensor, variance: Tensor
) -> Tensor:
    """Return the spikes that no single change, and no change of a spike together with another candidate, improves.

    Args:
        gram: (S, c, c) between candidates. correlation: (S, c), A* of the samples to explain. on: (S, c), the first spikes.
        real: (S, c), False for padding. power, rate, variance: (S,).
    """
    root = on * power[:, None].sqrt()
    scale = variance[:, None, None]
    scaled = root[:, :, None] * gram * root[:, None, :] / scale
    scaled.diagonal(dim1=1, dim2=2).add_(1)
    factor = torch.linalg.cholesky(scaled)
    # With C the covariance of y: s = A* C^-1 A and q = A* C^-1 y give the gain of every change. A change updates both by
    # rank one (`_changed`), so that C is factored only once.
    whitened = torch.linalg.solve_triangular(factor, root[:, :, None] * gram, upper=False)
    whitened_correlation = torch.linalg.solve_triangular(factor, (root * correlation)[..., None], upper=False)
    s = (gram - whitened.mT @ whitened / scale) / scale
    q = (correlation - (whitened.mT @ whitened_correlation)[..., 0] / scale[..., 0]) / scale[..., 0]
    result, current, rows = on.clone(), on, torch.arange(len(on), device=q.device)
    odds, power = ((1 - rate) / rate).log()[:, None], power[:, None]
    for _ in range(_MOST_CHANGES):
        first, second, gain = _best(s, q, current, odds, power, real)
        improved = gain > _MARGIN
        result[rows] = current
        if not bool(improved.all()):
            # Drop the rows that are done, so that a step costs only what the others need.
            rows, s, q, current, odds, power, real = (each[improved] for each in (rows, s, q, current, odds, power, real))
            first, second = first[improved], second[improved]
        if not len(rows):
            break
        for candidate in (first, second):
            s, q, current = _changed(s, q, current, candidate, power[:, 0])
    return result


def _gain(q: Tensor, s: Tensor, change: Tensor, odds: Tensor) -> Tensor:
    """Return the gain of changing candidates; `change` is 1 / power where one is added, -1 / power where one is removed."""
    # Champagnat et al. (1996), eq. 12: the gain in log likelihood, less the log odds that a spike costs.
    return (q.square() / (change + s) - torch.log1p(s / change).clamp(min=-1e30)) / 2 - change.sign() * odds


def _best(s: Tensor, q: Tensor, on: Tensor, odds: Tensor, power: Tensor, real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best change of each row: a candidate, a second one that changes with it or -1, and the gain."""
    change = torch.where(on, -1.0, 1.0) / power
    diagonal = s.diagonal(dim1=1, dim2=2)
    single = _gain(q, diagonal, change, odds).masked_fill(~real, -torch.inf)
    best, first = single.max(1)
    # Double replacements: remove a spike and change another candidate with it. If that is a neighbour, the spike moves, which
    # two single changes often cannot do, since the first of them would lower the probability.
    most = max(1, int(on.sum(1).max()))
    spikes = on.to(torch.uint8).topk(most, dim=1).indices
    share = 1 / (change + diagonal)
    crossed = s.gather(1, spikes[:, :, None].expand(-1, -1, s.shape[2]))
    weight = share.gather(1, spikes)
    s_after = diagonal[:, None] - crossed.square() * weight[:, :, None]
    q_after = q[:, None] - crossed * (weight * q.gather(1, spikes))[:, :, None]
    double_gain = single.gather(1, spikes)[:, :, None] + _gain(q_after, s_after, change[:, None], odds[:, None])
    double_gain = double_gain.masked_fill(~(real[:, None] & on.gather(1, spikes)[:, :, None]), -torch.inf)
    double_gain.scatter_(2, spikes[:, :, None], -torch.inf)
    double_best, at = double_gain.flatten(1).max(1)
    is_double = double_best > best + _MARGIN
    removed = spikes.gather(1, (at // s.shape[2])[:, None])[:, 0]
    return torch.where(is_double, removed, first), torch.where(is_double, at % s.shape[2], -1), torch.maximum(best, double_best)


def _changed(s: Tensor, q: Tensor, on: Tensor, at: Tensor, power: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return s, q and the spikes after the change of one candidate of each row, or none where `at` is -1, by rank one."""
    rows, index = torch.arange(len(at), device=at.device), at.clamp(min=0)
    change = torch.where(on[rows, index], -1.0, 1.0) / power
    share = torch.where(at >= 0, 1 / (change + s[rows, index, index]), 0)
    column = s[rows, :, index]
    q = q - column * (share * q[rows, index])[:, None]
    s = torch.baddbmm(s, column[:, :, None] * share[:, None, None], column[:, None, :], alpha=-1)
    on = on.clone()
    on[rows, index] ^= at >= 0
    return s, q, on
