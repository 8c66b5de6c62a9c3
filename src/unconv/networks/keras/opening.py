"""Keras 3 on the torch backend: its applications, `.keras` files, live models."""

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
from unconv.networks.keras.graph import as_torch_module, built_shape, graph_of
from unconv.networks.keras.layout import Layout
from unconv.networks.model_files import reason
from unconv.networks.opened import Opened, library
from unconv.pictures.preprocess import Preprocess

_LEAST = 3, 15  # the oldest Keras that unconv was tested with
_SIDE = 224  # samples along an axis whose length is not fixed by the model

# The preprocessing of `keras.applications`, by family; those that are missing here take 0..255 and rescale in the model.
_MODES = {
    "caffe": ("vgg16", "vgg19", "resnet"),
    "tf": ("inception_resnet_v2", "inception_v3", "mobilenet", "mobilenet_v2", "nasnet", "resnet_v2", "xception"),
    "torch": ("densenet",),
}


def open_keras(name: str, weights: str | None) -> Opened:
    """Open Keras' application `name` ("VGG16"), with random weights if `weights` is None; or a file, if it ends in .keras.

    Args:
        weights: "DEFAULT" or "imagenet", which download; or a `.keras` or `.weights.h5` file.
    """
    if name.endswith(".keras"):
        return open_keras_file(name, weights)
    keras = _keras()
    models = {key: make for key, make in vars(keras.applications).items() if key[0].isupper() and callable(make)}
    if name not in models:
        raise UnconvError(f"load: keras.applications has no model {name!r}. Did you mean {nearest(name, models)}?")
    # Keras downloads and loads its own weights while it builds the model; a file is checked here and filled in afterwards.
    if weights in ("DEFAULT", "imagenet"):
        model, origin = _download(models[name], name), "keras imagenet"
    else:
        model, origin = _random(models[name], name), "random"
    if weights is not None and origin == "random":
        origin = fill(keras, model, Path(weights))
    size = input_size(model)
    family = models[name].__module__.rpartition(".")[2]
    opened = Opened(as_torch_module(model), f"keras:{name}", origin, _preprocess(family, size), size, _classes(model))
    source = f"as keras.applications.{family}.preprocess_input does"
    return replace(opened, trained_with=source if weights in ("DEFAULT", "imagenet") else "", guess=source)


def open_keras_file(file: str, weights: str | None) -> Opened:
    """Open the model in a `.keras` file; no code in it runs."""
    keras, path = _keras(), Path(file)
    model, origin = read_model(keras, path), path.name
    if weights is not None:
        origin = fill(keras, model, Path(weights))
    return Opened(as_torch_module(model), path.name, origin, None, input_size(model))


def open_keras_live(model: Any, weights: str | None) -> Opened:
    """Open a live Keras model; weights from a `.keras` or `.weights.h5` file are written into it."""
    origin = "as given" if weights is None else fill(_keras(), model, Path(weights))
    return Opened(as_torch_module(model), model.name, origin, None, input_size(model))


def is_keras(module: Any) -> bool:
    """Say whether this is a live Keras model or layer; Keras is not imported to find out.

    Raises:
        UnconvError: it is one, but Keras runs on another backend than torch, or is too old.
    """
    keras = sys.modules.get("keras")
    layer = getattr(keras, "Layer", None)  # Keras 2 has none
    if layer is None or not isinstance(module, layer):
        return False
    _refuse_unsuited(keras)
    return isinstance(module, nn.Module)


def input_size(model: Any) -> tuple[int, ...]:
    """Return (C, samples..) of a Keras model; 224 samples along an axis whose length it does not fix."""
    function = graph_of(model)
    full_shape = function.inputs[0].shape if function is not None else built_shape(model)
    shape = tuple(full_shape[1:]) if full_shape else (None, None, 3)
    channels, sides = (shape[-1], shape[:-1]) if Layout.of(model).last else (shape[0], shape[1:])
    return (channels or 3, *(side or _SIDE for side in sides))


def _keras() -> Any:
    if "keras" not in sys.modules:
        os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = library("keras", "keras")
    _refuse_unsuited(keras)
    return keras


def _refuse_unsuited(keras: Any) -> None:
    """Refuse a Keras older than `_LEAST`, and one on another backend than torch.

    Up to 3.11, Keras unpickles code wrapped in a file's configuration before safe mode checks it. Up to 3.14, its
    transposed convolution on torch pads "same" equally on both sides, unlike its other backends and unconv.
    """
    numbers = re.match(r"(\d+)\.(\d+)", str(getattr(keras, "__version__", "")))
    if numbers is None or (int(numbers[1]), int(numbers[2])) < _LEAST:
        raise UnconvError(
            f"load: Keras {getattr(keras, '__version__', 'of unknown version')} is installed, but "
            f"{'.'.join(map(str, _LEAST))} or later was needed, the oldest that unconv was tested with. "
            'Install it with pip install --upgrade "unconv[keras]", on Python 3.11 or later.'
        )
    if keras.backend.backend() != "torch":
        raise UnconvError(
            f"load: Keras runs on its {keras.backend.backend()} backend, but torch was needed. "
            "Set the environment variable KERAS_BACKEND=torch before the first import of Keras."
        )


def _random(make: Any, name: str) -> Any:
    try:
        return make(weights=None)
    except ValueError as error:
        raise UnconvError(f"load: Keras cannot build {name}: {reason(error)} Pass another of its models.") from error


def _download(make: Any, name: str) -> Any:
    try:
        return make(weights="imagenet")
    except Exception as error:  # Keras raises a bare Exception if a download fails
        raise WeightsError(
            f"load: cannot download Keras' weights for {name}: {reason(error)}. "
            "Download them on a connected machine and pass the file as weights."
        ) from error


def _preprocess(family: str, size: tuple[int, ...]) -> Preprocess:
    """Return the preprocessing of `keras.applications.<family>.preprocess_input`.

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
    """Return ImageNet's class names if the last layer has 1000 channels; all of Keras' applications keep that order."""
    from torchvision.models import VGG16_Weights

    shapes = [tuple(tensor.shape) for tensor in model.outputs]
    return tuple(VGG16_Weights.DEFAULT.meta["categories"]) if shapes == [(None, 1000)] else ()
