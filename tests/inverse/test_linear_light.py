"""Pictures blurred in linear light are distinguished from blurred samples, and restored accordingly."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from unconv.errors import DtypeError, ShapeError
from unconv.inverse import Convolution
from unconv.inverse.fields.image import deblur
from unconv.inverse.fields.image.linear_light import Linear, blurred_as_light
from unconv.inverse.psf import makers as psf
from unconv.pictures.transfer import SRGB

AS_LIGHT = "restored in linear light"
KERNEL = psf.disk(3.0)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def scene(seed=0):
    """Shapes of many shades, as a photograph has: (96, 96, 3), 0 to 1."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:108, :108]
    picture = np.full((108, 108, 3), 0.4)
    for _ in range(40):
        y, x, h, w = (int(v) for v in rng.integers([0, 0, 8, 8], [100, 100, 40, 40]))
        inside = (rows >= y) & (rows < y + h) & (columns >= x) & (columns < x + w)
        picture[inside] = rng.uniform(0.02, 0.98, 3)
    return picture


def seen(light, noise=1.0, seed=0):
    """What a lens makes of the scene, or a program: 8 bits."""
    truth = torch.from_numpy(scene(seed)).permute(2, 0, 1)
    made = SRGB.samples(blurred(SRGB.light(truth))) if light else blurred(truth)
    noisy = 255 * made.permute(1, 2, 0).numpy() + noise * np.random.default_rng(seed).standard_normal((*made.shape[1:], 3))
    cut = slice(KERNEL.shape[0] // 2, -(KERNEL.shape[0] // 2))
    return noisy.round().clip(0, 255).astype(np.uint8), 255 * scene(seed)[cut, cut]


def blurred(samples):
    """Only what sees no further than the picture."""
    return Convolution(KERNEL.double(), samples.shape, "unknown").forward(samples)


def error(restored, truth):
    inside = slice(8, -8)
    return float(np.sqrt(((np.asarray(restored, float) - truth)[inside, inside] ** 2).mean()))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_light_is_told_from_samples(seed):
    for light in (True, False):
        samples = torch.from_numpy(seen(light, seed=seed)[0]).permute(2, 0, 1).float()
        assert blurred_as_light(samples, Linear(SRGB, 255.0), KERNEL, None, 1.0, named=False) is light


def test_missing_samples_do_not_matter():
    for light in (True, False):
        samples = torch.from_numpy(seen(light)[0]).permute(2, 0, 1).float()
        samples[:, torch.rand(samples.shape[1:], generator=torch.Generator().manual_seed(0)) < 0.05] = torch.nan
        assert blurred_as_light(samples, Linear(SRGB, 255.0), KERNEL, None, 1.0, named=False) is light


@pytest.mark.slow
@pytest.mark.parametrize("light", [True, False])
def test_a_photograph_is_restored_as_what_it_is(light):
    blurry, truth = seen(light)
    errors = {linear: error(deblur(blurry, KERNEL, linear=linear).picture, truth) for linear in (True, False)}
    assert errors[light] < 0.8 * errors[not light] and errors[light] < 0.8 * error(blurry, truth)
    chosen = deblur(blurry, KERNEL)
    assert any(AS_LIGHT in note for note in chosen.notes) is light
    assert abs(error(chosen.picture, truth) - errors[light]) < 1e-6


@pytest.mark.slow
def test_measurements_are_left_alone():
    blurry, _ = seen(True)
    for given in (blurry[..., 0], blurry.astype(np.uint16), blurry / 255, blurry.astype(np.float32)):
        assert not any(AS_LIGHT in note for note in deblur(given, KERNEL, method="wiener").notes)


def test_a_profile_makes_a_photograph_of_a_grey_picture():
    blurry, _ = seen(True)
    for profile, told in ((PROFILE, True), (None, False)):
        file = io.BytesIO()
        Image.fromarray(blurry[..., 0]).save(file, "PNG", icc_profile=profile)
        with Image.open(file) as picture:
            assert any(AS_LIGHT in note for note in deblur(picture, KERNEL, method="wiener").notes) is told


def test_floats_from_0_to_1_are_the_same_as_8_bits():
    blurry, _ = seen(True)
    whole, share = (
        deblur(given, KERNEL, noise=noise, method="wiener", linear=True)
        for given, noise in ((blurry.astype(np.uint8), 2.0), (blurry / 255, 2 / 255))
    )
    assert np.abs(whole.picture / 255 - np.clip(share.picture, 0, 1)).max() < 0.51 / 255 + 1e-4
    assert whole.noise == pytest.approx(2.0) and share.noise == pytest.approx(2 / 255)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"linear": "yes"}, DtypeError, "True, False or 'auto'"),
        ({"linear": 1.0}, DtypeError, "True or False"),
        ({"linear": True, "noise": "poisson"}, ShapeError, "noise of counts"),
        ({"linear": True, "background": 3.0}, ShapeError, "a background"),
        ({"linear": True}, ShapeError, "Divide them by the value of white"),
    ],
)
def test_what_it_cannot_be_is_refused(settings, error, words):
    with pytest.raises(error, match=words):
        deblur(255.0 * np.random.default_rng(0).random((32, 32)), KERNEL, **settings)
