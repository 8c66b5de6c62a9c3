"""Which picture a network is shown, and how that is prepared: the same options at every command, and said everywhere."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from unconv import cli
from unconv.errors import UnconvError

FACTORIES = """
import torch
from torch import nn

def body(channels):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU())

def grey(): return body(1)
def colour(): return body(3)
def bands(): return body(5)
def line(): return nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU())

class ByHand(nn.Module):
    # Its convolution is a function: no module tells how many channels it takes.

    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(body(channels)[0].weight.detach())

    def forward(self, x):
        # A shift by the channel's mean is also what a single channel would take, spread over all.
        shifted = x - torch.zeros(1, len(self.weight[0]), 1, 1) if len(self.weight[0]) > 1 else x
        return torch.relu(nn.functional.conv2d(shifted, self.weight))

def by_hand(): return ByHand(3)
def grey_by_hand(): return ByHand(1)

class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.features, self.attention, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.ReLU()

    def forward(self, x):
        return self.last(self.features(x) * self.attention(x))
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(FACTORIES)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save("photo.png")
    np.save("bands.npy", rng.random((5, 20, 24)).astype(np.float32))
    np.save("bands_last.npy", rng.random((20, 24, 5)).astype(np.float32))
    np.save("line.npy", rng.standard_normal((2, 64)).astype(np.float32))
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(cli.app, list(arguments))


def refusal(*arguments):
    """What a command that is refused says; the program around it makes one line and status 1 of that."""
    found = run(*arguments)
    assert isinstance(found.exception, UnconvError), found.output
    return str(found.exception)


def numbers(*arguments):
    found = run(*arguments, "--json")
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


def test_what_is_assumed_is_said_on_standard_error_on_the_page_and_in_the_numbers(here):
    found = run("project", "nets.py:colour", "photo.png", "--size", "24x32", "-o", "out")
    assert found.exit_code == 0 and "assumed" in found.stderr.lower()
    written = json.loads((here / "out/numbers.json").read_text())["preprocess"]
    assert written["crop"] == [24, 32] and written["assumed"] is True
    assert "Assumed" in (here / "out/index.html").read_text()
    quiet = run("project", "nets.py:colour", "photo.png", "--size", "24x32", "-o", "out", "-q")
    assert "assumed" not in quiet.stderr.lower()


def test_what_is_given_is_not_called_assumed(here):
    given = ("--size", "24x32", "--resize", "26", "--mean", "0.4,0.5,0.6", "--std", "0.2,0.2,0.3", "--scale", "1")
    written = numbers("project", "nets.py:colour", "photo.png", *given, "-o", "out")["preprocess"]
    assert written["mean"] == [0.4, 0.5, 0.6] and written["std"] == [0.2, 0.2, 0.3]


@pytest.mark.parametrize("command", ["places", "check", "bench"])
def test_every_command_takes_the_picture_s_options(here, command):
    picture = () if command == "places" else ("photo.png",)
    options = ("--size", "16x20", "--resize", "20", "--mean", "0.5", "--std", "0.25", "--scale", "255", "--bgr")
    assert run(command, "nets.py:colour", *picture, *options).exit_code == 0


def test_a_grey_network_takes_a_colour_picture_and_says_so(here):
    found = run("project", "nets.py:grey", "photo.png", "--size", "24x32", "-o", "out")
    assert found.exit_code == 0, found.output
    assert "grey" in found.stderr
    assert json.loads((here / "out/numbers.json").read_text())["layers"]


@pytest.mark.parametrize("name, channels", [("by_hand", 3), ("grey_by_hand", 1)])
def test_one_mean_stands_for_all_channels_where_no_module_tells_how_many_there_are(here, name, channels):
    options = ("--size", "16x20", "--mean", "0", "--std", "1", "-o", "out")
    assert len(numbers("project", f"nets.py:{name}", "photo.png", *options)["preprocess"]["mean"]) == channels


@pytest.mark.parametrize("name", ["bands.npy", "bands_last.npy"])
def test_a_network_of_many_channels_takes_an_array_and_no_picture(here, name):
    found = run("project", "nets.py:bands", name, "-o", "out")
    assert found.exit_code == 0, found.output
    words = refusal("project", "nets.py:bands", "photo.png", "-o", "other")
    assert "the network takes 5 channels" in words and ".npy" in words


def test_a_network_of_lines_is_checked_on_a_line(here):
    found = run("check", "nets.py:line", "line.npy")
    assert found.exit_code == 0, found.output
    assert refusal("project", "nets.py:line", "line.npy", "-o", "out") and not (here / "out").exists()


def test_a_gate_is_named(here):
    assert "neither is a gate" in refusal(
        "project", "nets.py:Gated", "photo.png", "--size", "24x32", "-o", "out", "--at", "last"
    )
    gated = ("--size", "24x32", "--gate", "attention")
    said = numbers("project", "nets.py:Gated", "photo.png", *gated, "-o", "out", "--at", "last")
    assert any("gate frozen" in note for note in said["layers"][0]["notes"])
    assert run("check", "nets.py:Gated", "photo.png", *gated).exit_code == 0
    assert "attention" in refusal("check", "nets.py:Gated", "photo.png", "--size", "24x32", "--gate", "attenton")


def test_onnx_weights_say_nothing_of_their_pictures(here):
    pytest.importorskip("onnx", reason="ONNX is not installed: pip install onnx")
    from onnx import TensorProto, helper, numpy_helper, save

    weight = numpy_helper.from_array(torch.randn(4, 3, 3, 3).numpy(), "weight")
    nodes = [helper.make_node("Conv", ["image", "weight"], ["maps"], name="first"), helper.make_node("Relu", ["maps"], ["out"])]
    shapes = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("image", [1, 3, 20, 24]), ("out", None))]
    save(helper.make_model(helper.make_graph(nodes, "g", shapes[:1], shapes[1:], [weight])), "net.onnx")
    assert numbers("project", "onnx:net.onnx", "photo.png", "-o", "out")["preprocess"]["assumed"] is True


def test_timm_s_own_weights_are_prepared_as_timm_says():
    timm = pytest.importorskip("timm", reason="timm is not installed: pip install timm")
    from unconv.networks.timm import _preprocessing
    from unconv.pictures.preparation import preparation

    module = timm.create_model("resnet18", pretrained=False)
    found = preparation(_preprocessing(timm, timm.data.resolve_model_data_config(module)), (3, 224, 224), "timm", False)
    assert found.crop == (224, 224) and found.mean == pytest.approx((0.485, 0.456, 0.406), abs=1e-4)
