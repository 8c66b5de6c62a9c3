"""Richardson-Lucy: other programs' and plain loops' iterates, its laws, and when it stops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from unconv.errors import DtypeError, NonFinite, ShapeError
from unconv.inverse import Convolution, Crop, Mask, last
from unconv.inverse.solvers.richardson_lucy import curvature, richardson_lucy

BOUNDARIES = ("circular", "zero", "reflect", "unknown")
SHAPE = (24, 21)


def kernel(*size: int) -> torch.Tensor:
    taps = torch.rand(*size, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    return taps / taps.sum()


def counted(boundary: str = "circular", shape=SHAPE, light: float = 50) -> tuple[Convolution, torch.Tensor, torch.Tensor]:
    """(operator, truth, photons): bright points and a block on an even ground."""
    truth = torch.full(shape, light / 10, dtype=torch.double)
    truth[tuple(slice(n // 3, n // 2) for n in shape)] = light
    truth[tuple(n // 5 for n in shape)] = 10 * light
    operator = Convolution(kernel(*[5] * len(shape)), shape, boundary)
    generator = torch.Generator().manual_seed(2)
    return operator, truth, torch.poisson(operator.forward(truth), generator=generator)


def unlikelihood(operator, x: torch.Tensor, y: torch.Tensor) -> float:
    light = operator.forward(x).clamp(min=1e-12)
    return float((light - torch.xlogy(y, light)).sum())


def by_matrix(operator, y, mask, background, steps) -> np.ndarray:
    """The iteration as the papers write it, with the operator as a matrix of which each column was computed alone."""
    n_in, n_out = int(np.prod(operator.shape_in)), int(np.prod(operator.shape_out))
    columns = operator.forward(torch.eye(n_in, dtype=torch.double).reshape(n_in, *operator.shape_in))
    a = columns.reshape(n_in, n_out).T.numpy()
    m, y = mask.double().flatten().numpy(), y.flatten().numpy()
    sensitivity = a.T @ m
    x = np.full(n_in, (m * (y - background)).sum() / sensitivity.sum())
    for _ in range(steps):
        ratio = np.where(m > 0, y, 0) / (a @ x + background)
        corrected = x * (a.T @ ratio) / np.maximum(sensitivity, 1e-300)
        x = np.where(sensitivity < 1e-2 * sensitivity.max(), x, corrected)
    return x.reshape(operator.shape_in)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("background", [0.0, 3.0])
def test_iterates_are_those_of_the_formula_in_matrices(boundary, masked, background):
    operator, _, y = counted(boundary, (12, 11))
    y = y + background
    mask = torch.ones(operator.shape_out, dtype=torch.bool)
    mask[3:6, 2:8] = not masked
    argument = mask if masked else None
    restored = last(richardson_lucy(operator, y, steps=7, accelerate=False, mask=argument, background=background))
    assert_close(restored.estimate, torch.from_numpy(by_matrix(operator, y, mask, background, 7)), rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_iterates_are_those_of_skimage():
    # skimage has no sensitivity; with a dark margin it needs none.
    restoration = pytest.importorskip("skimage.restoration")
    operator, _, photons = counted("zero", (32, 30))
    y = torch.zeros(32, 30, dtype=torch.double)
    y[6:-6, 6:-6] = photons[6:-6, 6:-6]
    theirs = restoration.richardson_lucy(y.numpy(), operator.kernel.numpy(), num_iter=12, clip=False)
    start = torch.full_like(y, 0.5)
    ours = last(richardson_lucy(operator, y, steps=12, accelerate=False, start=start)).estimate
    assert_close(ours, torch.from_numpy(theirs), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_likelihood_never_falls_without_acceleration(boundary):
    operator, _, y = counted(boundary)
    values = [unlikelihood(operator, i.estimate, y) for i in richardson_lucy(operator, y, steps=40, accelerate=False)]
    assert all(after <= before + 1e-9 * abs(before) for before, after in itertools.pairwise(values))


@pytest.mark.slow
@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("shape", [(40,), (24, 21), (10, 9, 11)])
def test_forty_accelerated_steps_are_as_likely_as_a_hundred_plain_ones(boundary, shape):
    operator, _, y = counted(boundary, shape)
    plain = last(richardson_lucy(operator, y, steps=100, accelerate=False)).estimate
    fast = last(richardson_lucy(operator, y, steps=40)).estimate
    assert unlikelihood(operator, fast, y) <= unlikelihood(operator, plain, y)
    assert float(fast.min()) >= 0


@pytest.mark.parametrize("options", [{}, {"accelerate": False}, {"total_variation": 0.05}])
def test_no_sample_is_negative_even_where_counts_are(options):
    operator, _, y = counted("unknown")
    y = (y - 5).float()
    assert float(y.min()) < 0
    for iterate in richardson_lucy(operator, y, steps=30, **options):
        assert float(iterate.estimate.min()) >= 0 and iterate.estimate.dtype == torch.float32
    clipped = last(richardson_lucy(operator, y.clamp(min=0), steps=30, **options)).estimate
    assert torch.equal(iterate.estimate, clipped)


@pytest.mark.parametrize("boundary", ["circular", "zero", "reflect"])
def test_each_plain_step_keeps_the_light(boundary):
    operator, _, y = counted(boundary)
    for iterate in richardson_lucy(operator, y, steps=5, accelerate=False):
        assert_close(operator.forward(iterate.estimate).sum(), y.sum())


def test_restored_scales_with_the_counts():
    operator, _, y = counted("zero")
    for options in ({}, {"total_variation": 0.01}):
        one, many = (last(richardson_lucy(operator, c * y, steps=15, **options)).estimate for c in (1, 1000))
        assert_close(1000 * one, many)


@pytest.mark.slow
def test_a_batch_is_its_pictures_one_by_one():
    operator, _, y = counted("unknown")
    batch = torch.stack([y, y.flip(0) * 20, torch.zeros_like(y)])[:, None]
    for options in ({"steps": 12}, {"steps": 12, "total_variation": 0.01}, {"stop": "discrepancy"}):
        together = last(richardson_lucy(operator, batch, **options)).estimate
        alone = torch.stack([last(richardson_lucy(operator, one, **options)).estimate for one in batch])
        assert_close(together, alone)


@pytest.mark.parametrize("value", [1e9, float("nan"), -1e9])
def test_what_is_masked_has_no_part(value):
    operator, _, y = counted("zero")
    mask = torch.ones(SHAPE, dtype=torch.bool)
    mask[4:9, 5:8] = False
    spoilt = y.where(mask, value)
    options = {"mask": mask, "steps": 20, "stop": "discrepancy"}
    ours, spoilt_ours = (last(richardson_lucy(operator, z, **options)) for z in (y, spoilt))
    assert torch.equal(ours.estimate, spoilt_ours.estimate) and ours.residual == spoilt_ours.residual


def test_a_mask_and_an_operator_with_that_mask_are_one():
    operator, _, y = counted("zero")
    mask = torch.rand(SHAPE, generator=torch.Generator().manual_seed(3)) > 0.3
    ours = last(richardson_lucy(operator, y, steps=10, mask=mask)).estimate
    assert_close(ours, last(richardson_lucy(Mask(mask) @ operator, y * mask, steps=10)).estimate)


def test_a_sample_that_nobody_saw_keeps_its_start():
    operator, _, y = counted("zero")
    mask = torch.ones(SHAPE, dtype=torch.bool)
    mask[:12] = False
    start = torch.rand(SHAPE, dtype=torch.double) + 1
    assert torch.equal(last(richardson_lucy(operator, y, steps=10, mask=mask, start=start)).estimate[:8], start[:8])


@pytest.mark.slow
@pytest.mark.parametrize("accelerate", [True, False])
def test_poisson_discrepancy_stops_where_the_truth_fits(accelerate):
    operator, truth, y = counted("unknown", light=400)
    stopped = last(richardson_lucy(operator, y, steps=500, stop="discrepancy", accelerate=accelerate))
    on = last(richardson_lucy(operator, y, steps=500, accelerate=accelerate))
    light = operator.forward(stopped.estimate)
    assert stopped.converged and 2 * float((torch.xlogy(y, y / light) + light - y).mean()) <= 1
    assert stopped.steps < 100 and not on.converged
    ground = (slice(14, 22), slice(11, 19))
    assert (stopped.estimate - truth)[ground].norm() < 0.8 * (on.estimate - truth)[ground].norm()


def test_gaussian_discrepancy_stops_at_the_standard_deviation():
    operator, truth, _ = counted("zero")
    y = operator.forward(truth) + 7 + torch.randn(SHAPE, generator=torch.Generator().manual_seed(4), dtype=torch.double)
    iterates = list(richardson_lucy(operator, y, background=7.0, stop="discrepancy", noise=1.0, steps=300))
    sizes = [float((operator.forward(i.estimate) + 7 - y).square().mean()) for i in iterates]
    assert iterates[-1].converged and sizes[-1] <= 1 < sizes[-2]


def test_small_steps_end_it_where_a_tolerance_is_given():
    operator, _, y = counted()
    ended = last(richardson_lucy(operator, y, tolerance=1e-2))
    assert ended.converged and ended.steps < 100


def test_total_variation_makes_even_ground_more_even():
    operator, truth, y = counted("unknown")
    rough, smooth = (last(richardson_lucy(operator, y, steps=60, total_variation=w)).estimate for w in (0.0, 0.02))
    assert (smooth - truth).norm() < 0.8 * (rough - truth).norm()


def test_curvature_is_the_slope_of_the_total_variation():
    ramp = 2 * (torch.arange(9.0).double()[:, None] + torch.arange(8.0).double())
    x = (torch.rand(9, 8, dtype=torch.double) + ramp).requires_grad_()
    right, down = torch.diff(x, dim=1, append=x[:, -1:]), torch.diff(x, dim=0, append=x[-1:])
    (right.square() + down.square() + 1e-12).sqrt().sum().backward()
    assert_close(curvature(x.detach(), (-2, -1)), -x.grad, rtol=1e-2, atol=1e-2)


def test_iterates_that_were_kept_do_not_change():
    operator = Crop((6,), (1,), (4,))
    y = torch.tensor([1.0, 2.0, 3.0, 4.0])
    copies = []
    for iterate in richardson_lucy(operator, y, steps=4):
        copies.append((iterate.estimate, iterate.estimate.clone()))
    assert all(torch.equal(then, now) for now, then in copies)
    assert_close(copies[-1][0][1:5], y)


def test_dark_pictures_stay_dark_and_damaged_ones_are_refused():
    operator, _, y = counted("unknown")
    assert not last(richardson_lucy(operator, torch.zeros_like(y), steps=3)).estimate.any()
    y[3, 3] = torch.nan
    with pytest.raises(NonFinite, match="after step 2"):
        last(richardson_lucy(operator, y, steps=2))


def test_what_does_not_fit_is_refused():
    operator, _, y = counted()
    with pytest.raises(ShapeError, match=r"richardson_lucy: observed: the tensor is \(3,\)"):
        last(richardson_lucy(operator, torch.zeros(3)))
    with pytest.raises(DtypeError, match="observed is complex"):
        last(richardson_lucy(operator, y.to(torch.complex128)))
    with pytest.raises(ShapeError, match=r"the mask is \(2,\), but \(24, 21\)"):
        last(richardson_lucy(operator, y, mask=torch.ones(2)))
    with pytest.raises(ShapeError, match="stop is 'soon'"):
        last(richardson_lucy(operator, y, stop="soon"))
    with pytest.raises(ShapeError, match="noise is -1"):
        last(richardson_lucy(operator, y, stop="discrepancy", noise=-1.0))
    with pytest.raises(ShapeError, match="the adjoint of ones is at most"):
        last(richardson_lucy(Convolution(-kernel(3, 3), SHAPE), y))
