"""Sizes are checked before memory is allocated, so a request that is too large takes next to none."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from unconv import Preprocess, cli
from unconv.errors import ShapeError
from unconv.inverse import psf
from unconv.inverse.fields import image
from unconv.inverse.psf.makers import MOST_SAMPLES, refuse_wider

MORE = 100 << 20  # bytes that may be taken, beyond what is loaded
# Each is run where no more is to be had; what it says is printed.
CALLS = {
    "gaussian(2000)": "psf.gaussian(2000)",
    "gaussian in 3 axes": "psf.gaussian(1, (10**6, 10**6, 10**6))",
    "motion": "psf.motion(1e6, 30)",
    "disk": "psf.disk(1e5)",
    "uniform": "psf.uniform(2**31 - 1)",
    "airy": "psf.airy(5e3)",
    "gibson_lanni": "psf.gibson_lanni((2**20, 2, 2), wavelength=.5, pixel=.1, spacing=1e-9)",
    "gibson_lanni of a long wave": "psf.gibson_lanni((3000, 9, 9), wavelength=.001, pixel=.1, spacing=1e-4)",
    "checked": "psf.checked(np.broadcast_to(np.uint8(1), (2**15, 2**15)))",
    "a file of a PSF": "psf.open_psf('large.npy')",
    "a text file": "psf.open_psf('large.csv')",
    "a picture of lies": "measured('large.npy')",
    "deblur": "image.deblur(PICTURE, np.broadcast_to(np.uint8(1), (4000, 4000)))",
    "estimate_kernel": "estimate_kernel(torch.rand(60, 50), 2**30)",
    "super_resolve": "image.super_resolve(PICTURE, 2**31 - 1)",
    "super_resolve with a PSF": "image.super_resolve(PICTURE, 100_000, psf.gaussian(1))",
    "Preprocess": "Preprocess((100_000, 100_000))",
    "Preprocess to resize": "Preprocess(resize=2**31 - 1)",
    "Preprocess of a line": "Preprocess(resize=5000)(Image.new('L', (20_000, 1)))",
    "Network": "Network(torch.nn.Conv2d(3, 1, 1), input_size=(3, 10**5, 10**5))",
}
SCRIPT = """
import json, resource, sys
import numpy as np, torch
from PIL import Image
from unconv import Network, Preprocess
from unconv.errors import UnconvError
from unconv.inverse import estimate_kernel, psf
from unconv.inverse.fields import image
from unconv.pictures.measured import measured

PICTURE = np.random.default_rng(0).random((60, 50))
image.deblur(PICTURE, psf.gaussian(1))
said = {}
limit = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + MORE
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for name, call in CALLS.items():
    try:
        eval(call)
    except UnconvError as error:
        said[name] = str(error)
    except BaseException as error:
        said[name] = repr(error)
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What each call says in a process that can take no more than `MORE` bytes."""
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("nothing tells how much memory a process has")
    folder = tmp_path_factory.mktemp("large")
    with (folder / "large.npy").open("wb") as file:  # 4 GB, of which none is written
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (1 << 16, 1 << 16)})
        file.truncate(file.tell() + (1 << 32))
    (folder / "large.csv").touch()
    os.truncate(folder / "large.csv", 1 << 32)
    code = SCRIPT.replace("CALLS", repr(CALLS)).replace("MORE", str(MORE))
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=folder, env=env, timeout=300)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_what_is_too_large_is_refused_before_memory_is_taken(said, name):
    if name == "a picture of lies":  # it is as large as it says: there is no such memory, and that is said
        assert "cut off" in said[name]
        return
    words = r"at most|but the picture (is )?only|less than the picture's|beyond 50000000 pixels|by forecast|but more than .* µm"
    assert re.search(words, said[name]) and "Error(" not in said[name], said[name]


@pytest.mark.parametrize("maker, numbers, ends", [
    ("gaussian", (2000,), False), ("gaussian", (6.1,), False), ("gaussian", (6.0,), True),
    ("disk", (24.5,), True), ("disk", (24.6,), False),
    ("airy", (4.8,), True), ("airy", (5,), False), ("uniform", (50,), True), ("uniform", (51,), False),
    ("motion", (49, 0), True), ("motion", (51, 0), False), ("motion", (61, 90), False), ("motion", (float("nan"), 0), True),
])  # fmt: skip
def test_a_psf_wider_than_the_picture_is_not_made(maker, numbers, ends):
    if ends:
        refuse_wider(maker, numbers, (60, 50))
        return
    with pytest.raises(ShapeError, match=rf"{maker}: the PSF would be .* but the picture is only \(60, 50\)"):
        refuse_wider(maker, numbers, (60, 50))


@pytest.mark.parametrize("maker, numbers", [
    ("gaussian", (3.3,)), ("disk", (7.7,)), ("airy", (2.2,)), ("uniform", (9,)), ("motion", (23, 37)), ("motion", (1, 0)),
])  # fmt: skip
def test_what_fits_the_picture_is_never_refused(maker, numbers):
    kernel = getattr(psf, maker)(*numbers)
    refuse_wider(maker, numbers, kernel.shape)


@pytest.mark.parametrize("options, words", [
    (["--psf", "gaussian:2000"], "but the picture is only"),
    (["--psf", "uniform:1e300"], "but the picture is only"),
    (["--psf", "estimate:5000"], "less than the picture's"),
    (["--psf", "gaussian:1", "--enlarge", "99999999999999999999"], "by forecast"),
    (["--psf", "gaussian:1", "--enlarge", "1000"], "by forecast"),
])  # fmt: skip
def test_the_command_refuses_in_one_line(tmp_path, options, words):
    Image.fromarray(np.zeros((60, 50), np.uint8)).save(tmp_path / "a.png")
    result = CliRunner().invoke(cli.app, ["deblur", str(tmp_path / "a.png"), *options])
    assert isinstance(result.exception, ShapeError) and words in str(result.exception)


@pytest.mark.parametrize("size", ["9" * 5000, "99999999999", "0", "1x2x3", "x"])
def test_a_size_of_no_sense_is_refused_in_words(size):
    result = CliRunner().invoke(cli.app, ["places", "unconv:caltech", "--size", size])
    assert result.exit_code == 2 and "is not a size" in " ".join(result.output.replace("│", " ").split())


def test_the_largest_kernels_are_still_made():
    assert psf.uniform((MOST_SAMPLES // 4096, 4096)).numel() == MOST_SAMPLES
    with pytest.raises(ShapeError, match=f"at most {MOST_SAMPLES} are allowed"):
        psf.uniform((MOST_SAMPLES // 4096, 4097))


def test_the_largest_crop_is_still_made():
    assert Preprocess((7000, 7000)).size == (7000, 7000)
    with pytest.raises(ShapeError, match="at most 50000000 pixels"):
        Preprocess((7100, 7100))


def test_a_picture_is_enlarged_as_far_as_memory_allows(monkeypatch):
    monkeypatch.setattr("unconv.inverse.fields.image.restore.limit", lambda *_: 4e7)
    picture = torch.rand(40, 30, generator=torch.Generator().manual_seed(0))
    assert image.super_resolve(picture, 2, steps=1).picture.shape == (80, 60)
    with pytest.raises(ShapeError, match=r"\(40, 30\) enlarged 20 times needs .* by forecast, but only 4e\+07"):
        image.super_resolve(picture, 20, steps=1)
