"""Keras models: equal to a torch module with the same weights, with the names of their layers, and unchanged."""

from __future__ import annotations

import copy
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import vgg16

import unconv
from oracles.twins import assert_twins
from unconv.errors import ModelError, UnconvError, WeightsError

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras", reason="Keras is not installed: pip install keras")
L = keras.layers

# Keras' own, where it writes files.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")


def vgg(weights=None):
    return keras.applications.VGG16(weights=weights, include_top=False, input_shape=(64, 64, 3))


def vgg_twin(model):
    """torchvision's VGG16 with the weights of Keras'."""
    twin = vgg16(init_weights=False).features.eval()
    convs = [layer for layer in model.layers if layer.name.partition("_")[2].startswith("conv")]
    for ours, theirs in zip((part for part in twin if isinstance(part, nn.Conv2d)), convs, strict=True):
        ours.weight.data = theirs.kernel.value.detach().permute(3, 2, 0, 1).clone()
        ours.bias.data = theirs.bias.value.detach().clone()
    return twin


class Twin(nn.Module):
    """`small` in torch; SAME padding for a window of 3 with stride 2 on an even length is one sample, at the end."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, 2), nn.Conv2d(6, 6, 3, 1, 1, groups=2)
        self.bn, self.head = nn.BatchNorm2d(6, eps=1e-3), nn.Linear(6 * 4 * 5, 4)
        self.one, self.two, self.pool = nn.ReLU(), nn.ReLU(), nn.MaxPool2d(2)

    def forward(self, x):
        """(1, 4) of (1, 3, 16, 20)."""
        x = self.one(self.first(nn.functional.pad(x, (0, 1, 0, 1))))
        x = self.pool(self.two(self.bn(self.second(x)) + x))
        return self.head(x.flatten(1))


def small():
    image = keras.Input((16, 20, 3))
    x = L.Conv2D(6, 3, 2, padding="same", activation="relu", name="first")(image)
    y = L.BatchNormalization(name="bn")(L.Conv2D(6, 3, padding="same", groups=2, name="second")(x))
    x = L.MaxPooling2D(name="pool")(L.ReLU(name="two")(L.Add(name="sum")([y, x])))
    return keras.Model(image, L.Dense(4, name="head")(L.Flatten(name="flat")(x)), name="small")


def like(twin, model):
    """Give a `small` the weights of its twin."""
    torch.manual_seed(0)
    nn.init.uniform_(twin.bn.weight, 0.5, 1.5)
    nn.init.uniform_(twin.bn.bias, -0.3, 0.3)
    nn.init.uniform_(twin.bn.running_mean, -0.3, 0.3)
    nn.init.uniform_(twin.bn.running_var, 0.5, 1.5)
    for name in ("first", "second"):
        part = getattr(twin, name)
        model.get_layer(name).set_weights([part.weight.detach().permute(2, 3, 1, 0).numpy(), part.bias.detach().numpy()])
    bn = (twin.bn.weight, twin.bn.bias, twin.bn.running_mean, twin.bn.running_var)
    model.get_layer("bn").set_weights([value.detach().numpy() for value in bn])
    kernel = twin.head.weight.detach().view(4, 6, 4, 5).permute(2, 3, 1, 0).reshape(-1, 4)  # flattened channels last
    model.get_layer("head").set_weights([kernel.numpy(), twin.head.bias.detach().numpy()])
    return twin.eval()


PLACES = {"first": "one", "bn": "bn", "two": "two", "pool": "pool", "head": "head"}


@pytest.mark.slow
def test_vgg16_projects_as_torchvisions_with_the_same_weights():
    model = vgg()
    network = unconv.load(model)
    assert (network.name, network.input_size) == ("vgg16", (3, 64, 64))
    assert [place.name for place in network.places()][:5] == [
        "block1_conv1.conv",
        "block1_conv1",
        "block1_conv2.conv",
        "block1_conv2",
        "block1_pool",
    ]
    assert_twins(
        network, vgg_twin(model), torch.rand(1, 3, 64, 64), {"block1_conv2": "3", "block3_pool": "16", "block4_conv1": "18"}
    )


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [unconv.load, lambda model: unconv.Network(model, input_size=(3, 16, 20))])
def test_a_live_model_projects_as_its_twin(wrap):
    model = small()
    twin = like(Twin(), model)
    assert_twins(wrap(model), twin, torch.rand(1, 3, 16, 20), PLACES)


def test_a_model_in_float64_runs_in_it_and_the_users_stays_in_its_own():
    model = small()
    module = copy.deepcopy(unconv.load(model).module).double()
    image = torch.rand(1, 3, 16, 20, dtype=torch.float64)
    assert module(image).dtype == torch.float64
    twin = like(Twin(), model).double()
    again = copy.deepcopy(unconv.load(model).module).double()
    assert torch.allclose(again(image), twin(image), atol=1e-12)
    assert {weight.dtype for weight in model.weights} == {"float32"}


def test_the_users_model_is_left_as_it_was():
    model = small()
    before = {variable.path: np.copy(variable.numpy()) for variable in model.variables}
    nodes = [(len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in model.layers]
    names, training = list(model.state_dict()), model.training
    network = unconv.load(model)
    network.project(torch.rand(3, 16, 20), "two", "top:2")
    assert all(np.array_equal(before[variable.path], variable.numpy()) for variable in model.variables)
    assert nodes == [(len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in model.layers]
    assert (names, training) == (list(model.state_dict()), model.training)
    assert all(weight.value.requires_grad for weight in model.trainable_weights)


def test_what_the_model_learns_later_is_seen():
    model = small()
    network = unconv.load(model)
    image = torch.rand(1, 3, 16, 20)
    before = network.module(image)
    model.get_layer("head").bias.assign_add(np.full(4, 2.0, np.float32))
    assert torch.allclose(network.module(image), before + 2)


# One layer each, in its settings; the last are run by Keras itself.
LAYERS = {
    "average same": lambda: L.AveragePooling2D(3, 2, padding="same"),
    "average": lambda: L.AveragePooling2D(2),
    "channel softmax": lambda: L.Softmax(),
    "convolution": lambda: L.Conv2D(6, 4, 3, padding="same", activation="silu"),
    "crop": lambda: L.Cropping2D(((1, 2), (0, 3))),
    "dense": lambda: L.Dense(5, activation="gelu"),
    "depthwise": lambda: L.DepthwiseConv2D(3, 2, padding="same", depth_multiplier=2),
    "dilated": lambda: L.Conv2D(6, 3, padding="same", dilation_rate=2),
    "flatten": lambda: L.Flatten(),
    "global average": lambda: L.GlobalAveragePooling2D(keepdims=True),
    "global maximum": lambda: L.GlobalMaxPooling2D(),
    "group norm": lambda: L.GroupNormalization(2),
    "layer norm": lambda: L.LayerNormalization(),
    "maximum same": lambda: L.MaxPooling2D(3, 2, padding="same"),
    "normalization": lambda: L.Normalization(mean=[1.0, 2, 3, 4], variance=[1.0, 2, 3, 4]),
    "pad": lambda: L.ZeroPadding2D(((1, 2), (0, 3))),
    "permute": lambda: L.Permute((3, 1, 2)),
    "prelu": lambda: L.PReLU(shared_axes=[1, 2]),
    "relu6": lambda: L.ReLU(6),
    "rescaling": lambda: L.Rescaling(2.0, -1),
    "reshape": lambda: L.Reshape((-1, 10)),
    "separable": lambda: L.SeparableConv2D(5, 3, 2, padding="same", depth_multiplier=2),
    "transposed same": lambda: L.Conv2DTranspose(6, 3, 2, padding="same"),
    "transposed valid": lambda: L.Conv2DTranspose(6, 2, 3),
    "upsampling": lambda: L.UpSampling2D((2, 3)),
    "bilinear": lambda: L.UpSampling2D(2, interpolation="bilinear"),
    "lambda": lambda: L.Lambda(lambda x: x.flip(-1) * 2, output_shape=(9, 10, 4)),
    "norm of rows": lambda: L.BatchNormalization(axis=1),
    "prelu of positions": lambda: L.PReLU(),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_gives_what_keras_gives(name):
    image = keras.Input((9, 10, 4))
    model = keras.Model(image, LAYERS[name]()(image))
    for variable in model.variables:
        variable.assign(torch.rand(variable.shape) + 0.1)
    samples = torch.randn(1, 9, 10, 4)
    with torch.no_grad():
        theirs, ours = model(samples, training=False), unconv.load(model).module(samples.movedim(-1, 1))
    assert torch.allclose(ours.movedim(1, -1) if ours.ndim > 2 else ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_prelu_with_a_slope_for_each_channel_is_one_rectifier():
    image = keras.Input((9, 10, 4))
    model = keras.Model(image, L.PReLU(shared_axes=[1, 2], name="act")(L.Conv2D(4, 3, name="conv")(image)))
    places = {place.name: place for place in unconv.load(model).places()}
    assert places["act"].operation == "prelu" and places["act"].rectified


@pytest.mark.parametrize("rank", [1, 3])
def test_other_numbers_of_axes_are_opened(rank):
    image = keras.Input((*[8] * rank, 2))
    conv, pool = getattr(L, f"Conv{rank}D"), getattr(L, f"MaxPooling{rank}D")
    model = keras.Model(image, pool(2, name="pool")(conv(3, 3, padding="same", activation="relu", name="conv")(image)))
    network = unconv.load(model)
    assert network.input_size == (2, *[8] * rank)
    assert network.project(torch.rand(2, *[8] * rank), "pool", "top:1").pixels().shape == (1, 2, *[8] * rank)


def test_channels_first_stay_first():
    image = keras.Input((3, 8, 10))
    x = L.Conv2D(4, 3, padding="same", data_format="channels_first", activation="relu", name="conv")(image)
    x = L.BatchNormalization(axis=1, name="bn")(x)
    model = keras.Model(image, L.Dense(2, name="head")(L.Flatten(data_format="channels_first")(x)))
    network, samples = unconv.load(model), torch.rand(1, 3, 8, 10)
    assert network.input_size == (3, 8, 10)
    assert torch.allclose(network.module(samples), model(samples, training=False), atol=1e-6)
    assert [(place.name, place.channels) for place in network.places()][1:3] == [("conv", 4), ("bn", 4)]


def test_nested_and_repeated_layers_have_their_names():
    image = keras.Input((8, 8, 3))
    again = L.Conv2D(3, 3, padding="same", name="again")
    block = keras.Sequential([keras.Input((8, 8, 3)), L.Conv2D(2, 3, name="conv"), L.ReLU(name="forward")], name="block")
    network = unconv.load(keras.Model(image, block(again(again(image)))))
    assert [place.name for place in network.places()] == ["again", "again_1", "block.conv", "block.forward_1"]


class Subclassed(keras.Model):
    """A model without a graph of its own."""

    def __init__(self):
        super().__init__()
        self.conv, self.pool, self.head = (
            L.Conv2D(4, 3, name="conv"),
            L.GlobalAveragePooling2D(name="pool"),
            L.Dense(2, name="head"),
        )

    def call(self, x, training=False):
        """(1, 2) of (1, 8, 8, 3)."""
        return self.head(self.pool(keras.ops.relu(self.conv(x))))


def test_a_subclassed_model_is_traced_through_its_call():
    model = Subclassed()
    samples = torch.rand(1, 8, 8, 3)
    expected = model(samples)
    nodes = [len(layer._inbound_nodes) for layer in model.layers]
    network = unconv.load(model)
    assert torch.allclose(network.module(samples.movedim(-1, 1)), expected, atol=1e-6)
    assert [(place.name, place.channels) for place in network.places()] == [("conv", 4), ("relu", 4), ("pool", 4), ("head", 2)]
    assert nodes == [len(layer._inbound_nodes) for layer in model.layers]


@pytest.mark.filterwarnings(r"ignore:`build\(\)` was called on layer")
def test_a_model_that_cannot_be_traced_is_refused():
    class Stubborn(Subclassed):
        def call(self, x, training=False):
            return self.head(torch.from_numpy(np.asarray(x).mean((1, 2))))

    model = Stubborn()
    model(torch.rand(1, 8, 8, 3))
    with pytest.raises(ModelError, match="has no graph, and its call cannot be traced"):
        unconv.load(model)


@pytest.mark.parametrize("make", [Subclassed, lambda: keras.Sequential([L.Conv2D(3, 3)])])
def test_a_model_that_is_not_built_is_refused(make):
    with pytest.raises(ModelError, match=r"is not built. Start it with keras\.Input"):
        unconv.load(make())


def test_several_inputs_are_refused_by_name():
    left, right = keras.Input((8, 8, 3), name="left"), keras.Input((8, 8, 3), name="right")
    with pytest.raises(ModelError, match=r"takes 2 inputs \(left, right\), but one image was needed"):
        unconv.load(keras.Model([left, right], L.Add()([left, right])))


# -- names and files ------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_application_brings_its_preprocessing():
    network = unconv.load("keras:MobileNet")
    assert (network.name, network.weights, network.input_size, len(network.classes)) == (
        "keras:MobileNet",
        "random",
        (3, 224, 224),
        1000,
    )


@pytest.mark.parametrize("family", ["vgg16", "resnet", "resnet_v2", "densenet", "mobilenet_v3", "convnext", "efficientnet"])
def test_preprocessing_is_that_of_keras(family):
    from PIL import Image

    from unconv.networks.keras.opening import _preprocess

    picture = Image.effect_noise((8, 8), 80).convert("RGB")
    theirs = getattr(keras.applications, family).preprocess_input(np.asarray(picture, np.float32)[None])[0]
    assert np.allclose(_preprocess(family, (3, 8, 8))(picture).permute(1, 2, 0), theirs, atol=1e-4)


def test_an_unknown_application_is_answered_with_the_nearest_three():
    with pytest.raises(UnconvError, match=r"keras\.applications has no model 'VGG61'. Did you mean \w+, \w+, \w+\?"):
        unconv.load("keras:VGG61")


@pytest.mark.parametrize("prefix", ["", "keras:"])
def test_a_file_is_opened(tmp_path, prefix):
    model = small()
    model.save(tmp_path / "small.keras")
    network = unconv.load(f"{prefix}{tmp_path / 'small.keras'}")
    assert (network.name, network.weights, network.input_size) == ("small.keras", "small.keras", (3, 16, 20))
    image = torch.rand(1, 3, 16, 20)
    assert torch.allclose(network.module(image), model(image.movedim(1, -1), training=False), atol=1e-6)


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_weights_are_read_into_a_live_model(tmp_path, suffix):
    trained, fresh = small(), small()
    path = tmp_path / f"trained{suffix}"
    trained.save(path) if suffix == ".keras" else trained.save_weights(path)
    network = unconv.load(fresh, path)
    image = torch.rand(1, 3, 16, 20)
    assert network.weights == path.name
    assert torch.allclose(network.module(image), unconv.load(trained).module(image))


@pytest.mark.parametrize("share", [0, 0.5, 0.95])
def test_a_cut_off_file_is_refused(tmp_path, share):
    path = tmp_path / "small.keras"
    small().save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(WeightsError, match=r"small\.keras cannot be read as a Keras model; it is damaged, cut off"):
        unconv.load(str(path))


def test_a_file_that_holds_code_is_refused(tmp_path):
    image = keras.Input((8, 8, 3))
    keras.Model(image, L.Lambda(lambda x: x * 2, output_shape=(8, 8, 3))(image)).save(tmp_path / "code.keras")
    with pytest.raises(WeightsError, match="or holds code, which is not run"):
        unconv.load(str(tmp_path / "code.keras"))


def test_weights_of_another_model_are_refused(tmp_path):
    image = keras.Input((8, 8, 3))
    keras.Model(image, L.Conv2D(2, 3)(image)).save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(WeightsError, match=r"other\.weights\.h5 does not fit small, or is damaged"):
        unconv.load(small(), tmp_path / "other.weights.h5")


def test_absent_files_are_named(tmp_path):
    with pytest.raises(WeightsError, match=r"there is no file nowhere\.keras"):
        unconv.load("nowhere.keras")
    with pytest.raises(WeightsError, match="there is no weights file"):
        unconv.load(small(), tmp_path / "nowhere.weights.h5")


def test_without_a_network_kerass_weights_are_refused_with_the_way_out(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: (_ for _ in ()).throw(OSError("no network")))
    monkeypatch.setattr(
        keras.src.utils.file_utils, "urlretrieve", lambda *_, **__: (_ for _ in ()).throw(OSError("no network"))
    )
    with pytest.raises(WeightsError, match=r"cannot download Keras' weights for MobileNet: .*pass the file as weights"):
        unconv.load("keras:MobileNet", "DEFAULT")


def test_another_backend_is_refused_with_the_way_out(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    for spec in ("keras:VGG16", small()):
        with pytest.raises(
            UnconvError, match=r"Keras runs on its jax backend, but torch was needed. Set .*KERAS_BACKEND=torch"
        ):
            unconv.load(spec)


@pytest.mark.slow
def test_the_backend_is_chosen_where_nobody_chose_one():
    check = "import unconv; print(unconv.load('keras:MobileNet').module.training)"
    environment = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "False", done.stderr
