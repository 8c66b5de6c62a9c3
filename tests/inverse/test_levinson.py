"""Levinson's recursion against scipy, and reflection coefficients against roots."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import solve_toeplitz
from torch.testing import assert_close

from cases.operators import random
from unconv.errors import DtypeError, NonFinite, ShapeError
from unconv.inverse.solvers.prediction import autocorrelate
from unconv.inverse.solvers.toeplitz import from_reflection, levinson, minimum_phase, minimum_phase_of, reflection_of


def lags(*shape, n=12, seed=1, dtype=torch.double):
    """Autocorrelations of random samples: (*shape, n)."""
    spectrum = torch.fft.fft(random(*shape, 20, seed=seed, dtype=dtype), 64)
    result = torch.fft.ifft(spectrum.abs().square())[..., :n].resolve_conj()
    return result if dtype.is_complex else result.real.contiguous()


@pytest.mark.parametrize("dtype", [torch.double, torch.cdouble])
def test_levinson_is_scipys_solve_toeplitz(dtype):
    r, right = lags(3, dtype=dtype), random(3, 12, seed=2, dtype=dtype)
    result = levinson(r, right, prewhitening=0.01).solution
    for column, b, x in zip(r.numpy(), right.numpy(), result.numpy(), strict=True):
        column = np.concatenate([column[:1] * 1.01, column[1:]])
        assert_close(x, solve_toeplitz(column, b), atol=1e-12, rtol=1e-12)


def test_several_right_sides_of_one_system_cost_one_recursion():
    r, right = lags(2), random(2, 5, 12, seed=3)
    result = levinson(r[:, None], right)
    assert result.solution.shape == (2, 5, 12) and result.reflection.shape == (2, 1, 11)
    assert_close(result.solution[1, 4], levinson(r[1], right[1, 4]).solution)


def test_levinson_in_single_precision_is_near_that_in_double():
    r, right = lags(3), random(3, 12, seed=2)
    result = levinson(r.float(), right.float(), prewhitening=0.01).solution
    assert result.dtype == torch.float32
    assert_close(result.double(), levinson(r, right, prewhitening=0.01).solution, atol=1e-4, rtol=1e-4)


def test_the_prediction_error_filter_leaves_its_error_and_nothing_else():
    r = lags()
    result = levinson(r)
    matrix = r[(torch.arange(12)[:, None] - torch.arange(12)).abs()]
    expected = torch.zeros(12, dtype=torch.double)
    expected[0] = result.error[-1]
    assert_close(matrix @ result.solution, expected, atol=1e-11, rtol=0)
    assert_close(result.error[1:], result.error[:-1] * (1 - result.reflection.square()))
    # The product of the errors is the matrix's determinant.
    assert_close(result.error.log().sum(), torch.logdet(matrix))


def test_levinson_records_gradients():
    r, right = lags().requires_grad_(), random(12, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: levinson(a, b).solution, (r, right))


@pytest.mark.parametrize("dtype", [torch.double, torch.cdouble])
def test_step_up_and_step_down_are_inverse(dtype):
    a = levinson(lags(4, dtype=dtype))
    assert_close(reflection_of(a.solution), a.reflection)
    assert_close(from_reflection(a.reflection), a.solution)
    free = random(4, 6, seed=5, dtype=dtype)  # magnitudes above 1 too
    assert_close(reflection_of(3 * from_reflection(free)), free)
    assert from_reflection(torch.zeros(2, 0)).shape == (2, 1)


@pytest.mark.parametrize("dtype", [torch.double, torch.cdouble])
def test_a_filter_is_minimum_phase_exactly_where_its_roots_are_inside_the_circle(dtype):
    filters = random(200, 4, seed=7, dtype=dtype)
    filters[:, 0] += 1.5
    expected = [bool((np.abs(np.roots(each)) < 1).all()) for each in filters.numpy()]
    assert 20 < sum(expected) < 180
    assert minimum_phase(filters).tolist() == expected


def test_filters_with_a_zero_on_the_circle_or_in_front_are_not_minimum_phase():
    assert minimum_phase(torch.tensor([[1.0, 0.0, 1.0], [1.0, -2.0, 1.0], [0.0, 1.0, 0.5]])).tolist() == [False] * 3
    assert bool(minimum_phase(torch.tensor([2.0])))


def test_the_minimum_phase_wavelet_has_the_same_spectrum_and_its_energy_first():
    wavelets = random(3, 9, seed=4)
    result = minimum_phase_of(wavelets)
    assert minimum_phase(result).all() and (result[:, 0] > 0).all()
    assert_close(autocorrelate(result, 9), autocorrelate(wavelets, 9), atol=1e-9, rtol=1e-9)
    assert (result.square().cumsum(1) >= wavelets.square().cumsum(1) - 1e-9).all()
    assert_close(minimum_phase_of(autocorrelation=autocorrelate(wavelets, 9)), result, atol=1e-9, rtol=1e-9)
    assert_close(minimum_phase_of(result), result, atol=1e-9, rtol=1e-9)
    assert_close(minimum_phase_of(torch.tensor([-0.5, 1.0]).double()), torch.tensor([1.0, -0.5]).double())


def test_refusals_of_levinson():
    with pytest.raises(ShapeError, match=r"trace 1: the prediction error's power at order 1 is 0, .* Add prewhitening"):
        levinson(torch.tensor([[1.0, 0.5], [1.0, 1.0]]))
    with pytest.raises(ShapeError, match=r"order 1 is -3, but more than zero"):
        levinson(torch.tensor([1.0, 2.0]))
    with pytest.raises(ShapeError, match=r"trace 0: lag 0 is 0, .* Leave silent traces out"):
        levinson(torch.zeros(4), torch.ones(4))
    with pytest.raises(ShapeError, match=r"levinson: right: the tensor is \(3,\), but \(\.\.\., 4\)"):
        levinson(torch.eye(4)[0], torch.ones(3))
    with pytest.raises(ShapeError, match="prewhitening is -1"):
        levinson(torch.eye(4)[0], prewhitening=-1)
    with pytest.raises(NonFinite, match="NaN or infinite"):
        levinson(torch.tensor([1.0, torch.nan]))
    with pytest.raises(DtypeError, match="floating-point or complex"):
        levinson(torch.tensor([1, 0]))
    with pytest.raises(ShapeError, match=r"got \(\)"):
        levinson(torch.tensor(1.0))


def test_refusals_of_reflections_and_minimum_phase():
    with pytest.raises(ShapeError, match="magnitude 1 came, but another"):
        reflection_of(torch.tensor([1.0, 0.0, 1.0]))
    with pytest.raises(ShapeError, match="begins with zero"):
        reflection_of(torch.tensor([0.0, 1.0]))
    with pytest.raises(ShapeError, match="got one number"):
        from_reflection(torch.tensor(0.5))
    with pytest.raises(ShapeError, match="neither came, but either wavelet or autocorrelation"):
        minimum_phase_of()
    with pytest.raises(ShapeError, match="power spectrum is zero or falls below zero"):
        minimum_phase_of(autocorrelation=torch.tensor([1.0, 2.0]))
