"""Operators: exact adjoints, their formulas, autograd, and the errors for unfit arguments."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from cases.operators import OPERATORS, random
from oracles import inverse as oracle
from unconv.errors import DtypeError, ShapeError
from unconv.inverse import Composition, Convolution, Crop, Downsample, Mask, Stack, Sum, inner, norm, split
from unconv.inverse.operators.differences import gradient, gradient_adjoint, laplacian
from unconv.inverse.operators.fourier import fast_length, irfftn, rfftn
from unconv.inverse.operators.split import embed

BOUNDARIES = ("circular", "zero", "reflect", "unknown")


@pytest.mark.parametrize("dtype", [torch.double, torch.cdouble])
@pytest.mark.parametrize("name", OPERATORS)
def test_the_adjoint_passes_the_dot_test(name, dtype):
    operator = OPERATORS[name]
    x = random(*operator.shape_in, dtype=dtype)
    forward = operator.forward(x)
    y = random(*operator.shape_out, dtype=forward.dtype, seed=1)
    assert forward.shape == operator.shape_out
    back = operator.adjoint(y)
    assert back.shape == operator.shape_in
    difference = (forward.conj() * y).sum() - (x.conj() * back).sum()
    assert abs(difference) < 1e-12 * float(forward.norm() * y.norm())


@pytest.mark.parametrize("name", OPERATORS)
def test_a_batch_is_one_by_one(name):
    operator = OPERATORS[name]
    x, y = random(2, 3, *operator.shape_in), random(2, 3, *operator.shape_out, seed=1)
    assert_close(operator.forward(x)[1, 2], operator.forward(x[1, 2]))
    assert_close(operator.adjoint(y)[1, 2], operator.adjoint(y[1, 2]))


@pytest.mark.parametrize("name", [name for name in OPERATORS if "complex" not in name])
def test_single_precision_is_near_double(name):
    operator = OPERATORS[name]
    x = random(*operator.shape_in)
    single = operator.forward(x.float())
    assert single.dtype == torch.float32
    assert_close(single.double(), operator.forward(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", ["fft", "direct"])
@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize(
    ("lengths", "kernel", "centre", "stride"),
    [
        ((9,), (5,), None, (1,)),
        ((8,), (4,), (3,), (2,)),
        ((6, 7), (3, 3), None, (1, 1)),
        ((6, 5), (2, 4), (0, 1), (1, 2)),
        ((4, 5, 4), (2, 3, 2), (1, 0, 1), (1, 2, 1)),
    ],
)
def test_convolution_is_the_sum_it_says(lengths, kernel, centre, stride, boundary, method):
    weights, x = random(*kernel), random(*lengths, seed=1)
    operator = Convolution(weights, lengths, boundary, centre=centre, stride=stride, method=method)
    wanted = oracle.convolution(x.numpy(), weights.numpy(), boundary, operator.centre, stride)
    assert centre is not None or operator.centre == tuple(k // 2 for k in kernel)
    assert_close(operator.forward(x), torch.from_numpy(wanted))


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_complex_convolution_is_the_sum_it_says(boundary):
    kernel, x = random(2, 3, dtype=torch.cdouble), random(5, 6, dtype=torch.cdouble, seed=1)
    operator = Convolution(kernel, x.shape, boundary)
    wanted = oracle.convolution(x.numpy(), kernel.numpy(), boundary, operator.centre, (1, 1))
    assert_close(operator.forward(x), torch.from_numpy(wanted))


def test_each_channel_has_its_own_kernel():
    kernels, x = random(3, 3, 2), random(3, 6, 5, seed=1)
    together = Convolution(kernels, x.shape, "zero", axes=2).forward(x)
    assert_close(together, torch.stack([Convolution(k, c.shape, "zero").forward(c) for k, c in zip(kernels, x, strict=True)]))


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("method", ["fft", "direct"])
def test_autograd_goes_through_input_and_kernel(boundary, method):
    def both(x, kernel):
        operator = Convolution(kernel, (5, 4), boundary, stride=(1, 2), method=method)
        y = operator.forward(x)
        return y, operator.adjoint(y * y)

    x, kernel = random(5, 4).requires_grad_(), random(2, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(both, (x, kernel))


def test_the_gradient_of_forward_is_the_adjoint():
    for name in ("reflect-even-stride2-2d-real-fft", "stack", "composition", "window"):
        operator = OPERATORS[name]
        x, y = random(*operator.shape_in).requires_grad_(), random(*operator.shape_out, seed=1)
        (found,) = torch.autograd.grad(operator.forward(x), x, y)
        assert_close(found, operator.adjoint(y))


@pytest.mark.parametrize(
    "name",
    [n for n in OPERATORS if n.startswith(("circular", "unknown"))] + ["composition", "mask-of-blur", "centre-at-an-end"],
)
def test_split_is_the_operator(name):
    operator = OPERATORS[name]
    circular, chosen = split(operator)
    x = random(2, *operator.shape_in)
    assert circular.diagonalised
    assert_close(chosen.forward(circular.forward(x)), operator.forward(x))
    kept = chosen.forward(random(*chosen.shape_in))
    assert_close(chosen.forward(chosen.adjoint(kept)), kept)
    assert set(chosen.weights(x).unique().tolist()) <= {0.0, 1.0}


def test_split_refuses_what_is_no_such_product():
    with pytest.raises(ShapeError, match=r"split: .* is not a selection of a circular convolution.* cgls"):
        split(Convolution(random(3), (8,), "zero"))


def test_the_spectrum_is_the_diagonal():
    operator, x = Convolution(random(4, 3), (6, 7)), random(6, 7, seed=1)
    assert_close(torch.fft.irfft2(operator.spectrum(x) * torch.fft.rfft2(x), x.shape), operator.forward(x))
    assert operator.diagonalised and not Convolution(random(3), (8,), stride=2).diagonalised


def test_the_norm_is_the_largest_singular_value():
    operator = Convolution(random(3, 4), (6, 7), "reflect")
    dense = oracle.matrix(lambda x: operator.forward(torch.from_numpy(x)), operator.shape_in)
    assert norm(operator, 200) == pytest.approx(np.linalg.norm(dense, 2), rel=1e-4)


@pytest.mark.slow
def test_zero_boundary_is_pylops_convolution():
    signal = pytest.importorskip("pylops").signalprocessing
    kernel, x = random(3, 4), random(7, 6, seed=1)
    operator = Convolution(kernel, x.shape, "zero", centre=(1, 2))
    peer = signal.ConvolveND(dims=x.shape, h=kernel.numpy(), offset=(1, 2))
    assert_close(operator.forward(x), torch.from_numpy(peer @ x.numpy()))
    assert_close(operator.adjoint(x), torch.from_numpy(peer.H @ x.numpy()))


@pytest.mark.parametrize("n", [(7,), (4, 5), (5, 4), (3, 1, 4)])
@pytest.mark.parametrize("dtype", [torch.double, torch.cdouble])
def test_differences_have_their_adjoint_and_spectrum(n, dtype):
    axes = len(n)
    x, g = random(2, *n, dtype=dtype), random(axes, 2, *n, dtype=dtype, seed=1)
    assert_close(gradient(x, axes)[-1], x.roll(-1, -1) - x)
    assert_close((gradient(x, axes).conj() * g).sum(), (x.conj() * gradient_adjoint(g, axes)).sum())
    whole = torch.fft.fftn(gradient_adjoint(gradient(x, axes), axes), dim=tuple(range(-axes, 0)))
    spectrum = laplacian(n, x + 0j) * torch.fft.fftn(x, dim=tuple(range(-axes, 0)))
    assert_close(whole, spectrum)
    assert_close(laplacian(n, x.real), laplacian(n, x + 0j)[..., : n[-1] // 2 + 1])


def test_fast_lengths_are_the_least_with_small_factors_and_many_twos():
    def fits(m, n):
        twos = 8 if n > 100 else 4 if n > 24 else 2 if n > 1 else 1
        largest = max((p for p in range(1, m + 1) if m % p == 0 and all(p % q for q in range(2, p))), default=1)
        return m % twos == 0 and largest <= 13

    assert [fast_length(n) for n in range(1, 400)] == [
        next(m for m in range(n, 2 * n + 1) if fits(m, n)) for n in range(1, 400)
    ]
    assert (fast_length(520), fast_length(536), fast_length(10**6 + 1)) == (520, 560, 1001000)


@pytest.mark.parametrize("boundary", ["zero", "unknown"])
@pytest.mark.parametrize("stride", [1, 2])
def test_an_embedded_convolution_is_the_same_operator(boundary, stride):
    operator = Convolution(random(5, 4), (2, 23, 30), boundary, stride=stride, centre=(1, 3))
    mask = Mask(random(*operator.shape_out, seed=3) > 0)
    x = random(3, 2, 23, 30, seed=1)
    for whole in (operator, mask @ operator):
        circular, chosen, crop = embed(whole, x)
        assert circular.diagonalised
        assert_close(chosen.forward(circular.forward(crop.adjoint(x))), whole.forward(x))


def test_what_gains_nothing_from_embedding_stays_as_it_is():
    x = random(24, 30)
    for operator in (Convolution(random(5, 4), (24, 30), "reflect"), Convolution(random(5, 4) + 0j, (24, 30), "zero")):
        assert embed(operator, x) is None
    assert embed(Convolution(random(3, 3), (24, 30), "zero", method="direct"), x) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Convolution(random(3), (8,), "mirror"), "there is no boundary 'mirror'. Pass one of .*Nearest: "),
        (lambda: Convolution(random(9), (8,)), r"the kernel is \(9,\) and the input \(8,\).*boundary='zero'"),
        (lambda: Convolution(random(9), (8,), "unknown"), "must fit into the input"),
        (lambda: Convolution(random(6), (3,), "reflect"), "must fit into the input"),
        (lambda: Convolution(random(3), (8,), centre=(3,)), r"centre is \(3,\), but an index into the kernel \(3,\)"),
        (lambda: Convolution(random(3), (8,), centre=(1, 1)), "one index and one positive stride for each of axes=1"),
        (lambda: Convolution(random(3), (8,), method="slow"), "method is 'slow', but"),
        (
            lambda: Convolution(random(3, dtype=torch.cdouble), (8,), method="direct"),
            "method 'direct' needs one real kernel",
        ),
        (lambda: Convolution(random(3, 3), (8,)), r"the kernel is \(3, 3\), the input \(8,\) and axes 2"),
        (lambda: Convolution(random(3), (8,), stride=0), "stride"),
        (lambda: Crop((8,), (5,), (4,)), r"Window: size \(4,\) from start \(5,\) .* does not fit into shape \(8,\)"),
        (lambda: Downsample((8,), 0), "factor is 0"),
        (lambda: Stack([]), "Stack"),
        (lambda: Sum([Mask(torch.ones(4)), Mask(torch.ones(5))]), "Sum: the operators' shapes"),
        (lambda: Composition(Mask(torch.ones(4)), Mask(torch.ones(5))), r"takes \(4,\) but the inner one returns \(5,\)"),
        (lambda: Convolution(random(3), (8,)).forward(random(7)), r"the tensor is \(7,\), but \(..., 8\) was needed"),
        (lambda: Convolution(random(3), (8,), "unknown").adjoint(random(8)), r"Convolution.adjoint: .* \(..., 6\)"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(make, message):
    with pytest.raises(ShapeError, match=message):
        make()


def test_integers_and_booleans_are_refused_as_pictures_and_kernels():
    with pytest.raises(DtypeError, match=r"got torch.int64, but a floating-point or complex tensor was needed"):
        Convolution(random(3), (8,)).forward(torch.arange(8))
    with pytest.raises(DtypeError, match="the kernel is boolean"):
        Convolution(torch.ones(3) > 0, (8,))
    assert_close(Convolution([1, 2, 1], (4,)).forward(torch.eye(4)[0]), torch.tensor([2.0, 1, 0, 1]))


def test_the_inner_product_is_conjugate_in_the_first():
    x, y = random(4, dtype=torch.cdouble), random(4, dtype=torch.cdouble, seed=1)
    assert_close(inner(x, y), (x.conj() * y).sum())
    assert_close(inner(x.real, y), (x.real * y).sum())


def test_a_spectrum_made_in_inference_mode_does_not_stop_gradients():
    operator, x = Convolution(random(3, 3), (6, 7), method="fft"), random(6, 7, seed=1).requires_grad_()
    with torch.inference_mode():
        operator.forward(random(6, 7))
    (found,) = torch.autograd.grad(operator.forward(x).sum(), x)
    assert_close(found, operator.adjoint(torch.ones_like(x)))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.double, torch.cdouble], ids=["real", "complex"])
@pytest.mark.parametrize("shape", [(7,), (6, 7), (1500, 1500)], ids=["row", "small", "large"])
def test_expanded_signals_and_gradients_pass_the_fft(shape, dtype):
    # MKL, as torch 2.6 calls it, refuses strides of 0. The gradient of a sum has them.
    operator = Convolution(random(*[3] * len(shape), dtype=dtype), shape, "circular", method="fft")
    ones = torch.ones((), dtype=dtype).expand(shape)
    assert_close(operator.forward(ones), operator.forward(ones.clone()))
    x = random(*shape, dtype=dtype, seed=1).requires_grad_()
    (found,) = torch.autograd.grad(operator.forward(x).real.sum(), x)
    assert_close(found, operator.adjoint(ones))


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("last", [6, 7])
def test_our_half_spectrum_is_torchs_and_comes_back(axes, last):
    lengths, dims = (5, 4, last)[-axes:], tuple(range(-axes, 0))
    x = random(2, *(n - 1 for n in lengths))
    found = rfftn(x, lengths, dims)
    assert_close(found, torch.fft.rfftn(x, lengths, dims))
    assert_close(irfftn(found, lengths, dims), torch.fft.irfftn(found, lengths, dims))
