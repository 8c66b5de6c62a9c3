"""Metrics, noise estimation and the wavelet penalty against their definitions and other programs."""

from __future__ import annotations

import builtins
from math import inf

import pytest
import torch
from torch.testing import assert_close

from cases.operators import random
from unconv.errors import DtypeError, ShapeError, UnconvError
from unconv.inverse import Convolution, last
from unconv.inverse.metrics import isnr, psnr, ssim
from unconv.inverse.noise import estimate_noise
from unconv.inverse.priors.penalties import L1, Positive, Wavelet
from unconv.inverse.solvers.fista import fista


def test_psnr_and_isnr_are_their_formulas():
    truth = torch.tensor([0.0, 1.0, 0.5, 0.5])
    assert psnr(truth, truth + 0.1) == pytest.approx(20, abs=1e-4)
    assert psnr(truth, truth + 0.1, peak=10) == pytest.approx(40, abs=1e-4)
    assert psnr(truth, truth) == inf and isnr(truth, truth + 1, truth) == inf
    assert isnr(truth, truth + 1, truth + 0.1) == pytest.approx(20, abs=1e-4)
    assert isnr(truth, truth + 0.1, truth + 10) == pytest.approx(-40, abs=1e-4)
    with pytest.raises(
        ShapeError, match=r"psnr: the truth is \(4,\) and the other picture \(3,\), but the same shape was needed"
    ):
        psnr(truth, truth[:3])


@pytest.mark.parametrize("n", [(40, 33), (14, 13, 12)])
def test_ssim_is_that_of_scikit_image(n):
    measured = pytest.importorskip("skimage.metrics").structural_similarity
    truth = random(*n).cumsum(0)
    estimate = truth + random(*n, seed=1)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    peak = float(truth.max() - truth.min())
    wanted = measured(truth.numpy(), estimate.numpy(), data_range=peak, **settings)
    assert ssim(truth, estimate, axes=len(n)) == pytest.approx(wanted, abs=1e-6)
    assert 0.1 < wanted < 0.95 and ssim(truth, truth, axes=len(n)) == pytest.approx(1)


def test_ssim_of_a_batch_is_the_mean():
    truth, estimate = random(2, 16, 16), random(2, 16, 16, seed=1)
    each = [ssim(a, b, peak=1) for a, b in zip(truth, estimate, strict=True)]
    assert ssim(truth, estimate, peak=1) == pytest.approx(sum(each) / 2)
    with pytest.raises(ShapeError, match="at least 11 samples were needed along each of the last 2 axes"):
        ssim(truth[..., :8], estimate[..., :8])


@pytest.mark.parametrize("n", [(4000,), (100, 101), (30, 21, 22)])
def test_the_noise_is_found_below_smooth_structure(n):
    ramp = sum(torch.linspace(0, 5, m).reshape(-1, *[1] * (len(n) - k - 1)) for k, m in enumerate(n))
    assert estimate_noise(ramp + 0.2 * random(*n), axes=len(n)) == pytest.approx(0.2, rel=0.05)


@pytest.mark.parametrize("name", ["haar", "db4", "sym8"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.double])
def test_the_wavelet_transform_is_orthonormal(name, dtype):
    pytest.importorskip("pywt")
    penalty = Wavelet(1.0, name)
    x, y = random(2, 64, 32, dtype=dtype), random(2, 64, 32, dtype=dtype, seed=1)
    (of_x, details, back), (of_y, _, _) = penalty.analyse(x), penalty.analyse(y)
    close = {"atol": 1e-3, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 1e-9, "rtol": 1e-9}
    assert of_x.shape == x.shape and of_x.dtype == dtype and not details.all() and details.any()
    assert_close((of_x * of_y).sum(), (x * y).sum(), **close)
    assert_close(penalty.synthesise(of_x, back), x, **close)


def test_the_wavelet_prox_is_soft_thresholding_of_details():
    pywt = pytest.importorskip("pywt")
    x = random(32, 32)
    parts = pywt.wavedec2(x.numpy(), "db2", "periodization", 2)
    shrunk = [parts[0], *(tuple(pywt.threshold(d, 0.6, "soft") for d in level) for level in parts[1:])]
    found = Wavelet(0.3, "db2", 2).prox(x, 2.0)
    assert_close(found, torch.from_numpy(pywt.waverec2(shrunk, "db2", "periodization")))
    cost = 0.3 * sum(abs(d).sum() for level in parts[1:] for d in level)
    assert float(Wavelet(0.3, "db2", 2).value(x)) == pytest.approx(cost)


@pytest.mark.slow
def test_wavelets_restore_more_than_nothing():
    pytest.importorskip("pywt")
    truth = torch.zeros(32, 32, dtype=torch.double)
    truth[8:20, 10:26] = 1
    operator = Convolution(torch.ones(3, 3, dtype=torch.double) / 9, truth.shape)
    y = operator.forward(truth) + 0.02 * random(32, 32)
    found = last(fista(operator, y, Wavelet(0.003, "haar", 3), steps=300))
    assert isnr(truth, y, found.estimate) > 4


@pytest.mark.parametrize(
    ("penalty", "message"),
    [
        (Wavelet(1.0, "db44"), "name is 'db44', but an orthogonal wavelet .*Nearest: db"),
        (Wavelet(1.0, "bior2.2"), "name is 'bior2.2', but an orthogonal"),
        (Wavelet(1.0, "haar", 4), "levels is 4 for haar .* 1 to 3 were needed"),
        (Wavelet(1.0, "db4", 0), "levels is 0"),
    ],
)
def test_wavelets_that_do_not_fit_are_refused_in_words(penalty, message):
    pytest.importorskip("pywt")
    with pytest.raises(ShapeError, match=message):
        penalty.prox(random(24, 40), 1.0)


def test_without_pywavelets_the_way_to_get_it_is_said(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "pywt":
            raise ModuleNotFoundError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UnconvError, match=r'pip install "unconv\[image\]"'):
        Wavelet(1.0).value(random(16, 16))


def test_complex_estimates_have_no_order():
    for penalty in (Positive(), L1(1.0, positive=True)):
        with pytest.raises(DtypeError, match="real samples were needed"):
            penalty.prox(random(4, dtype=torch.cdouble), 1.0)
