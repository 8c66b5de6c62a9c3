"""The constant background of a measured PSF is subtracted; a computed PSF does not change."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unconv.box import demo_pictures
from unconv.inverse import Convolution, psf, psnr
from unconv.inverse.fields.image import deblur
from unconv.inverse.psf import open_psf
from unconv.pictures.encode import save
from unconv.pictures.measured import measured

TRUE = psf.gaussian(1.8, size=21)


def bead(kernel, offset=100.0, peak=2000.0, read=4.0):
    """What a camera makes of a bead: photons, an offset, its own noise, whole numbers."""
    generator = torch.Generator().manual_seed(0)
    counts = torch.poisson(kernel / kernel.max() * peak, generator=generator)
    return (counts + offset + read * torch.randn(kernel.shape, generator=generator)).round().clamp(min=0)


def grid(size):
    y, x = torch.meshgrid(*[torch.arange(size, dtype=torch.float64) - size // 2] * 2, indexing="ij")
    return (y**2 + x**2).sqrt()


GENUINE = {
    "uniform": psf.uniform(9),
    "a box that nearly fills it": torch.nn.functional.pad(psf.uniform(13), [1] * 4),
    "a disk": psf.disk(6),
    "motion": psf.motion(15, 30),
    "an aperture": psf.airy(4, size=15),
    "an aperture cut off": psf.airy(9, size=9),
    "a cone": (1 - grid(31) / 15).clamp(min=0),
    "an exponential": torch.exp(-grid(41) / 20),
    "a microscope": psf.gibson_lanni((9, 15, 15), wavelength=0.52, pixel=0.1, spacing=0.3, numerical_aperture=0.8),
    "a volume": psf.gaussian(3.0, size=15, ndim=3),
    **{f"gaussian {width}, {size}": psf.gaussian(width, size=size) for width in (1.0, 3.0, 8.0, 30.0) for size in (9, 21, 41)},
    **{f"Moffat {width}, {power}": (1 + (grid(31) / width) ** 2) ** -power for width in (2, 8, 30) for power in (1.0, 2.5)},
}


@pytest.mark.parametrize("name", GENUINE)
def test_a_genuine_psf_is_not_changed(name):
    kernel = GENUINE[name].double()
    kernel = kernel / kernel.sum()
    found, notes = open_psf(kernel)
    assert torch.equal(found, kernel / kernel.sum()) and not notes


@pytest.mark.filterwarnings("ignore:psf")
@pytest.mark.parametrize("offset, peak, read", [(100, 2000, 4), (100, 400, 4), (1000, 4000, 10), (500, 20000, 0), (32, 200, 2)])
def test_the_offset_under_a_bead_is_subtracted_and_said(offset, peak, read):
    for kernel in (bead(TRUE, offset, peak, read), bead(TRUE, offset, peak, read).short().numpy()):
        found, notes = open_psf(kernel)
        assert torch.allclose(found, TRUE, atol=0.006) and float(found.min()) == 0
        level = float(notes[0].split("level of ")[1].split()[0].rstrip(","))
        assert level == pytest.approx(offset, abs=2) and "subtracted" in notes[0]


@pytest.mark.filterwarnings("ignore:psf")
def test_an_offset_without_noise_is_subtracted_exactly():
    found, notes = open_psf(TRUE + 0.01)
    assert torch.allclose(found, TRUE, atol=1e-6) and "level of 0.01, such as" in notes[0]


@pytest.mark.filterwarnings("ignore:psf")
def test_a_stack_of_a_bead_too():
    volume = psf.gibson_lanni((11, 21, 21), wavelength=0.52, pixel=0.1, spacing=0.3, numerical_aperture=0.8)
    found, notes = open_psf(bead(volume))
    assert "level of 10" in notes[0] and float((found - volume).abs().sum()) < 0.25


@pytest.mark.filterwarnings("ignore:psf")
def test_a_bead_in_a_file_restores_a_picture(tmp_path):
    save(bead(TRUE).numpy().astype(np.uint16), tmp_path / "bead.tif")
    photo = measured(demo_pictures()[1]).samples.mean(0)[80:160, 80:160]
    seen = Convolution(TRUE, photo.shape, "unknown").forward(photo)
    seen = seen + 2 * torch.randn(seen.shape, generator=torch.Generator().manual_seed(0))
    truth = photo[10:-10, 10:-10]
    right, beads = (deblur(seen, kernel, noise=2, method="tikhonov") for kernel in (TRUE, tmp_path / "bead.tif"))
    assert psnr(truth, beads.picture, peak=255) > psnr(truth, right.picture, peak=255) - 0.3
    assert any("its border shows a constant level" in note for note in beads.notes)
