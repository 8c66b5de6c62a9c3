"""The table of image methods agrees with limits, errors, help, docstring and docs; a new method is one row."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from cases.blurs import BOX, blurred
from unconv.errors import ShapeError
from unconv.inverse.fields.image import table
from unconv.inverse.fields.image.methods import tikhonov_filter
from unconv.inverse.fields.image.restore import deblur, super_resolve
from unconv.inverse.fields.image.table import METHODS, ImageMethod
from unconv.inverse.fields.image.tiles import forecast
from unconv.inverse.operators.boundaries import BOUNDARIES
from unconv.pictures.measured import measured

ROOT = Path(__file__).parents[2]
WRITE = runpy.run_path(str(ROOT / "docs" / "write_methods.py"))


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True).stdout.split()


def test_the_table_and_its_help_texts_load_no_torch():
    code = "from unconv.inverse.fields.image import table as t; t.method_help(), t.strength_help(), t.boundary_help()"
    assert run(f"{code}; import sys; print(*{{'torch', 'numpy', 'PIL'}} & set(sys.modules))") == []


@pytest.mark.parametrize("name", METHODS)
def test_a_row_names_a_function_and_says_what_it_does_in_one_line(name):
    method = METHODS[name]
    assert callable(method.function())
    assert "\n" not in method.help and not method.help.endswith(".")


@pytest.mark.parametrize("kind", ["pictures", "volumes", "counts"])
def test_auto_knows_one_method_for_every_kind(kind):
    assert [method.default_for for method in METHODS.values()].count(kind) == 1


# What is refused


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("name", METHODS)
def test_the_boundaries_of_a_row_are_those_that_deblur_takes(name, boundary):
    y = blurred("unknown", side=32)[1]
    if boundary in METHODS[name].boundaries:
        assert deblur(y, BOX, 1.0, boundary, name, steps=1).method == name
    else:
        with pytest.raises(ShapeError, match=f"boundary is '{boundary}', but method .* takes 'unknown' or 'circular'"):
            deblur(y, BOX, 1.0, boundary, name, steps=1)


@pytest.mark.parametrize("name", METHODS)
def test_a_strength_is_taken_or_refused_as_the_row_says(name):
    y = blurred("unknown", side=32)[1]
    if METHODS[name].strength:
        weak, strong = (deblur(y, BOX, 1.0, method=name, strength=s, steps=20).picture for s in (1e-4, 10.0))
        assert float((weak - strong).abs().max()) > 1
    else:
        with pytest.raises(ShapeError, match=f"method '{name}' takes no strength, because the noise determines it. .*use 'tv'"):
            deblur(y, BOX, 1.0, method=name, strength=1.0)


@pytest.mark.parametrize("name", METHODS)
def test_axes_and_counts_are_taken_or_refused_as_the_row_says(name):
    volume, kernel = 50 + torch.rand(9, 10, 11, generator=torch.Generator().manual_seed(0)), torch.ones(3, 3, 3) / 27
    if 3 in METHODS[name].axes:
        assert deblur(volume, kernel, 1.0, method=name, steps=1).picture.shape == volume.shape
    else:
        with pytest.raises(
            ShapeError, match=f"method '{name}' takes pictures of two axes, but the PSF has 3. Use 'tv' for a volume"
        ):
            deblur(volume, kernel, 1.0, method=name)
    if METHODS[name].counts:
        assert deblur(blurred()[1], BOX, "poisson", method=name, steps=1).method == name
    else:
        with pytest.raises(ShapeError, match=f"method '{name}' is for noise that is equal everywhere, .*Use 'richardson-lucy'"):
            deblur(blurred()[1], BOX, "poisson", method=name)


@pytest.mark.parametrize("name", METHODS)
def test_the_limits_of_a_row_hold(name):
    found = deblur(blurred("unknown", side=32)[1], BOX, 1.0, method=name)
    assert 1 <= found.steps <= METHODS[name].most_steps
    grid = 20 * 20
    assert forecast((16, 16), (4, 4), name) == 4 * (METHODS[name].copies * grid + min(METHODS[name].besides, 320 * grid))


# What is said


def test_the_docstring_and_the_help_say_what_the_table_says():
    for name, method in METHODS.items():
        assert f'"{name}": {method.help}' in deblur.__doc__
        assert name in table.method_help()
        assert (name in table.strength_help()) == method.strength
        assert (name in table.boundary_help()) == (method.boundaries != BOUNDARIES)
    assert "{" not in deblur.__doc__
    assert "of the regularisation, for tv, wavelet, tikhonov and wiener; by default" in deblur.__doc__


@pytest.mark.parametrize("page", ["deconvolution.md", "deconvolution.zh-CN.md"])
def test_the_docs_have_the_table(page):
    assert WRITE["rewritten"](page) == (ROOT / "docs" / page).read_text()  # else run docs/write_methods.py


# What a method costs: a function and a row


def flat(problem):
    """A method of the test's own."""
    return tikhonov_filter(problem)


