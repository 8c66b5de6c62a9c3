"""JPEG pictures: the quantisation steps are read from the samples, and the errors are not restored as detail."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from unconv.inverse.compression import compression
from unconv.inverse.fields.image import deblur
from unconv.inverse.psf import makers as psf
from unconv.pictures.measured import measured


def scene(size: int = 192) -> np.ndarray:
    """Discs, stripes and a shade, in colour: (size, size, 3), 0 to 255."""
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:size, :size] / size
    picture = np.stack([90 + 60 * x, 120 - 50 * y, 100 + 40 * x * y], -1)
    for _ in range(40):
        (a, b), radius, colour = rng.random(2), 0.02 + 0.1 * rng.random(), rng.uniform(20, 235, 3)
        inside = (y - a) ** 2 + (x - b) ** 2 < radius**2
        picture[inside] = colour + 25 * np.sin(80 * rng.random() * (x + y))[inside][:, None]
    return picture.clip(0, 255)


def blurred(picture: np.ndarray, kernel: torch.Tensor) -> np.ndarray:
    """The picture as it would be seen through the kernel, with all that it sees of the scene."""
    planes = torch.from_numpy(picture).permute(2, 0, 1)[:, None]
    return torch.nn.functional.conv2d(planes, kernel.double().flip(0, 1)[None, None])[:, 0].permute(1, 2, 0).numpy()


def jpeg(picture: np.ndarray, quality: int, **settings) -> io.BytesIO:
    file = io.BytesIO()
    Image.fromarray(np.clip(np.round(picture), 0, 255).astype(np.uint8)).save(file, "JPEG", quality=quality, **settings)
    return file


def decoded(file: io.BytesIO) -> torch.Tensor:
    return torch.from_numpy(np.asarray(Image.open(file)).copy()).permute(2, 0, 1)


def gain(restored: np.ndarray, observed: np.ndarray, truth: np.ndarray) -> float:
    before, after = (((np.asarray(a, float) - truth)[12:-12, 12:-12] ** 2).mean() for a in (observed, restored))
    return float(10 * np.log10(before / after))


@pytest.mark.parametrize("quality", [50, 75, 90])
@pytest.mark.parametrize("crop", [(0, 0), (3, 5)])
def test_the_steps_and_the_blocks_are_those_of_the_file(quality, crop):
    file = jpeg(scene(320), quality)
    found = compression(decoded(file)[:, crop[0] :, crop[1] :])
    assert found is not None and found.offset == tuple(-c % 8 for c in crop)
    table = torch.tensor(Image.open(file).quantization[0]).view(8, 8)
    right = [abs(found.steps[u, v] - table[u, v]) <= 1 for u in range(3) for v in range(3) if table[u, v] > 2]
    assert len(right) > 3 and sum(right) >= 0.75 * len(right)


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_a_picture_that_was_never_compressed_has_no_steps(noise):
    picture = scene() + noise * np.random.default_rng(0).standard_normal((192, 192, 3))
    assert compression(torch.from_numpy(np.round(picture)).permute(2, 0, 1)) is None


def of_few_values(kind: str) -> Image.Image:
    rng, grey = np.random.default_rng(2), Image.fromarray(scene(128)[..., 1].astype(np.uint8))
    y, x = np.mgrid[:128, :128]
    cells = np.kron(rng.integers(0, 2, (32, 32)), np.ones((4, 4)))
    page = Image.new("L", (128, 128), 255)
    for row in range(0, 128, 20):
        draw = ImageDraw.Draw(page)
        draw.text((3, row), "".join(map(chr, rng.integers(33, 123, 16))), font=ImageFont.load_default(16))
    made = {
        "page": lambda: page.point(lambda value: 255 * (value > 127), "1"),
        "mask": lambda: page.point(lambda value: 30 + 170 * (value > 127)),
        "four levels": lambda: grey.point(lambda value: value // 64 * 85),
        "dithered": lambda: grey.convert("1"),
        "palette": lambda: Image.fromarray(scene(128).astype(np.uint8)).quantize(4),
        "stripes": lambda: Image.fromarray((x // 3 % 2 * 255).astype(np.uint8)),
        "chequers": lambda: Image.fromarray(((x // 8 + y // 8) % 2 * 255).astype(np.uint8)),
        "cells": lambda: Image.fromarray((cells * 255).astype(np.uint8)),
        "cells, blurred": lambda: Image.fromarray(
            blurred(255 * cells[..., None], psf.uniform(5))[..., 0].round().astype(np.uint8)
        ),
    }
    return made[kind]()


_FEW_VALUES = "page|mask|four levels|dithered|palette|stripes|chequers|cells|cells, blurred".split("|")


@pytest.mark.parametrize("kind", _FEW_VALUES)
@pytest.mark.parametrize("crop", [(0, 0), (3, 5)])
def test_a_picture_of_few_values_was_not_compressed(kind, crop):
    samples = torch.from_numpy(np.asarray(of_few_values(kind).convert("RGB"), float)).permute(2, 0, 1)
    assert compression(samples[:, crop[0] :, crop[1] :]) is None


def test_narrow_pictures_are_told_by_as_many_blocks_and_small_files_by_their_own_steps(tmp_path):
    strip, small = scene(320)[100:140], scene(320)[100:120, :28]
    assert compression(decoded(jpeg(strip, 75))) is not None and compression(decoded(jpeg(small, 75))) is None
    path = tmp_path / "small.jpg"
    path.write_bytes(jpeg(small, 75).getvalue())
    given = measured(path)
    assert compression(given.samples, given.jpeg) is not None


def test_a_page_of_black_and_white_is_not_called_a_jpeg(tmp_path):
    of_few_values("page").save(tmp_path / "page.png")
    assert not any("JPEG" in note for note in deblur(tmp_path / "page.png", psf.disk(1.5), method="wiener").notes)


def test_a_page_that_went_through_jpeg_is(tmp_path):
    page = blurred(np.asarray(of_few_values("page").convert("L"), float)[..., None], psf.gaussian(1.5))[..., 0]
    with Image.open(jpeg(page, 75)) as picture:
        picture.save(tmp_path / "page.png")
    assert any("JPEG" in note for note in deblur(tmp_path / "page.png", psf.gaussian(1.5), method="wiener").notes)


def test_what_is_lost_is_about_what_was_lost():
    picture = scene(320)
    for quality in (60, 80, 92):
        found = compression(decoded(jpeg(picture, quality, subsampling=0)))
        grey = np.array([0.299, 0.587, 0.114])
        lost = ((decoded(jpeg(picture, quality, subsampling=0)).permute(1, 2, 0).numpy() - picture) @ grey).std()
        assert 0.8 * lost < found.error < 3 * lost


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_file_that_is_turned_says_where_its_blocks_begin(tmp_path, orientation):
    picture = scene(320)[:, :213]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.jpg"
    path.write_bytes(jpeg(picture, 70, exif=exif).getvalue())
    given = measured(path)
    found = compression(given.samples)
    assert given.jpeg is not None and found is not None
    assert tuple(n % 8 for n in given.jpeg.offset) == found.offset
    assert abs(given.jpeg.steps[0, 1] - found.steps[0, 1]) <= 1 and abs(given.jpeg.steps[2, 0] - found.steps[2, 0]) <= 1


@pytest.mark.parametrize(
    "kernel, quality, noise",
    [(psf.disk(3.0), 75, 0.0), (psf.motion(9, 30), 85, 4.0), (psf.gaussian(1.6), 95, 1.0), (psf.gaussian(1.6), 75, 4.0)],
    ids=["disk, 75", "motion, 85", "gaussian, 95", "gaussian, 75"],
)
def test_a_jpeg_gets_better_however_it_comes(tmp_path, kernel, quality, noise):
    truth = scene(176)
    seen = blurred(np.pad(truth, [(k // 2, k // 2) for k in kernel.shape] + [(0, 0)], mode="edge"), kernel)
    file = jpeg(seen + noise * np.random.default_rng(1).standard_normal(seen.shape), quality)
    path = tmp_path / "photo.jpg"
    path.write_bytes(file.getvalue())
    with Image.open(path) as picture:
        array = np.asarray(picture)
        for source in (path, array, picture):
            found = deblur(source, kernel, method="dct")
            assert gain(np.asarray(found.picture), array, truth) > 0.5
            assert any("was compressed by JPEG" in note for note in found.notes)


@pytest.mark.parametrize("boundary", ["unknown", "reflect"])
def test_a_picture_without_noise_is_the_best_case(boundary):
    truth, kernel = scene(96).mean(-1, keepdims=True), psf.disk(5.0)
    seen, inner = blurred(truth, kernel), truth[5:-5, 5:-5]

    def gained(observed: np.ndarray, boundary: str) -> float:
        return gain(deblur(observed[..., 0], kernel, boundary=boundary, method="dct").picture[..., None], seen, inner)

    free = gained(seen, boundary)
    assert free > 0
    if boundary == "unknown":
        noisy = gained(seen + np.random.default_rng(0).standard_normal(seen.shape), boundary)
        assert free > noisy > 1


def test_less_noise_than_rounding_leaves_is_raised_to_it():
    seen = np.round(blurred(scene(176), psf.disk(3.0))).astype(np.uint8)
    found = deblur(seen, psf.disk(3.0), noise=0, method="dct")
    assert found.noise == pytest.approx(12**-0.5)
    assert any("less than that of rounding; 0.289 was assumed" in note for note in found.notes)
    assert gain(found.picture, seen, scene(176)[3:-3, 3:-3]) > 3


def test_a_ruined_picture_is_spoken_of():
    truth, kernel = scene(176), psf.disk(5.0)
    seen = blurred(truth, kernel) + 3 * np.random.default_rng(0).standard_normal((166, 166, 3))
    ruined = deblur(seen, kernel, noise=0.05, method="tikhonov", strength=1e-7)
    assert any("times as rough as the observed picture" in note for note in ruined.notes)
    assert not any("as rough" in note for note in deblur(seen, kernel, method="dct").notes)
