"""Hot, dead and saturated samples are found where they are, and nowhere else."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from cases.blurs import photograph
from unconv.inverse import Convolution, psf
from unconv.inverse.fields.image.defects import defects, sharpness
from unconv.inverse.fields.image.restore import deblur
from unconv.inverse.metrics import psnr
from unconv.pictures.measured import measured

BLURS = {"gaussian": psf.gaussian(1.2), "disk": psf.disk(2.5), "motion": psf.motion(9, 0), "box": psf.uniform(5)}


def stars():
    truth = torch.full((80, 80), 10.0, dtype=torch.double)
    truth[8::16, 8::16] += 3000.0 * torch.arange(1, 26, dtype=torch.double).reshape(5, 5)
    return truth


def text():
    page = torch.full((80, 80), 255.0, dtype=torch.double)
    for row in range(6, 74, 9):
        for column in range(4, 76, 5):
            page[row : row + 6, column] = 0
            page[row + 2 * (column % 3), column : column + 3] = 0
    return page


SCENES = {"photograph": lambda: photograph().double(), "stars": stars, "text": text, "light text": lambda: 255 - text()}


def seen(scene, blur, noise=1.0):
    truth = SCENES[scene]()
    y = Convolution(blur.double(), truth.shape, "circular").forward(truth)
    y = y + noise * torch.randn(y.shape, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    return truth, y.round().clamp(0, 65535 if scene == "stars" else 255).numpy().astype(
        np.uint16 if scene == "stars" else np.uint8
    )


@pytest.mark.parametrize("blur", BLURS.values(), ids=BLURS)
@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_a_clean_picture_has_no_defects(scene, blur, noise):
    assert defects(measured(seen(scene, blur, noise)[1]), blur) == (None, [])


@pytest.mark.parametrize("blur", BLURS.values(), ids=BLURS)
@pytest.mark.parametrize("scene", ["photograph", "stars"])
def test_hot_and_dead_samples_are_found(scene, blur):
    y = seen(scene, blur)[1]
    bad = np.random.default_rng(0).random(y.shape) < 0.005
    y[bad] = np.where(y[bad] > 100, 0, 255 if scene == "photograph" else 2000)
    found, notes = defects(measured(y), blur)
    assert (found.numpy() & bad).sum() >= 0.7 * bad.sum() and (found.numpy() & ~bad).sum() <= bad.sum()
    assert f"{int(found.sum())} hot or dead samples" in notes[0]


def test_hot_and_dead_samples_do_as_little_harm_as_missing_ones():
    truth, y = seen("photograph", BLURS["gaussian"])
    bad = np.random.default_rng(1).random(y.shape) < 0.005
    spoiled, holes = y.copy(), np.where(bad, np.nan, y).astype(np.float32)
    spoiled[bad] = np.where(y[bad] > 100, 0, 255)
    found, known = (deblur(a, BLURS["gaussian"], boundary="circular", method="wiener") for a in (spoiled, holes))
    assert "hot or dead" in found.notes[0]
    found_psnr, known_psnr = (psnr(truth, torch.from_numpy(r.picture).double(), 255) for r in (found, known))
    assert found_psnr > known_psnr - 1
    assert np.array_equal(found.observed, spoiled)


@pytest.mark.parametrize("blur", BLURS.values(), ids=BLURS)
def test_samples_that_are_only_somewhat_bright_are_found_beside_clear_ones(blur):
    y = seen("photograph", blur)[1].astype(np.float32)
    bad = np.random.default_rng(2).random(y.shape) < 0.01
    y[bad] += np.random.default_rng(3).uniform(40, 200, bad.sum())
    found, _ = defects(measured(y), blur)
    assert (found.numpy() & bad).sum() >= 0.8 * bad.sum() and (found.numpy() & ~bad).sum() <= 0.1 * bad.sum()


def test_a_hot_sample_of_one_colour_or_plane_is_found_there():
    y = seen("photograph", BLURS["gaussian"])[1]
    colours, planes = np.stack([y] * 3, -1), np.stack([y] * 5)
    colours[20, 30, 1] = planes[2, 20, 30] = 255 if y[20, 30] < 128 else 0
    for samples, kernel, place in (
        (measured(colours), BLURS["gaussian"], (1, 20, 30)),
        (measured(planes, axes="NHW"), BLURS["gaussian"], (2, 20, 30)),
        (measured(planes, axes="DHW"), psf.gaussian((1.0, 1.2, 1.2)), (2, 20, 30)),
    ):
        assert defects(samples, kernel)[0].nonzero().tolist() == [list(place)]


def test_crossing_lines_are_as_good_as_no_defects():
    page, generator = torch.full((160, 160), 255.0, dtype=torch.double), torch.Generator().manual_seed(1)
    for place in torch.randint(4, 156, (12,), generator=generator).tolist():
        page[place, 4:156] = page[4:156, place] = page.diagonal(place - 80)[:] = 0
    for blur in (psf.uniform(3), psf.disk(1.5), psf.gaussian(0.7)):
        y = Convolution(blur.double(), page.shape, "circular").forward(page)
        noise = torch.randn(y.shape, generator=generator, dtype=torch.double)
        found = defects(measured((y + noise).round().clamp(0, 255).numpy().astype(np.uint8)), blur)[0]
        assert found is None or int(found.sum()) < 5


def test_missing_samples_are_no_defects():
    y = seen("photograph", BLURS["gaussian"])[1].astype(np.float32)
    y[10:20, 10:20] = y[40, :] = np.nan
    assert defects(measured(y), BLURS["gaussian"]) == (None, [])


def test_full_samples_are_found_and_restored():
    _, y = seen("stars", BLURS["gaussian"])
    full = np.minimum(y, 2000)
    found, notes = defects(measured(full), BLURS["gaussian"])
    assert np.array_equal(found.numpy(), full == 2000)
    assert notes == [f"deblur: {(full == 2000).sum()} saturated samples were treated as missing."]
    restored = deblur(full.astype(np.float32), BLURS["gaussian"], "poisson", "circular", gain=1, offset=0, read_noise=1).picture
    assert restored.max() > 20_000


def night(blur, seed=0):
    """(what a photograph of lamps would be, clipped; what is seen of it, 8 bits): some are brighter than white."""
    light = photograph().double().tile(2, 2) / 255 * 0.3
    for y, x in torch.randint(14, min(light.shape) - 14, (3, 2), generator=torch.Generator().manual_seed(seed)).tolist():
        light[y - 1 : y + 2, x - 1 : x + 2] = 20.0
    y = Convolution(blur.double(), light.shape, "circular").forward(light)
    y = 255 * y + torch.randn(y.shape, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    return 255 * light.clamp(max=1), y.round().clamp(0, 255).byte().numpy()


@pytest.mark.parametrize("file", ["PNG", "JPEG"])
@pytest.mark.parametrize("blur", [psf.gaussian(1.2), psf.disk(2.5), psf.motion(9, 30)], ids=["gaussian", "disk", "motion"])
def test_lamps_of_a_photograph_are_found_with_what_is_beside_them(blur, file):
    y = night(blur)[1]
    written = io.BytesIO()
    Image.fromarray(y).save(written, file, quality=90)
    found, notes = defects(measured(Image.open(written)), blur)
    assert bool(found.numpy()[y == 255].all()) and 2 < int(found.sum()) / (y == 255).sum() < 5
    assert "the lights there, such as lamps, are not restored" in notes[-1]
    again, words = defects(measured(Image.open(written)), blur, counts=True)
    assert 0.8 < int(again.sum()) / (y == 255).sum() < 1.6 and words[-1].endswith("saturated samples were treated as missing.")


def test_lamps_leave_no_trails(monkeypatch):
    blur = psf.disk(2.5)
    truth, y = night(blur)
    found = deblur(y, blur, boundary="circular", method="tv", linear=False)
    assert any("saturated" in note for note in found.notes)
    monkeypatch.setattr("unconv.inverse.fields.image.restore.defects", lambda *_, **__: (None, []))
    kept = deblur(y, blur, boundary="circular", method="tv", linear=False)
    dark = (truth < 255).numpy()
    errors = [np.square(np.asarray(p, float) - truth.numpy())[dark].mean() for p in (found.picture, kept.picture, y)]
    assert errors[0] < errors[1] / 2 and errors[0] < errors[2] / 2


def test_what_is_full_in_one_colour_is_missing_in_all():
    y = night(psf.disk(2.5))[1]
    found, _ = defects(measured(np.stack([y, y // 2, y // 2], -1)), psf.disk(2.5))
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_white_drawings_are_not_full():
    rows, columns = torch.meshgrid(torch.arange(90.0), torch.arange(90.0), indexing="ij")
    for blur in BLURS.values():
        for radius in (1.5, 4, 9):
            drawn = 40 + 215 * (((rows - 45) ** 2 + (columns - 40) ** 2) < radius**2).double()
            y = Convolution(blur.double(), drawn.shape, "circular").forward(drawn).round().byte().numpy()
            assert defects(measured(y), blur) == (None, [])


def test_a_white_page_is_not_full():
    assert defects(measured(seen("text", BLURS["box"], 4.0)[1]), BLURS["box"]) == (None, [])


def test_nothing_is_found_where_the_psf_is_as_sharp_as_a_defect():
    point = torch.zeros(3, 3)
    point[1, 1] = 1
    assert sharpness(point, 0) == float("inf")
    y = seen("photograph", BLURS["gaussian"])[1]
    y[5, 5] = 255
    assert defects(measured(y), point) == (None, [])


def test_linear_methods_keep_full_samples_which_they_would_fill_with_too_little():
    y = np.minimum(seen("stars", BLURS["gaussian"])[1], 2000).astype(np.float32)
    found = [deblur(y, BLURS["gaussian"], 3.0, "circular", method, steps=1).notes for method in ("wiener", "tikhonov", "tv")]
    assert [any("saturated" in note for note in notes) for notes in found] == [False, False, True]


@pytest.mark.parametrize("turn", ["transposed", "every other column"])
def test_samples_may_lie_in_any_order(turn):
    def laid(wide):
        return wide.T if turn == "transposed" else wide[:, ::2]

    blurry = np.tile(np.linspace(20.0, 200.0, 64), (32 if turn == "transposed" else 64, 1))
    blurry = torch.from_numpy(blurry + np.random.default_rng(0).standard_normal(blurry.shape))
    for place in ((9, 8), (20, 30), (25, 12), (11, 40)):
        blurry[place] = 4000
    strided = laid(blurry)
    found = [defects(measured(samples), psf.gaussian(1.5)) for samples in (strided, strided.contiguous())]
    assert found[0][1] == found[1][1] and "hot or dead" in found[0][1][0]
    assert torch.equal(found[0][0], found[1][0])
