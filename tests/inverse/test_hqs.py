"""Plug-and-play splitting: its quadratic half against dense algebra, what it tells its denoiser, what it refuses."""

from __future__ import annotations

from itertools import pairwise
from math import sqrt

import pytest
import torch
from torch.testing import assert_close

from cases.operators import random
from oracles import inverse as oracle
from unconv.errors import NonFinite, ShapeError
from unconv.inverse import Convolution, Mask, last, split
from unconv.inverse.solvers.fit import Fit, nearest_observed
from unconv.inverse.solvers.hqs import _BALANCE, hqs, penalty, schedule

SHAPES = {1: (11,), 2: (7, 6)}


def kernel(axes):
    taps = random(*(3,) * axes, seed=5).abs() + 0.1
    return taps / taps.sum()


def problem(kind, axes=2):
    """(operator, what was observed): a blur of which not all was seen."""
    shape = SHAPES[axes]
    operator = Convolution(kernel(axes), shape, "unknown" if "unknown" in kind else "circular")
    if "masked" in kind:
        operator = Mask(random(*operator.shape_out, seed=3) > -0.7) @ operator
    return operator, operator.forward(random(*shape, seed=1)) + 0.1 * random(*operator.shape_out, seed=2)


KINDS = ["circular", "masked", "unknown", "unknown, masked"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("axes", [1, 2])
def test_a_fit_is_the_dense_solution(kind, axes):
    operator, y = problem(kind, axes)
    a = torch.from_numpy(oracle.matrix(lambda x: operator.forward(torch.from_numpy(x)), operator.shape_in))
    v = random(*operator.shape_in, seed=4)
    right = a.T @ (operator.forward(torch.zeros_like(v)) + y).reshape(-1) + 0.3 * v.reshape(-1)
    expected = torch.linalg.solve(a.T @ a + 0.3 * torch.eye(v.numel(), dtype=torch.double), right).reshape(v.shape)
    result = Fit(*split(operator), y).solved(v, 0.3, 300, 1e-12)
    if "masked" in kind:  # what a mask hides is not fitted
        right = a.T @ operator.outer.forward(y).reshape(-1) + 0.3 * v.reshape(-1)
        expected = torch.linalg.solve(a.T @ a + 0.3 * torch.eye(v.numel(), dtype=torch.double), right).reshape(v.shape)
    assert_close(result, expected, atol=1e-8, rtol=1e-8)


def test_where_all_was_observed_a_fit_is_the_quotient():
    operator, y = problem("circular")
    v = random(7, 6, seed=4)
    response = torch.fft.fft2(operator.forward(torch.eye(42, dtype=torch.double)[0].reshape(7, 6)))
    spectrum = (response.conj() * torch.fft.fft2(y) + 0.2 * torch.fft.fft2(v)) / (response.abs() ** 2 + 0.2)
    assert_close(Fit(*split(operator), y).solved(v, 0.2), torch.fft.ifft2(spectrum).real)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_takes_a_penalty_for_each_frequency(kind):
    operator, y = problem(kind)
    v, weights = random(7, 6, seed=4), 0.1 + random(7, 4, seed=6).square()
    weights[:, 0] = 0.5  # alike at a frequency and its opposite
    weights[:, -1] = 0.7
    result = Fit(*split(operator), y).solved(v, weights, 300, 1e-12)
    seen = operator.outer.forward(y) if "masked" in kind else y
    slope = operator.adjoint(operator.forward(result) - seen)
    slope += torch.fft.irfft2(weights * torch.fft.rfft2(result - v), (7, 6))
    assert_close(slope, torch.zeros_like(slope), atol=1e-9, rtol=0)


def test_pictures_side_by_side_are_fitted_as_one_by_one():
    operator, _ = problem("unknown")
    ys, vs = random(3, *operator.shape_out), random(3, 7, 6, seed=1)
    together = Fit(*split(operator), ys).solved(vs, 0.1, 200, 1e-12)
    alone = [Fit(*split(operator), y).solved(v, 0.1, 200, 1e-12) for y, v in zip(ys, vs, strict=True)]
    assert_close(together, torch.stack(alone), atol=1e-8, rtol=1e-8)


def test_what_was_not_observed_is_carried_on_from_the_nearest():
    seen, weights = torch.zeros(1, 7).double(), torch.zeros(1, 7).double()
    seen[0, [0, 4]], weights[0, [0, 4]] = torch.tensor([1.0, 5.0]).double(), 1
    result = nearest_observed(seen, weights, 2)[0]
    assert_close(result, torch.tensor([1, 1, 3, 5, 5, 5, 1], dtype=torch.double))


def test_what_was_not_observed_is_not_carried_on_from_other_colours():
    seen = torch.stack([torch.zeros(6, 6), torch.full((6, 6), 9.0)]).double()
    weights = torch.zeros(2, 6, 6).double()
    weights[:, 1:-1, 1:-1] = 1
    assert_close(nearest_observed(seen * weights, weights, 2), seen)


@pytest.mark.parametrize("ratio", [1.0, 3.0, 50.0])
def test_no_frequency_s_noise_outgrows_what_the_denoiser_is_told(ratio):
    for seed in range(20):
        taps = random(*torch.Size((1 + seed % 5, 3)), seed=seed)
        taps = taps.abs() if seed % 2 else taps
        circular, chosen = split(Convolution(taps / taps.abs().sum(), (16, 16)))
        fit = Fit(circular, chosen, random(16, 16))
        h = fit.power.sqrt()
        p = penalty(fit, ratio)
        assert float((h / (h**2 + p)).max()) <= ratio / (2 * sqrt(_BALANCE)) * (1 + 1e-9)


def test_deviations_fall_by_one_factor_to_the_noise():
    y = 30 * random(50, 50)
    falling = torch.tensor(schedule(y, 0.5, 9), dtype=torch.double)
    assert_close(float(falling[0]), 0.8 * float(y.std()))
    assert_close(float(falling[-1]), 0.5)
    assert_close(falling[1:] / falling[:-1], torch.full((8,), float(falling[1] / falling[0]), dtype=torch.double))
    assert schedule(y * 0, 0.5, 3)[0] == 2.0
    assert schedule(y, 0.5, 3, first=7.0)[0] == 7.0
    assert len(schedule(y, 0.5, 1)) == 1


def test_the_denoiser_is_told_the_schedule_and_the_last_word_is_its():
    deviations = []

    def half(x, s):
        deviations.append(s)
        return x / 2 if s < 0.2 else x

    operator, y = problem("circular")
    result = last(hqs(operator, y, half, noise=0.1, steps=5))
    assert deviations == schedule(y, 0.1, 5) and result.converged and result.steps == 5
    fit = Fit(*split(operator), y)
    x = y
    for s in list(deviations):
        x = half(fit.solved(x, penalty(fit, s / 0.1)), s)
    assert_close(result.estimate, x)


@pytest.mark.slow
def test_a_quadratic_denoiser_leads_to_the_point_that_both_halves_leave():
    """With x -> x / (1 + s²) and s held, splitting is linear, and its limit solves one equation."""
    operator, y = problem("unknown")
    fit = Fit(*split(operator), y)
    p = penalty(fit, 3.0)
    result = last(hqs(operator, y, lambda x, s: x / (1 + s * s), noise=0.1, first=0.3, steps=1)).estimate
    assert_close(result, fit.solved(fit.filled(), p, 30, 1e-3) / 1.09)
    x = fit.filled()
    for _ in range(150):
        x = fit.solved(x, p, 30, 1e-8) / 1.09
    a = torch.from_numpy(oracle.matrix(lambda x: operator.forward(torch.from_numpy(x)), operator.shape_in))
    system = a.T @ a * 1.09 + 0.09 * p * torch.eye(42, dtype=torch.double)
    assert_close(x.reshape(-1), torch.linalg.solve(system, a.T @ y.reshape(-1)), atol=1e-5, rtol=1e-5)


def test_a_denoiser_that_does_nothing_fits_better_from_step_to_step():
    operator, y = problem("circular")
    residuals = [step.residual for step in hqs(operator, y, lambda x, _: x, noise=0.01)]
    assert all(after <= before + 1e-12 for before, after in pairwise(residuals))


def test_a_start_is_where_it_starts():
    operator, y = problem("circular")
    start = random(7, 6, seed=9)
    result = last(hqs(operator, y, lambda x, _: x, noise=0.1, steps=1, start=start)).estimate
    fit = Fit(*split(operator), y)
    assert_close(result, fit.solved(start, penalty(fit, schedule(y, 0.1, 1)[0] / 0.1)))


def test_odd_requests_are_refused():
    operator, y = problem("circular")
    with pytest.raises(ShapeError, match=r"the denoiser made \(6, 6\) of \(7, 6\), but the same shape was needed"):
        last(hqs(operator, y, lambda x, _: x[1:], noise=0.1))
    for noise in (0.0, -1.0, float("nan")):
        with pytest.raises(ShapeError, match=r"noise is .* but a positive standard deviation was needed"):
            last(hqs(operator, y, lambda x, _: x, noise=noise))
    with pytest.raises(ShapeError, match=r"split: .* is not a selection of a circular convolution"):
        last(hqs(Convolution(kernel(2), (7, 6), "reflect"), y, lambda x, _: x, noise=0.1))
    with pytest.raises(NonFinite, match="1 of 42 observed samples is NaN or infinite"):
        last(hqs(operator, y.index_fill(0, torch.tensor([0]), 0).masked_fill(torch.arange(42).view(7, 6) == 3, float("nan")),
                 lambda x, _: x, noise=0.1))  # fmt: skip
