"""Keras 3 on its torch backend: its applications, `.keras` files, live models."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from unconv.errors import UnconvError, WeightsError, nearest
from unconv.networks.keras.files import fill, read_model
from unconv.networks.keras.graph import adapted, built_shape, graph_of
from unconv.networks.keras.layout import Layout
from unconv.networks.model_files import reason
from unconv.networks.opened import Opened, library
from unconv.pictures.preprocess import Preprocess

_LEAST = 3, 15  # the oldest Keras that was tried
_SIDE = 224  # samples along an axis whose length the model leaves open

# What each of `keras.applications` does to a picture before its model; those not here do it inside, from 0..255.
_MODES = {
    "caffe": ("vgg16", "vgg19", "resnet"),
    "tf": ("inception_resnet_v2", "inception_v3", "mobilenet", "mobilenet_v2", "nasnet", "resnet_v2", "xception"),
    "torch": ("densenet",),
}


def open_keras(name: str, weights: str | None) -> Opened:
    """Open Keras' application called `name` ("VGG16"), random if `weights` is None; or a file, if that ends in .keras.

    Args:
        weights: "DEFAULT" or "imagenet", which download; or a file `.keras` or `.weights.h5`.
    """
    if name.endswith(".keras"):
        return open_keras_file(name, weights)
    keras = _keras()
    models = {known: make for known, make in vars(keras.applications).items() if known[0].isupper() and callable(make)}
    if name not in models:
        raise UnconvError(f"load: keras.applications has no model {name!r}. Did you mean {nearest(name, models)}?")
    if weights in ("DEFAULT", "imagenet"):
        model, origin = _downloaded(models[name], name), "keras imagenet"
    else:
        model, origin = _random(models[name], name), "random"
    if weights is not None and origin == "random":
        origin = fill(keras, model, Path(weights))
    size = input_size(model)
    family = models[name].__module__.rpartition(".")[2]
    opened = Opened(adapted(model), f"keras:{name}", origin, _preprocess(family, size), size, _classes(model))
    whose = f"as keras.applications.{family}.preprocess_input does"
    return replace(opened, trained_with=whose if weights in ("DEFAULT", "imagenet") else "", guess=whose)


def open_keras_file(file: str, weights: str | None) -> Opened:
    """Open the model in a `.keras` file; no code in it runs."""
    keras, path = _keras(), Path(file)
    model, origin = read_model(keras, path), path.name
    if weights is not None:
        origin = fill(keras, model, Path(weights))
    return Opened(adapted(model), path.name, origin, None, input_size(model))


def open_keras_live(model: Any, weights: str | None) -> Opened:
    """Open a live Keras model; weights from a file `.keras` or `.weights.h5` are written into it."""
    origin = "as given" if weights is None else fill(_keras(), model, Path(weights))
    return Opened(adapted(model), model.name, origin, None, input_size(model))


def is_keras(module: Any) -> bool:
    """Say whether this is a live Keras model or layer; Keras is not imported for it.

    Raises:
        UnconvError: it is one on another backend than torch, or of a Keras that is too old.
    """
    keras = sys.modules.get("keras")
    layer = getattr(keras, "Layer", None)  # Keras 2 has none there
    if layer is None or not isinstance(module, layer):
        return False
    _refuse_unsuited(keras)
    return isinstance(module, nn.Module)


def input_size(model: Any) -> tuple[int, ...]:
    """Return (C, samples..) of a Keras model; 224 samples along an axis that it leaves open."""
    function = graph_of(model)
    built = function.inputs[0].shape if function is not None else built_shape(model)
    shape = tuple(built[1:]) if built else (None, None, 3)
    channels, sides = (shape[-1], shape[:-1]) if Layout.of(model).last else (shape[0], shape[1:])
    return (channels or 3, *(side or _SIDE for side in sides))


def _keras() -> Any:
    if "keras" not in sys.modules:
        os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = library("keras", "keras")
    _refuse_unsuited(keras)
    return keras


def _refuse_unsuited(keras: Any) -> None:
    """Refuse a Keras older than was tried, and one on another backend.

    Up to 3.11 Keras unpickles what a file's configuration wraps before its safe mode looks at it. Up to 3.14 its
    transposed convolution on torch pads "same" on both sides alike, as no other backend does, so that we would disagree.
    """
    numbers = re.match(r"(\d+)\.(\d+)", str(getattr(keras, "__version__", "")))
    if numbers is None or (int(numbers[1]), int(numbers[2])) < _LEAST:
        raise UnconvError(
            f"load: Keras {getattr(keras, '__version__', 'of unknown version')} is installed, but "
            f"{'.'.join(map(str, _LEAST))} or later was needed: the oldest that unconv was tried with. "
            'Install it with pip install --upgrade "unconv[keras]", on Python 3.11 or later.'
        )
    if keras.backend.backend() != "torch":
        raise UnconvError(
            f"load: Keras runs on its {keras.backend.backend()} backend, but torch was needed. "
            "Set the environment variable KERAS_BACKEND=torch before Keras is imported first."
        )


def _random(make: Any, name: str) -> Any:
    try:
        return make(weights=None)
    except ValueError as error:
        raise UnconvError(f"load: Keras does not make {name}: {reason(error)} Pass another of its models.") from error


def _downloaded(make: Any, name: str) -> Any:
    try:
        return make(weights="imagenet")
    except Exception as error:  # Keras raises a bare Exception where a download fails
        raise WeightsError(
            f"load: cannot download Keras' weights for {name}: {reason(error)}. "
            "Fetch them where there is a network and pass the file as weights."
        ) from error


def _preprocess(family: str, size: tuple[int, ...]) -> Preprocess:
    """Return what `keras.applications.<family>.preprocess_input` does.

    Source:
        Keras 3.15, `keras.applications.imagenet_utils.preprocess_input`.
    """
    mode = next((mode for mode, families in _MODES.items() if family in families), None)
    sides = (size[1], size[2])
    if mode == "caffe":
        return Preprocess(sides, mean=(103.939, 116.779, 123.68), scale=255, bgr=True)
    if mode == "tf":
        return Preprocess(sides, mean=(127.5,) * 3, std=(127.5,) * 3, scale=255)
    if mode == "torch":
        return Preprocess(sides, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    return Preprocess(sides, scale=255)


def _classes(model: Any) -> tuple[str, ...]:
    """Name the channels of a last layer of ImageNet's size; all of Keras' applications keep its order."""
    from torchvision.models import VGG16_Weights

    shapes = [tuple(tensor.shape) for tensor in model.outputs]
    return tuple(VGG16_Weights.DEFAULT.meta["categories"]) if shapes == [(None, 1000)] else ()
