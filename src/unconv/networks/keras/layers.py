"""Keras' layers in torch's operations, channels first: one row a layer.

A row takes Keras' layer and gives what runs it, or None where it does not know a setting; then, and
where there is no row, Keras runs the layer itself.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from unconv.axis import Axis
from unconv.networks.keras.layout import Facts, Layer, Layout

Row = Callable[[Any, Facts], Layer | None]

_CONVS: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}
_MAXIMA: dict[int, Callable[..., Tensor]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_MEANS: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}

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


def _activation(function: Any, layout: Layout) -> Callable[[Tensor], Tensor] | None:
    """One of Keras' activations in torch; None if it is another's, or has no row."""
    name = getattr(function, "__name__", "linear" if function is None else "")
    if function is not None and not getattr(function, "__module__", "").startswith("keras.src.activations"):
        return None
    if name == "softmax":
        return lambda x: F.softmax(x, 1 if layout.last else -1)
    return _ACTIVATIONS.get(name)


def _axes(layer: Any, sizes: Any, dilations: Any) -> list[Axis]:
    """The windows of a convolution or pool along each axis."""
    axes = []
    for size, stride, dilation in zip(sizes, layer.strides, dilations, strict=True):
        causal = (dilation * (size - 1), 0)
        padding = {"same": None, "valid": (0, 0), "causal": causal}[layer.padding]
        axes.append(Axis(size, stride, padding, dilation))
    return axes


def _padded(x: Tensor, axes: list[Axis], mode: str = "constant", value: float | None = None) -> tuple[Tensor, list[int]]:
    """(x, padding): what torch's own padding, the same on both sides, cannot express is in x already."""
    pairs = [axis.pads(n) for axis, n in zip(axes, x.shape[2:], strict=True)]
    if all(before == after and 2 * before <= axis.kernel for (before, after), axis in zip(pairs, axes, strict=True)):
        return x, [before for before, _ in pairs]
    return F.pad(x, [edge for pair in reversed(pairs) for edge in pair], mode, value), [0] * len(pairs)


def _convolved(x: Tensor, kernel: Tensor, bias: Tensor | None, axes: list[Axis], groups: int) -> Tensor:
    x, padding = _padded(x, axes)
    strides, dilations = [axis.stride for axis in axes], [axis.dilation for axis in axes]
    return _CONVS[len(axes)](x, kernel, bias, strides, padding, dilations, groups)


def _dense_kernel(kernel: Tensor) -> Tensor:
    """Keras' (samples.., in, out) as torch's (out, in, samples..)."""
    return kernel.movedim((-1, -2), (0, 1)).contiguous()


def _deep_kernel(kernel: Tensor) -> Tensor:
    """Keras' (samples.., channels, multiplier) as torch's (channels * multiplier, 1, samples..)."""
    return kernel.movedim((-2, -1), (0, 1)).flatten(0, 1).unsqueeze(1)


def _conv(layer: Any, facts: Facts) -> Layer | None:
    activation = _activation(layer.activation, facts.layout)
    axes, groups = _axes(layer, layer.kernel_size, layer.dilation_rate), layer.groups

    def run(w: Any, x: Tensor) -> Tensor:
        assert activation is not None
        return activation(_convolved(x, _dense_kernel(w.kernel), w.bias, axes, groups))

    return Layer(run, {"kernel": layer.kernel, "bias": layer.bias}) if activation else None


def _depthwise(layer: Any, facts: Facts) -> Layer | None:
    activation = _activation(layer.activation, facts.layout)
    axes = _axes(layer, layer.kernel_size, layer.dilation_rate)

    def run(w: Any, x: Tensor) -> Tensor:
        assert activation is not None
        return activation(_convolved(x, _deep_kernel(w.kernel), w.bias, axes, x.shape[1]))

    return Layer(run, {"kernel": layer.kernel, "bias": layer.bias}) if activation else None


def _separable(layer: Any, facts: Facts) -> Layer | None:
    activation = _activation(layer.activation, facts.layout)
    axes = _axes(layer, layer.kernel_size, layer.dilation_rate)
    point = [Axis(1)] * len(axes)

    def run(w: Any, x: Tensor) -> Tensor:
        assert activation is not None
        deep = _convolved(x, _deep_kernel(w.deep), None, axes, x.shape[1])
        return activation(_convolved(deep, _dense_kernel(w.point), w.bias, point, 1))

    weights = {"deep": layer.depthwise_kernel, "point": layer.pointwise_kernel, "bias": layer.bias}
    return Layer(run, weights) if activation else None


