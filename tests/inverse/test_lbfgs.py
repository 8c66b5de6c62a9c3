"""Limited-memory BFGS finds minima, and does not need torch's compiler."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch.testing import assert_close

from unconv.inverse.solvers.lbfgs import lbfgs


def test_it_finds_the_least_of_a_quadratic():
    a = torch.randn(12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    a = a @ a.T + torch.eye(12)
    b = torch.arange(12.0, dtype=torch.double)
    result = lbfgs(lambda x: x @ a @ x / 2 - b @ x, torch.zeros(12, dtype=torch.double), 200)
    assert_close(result, torch.linalg.solve(a, b), rtol=1e-5, atol=1e-6)


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2).square() + (1 - x[:-1]).square()).sum()


def test_it_follows_a_bent_valley():
    start = torch.tensor([-1.2, 1.0, -0.5, 0.3], dtype=torch.double)
    assert_close(lbfgs(rosenbrock, start, 200), torch.ones(4, dtype=torch.double), rtol=1e-4, atol=1e-4)


@pytest.mark.slow  # it imports the compiler
def test_it_ends_as_low_as_torchs():
    start = torch.full((30,), -0.7, dtype=torch.double)
    theirs = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([theirs], max_iter=25, history_size=8, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = rosenbrock(theirs)
        value.backward()
        return value

    optimizer.step(closure)
    begun, ours = float(rosenbrock(start)), float(rosenbrock(lbfgs(rosenbrock, start, 25)))
    assert ours < float(rosenbrock(theirs.detach())) + 0.01 * begun


def test_where_it_is_least_already_it_stays():
    assert torch.equal(lbfgs(lambda x: x.square().sum(), torch.zeros(3), 5), torch.zeros(3))


@pytest.mark.slow
def test_a_photograph_is_restored_without_torchs_compiler():
    # Importing it takes longer than to restore a small picture.
    code = """
import io, sys, numpy, PIL.Image
from unconv.inverse.fields.image import deblur
from unconv.inverse.psf import makers
file = io.BytesIO()
PIL.Image.fromarray(numpy.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=numpy.uint8)).save(file, "JPEG")
deblur(PIL.Image.open(file), makers.disk(2), method="wiener")
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "False", done.stderr
