"""ONNX' operators in terms of ours: the thinnest backend that its node tests can be run through."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv import ops
from unconv.axis import Axis

FIRST = {1: "NCW", 2: "NCHW", 3: "NCDHW"}
CONVS = {1: ops.conv1d, 2: ops.conv2d, 3: ops.conv3d}
TRANSPOSED = {1: ops.conv1d_transpose, 2: ops.conv2d_transpose, 3: ops.conv3d_transpose}
AVERAGES = {1: ops.avg_pool1d, 2: ops.avg_pool2d, 3: ops.avg_pool3d}


def run(node, *inputs: Tensor) -> tuple[Tensor, ...]:
    """The outputs of one node."""
    attributes = {attribute.name: _value(attribute) for attribute in node.attribute}
    made = OPERATORS[node.op_type](attributes, *inputs)
    return made if isinstance(made, tuple) else (made,)


def _value(attribute):
    return list(attribute.ints) or attribute.s.decode() or attribute.i


def conv_transpose(attributes, x: Tensor, weight: Tensor) -> Tensor:
    """ConvTranspose: its padding, or the output's shape, is spread over both sides in ONNX' own way."""
    count = x.ndim - 2
    kernel, groups = weight.shape[2:], attributes.get("group", 1)
    strides, dilations = (attributes.get(name, [1] * count) for name in ("strides", "dilations"))
    more = attributes.get("output_padding", [0] * count)
    upper = attributes.get("auto_pad") == "SAME_UPPER"
    full = [Axis(k, s, (0, 0), d).span(n) for k, s, d, n in zip(kernel, strides, dilations, x.shape[2:], strict=True)]
    size = attributes.get("output_shape") or ([n * s for n, s in zip(x.shape[2:], strides, strict=True)] if upper else None)
    pads = attributes.get("pads", [0] * 2 * count)
    pairs = list(zip(pads[:count], pads[count:], strict=True))
    if size:
        totals = [max(length + extra - out, 0) for length, extra, out in zip(full, more, size, strict=True)]
        pairs = [(t // 2, t - t // 2) if upper else (t - t // 2, t // 2) for t in totals]
    else:
        size = [length + extra - sum(pair) for length, extra, pair in zip(full, more, pairs, strict=True)]
    parts = []
    for part, kernels in zip(x.chunk(groups, 1), weight.chunk(groups, 0), strict=True):
        filters = kernels.movedim((0, 1), (-1, -2))
        shape = (len(x), kernels.shape[1], *size)
        parts.append(TRANSPOSED[count](part, filters, shape, strides, pairs, FIRST[count], dilations))
    return torch.cat(parts, 1)


def max_pool(attributes, x: Tensor) -> tuple[Tensor, Tensor]:
    """MaxPool, with indices that count through batch and channels, row by row or column by column."""
    count = x.ndim - 2
    kernel = attributes["kernel_shape"]
    pads = attributes.get("pads", [0] * 2 * count)
    pairs = list(zip(pads[:count], pads[count:], strict=True))
    pooled, argmax = ops.max_pool_with_argmax(x, kernel, attributes.get("strides", 1), pairs, FIRST[count])
    rest, place, pitch = argmax // x.shape[1], 0, 1
    spots = []
    for n in reversed(x.shape[2:]):
        spots.insert(0, rest % n)
        rest = rest // n
    order = range(count) if attributes.get("storage_order") else reversed(range(count))
    for axis in order:
        place, pitch = place + spots[axis] * pitch, pitch * x.shape[2 + axis]
    planes = torch.arange(len(x) * x.shape[1]).view(len(x), -1, *[1] * count)
    return pooled, planes * pitch + place


def max_unpool(attributes, pooled: Tensor, indices: Tensor, output_shape: Tensor | None = None) -> Tensor:
    """MaxUnpool: an index counts through the batch and channels of the output that is asked for."""
    count, channels = pooled.ndim - 2, pooled.shape[1]
    lengths = zip(pooled.shape[2:], attributes["strides"], attributes["kernel_shape"], strict=True)
    shape = [*pooled.shape[:2], *((n - 1) * s + k for n, s, k in lengths)] if output_shape is None else output_shape.tolist()
    plane = torch.tensor(shape[2:]).prod()
    argmax = indices % plane * channels + indices // plane % channels
    return ops.unpool_max(pooled, argmax, shape, False, "overwrite", FIRST[count])


def average_pool(attributes, x: Tensor) -> Tensor:
    """AveragePool; what TensorFlow's has not, counted padding and dilation, is put together around it."""
    count = x.ndim - 2
    kernel, strides, dilations = (attributes.get(name, [1] * count) for name in ("kernel_shape", "strides", "dilations"))
    axes = [Axis(k, s, None, d) for k, s, d in zip(kernel, strides, dilations, strict=True)]
    pads = attributes.get("pads", [0] * 2 * count)
    pairs = list(zip(pads[:count], pads[count:], strict=True))
    if attributes.get("auto_pad", "NOTSET") != "NOTSET":
        pairs = [axis.pads(n) for axis, n in zip(axes, x.shape[2:], strict=True)]
        pairs = [pair[::-1] for pair in pairs] if attributes["auto_pad"] == "SAME_LOWER" else pairs
    if attributes.get("count_include_pad"):
        x, pairs = F.pad(x, [edge for pair in reversed(pairs) for edge in pair]), [(0, 0)] * count
        begins = [n - after for n, after in zip(x.shape[2:], pads[count:], strict=True)]
    else:
        begins = [before + n for (before, _), n in zip(pairs, x.shape[2:], strict=True)]
    if attributes.get("ceil_mode"):
        pairs = [_ceiled(*facts) for facts in zip(axes, x.shape[2:], pairs, begins, strict=True)]
    if max(dilations) == 1:
        return AVERAGES[count](x, kernel, strides, pairs, FIRST[count])
    ones = torch.ones(*kernel, 1, 1)
    planes = x.flatten(0, 1).unsqueeze(1)
    sums, counts = (
        CONVS[count](samples, ones, strides, pairs, FIRST[count], dilations) for samples in (planes, torch.ones_like(planes))
    )
    return (sums / counts).view(*x.shape[:2], *sums.shape[2:])


def _ceiled(axis: Axis, n: int, pads: tuple[int, int], begins: int) -> tuple[int, int]:
    """Padding with which the last window, that ceil mode lets hang over, fits: unless it begins in the padding."""
    windows = -(-(n + sum(pads) - axis.extent) // axis.stride) + 1
    windows -= (windows - 1) * axis.stride >= begins
    return pads[0], max(axis.span(windows) - n - pads[0], 0)


OPERATORS = {"ConvTranspose": conv_transpose, "MaxPool": max_pool, "MaxUnpool": max_unpool, "AveragePool": average_pool}