def _conv_transpose(layer: Any, facts: Facts) -> Layer | None:
    activation = _activation(layer.activation, facts.layout)
    axes = _axes(layer, layer.kernel_size, layer.dilation_rate)

    def run(w: Any, x: Tensor) -> Tensor:
        assert activation is not None
        sizes = [
            n * a.stride + (max(a.extent - a.stride, 0) if a.padding else 0) for a, n in zip(axes, x.shape[2:], strict=True)
        ]
        settings = [axis.torch_settings(size) for axis, size in zip(axes, sizes, strict=True)]
        padding, more, firsts = ([setting[index] for setting in settings] for index in range(3))
        strides, dilations = [axis.stride for axis in axes], [axis.dilation for axis in axes]
        x = _TRANSPOSED[len(axes)](x, _dense_kernel(w.kernel), w.bias, strides, padding, more, 1, dilations)
        for index, (first, size) in enumerate(zip(firsts, sizes, strict=True), 2):
            x = x.narrow(index, first, size)
        return activation(x)

    known = activation is not None and layer.output_padding is None
    return Layer(run, {"kernel": layer.kernel, "bias": layer.bias}) if known else None


def _dense(layer: Any, facts: Facts) -> Layer | None:
    activation = _activation(layer.activation, facts.layout)
    samples = facts.ranks[0] - 2 if facts.layout.last else 0
    if activation is None or samples > 3:
        return None

    def run(w: Any, x: Tensor) -> Tensor:
        assert activation is not None
        if samples:
            return activation(_convolved(x, _dense_kernel(w.kernel[(None,) * samples]), w.bias, [Axis(1)] * samples, 1))
        return activation(F.linear(x, w.kernel.t(), w.bias))

    return Layer(run, {"kernel": layer.kernel, "bias": layer.bias})


def _batch_norm(layer: Any, facts: Facts) -> Layer | None:
    epsilon = layer.epsilon

    def run(w: Any, x: Tensor) -> Tensor:
        return F.batch_norm(x, w.moving_mean, w.moving_variance, w.gamma, w.beta, False, 0.0, epsilon)

    names = ("moving_mean", "moving_variance", "gamma", "beta")
    weights = {name: getattr(layer, name, None) for name in names}
    return Layer(run, weights) if facts.over_channels(layer.axis) else None


def _layer_norm(layer: Any, facts: Facts) -> Layer | None:
    epsilon = layer.epsilon

    def run(w: Any, x: Tensor) -> Tensor:
        return F.layer_norm(x.movedim(1, -1), x.shape[1:2], w.gamma, w.beta, epsilon).movedim(-1, 1)

    known = facts.over_channels(layer.axis) and not getattr(layer, "rms_scaling", False)
    weights = {name: getattr(layer, name, None) for name in ("gamma", "beta")}
    return Layer(run, weights) if known else None


def _group_norm(layer: Any, facts: Facts) -> Layer | None:
    epsilon, groups = layer.epsilon, layer.groups

    def run(w: Any, x: Tensor) -> Tensor:
        return F.group_norm(x, groups, w.gamma, w.beta, epsilon)

    weights = {name: getattr(layer, name, None) for name in ("gamma", "beta")}
    return Layer(run, weights) if facts.over_channels(layer.axis) else None


def _activated(layer: Any, facts: Facts) -> Layer | None:
    activation = _activation(layer.activation, facts.layout)
    return None if activation is None else Layer(lambda _, x: activation(x), {})


def _relu(layer: Any, _facts: Facts) -> Layer | None:
    top, slope = layer.max_value, float(layer.negative_slope or 0)
    if layer.threshold or (slope and top is not None):
        return None
    if top is not None:
        return Layer(lambda _, x: F.relu6(x) if top == 6 else F.hardtanh(x, 0.0, float(top)), {})
    return Layer(lambda _, x: F.leaky_relu(x, slope) if slope else F.relu(x), {})


def _leaky_relu(layer: Any, _facts: Facts) -> Layer:
    slope = float(layer.negative_slope)
    return Layer(lambda _, x: F.leaky_relu(x, slope), {})


def _prelu(layer: Any, facts: Facts) -> Layer | None:
    """With one slope for each channel, as torch has it; Keras runs one with slopes for each position."""
    slopes = tuple(layer.alpha.shape)
    if not facts.layout.last or any(n != 1 for n in slopes[:-1]):
        return None
    return Layer(lambda w, x: F.prelu(x, w.alpha.flatten()), {"alpha": layer.alpha})


def _elu(layer: Any, _facts: Facts) -> Layer:
    alpha = float(layer.alpha)
    return Layer(lambda _, x: F.elu(x, alpha), {})


