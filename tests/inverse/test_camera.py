"""Camera estimation: gain, offset and read noise from pictures, and their use in restorations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cases.blurs import photograph
from unconv.errors import DtypeError, ShapeError
from unconv.inverse import Camera, Convolution, estimate_camera, psf
from unconv.inverse.fields.image.exposure import shows_points
from unconv.inverse.fields.image.restore import deblur
from unconv.inverse.metrics import psnr

BLUR = psf.gaussian(1.5)


def stars(background=10.0):
    """Points of light on a dark sky, in photons; and where they are."""
    places = torch.randperm(36, generator=torch.Generator().manual_seed(1))[:14]
    truth = torch.full((96, 96), background, dtype=torch.double)
    at = [(10 + 15 * int(place // 6), 10 + 15 * int(place % 6)) for place in places]
    for number, (y, x) in enumerate(at):
        truth[y, x] += 2000.0 * (1 + number)
    return truth, at


def light_of(truth):
    return Convolution(BLUR.double(), truth.shape, "circular").forward(truth).clamp(min=0)


def counted(light, camera, seed=0):
    """What a camera makes of light, rounded."""
    generator = torch.Generator().manual_seed(seed)
    noise = camera.read_noise * torch.randn(light.shape, generator=generator, dtype=torch.double)
    return camera.counts(torch.poisson(light, generator=generator) + noise).round()


def levels():
    return light_of(10 * photograph().double())


CAMERAS = [Camera(), Camera(2.0, 100.0, 5.0), Camera(0.5, 300.0, 3.0), Camera(4.0, 500.0, 10.0)]


@pytest.mark.parametrize("camera", CAMERAS, ids=["photons", "gain 2", "gain 0.5", "gain 4"])
@pytest.mark.parametrize("scene", ["stars", "levels"])
def test_the_gain_is_found_by_how_the_variance_grows(camera, scene):
    light = light_of(stars()[0]) if scene == "stars" else levels()
    found = estimate_camera(counted(light, camera))
    assert found is not None
    assert found.gain == pytest.approx(camera.gain, rel=0.25)
    bright = camera.counts(light.quantile(0.98))
    assert float(found.variance(bright)) == pytest.approx(float(camera.variance(bright)), rel=0.3)


def test_a_dark_floor_tells_the_offset():
    found = estimate_camera(counted(light_of(stars(background=0.0)[0]), Camera(2.0, 100.0, 5.0)))
    assert found.offset == pytest.approx(100, abs=2)
    assert found.gain * found.read_noise == pytest.approx(10, rel=0.2)


def test_numbers_that_are_given_are_not_estimated():
    found = estimate_camera(counted(levels(), Camera(2.0, 100.0, 5.0)), gain=2.0, offset=100.0)
    assert (found.gain, found.offset) == (2.0, 100.0)
    assert found.read_noise < 15


@pytest.mark.parametrize("noise", [0.0, 2.0, 20.0])
def test_noise_of_one_strength_is_no_camera_s(noise):
    light = light_of(photograph().double())
    noisy = light + noise * torch.randn(light.shape, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    assert estimate_camera(noisy) is None


def test_a_camera_goes_to_electrons_and_back():
    camera, x = Camera(2.0, 100.0, 5.0), torch.tensor([100.0, 120.0])
    assert camera.electrons(x).tolist() == [0, 10]
    assert camera.counts(camera.electrons(x)).tolist() == x.tolist()
    assert camera.variance(120.0) == 2 * 20 + (2 * 5) ** 2
    assert str(camera) == "gain 2 counts per electron, offset 100, read noise 5 electrons"


def test_too_few_samples_are_refused():
    with pytest.raises(ShapeError, match="at least 16 samples were needed along each of the last 2 axes"):
        estimate_camera(torch.rand(15, 40))
    with pytest.raises(DtypeError, match=r"the samples are torch\.int64"):
        estimate_camera(torch.ones(20, 20, dtype=torch.int64))


def spots():
    generator = torch.Generator().manual_seed(3)
    truth = torch.full((96, 96), 10.0, dtype=torch.double)
    for y, x in (10 + 15 * torch.stack([torch.arange(36) // 6, torch.arange(36) % 6], 1)).tolist():
        truth[y - 1 : y + 2, x - 1 : x + 2] += 100 + 300 * float(torch.rand(1, generator=generator))
    return truth


@pytest.mark.parametrize("camera", [Camera(4, 500, 10), Camera(0.3, 800, 18), Camera(1, 0, 15)], ids=str)
def test_read_noise_that_hides_growth_costs_little(camera):
    truth = spots()
    y = counted(light_of(truth), camera).clamp(min=0)
    told = deblur(y, BLUR, "poisson", "circular", gain=camera.gain, offset=camera.offset, read_noise=camera.read_noise)
    pictures = deblur(y, BLUR, "poisson", "circular").picture, told.picture, y
    found, known, before = (psnr(truth, camera.electrons(picture), 400) for picture in pictures)
    assert found > known - 1 and found > before + 2


def test_noise_of_one_strength_is_said_not_to_grow():
    y = (
        light_of(stars()[0]) / 50
        + 500
        + 30 * torch.randn(96, 96, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    )
    notes = deblur(y, BLUR, "poisson", "circular", steps=1).notes
    assert any("does not grow with the light" in note and "a standard deviation of 3" in note for note in notes)


def fluxes(truth, at, picture, level):
    """The part of each star's light that a disc of radius 5 finds."""
    down, across = torch.meshgrid(torch.arange(len(truth)), torch.arange(len(truth)), indexing="ij")
    discs = [(down - y) ** 2 + (across - x) ** 2 <= 25 for y, x in at]
    return torch.stack([(picture - level)[disc].sum() / (truth - level)[disc].sum() for disc in discs])


