"""Spikes behind a kernel: bands against dense matrices, the fast solvers against slow ones, and what holds of their answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from cases.operators import random
from oracles import spikes as oracle
from unconv.errors import NonFinite, ShapeError
from unconv.inverse import Convolution, last
from unconv.inverse.solvers.bernoulli_gaussian import bernoulli_gaussian
from unconv.inverse.solvers.block_tridiagonal import BlockTridiagonal
from unconv.inverse.solvers.gram import Gram
from unconv.inverse.solvers.reweighted import reweighted_l1
from unconv.inverse.solvers.sparse_bayesian import sparse_bayesian


def active_of(n, rows=3, many=24, seed=0):
    """Some samples of each row, ascending, with n at the end where there are fewer."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.sort(torch.randperm(n + 8, generator=generator)[:many].clamp(max=n)).values for _ in range(rows)])


def dense_of_blocks(diagonal, below):
    rows, count, width, _ = diagonal.shape
    matrix = diagonal.new_zeros(rows, count * width, count * width)
    for i in range(count):
        here = slice(i * width, (i + 1) * width)
        matrix[:, here, here] = diagonal[:, i]
        if i:
            before = slice((i - 1) * width, i * width)
            matrix[:, here, before], matrix[:, before, here] = below[:, i - 1], below[:, i - 1].mT
    return matrix


@pytest.mark.parametrize("boundary", ["zero", "unknown"])
@pytest.mark.parametrize("centre", [0, 3, 6])
@pytest.mark.parametrize("missing", [False, True])
def test_the_gram_matrix_is_that_of_the_operator(boundary, centre, missing):
    operator, n = Convolution(random(7, seed=1), (40,), boundary, centre=(centre,)), 40
    matrix = operator.forward(torch.eye(n, dtype=torch.double)).T
    weights = (random(3, *operator.shape_out, seed=2) > -0.5).double() if missing else torch.ones(3, len(matrix)).double()
    gram, active = Gram(operator, matrix, weights if missing else None), active_of(n)
    width = gram.width(active)
    active = torch.nn.functional.pad(active, (0, -active.shape[1] % width), value=n)
    result = dense_of_blocks(*gram.blocks(active, width, torch.arange(3)))
    for row in range(3):
        dense = torch.nn.functional.pad(matrix.T @ (weights[row, :, None] * matrix), (0, 1, 0, 1))
        assert_close(result[row], dense[active[row]][:, active[row]])


def test_blocks_are_solved_and_inverted_as_the_whole_matrix():
    root = random(2, 12, 12, seed=3)
    dense = root @ root.mT + torch.eye(12)
    dense[:, :4, 8:] = dense[:, 8:, :4] = 0
    dense += 8 * torch.eye(12)
    diagonal = torch.stack([dense[:, i : i + 4, i : i + 4] for i in (0, 4, 8)], 1)
    below = torch.stack([dense[:, i + 4 : i + 8, i : i + 4] for i in (0, 4)], 1)
    factors, right = BlockTridiagonal(diagonal, below), random(2, 3, 4, seed=4)
    assert_close(factors.solve(right).flatten(1), torch.linalg.solve(dense, right.flatten(1)))
    assert_close(factors.inverse_diagonal().flatten(1), torch.linalg.inv(dense).diagonal(dim1=1, dim2=2))
    assert_close(factors.logarithm(), torch.logdet(dense))


def problems(snr, count=6, n=160, first=0):
    problems = [oracle.synthetic(seed, snr, n) for seed in range(first, first + count)]
    return tuple(torch.from_numpy(np.stack([each[k] for each in problems])) for k in range(3))


def ricker():
    return torch.from_numpy(oracle.ricker(25, 0.002, 45))


@pytest.mark.parametrize("missing", [False, True])
def test_the_first_step_is_the_dense_posterior(missing):
    _, observed, noise = problems(20, 3)
    operator = Convolution(ricker(), (160,), "zero")
    left_out = torch.zeros(3, 160, dtype=torch.bool)
    left_out[:, 40:60] = missing
    result = next(iter(sparse_bayesian(operator, observed, noise=noise, missing=left_out)))
    matrix = oracle.convolution_matrix(ricker().numpy(), 160, 22)
    for row in range(3):
        seen = ~left_out[row].numpy()
        y, some = observed[row].numpy()[seen], matrix[seen]
        prior = np.full(160, np.mean(y**2) / (matrix**2).sum(0).max())
        mean, deviation, evidence = oracle.sparse_bayesian_step(some, y, prior, float(noise[row]) ** 2)
        assert_close(result.estimate[row], torch.from_numpy(mean))
        assert_close(result.deviation[row], torch.from_numpy(deviation))
        assert_close(result.evidence[row], torch.tensor(evidence))


def test_what_it_finds_is_as_probable_as_what_the_dense_form_finds():
    _, observed, noise = problems(30, 4)
    operator = Convolution(ricker(), (160,), "zero")
    matrix = oracle.convolution_matrix(ricker().numpy(), 160, 22)
    result = last(sparse_bayesian(operator, observed, noise=noise, steps=100))
    dense = [oracle.sparse_bayesian(matrix, y, float(s) ** 2)[1] for y, s in zip(observed.numpy(), noise, strict=True)]
    gains = result.evidence.numpy() - dense
    assert gains.mean() > -1 and gains.min() > -5, "in logarithms; both may end in another of several minima"


