"""Convolution and transposed convolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from unconv.errors import ShapeError
from unconv.networks.onnx.operators.padding import padded
from unconv.networks.onnx.operators.table import bounded, operator
from unconv.networks.onnx.operators.windows import Windows, windows

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@operator("Conv")
def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """Return a convolution; padding that differs between the two sides is added first."""
    over = windows(x, _kernel(weight, kernel_shape), strides, dilations, pads, auto_pad)
    x, padding = evenly_padded(x, over)
    return _CONVOLUTIONS[x.ndim - 2](x, weight, bias, over.stride, padding, over.dilation, group)


def evenly_padded(x: Tensor, over: Windows, value: float = 0.0) -> tuple[Tensor, tuple[int, ...]]:
    """Return x and the padding left for torch, which pads both sides equally: if they differ, x is padded here."""
    if over.symmetric:
        return x, tuple(before for before, _ in over.pads)
    return padded(x, over.pads, value), (0,) * len(over.pads)


@operator("ConvTranspose")
def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """Return a transposed convolution: its full result, with the padding cut off.

    Source:
        ONNX, ConvTranspose of opset 22: total_padding, and how it is divided between the two sides.
    """
    axes = x.ndim - 2
    over = windows(x, _kernel(weight, kernel_shape), strides, dilations, pads, "NOTSET")
    extra = list(output_padding or [0] * axes)
    full = [(n - 1) * s + e for n, s, e in zip(x.shape[2:], over.stride, over.extent, strict=True)]
    pairs, size = over.pads, None if output_shape is None else list(output_shape)[-axes:]
    if size is None and auto_pad.startswith("SAME"):
        size = [n * s for n, s in zip(x.shape[2:], over.stride, strict=True)]
    if size is None:
        size = [n + more - sum(pair) for n, more, pair in zip(full, extra, pairs, strict=True)]
    else:
        totals = [max(n + more - out, 0) for n, more, out in zip(full, extra, size, strict=True)]
        upper = auto_pad == "SAME_UPPER"
        pairs = tuple((t // 2, t - t // 2) if upper else (t - t // 2, t // 2) for t in totals)
    bounded([len(x), weight.shape[1] * group, *size])
    bounded([len(x), weight.shape[1] * group, *full])
    transposed = _TRANSPOSED[axes]
    surplus = [out - n + 2 * before for out, n, (before, _) in zip(size, full, pairs, strict=True)]
    if all(before >= 0 for before, _ in pairs) and all(0 <= r < max(s, 1) for r, s in zip(surplus, over.stride, strict=True)):
        # If the end keeps more than the beginning, by less than a stride, it is torch's output padding.
        return transposed(x, weight, bias, over.stride, [before for before, _ in pairs], surplus, group, over.dilation)
    # Otherwise compute the full result and cut it; the bias comes last, as the cut may also add zeros.
    result = transposed(x, weight, None, over.stride, 0, 0, group, over.dilation)
    ends = [(-before, out - n + before) for out, n, (before, _) in zip(size, full, pairs, strict=True)]
    result = padded(result, ends)
    return result if bias is None else result + bias.view(-1, *[1] * axes)


def _kernel(weight: Tensor, kernel_shape: Sequence[int] | None) -> list[int]:
    kernel = list(weight.shape[2:])
    if kernel_shape is not None and list(kernel_shape) != kernel:
        raise ShapeError(f"its kernel_shape is {tuple(kernel_shape)}, but its weight is {tuple(weight.shape)}")
    return kernel
