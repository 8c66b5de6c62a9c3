"""What the axes of a picture are: told by its file, by its lengths, or asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from unconv.errors import ShapeError
from unconv.inverse.fields.image import deblur
from unconv.inverse.psf import makers as psf
from unconv.pictures.encode import save
from unconv.pictures.measured import measured

CUBES = [
    ((31, 64, 48), "NHW", (31, 64, 48)),
    ((64, 64, 31), "HWN", (31, 64, 64)),
    ((61, 34, 10), "HWN", (10, 61, 34)),
    ((500, 64, 64), "NHW", (500, 64, 64)),
    ((50, 48, 64), "NHW", (50, 48, 64)),
    ((16, 16, 16), "NHW", (16, 16, 16)),
    ((64, 48, 2), "HWC", (2, 64, 48)),
    ((64, 48, 4), "HWC", (4, 64, 48)),
]


@pytest.mark.parametrize("shape, given, samples", CUBES)
@pytest.mark.parametrize("make", [np.zeros, torch.zeros], ids=["array", "tensor"])
def test_wavelengths_and_pictures_are_told_by_their_lengths(shape, given, samples, make):
    if make is torch.zeros and given == "HWC":
        pytest.skip("a tensor's last axis is colours only where there are three")
    picture = measured(make(shape))
    assert (picture.given, picture.axes, tuple(picture.samples.shape)) == (given, "NHW", samples)
    assert picture.like(picture.samples).shape == shape


@pytest.mark.parametrize("shape", [(512, 217, 204), (145, 145, 200), (100, 51, 48), (200, 64, 31)])
def test_axes_that_could_be_either_are_asked_for(shape):
    with pytest.raises(ShapeError, match=r'do not tell what its axes are.*axes="NHW" .* axes="HWN"'):
        measured(np.broadcast_to(np.float32(0), shape))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 31])
@pytest.mark.parametrize("axes", ["CHW", "HWC"])
def test_any_number_of_channels_is_taken(axes, count):
    array = np.random.default_rng(0).normal(size=(count, 9, 8)).transpose([0, 1, 2] if axes == "CHW" else [1, 2, 0])
    picture = measured(array, axes=axes)
    assert picture.alpha is None and picture.samples.shape == (count, 9, 8)
    assert picture.axes == ("CHW" if count in (1, 3) else "NHW")
    assert np.array_equal(picture.like(picture.samples), array)


@pytest.mark.parametrize("dtype, opaque", [("uint8", 255), ("uint16", 65535), ("float32", 1), ("float64", 255)])
@pytest.mark.parametrize("channels", [2, 4])
def test_only_a_channel_that_is_clear_or_opaque_is_taken_for_alpha(dtype, opaque, channels):
    array = np.random.default_rng(0).integers(1, 99, (20, 30, channels)).astype(dtype)
    assert measured(array).alpha is None
    array[..., -1] = 0
    assert measured(array).alpha is None, "a dark channel"
    array[5:, :, -1] = opaque
    array[5, :9, -1] = opaque // 2
    assert measured(array).samples.shape == (channels - 1, 20, 30)
    assert measured(array, axes="HWN").samples.shape == (channels, 20, 30)


def test_alpha_may_be_named():
    array = np.random.default_rng(0).integers(0, 255, (20, 30, 4), "uint8")
    assert measured(array, axes="HWA").axes == "CHW" and measured(array, axes="HWA").alpha is not None
    with pytest.raises(ShapeError, match="alpha is the last of 2 or 4 channels"):
        measured(array[..., :3], axes="HWA")


NAMED = [
    ("TZCYX", (2, 3, 4, 9, 8), "NNNHW", "NNDHW", (2, 4, 3, 9, 8)),
    ("ZYX", (3, 9, 8), "NHW", "DHW", (3, 9, 8)),
    ("CZYX", (2, 3, 9, 8), "NNHW", "NDHW", (2, 3, 9, 8)),
    ("YXZ", (9, 8, 3), "NHW", "DHW", (3, 9, 8)),
    ("TZYXS", (2, 3, 9, 8, 3), "NNCHW", "NCDHW", (2, 3, 3, 9, 8)),
    ("TYX", (3, 9, 8), "NHW", "NHW", (3, 9, 8)),
]


@pytest.mark.parametrize("names, shape, axes, volume, samples", NAMED)
def test_the_axes_of_microscopes_are_understood(names, shape, axes, volume, samples):
    array = np.random.default_rng(0).normal(size=shape)
    picture = measured(array, axes=names)
    assert picture.axes == axes and np.array_equal(picture.like(picture.samples), array)
    deep = picture.as_volume()
    assert (deep.axes, tuple(deep.samples.shape)) == (volume, samples)
    assert np.array_equal(deep.like(deep.samples), array)


def test_each_wavelength_is_restored_as_if_it_stood_alone():
    cube = np.random.default_rng(0).normal(100, 9, (24, 24, 7))
    blur = psf.gaussian(1)
    together = deblur(cube, blur, noise=5, method="tikhonov", strength=1.0).picture
    apart = [deblur(cube[..., k], blur, noise=5, method="tikhonov", strength=1.0).picture for k in range(7)]
    assert np.allclose(together, np.stack(apart, -1))


def test_a_psf_of_three_axes_makes_volumes_of_planes_and_of_nothing_else():
    array = np.random.default_rng(0).normal(100, 9, (2, 6, 16, 16))
    blur = torch.ones(3, 3, 3) / 27
    restored = deblur(array, blur, noise=5, method="tikhonov", strength=1.0, axes="TZYX").picture
    alone = deblur(array[1], blur, noise=5, method="tikhonov", strength=1.0).picture
    assert np.allclose(restored[1], alone)
    with pytest.raises(ShapeError, match="a PSF of 2 axes was needed"):
        deblur(array[:, 0], blur, noise=5, axes="TYX")


def test_the_noise_of_a_thin_volume_is_told_by_its_planes():
    volume = 50 + 3 * torch.randn(4, 40, 40, generator=torch.Generator().manual_seed(0))
    assert deblur(volume, torch.ones(3, 3, 3) / 27, method="tikhonov", strength=1.0).noise == pytest.approx(3, rel=0.1)


def test_a_psf_of_more_planes_than_the_volume_has_is_no_hindrance():
    truth = torch.zeros(24, 20, 20)
    truth[10:13, 6:12, 7:9] = 200
    blur = psf.gaussian((2.0, 1.0, 1.0))
    seen = torch.nn.functional.conv3d(truth[None, None], blur[None, None].float(), padding=tuple(n // 2 for n in blur.shape))
    part = slice(8, 15)
    observed = seen[0, 0, part] + torch.randn(7, 20, 20, generator=torch.Generator().manual_seed(0))
    assert len(blur) > len(observed)
    restored = deblur(observed, blur, noise=1, method="richardson-lucy").picture
    assert (restored - truth[part]).square().mean() < 0.6 * (observed - truth[part]).square().mean()
    with pytest.raises(ShapeError, match="but the picture only"):
        deblur(observed, blur, noise=1, method="richardson-lucy", boundary="zero")


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("mode", ["array", "picture", "file"])
def test_soft_alpha_is_alpha_in_tiff_where_it_was_known_to_be(tmp_path, mode, dtype):
    pytest.importorskip("tifffile", reason="deep TIFF files need tifffile")
    array = np.random.default_rng(0).integers(1, 200, (20, 30, 4)).astype(dtype)
    if mode == "picture":
        save(Image.fromarray(array.astype("u1")), tmp_path / "b.tif")
    elif mode == "array":
        save(array, tmp_path / "b.tif", axes="HWA")
    else:
        save(array, tmp_path / "a.png", axes="HWA")
        came = measured(tmp_path / "a.png")
        save(came.like(came.samples), tmp_path / "b.tif", axes=came.given, metadata=came.metadata)
    back = measured(tmp_path / "b.tif")
    assert back.axes == "CHW" and back.alpha is not None and np.array_equal(back.alpha[0], array[..., 3])
