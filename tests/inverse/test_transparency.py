"""Colours under full transparency do not affect visible ones, and come back unchanged."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from unconv.box import demo_pictures
from unconv.errors import NonFinite
from unconv.inverse import Convolution, psf, psnr
from unconv.inverse.fields.image import deblur, super_resolve
from unconv.pictures.measured import measured

BLUR = psf.disk(2)


@pytest.fixture(scope="module")
def cut_out():
    """(truth, blurred, alpha) of a photograph of which a circle is seen, (3, 60, 64) and (60, 64)."""
    photo = measured(demo_pictures()[1]).samples[:, 60:124, 80:148]
    seen = Convolution(BLUR, photo.shape, "unknown").forward(photo)
    seen = (seen + torch.randn(seen.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 255).round()
    y, x = torch.meshgrid(torch.arange(60), torch.arange(64), indexing="ij")
    alpha = torch.where((y - 30) ** 2 + (x - 32) ** 2 < 24**2, 255.0, 0.0)
    return photo[:, 2:-2, 2:-2], seen, alpha


def rgba(samples, alpha, hidden):
    """(H, W, 4), uint8; `hidden`: the colour that a program has left under full transparency."""
    samples = torch.where(alpha == 0, torch.tensor(hidden)[:, None, None], samples)
    return torch.cat([samples, alpha[None]]).permute(1, 2, 0).byte().numpy()


@pytest.mark.parametrize("hidden", [(0.0, 255.0, 0.0), (0.0, 0.0, 0.0)])
def test_hidden_colours_change_nothing_that_is_seen_and_come_back(cut_out, hidden):
    truth, seen, alpha = cut_out
    results = [deblur(rgba(seen, alpha, colour), BLUR, method="tikhonov") for colour in (hidden, (255.0, 0.0, 255.0))]
    there = (alpha > 0).numpy()
    assert np.array_equal(results[0].picture[there], results[1].picture[there])
    assert np.array_equal(results[0].picture[~there], rgba(seen, alpha, hidden)[~there])
    assert np.array_equal(results[0].picture[..., 3], alpha.numpy())
    before, after = (
        psnr(truth[:, there], torch.tensor(picture[there][:, :3].T), peak=255)
        for picture in (rgba(seen, alpha, hidden), results[0].picture)
    )
    assert after > before + 1.5


def test_half_transparent_samples_are_seen(cut_out):
    _, seen, alpha = cut_out
    picture = rgba(seen, alpha.clamp(min=1), (0.0, 0.0, 0.0))
    result = deblur(picture, BLUR, noise=2, method="wiener").picture
    assert not np.array_equal(result[0, :, :3], picture[0, :, :3])


def test_a_tile_of_transparent_samples_is_left_alone(cut_out):
    _, seen, _ = cut_out
    wide = torch.cat([seen, seen.new_zeros(3, 60, 200)], 2)
    alpha = torch.zeros(60, 264)
    alpha[:, :40] = 255
    picture = rgba(wide, alpha, (9.0, 9.0, 9.0))
    result = deblur(picture, BLUR, noise=2, method="wiener", memory=2_800_000)
    assert any("tiles" in note for note in result.notes)
    assert np.array_equal(result.picture[:, 40:], picture[:, 40:])


def test_a_finer_grid_keeps_hidden_colours(cut_out):
    _, seen, alpha = cut_out
    result = super_resolve(rgba(seen, alpha, (7.0, 8.0, 9.0)), 2, noise=2, method="dct", steps=2).picture
    assert result.shape == (120, 128, 4) and result[0, 0].tolist() == [7, 8, 9, 0]


def test_a_picture_that_is_all_transparent_is_refused(cut_out):
    _, seen, alpha = cut_out
    with pytest.raises(NonFinite, match="every sample of the picture is transparent"):
        deblur(Image.fromarray(rgba(seen, alpha * 0, (1.0, 2.0, 3.0))), BLUR)
