"""Norms, by statistics measured in training or by the picture's own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from unconv.errors import ShapeError, UnconvError, counted
from unconv.networks.onnx.operators.table import axis_of, bounded, operator


@operator("BatchNormalization", statistics=("mean", "variance"))
def batch_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    constant: bool,
    epsilon: float = 1e-5,
    is_test: int = 1,
    momentum: float = 0.9,
    opset: int,
    outputs: int,
    spatial: int = 1,
    training_mode: int = 0,
) -> Tensor | tuple[Tensor, ...]:
    """Normalise each channel by the mean and variance in the file; constants in training mode, by their own.

    Raises:
        UnconvError: it would use the picture's own statistics, as in training.
    """
    if training_mode and constant:
        normed = F.batch_norm(x, None, None, weight, bias, True, 0.0, epsilon)
        axes = [axis for axis in range(x.ndim) if axis != 1]
        own = (x.mean(axes), x.var(axes, correction=0))
        running = (old * momentum + new * (1 - momentum) for old, new in zip((mean, variance), own, strict=True))
        return normed if outputs == 1 else (normed, *running)[:outputs]
    if training_mode or (opset < 7 and not is_test) or outputs > 1:
        raise UnconvError("it takes its statistics from the picture, as in training; export the model after model.eval()")
    if not spatial and x.ndim > 2:
        raise UnconvError(
            "it normalises each sample separately (spatial=0), which opset 9 removed; export the model for a newer opset"
        )
    if x.ndim < 2:
        x = x[:, None]
        return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, epsilon)[:, 0]
    return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, epsilon)


@operator("InstanceNormalization")
def instance_norm(x: Tensor, weight: Tensor, bias: Tensor, *, epsilon: float = 1e-5) -> Tensor:
    """Normalise each map by its own mean and variance."""
    if x[0, 0].numel() == 1:  # torch refuses a single sample, which is its own mean
        return torch.zeros_like(x) + bias.view(-1, *[1] * (x.ndim - 2))
    return F.instance_norm(x, weight=weight, bias=bias, eps=epsilon)


@operator("LayerNormalization")
def layer_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    outputs: int,
    stash_type: int = 1,
) -> Tensor | tuple[Tensor, ...]:
    """Normalise over the axes from `axis` on; return also the mean and 1 / deviation if the node names them."""
    shape = x.shape[axis_of(axis, x.ndim) :]
    normed = F.layer_norm(x, shape, weight.expand(shape), None if bias is None else bias.expand(shape), epsilon)
    if outputs == 1:
        return normed
    axes = list(range(x.ndim - len(shape), x.ndim))
    mean = x.mean(axes, keepdim=True)
    return (normed, mean, (x.var(axes, correction=0, keepdim=True) + epsilon).rsqrt())[:outputs]


@operator("GroupNormalization")
def group_norm(
    x: Tensor, weight: Tensor, bias: Tensor, *, epsilon: float = 1e-5, num_groups: int, opset: int, stash_type: int = 1
) -> Tensor:
    """Normalise each group of channels by its own mean and variance."""
    if x.shape[1] % max(num_groups, 1):
        channels, groups = counted(x.shape[1], "channel"), counted(num_groups, "group")
        raise ShapeError(f"it has {channels} and {groups}, but the groups must be of equal size")
    if opset < 21:  # the scale was one for each group, not for each channel
        weight, bias = (t.repeat_interleave(x.shape[1] // num_groups) for t in (weight, bias))
    return F.group_norm(x, num_groups, weight, bias, epsilon)


@operator("RMSNormalization")
def rms_norm(x: Tensor, weight: Tensor, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1) -> Tensor:
    """Normalise over the axes from `axis` on by the root mean square."""
    axes = list(range(axis_of(axis, x.ndim), x.ndim))
    return x * (x.square().mean(axes, keepdim=True) + epsilon).rsqrt() * weight


@operator("LRN")
def local_response_norm(x: Tensor, *, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0, size: int) -> Tensor:
    """Normalise each sample by the squares of neighbouring channels."""
    if size < 1:
        raise ShapeError(f"its size is {size}, but at least 1 was needed")
    bounded([x.shape[0], x.shape[1] + size, *x.shape[2:]])
    if size % 2:
        return F.local_response_norm(x, size, alpha, beta, bias)
    # In an even window torch has the extra channel before and ONNX after: reverse the channels to get ONNX' result.
    return F.local_response_norm(x.flip(1), size, alpha, beta, bias).flip(1)


@operator("MeanVarianceNormalization")
def mean_variance_norm(x: Tensor, *, axes: Sequence[int] = (0, 2, 3)) -> Tensor:
    """Subtract the mean along the axes and divide by the deviation."""
    mean = x.mean(list(axes), keepdim=True)
    deviation = ((x * x).mean(list(axes), keepdim=True) - mean * mean).sqrt()
    return (x - mean) / (deviation + 1e-9)


@operator("LpNormalization")
def lp_norm(x: Tensor, *, axis: int = -1, p: int = 2) -> Tensor:
    """Divide by the p-norm along an axis; zeros stay zeros."""
    norm = torch.linalg.vector_norm(x, p, axis_of(axis, x.ndim), keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(x), x / norm)
