"""Convolution, transposed convolution, pooling and unpooling of PyTorch tensors, exactly as TensorFlow defines them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from unconv.errors import nearest
from unconv.ops.bridges import (
    KerasArguments,
    OnnxArguments,
    TorchArguments,
    keras_arguments,
    onnx_arguments,
    torch_arguments,
)
from unconv.ops.conv import conv1d, conv2d, conv3d, depthwise_conv2d
from unconv.ops.conv_transpose import (
    conv1d_transpose,
    conv2d_transpose,
    conv3d_transpose,
    depthwise_conv2d_backprop_input,
)
from unconv.ops.indices import from_torch_indices, to_torch_indices
from unconv.ops.keras import keras_conv_transpose
from unconv.ops.pool import avg_pool1d, avg_pool2d, avg_pool3d, max_pool_with_argmax
from unconv.ops.sizes import OutputSize, legal_output_sizes, output_sizes
from unconv.ops.unpool import unpool_avg, unpool_max

if TYPE_CHECKING:
    from unconv.explain import (
        Explanation,
        PoolExplanation,
        explain_conv1d_transpose,
        explain_conv2d_transpose,
        explain_exercise,
        explain_unpool_avg,
        explain_unpool_max,
    )

__all__ = [
    "Explanation",
    "KerasArguments",
    "OnnxArguments",
    "OutputSize",
    "PoolExplanation",
    "TorchArguments",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "conv1d",
    "conv1d_transpose",
    "conv2d",
    "conv2d_transpose",
    "conv3d",
    "conv3d_transpose",
    "depthwise_conv2d",
    "depthwise_conv2d_backprop_input",
    "explain_conv1d_transpose",
    "explain_conv2d_transpose",
    "explain_exercise",
    "explain_unpool_avg",
    "explain_unpool_max",
    "from_torch_indices",
    "keras_arguments",
    "keras_conv_transpose",
    "legal_output_sizes",
    "max_pool_with_argmax",
    "onnx_arguments",
    "output_sizes",
    "to_torch_indices",
    "torch_arguments",
    "unpool_avg",
    "unpool_max",
]


del unpool  # type: ignore[name-defined]  # noqa: F821, a module that looks like a function: see `unpool_max`


def __getattr__(name: str) -> Any:
    """Import an explanation when it is first used: drawing loads heavy packages, and `explain` is a layer above `ops`."""
    if name not in __all__:
        raise AttributeError(f"unconv.ops has no {name!r}. Nearest: {nearest(name, __all__)}.")
    return getattr(import_module("unconv.explain"), name)


def __dir__() -> list[str]:
    return __all__
