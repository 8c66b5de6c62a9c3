"""Checkpoints of trainings: the weights are found under their keys and prefixes if they fit, and the result says so."""

from __future__ import annotations

import argparse
import collections
import datetime
import pathlib

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

import unconv
from cases.weights import refused, state_of, tiny, written
from unconv.errors import WeightsError
from unconv.networks.checkpoints import AVERAGES, TRAINED


def behind(prefix, state):
    return {f"{prefix}{key}": value for key, value in state.items()}


def other(state, by=1.0):
    return {key: value + by if value.is_floating_point() else value for key, value in state.items()}


def assert_loaded(network, state):
    loaded = network.module.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in loaded.items())


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("key", [*AVERAGES, *TRAINED])
def test_weights_under_any_key_of_the_list_are_found(tmp_path, key, legacy):
    state = state_of(tiny())
    network = unconv.load(tiny(), written(tmp_path / "a.pth", {"epoch": 3, key: state}, legacy))
    assert_loaded(network, state)
    assert (network.weights, network.notes) == (f"a.pth (its {key})", ())


PREFIXES = ["module.", "model.", "_orig_mod.", "backbone.", "encoder.", "net.", "module.model.", "module._orig_mod.", "my_net."]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_of_all_names_is_removed_and_reported(tmp_path, prefix, suffix):
    state = state_of(tiny())
    network = unconv.load(tiny(), written(tmp_path / f"a{suffix}", behind(prefix, state)))
    assert_loaded(network, state)
    shown = prefix.replace("_orig_mod.", "")  # which torch puts into names, and nobody trains
    assert network.weights == (f"a{suffix} (without the prefix {shown})" if shown else f"a{suffix}")
    assert network.notes == ((f"the prefix {shown} was removed from the names in a{suffix}.",) if shown else ())


def test_the_words_that_torch_compile_adds_to_names_are_removed(tmp_path):
    model = models.squeezenet1_1()
    state = state_of(model)
    path = tmp_path / "a.pth"
    torch.save({key.replace("features.3.", "features.3._orig_mod."): value for key, value in state.items()}, path)
    assert_loaded(unconv.load("torchvision:squeezenet1_1", path), state)


def test_names_that_fit_lose_no_prefix(tmp_path):
    model = nn.Sequential()
    model.add_module("module", tiny())
    state = state_of(model)
    network = unconv.load(model, written(tmp_path / "a.pth", state | behind("ema.", other(state))))
    assert_loaded(network, state)
    assert network.weights == "a.pth (7 other tensors left out)"


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("norm", ["weight_norm", "spectral_norm"])
@pytest.mark.parametrize("old", [True, False])
def test_a_normalised_weight_fits_in_both_forms_of_torchs(tmp_path, norm, old):
    def normalised(old):
        model = tiny()
        getattr(nn.utils if old else nn.utils.parametrizations, norm)(model[0])
        return model.eval()

    trained, model = normalised(old), normalised(not old)
    with torch.no_grad():
        for value in trained.parameters():
            value.uniform_()
    unconv.load(model, written(tmp_path / "a.pth", trained.state_dict()))
    image = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(model(image), trained(image))


# -- which of several ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("state_dict", "state_dict_ema"),
        ("params", "params_ema"),
        ("model", "model_ema"),
        ("student", "teacher"),
        ("model", "ema"),
    ],
)
@pytest.mark.parametrize("nested", [True, False])
def test_an_average_is_preferred_to_trained_weights_and_reported(tmp_path, first, second, nested):
    state = state_of(tiny())
    checkpoint = {first: other(state), second: state}
    if not nested:
        checkpoint = behind(f"{first}.", other(state)) | behind(f"{second}.", state)
    network = unconv.load(tiny(), written(tmp_path / "a.pth", checkpoint))
    assert_loaded(network, state)
    assert f"used {second}, an average over the training, instead of {first}." in network.notes[0]


