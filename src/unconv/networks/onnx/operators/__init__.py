"""ONNX' operators as functions of torch tensors, one row each, by kind."""

from unconv.networks.onnx.operators import (
    arithmetic,
    convolution,
    creation,
    indexing,
    norms,
    padding,
    pointwise,
    pools,
    products,
    reductions,
    resizing,
    shapes,
)
from unconv.networks.onnx.operators.table import LARGEST, OPERATORS, Operator, Unknown

__all__ = [
    "LARGEST",
    "OPERATORS",
    "Operator",
    "Unknown",
    "arithmetic",
    "convolution",
    "creation",
    "indexing",
    "norms",
    "padding",
    "pointwise",
    "pools",
    "products",
    "reductions",
    "resizing",
    "shapes",
]