def _softmax(layer: Any, facts: Facts) -> Layer | None:
    if not isinstance(layer.axis, int):
        return None
    axis = facts.layout.axis(layer.axis, facts.ranks[0])
    return Layer(lambda _, x: F.softmax(x, axis), {})


def _max_pool(layer: Any, _facts: Facts) -> Layer:
    axes = _axes(layer, layer.pool_size, [1] * len(layer.pool_size))

    def run(_w: Any, x: Tensor) -> Tensor:
        x, padding = _padded(x, axes, value=-torch.inf)
        return _MAXIMA[len(axes)](x, [axis.kernel for axis in axes], [axis.stride for axis in axes], padding)

    return Layer(run, {})


def _average_pool(layer: Any, _facts: Facts) -> Layer:
    """A SAME average counts no padding, but where one side has more of it: there the edge is repeated, and counted.

    Source:
        Keras 3.15, torch backend; its TensorFlow backend never counts padding.
    """
    axes = _axes(layer, layer.pool_size, [1] * len(layer.pool_size))
    windows = [axis.kernel for axis in axes], [axis.stride for axis in axes]

    def run(_w: Any, x: Tensor) -> Tensor:
        x, padding = _padded(x, axes, mode="replicate")
        return _MEANS[len(axes)](x, *windows, padding, count_include_pad=False)

    return Layer(run, {})


def _global_average(layer: Any, _facts: Facts) -> Layer:
    keep = layer.keepdims
    return Layer(lambda _, x: x.mean(list(range(2, x.ndim)), keepdim=keep), {})


def _global_max(layer: Any, _facts: Facts) -> Layer:
    keep = layer.keepdims

    def run(_w: Any, x: Tensor) -> Tensor:
        top = _MAXIMA[x.ndim - 2](x, list(x.shape[2:]))
        return top if keep else top.flatten(1)

    return Layer(run, {})


def _flatten(_layer: Any, _facts: Facts) -> Layer:
    """Keras flattens with the channels last, wherever they are."""
    return Layer(lambda _, x: x.movedim(1, -1).flatten(1) if x.ndim > 2 else x.reshape(len(x), -1), {})


def _reshape(layer: Any, facts: Facts) -> Layer:
    layout, shape = facts.layout, [-1 if length is None else length for length in layer.target_shape]
    return Layer(lambda _, x: layout.ours(layout.keras(x).reshape(len(x), *shape)), {})


def _permute(layer: Any, facts: Facts) -> Layer:
    layout, order = facts.layout, layer.dims
    return Layer(lambda _, x: layout.ours(layout.keras(x).permute(0, *order)), {})


def _pairs(setting: Any) -> list[tuple[int, int]]:
    """(before, after) of each axis; Keras writes that of one axis as a bare pair."""
    pairs = list(setting)
    return [tuple(pairs)] if isinstance(pairs[0], int) else [tuple(pair) for pair in pairs]


def _zero_padding(layer: Any, _facts: Facts) -> Layer:
    edges = [edge for pair in reversed(_pairs(layer.padding)) for edge in pair]
    return Layer(lambda _, x: F.pad(x, edges), {})


def _cropping(layer: Any, _facts: Facts) -> Layer:
    pairs = _pairs(layer.cropping)

    def run(_w: Any, x: Tensor) -> Tensor:
        for axis, (before, after) in enumerate(pairs, 2):
            x = x.narrow(axis, before, x.shape[axis] - before - after)
        return x

    return Layer(run, {})


def _up_sampling(layer: Any, _facts: Facts) -> Layer | None:
    sizes = [layer.size] if isinstance(layer.size, int) else list(layer.size)

    def run(_w: Any, x: Tensor) -> Tensor:
        return F.interpolate(x, [n * size for n, size in zip(x.shape[2:], sizes, strict=True)], mode="nearest")

    return Layer(run, {}) if getattr(layer, "interpolation", "nearest") == "nearest" else None


def _rescaling(layer: Any, _facts: Facts) -> Layer | None:
    scale, offset = layer.scale, layer.offset
    if not isinstance(scale, int | float) or not isinstance(offset, int | float):
        return _rescaling_channels(layer, _facts)
    return Layer(lambda _, x: x * scale + offset if offset else x * scale, {})


def _rescaling_channels(layer: Any, facts: Facts) -> Layer | None:
    """As `_rescaling`, with a number for each channel."""
    scale, offset = (torch.as_tensor(value, dtype=torch.float32).flatten() for value in (layer.scale, layer.offset))
    if not facts.layout.last:
        return None

    def run(w: Any, x: Tensor) -> Any:
        shape = [-1] + [1] * (x.ndim - 2)
        return x * w.scale.view(shape) + w.offset.view(shape)

    return Layer(run, {"scale": scale, "offset": offset})