def test_of_two_trained_weights_the_first_key_of_the_list_is_used(tmp_path):
    state = state_of(tiny())
    network = unconv.load(tiny(), written(tmp_path / "a.pth", {"net": other(state), "state_dict": state}))
    assert_loaded(network, state)
    note = "several sets of weights in a.pth fit: used state_dict, the first in unconv's order, instead of net."
    assert network.notes == (note,)


def test_several_weights_that_rank_equally_are_refused(tmp_path):
    state = state_of(tiny())
    text = refused(written(tmp_path / "a.pth", {"left": state, "right": other(state)}))
    assert "holds several sets of weights that fit: left, right. Save only the one that you mean." in text
    assert_loaded(unconv.load(tiny(), written(tmp_path / "b.pth", {"left": state, "right": state})), state)


def test_an_average_that_does_not_fit_is_passed_over(tmp_path):
    state = state_of(tiny())
    checkpoint = {
        "ema": {"shadow": [1.0]},
        "teacher": behind("head.", state_of(nn.Linear(3, 2))),
        "student": behind("module.", state),
    }
    assert_loaded(unconv.load(tiny(), written(tmp_path / "a.pth", checkpoint)), state)


# -- what lies beside it -------------------------------------------------------------------------------


def test_modules_outside_the_network_are_left_out_and_reported(tmp_path):
    state = state_of(tiny())
    beside = {"projector.weight": torch.rand(2), "criterion.weight": torch.rand(3), "head_ema.0.bias": torch.rand(3)}
    network = unconv.load(tiny(), written(tmp_path / "a.ckpt", {"state_dict": behind("model.", state) | beside}))
    assert_loaded(network, state)
    assert network.weights == "a.ckpt (its state_dict, without the prefix model., 3 other tensors left out)"
    assert network.notes[1] == (
        "tensors in a.ckpt that belong to no module of the network were left out: projector (1), criterion (1), head_ema (1)."
    )


@pytest.mark.parametrize("key", ["n_averaged", "total_ops", "0.total_params", "queue"])
def test_counters_of_a_training_do_not_matter(tmp_path, key):
    state = state_of(tiny())
    network = unconv.load(tiny(), written(tmp_path / "a.pth", state | {key: torch.zeros(1)}))
    assert_loaded(network, state)
    assert network.notes == ()


def test_weights_of_a_deeper_network_of_the_kind_are_refused(tmp_path):
    path = tmp_path / "resnet34.pth"
    torch.save({"state_dict": behind("module.", models.resnet34().state_dict())}, path)
    with pytest.raises(WeightsError, match=r"\(state_dict behind module\) does not fit torchvision:resnet18; unexpected: "):
        unconv.load("torchvision:resnet18", path)


def test_a_key_of_the_network_that_is_missing_is_an_error_however_it_is_wrapped(tmp_path):
    state = state_of(tiny())
    del state["1.bias"]
    text = refused(written(tmp_path / "a.pth", {"model": behind("module.", state) | {"neck.weight": torch.rand(2)}}))
    assert "(model behind module) does not fit Sequential; missing: 1.bias; unexpected: neck.weight." in text


def test_a_count_of_batches_is_missing_everywhere_or_nowhere(tmp_path):
    model = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(2))
    state = state_of(model)
    del state["1.num_batches_tracked"]
    assert "missing: 1.num_batches_tracked" in refused(written(tmp_path / "a.pth", state), model)


# -- classifiers of another width ----------------------------------------------------------------------


