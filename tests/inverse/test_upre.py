"""Tikhonov and Wiener where samples are missing, and the strength that UPRE chooses, against dense linear algebra."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from cases.operators import random
from cases.solvers import picture
from oracles import inverse as oracle
from unconv.errors import DtypeError, ShapeError
from unconv.inverse import Convolution, Downsample, Mask, last
from unconv.inverse.metrics import isnr
from unconv.inverse.operators.differences import laplacian
from unconv.inverse.operators.spectral import Grid
from unconv.inverse.operators.split import split
from unconv.inverse.solvers.problems import rademacher
from unconv.inverse.solvers.tikhonov import tikhonov
from unconv.inverse.solvers.upre import predictive_risk, upre
from unconv.inverse.solvers.wiener import upre_strength, wiener

LENGTHS = {1: (24,), 2: (8, 9), 3: (4, 5, 6)}
KERNELS = {1: (5,), 2: (3, 2), 3: (2, 2, 3)}


def blur(axes, boundary):
    kernel = random(*KERNELS[axes], seed=5).abs() + 0.1
    return Convolution(kernel / kernel.sum(), LENGTHS[axes], boundary)


def missing(axes):
    """Operators that miss samples, by name."""
    circular = blur(axes, "circular")
    seen = random(*LENGTHS[axes], seed=4) > -1
    return {
        "unknown boundary": blur(axes, "unknown"),
        "mask": Mask(seen) @ circular,
        "coarser grid": Downsample(LENGTHS[axes], 2) @ circular,
    }


def dense(operator):
    return oracle.matrix(lambda x: operator.forward(torch.from_numpy(x)), operator.shape_in)


def seen_through(operator, seed):
    """Noise that the operator could have made: zero where a mask hides the sample."""
    return operator.forward(operator.adjoint(random(*operator.shape_out, seed=seed)))


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("name", ["unknown boundary", "mask", "coarser grid"])
@pytest.mark.parametrize("penalty", ["identity", "gradient", "laplacian"])
def test_tikhonov_with_samples_missing_is_the_dense_solution_with_differences_that_go_round(axes, name, penalty):
    operator = missing(axes)[name]
    y = seen_through(operator, 1)
    result = last(tikhonov(operator, y, strength=0.2, penalty=penalty, differences="circular", tolerance=1e-12))
    d = oracle.differences(operator.shape_in, goes_round=True)
    rough = {"identity": np.eye(d.shape[1]), "gradient": d.T @ d, "laplacian": d.T @ d @ d.T @ d}[penalty]
    expected = oracle.quadratic(dense(operator), y.numpy().ravel(), 0.2 * rough)
    assert_close(result.estimate.ravel(), torch.from_numpy(expected), atol=1e-7, rtol=1e-7)
    assert result.strength == 0.2 and result.converged


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("penalty", ["identity", "gradient", "laplacian"])
@pytest.mark.parametrize("strength", [0.05, "gcv", "discrepancy"])
def test_where_nothing_is_missing_the_fourier_domain_gives_the_closed_form(axes, penalty, strength):
    operator = blur(axes, "circular")
    y = operator.forward(random(*LENGTHS[axes])) + 0.1 * random(*LENGTHS[axes], seed=1)
    unmasked = Mask(torch.ones(LENGTHS[axes])) @ operator
    result = last(tikhonov(unmasked, y, strength=strength, noise=0.1, penalty=penalty, differences="circular"))
    expected = last(tikhonov(operator, y, strength=result.strength, penalty=penalty))
    assert_close(result.estimate, expected.estimate, atol=1e-7, rtol=1e-7)


def test_the_discrepancy_counts_the_samples_that_a_mask_leaves():
    truth = picture(32)[0]
    operator = Mask(random(32, 32, seed=3) > 0) @ Convolution(torch.ones(3, 3, dtype=torch.double) / 9, (32, 32))
    y = operator.forward(truth) + 0.2 * operator.outer.forward(random(32, 32, seed=1))
    result = last(tikhonov(operator, y, strength="discrepancy", noise=0.2, penalty="gradient", differences="circular"))
    residual = (operator.forward(result.estimate) - y)[operator.outer.observed]
    assert result.converged and float(residual.square().mean().sqrt()) == pytest.approx(0.2, rel=0.011)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("name", ["unknown boundary", "mask", "coarser grid"])
def test_wiener_with_samples_missing_is_the_dense_solution(axes, name):
    operator = missing(axes)[name]
    y, squares = seen_through(operator, 1), oracle.square_frequency(operator.shape_in)
    ratio = 0.01 + squares
    result = last(wiener(operator, y, nsr=torch.from_numpy(ratio), tolerance=1e-12, steps=500))
    expected = oracle.quadratic(dense(operator), y.numpy().ravel(), oracle.filter_matrix(ratio, operator.shape_in))
    assert_close(result.estimate.ravel(), torch.from_numpy(expected), atol=1e-7, rtol=1e-7)
    by_spectrum = last(wiener(operator, y, noise=0.1, signal=torch.from_numpy(0.01 / ratio), tolerance=1e-12, steps=500))
    assert_close(by_spectrum.estimate, result.estimate, atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_wiener_of_a_strength_is_wiener_of_that_ratio(axes):
    operator, y = blur(axes, "circular"), random(*LENGTHS[axes], seed=1)
    ratio = 0.3 * torch.from_numpy(oracle.square_frequency(LENGTHS[axes]))
    result = last(wiener(operator, y, strength=0.3))
    assert_close(result.estimate, last(wiener(operator, y, nsr=ratio)).estimate, atol=1e-7, rtol=1e-7)
    assert result.strength == pytest.approx(0.3)


def test_frequencies_without_signal_stay_empty_where_samples_are_missing():
    operator = blur(1, "unknown")
    signal = torch.ones(24, dtype=torch.double)
    signal[5] = signal[19] = 0
    result = last(wiener(operator, random(*operator.shape_out), noise=0.1, signal=signal, tolerance=1e-10)).estimate
    assert torch.isfinite(result).all()
    assert float(torch.fft.fft(result)[5].abs()) < 1e-6 * float(torch.fft.fft(result).abs().max())


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("name", ["circular", "unknown boundary", "mask"])
def test_the_predictive_risk_is_that_of_dense_matrices(axes, name):
    operator = {"circular": blur(axes, "circular"), **missing(axes)}[name]
    y, squares = seen_through(operator, 1), Grid(split(operator)[0], random(*operator.shape_out)).square_frequency()
    risk = predictive_risk(operator, y, noise=0.3, penalty=squares)
    a, z = dense(operator), rademacher(y, operator.shape_out).numpy().ravel()
    rough = oracle.filter_matrix(oracle.square_frequency(operator.shape_in), operator.shape_in)
    for strength in (0.1, 1.0, 10.0):
        fitted, influenced = (a @ oracle.quadratic(a, v, strength * rough) for v in (y.numpy().ravel(), z))
        expected = np.sum((fitted - y.numpy().ravel()) ** 2) + 2 * 0.3**2 * influenced @ z
        assert risk(strength) == pytest.approx(expected, rel=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(256,), (40, 44), (12, 14, 13)])
@pytest.mark.parametrize("boundary", ["circular", "unknown"])
@pytest.mark.parametrize("first", [1e-2, 1e2])
def test_upre_ends_where_brute_force_finds_the_least_risk(shape, boundary, first):
    kernel = torch.ones((3,) * len(shape), dtype=torch.double) / 3 ** len(shape)
    operator = Convolution(kernel, shape, boundary)
    truth = 10 * random(*shape).cumsum(-1) / shape[-1] ** 0.5
    y = operator.forward(truth) + 0.5 * random(*operator.shape_out, seed=1)
    roughness = laplacian(shape, y)
    result = upre(operator, y, noise=0.5, penalty=roughness, first=first)
    risk = predictive_risk(operator, y, noise=0.5, penalty=roughness)
    tried = np.geomspace(1e-4, 1e4, 65)
    best = tried[np.argmin([risk(strength) for strength in tried])]
    assert best / 10**0.25 < result < best * 10**0.25


@pytest.mark.slow
def test_the_strength_of_upre_restores_nearly_as_well_as_the_best_one():
    truth = picture(64)[0]
    operator = Convolution(torch.ones(5, 5, dtype=torch.double) / 25, truth.shape, "unknown")
    y = operator.forward(truth) + 0.3 * random(*operator.shape_out, seed=1)
    inside, chosen = (slice(2, -2),) * 2, last(wiener(operator, y, noise=0.3))
    gains = {
        s: isnr(truth[inside], y, last(wiener(operator, y, strength=s)).estimate[inside]) for s in np.geomspace(1e-3, 10, 17)
    }
    assert isnr(truth[inside], y, chosen.estimate[inside]) > max(gains.values()) - 0.3
    assert chosen.strength == pytest.approx(upre_strength(operator, y, 0.3))


@pytest.mark.slow
def test_wiener_estimates_the_noise_where_it_is_not_told_and_a_mask_hides_samples():
    truth = 100 + picture(96)[0]
    seen = torch.ones(96, 96)
    seen[10:30, 50:90] = 0
    operator = Mask(seen) @ Convolution(torch.ones(5, 5, dtype=torch.double) / 25, truth.shape)
    y = operator.forward(truth) + 0.3 * seen * random(96, 96, seed=1)
    known, estimated = (last(wiener(operator, y, noise=noise)) for noise in (0.3, None))
    assert estimated.strength == pytest.approx(known.strength, rel=0.3)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda a, y: wiener(a, y, strength="whittle"), "needs the spectrum of all samples.*Use 'upre'"),
        (lambda a, y: wiener(a, y, strength="most"), "strength is 'most', but 'whittle', 'upre' or a number"),
        (lambda a, y: wiener(a, y, strength=0.1, nsr=0.1), "strength came with nsr or signal"),
        (lambda a, y: wiener(a, y, noise=0.0), "UPRE needs noise as one positive standard deviation"),
        (lambda a, y: wiener(a, y, noise=torch.ones(8, 9)), "UPRE needs noise as one positive standard deviation"),
        (lambda a, y: tikhonov(a, y, differences="round"), "differences is 'round', but 'circular', 'edge' or None"),
        (
            lambda a, y: tikhonov(blur(2, "zero"), random(8, 9), differences="circular"),
            "is not a selection of a circular convolution",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_words(run, message):
    operator = blur(2, "unknown")
    with pytest.raises(ShapeError, match=message):
        last(run(operator, random(*operator.shape_out)))


@pytest.mark.parametrize("solver", [lambda a, y: wiener(a, y, nsr=0.1), lambda a, y: tikhonov(a, y, differences="circular")])
def test_complex_samples_are_refused_where_some_are_missing(solver):
    operator = blur(2, "unknown")
    with pytest.raises(DtypeError, match="samples or kernel are complex"):
        last(solver(operator, random(*operator.shape_out, dtype=torch.cdouble)))
