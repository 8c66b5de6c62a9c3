"""Models of other libraries: the message if one is missing, and timm's models."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

import unconv
from unconv.errors import UnconvError, WeightsError


@pytest.mark.parametrize(
    ("spec", "library", "extra"),
    [
        ("timm:resnet18", "timm", "timm"),
        ("keras:VGG16", "keras", "keras"),
        ("net.keras", "keras", "keras"),
        ("onnx:net.onnx", "onnx", "onnx"),
    ],
)
def test_an_absent_library_is_answered_with_how_to_install_it(monkeypatch, spec, library, extra):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UnconvError, match=rf'load: {library} cannot be imported .*pip install "unconv\[{extra}\]"'):
        unconv.load(spec)


@pytest.mark.parametrize("what", ["import unconv", "from unconv.cli import app"])
def test_what_is_not_asked_for_is_not_imported(what):
    check = f"{what}; import sys; print([name for name in ('keras', 'onnx', 'timm') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize("spec", ["timm:", "keras:", "torchvision:", "keras", "model.onnx"])
def test_a_kind_without_a_name_is_answered_with_the_kinds(spec):
    with pytest.raises(UnconvError, match=rf"'{spec}' names no network. Pass .*timm:NAME, keras:NAME"):
        unconv.load(spec)


# -- timm -----------------------------------------------------------------------------------------


@pytest.fixture
def timm():
    return pytest.importorskip("timm", reason="timm is not installed: pip install timm")


@pytest.mark.slow
def test_timms_models_bring_their_preprocessing_and_classes(timm):
    network = unconv.load("timm:resnet18")
    assert (network.name, network.weights, network.input_size) == ("timm:resnet18", "random", (3, 224, 224))
    assert (len(network.classes), network.classes[0], network.module.training) == (1000, "tench", False)
    assert network.preprocess.resize_size == [int(224 / 0.95)]


@pytest.mark.slow
def test_timms_preprocessing_is_its_own(timm):
    from PIL import Image

    picture = Image.effect_noise((301, 257), 80).convert("RGB")
    network = unconv.load("timm:resnet18")
    theirs = timm.data.create_transform(**timm.data.resolve_model_data_config(network.module))
    assert torch.allclose(network.preprocess(picture), theirs(picture), atol=1e-6)


@pytest.mark.slow
def test_timms_model_of_one_seed_is_that_of_timm(timm):
    torch.manual_seed(5)
    theirs = timm.create_model("resnet18").state_dict()
    torch.manual_seed(5)
    ours = unconv.load("timm:resnet18").module.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.slow
def test_timms_model_takes_weights_from_a_file_and_no_random_numbers(timm, tmp_path):
    state = timm.create_model("resnet18").state_dict()
    save_file(state, tmp_path / "mine.safetensors")
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    network = unconv.load("timm:resnet18", tmp_path / "mine.safetensors")
    assert torch.equal(before, torch.random.get_rng_state())
    assert network.weights == "mine.safetensors"
    assert all(torch.equal(value, state[key]) for key, value in network.module.state_dict().items())


@pytest.mark.slow
def test_an_unknown_model_of_timms_is_answered_with_the_nearest_three(timm):
    with pytest.raises(UnconvError, match=r"timm has no model 'resnet19'. Did you mean \w+, \w+, \w+\?"):
        unconv.load("timm:resnet19")


@pytest.mark.parametrize(("spec", "weights"), [("timm:resnet18", "in2k"), ("timm:resnet18.in2k", None)])
def test_unknown_weights_of_timms_are_answered_with_those_there_are(timm, spec, weights):
    with pytest.raises(WeightsError, match="timm has no weights 'in2k' for resnet18; pass one of DEFAULT, a1_in1k"):
        unconv.load(spec, weights)


@pytest.mark.parametrize("weights", ["DEFAULT", "tv_in1k"])
def test_without_a_network_timms_weights_are_refused_with_the_way_out(timm, monkeypatch, tmp_path, weights):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    with pytest.raises(WeightsError, match=r"cannot download timm's weights for resnet18.*pass the file as weights"):
        unconv.load("timm:resnet18", weights)
