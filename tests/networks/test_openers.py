"""The table of openers: everything generated from it agrees with it, and a new library needs only a row."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import unconv
from unconv.errors import UnconvError
from unconv.networks.openers import OPENERS, Opener, find_opener, lists_openers, model_help, weights_help
from unconv.networks.opening import open_network

ROOT = Path(__file__).parents[2]

LIBRARY = """
from torch import nn

from unconv.networks.opened import Opened


def open_mine(name, weights):
    return Opened(nn.Sequential(nn.Conv2d(3, int(name), 3), nn.ReLU()), f"mine:{name}", weights or "random", None, (3, 8, 8))
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A model library of one file and one row."""
    (tmp_path / "mine_networks.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(tmp_path)
    row = Opener("mine:NAME", "mine_networks:open_mine", None, "a network of mine", "random", files=(".mine",))
    OPENERS.append(row)
    yield row
    OPENERS.remove(row)


def test_a_row_opens_a_network_of_a_new_library(mine):
    network = unconv.load("mine:5", "trained")
    assert (network.name, network.weights, network.input_size) == ("mine:5", "trained", (3, 8, 8))
    assert [place.channels for place in network.places()] == [5, 5]


def test_a_row_is_in_the_help_the_docstrings_and_the_error(mine):
    assert model_help().endswith("FILE.py:factory, or mine:NAME.")
    assert ".mine for mine:NAME" in weights_help()
    assert "mine:NAME         a network of mine" in lists_openers(lambda: None).__doc__
    with pytest.raises(UnconvError, match=r"'mine:' names no network. Pass .*, mine:NAME, or a torch.nn.Module"):
        unconv.load("mine:")


@pytest.mark.parametrize("function", [unconv.load, open_network])
@pytest.mark.parametrize("opener", OPENERS, ids=lambda opener: opener.form)
def test_a_docstring_lists_what_can_be_opened(function, opener):
    assert re.search(rf"^    {re.escape(opener.form)} +{re.escape(opener.help)}$", function.__doc__, re.M)


@pytest.mark.parametrize(
    ("spec", "form", "argument"),
    [
        ("unconv:caltech", "unconv:caltech", "caltech"),
        ("timm:resnet50.a1_in1k", "timm:NAME", "resnet50.a1_in1k"),
        ("keras:VGG16", "keras:NAME", "VGG16"),
        ("a folder/net.keras", "FILE.keras", "a folder/net.keras"),
        ("onnx:C:/nets/net.onnx", "onnx:FILE", "C:/nets/net.onnx"),
        ("C:/nets/net.py:make", "FILE.py:factory", "C:/nets/net.py:make"),
    ],
)
def test_a_name_finds_its_row(spec, form, argument):
    opener, rest = find_opener(spec)
    assert (opener.form, rest) == (form, argument)


@pytest.mark.parametrize("opener", OPENERS, ids=lambda opener: opener.form)
def test_an_extra_of_a_row_can_be_installed(opener):
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert opener.extra is None or opener.extra in extras


@pytest.mark.parametrize("page", ["opening.md", "opening.zh-CN.md"])
def test_the_table_in_the_docs_is_that_of_the_program(page):
    text = (ROOT / "docs" / page).read_text()
    assert runpy.run_path(str(ROOT / "docs" / "write_opening.py"))["written"](text, page) == text


def test_the_table_loads_neither_torch_nor_a_picture_library():
    check = "import unconv.networks.openers, sys; print([name for name in ('torch', 'PIL', 'numpy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True).stdout.strip() == "[]"