def test_problems_side_by_side_are_solved_as_alone():
    _, observed, _ = problems(20, 4)
    operator = Convolution(ricker(), (160,), "zero")
    together = last(sparse_bayesian(operator, observed.reshape(2, 2, 160)))
    for row in range(4):
        alone = last(sparse_bayesian(operator, observed[row]))
        assert_close(together.estimate.reshape(4, 160)[row], alone.estimate, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("factor", [1e-9, 1e6])
def test_spikes_are_homogeneous_in_what_was_observed(factor):
    _, observed, _ = problems(20, 2)
    operator = Convolution(ricker(), (160,), "zero")
    one, other = (last(sparse_bayesian(operator, factor * observed)), last(sparse_bayesian(operator, observed)))
    assert_close(one.estimate / factor, other.estimate, rtol=1e-5, atol=1e-7)
    assert_close(one.noise / factor, other.noise, rtol=1e-5, atol=1e-7)


def test_the_noise_is_found():
    _, observed, noise = problems(20, 12, 500)
    result = last(sparse_bayesian(Convolution(ricker(), (500,), "zero"), observed.float()))
    assert float((result.noise / noise).mean()) == pytest.approx(1, abs=0.04)


def test_silence_has_no_spikes():
    operator = Convolution(ricker(), (160,), "zero")
    observed = torch.stack([torch.zeros(160, dtype=torch.double), problems(20, 1)[1][0]])
    result = last(sparse_bayesian(operator, observed))
    assert not result.estimate[0].any() and result.estimate[1].any()
    choice = last(bernoulli_gaussian(operator, observed, result.estimate))
    assert not choice.estimate[0].any() and torch.isfinite(choice.estimate).all()


def test_the_choice_is_the_most_probable_of_all():
    operator, n = Convolution(torch.tensor([1.0, 0.6, 0.2], dtype=torch.double), (14,), "zero"), 14
    matrix = operator.forward(torch.eye(n, dtype=torch.double)).T.numpy()
    for seed in range(5):
        random = np.random.default_rng(seed)
        truth = np.zeros(n)
        truth[random.choice(n, 2, replace=False)] = random.standard_normal(2) + 1
        y = torch.from_numpy(matrix @ truth + 0.1 * random.standard_normal(n))
        start = torch.from_numpy(truth + 0.1 * random.standard_normal(n))  # every sample a candidate, and a spike to begin with
        result = list(bernoulli_gaussian(operator, y, start, noise=0.1, rounds=8))
        # What was searched with the prior that the last round began with.
        before = result[-2]
        on = before.estimate != 0
        power = float((before.estimate.square() + before.deviation.square())[on].mean())
        chosen, evidence = oracle.most_probable_choice(matrix, y.numpy(), power, float(on.sum()) / n, 0.01, 4)
        assert tuple(torch.nonzero(result[-1].estimate).flatten().tolist()) == chosen
        assert float(result[-1].evidence) == pytest.approx(evidence, rel=1e-6)


def test_the_choice_gains_on_sparse_bayesian_learning():
    truth, observed, _ = problems(30, 24, 500)
    operator = Convolution(ricker(), (500,), "zero")
    start = last(sparse_bayesian(operator, observed.float()))
    result = last(bernoulli_gaussian(operator, observed, start.estimate))

    def quality(estimate):
        return float((10 * (truth.square().sum(1) / (truth - estimate).square().sum(1)).log10()).mean())

    assert quality(result.estimate) > quality(start.estimate.double()) + 1
    count = (truth != 0).sum()
    assert int((result.estimate != 0).sum()) == pytest.approx(int(count), rel=0.1)


def test_deviations_are_those_of_the_amplitudes():
    truth, observed, _ = problems(40, 40, 160)
    operator = Convolution(ricker(), (160,), "zero")
    start = last(sparse_bayesian(operator, observed.float()))
    result = last(bernoulli_gaussian(operator, observed, start.estimate))
    right = ((result.estimate != 0) == (truth != 0)).all(1)
    assert int(right.sum()) >= 10
    on = result.estimate[right] != 0
    errors = (result.estimate[right] - truth[right])[on] / result.deviation[right][on]
    assert float(errors.square().mean().sqrt()) == pytest.approx(1, abs=0.2)


def test_the_l1_norm_has_the_strength_that_is_said():
    operator = Convolution(ricker(), (160,), "zero")
    _, observed, noise = problems(20, 2)
    result = last(reweighted_l1(operator, observed, noise=noise, rounds=1, steps=20000, tolerance=1e-9)).estimate
    slope = operator.adjoint(observed - operator.forward(result))
    weight = (2 * noise * ricker().norm())[:, None].expand_as(slope)
    there = result != 0
    assert_close(slope[there], (weight * result.sign())[there], rtol=1e-4, atol=1e-6)
    assert bool((slope.abs() <= weight * 1.0001).all())


@pytest.mark.parametrize(
    "operator",
    [
        Convolution(torch.ones(3), (9,), "circular"),
        Convolution(torch.ones(3), (9,), "zero", stride=2),
        Convolution(torch.ones(3, 3), (9, 9), "zero"),
    ],
)
def test_other_operators_are_refused(operator):
    with pytest.raises(ShapeError, match="a real kernel along one axis"):
        next(iter(sparse_bayesian(operator, torch.ones(operator.shape_out))))


@pytest.mark.parametrize("noise", [0.0, -1.0, float("nan")])
def test_a_noise_that_is_none_is_refused(noise):
    operator = Convolution(torch.ones(3), (9,), "zero")
    with pytest.raises(ShapeError, match="noise is not above zero"):
        next(iter(sparse_bayesian(operator, torch.ones(9), noise=noise)))
    with pytest.raises(NonFinite):
        next(iter(sparse_bayesian(operator, torch.full((9,), torch.nan))))
