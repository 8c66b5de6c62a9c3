"""Total variation by ADMM: its limit against a slow minimiser, its laws, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from cases.operators import random
from oracles import inverse as oracle
from unconv.errors import NonFinite, ShapeError
from unconv.inverse import Convolution, Mask, Window, last
from unconv.inverse.metrics import psnr
from unconv.inverse.operators.differences import gradient
from unconv.inverse.solvers.admm import admm_tv
from unconv.inverse.solvers.slopes import observed_slope

KINDS = ["circular", "unknown", "masked"]


def taps(size=3):
    k = random(size, size, seed=5).abs() + 0.2
    return k / k.sum()


def problem(kind, n=12, noise=0.3):
    """(operator, truth, observed): steps, blurred, of which not all may have been seen."""
    truth = torch.zeros(n, n, dtype=torch.double)
    truth[n // 4 : n // 2, n // 3 :] = 5
    truth[n // 2 :, : n // 2] = 2
    operator = Convolution(taps(), (n, n), "unknown" if kind == "unknown" else "circular")
    if kind == "masked":
        operator = Mask(random(n, n, seed=3) > -0.8) @ operator
    y = operator.forward(truth) + noise * random(*operator.shape_out, seed=2)
    return operator, truth, operator.outer.forward(y) if kind == "masked" else y


def objective(operator, y, x, strength):
    return 0.5 * float((operator.forward(x) - y).square().sum()) + strength * oracle.total_variation(x.numpy())


def minimised(operator, y, strength, rounds=1500):
    """The primal-dual method of Chambolle & Pock by dense matrices: another way to the same minimum."""
    n = y.new_zeros(operator.shape_in).numel()
    a = oracle.matrix(lambda x: operator.forward(torch.from_numpy(x)), operator.shape_in)
    d = oracle.differences(operator.shape_in, True)
    size = np.linalg.norm(np.concatenate([a, d]), 2)
    x = ahead = np.zeros(n)
    p, q = np.zeros(len(a)), np.zeros(len(d))
    for _ in range(rounds):
        p = (p + (a @ ahead - y.numpy().ravel()) / size) / (1 + 1 / size)
        q = (q + d @ ahead / size).reshape(2, -1)
        q = (q / np.maximum(1, np.hypot(*q) / strength)).ravel()
        new = x - (a.T @ p + d.T @ q) / size
        x, ahead = new, 2 * new - x
    return torch.from_numpy(x).reshape(operator.shape_in)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strength", [0.03, 0.3])
def test_the_limit_is_the_minimum(kind, strength):
    operator, _, y = problem(kind)
    result = last(admm_tv(operator, y, strength=strength, steps=700, tolerance=1e-9)).estimate
    best = objective(operator, y, minimised(operator, y, strength), strength)
    assert abs(objective(operator, y, result, strength) / best - 1) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_where_it_stops_by_itself_it_is_near_the_minimum(kind):
    operator, _, y = problem(kind)
    result = last(admm_tv(operator, y, strength=0.1))
    best = objective(operator, y, last(admm_tv(operator, y, strength=0.1, steps=700, tolerance=0)).estimate, 0.1)
    assert objective(operator, y, result.estimate, 0.1) < best * (1 + 1e-3)


@pytest.mark.slow
def test_an_unknown_boundary_is_a_mask_of_what_goes_round():
    unknown, _, y = problem("unknown")
    seen = torch.zeros(12, 12, dtype=torch.bool)
    seen[1:-1, 1:-1] = True
    circular = Mask(seen) @ Convolution(taps(), (12, 12))
    masked = torch.zeros(12, 12, dtype=torch.double)
    masked[1:-1, 1:-1] = y
    for how in ({"strength": 0.1}, {"noise": 0.3}):
        assert_close(last(admm_tv(circular, masked, **how)).estimate, last(admm_tv(unknown, y, **how)).estimate)


@pytest.mark.slow
def test_a_mask_that_hides_nothing_and_a_window_of_everything_change_nothing():
    operator, _, y = problem("circular")
    plain = last(admm_tv(operator, y, noise=0.3)).estimate
    for chosen in (Mask(torch.ones(12, 12)), Window((12, 12), (0, 0), (12, 12))):
        assert_close(last(admm_tv(chosen @ operator, y, noise=0.3)).estimate, plain)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("a", [1e-6, 1e4])
def test_a_brighter_picture_with_more_noise_is_brighter_and_nothing_else(kind, a):
    operator, _, y = problem(kind)
    once, often = (last(admm_tv(operator, b * y, noise=b * 0.3)) for b in (1, a))
    assert once.steps == often.steps
    assert_close(often.estimate, a * once.estimate, rtol=1e-6, atol=1e-6 * a)
    assert often.strength == pytest.approx(a * once.strength)


@pytest.mark.slow
def test_pictures_side_by_side_are_restored_as_one_by_one():
    operator, _, y = problem("unknown")
    ys = torch.stack([y, 100 * y.flip(0), y.T])
    together = last(admm_tv(operator, ys, noise=0.3, steps=60, tolerance=0)).estimate
    for one, result in zip(ys, together, strict=True):
        assert_close(result, last(admm_tv(operator, one, noise=0.3, steps=60, tolerance=0)).estimate)


@pytest.mark.parametrize("kind", KINDS)
def test_a_strength_without_measure_leaves_one_value(kind):
    operator, _, y = problem(kind)
    result = last(admm_tv(operator, y, strength=1e4, steps=500, tolerance=1e-8)).estimate
    seen = y[operator.outer.observed] if kind == "masked" else y
    assert_close(result, torch.full_like(result, float(seen.mean())), atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", ["circular", "unknown"])
def test_it_comes_nearer_to_the_truth(kind):
    operator, truth, y = problem(kind, 48, 0.1)
    result = last(admm_tv(operator, y, noise=0.1)).estimate
    inside = (slice(1, -1), slice(1, -1)) if kind == "unknown" else (slice(None),)
    assert psnr(truth[inside], result[inside], 5) > psnr(truth[inside], y, 5) + 6


@pytest.mark.slow
def test_the_strength_is_the_one_that_the_estimate_s_own_gradient_asks_for():
    operator, _, y = problem("circular", 32)
    result = last(admm_tv(operator, y, noise=0.3, steps=200, tolerance=0))
    lengths = torch.linalg.vector_norm(gradient(result.estimate, 2), dim=0)
    assert result.strength == pytest.approx(0.35 * 0.09 / float(lengths.mean()), rel=1e-3)


@pytest.mark.slow
def test_a_start_at_the_end_stays_there_and_is_not_written_to():
    operator, _, y = problem("unknown")
    end = last(admm_tv(operator, y, strength=0.1, steps=700, tolerance=0)).estimate
    end_before, y_before = end.clone(), y.clone()
    again = last(admm_tv(operator, y, strength=0.1, start=end, steps=300, tolerance=0)).estimate
    assert torch.equal(end, end_before) and torch.equal(y, y_before)
    assert objective(operator, y, again, 0.1) < objective(operator, y, end, 0.1) * (1 + 1e-5)


@pytest.mark.slow
def test_volumes_and_lines_are_restored_too():
    for shape in ((40,), (10, 11, 12)):
        truth = torch.zeros(shape, dtype=torch.double)
        truth[tuple(slice(n // 4, n // 2) for n in shape)] = 4
        operator = Convolution(torch.full((3,) * len(shape), 3.0 ** -len(shape), dtype=torch.double), shape)
        y = operator.forward(truth) + 0.05 * random(*shape)
        assert psnr(truth, last(admm_tv(operator, y, noise=0.05)).estimate) > psnr(truth, y) + 3


def test_odd_requests_are_refused():
    operator, _, y = problem("circular")
    for how in ({}, {"noise": 0.3, "strength": 0.1}):
        with pytest.raises(ShapeError, match=r"noise is .* and strength .*, but exactly one of them was needed"):
            last(admm_tv(operator, y, **how))
    with pytest.raises(ShapeError, match=r"split: .* is not a selection of a circular convolution"):
        last(admm_tv(Convolution(taps(), (12, 12), "zero"), y, noise=0.3))
    with pytest.raises(NonFinite, match="144 of 144 observed samples are NaN or infinite"):
        last(admm_tv(operator, y * float("nan"), noise=0.3))


@pytest.mark.parametrize("shape", [(48, 48), (16, 24, 24)])
@pytest.mark.parametrize("noise", [60.0, 250.0])
def test_strong_noise_does_not_leave_a_constant(shape, noise):
    truth = torch.zeros(shape, dtype=torch.double)
    truth[(slice(4, 12), *[slice(6, 18)] * (len(shape) - 1))] = 200
    blur = Convolution(torch.full((3,) * len(shape), 3.0 ** -len(shape)), shape)
    y = blur.forward(truth) + noise * random(*shape, seed=1)
    result = last(admm_tv(blur, y, noise=noise, steps=60)).estimate
    constant = (truth - truth.mean()).norm()
    assert (result - truth).norm() < (0.6 if noise < 100 else 0.97) * constant


def test_the_observed_slope_is_a_ramp_s_own_with_any_noise_and_nothing_without():
    ramp = 3 * torch.arange(64.0, dtype=torch.double).expand(64, 64)
    ones, noise = torch.ones(64, 64, dtype=torch.double), 20 * random(64, 64, seed=2)
    slopes = observed_slope(torch.stack([ramp, ramp + noise, noise]), ones, 20.0, 2).flatten()
    assert 2.5 < slopes[1] < 3.1
    assert slopes[2] < 0.6
    hidden = ones.clone()
    hidden[10:20, 30:40] = 0
    assert float(observed_slope(ramp * hidden, hidden, 0.0, 2)) == pytest.approx(3)
