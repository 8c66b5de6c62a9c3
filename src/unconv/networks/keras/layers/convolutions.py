"""Convolutions, dense layers, and transposed convolutions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from unconv.axis import Axis
from unconv.networks.keras.layers.activations import activation_of
from unconv.networks.keras.layers.table import keras_layer
from unconv.networks.keras.layers.windows import padded, windows
from unconv.networks.keras.layout import Facts, Layer

_CONVS: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}


@keras_layer("Conv1D", "Conv2D", "Conv3D")
def _conv(layer: Any, facts: Facts) -> Layer | None:
    activation = activation_of(layer.activation, facts.layout)
    axes, groups = windows(layer, layer.kernel_size, layer.dilation_rate), layer.groups

    def run(w: Any, x: Tensor) -> Tensor:
        assert activation is not None
        return activation(_convolve(x, _dense_kernel(w.kernel), w.bias, axes, groups))

    return Layer(run, {"kernel": layer.kernel, "bias": layer.bias}) if activation else None


@keras_layer("DepthwiseConv1D", "DepthwiseConv2D")
def _depthwise(layer: Any, facts: Facts) -> Layer | None:
    activation = activation_of(layer.activation, facts.layout)
    axes = windows(layer, layer.kernel_size, layer.dilation_rate)

    def run(w: Any, x: Tensor) -> Tensor:
        assert activation is not None
        return activation(_convolve(x, _depthwise_kernel(w.kernel), w.bias, axes, x.shape[1]))

    return Layer(run, {"kernel": layer.kernel, "bias": layer.bias}) if activation else None


@keras_layer("SeparableConv1D", "SeparableConv2D")
def _separable(layer: Any, facts: Facts) -> Layer | None:
    activation = activation_of(layer.activation, facts.layout)
    axes = windows(layer, layer.kernel_size, layer.dilation_rate)
    point_axes = [Axis(1)] * len(axes)

    def run(w: Any, x: Tensor) -> Tensor:
        assert activation is not None
        depthwise = _convolve(x, _depthwise_kernel(w.deep), None, axes, x.shape[1])
        return activation(_convolve(depthwise, _dense_kernel(w.point), w.bias, point_axes, 1))

    weights = {"deep": layer.depthwise_kernel, "point": layer.pointwise_kernel, "bias": layer.bias}
    return Layer(run, weights) if activation else None


@keras_layer("Dense")
def _dense(layer: Any, facts: Facts) -> Layer | None:
    activation = activation_of(layer.activation, facts.layout)
    sample_axes = facts.ranks[0] - 2 if facts.layout.last else 0
    if activation is None or sample_axes > 3:
        return None

    def run(w: Any, x: Tensor) -> Tensor:
        assert activation is not None
        if sample_axes:
            return activation(_convolve(x, _dense_kernel(w.kernel[(None,) * sample_axes]), w.bias, [Axis(1)] * sample_axes, 1))
        return activation(F.linear(x, w.kernel.t(), w.bias))

    return Layer(run, {"kernel": layer.kernel, "bias": layer.bias})


@keras_layer("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
def _conv_transpose(layer: Any, facts: Facts) -> Layer | None:
    activation = activation_of(layer.activation, facts.layout)
    axes = windows(layer, layer.kernel_size, layer.dilation_rate)

    def run(w: Any, x: Tensor) -> Tensor:
        assert activation is not None
        # Keras' output length: n * stride for "same"; for "valid" also the part of the last window beyond its stride.
        sizes = [
            n * a.stride + (max(a.extent - a.stride, 0) if a.padding else 0) for a, n in zip(axes, x.shape[2:], strict=True)
        ]
        settings = [axis.torch_settings(size) for axis, size in zip(axes, sizes, strict=True)]
        padding, output_padding, firsts = ([setting[index] for setting in settings] for index in range(3))
        strides, dilations = [axis.stride for axis in axes], [axis.dilation for axis in axes]
        # torch pads equally on both sides: where Keras does not, compute more and cut out `size` samples from `first` on.
        x = _TRANSPOSED[len(axes)](x, _dense_kernel(w.kernel), w.bias, strides, padding, output_padding, 1, dilations)
        for index, (first, size) in enumerate(zip(firsts, sizes, strict=True), 2):
            x = x.narrow(index, first, size)
        return activation(x)

    supported = activation is not None and layer.output_padding is None
    return Layer(run, {"kernel": layer.kernel, "bias": layer.bias}) if supported else None


def _convolve(x: Tensor, kernel: Tensor, bias: Tensor | None, axes: list[Axis], groups: int) -> Tensor:
    x, padding = padded(x, axes)
    strides, dilations = [axis.stride for axis in axes], [axis.dilation for axis in axes]
    return _CONVS[len(axes)](x, kernel, bias, strides, padding, dilations, groups)


def _dense_kernel(kernel: Tensor) -> Tensor:
    """Return Keras' kernel (samples.., in, out) as torch's (out, in, samples..)."""
    return kernel.movedim((-1, -2), (0, 1)).contiguous()


def _depthwise_kernel(kernel: Tensor) -> Tensor:
    """Return Keras' kernel (samples.., channels, multiplier) as torch's (channels * multiplier, 1, samples..)."""
    return kernel.movedim((-2, -1), (0, 1)).flatten(0, 1).unsqueeze(1)