HEADS = {
    "resnet18": ["fc"],
    "vgg11": ["classifier.6"],
    "squeezenet1_1": ["classifier.1"],
    "mobilenet_v3_small": ["classifier.3"],
    "densenet121": ["classifier"],
    "convnext_tiny": ["classifier.2"],
    "inception_v3": ["AuxLogits.fc", "fc"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADS)
def test_a_classifier_gets_as_many_outputs_as_the_file_has(tmp_path, name):
    more = {"init_weights": False} if name == "inception_v3" else {}
    state = state_of(models.get_model(name, weights=None, num_classes=10, **more))
    save_file(state, tmp_path / "mine.safetensors")
    network = unconv.load(f"torchvision:{name}", tmp_path / "mine.safetensors")
    assert_loaded(network, state)
    assert network.classes == ()
    layers = ", ".join(HEADS[name])
    words = f"the classifier {layers} has 10 outputs, as in mine.safetensors, instead of 1,000; "
    words += "the names of its classes are unknown."
    assert network.notes == (words,)
    assert f"{HEADS[name][-1]} with 10 outputs" in network.weights


def test_a_network_with_another_classifier_gives_what_the_trained_one_gives(tmp_path):
    trained = models.resnet18(num_classes=10).eval()
    torch.save({"model": behind("module.", trained.state_dict())}, tmp_path / "mine.pth")
    network = unconv.load("torchvision:resnet18", tmp_path / "mine.pth", input_size=(3, 32, 32))
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(network.module(image), trained(image))
    ours, right = (n.project(image, "layer2.1.relu", "top:2").pixels() for n in (network, unconv.Network(trained)))
    assert torch.equal(ours, right)


def test_a_live_module_keeps_its_classifier(tmp_path):
    model = models.resnet18(num_classes=7)
    text = refused(written(tmp_path / "mine.pth", state_of(models.resnet18(num_classes=10))), model)
    assert "has 10 outputs for the classifier fc, but that of ResNet has 7, and your own module is not changed. " in text
    assert "Replace the layer first: model.fc = torch.nn.Linear(512, 10)." in text
    assert model.fc.out_features == 7


HEADLESS = {
    "none": nn.Identity(),
    "of two layers": nn.Sequential(nn.Linear(512, 6), nn.ReLU(), nn.Linear(6, 10)),
    "behind a dropout": nn.Sequential(nn.Dropout(), nn.Linear(512, 10)),
    "without a bias": nn.Linear(512, 10, bias=False),
}


@pytest.mark.parametrize("name", HEADLESS)
def test_a_classifier_of_another_kind_is_refused_with_how_to_open_the_rest(tmp_path, name):
    model = models.resnet18()
    model.fc = HEADLESS[name]
    torch.save(model.state_dict(), tmp_path / "mine.pth")
    with pytest.raises(
        WeightsError, match=r"Everything except fc fits: build the network with that fc in a Python file, and pass FILE\.py:"
    ):
        unconv.load("torchvision:resnet18", tmp_path / "mine.pth")


def test_a_layer_in_the_middle_is_no_classifier(tmp_path):
    state = state_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    assert "wrong shape: 0.weight is (4, 3, 3, 3), not (2, 3, 3, 3)" in refused(written(tmp_path / "a.pth", state))


# -- settings that lie beside weights ------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
def test_settings_beside_weights_are_passed_over(tmp_path, legacy):
    settings = {
        "args": argparse.Namespace(lr=0.1, out=pathlib.Path("runs"), deep=argparse.Namespace(a=[1, 2])),
        "best": np.float64(0.5),
        "accuracy": np.arange(3.0),
        "meta": {"time": datetime.datetime(2026, 1, 1), "counts": collections.defaultdict(int, a=1)},
        "queue": collections.deque([1, 2]),
        "types": [int, float],
    }
    state = state_of(tiny())
    path = written(tmp_path / "a.pth", {**settings, "state_dict": state}, legacy)
    assert_loaded(unconv.load(tiny(), path), state)


def test_what_a_pickle_would_put_into_settings_is_dropped(tmp_path):
    """A state dict hidden in settings is not read."""
    state = state_of(tiny())
    path = written(tmp_path / "a.pth", {"state_dict": collections.defaultdict(dict, state)})
    assert "holds no state dict" in refused(path)