def _normalization(layer: Any, facts: Facts) -> Layer | None:
    layout = facts.layout

    def run(w: Any, x: Tensor) -> Any:
        return (x - layout.ours(w.mean)) / layout.ours(w.variance).sqrt().clamp(min=1e-7)

    weights = {"mean": layer.mean, "variance": layer.variance}
    return None if layer.invert or layer.mean is None or layer.mean.ndim != facts.ranks[0] else Layer(run, weights)


def _layer_scale(layer: Any, facts: Facts) -> Layer | None:
    def run(w: Any, x: Tensor) -> Any:
        return x * w.gamma.view(-1, *[1] * (x.ndim - 2))

    return Layer(run, {"gamma": layer.gamma}) if facts.layout.last else None


def _scaled_sum(layer: Any, _facts: Facts) -> Layer:
    scale = float(layer.scale)
    return Layer(lambda _, pair: pair[0] + pair[1] * scale, {})


def _same(_layer: Any, _facts: Facts) -> Layer:
    return Layer(lambda _, x: x, {})


def _combined(combine: Callable[[Any, Any], Any]) -> Row:
    """The row of what joins tensors sample by sample, and numbers."""

    def row(_layer: Any, facts: Facts) -> Layer | None:
        return Layer(lambda _, *args: reduce(combine, tree_leaves(args)), {}) if len(set(facts.ranks)) == 1 else None

    return row


def _average(_layer: Any, facts: Facts) -> Layer | None:
    alike = len(set(facts.ranks)) == 1
    return Layer(lambda _, tensors: reduce(operator.add, tensors) / len(tensors), {}) if alike else None


def _concatenate(layer: Any, facts: Facts) -> Layer:
    axis = facts.layout.axis(layer.axis, facts.ranks[0])
    return Layer(lambda _, tensors: torch.cat(list(tensors), axis), {})


def _plainly(function: Callable[[Tensor], Tensor]) -> Row:
    return lambda _layer, _facts: Layer(lambda _, x: function(x), {})


def _numbered(name: str, row: Row, axes: str = "123") -> dict[str, Row]:
    """The row of a layer that Keras has for 1-D, 2-D and 3-D."""
    return {f"{name}{count}D": row for count in axes}


ROWS: dict[str, Row] = {
    **_numbered("AveragePooling", _average_pool),
    **_numbered("Conv", _conv),
    **{f"Conv{count}DTranspose": _conv_transpose for count in (1, 2, 3)},
    **_numbered("Cropping", _cropping),
    **_numbered("DepthwiseConv", _depthwise, "12"),
    **_numbered("GlobalAveragePooling", _global_average),
    **_numbered("GlobalMaxPooling", _global_max),
    **_numbered("MaxPooling", _max_pool),
    **_numbered("SeparableConv", _separable, "12"),
    **_numbered("SpatialDropout", _same),
    **_numbered("UpSampling", _up_sampling),
    **_numbered("ZeroPadding", _zero_padding),
    "Activation": _activated,
    "ActivityRegularization": _same,
    "Add": _combined(operator.add),
    "Average": _average,
    "BatchNormalization": _batch_norm,
    "Concatenate": _concatenate,
    "CustomScaleLayer": _scaled_sum,
    "Dense": _dense,
    "Dropout": _same,
    "ELU": _elu,
    "Flatten": _flatten,
    "GaussianDropout": _same,
    "GaussianNoise": _same,
    "GroupNormalization": _group_norm,
    "Identity": _same,
    "LayerNormalization": _layer_norm,
    "LayerScale": _layer_scale,
    "LeakyReLU": _leaky_relu,
    "Maximum": _combined(torch.maximum),
    "Minimum": _combined(torch.minimum),
    "Multiply": _combined(operator.mul),
    "Normalization": _normalization,
    "PReLU": _prelu,
    "Permute": _permute,
    "ReLU": _relu,
    "Rescaling": _rescaling,
    "Reshape": _reshape,
    "Softmax": _softmax,
    "StochasticDepth": _same,
    "Subtract": _combined(operator.sub),
}
"""Keras' layers, by the names of their classes."""

OPERATIONS: dict[str, Row] = {
    "Add": _combined(operator.add),
    "Concatenate": _concatenate,
    "Divide": _combined(operator.truediv),
    "Multiply": _combined(operator.mul),
    "Relu": _plainly(F.relu),
    "Relu6": _plainly(F.relu6),
    "Sigmoid": _plainly(torch.sigmoid),
    "Silu": _plainly(F.silu),
    "Subtract": _combined(operator.sub),
    "Tanh": _plainly(torch.tanh),
}
"""Operations of `keras.ops` in a graph, such as the sum that `x + y` makes."""
