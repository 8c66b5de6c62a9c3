"""Opening networks: names, files and factories, weights that fit and weights that are refused."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision.models._api
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1

import unconv
from unconv.errors import ModelError, UnconvError, WeightsError
from unconv.networks import weights as weights_files

FACTORY = """
from PIL import Image
from torch import nn

def make():
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU())

def wrapped():
    return nn.DataParallel(make())

def nothing():
    return None

number = 3
"""


def tiny():
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2))


def random_state(model):
    torch.manual_seed(7)
    return {key: torch.rand_like(value) if value.is_floating_point() else value for key, value in model.state_dict().items()}


def written(path, state):
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


def assert_holds(module, state):
    assert set(module.state_dict()) == set(state)
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of torch's own."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hub" / "checkpoints"


@pytest.fixture
def factory(tmp_path):
    path = tmp_path / "factory.py"
    path.write_text(FACTORY)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_torchvision_takes_weights_from_a_file(tmp_path, suffix):
    state = random_state(squeezenet1_1())
    network = unconv.load("torchvision:squeezenet1_1", written(tmp_path / f"mine{suffix}", state))
    assert_holds(network.module, state)
    assert (network.weights, network.input_size, len(network.classes)) == (f"mine{suffix}", (3, 224, 224), 1000)
    assert not network.module.training


def test_without_weights_torchvision_is_random_and_downloads_nothing(cache):
    network = unconv.load("torchvision:squeezenet1_1")
    assert (network.weights, network.name) == ("random", "torchvision:squeezenet1_1")
    assert not cache.exists()


@pytest.mark.parametrize("name", ["lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large", "ssdlite320_mobilenet_v3_large"])
def test_without_weights_a_network_on_a_backbone_downloads_nothing(monkeypatch, name):
    def refuse(url, *_rest, **_options):
        raise AssertionError(f"nobody asked for {url}")

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", refuse)
    assert unconv.load(f"torchvision:{name}").weights == "random"


@pytest.mark.parametrize("wrap", [lambda state: {"state_dict": state, "epoch": 3}, lambda state: {"model": state, "loss": 0.5}])
def test_a_checkpoint_that_wraps_its_weights_is_opened(tmp_path, wrap):
    state = random_state(tiny())
    network = unconv.load(tiny().eval(), written(tmp_path / "checkpoint.pth", wrap(state)))
    assert_holds(network.module, state)


def test_the_prefix_of_data_parallel_training_is_removed(tmp_path):
    state = random_state(tiny())
    prefixed = {f"module.{key}": value for key, value in state.items()}
    network = unconv.load(tiny(), written(tmp_path / "parallel.pth", {"state_dict": prefixed}))
    assert_holds(network.module, state)


def test_a_module_that_is_called_module_keeps_its_name(tmp_path):
    model = nn.Sequential()
    model.add_module("module", nn.Conv2d(3, 2, 3))
    state = random_state(model)
    assert_holds(unconv.load(model, written(tmp_path / "weights.safetensors", state)).module, state)


def test_half_precision_weights_load_into_a_float32_model(tmp_path):
    state = random_state(tiny())
    half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    loaded = unconv.load(tiny(), written(tmp_path / "half.safetensors", half)).module
    assert loaded[0].weight.dtype == torch.float32
    assert torch.equal(loaded[0].weight, half["0.weight"].float())


def test_a_count_of_batches_may_be_missing(tmp_path):
    state = random_state(tiny())
    del state["1.num_batches_tracked"]
    assert torch.equal(unconv.load(tiny(), written(tmp_path / "old.pth", state)).module[0].weight, state["0.weight"])


def test_weights_of_another_architecture_list_what_is_wrong(tmp_path):
    state = {"0.weight": torch.zeros(2, 3, 5, 5), "0.bias": torch.zeros(2), "head.weight": torch.zeros(1)}
    path = written(tmp_path / "other.pth", state)
    with pytest.raises(WeightsError) as refused:
        unconv.load(tiny(), path)
    assert f"{path} does not fit Sequential; " in str(refused.value)
    assert "missing: 1.weight, 1.bias, 1.running_mean and 1 more; " in str(refused.value)
    assert "unexpected: head.weight; " in str(refused.value)
    assert "wrong shape: 0.weight is (2, 3, 5, 5), not (2, 3, 3, 3). " in str(refused.value)


def test_refused_weights_leave_the_model_as_it_was(tmp_path):
    model = tiny()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = random_state(model) | {"1.running_var": torch.zeros(9)}
    with pytest.raises(WeightsError, match=r"1\.running_var is \(9,\), not \(2,\)"):
        unconv.load(model, written(tmp_path / "misfit.pth", state))
    assert_holds(model, before)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path, bad):
    state = random_state(tiny())
    state["1.weight"][1] = bad
    with pytest.raises(WeightsError, match=r"bad\.safetensors: 1\.weight holds NaN or infinite values"):
        unconv.load(tiny(), written(tmp_path / "bad.safetensors", state))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_cut_off_weights_are_refused(tmp_path, suffix, share):
    path = written(tmp_path / f"cut{suffix}", random_state(tiny()))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(WeightsError, match="is damaged, cut off, or holds more than tensors"):
        unconv.load(tiny(), path)


@pytest.mark.parametrize("content", [b"no weights at all", b"\x80\x02.", b"\x80", b"PK\x03\x04", b"\x80\x02}.", bytes(300)])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_damaged_weights_are_refused(tmp_path, suffix, content):
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="is damaged, cut off, or holds more than tensors"):
        unconv.load(tiny(), path)


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"0.weight": 3.0}, torch.zeros(2), {"state_dict": [1]}])
def test_a_file_without_a_state_dict_is_refused(tmp_path, content):
    with pytest.raises(WeightsError, match="holds no state dict"):
        unconv.load(tiny(), written(tmp_path / "odd.pth", content))


@pytest.mark.parametrize("name", ["nowhere.pth", ""])
def test_an_absent_weights_file_is_named(tmp_path, name):
    with pytest.raises(WeightsError, match="there is no weights file"):
        unconv.load(tiny(), tmp_path / name)


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors", ".bin"])
@pytest.mark.parametrize("write", [torch.save, lambda trap, path: path.write_bytes(pickle.dumps(trap, protocol=2))])
def test_code_in_a_weights_file_does_not_run(tmp_path, suffix, write):
    sprung = tmp_path / "sprung"
    pickle.loads(pickle.dumps(Trap(sprung)))
    sprung.rmdir()  # the trap works
    write({"0.weight": Trap(sprung)}, tmp_path / f"trap{suffix}")
    with pytest.raises(WeightsError, match="holds more than tensors"):
        unconv.load(tiny(), tmp_path / f"trap{suffix}")
    assert not sprung.exists()


def test_the_refusal_of_a_pickled_model_does_not_advise_to_run_it(tmp_path):
    with pytest.raises(WeightsError, match=r"Save model\.state_dict") as refused:
        unconv.load(tiny(), written(tmp_path / "whole.pth", tiny()))
    assert "\x1b" not in str(refused.value)
    assert "can still be loaded" not in str(refused.value)


def test_a_factory_makes_the_network_in_evaluation_mode(factory):
    network = unconv.load(f"{factory}:make")
    assert (network.name, network.weights, network.module.training) == ("factory.py:make", "the factory's own", False)
    assert network.project(torch.rand(3, 8, 8), "1").pixels().shape == (2, 3, 8, 8)


def test_a_factorys_network_takes_weights_from_a_file(factory, tmp_path):
    state = random_state(tiny()[:1])
    network = unconv.load(f"{factory}:make", str(written(tmp_path / "mine.pth", state)))
    assert_holds(network.module, state)
    assert network.weights == "mine.pth"


def test_a_factory_may_return_a_wrapped_network(factory):
    assert isinstance(unconv.load(f"{factory}:wrapped").module, nn.Sequential)


def test_a_factorys_file_may_define_dataclasses(tmp_path):
    head = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    (tmp_path / "typed.py").write_text(f"{head}@dataclass\nclass Width:\n    channels: int\n{FACTORY}")
    assert isinstance(unconv.load(f"{tmp_path / 'typed.py'}:make").module, nn.Sequential)


def test_a_factory_that_is_not_there_is_answered_with_the_nearest(factory):
    with pytest.raises(UnconvError, match=r"factory\.py has no function 'mkae'. Did you mean make"):
        unconv.load(f"{factory}:mkae")


def test_what_cannot_be_called_is_no_factory(factory):
    with pytest.raises(UnconvError, match="has no function 'number'"):
        unconv.load(f"{factory}:number")


def test_a_factory_that_makes_no_module_is_refused(factory):
    with pytest.raises(ModelError, match=r"factory\.py:nothing returned NoneType, but a torch\.nn\.Module was needed"):
        unconv.load(f"{factory}:nothing")


def test_an_absent_factory_file_is_named(tmp_path):
    with pytest.raises(UnconvError, match=r"there is no file .*absent\.py. Pass FILE.py:factory"):
        unconv.load(f"{tmp_path / 'absent.py'}:make")


@pytest.mark.parametrize("spec", ["vgg16", "", ":", "torchvision", "tensorflow:vgg16", "unconv:vgg16", "weights.pth"])
def test_a_name_of_no_kind_is_answered_with_the_kinds(spec):
    with pytest.raises(UnconvError, match=rf"'{spec}' names no network. Pass unconv:caltech, torchvision:NAME"):
        unconv.load(spec)


def test_an_unknown_torchvision_model_is_answered_with_the_nearest_three():
    with pytest.raises(UnconvError, match=r"no model 'resnet19'. Did you mean resnet18, \w+, \w+\?"):
        unconv.load("torchvision:resnet19")


def test_unknown_torchvision_weights_are_answered_with_those_there_are():
    with pytest.raises(WeightsError, match="no weights 'IMAGENET' for squeezenet1_1; pass one of IMAGENET1K_V1, DEFAULT"):
        unconv.load("torchvision:squeezenet1_1", "IMAGENET")


def test_a_live_module_is_used_as_it_is():
    model = tiny().double()
    network = unconv.load(model)
    assert network.module is model
    assert (network.name, network.weights, model.training) == ("Sequential", "as given", True)


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile, lambda model: nn.DataParallel(torch.compile(model))])
def test_wrappers_are_removed(wrap):
    model = tiny()
    assert unconv.load(wrap(model)).module is model
    assert unconv.Network(wrap(model)).module is model


def served(tmp_path, digest=None):
    """A weights file under a URL, with its hash in its name as torch has it."""
    path = written(tmp_path / "weights.pth", random_state(tiny()))
    digest = digest or hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    return path.rename(tmp_path / f"tiny-{digest}.pth")


def test_a_download_goes_into_torchs_cache(tmp_path, cache, capsys):
    path = served(tmp_path)
    download = weights_files.download(path.as_uri())
    assert download == cache / path.name
    assert download.read_bytes() == path.read_bytes()
    assert capsys.readouterr().out == ""


def test_what_was_downloaded_once_is_not_fetched_again(tmp_path, cache):
    path = served(tmp_path)
    url = path.as_uri()
    first = weights_files.download(url)
    path.unlink()
    assert weights_files.download(url) == first


def test_a_download_of_another_hash_is_refused_and_leaves_nothing(tmp_path, cache):
    with pytest.raises(WeightsError, match=r"cannot download .*invalid hash value.*pass the file as weights"):
        weights_files.download(served(tmp_path, "0123abcd").as_uri())
    assert list(cache.iterdir()) == []


def test_a_download_from_nowhere_is_refused_and_leaves_nothing(tmp_path, cache):
    url = (tmp_path / "gone-0123abcd.pth").as_uri()
    with pytest.raises(WeightsError, match=f"cannot download {url}: .*Download it on a connected machine and pass the file"):
        weights_files.download(url)
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_refused_in_words(tmp_path, cache):
    Path(tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(WeightsError, match="cannot download"):
        weights_files.download(served(tmp_path).as_uri())


def test_without_a_network_default_weights_are_refused_with_the_way_out(cache, monkeypatch):
    def unreachable(url, *_rest, **_options):
        raise URLError("Name or service not known")

    monkeypatch.setattr(weights_files, "download_url_to_file", unreachable)
    with pytest.raises(WeightsError, match=r"squeezenet1_1.*Name or service not known.*pass the file as weights"):
        unconv.load("torchvision:squeezenet1_1", "DEFAULT")


@pytest.mark.parametrize("name", ["DEFAULT", "IMAGENET1K_V1"])
def test_torchvisions_own_weights_are_found_in_the_cache(cache, name):
    state = random_state(squeezenet1_1())
    cache.mkdir(parents=True)
    written(cache / SqueezeNet1_1_Weights.DEFAULT.url.rpartition("/")[2], state)
    network = unconv.load("torchvision:squeezenet1_1", name)
    assert_holds(network.module, state)
    assert network.weights == f"torchvision {name}"


def test_a_spoiled_file_in_the_cache_is_refused(cache):
    cache.mkdir(parents=True)
    (cache / SqueezeNet1_1_Weights.DEFAULT.url.rpartition("/")[2]).write_bytes(b"half a download")
    with pytest.raises(WeightsError, match="is damaged, cut off"):
        unconv.load("torchvision:squeezenet1_1", "DEFAULT")


def test_preprocessing_and_size_can_be_replaced():
    def double(picture):
        return torch.full((3, 8, 8), 2.0)

    network = unconv.load(tiny().eval(), preprocess=double, input_size=(3, 8, 8))
    assert (network.preprocess, network.input_size) == (double, (3, 8, 8))
    assert network.places()[0].size == (6, 6)


@pytest.mark.slow
def test_video_models_take_frames_and_no_pictures():
    network = unconv.load("torchvision:r3d_18")
    assert network.input_size == (3, 16, 112, 112)
    with pytest.raises(unconv.ShapeError, match=r"takes no pictures\. Pass a preprocessed tensor"):
        network.record(Image.new("RGB", (20, 20)), [])


@pytest.mark.slow
def test_a_model_s_own_assertion_is_reported_as_its_failure():
    with pytest.raises(ModelError, match=r"failed on an image of \(1, 3, 96, 96\): Wrong image height! Expected 224"):
        unconv.load("torchvision:vit_b_32", input_size=(3, 96, 96)).places()
