"""Image restoration from outside: kinds in and out, laws, boundaries, tiles, and what is said of odd input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from operator_cases import random
from unconv.box import demo_pictures
from unconv.inverse import Convolution, psf
from unconv.inverse.fields.image import deblur
from unconv.inverse.fields.image_methods import METHODS
from unconv.inverse.metrics import psnr
from unconv.measured import measured, save

BOX = psf.uniform(5)
BOUNDED = ("similar", "dct", "wavelet", "tikhonov", "richardson-lucy")  # methods that take every boundary


def photograph(side=64, which=0, colour=False):
    samples = measured(demo_pictures()[which]).samples.double()
    samples = samples if colour else samples.mean(0)
    return samples[..., 40 : 40 + side, 40 : 40 + side].contiguous()


def blurred(boundary="circular", kernel=BOX, side=64, noise=1.0, which=0, colour=False):
    """(truth, observed): of an unknown boundary, the part of the truth that was looked at."""
    h, w = kernel.shape
    shape = (side + h - 1, side + w - 1) if boundary == "unknown" else (side, side)
    whole = photograph(max(shape), which, colour)[..., : shape[0], : shape[1]]
    operator = Convolution(kernel, whole.shape, boundary)
    y = operator.forward(whole)
    top, left = (h - 1 - h // 2, w - 1 - w // 2) if boundary == "unknown" else (0, 0)
    return whole[..., top : top + side, left : left + side], y + noise * random(*y.shape, seed=7)


def shift(a, b):
    """By how many samples b lies beside a, where their correlation is largest."""
    a, b = a - a.mean(), b - b.mean()
    peak = int(torch.fft.ifft2(torch.fft.fft2(a).conj() * torch.fft.fft2(b)).real.argmax())
    return tuple((i + n // 2) % n - n // 2 for i, n in zip(divmod(peak, a.shape[1]), a.shape, strict=True))


# Kinds in and out


def as_array(picture):
    """A copy."""
    return picture.numpy().copy() if isinstance(picture, torch.Tensor) else np.array(picture)


def grey():
    return blurred()[1].clamp(0, 255)


def colours():
    return blurred(colour=True)[1].clamp(0, 255)


KINDS = {
    "grey bytes": lambda: grey().numpy().astype(np.uint8),
    "colour bytes": lambda: colours().permute(1, 2, 0).numpy().astype(np.uint8),
    "with alpha": lambda: np.concatenate(
        [colours().permute(1, 2, 0).numpy(), np.arange(64 * 64).reshape(64, 64, 1) % 256], 2
    ).astype(np.uint8),
    "16 bits": lambda: (grey() * 250).numpy().astype(np.uint16),
    "half": lambda: grey().numpy().astype(np.float16),
    "float32": lambda: grey().numpy().astype(np.float32),
    "float64": lambda: grey().numpy(),
    "one channel": lambda: grey().numpy()[..., None],
    "PIL grey": lambda: Image.fromarray(grey().numpy().astype(np.uint8)),
    "PIL colour": lambda: Image.fromarray(colours().permute(1, 2, 0).numpy().astype(np.uint8)),
    "tensor": lambda: grey().float(),
    "tensor of bytes": lambda: grey().byte(),
    "tensor of colours": lambda: colours().float(),
    "stack": lambda: torch.stack([grey()[:40, :40], grey()[:40, :40].flip(0)] * 2).numpy(),
    "stack of colours": lambda: torch.stack([colours(), colours().flip(1)]).float(),
}


@pytest.mark.parametrize("name", KINDS)
def test_what_comes_back_is_of_the_kind_that_was_given(name):
    given = KINDS[name]()
    kept = as_array(given)
    found = deblur(given, BOX, noise=1.0 if name != "16 bits" else 250.0, method="wiener")
    made = found.picture
    assert type(made) is type(given)
    if isinstance(given, Image.Image):
        assert (made.mode, made.size) == (given.mode, given.size)
    else:
        assert (made.dtype, made.shape) == (given.dtype, given.shape)
    assert (as_array(given) == kept).all()
    assert not (as_array(made) == kept).all()
    if name == "with alpha":
        assert (made[..., 3] == given[..., 3]).all()


@pytest.mark.parametrize("suffix", ["png", "tif", "npy"])
def test_files_are_restored_as_arrays_of_their_depth(tmp_path, suffix):
    given = {"png": (grey() * 250).numpy().astype(np.uint16)}.get(suffix, grey().numpy().astype(np.float32))
    source = tmp_path / f"given.{suffix}"
    deblur(given, BOX, noise=1.0, method="wiener")
    save(given, source)
    found = deblur(source, BOX, noise=1.0, method="wiener")
    assert_close(found.picture, deblur(given, BOX, noise=1.0, method="wiener").picture)
    found.save(tmp_path / f"made.{suffix}")
    assert_close(measured(tmp_path / f"made.{suffix}").samples.numpy(), measured(found.picture).samples.numpy())


def test_bytes_of_a_restored_picture_are_rounded_and_clipped_and_not_more():
    given = grey().numpy().astype(np.uint8)
    exact = deblur(given.astype(np.float32), BOX, noise=1.0, method="wiener").picture
    found = deblur(given, BOX, noise=1.0, method="wiener").picture
    assert abs(found - exact.clip(0, 255).round()).max() <= 1


def test_pictures_of_a_stack_are_restored_one_by_one():
    one, other = blurred()[1].float(), 50 * blurred(which=1)[1].float()
    both = deblur(torch.stack([one, other] * 2), BOX, noise=1.0, steps=3).picture
    assert_close(both[0], deblur(one, BOX, noise=1.0, steps=3).picture, rtol=1e-4, atol=1e-3)
    assert_close(both[1], deblur(other, BOX, noise=1.0, steps=3).picture, rtol=1e-4, atol=0.1)


def test_a_psf_of_three_axes_makes_a_volume_of_a_stack():
    truth = torch.zeros(16, 20, 20, dtype=torch.double)
    truth[4:11, 5:14, 6:12] = 100
    kernel = psf.gaussian(1.0, 5, 3)
    y = Convolution(kernel, truth.shape).forward(truth) + random(*truth.shape)
    found = deblur(y, kernel, noise=1.0, boundary="circular")
    assert found.method == "tv" and found.picture.shape == truth.shape
    assert psnr(truth, found.picture) > psnr(truth, y) + 5
    assert found.comparison().size == (2 * 20 + 4, 20)


# Laws


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("boundary", ["circular", "unknown"])
def test_every_method_brings_a_photograph_nearer_to_the_truth(method, boundary):
    truth, y = blurred(boundary)
    found = deblur(y.float(), BOX, noise=1.0, boundary=boundary, method=method)
    gained = psnr(truth, found.picture.double(), 255) - psnr(truth, y, 255)
    assert gained > GAINS[boundary][method] - 0.3
    assert found.method == method and found.noise == 1.0


GAINS = {"circular": dict.fromkeys(METHODS, 3.0), "unknown": dict.fromkeys(METHODS, 3.0)}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("a", [2.0**-16, 2.0**12])
def test_a_brighter_picture_with_more_noise_is_brighter_and_nothing_else(method, a):
    y = blurred("unknown", side=48)[1]
    once = deblur(y, BOX, noise=1.0, method=method, steps=4).picture
    assert_close(deblur(a * y, BOX, noise=a, method=method, steps=4).picture, a * once, rtol=1e-6, atol=1e-6 * a)
