"""What runs on the CPU runs on a GPU, to the same numbers; the operations have their own tests in test_ops_modes.py."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch.testing import assert_close

import unconv
from cases import zoo
from cases.blurs import BOX, blurred
from cases.operators import OPERATORS, random
from cases.solvers import SOLVERS, picture
from cases.zoo import FAMILIES
from unconv.box import demo_pictures
from unconv.inverse import Convolution, SimilarBlocks, SlidingDct, admm_tv, estimate_kernel, hqs, last, richardson_lucy
from unconv.inverse.fields.image.restore import deblur, super_resolve
from unconv.inverse.fields.image.table import METHODS
from unconv.inverse.metrics import isnr
from unconv.inverse.operators.operator import inner

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICE = "cuda"


def assert_same(on_device, on_cpu, tolerance):
    assert on_device.device.type == DEVICE
    assert on_device.dtype == on_cpu.dtype
    assert float((on_device.cpu() - on_cpu).abs().max()) <= tolerance * float(on_cpu.abs().max())


# Inverse


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_and_their_adjoints(name):
    operator = OPERATORS[name]
    x, y = random(*operator.shape_in, seed=3), random(*operator.shape_out, seed=4)
    forward, adjoint = operator.forward(x.to(DEVICE)), operator.adjoint(y.to(DEVICE))
    assert_same(forward, operator.forward(x), 1e-12)
    assert_same(adjoint, operator.adjoint(y), 1e-12)
    assert_close(inner(forward, y.to(forward)), inner(x.to(adjoint), adjoint), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_small_kernel_is_convolved_in_full_single_precision(axes):
    blur = Convolution(random(*(3,) * axes), (12,) * axes, "zero")
    x = random(*blur.shape_in, seed=3)
    assert_same(blur.forward(x.float().to(DEVICE)), blur.forward(x).float(), 1e-6)
    assert_same(blur.adjoint(x.float().to(DEVICE)), blur.adjoint(x).float(), 1e-6)


SPLIT = {
    "richardson_lucy": lambda a, y: richardson_lucy(a, y.abs(), steps=8, total_variation=0.01),
    "admm_tv": lambda a, y: admm_tv(a, y, noise=0.3, steps=30),
    "hqs-dct": lambda a, y: hqs(a, y, SlidingDct(), noise=0.3, steps=4),
    "hqs-similar": lambda a, y: hqs(a, y, SimilarBlocks(), noise=0.3, steps=4),
}


@pytest.mark.parametrize("name, boundary", [*product(SOLVERS, ["circular"]), *product(SPLIT, ["circular", "unknown"])])
def test_solvers(name, boundary):
    solve = (SOLVERS | SPLIT)[name]
    side = 64 if name in SPLIT else 16
    operator = Convolution(torch.ones(3, 3, dtype=torch.double) / 9, (side, side), boundary)
    y = operator.forward(picture(side)[0]) + 0.3 * random(*operator.shape_out, seed=7)
    found, right = last(solve(operator, y.to(DEVICE))), last(solve(operator, y))
    assert found.steps == right.steps
    assert_same(found.estimate, right.estimate, 1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("boundary", ["circular", "unknown"])
def test_photographs_are_restored_as_well(method, boundary):
    truth, observed = (samples.float() for samples in blurred(boundary, colour=True))
    found, right = deblur(observed.to(DEVICE), BOX, 1.0, boundary, method), deblur(observed, BOX, 1.0, boundary, method)
    assert found.picture.device.type == DEVICE
    gains = [isnr(truth, observed, restored.picture.cpu()) for restored in (found, right)]
    assert gains[0] == pytest.approx(gains[1], abs=0.01)
    found.comparison()


def test_finer_grids_and_estimated_kernels():
    _, observed = (samples.float() for samples in blurred("unknown"))
    assert_same(super_resolve(observed.to(DEVICE), 2).picture, super_resolve(observed, 2).picture, 1e-2)
    assert_same(estimate_kernel(observed.double().to(DEVICE), 7), estimate_kernel(observed.double(), 7), 1e-6)


# Reverse


@pytest.mark.parametrize("name", FAMILIES)
def test_networks(name):
    family = FAMILIES[name]
    if isinstance(family.build, str) and family.build.startswith("timm:"):
        pytest.importorskip("timm", reason='timm is an extra: pip install "unconv[timm]"')
    model, image = zoo.network(family), zoo.image(family)
    here = unconv.Network(model, input_size=family.size).record(image, family.places)
    right = {
        (place, method): here.project(place, "top:1", method=method)
        for place in family.places
        for method in ("deconvnet", "guided", "gradient")
    }
    there = unconv.Network(model.to(DEVICE), input_size=family.size).record(image, family.places)
    for (place, method), expected in right.items():
        found = there.project(place, "top:1", method=method)
        assert found.units == expected.units
        # Some kernels of torch hold their constants in float32 there, such as hardswish' sixth.
        assert_same(found.pixels(), expected.pixels().cpu(), 1e-6)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-3), ("bfloat16", 0.1), ("float16", 0.1)])
def test_narrower_types_are_near(dtype, tolerance):
    network, picture = unconv.load("unconv:caltech"), demo_pictures()[0]
    place = network.rectified(picture)[-1]
    right = network.record(picture, [place]).project(place, "top:3").pixels()
    network.module.to(DEVICE)
    found = network.record(picture, [place]).project(place, "top:3", dtype=dtype)
    assert float((found.pixels().float().cpu() - right).abs().max()) <= tolerance * float(right.abs().max())
