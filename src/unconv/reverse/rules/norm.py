"""Reverse rules of norms: a batch norm is its scale; those that take their statistics from the picture come in two forms.

The gradient differentiates the statistics too. In the other methods they are held as they were, as a
batch norm's are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unconv.errors import NoRule
from unconv.reverse.rules.table import differentiated, local, one_channel, point, rule
from unconv.reverse.tape.record import Before, Step
from unconv.reverse.tape.whole import CHANNEL_NORM, INSTANCE_NORM, LOCAL_RESPONSE_NORM
from unconv.reverse.window import Window

aten = torch.ops.aten


@one_channel
@rule(aten.native_batch_norm.default, aten.cudnn_batch_norm.default, aten.miopen_batch_norm.default, reach=local)
def batch_norm(step: Step, r: Window, *_statistics: None) -> Window:
    """Each channel times gamma / sigma; the shift is a bias and does not flow."""
    _x, gamma, _beta, _mean, variance, _training, _momentum, eps = step.args
    return _scaled(step, r, gamma, variance, eps)


@one_channel
@rule(aten._native_batch_norm_legit_no_training.default, reach=local)
def batch_norm_no_training(step: Step, r: Window, *_statistics: None) -> Window:
    """Each channel times gamma / sigma; the shift is a bias and does not flow."""
    _x, gamma, _beta, _mean, variance, _momentum, eps = step.args
    return _scaled(step, r, gamma, variance, eps)


def _scaled(step: Step, r: Window, gamma: Tensor | None, variance: Tensor, eps: float) -> Window:
    if len(step.inputs) > 1:
        raise NoRule(f"no reverse rule for {step.operation} with statistics made from the image (at {step.place})")
    scale = (variance.to(r.values.dtype) + eps).rsqrt()
    if gamma is not None:
        scale = scale * gamma.to(r.values.dtype)
    shape = step.inputs[0].shape
    if r.channel is not None and len(shape) == r.values.ndim:
        scale = scale[r.channel.to(scale.device)].view(-1, *[1] * (len(shape) - 1))
        return r.map(lambda values: values * scale)
    scale = scale.view(-1, *[1] * (len(shape) - 2))
    if r.corner is not None and r.corner.shape[1] > len(shape) - 2:  # the channels are an axis of the window
        return r.times(scale.expand(shape))
    return r.map(lambda values: values * scale)


@rule(
    aten.native_group_norm.default,
    aten.native_layer_norm.default,
    INSTANCE_NORM,
    keep=Before(point),
)
def norm_gradient(step: Step, r: Window, *_statistics: None) -> list[Window | None]:
    """Backpropagation, through the statistics too."""
    return differentiated(step, r)


@rule(CHANNEL_NORM, LOCAL_RESPONSE_NORM, reach=local, keep=Before(point))
def channel_norm(step: Step, r: Window) -> Window:
    """Backpropagation, each position for itself: its statistics are those of its own channels."""
    wide = r.values.dtype if r.values.dtype.itemsize >= 4 else torch.float32
    at = r.cut(step.kept[0]).to(wide).expand(len(r), *[-1] * (r.values.ndim - 1))
    with torch.inference_mode(False):
        pullback = torch.func.vjp(lambda x: step.again([x]), at.clone())[1]
        return r.map(lambda values: pullback(values.to(wide, copy=True))[0].to(values.dtype))
