"""Image restoration through its public functions: kinds of pictures, laws, boundaries, tiles and notes."""

from __future__ import annotations

from io import BytesIO
from math import inf, nan

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from cases.blurs import BOX, blurred, photograph
from cases.operators import random
from unconv.errors import DtypeError, NonFinite, PictureError, ShapeError
from unconv.inverse import Convolution, psf
from unconv.inverse.fields.image.restore import deblur, super_resolve
from unconv.inverse.fields.image.table import METHODS
from unconv.inverse.fields.image.tiles import forecast
from unconv.inverse.metrics import psnr
from unconv.inverse.noise import estimate_noise
from unconv.pictures.encode import save
from unconv.pictures.measured import measured

BOUNDED = ("similar", "tikhonov", "richardson-lucy")  # some of the methods that take every boundary


def shift(a, b):
    """By how many samples b lies beside a, where their correlation is largest."""
    a, b = a - a.mean(), b - b.mean()
    peak = int(torch.fft.ifft2(torch.fft.fft2(a).conj() * torch.fft.fft2(b)).real.argmax())
    return tuple((i + n // 2) % n - n // 2 for i, n in zip(divmod(peak, a.shape[1]), a.shape, strict=True))


def as_array(picture):
    """A copy."""
    return picture.numpy().copy() if isinstance(picture, torch.Tensor) else np.array(picture)


# Kinds in and out


def grey():
    return blurred()[1].clamp(0, 255)


def colours():
    return blurred(colour=True)[1].clamp(0, 255)


KINDS = {
    "grey bytes": lambda: grey().numpy().astype(np.uint8),
    "colour bytes": lambda: colours().permute(1, 2, 0).numpy().astype(np.uint8),
    "with alpha": lambda: np.concatenate(
        [colours().permute(1, 2, 0).numpy(), (4 * np.arange(64 * 64).reshape(64, 64, 1) % 512).clip(0, 255)], 2
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_bytes_of_a_restored_picture_are_rounded_and_clipped_and_not_more():
    given = grey().numpy().astype(np.uint8)
    exact = deblur(given.astype(np.float32), BOX, noise=1.0, method="wiener").picture
    found = deblur(given, BOX, noise=1.0, method="wiener").picture
    assert abs(found - exact.clip(0, 255).round()).max() <= 1


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("boundary", ["circular", "unknown"])
def test_every_method_brings_a_photograph_nearer_to_the_truth(method, boundary):
    truth, y = blurred(boundary)
    found = deblur(y.float(), BOX, noise=1.0, boundary=boundary, method=method)
    gained = psnr(truth, found.picture.double(), 255) - psnr(truth, y, 255)
    assert gained > 2.7
    assert found.method == method and found.noise == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("a", [2.0**-16, 2.0**12])
def test_a_brighter_picture_with_more_noise_is_brighter_and_nothing_else(method, a):
    y = blurred("unknown", side=48)[1]
    once = deblur(y, BOX, noise=1.0, method=method, steps=4).picture
    assert_close(deblur(a * y, BOX, noise=a, method=method, steps=4).picture, a * once, rtol=1e-6, atol=1e-6 * a)


@pytest.mark.parametrize("method", ["similar", "dct", "tv"])
def test_a_brighter_ground_changes_nothing_else(method):
    y = blurred("unknown", side=48)[1]
    once = deblur(y, BOX, noise=1.0, method=method, steps=4).picture
    assert_close(deblur(y + 100, BOX, noise=1.0, method=method, steps=4).picture, once + 100, rtol=0, atol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("boundary", ["circular", "unknown"])
def test_a_picture_on_its_side_is_restored_on_its_side(boundary):
    y, kernel = blurred(boundary, side=48)[1], psf.gaussian((1.0, 2.0), (5, 9))
    once = deblur(y, kernel, noise=1.0, boundary=boundary, method="tv").picture
    turned = deblur(y.T, kernel.T, noise=1.0, boundary=boundary, method="tv").picture
    assert_close(turned.T, once, rtol=1e-6, atol=1e-4)


@pytest.mark.slow
def test_three_equal_colours_are_restored_as_the_grey_they_are():
    y = blurred("unknown", side=48)[1]
    for method in METHODS:
        alone = deblur(y, BOX, noise=1.0, method=method, steps=4).picture
        together = deblur(y.expand(3, 48, 48), BOX, noise=1.0, method=method, steps=4).picture
        assert_close(together[0], together[2], rtol=1e-6, atol=1e-6)
        if method not in ("similar", "dct"):  # which take the noise of each colour for a noise of its own
            assert_close(together[0], alone, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_nothing_is_assumed_of_an_unknown_boundary_and_that_pays():
    truth, y = blurred("unknown")
    for method in ("similar", "tv", "wiener"):
        honest, wrong = (deblur(y, BOX, noise=1.0, boundary=b, method=method).picture for b in ("unknown", "circular"))
        assert psnr(truth, honest, 255) > psnr(truth, wrong, 255) + 1


@pytest.mark.slow
@pytest.mark.parametrize("boundary", ["zero", "reflect"])
@pytest.mark.parametrize("method", BOUNDED)
def test_a_boundary_that_is_known_is_not_worse_than_an_unknown_one(boundary, method):
    truth, y = blurred(boundary)
    told, untold = (deblur(y, BOX, noise=1.0, boundary=b, method=method).picture for b in (boundary, "unknown"))
    assert psnr(truth, told, 255) > psnr(truth, untold, 255) - 0.1


@pytest.mark.slow
@pytest.mark.parametrize("boundary", ["circular", "unknown"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [(4, 6), (5, 4)])
def test_nothing_is_shifted_by_an_even_psf(boundary, method, size):
    kernel = torch.full(size, 1 / (size[0] * size[1]), dtype=torch.double)
    truth, y = blurred(boundary, kernel)
    assert shift(truth, deblur(y, kernel, noise=1.0, boundary=boundary, method=method, steps=6).picture) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("boundary", ["circular", "unknown", "zero", "reflect"])
def test_a_stated_centre_puts_things_where_they_were(boundary):
    wide = torch.zeros(7, 9, dtype=torch.double)
    wide[:5, :5] = 1 / 25
    truth, y = blurred(boundary)
    found = deblur(y, wide, noise=1.0, boundary=boundary, method="tikhonov", centre=(2, 2)).picture  # warnings are errors
    assert shift(truth, found) == (0, 0)
    trimmed = deblur(y, BOX, noise=1.0, boundary=boundary, method="tikhonov").picture
    inside = (slice(8, -8), slice(8, -8))
    assert psnr(truth[inside], found[inside], 255) > psnr(truth[inside], trimmed[inside], 255) - 0.5


@pytest.mark.parametrize("axes, mode", [("NHW", "L"), ("CHW", "RGB")])
def test_a_comparison_shows_one_of_three_grey_pictures_and_all_colours(axes, mode):
    restored = deblur(torch.rand(3, 20, 24).numpy() * 255, BOX, noise=40.0, method="wiener", axes=axes)
    assert restored.comparison().mode == mode


# What was not observed


@pytest.mark.slow
@pytest.mark.parametrize("boundary, method", [("circular", "tv"), *(("unknown", method) for method in METHODS)])
def test_samples_that_are_nan_are_filled_in(boundary, method):
    truth, y = blurred(boundary)
    hole = torch.zeros(64, 64, dtype=torch.bool)
    hole[20:23, 30:33] = hole[50, 5:40] = True
    found = deblur(y.masked_fill(hole, nan), BOX, noise=1.0, boundary=boundary, method=method)
    assert torch.isfinite(found.picture).all() and torch.isfinite(found.observed).all()
    error = (found.picture - truth).abs()
    assert float(error[hole].mean()) < 2 * float(error[~hole].mean())


@pytest.mark.slow
def test_a_colour_that_is_nan_hides_the_sample():
    y = blurred("unknown", colour=True, side=48)[1].float()
    one, all_three = y.clone(), y.clone()
    one[1, 20, 20] = nan
    all_three[:, 20, 20] = nan
    assert_close(deblur(one, BOX, 1.0, steps=2).picture, deblur(all_three, BOX, 1.0, steps=2).picture, rtol=0, atol=1e-2)


def test_one_observed_sample_is_enough_and_none_is_not():
    y = torch.full((48, 48), nan)
    with pytest.raises(NonFinite, match="every sample of the picture is NaN"):
        deblur(y, BOX, noise=1.0)
    y[10, 10] = 3.0
    assert_close(deblur(y, BOX, noise=1.0, steps=2).picture, torch.full((48, 48), 3.0), atol=0.1, rtol=0)
    with pytest.raises(NonFinite, match="all samples of a picture of the stack are missing"):
        deblur(torch.stack([y, y * nan] * 2), BOX, noise=1.0, steps=1)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_no_two_observed_samples_need_be_neighbours(method):
    truth, observed = blurred("unknown")
    observed[::2, ::2] = observed[1::2, 1::2] = nan
    restored = deblur(observed, BOX, 1.0, method=method).picture
    assert psnr(truth, restored, 255.0) > 26


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0.0, 7.0])
def test_a_picture_of_one_value_stays_as_it_is(method, value):
    given = torch.full((64, 64), value)
    assert_close(deblur(given, BOX, method=method).picture, given, atol=1e-3, rtol=0)


# Noise


@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize("sigma", [0.5, 5.0])
def test_the_noise_of_a_blurred_photograph_is_found(which, sigma):
    assert estimate_noise(blurred("unknown", psf.gaussian(1.5), 96, sigma, which)[1]) == pytest.approx(sigma, rel=0.1)


def test_noise_is_estimated_where_it_is_not_told_and_said():
    y = blurred("unknown", psf.gaussian(1.5), 96, 5.0)[1]
    assert deblur(y, BOX, method="wiener").noise == pytest.approx(5.0, rel=0.1)
    found = deblur(np.full((64, 64), 9, dtype=np.uint8), BOX, method="wiener")
    assert found.noise == pytest.approx(12**-0.5) and "the picture has next to no noise" in found.notes[0]


def test_counts_are_restored_by_richardson_lucy():
    truth, light = blurred("circular", noise=0.0)
    y = torch.poisson(light, generator=torch.Generator().manual_seed(0))
    found = deblur(y, BOX, noise="poisson", boundary="circular")
    assert found.method == "richardson-lucy" and (found.picture >= 0).all()
    assert psnr(truth, found.picture, 255) > psnr(truth, y, 255) + 1


# What is asked for


def test_a_denoiser_of_ones_own_is_used_and_named():
    told = []

    def smoothing(x, deviation):
        told.append(deviation)
        return x

    found = deblur(blurred()[1], BOX, 1.0, "circular", smoothing, steps=5)
    assert found.method == "smoothing" and len(told) == 5 == found.steps
    assert told == sorted(told, reverse=True) and told[0] > 4 * told[-1]


@pytest.mark.slow
def test_progress_is_told_step_by_step():
    said = []
    deblur(torch.stack([grey()] * 4).float(), BOX, 1.0, method="dct", steps=2, progress=lambda *news: said.append(news))
    whole = [(part, done, most) for part, done, most in said if done == int(done)]
    assert whole[0] == ("part 1 of 4", 0, 8) and [done for _, done, _ in whole] == list(range(9))
    assert [done for _, done, _ in said] == sorted(done for _, done, _ in said) and len(said) > len(whole)


@pytest.mark.parametrize(
    "how, words",
    [
        ({"psf": torch.ones(65, 3) / 195}, r"the PSF is \(65, 3\) but the picture only \(64, 64\)"),
        ({"psf": torch.ones(3, 3, 3) / 27}, r"the PSF is \(3, 3, 3\) and the picture .* a PSF of 2 axes was needed"),
        ({"psf": torch.zeros(3, 3)}, r"all samples of \(3, 3\) are zero"),
        ({"method": "simular"}, r"there is no method 'simular'. Nearest: similar"),
        ({"boundary": "circle"}, r"there is no boundary 'circle'. Nearest: circular"),
        ({"noise": -1.0}, r"noise is -1.0, but"),
        ({"noise": inf}, r"noise is inf, but"),
        ({"noise": nan}, r"noise is nan, but"),
        ({"noise": "hello"}, r"noise is 'hello', but 'estimate', 'poisson' or a standard deviation of at least 0 was needed"),
        (
            {"noise": "poisson", "method": "tv"},
            r"method 'tv' is for noise that is equal everywhere, but the noise is 'poisson'. Use",
        ),
        ({"method": "tv", "boundary": "zero"}, r"boundary is 'zero', but method 'tv' takes 'unknown' or 'circular'"),
        (
            {"picture": grey()[:63], "method": "wavelet", "boundary": "circular"},
            r"needs even lengths, but the picture is \(63, 64\)",
        ),
        ({"steps": 0}, r"steps is 0, but at least 1 was needed"),
        ({"method": "tv", "strength": 0.0}, r"strength is 0.0, but a positive number was needed"),
        ({"memory": 1e3}, r"memory is 1e\+03 bytes for a picture of \(64, 64\)"),
        ({"picture": torch.zeros(5, 5), "noise": "estimate"}, r"at least 8 samples were needed along each of the last 2 axes"),
    ],
)
def test_odd_requests_are_refused(how, words):
    with pytest.raises(ShapeError, match=words):
        deblur(**{"picture": grey(), "psf": BOX, "noise": 1.0, **how})


def test_a_volume_s_methods_are_named():
    with pytest.raises(
        ShapeError, match=r"method 'similar' takes pictures of two axes, but the PSF has 3. Use 'tv' for a volume"
    ):
        deblur(torch.zeros(9, 9, 9), torch.ones(3, 3, 3) / 27, 1.0, method="similar")


def test_infinite_samples_are_refused():
    y = grey()
    y[3, 3] = inf
    with pytest.raises(PictureError, match="1 of 4096 samples is infinite"):
        deblur(y, BOX, 1.0)


@pytest.mark.slow
def test_odd_psfs_are_warned_of_and_noted():
    edge = torch.tensor([[0.0, 1.0, -1.0]])
    with pytest.warns(UserWarning, match="negative"), pytest.warns(UserWarning, match="it sums to 0, so it was not divided"):
        found = deblur(grey(), edge, 1.0, method="tikhonov")
    assert [note.split()[1] for note in found.notes] == ["50.00%", "it", "the"] and torch.isfinite(found.picture).all()
    with pytest.warns(UserWarning, match="it sums to 2"):
        twice = deblur(grey(), 2 * BOX, 1.0, method="wiener").picture
    assert_close(twice, deblur(grey(), BOX, 1.0, method="wiener").picture)


# Tiles and memory


@pytest.mark.slow
@pytest.mark.parametrize("method", ["similar", "tv"])
def test_tiles_leave_no_seam(method):
    y = blurred("unknown", side=160, noise=2.0)[1].float()
    room = forecast((110, 110), BOX.shape, method)
    whole, tiled = deblur(y, BOX, 2.0, method=method, steps=8), deblur(y, BOX, 2.0, method=method, steps=8, memory=room)
    assert "restored in" in tiled.notes[-1] and not whole.notes
    difference = (tiled.picture - whole.picture).square()
    assert float(difference.mean().sqrt()) < 0.75 * 2
    lines = torch.stack([difference.mean(0), difference.mean(1)])
    assert float(lines.max()) < 9 * 3 * float(difference.mean())


@pytest.mark.slow
def test_tiles_of_colours_are_put_together():
    y = torch.full((3, 200, 200), 50.0)
    found = deblur(y, BOX, 1.0, method="wiener", memory=forecast((130, 130), BOX.shape, "wiener", 3))
    assert "tiles" in found.notes[0]
    assert_close(found.picture, y, atol=1e-2, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_the_forecast_grows_with_the_picture_and_its_channels(method):
    small, large, colour = (forecast((n, n), (5, 5), method, c) for n, c in ((100, 1), (200, 1), (200, 3)))
    assert 0 < small < large < colour


# What comes with the picture


@pytest.mark.slow
def test_before_and_after_are_shown_side_by_side():
    for given in (grey(), colours().float(), torch.stack([grey()] * 4), KINDS["with alpha"](), KINDS["PIL colour"]()):
        found = deblur(given, BOX, 1.0, method="wiener")
        assert found.comparison().size == (132, 64)
        assert Image.open(BytesIO(found._repr_png_())).size == (132, 64)


# A finer grid


def coarse(truth, factor):
    return truth.unflatten(-1, (-1, factor)).mean(-1).unflatten(-2, (-1, factor)).mean(-2)


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 3])
def test_a_finer_grid_is_nearer_to_the_truth_than_bicubic_interpolation(which):
    truth = photograph(128, which)
    y = coarse(truth, 2).float()
    found = super_resolve(y, 2, noise=0.5)
    cubic = torch.from_numpy(np.array(Image.fromarray(y.numpy()).resize((128, 128), Image.Resampling.BICUBIC))).double()
    assert psnr(truth, found.picture.double(), 255) > psnr(truth, cubic, 255) + 0.5


@pytest.mark.slow
def test_a_finer_grid_needs_no_noise():
    truth = photograph(64)
    y = coarse(truth, 2)
    little, some = (psnr(truth, super_resolve(y, 2, noise=noise).picture, 255) for noise in (0.02, 0.5))
    assert little > some - 1


@pytest.mark.slow
@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("method", METHODS)
def test_a_finer_grid_lies_where_the_coarse_one_lay(method, factor):
    truth = photograph(96)
    found = super_resolve(coarse(truth, factor), factor, noise=0.5, method=method, steps=8)
    assert found.picture.shape == found.observed.shape == truth.shape
    assert shift(truth, found.picture) == (0, 0)
    assert float((coarse(found.picture, factor) - coarse(truth, factor)).square().mean().sqrt()) < 8


@pytest.mark.slow
def test_kinds_come_back_from_a_finer_grid():
    for name in ("grey bytes", "with alpha", "PIL colour", "stack of colours"):
        given = KINDS[name]()
        made = super_resolve(given, 2, noise=1.0, method="wiener").picture
        old, new = as_array(given), as_array(made)
        assert type(made) is type(given) and new.dtype == old.dtype
        assert sorted(new.shape) == sorted(2 * n if n in (64,) else n for n in old.shape)


def test_a_grid_that_is_not_finer_is_refused():
    for factor in (1, 0):
        with pytest.raises(ShapeError, match=r"factor is .*, but a whole number of at least 2 was needed"):
            super_resolve(grey(), factor)
    with pytest.raises(DtypeError, match=r"factor is 2.5, but a whole number of at least 2 was needed"):
        super_resolve(grey(), 2.5)
