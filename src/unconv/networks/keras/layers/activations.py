"""Activations, as part of other layers and as layers of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.networks.keras.layers.table import keras_layer, keras_operation
from unconv.networks.keras.layout import Facts, Layer, Layout

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "elu": F.elu,
    "exponential": torch.exp,
    "gelu": F.gelu,
    "hard_sigmoid": F.hardsigmoid,
    "hard_silu": F.hardswish,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "linear": lambda x: x,
    "mish": F.mish,
    "relu": F.relu,
    "relu6": F.relu6,
    "selu": F.selu,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "softplus": F.softplus,
    "tanh": torch.tanh,
}


def activation_of(function: Any, layout: Layout) -> Callable[[Tensor], Tensor] | None:
    """Return Keras' activation as a function of torch; None if it is not Keras' own or has no row."""
    name = getattr(function, "__name__", "linear" if function is None else "")
    if function is not None and not getattr(function, "__module__", "").startswith("keras.src.activations"):
        return None
    if name == "softmax":
        return lambda x: F.softmax(x, 1 if layout.last else -1)
    return _ACTIVATIONS.get(name)


@keras_layer("Activation")
def _activation(layer: Any, facts: Facts) -> Layer | None:
    activation = activation_of(layer.activation, facts.layout)
    return None if activation is None else Layer(lambda _, x: activation(x), {})


@keras_layer("ReLU")
def _relu(layer: Any, _facts: Facts) -> Layer | None:
    top, slope = layer.max_value, float(layer.negative_slope or 0)
    if layer.threshold or (slope and top is not None):
        return None
    if top is not None:
        return Layer(lambda _, x: F.relu6(x) if top == 6 else F.hardtanh(x, 0.0, float(top)), {})
    return Layer(lambda _, x: F.leaky_relu(x, slope) if slope else F.relu(x), {})


@keras_layer("LeakyReLU")
def _leaky_relu(layer: Any, _facts: Facts) -> Layer:
    slope = float(layer.negative_slope)
    return Layer(lambda _, x: F.leaky_relu(x, slope), {})


@keras_layer("PReLU")
def _prelu(layer: Any, facts: Facts) -> Layer | None:
    """Translate one slope per channel, as in torch; a layer with a slope per position is left to Keras."""
    slopes = tuple(layer.alpha.shape)
    if not facts.layout.last or any(n != 1 for n in slopes[:-1]):
        return None
    return Layer(lambda w, x: F.prelu(x, w.alpha.flatten()), {"alpha": layer.alpha})


@keras_layer("ELU")
def _elu(layer: Any, _facts: Facts) -> Layer:
    alpha = float(layer.alpha)
    return Layer(lambda _, x: F.elu(x, alpha), {})


@keras_layer("Softmax")
def _softmax(layer: Any, facts: Facts) -> Layer | None:
    if not isinstance(layer.axis, int):
        return None
    axis = facts.layout.axis(layer.axis, facts.ranks[0])
    return Layer(lambda _, x: F.softmax(x, axis), {})


def _register(name: str, function: Callable[[Tensor], Tensor]) -> None:
    keras_operation(name)(lambda _operation, _facts: Layer(lambda _, x: function(x), {}))


_register("Relu", F.relu)
_register("Relu6", F.relu6)
_register("Sigmoid", torch.sigmoid)
_register("Silu", F.silu)
_register("Tanh", torch.tanh)