@pytest.mark.parametrize("camera", CAMERAS, ids=["photons", "gain 2", "gain 0.5", "gain 4"])
def test_a_camera_that_is_told_or_found_restores_stars_with_their_light(camera):
    truth, at = stars()
    y = counted(light_of(truth), camera)
    numbers = {"gain": camera.gain, "offset": camera.offset, "read_noise": camera.read_noise}
    for said in (numbers, {}):
        found = deblur(y, BLUR, "poisson", "circular", **said)
        restored = camera.electrons(found.picture)
        assert psnr(truth, restored, 30_000) > psnr(truth, camera.electrons(y), 30_000) + 8
        assert (fluxes(truth, at, restored, 10.0)[2:].mean() - 1).abs() < 0.015
        assert any("the camera was estimated" in note for note in found.notes) == (not said) or camera == Camera()


def test_a_camera_makes_counts_of_what_is_estimated():
    y = counted(light_of(stars()[0]), Camera(2.0, 100.0, 5.0))
    told = deblur(y, BLUR, boundary="circular", gain=2, offset=100, read_noise=5)
    again = deblur(y, BLUR, "poisson", "circular", gain=2, offset=100, read_noise=5)
    assert told.method == "richardson-lucy" and torch.equal(told.picture, again.picture)


@pytest.mark.parametrize("camera", CAMERAS[:3], ids=["photons", "gain 2", "gain 0.5"])
def test_stars_are_recognised_as_counts(camera):
    y = counted(light_of(stars()[0]), camera)
    found = deblur(y, BLUR, boundary="circular")
    assert found.method == "richardson-lucy" and "points of light with noise that grows" in found.notes[0]
    assert torch.equal(found.picture, deblur(y, BLUR, "poisson", "circular").picture)


def test_points_are_recognised_by_little_growth_and_not_by_none():
    truth = 3 * spots()
    truth[50:] = 30
    faint = counted(light_of(truth), Camera(4, 500, 10))
    assert estimate_camera(faint) is None and estimate_camera(faint, sure=2.5) is not None
    assert shows_points(faint, 2) and shows_points(faint + 10_000, 2)
    even = light_of(truth) + 12 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    assert not shows_points(even, 2)


def test_what_is_no_field_of_points_is_not_taken_for_one():
    letters = torch.zeros(96, 96, dtype=torch.double)
    letters[20:80:6, 10:80] = 200
    noise = 4 * torch.randn(96, 96, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    for picture in (letters + noise, 255 - letters + noise, torch.poisson(levels()), torch.poisson(torch.full((96, 96), 30.0))):
        assert not shows_points(picture, 2)


def test_noise_that_grows_with_the_light_counts_as_more_than_its_median():
    y = counted(levels(), Camera(2.0, 100.0, 5.0))
    found = deblur(y, BLUR, boundary="circular", method="wiener")
    assert found.noise > 1.1 * float(Camera(2.0, 100.0, 5.0).variance(y).mean().sqrt())
    assert "the noise grows with the light" in found.notes[0]


@pytest.mark.parametrize("method", ["wiener", "tv", "similar", "richardson-lucy"])
def test_a_background_is_light_that_was_not_blurred_and_is_gone(method):
    truth, _ = stars(background=0.0)
    y = light_of(truth) + 50
    noise = "poisson" if method == "richardson-lucy" else 1.0
    said = {"gain": 1, "offset": 0, "read_noise": 0} if noise == "poisson" else {}
    without = deblur(y, BLUR, noise, "circular", method, background=50, steps=5, **said)
    plain = deblur(y - 50, BLUR, noise, "circular", method, steps=5, **{**said, **({"read_noise": 50**0.5} if said else {})})
    torch.testing.assert_close(without.picture, plain.picture)


@pytest.mark.parametrize("noise", [60.0, "poisson"])
def test_a_background_is_estimated_from_what_is_dark(noise):
    truth, _ = stars(background=0.0)
    y = counted(light_of(truth) + 50, Camera())
    found = deblur(y, BLUR, noise, "circular", "auto" if noise == "poisson" else "wiener", background="estimate")
    assert float(found.picture.median()) == pytest.approx(0, abs=2)
    assert any("a background of" in note for note in found.notes)


def test_samples_beyond_the_type_are_cut_and_counted():
    y = light_of(stars()[0]).clamp(max=65535).round().numpy().astype(np.uint16)
    found = deblur(y, BLUR, 1.0, "circular", "wiener")
    assert any("samples were clipped to the range of uint16" in note for note in found.notes)
    assert not any("were clipped" in note for note in deblur(y.astype(np.float32), BLUR, 1.0, "circular", "wiener").notes)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"gain": 0}, ShapeError, "gain is 0, but a number above 0 was needed"),
        ({"read_noise": -1}, ShapeError, "read_noise is -1, but a number of at least 0 was needed"),
        ({"offset": "much"}, DtypeError, "offset is 'much' .*but a number or None was needed"),
        ({"background": "some"}, DtypeError, "background is 'some', but a number or 'estimate' was needed"),
        ({"gain": 2, "noise": 3.0}, ShapeError, "noise is 3.0, equal everywhere, but with a camera's"),
        ({"gain": 2, "method": "tv"}, ShapeError, "method 'tv' is for noise that is equal everywhere"),
    ],
)
def test_what_no_camera_has_is_refused(settings, error, words):
    with pytest.raises(error, match=words):
        deblur(torch.rand(20, 20), BLUR, **settings)