def test_a_new_method_is_one_row(monkeypatch):
    row = ImageMethod(f"{__name__}:flat", "as flat as the noise allows", most_steps=7, copies=9, boundaries=("unknown",))
    monkeypatch.setitem(METHODS, "flat", row)
    y = blurred("unknown", side=32)[1]
    told = []
    found = deblur(y, BOX, 1.0, method="flat", progress=lambda what, step, most: told.append(most))
    assert found.method == "flat" and set(told) == {7}
    assert_close(found.picture, deblur(y, BOX, 1.0, method="tikhonov", steps=7).picture)
    with pytest.raises(ShapeError, match="boundary is 'zero', but method 'flat' takes 'unknown'"):
        deblur(y, BOX, 1.0, "zero", "flat")
    with pytest.raises(ShapeError, match="'flat' takes no strength"):
        deblur(y, BOX, 1.0, method="flat", strength=1.0)
    with pytest.raises(ShapeError, match="Nearest: flat"):
        deblur(y, BOX, 1.0, method="flatt")
    assert "flat" in table.method_help() and "flat" in table.boundary_help()
    assert '"flat": as flat as the noise allows; boundary "unknown".' in table.methods_for_docstring(0)
    assert forecast((16, 16), (4, 4), "flat") == 4 * 9 * 20 * 20
    assert '| `flat` | as flat as the noise allows | "unknown" | any | no |' in WRITE["rewritten"]("deconvolution.md")
    assert '| `flat` | as flat as the noise allows | "unknown" | 任意 | 不可给 |' in WRITE["rewritten"](
        "deconvolution.zh-CN.md"
    )


# A picture is read once


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.jpg"
    Image.fromarray(blurred(colour=True)[1].clamp(0, 255).permute(1, 2, 0).numpy().astype(np.uint8)).save(path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    "restore", [lambda p: deblur(p, BOX, 1.0, method="wiener"), lambda p: super_resolve(p, 2, noise=1.0, method="wiener")]
)
def test_a_file_is_decoded_once(photo, restore, monkeypatch):
    opened, decode = [], Image.open
    monkeypatch.setattr(Image, "open", lambda file, *rest, **how: opened.append(file) or decode(file, *rest, **how))
    restore(photo).comparison()
    assert len(opened) == 1


@pytest.mark.slow
def test_what_was_measured_is_not_read_again(photo, monkeypatch):
    given = measured(photo)
    wanted = deblur(photo, BOX, 1.0, method="wiener"), super_resolve(photo, 2, noise=1.0, method="wiener")
    monkeypatch.setattr(Image, "open", None)  # which would fail if it were called
    found = deblur(given, BOX, 1.0, method="wiener", axes="HWC"), super_resolve(given, 2, noise=1.0, method="wiener")
    for one, other in zip(found, wanted, strict=True):
        assert (one.picture == other.picture).all() and one.picture.dtype == np.uint8
    with pytest.raises(ShapeError, match="axes is 'NHW', but the picture was read as 'HWC'"):
        deblur(given, BOX, 1.0, axes="NHW")


def test_a_measured_stack_is_a_volume_where_the_psf_has_three_axes():
    stack = measured(50 + torch.rand(9, 10, 11, generator=torch.Generator().manual_seed(0)))
    found = deblur(stack, torch.ones(3, 3, 3) / 27, 1.0, method="tikhonov")
    assert stack.axes == "NHW" and found.axes == "DHW"
    assert_close(found.picture, deblur(stack.samples, torch.ones(3, 3, 3) / 27, 1.0, method="tikhonov", axes="DHW").picture)
