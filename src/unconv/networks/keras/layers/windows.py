"""The windows of Keras' convolutions and pools, and padding that torch cannot express."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from unconv.axis import Axis


def windows(layer: Any, sizes: Any, dilations: Any) -> list[Axis]:
    """Return the windows of a convolution or pool along each axis."""
    axes = []
    for size, stride, dilation in zip(sizes, layer.strides, dilations, strict=True):
        causal = (dilation * (size - 1), 0)
        padding = {"same": None, "valid": (0, 0), "causal": causal}[layer.padding]
        axes.append(Axis(size, stride, padding, dilation))
    return axes


def padded(x: Tensor, axes: list[Axis], mode: str = "constant", value: float | None = None) -> tuple[Tensor, list[int]]:
    """Return (x, padding): x is padded here if torch's own padding, equal on both sides, cannot express it."""
    pairs = [axis.pads(n) for axis, n in zip(axes, x.shape[2:], strict=True)]
    if all(before == after and 2 * before <= axis.kernel for (before, after), axis in zip(pairs, axes, strict=True)):
        return x, [before for before, _ in pairs]
    return F.pad(x, [edge for pair in reversed(pairs) for edge in pair], mode, value), [0] * len(pairs)
