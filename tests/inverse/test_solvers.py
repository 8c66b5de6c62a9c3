"""Solvers against dense linear algebra, their own optimality conditions, and what they promise of batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from cases.operators import random
from cases.solvers import SOLVERS, picture
from oracles import inverse as oracle
from unconv.errors import NonFinite, ShapeError
from unconv.inverse import Convolution, Iterate, Mask, Stack, last
from unconv.inverse.metrics import isnr
from unconv.inverse.priors.penalties import L1, Box, Positive
from unconv.inverse.solvers.cgls import cgls
from unconv.inverse.solvers.fista import fista, lipschitz
from unconv.inverse.solvers.problems import admit
from unconv.inverse.solvers.tikhonov import tikhonov
from unconv.inverse.solvers.wiener import wiener

LENGTHS = {1: (12,), 2: (6, 7), 3: (3, 4, 5)}
KERNELS = {1: (3,), 2: (3, 2), 3: (1, 2, 3)}


def blur(axes=2, boundary="circular", seed=5):
    return Convolution(random(*KERNELS[axes], seed=seed).abs() + 0.1, LENGTHS[axes], boundary)


def dense(operator):
    return oracle.matrix(lambda x: operator.forward(torch.from_numpy(x)), operator.shape_in)


# Wiener


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("numbers", ["real", "complex"])
def test_wiener_is_the_formula(axes, numbers):
    operator, y = blur(axes), random(*LENGTHS[axes], seed=1, dtype=torch.double if numbers == "real" else torch.cdouble)
    result = last(wiener(operator, y, nsr=0.1)).estimate
    assert_close(result, torch.from_numpy(oracle.wiener(y.numpy(), operator.kernel.numpy(), 0.1)))


def test_wiener_takes_spectra_on_the_whole_grid_and_on_half_of_it():
    operator, y = blur(), random(6, 7, seed=1)
    signal = torch.fft.fft2(random(6, 7, seed=2)).abs() ** 2 / 42 + 0.1
    noise = torch.fft.fft2(random(6, 7, seed=3)).abs() ** 2 / 42
    expected = oracle.wiener(y.numpy(), operator.kernel.numpy(), (noise / signal).numpy())
    for columns in (7, 4):
        result = last(wiener(operator, y, noise=noise[:, :columns], signal=signal[:, :columns])).estimate
        assert_close(result, torch.from_numpy(expected))
    white = last(wiener(operator, y, noise=0.5, signal=signal)).estimate
    assert_close(white, torch.from_numpy(oracle.wiener(y.numpy(), operator.kernel.numpy(), (0.25 / signal).numpy())))


def test_wiener_with_the_true_spectra_beats_every_other_ratio():
    truth, signal = picture()
    operator = Convolution(torch.ones(5, 5, dtype=torch.double) / 25, truth.shape)
    gains = {"true": [], **{10 ** (k / 4): [] for k in range(-16, 5)}}
    for seed in range(4):
        truth = picture(seed=seed)[0]
        y = operator.forward(truth) + 0.3 * random(64, 64, seed=100 + seed)
        for ratio, gained in gains.items():
            how = {"noise": 0.3, "signal": signal} if ratio == "true" else {"nsr": ratio}
            gained.append(isnr(truth, y, last(wiener(operator, y, **how)).estimate))
    best = max(np.mean(gained) for ratio, gained in gains.items() if ratio != "true")
    assert np.mean(gains["true"]) > best + 0.2


def test_wiener_fits_the_spectrum_it_is_not_told():
    truth, signal = picture(128, seed=3)
    operator = Convolution(torch.ones(5, 5, dtype=torch.double) / 25, truth.shape)
    y = operator.forward(truth + 100) + 0.3 * random(128, 128, seed=9)
    known = isnr(truth + 100, y, last(wiener(operator, y, noise=0.3, signal=signal)).estimate)
    for options, near in (({"noise": 0.3}, 0.1), ({}, 0.5)):
        result = last(wiener(operator, y, **options))
        assert result.strength == pytest.approx(0.09, rel=near)
        assert isnr(truth + 100, y, result.estimate) > known - 0.1
        assert_close(result.estimate.mean(), y.mean())


def test_wiener_is_linear_where_its_ratio_is_given():
    operator, a, b = blur(), random(6, 7, seed=1), random(6, 7, seed=2)

    def restored(y):
        return last(wiener(operator, y, noise=0.2, signal=torch.ones(6, 7))).estimate

    assert_close(restored(2 * a - b), 2 * restored(a) - restored(b))


def test_wiener_records_gradients_and_leaves_what_was_observed():
    operator, y = blur(), random(6, 7, seed=1)
    copy, tracked = y.clone(), y.clone().requires_grad_()
    silent, taped = last(wiener(operator, y, nsr=0.1)).estimate, last(wiener(operator, tracked, nsr=0.1)).estimate
    assert_close(silent, taped.detach())
    (result,) = torch.autograd.grad(taped.square().sum(), tracked)
    assert_close((result * y).sum(), 2 * silent.square().sum())
    assert torch.equal(y, copy)


def test_wiener_leaves_out_frequencies_that_neither_kernel_nor_noise_has():
    operator = Convolution(torch.tensor([1.0, -1.0]), (8,))
    result = last(wiener(operator, operator.forward(random(8).float()), nsr=0.0)).estimate
    assert torch.isfinite(result).all() and abs(result.mean()) < 1e-5


# Conjugate gradients


@pytest.mark.parametrize("boundary", ["circular", "zero", "reflect", "unknown"])
def test_cgls_is_lstsq(boundary):
    operator = blur(2, boundary)
    y = random(*operator.shape_out, seed=1)
    result = last(cgls(operator, y, tolerance=1e-14, steps=400))
    expected = torch.linalg.lstsq(torch.from_numpy(dense(operator)), y.reshape(-1, 1), driver="gelsd").solution
    assert result.converged
    assert_close(result.estimate.reshape(-1, 1), expected, atol=1e-8, rtol=1e-8)


def test_damped_cgls_is_the_damped_solution_from_any_start():
    operator, y = blur(2, "zero"), random(6, 7, seed=1)
    a = torch.from_numpy(dense(operator))
    expected = torch.linalg.solve(a.T @ a + 0.3**2 * torch.eye(42, dtype=torch.double), a.T @ y.reshape(-1)).reshape(6, 7)
    for start in (None, random(6, 7, seed=2)):
        assert_close(
            last(cgls(operator, y, damping=0.3, start=start, steps=300, tolerance=1e-13)).estimate,
            expected,
            atol=1e-9,
            rtol=1e-9,
        )


def test_cgls_stops_at_the_discrepancy_and_not_before():
    truth = picture(32)[0]
    operator = Convolution(torch.ones(3, 3, dtype=torch.double) / 9, truth.shape)
    y = operator.forward(truth) + 0.1 * random(32, 32, seed=1)
    iterates = list(cgls(operator, y, stop="discrepancy", noise=0.1))
    sizes = [float((operator.forward(it.estimate) - y).norm()) for it in iterates]
    assert sizes[-1] <= 1.01 * 0.1 * 32 < sizes[-2]
    assert [it.converged for it in iterates] == [False] * (len(iterates) - 1) + [True]


def test_cgls_stops_by_cross_validation_near_the_best_step():
    truth = picture(64)[0]
    operator = Convolution(torch.ones(5, 5, dtype=torch.double) / 25, truth.shape)
    y = operator.forward(truth) + 0.3 * random(64, 64, seed=1)
    result = last(cgls(operator, y, stop="gcv"))
    gains = [isnr(truth, y, it.estimate) for it in cgls(operator, y)]
    assert result.converged
    assert isnr(truth, y, result.estimate) > max(gains) - 0.3 > gains[-1] + 3


def test_cgls_of_nothing_is_nothing_at_once():
    result = last(cgls(blur(), torch.zeros(6, 7)))
    assert result.converged and result.steps == 0 and not result.estimate.any()


# Tikhonov


@pytest.mark.parametrize("boundary", ["circular", "zero", "reflect", "unknown"])
@pytest.mark.parametrize("penalty", ["identity", "gradient", "laplacian"])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_tikhonov_is_the_dense_solution(boundary, penalty, axes):
    operator = blur(axes, boundary)
    y = random(*operator.shape_out, seed=1)
    a, result = dense(operator), last(tikhonov(operator, y, strength=0.2, penalty=penalty))
    d = oracle.differences(operator.shape_in, goes_round=boundary == "circular")
    rough = {"identity": np.eye(d.shape[1]), "gradient": d.T @ d, "laplacian": d.T @ d @ d.T @ d}[penalty]
    expected = np.linalg.solve(a.T @ a + 0.2 * rough, a.T @ y.numpy().ravel())
    assert_close(result.estimate.ravel(), torch.from_numpy(expected), atol=1e-5, rtol=1e-5)
    assert result.strength == 0.2


def test_cross_validation_finds_the_minimum_that_dense_matrices_find():
    truth = picture(10)[0]
    operator = Convolution(torch.ones(3, 3, dtype=torch.double) / 9, truth.shape)
    y = operator.forward(truth) + 0.3 * random(10, 10, seed=1)
    a, d = dense(operator), oracle.differences(truth.shape, goes_round=True)
    result = last(tikhonov(operator, y, penalty="gradient")).strength
    tried = result * np.geomspace(0.01, 100, 21)
    scores = [oracle.cross_validation(a, d.T @ d, y.numpy().ravel(), strength) for strength in tried]
    assert np.argmin(scores) == 10 and 1e-6 < result < 1e3


@pytest.mark.parametrize("boundary", ["circular", "unknown"])
def test_the_discrepancy_is_met(boundary):
    truth = picture(32)[0]
    operator = Convolution(torch.ones(3, 3, dtype=torch.double) / 9, truth.shape, boundary)
    y = operator.forward(truth) + 0.2 * random(*operator.shape_out, seed=1)
    result = last(tikhonov(operator, y, strength="discrepancy", noise=0.2, penalty="gradient"))
    misfit = float((operator.forward(result.estimate) - y).square().mean().sqrt())
    assert result.converged and misfit == pytest.approx(0.2, rel=0.01)


def test_a_discrepancy_that_no_strength_meets_is_said():
    operator, y = blur(), random(6, 7)
    assert not last(tikhonov(operator, y, strength="discrepancy", noise=100.0)).converged


@pytest.mark.slow
def test_estimated_cross_validation_is_near_the_exact_one():
    truth = picture(32)[0]
    kernel = torch.ones(3, 3, dtype=torch.double) / 9
    exact = Convolution(kernel, truth.shape)
    y = exact.forward(truth) + 0.3 * random(32, 32, seed=1)
    iterated = Mask(torch.ones(32, 32)) @ exact
    expected, result = last(tikhonov(exact, y)), last(tikhonov(iterated, y))
    assert result.strength == pytest.approx(expected.strength, rel=0.5)
    assert isnr(truth, y, result.estimate) > isnr(truth, y, expected.estimate) - 0.3


# FISTA and penalties


@pytest.mark.parametrize("numbers", [torch.double, torch.cdouble])
@pytest.mark.parametrize("restart", [True, False])
def test_fista_meets_the_conditions_of_the_l1_minimum(numbers, restart):
    operator, weight = blur(1, "zero"), 0.3
    truth = torch.zeros(12, dtype=numbers)
    truth[[2, 7]] = torch.tensor([3, -2], dtype=numbers) * (1 if numbers == torch.double else 1j)
    y = operator.forward(truth)
    result = last(fista(operator, y, L1(weight), steps=3000, tolerance=1e-10))
    slope = operator.adjoint(y - operator.forward(result.estimate))
    on = result.estimate.abs() > 1e-6
    assert result.converged and 0 < on.sum() < 12
    assert_close(slope[on], weight * result.estimate[on] / result.estimate[on].abs(), atol=1e-6, rtol=0)
    assert slope[~on].abs().max() <= weight + 1e-6


@pytest.mark.slow
def test_restart_needs_fewer_steps():
    operator, y = blur(2, "zero"), random(6, 7, seed=1)
    steps = [last(fista(operator, y, L1(0.01), steps=2000, tolerance=1e-7, restart=on)).steps for on in (True, False)]
    assert steps[0] < 0.7 * steps[1]


def test_the_objective_ends_lower_than_anything_near():
    operator, y, penalty = blur(2, "unknown"), random(6, 6, seed=1)[:4], L1(0.2, positive=True)

    def objective(x):
        return float((operator.forward(x) - y).square().sum() / 2 + penalty.value(x))

    result = last(fista(operator, y, penalty, steps=2000, tolerance=1e-9)).estimate
    assert result.min() >= 0
    assert all(objective((result + 0.01 * random(6, 7, seed=s)).clamp(min=0)) > objective(result) for s in range(20))


@pytest.mark.slow
def test_positivity_gives_the_non_negative_least_squares():
    optimize = pytest.importorskip("scipy.optimize")
    operator, y = blur(2, "zero"), random(6, 7, seed=1)
    expected, _ = optimize.nnls(dense(operator), y.numpy().ravel())
    result = last(fista(operator, y, Positive(), steps=5000, tolerance=1e-11)).estimate
    assert_close(result.ravel(), torch.from_numpy(expected), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("penalty", [L1(0.7), L1(0.7, positive=True), Box(-0.2, 0.5), Positive()])
def test_a_proximal_map_is_the_least_of_its_cost(penalty):
    x, line = random(50, seed=1), torch.linspace(-4, 4, 801, dtype=torch.double)
    result, values = penalty.prox(x, 0.5), torch.stack([penalty.value(z) for z in line])
    for before, after in zip(x, result, strict=True):
        costs = (line - before).square() / 2 + 0.5 * values
        assert abs(float(line[costs.argmin()] - after)) < 0.011
    assert torch.isfinite(penalty.value(result))


@pytest.mark.parametrize("name", ["circular", "zero", "reflect", "unknown", "mask", "stack"])
def test_the_lipschitz_constant_is_not_below_the_largest_singular_value(name):
    operator = {"mask": Mask(random(6, 7) > 0) @ blur(), "stack": Stack([blur(), blur(seed=6)])}.get(name) or blur(2, name)
    largest = np.linalg.norm(dense(operator), 2) ** 2
    assert largest <= lipschitz(operator, random(1)) * (1 + 1e-9)
    assert name != "circular" or lipschitz(operator, random(1)) == pytest.approx(largest)


# All of them


@pytest.mark.slow
@pytest.mark.parametrize("name", SOLVERS)
def test_a_batch_is_solved_one_by_one(name):
    operator = Convolution(torch.ones(3, 3, dtype=torch.double) / 9, (16, 16))
    truths = torch.stack([picture(16, seed=s)[0] * (1 + s) for s in range(3)])
    y = (operator.forward(truths) + 0.3 * random(3, 16, 16, seed=7))[None]
    together = last(SOLVERS[name](operator, y))
    for k in range(3):
        assert_close(together.estimate[0, k], last(SOLVERS[name](operator, y[0, k])).estimate, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", SOLVERS)
def test_single_precision_stays_single_and_near(name):
    operator = Convolution(torch.ones(3, 3, dtype=torch.double) / 9, (16, 16))
    y = operator.forward(picture(16)[0]) + 0.3 * random(16, 16, seed=7)
    single, double = last(SOLVERS[name](operator, y.float())).estimate, last(SOLVERS[name](operator, y)).estimate
    assert single.dtype == torch.float32 and double.dtype == torch.double
    assert (single - double).norm() < 2e-2 * double.norm()


@pytest.mark.parametrize("solver", [wiener, cgls, tikhonov, lambda a, y: fista(a, y, Positive())])
def test_what_does_not_fit_is_refused_at_the_door(solver):
    operator, y = blur(), random(6, 7)
    with pytest.raises(ShapeError, match=r"the tensor is \(7, 6\), but \(..., 6, 7\) was needed"):
        last(solver(operator, y.T))
    y[0, 0] = torch.nan
    with pytest.raises(NonFinite, match=r"1 of 42 observed samples is NaN or infinite.*Mask"):
        last(solver(operator, y))


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda y: wiener(blur(2, "zero"), y), "a circular convolution was needed, .*tikhonov, cgls or fista"),
        (lambda y: wiener(blur(), y, nsr=0.1, noise=0.1), "nsr came with noise or signal"),
        (lambda y: wiener(blur(), y, signal=y[:5]), r"wiener: signal is \(5, 7\), but a number, \(6, 7\) or \(6, 4\)"),
        (lambda y: wiener(blur(), y, nsr=y.expand(2, 6, 7)), r"wiener: nsr is \(2, 6, 7\)"),
        (lambda y: cgls(blur(), y, stop="late"), "stop is 'late'"),
        (lambda y: cgls(blur(), y, stop="discrepancy"), "came without noise.*estimate_noise"),
        (lambda y: cgls(blur(), y, stop="gcv", damping=1.0), "one of them was needed"),
        (lambda y: tikhonov(blur(), y, strength="most"), "strength is 'most'"),
        (lambda y: tikhonov(blur(), y, strength=-1.0), r"strength is -1\.0"),
        (lambda y: tikhonov(blur(), y, strength="discrepancy"), "came without noise"),
        (lambda y: tikhonov(blur(), y, penalty="gradiant"), "penalty is 'gradiant'.*Nearest: gradient"),
        (lambda y: tikhonov(blur(), y, steps=0), "steps is 0"),
        (lambda y: fista(blur(), y, Positive(), step=-1.0), r"the step is -1\.0"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_words(run, message):
    with pytest.raises(ShapeError, match=message):
        last(run(random(6, 7)))


def test_the_residual_is_that_of_the_operator():
    operator, y = blur(2, "zero"), random(6, 7)
    result = last(tikhonov(operator, y, strength=0.1))
    assert isinstance(result, Iterate)
    assert result.residual == pytest.approx(float((operator.forward(result.estimate) - y).norm() / y.norm()))


def test_finite_samples_whose_sum_is_not_are_taken():
    operator, huge = blur(), torch.full((6, 7), 3e38)
    admit("solver", operator, huge)
    huge[0, :2] = torch.tensor([torch.inf, -torch.inf])
    with pytest.raises(NonFinite, match="2 of 42"):
        admit("solver", operator, huge)
