"""Transfer functions: what they are in files, and there and back again."""

from __future__ import annotations

import io
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from unconv.pictures.measured import measured
from unconv.pictures.metadata import NOTHING
from unconv.pictures.transfer import SRGB, Transfer, of_profile, said_by

SHADES = torch.linspace(0, 1, 256, dtype=torch.float64)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def profile(tag, name=b"kTRC"):
    """A profile of nothing but one curve."""
    return bytes(128) + struct.pack(">I4sII", 1, name, 144, len(tag)) + tag


def parametric(kind, *numbers):
    return b"para" + struct.pack(f">IHH{len(numbers)}i", 0, kind, 0, *(round(n * 65536) for n in numbers))


def curve(*entries):
    return b"curv" + struct.pack(f">II{len(entries)}H", 0, len(entries), *entries)


CURVES = {
    "sRGB": SRGB,
    "a power": of_profile(profile(curve(round(1.8 * 256)))),
    "a table": of_profile(profile(curve(*(round(65535 * (n / 63) ** 2.2) for n in range(64))))),
    "a level table": of_profile(profile(curve(0, 0, 0, 9, 9, 2000, 65535))),
    "kind 0": of_profile(profile(parametric(0, 2.2))),
    "kind 1": of_profile(profile(parametric(1, 2.4, 1.1, -0.1))),
    "kind 2": of_profile(profile(parametric(2, 2.4, 0.9, -0.05, 0.02))),
    "kind 3": of_profile(profile(parametric(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))),
    "kind 4": of_profile(profile(parametric(4, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045, 0.001, 0.001))),
}


@pytest.mark.parametrize("name", CURVES)
def test_samples_come_back_from_light_which_rises(name):
    transfer = CURVES[name]
    light = transfer.light(SHADES)
    assert bool((light.diff() > -1e-12).all()) and not transfer.plain
    assert torch.allclose(transfer.light(transfer.samples(light)), light, atol=1e-5)
    rises = light.diff(prepend=light[:1]) > 1e-4  # else many samples are of one light
    assert torch.allclose(transfer.samples(light)[rises], SHADES[rises], atol=2e-3)


@pytest.mark.parametrize("name", ["sRGB", "a power", "a table"])
def test_the_slope_is_that_of_light(name):
    transfer, at = CURVES[name], SHADES[20:-20]
    step = 1e-4
    wanted = (transfer.light(at + step) - transfer.light(at - step)) / (2 * step)
    assert torch.allclose(transfer.slope(at), wanted, rtol=0.08)


def test_light_below_zero_is_none_and_above_white_more():
    assert float(SRGB.samples(torch.tensor(-0.2))) == 0
    assert float(SRGB.samples(torch.tensor(1.5))) > 1.1
    assert bool(SRGB.light(torch.tensor(float("nan"))).isnan())


def test_the_curve_of_pillow_s_profile_is_srgb_s():
    assert torch.allclose(of_profile(PROFILE).light(SHADES), SRGB.light(SHADES), atol=1e-4)


def test_a_profile_does_to_light_what_little_cms_does():
    """The oracle converts grey to L*, which is defined by the light."""
    shades = np.arange(256, dtype=np.uint8)[None].repeat(3, 0).T.reshape(1, 256, 3).copy()
    lab = ImageCms.createProfile("LAB", 5003)
    convert = ImageCms.buildTransform(ImageCms.ImageCmsProfile(io.BytesIO(PROFILE)), lab, "RGB", "LAB")
    brightness = np.asarray(ImageCms.applyTransform(Image.fromarray(shades), convert))[0, :, 0] / 255 * 100
    light = of_profile(PROFILE).light(SHADES).numpy()
    wanted = np.where(light > 0.008856, 116 * np.cbrt(light) - 16, 903.3 * light)
    assert np.abs(brightness - wanted).max() < 0.5


@pytest.mark.parametrize(
    "content",
    [
        b"",
        PROFILE[:140],
        profile(b"para" + bytes(4) + b"\0\x09\0\0"),
        profile(parametric(0, -1.0)),
        profile(parametric(3, 2.4, 0.0, 0, 0, 0)),
        profile(curve(0)),
        profile(curve(0, 0, 0)),
        profile(b"mft1" + bytes(40)),
        profile(b"curv" + struct.pack(">II", 0, 2**31)),
        profile(curve(1, 2), b"rXYZ"),
    ],
    ids=range(10),
)
def test_a_profile_without_a_curve_says_none(content):
    assert of_profile(content) is None


def test_a_straight_curve_is_plain():
    assert of_profile(profile(curve())).plain and of_profile(profile(curve(256))).plain


def saved(tmp_path, name, **said):
    path = tmp_path / name
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).convert("RGB").save(path, **said)
    return said_by(measured(path).metadata)


def camera_s(space):
    """EXIF of a camera that says the space of its colours; written here, as not every Pillow writes its second list of tags."""
    first = struct.pack(">HHHI4sHHII", 2, 271, 2, 4, b"abc\0", 0x8769, 4, 1, 38) + bytes(4)
    return b"Exif\0\0MM\0*" + struct.pack(">I", 8) + first + struct.pack(">HHHIHHI", 1, 0xA001, 3, 1, space, 0, 0)


def test_files_say_it_by_profile_chunk_and_exif(tmp_path):
    assert saved(tmp_path, "a.jpg") is None and saved(tmp_path, "a.png") is None
    said = saved(tmp_path, "b.jpg", icc_profile=PROFILE)
    assert torch.allclose(said.light(SHADES), SRGB.light(SHADES), atol=1e-4)
    exif = Image.Exif()
    exif[271] = "Maker of cameras"
    assert saved(tmp_path, "c.jpg", exif=exif) == SRGB
    assert saved(tmp_path, "d.jpg", exif=camera_s(65535)) is None
    assert saved(tmp_path, "f.jpg", exif=camera_s(1)) == SRGB
    other = Image.Exif()
    other[270] = "a title"
    assert saved(tmp_path, "e.jpg", exif=other) is None


def test_a_png_says_its_exponent():
    gamma = replace(NOTHING, chunks=((b"gAMA", struct.pack(">I", 50_000)),))
    assert said_by(gamma) == Transfer(2.0)
    assert said_by(replace(NOTHING, chunks=((b"gAMA", bytes(4)),))) is None
    assert said_by(replace(NOTHING, chunks=((b"sRGB", b"\0"), *gamma.chunks))) == SRGB
