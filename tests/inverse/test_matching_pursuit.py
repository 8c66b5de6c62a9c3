"""Matching pursuit by inner products against a plain loop over dense columns."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch.testing import assert_close

from cases.operators import random
from unconv.errors import DtypeError, ShapeError
from unconv.inverse import Convolution, last
from unconv.inverse.solvers import greedy
from unconv.inverse.solvers.greedy import matching_pursuit, pursue
from unconv.inverse.solvers.prediction import autocorrelate

CASES = [("zero", 1), ("zero", 5), ("zero", 6), ("zero", 60), ("unknown", 5), ("unknown", 8)]


def slow(operator, y, spikes):
    """One spike after the other from the dense matrix: (amplitudes, residual)."""
    n = operator.shape_in[0]
    columns = torch.stack([operator.forward(each) for each in torch.eye(n, dtype=y.dtype)], 1)
    energies, x, residual = columns.square().sum(0), torch.zeros(n, dtype=y.dtype), y.clone()
    for _ in range(spikes):
        correlation = columns.T @ residual
        at = int(torch.where(energies > 0, correlation.square() / energies, 0).argmax())
        x[at] += correlation[at] / energies[at]
        residual -= correlation[at] / energies[at] * columns[:, at]
    return x, residual


def side_by_side(monkeypatch):
    """Have the search of a GPU run here."""
    monkeypatch.setattr(greedy, "_searches", lambda *arguments: [greedy._Many(*greedy._limits(*arguments))])


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("boundary, k", CASES)
def test_matching_pursuit_is_the_plain_loop(boundary, k, together, monkeypatch):
    if together:
        side_by_side(monkeypatch)
    operator = Convolution(random(k, seed=1), (40,), boundary)
    y = random(2, 3, *operator.shape_out, seed=2)
    *_, result = matching_pursuit(operator, y, 15)
    assert result.steps == 15 and not result.converged
    expected = torch.stack([slow(operator, each, 15)[0] for each in y.flatten(0, 1)]).view(2, 3, 40)
    assert_close(result.estimate, expected)
    assert_close(last(matching_pursuit(operator, y[1, 2], 15)).estimate, result.estimate[1, 2])


def test_iterates_keep_their_estimates_and_explain_more_with_each():
    operator = Convolution(random(5, seed=1), (40,), "zero")
    iterates = list(matching_pursuit(operator, random(*operator.shape_out, seed=2), 12))
    residuals = [each.residual for each in iterates]
    assert all(b < a for a, b in pairwise(residuals))
    assert [each.steps for each in iterates] == list(range(1, 13))


@pytest.mark.parametrize("together", [False, True])
def test_each_problem_stops_by_its_own_noise(together, monkeypatch):
    if together:
        side_by_side(monkeypatch)
    operator = Convolution(torch.tensor([0.3, -0.5, 2.0, 0.4, 0.1]), (60,), "zero")
    y = random(3, 60, seed=3)
    levels = torch.tensor([0.5, 0.2, 2.0], dtype=torch.double)
    result = last(matching_pursuit(operator, y, 500, noise=levels))
    misfit = (operator.forward(result.estimate) - y).square().mean(1).sqrt()
    assert result.converged and (misfit <= 1.01 * levels).all()
    assert torch.equal(result.estimate[2], torch.zeros(60, dtype=torch.double))
    for i in range(2):
        before, at = list(matching_pursuit(operator, y[i], 500, noise=float(levels[i])))[-2:]
        assert_close(at.estimate, result.estimate[i])
        assert (operator.forward(before.estimate) - y[i]).square().mean().sqrt() > 1.01 * levels[i]


@pytest.mark.parametrize("together", [False, True])
def test_each_problem_stops_where_a_spike_gains_too_little(together, monkeypatch):
    if together:
        side_by_side(monkeypatch)
    operator = Convolution(random(5, seed=1), (60,), "zero")
    y = random(4, 60, seed=3)
    result = last(matching_pursuit(operator, y, 500, min_gain=0.01))
    assert result.converged
    for i in range(4):
        unexplained = [1.0, *(each.residual**2 for each in matching_pursuit(operator, y[i], 500, min_gain=0.01))]
        # The last iterate is the one in which nothing was put any more.
        assert all(a - b >= 0.01 for a, b in pairwise(unexplained[:-1]))
        assert unexplained[-1] == pytest.approx(unexplained[-2])
        x, _ = slow(operator, y[i], len(unexplained) - 2)
        assert_close(result.estimate[i], x)


def test_spikes_that_do_not_overlap_come_back_exactly_and_then_it_is_done():
    operator = Convolution(random(5, seed=1).float(), (60,), "unknown")
    truth = torch.zeros(60)
    truth[torch.tensor([10, 30, 45])] = torch.tensor([1.0, -2.0, 0.5])
    result = last(matching_pursuit(operator, operator.forward(truth), 50))
    assert result.estimate.dtype == torch.float32 and result.steps <= 8 and result.converged
    assert_close(result.estimate, truth, atol=1e-5, rtol=0)


@pytest.mark.parametrize("together", [False, True])
def test_pursue_explains_what_it_says(together, monkeypatch):
    if together:
        side_by_side(monkeypatch)
    kernels, truth = random(3, 9, seed=1), random(3, 30, seed=2)
    y = torch.fft.irfft(torch.fft.rfft(kernels, 64) * torch.fft.rfft(truth, 64), 64)
    toward = torch.fft.irfft(torch.fft.rfft(y, 64) * torch.fft.rfft(kernels, 64).conj(), 64)[:, :30]
    result, unexplained = pursue(toward, autocorrelate(kernels, 9), y.square().sum(1), 40)
    rest = y - torch.fft.irfft(torch.fft.rfft(kernels, 64) * torch.fft.rfft(result, 64), 64)
    assert_close(rest.square().sum(1), unexplained)
    assert (unexplained < 0.3 * y.square().sum(1)).all()


def test_refusals_of_matching_pursuit():
    operator, y = Convolution(random(5), (20,), "zero"), random(20)
    with pytest.raises(ShapeError, match="spikes is 0 and min_gain is 0"):
        last(matching_pursuit(operator, y, 0))
    with pytest.raises(ShapeError, match="noise is below zero"):
        last(matching_pursuit(operator, y, 3, noise=-1))
    with pytest.raises(ShapeError, match="boundary 'zero' or 'unknown'"):
        last(matching_pursuit(Convolution(random(5), (20,)), y, 3))
    with pytest.raises(DtypeError, match="complex"):
        last(matching_pursuit(operator, y.cdouble(), 3))
