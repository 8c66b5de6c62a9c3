"""Coarse noise is measured where the blur removes the picture, whatever its spectrum."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torch.testing import assert_close

from unconv.inverse.fields.image import deblur
from unconv.inverse.psf import makers as psf
from unconv.inverse.unexplained import unexplained

BLURS = {"disk": psf.disk(3.0), "uniform": psf.uniform(5), "motion": psf.motion(9, 30), "gaussian": psf.gaussian(1.8)}


def scene(height: int = 110, width: int = 96) -> np.ndarray:
    """Discs with stripes on a shade: (height, width), 0 to 255."""
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:height, :width] / max(height, width)
    picture = 90 + 60 * x - 30 * y
    for _ in range(40):
        (a, b), radius, grey = rng.random(2), 0.03 + 0.1 * rng.random(), rng.uniform(20, 235)
        inside = (y - a) ** 2 + (x - b) ** 2 < radius**2
        picture[inside] = grey + 25 * np.sin(60 * rng.random() * (x + y))[inside]
    return picture.clip(0, 255)


def seen(kernel: torch.Tensor, picture: np.ndarray | None = None) -> np.ndarray:
    """The scene through the kernel, as far as that is seen."""
    whole = torch.from_numpy(scene() if picture is None else picture)[None, None]
    return torch.nn.functional.conv2d(whole, kernel.double().flip(0, 1)[None, None])[0, 0].numpy()


def coarse(shape: tuple[int, ...], size: float, width: float = 1.0, seed: int = 0) -> np.ndarray:
    """Noise without fine detail, of standard deviation `size`."""
    rng = np.random.default_rng(seed)
    white = torch.from_numpy(rng.standard_normal([n + 8 for n in shape]))[None, None]
    noise = torch.nn.functional.conv2d(white, psf.gaussian(width).double()[None, None], padding="same")[
        0, 0, 4:-4, 4:-4
    ].numpy()
    return size * noise / noise.std()


def gain(restored: np.ndarray, observed: np.ndarray, kernel: torch.Tensor) -> float:
    k, (h, w) = kernel.shape, observed.shape[:2]
    start = [n - 1 - n // 2 for n in k]
    truth = scene()[start[0] : start[0] + h, start[1] : start[1] + w]
    before, after = (((np.asarray(a, float) - truth) ** 2).mean() for a in (observed, restored))
    return float(10 * np.log10(before / after))


@pytest.mark.parametrize("blur", BLURS)
@pytest.mark.parametrize("noise", [1.0, 6.0])
def test_white_noise_is_as_strong_as_it_is(blur, noise):
    observed = torch.from_numpy(seen(BLURS[blur]))
    noisy = observed + noise * torch.randn(observed.shape, generator=torch.Generator().manual_seed(0))
    certain, likely, most = unexplained(noisy, BLURS[blur])
    assert 0.7 * noise < certain <= likely <= most < 1.5 * noise


@pytest.mark.parametrize("blur", ["disk", "uniform", "gaussian"])
def test_coarse_noise_is_found_where_the_finest_detail_has_none(blur):
    observed = seen(BLURS[blur])
    _, likely, _ = unexplained(torch.from_numpy(observed + coarse(observed.shape, 3.0)), BLURS[blur])
    # Its density at frequency f is that at 0, 3² 4 pi, times exp(-4 pi² f²): where these blurs take all, at 0.2, still 4.8.
    assert 2.2 < likely < 6


@pytest.mark.parametrize("blur", BLURS)
def test_what_the_blur_let_through_is_no_noise(blur):
    certain, likely, most = unexplained(torch.from_numpy(seen(BLURS[blur])), BLURS[blur])
    assert certain < 0.3 and likely < 0.6 and most < 1  # of a picture whose standard deviation is 50


def test_it_scales_with_the_picture_and_does_not_see_its_brightness():
    observed = torch.from_numpy(seen(BLURS["disk"]) + coarse((104, 90), 2.0))
    once, more = unexplained(observed, BLURS["disk"]), unexplained(4 * observed + 1000, BLURS["disk"])
    assert_close(torch.tensor(more), 4 * torch.tensor(once), rtol=0.02, atol=0)


def test_missing_samples_and_colours_are_taken():
    observed = torch.from_numpy(seen(BLURS["disk"]) + coarse((104, 90), 3.0)).float()
    holes = observed.clone()
    holes[::7, ::5] = torch.nan
    assert unexplained(holes, BLURS["disk"])[1] > 2
    assert_close(
        torch.tensor(unexplained(observed.expand(3, -1, -1), BLURS["disk"])), torch.tensor(unexplained(observed, BLURS["disk"]))
    )


@pytest.mark.parametrize("size", [(16, 90), (5, 5)])
def test_of_a_small_picture_nothing_is_said(size):
    assert unexplained(torch.rand(size), BLURS["disk"]) is None
    assert unexplained(torch.full((64, 64), 7.0), BLURS["disk"]) is None


def webp(picture: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(picture).convert("RGB").save(file, "WEBP", quality=70)
    return np.asarray(Image.open(file).convert("L"))


FILES = {
    "webp": lambda noisy: webp(eight(noisy)),
    "median": lambda noisy: np.asarray(Image.fromarray(eight(noisy)).filter(ImageFilter.MedianFilter(3))),
    "coarse noise": lambda noisy: eight(noisy + coarse(noisy.shape, 2.0)),
}


def eight(picture: np.ndarray) -> np.ndarray:
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("blur", ["disk", pytest.param("gaussian", marks=pytest.mark.slow)])
def test_pictures_with_coarse_errors_come_back_better(file, blur):
    observed = FILES[file](seen(BLURS[blur]) + np.random.default_rng(1).standard_normal(seen(BLURS[blur]).shape))
    found = deblur(observed, BLURS[blur], method="dct")
    assert gain(found.picture, observed, BLURS[blur]) > 0


def test_a_result_that_keeps_on_getting_rougher_is_made_again_and_that_is_said():
    observed = seen(BLURS["motion"]) + 8 * np.random.default_rng(1).standard_normal(seen(BLURS["motion"]).shape)
    found = deblur(observed, BLURS["motion"], noise=3.0, method="dct")
    assert gain(found.picture, observed, BLURS["motion"]) > 1
    assert found.noise > 3 and any("rougher" in note for note in found.notes)


def test_white_noise_that_is_known_stays_as_it_is_said():
    observed = seen(BLURS["disk"]) + 3 * np.random.default_rng(1).standard_normal(seen(BLURS["disk"]).shape)
    found = deblur(observed, BLURS["disk"], noise=3.0, method="dct")
    assert found.noise == 3.0 and not found.notes
