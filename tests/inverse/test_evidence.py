"""The likelihood of a PSF: the right one explains a picture's spectrum best, and a wrong one gets a hint."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from unconv.inverse import psf
from unconv.inverse.fields.image import deblur
from unconv.inverse.fields.image.fit import psf_hints
from unconv.inverse.psf.evidence import misfit, moved, spectrum_of


def photograph_like(kernel: torch.Tensor, noise: float = 1.0, side: int = 160, power: float = 2.0) -> torch.Tensor:
    """Random phases under a power law, as photographs have it, blurred around the circle, and a part cut out."""
    generator = torch.Generator().manual_seed(5)
    grid = 2 * side
    white = torch.fft.rfft2(torch.randn(grid, grid, dtype=torch.double, generator=generator))
    frequency = torch.hypot(torch.fft.fftfreq(grid)[:, None], torch.fft.rfftfreq(grid)).double().clamp(min=1 / grid)
    seen = torch.fft.irfft2(white * frequency ** (-power / 2) * torch.fft.rfft2(kernel.double(), (grid, grid)), (grid, grid))
    seen = 40 * seen / seen.std() + 120
    return (seen + noise * torch.randn(grid, grid, dtype=torch.double, generator=generator))[20 : 20 + side, 30 : 30 + side]


@pytest.mark.parametrize("power", [0.0, 1.5, 2.0, 2.6])
def test_the_right_psf_explains_the_spectrum_best(power):
    spectrum = spectrum_of(photograph_like(psf.disk(3), power=power), 1.0)
    misfits = {scale: misfit(spectrum, moved(psf.disk(3), scale), soft=True) for scale in (0.7, 0.85, 1.0, 1.2, 1.4)}
    assert min(misfits, key=misfits.__getitem__) == 1.0
    assert abs(misfits[1.0]) < 0.05 or power == 0  # chance alone; points of light are far from where the fit begins


def test_moving_a_psf_makes_it_wider_and_turns_it():
    wide = moved(psf.disk(3), 2.0)
    places = torch.arange(len(wide)).double() - len(wide) // 2
    spread = float((wide.sum(0) * places**2).sum())
    assert spread == pytest.approx(6**2 / 4, rel=0.12)  # of a disk of radius 6, and its interpolation
    turned, upright = moved(psf.motion(9, 0), 1.0, 90), psf.motion(9, 90)
    middle = len(turned) // 2
    assert_close(turned[middle - 4 : middle + 5, middle : middle + 1], upright, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "kernel", [psf.disk(3), psf.motion(9, 20), psf.uniform(5), psf.gaussian(1.8)], ids=["disk", "motion", "uniform", "gaussian"]
)
@pytest.mark.parametrize("noise", [0.5, 8.0])
def test_a_right_psf_brings_no_hint(kernel, noise):
    assert psf_hints(photograph_like(kernel, noise), kernel, noise) == []
    assert psf_hints(photograph_like(kernel, noise), kernel, noise / 2) == []


@pytest.mark.parametrize("maker, told, words", [
    (psf.disk(3), psf.disk(3.8), "0.8 times as wide"), (psf.disk(4), psf.disk(3.1), "1.3 times as wide"),
    (psf.motion(11, 20), psf.motion(11, 44), "rotated by 24 degrees clockwise"),
    (psf.motion(11, 20), psf.motion(11, 0), "degrees counter-clockwise"),
])  # fmt: skip
def test_a_wrong_psf_is_told_from_one_that_fits(maker, told, words):
    (hint,) = psf_hints(photograph_like(maker), told, 1.0)
    assert words in hint


def test_colours_are_looked_at_together():
    grey = photograph_like(psf.disk(3))
    colours = torch.stack([grey, 0.8 * grey + 9, 1.1 * grey])
    assert psf_hints(colours, psf.disk(3), 1.0) == []
    assert "0.8 times as wide" in psf_hints(colours, psf.disk(3.8), 1.0)[0]


def test_nothing_is_said_of_what_cannot_be_seen():
    assert psf_hints(photograph_like(psf.disk(3))[:40, :40], psf.disk(4), 1.0) == []  # too small
    assert psf_hints(torch.full((80, 80), 7.0), psf.disk(3), 1.0) == []
    holes = photograph_like(psf.disk(3))
    holes[80, 80] = torch.nan
    assert psf_hints(holes, psf.disk(4), 1.0) == []
    assert psf_hints(torch.randn(120, 120, generator=torch.Generator().manual_seed(1)), psf.disk(3), 1.0) == []


@pytest.mark.slow
def test_deblur_says_what_would_fit_better():
    seen = photograph_like(psf.disk(3), side=120).numpy()
    wrong, right = (deblur(seen, psf.disk(radius), noise=1.0, method="wiener").notes for radius in (3.9, 3.0))
    assert any("times as wide explains the picture better" in note for note in wrong)
    assert not any("explains the picture better" in note for note in right)
    volume = deblur(np.stack([seen[:40, :40]] * 6), psf.gaussian(1.0, (3, 5, 5)), 1.0, method="wiener", axes="DHW")
    assert not any("explains" in note for note in volume.notes)
