"""Layers that only move samples."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from unconv.networks.keras.layers.table import keras_layer
from unconv.networks.keras.layout import Facts, Layer


@keras_layer("Flatten")
def _flatten(_layer: Any, _facts: Facts) -> Layer:
    """Flatten with the channels last, as Keras does in either layout."""
    return Layer(lambda _, x: x.movedim(1, -1).flatten(1) if x.ndim > 2 else x.reshape(len(x), -1), {})


@keras_layer("Reshape")
def _reshape(layer: Any, facts: Facts) -> Layer:
    layout, shape = facts.layout, [-1 if length is None else length for length in layer.target_shape]
    return Layer(lambda _, x: layout.ours(layout.keras(x).reshape(len(x), *shape)), {})


@keras_layer("Permute")
def _permute(layer: Any, facts: Facts) -> Layer:
    layout, order = facts.layout, layer.dims
    return Layer(lambda _, x: layout.ours(layout.keras(x).permute(0, *order)), {})


@keras_layer("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D")
def _zero_padding(layer: Any, _facts: Facts) -> Layer:
    edges = [edge for pair in reversed(_pairs(layer.padding)) for edge in pair]
    return Layer(lambda _, x: F.pad(x, edges), {})


@keras_layer("Cropping1D", "Cropping2D", "Cropping3D")
def _cropping(layer: Any, _facts: Facts) -> Layer:
    pairs = _pairs(layer.cropping)

    def run(_w: Any, x: Tensor) -> Tensor:
        for axis, (before, after) in enumerate(pairs, 2):
            x = x.narrow(axis, before, x.shape[axis] - before - after)
        return x

    return Layer(run, {})


def _pairs(setting: Any) -> list[tuple[int, int]]:
    """Return (before, after) for each axis; for a single axis Keras has a bare pair."""
    pairs = list(setting)
    return [tuple(pairs)] if isinstance(pairs[0], int) else [tuple(pair) for pair in pairs]


@keras_layer("UpSampling1D", "UpSampling2D", "UpSampling3D")
def _up_sampling(layer: Any, _facts: Facts) -> Layer | None:
    sizes = [layer.size] if isinstance(layer.size, int) else list(layer.size)

    def run(_w: Any, x: Tensor) -> Tensor:
        return F.interpolate(x, [n * size for n, size in zip(x.shape[2:], sizes, strict=True)], mode="nearest")

    return Layer(run, {}) if getattr(layer, "interpolation", "nearest") == "nearest" else None


@keras_layer("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianDropout", "GaussianNoise")
@keras_layer("Identity", "ActivityRegularization", "StochasticDepth")
def _same(_layer: Any, _facts: Facts) -> Layer:
    """Return the input: these layers change it only during training."""
    return Layer(lambda _, x: x, {})
