"""Running convolution backwards: transposed convolution, deconvnets, deconvolution."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from unconv.version import __version__ as __version__

if TYPE_CHECKING:
    from unconv import inverse, ops
    from unconv.errors import (
        DtypeError,
        Inexpressible,
        ModelError,
        NonFinite,
        NoRule,
        NoSuchLayer,
        NoSuchUnit,
        PictureError,
        ShapeError,
        UnconvError,
        WeightsError,
    )
    from unconv.ops import (
        Explanation,
        KerasArguments,
        OnnxArguments,
        OutputSize,
        PoolExplanation,
        TorchArguments,
        avg_pool1d,
        avg_pool2d,
        avg_pool3d,
        conv1d,
        conv1d_transpose,
        conv2d,
        conv2d_transpose,
        conv3d,
        conv3d_transpose,
        depthwise_conv2d,
        depthwise_conv2d_backprop_input,
        explain_conv2d_transpose,
        explain_unpool_avg,
        explain_unpool_max,
        keras_arguments,
        keras_conv_transpose,
        legal_output_sizes,
        max_pool_with_argmax,
        onnx_arguments,
        output_sizes,
        torch_arguments,
        unpool_avg,
        unpool_max,
    )
    from unconv.pictures.preprocess import Preprocess
    from unconv.reverse.methods import Rules
    from unconv.reverse.network import Network, Recording, load
    from unconv.reverse.places import Place
    from unconv.reverse.reconstruction import Reconstruction, Reconstructions

__all__ = [
    "DtypeError",
    "Explanation",
    "Inexpressible",
    "KerasArguments",
    "ModelError",
    "Network",
    "NoRule",
    "NoSuchLayer",
    "NoSuchUnit",
    "NonFinite",
    "OnnxArguments",
    "OutputSize",
    "PictureError",
    "Place",
    "PoolExplanation",
    "Preprocess",
    "Reconstruction",
    "Reconstructions",
    "Recording",
    "Rules",
    "ShapeError",
    "TorchArguments",
    "UnconvError",
    "WeightsError",
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
    "explain_conv2d_transpose",
    "explain_unpool_avg",
    "explain_unpool_max",
    "inverse",
    "keras_arguments",
    "keras_conv_transpose",
    "legal_output_sizes",
    "load",
    "max_pool_with_argmax",
    "onnx_arguments",
    "ops",
    "output_sizes",
    "torch_arguments",
    "unpool_avg",
    "unpool_max",
]

_HOMES = {
    "unconv.errors": [
        "DtypeError",
        "Inexpressible",
        "ModelError",
        "NoRule",
        "NoSuchLayer",
        "NoSuchUnit",
        "NonFinite",
        "PictureError",
        "ShapeError",
        "UnconvError",
        "WeightsError",
    ],
    "unconv.pictures.preprocess": ["Preprocess"],
    "unconv.reverse.methods": ["Rules"],
    "unconv.reverse.network": ["Network", "Recording", "load"],
    "unconv.reverse.places": ["Place"],
    "unconv.reverse.reconstruction": ["Reconstruction", "Reconstructions"],
}


def __getattr__(name: str) -> Any:
    """A public name, fetched when first used, so that `unconv --help` need not wait for torch."""
    if name not in __all__:
        raise AttributeError(f"module 'unconv' has no attribute {name!r}")
    if name in ("inverse", "ops"):
        return import_module(f"unconv.{name}")
    home = next((home for home, names in _HOMES.items() if name in names), "unconv.ops")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return __all__
