"""Norms and scales: a factor and an offset, learned, measured or set."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.networks.keras.layers.table import keras_layer
from unconv.networks.keras.layout import Facts, Layer


@keras_layer("BatchNormalization")
def _batch_norm(layer: Any, facts: Facts) -> Layer | None:
    epsilon = layer.epsilon

    def run(w: Any, x: Tensor) -> Tensor:
        return F.batch_norm(x, w.moving_mean, w.moving_variance, w.gamma, w.beta, False, 0.0, epsilon)

    names = ("moving_mean", "moving_variance", "gamma", "beta")
    weights = {name: getattr(layer, name, None) for name in names}
    return Layer(run, weights) if facts.over_channels(layer.axis) else None


@keras_layer("LayerNormalization")
def _layer_norm(layer: Any, facts: Facts) -> Layer | None:
    epsilon = layer.epsilon

    def run(w: Any, x: Tensor) -> Tensor:
        return F.layer_norm(x.movedim(1, -1), x.shape[1:2], w.gamma, w.beta, epsilon).movedim(-1, 1)

    supported = facts.over_channels(layer.axis) and not getattr(layer, "rms_scaling", False)
    weights = {name: getattr(layer, name, None) for name in ("gamma", "beta")}
    return Layer(run, weights) if supported else None


@keras_layer("GroupNormalization")
def _group_norm(layer: Any, facts: Facts) -> Layer | None:
    epsilon, groups = layer.epsilon, layer.groups

    def run(w: Any, x: Tensor) -> Tensor:
        return F.group_norm(x, groups, w.gamma, w.beta, epsilon)

    weights = {name: getattr(layer, name, None) for name in ("gamma", "beta")}
    return Layer(run, weights) if facts.over_channels(layer.axis) else None


@keras_layer("Normalization")
def _normalization(layer: Any, facts: Facts) -> Layer | None:
    layout = facts.layout

    def run(w: Any, x: Tensor) -> Any:
        return (x - layout.ours(w.mean)) / layout.ours(w.variance).sqrt().clamp(min=1e-7)

    weights = {"mean": layer.mean, "variance": layer.variance}
    return None if layer.invert or layer.mean is None or layer.mean.ndim != facts.ranks[0] else Layer(run, weights)


@keras_layer("Rescaling")
def _rescaling(layer: Any, _facts: Facts) -> Layer | None:
    scale, offset = layer.scale, layer.offset
    if not isinstance(scale, int | float) or not isinstance(offset, int | float):
        return _rescaling_channels(layer, _facts)
    return Layer(lambda _, x: x * scale + offset if offset else x * scale, {})


def _rescaling_channels(layer: Any, facts: Facts) -> Layer | None:
    """Rescale as `_rescaling`, with a factor and an offset for each channel."""
    scale, offset = (torch.as_tensor(value, dtype=torch.float32).flatten() for value in (layer.scale, layer.offset))
    if not facts.layout.last:
        return None

    def run(w: Any, x: Tensor) -> Any:
        shape = [-1] + [1] * (x.ndim - 2)
        return x * w.scale.view(shape) + w.offset.view(shape)

    return Layer(run, {"scale": scale, "offset": offset})


@keras_layer("LayerScale")
def _layer_scale(layer: Any, facts: Facts) -> Layer | None:
    def run(w: Any, x: Tensor) -> Any:
        return x * w.gamma.view(-1, *[1] * (x.ndim - 2))

    return Layer(run, {"gamma": layer.gamma}) if facts.layout.last else None
