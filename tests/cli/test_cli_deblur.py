"""`unconv deblur`, outside in."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from typer.testing import CliRunner

from unconv import cli
from unconv.box import demo_pictures
from unconv.errors import PictureError, UnconvError
from unconv.inverse import Convolution, psf
from unconv.pictures.measured import measured


@pytest.fixture(scope="module")
def blurred():
    """(72, 72), float32: a piece of a photograph, out of focus, its edges unknown."""
    photo = measured(demo_pictures()[1]).samples.mean(0)[80:156, 80:156]
    blur = Convolution(psf.disk(2), photo.shape, "unknown")
    return blur.forward(photo) + torch.randn(blur.shape_out, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def here(tmp_path, monkeypatch, blurred):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(blurred.clamp(0, 255).round().byte().numpy()).save(tmp_path / "soft.png")
    Image.fromarray(blurred.numpy()).save(tmp_path / "soft.tif")
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(cli.app, ["deblur", *arguments])


@pytest.mark.slow
def test_a_picture_is_restored_beside_itself_with_a_before_and_after(here):
    before = (here / "soft.png").read_bytes()
    result = run("soft.png", "--psf", "disk:2", "--method", "tv")
    assert result.exit_code == 0, result.output
    with Image.open(here / "soft-restored.png") as restored, Image.open(here / "soft-restored-before-after.png") as both:
        assert (restored.mode, restored.size, both.size) == ("L", (72, 72), (148, 72))
    assert (here / "soft.png").read_bytes() == before
    assert result.output.startswith("tv: noise ")


@pytest.mark.slow
def test_float_tiff_stays_float_and_json_is_all_that_is_printed(here):
    result = run("soft.tif", "--psf", "disk:2", "--method", "wiener", "--json")
    assert result.exit_code == 0, result.output
    numbers = json.loads(result.stdout)
    assert numbers["method"] == "wiener" and numbers["converged"]
    assert measured(here / "soft-restored.tif").dtype == np.float32


@pytest.mark.slow
def test_a_psf_from_a_file_is_the_psf(here, blurred):
    np.save(here / "psf.npy", psf.disk(2).numpy())
    assert run("soft.tif", "--psf", "psf.npy", "--method", "wiener", "-o", "a.tif").exit_code == 0
    assert run("soft.tif", "--psf", "disk:2", "--method", "wiener", "-o", "b.tif").exit_code == 0
    assert torch.equal(measured(here / "a.tif").samples, measured(here / "b.tif").samples)


def test_what_the_photograph_says_of_itself_comes_back_and_what_cannot_is_told(here):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[271], exif[274] = "Maker", 6
    with Image.open(here / "soft.png") as image:
        image.crop((0, 0, 72, 40)).convert("RGB").save(here / "photo.jpg", exif=exif, icc_profile=profile, dpi=(300, 300))
    for name in ("out.jpg", "out.bmp"):
        result = run("photo.jpg", "--psf", "disk:1", "--method", "wiener", "-o", name, "--no-before-after")
        assert result.exit_code == 0, result.output
        assert ("out.bmp cannot hold these metadata of the picture" in result.stderr) is (name == "out.bmp")
    with Image.open(here / "out.jpg") as image:
        assert image.size == (40, 72) and image.info["icc_profile"] == profile and image.info["dpi"] == (300, 300)
        assert (image.getexif()[271], image.getexif()[274]) == ("Maker", 1)


def test_a_finer_grid_is_asked_for_with_enlarge(here):
    result = run("soft.tif", "--psf", "uniform:2", "--enlarge", "2", "--method", "dct", "--steps", "3", "-o", "big.tif")
    assert result.exit_code == 0, result.output
    assert tuple(measured(here / "big.tif").samples.shape) == (144, 144)


def test_the_blurred_picture_is_never_overwritten(here):
    result = run("soft.png", "--psf", "disk:2", "-o", "soft.png")
    assert isinstance(result.exception, UnconvError)
    assert "is the blurred picture itself" in str(result.exception)


@pytest.mark.parametrize("taken", ["soft-restored.png", "soft-restored-before-after.png"])
@pytest.mark.parametrize("kind", ["file", "link", "dangling link"])
def test_nothing_is_replaced_without_leave_and_before_any_work(here, monkeypatch, taken, kind):
    (here / "target.png").write_bytes(b"mine")
    if kind == "file":
        (here / taken).write_bytes(b"mine")
    else:
        (here / taken).symlink_to("target.png" if kind == "link" else "absent.png")
    monkeypatch.setattr("unconv.pictures.measured.measured", None)  # which would fail if it were called
    result = run("soft.png", "--psf", "disk:2")
    assert str(result.exception) == (f"deblur: {taken} already exists. Pass --force to replace it, or another name with -o.")
    assert (here / "target.png").read_bytes() == b"mine" and not (here / "absent.png").exists()
    assert len(list(here.glob("soft-*"))) == 1


@pytest.mark.parametrize("option", ["--force", "--overwrite"])
def test_force_replaces_both_files_and_keeps_modes_and_links(here, option):
    (here / "target.png").write_bytes(b"mine")
    (here / "soft-restored.png").symlink_to("target.png")
    (here / "soft-restored-before-after.png").write_bytes(b"mine")
    (here / "soft-restored-before-after.png").chmod(0o600)
    for _ in range(2):
        result = run("soft.png", "--psf", "disk:2", "--method", "wiener", option)
        assert result.exit_code == 0, result.output
    assert (here / "soft-restored.png").is_symlink()
    assert (here / "soft-restored-before-after.png").stat().st_mode & 0o777 == 0o600
    with Image.open(here / "target.png") as restored, Image.open(here / "soft-restored-before-after.png") as both:
        assert (restored.size, both.size) == ((72, 72), (148, 72))


@pytest.mark.parametrize("way", ["./soft.png", "link.png"])
def test_the_blurred_picture_is_not_replaced_by_another_name_either(here, way):
    (here / "link.png").symlink_to("soft.png")
    before = (here / "soft.png").read_bytes()
    for arguments in (("soft.png", "-o", way), (way, "-o", "soft.png")):
        result = run(*arguments, "--psf", "disk:2", "--force")
        assert "is the blurred picture itself" in str(result.exception)
    assert (here / "soft.png").read_bytes() == before


def test_a_picture_with_a_long_name_is_refused_before_the_work(here, monkeypatch):
    name = f"{'a' * 245}.png"
    (here / "soft.png").rename(here / name)
    monkeypatch.setattr("unconv.pictures.measured.measured", None)
    result = run(name, "--psf", "disk:2")
    assert "File name too long. Choose a shorter name." in str(result.exception)


def test_a_kind_of_file_that_cannot_hold_the_picture_is_refused_before_the_work(here, monkeypatch):
    monkeypatch.setattr("unconv.inverse.fields.image.deblur", None)  # which would fail if it were called
    result = run("soft.tif", "--psf", "disk:2", "-o", "soft-8.png")
    assert isinstance(result.exception, PictureError)
    assert "soft-8.png" in str(result.exception) and not (here / "soft-8.png").exists()


@pytest.mark.parametrize(
    "psf_option, decodes, encodes", [("disk:2", 1, 2), ("estimate:5", 1, 3), ("psf.npy", 1, 2), ("psf.png", 2, 2)]
)
def test_files_are_decoded_once_and_results_encoded_once(here, monkeypatch, psf_option, decodes, encodes):
    np.save(here / "psf.npy", psf.disk(2).numpy())
    Image.fromarray((psf.disk(2) / psf.disk(2).max() * 255).byte().numpy()).save(here / "psf.png")
    counts = Counter()

    def counted(what, function):
        def run(*arguments, **settings):
            counts[what] += 1
            return function(*arguments, **settings)

        return run

    monkeypatch.setattr(Image, "open", counted("decodes", Image.open))
    monkeypatch.setattr(Image.Image, "save", counted("encodes", Image.Image.save))
    result = run("soft.png", "--psf", psf_option, "--method", "wiener")
    assert result.exit_code == 0, result.output
    assert counts == {"decodes": decodes, "encodes": encodes}  # the result, before beside after, and the estimated kernel


@pytest.mark.slow
def test_an_estimated_kernel_is_shown_told_and_can_be_passed_again(here):
    result = run("soft.png", "--psf", "estimate:7", "--method", "wiener", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    kernel = np.load(told["kernel"]["samples"])
    assert told["kernel"]["samples"] == "soft-restored-kernel.npy"
    assert kernel.shape == (7, 7) and kernel.min() >= 0 and abs(kernel.sum() - 1) < 1e-5
    with Image.open(told["kernel"]["picture"]) as shown:
        assert shown.size == (252, 252) and shown.getextrema()[1] == 255
    assert told["kernel"]["trusted"] is (not any(note.startswith("blind: do not trust") for note in told["notes"]))
    (here / "soft-restored.png").rename(here / "restored.png")
    refused = run("soft.png", "--psf", "estimate:7", "--no-before-after").exception
    assert isinstance(refused, UnconvError) and "soft-restored-kernel.png already exists" in str(refused)
    again = run("soft.png", "--psf", "soft-restored-kernel.npy", "--method", "wiener", "-o", "again.png")
    assert again.exit_code == 0
    with Image.open("again.png") as once, Image.open("restored.png") as twice:
        assert abs(np.asarray(once, int) - np.asarray(twice, int)).max() <= 1


@pytest.mark.parametrize("quiet", [True, False])
def test_quiet_leaves_results_and_errors_only(here, quiet):
    Image.fromarray(np.full((40, 40), 7, np.uint8)).save(here / "flat.png")
    result = run("flat.png", "--psf", "estimate:5", "--method", "wiener", *(["-q"] if quiet else []))
    assert result.exit_code == 0, result.output
    assert ("unconv: " in result.stderr) is not quiet
    assert "wrote flat-restored.png" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--psf", "gausian:2"), "neither a file nor a formula. Write the name of a file, or one of"),
        (("--psf", "gausian:2"), "Nearest: gaussian:SIGMA, "),
        (("--psf", "motion:3"), "but motion:LENGTH,ANGLE was needed"),
        (("--psf", "gaussian:x"), "but gaussian:SIGMA was needed"),
        (("--psf", "disk:2", "--noise", "some"), "estimate, poisson or a number"),
    ],
)
def test_wrong_usage_is_told_in_words(here, arguments, words):
    result = run("soft.png", *arguments)
    assert result.exit_code == 2
    assert words in " ".join(result.output.replace("│", " ").split())
