"""Pools, over windows and over entire maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.networks.keras.layers.table import keras_layer
from unconv.networks.keras.layers.windows import padded, windows
from unconv.networks.keras.layout import Facts, Layer

_MAXIMA: dict[int, Callable[..., Tensor]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_MEANS: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


@keras_layer("MaxPooling1D", "MaxPooling2D", "MaxPooling3D")
def _max_pool(layer: Any, _facts: Facts) -> Layer:
    axes = windows(layer, layer.pool_size, [1] * len(layer.pool_size))

    def run(_w: Any, x: Tensor) -> Tensor:
        x, padding = padded(x, axes, value=-torch.inf)
        return _MAXIMA[len(axes)](x, [axis.kernel for axis in axes], [axis.stride for axis in axes], padding)

    return Layer(run, {})


@keras_layer("AveragePooling1D", "AveragePooling2D", "AveragePooling3D")
def _average_pool(layer: Any, _facts: Facts) -> Layer:
    """Average without counting SAME padding; if one side has more of it, the edge is repeated there and counted.

    Source:
        Keras 3.15, torch backend; its TensorFlow backend never counts padding.
    """
    axes = windows(layer, layer.pool_size, [1] * len(layer.pool_size))
    kernel, strides = [axis.kernel for axis in axes], [axis.stride for axis in axes]

    def run(_w: Any, x: Tensor) -> Tensor:
        x, padding = padded(x, axes, mode="replicate")
        return _MEANS[len(axes)](x, kernel, strides, padding, count_include_pad=False)

    return Layer(run, {})


@keras_layer("GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D")
def _global_average(layer: Any, _facts: Facts) -> Layer:
    keep = layer.keepdims
    return Layer(lambda _, x: x.mean(list(range(2, x.ndim)), keepdim=keep), {})


@keras_layer("GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D")
def _global_max(layer: Any, _facts: Facts) -> Layer:
    keep = layer.keepdims

    def run(_w: Any, x: Tensor) -> Tensor:
        top = _MAXIMA[x.ndim - 2](x, list(x.shape[2:]))
        return top if keep else top.flatten(1)

    return Layer(run, {})
