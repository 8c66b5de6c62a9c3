"""Reverse rules of linear operations: the adjoint. Biases never flow."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unconv.errors import NoRule
from unconv.reverse.rules.table import adjoint, local, on_whole_first, one_channel, rule
from unconv.reverse.tape import Step, Value
from unconv.reverse.transposed import Filters, from_one_channel, transposed
from unconv.reverse.window import Cut, Reach, Window, slices
from unconv.shapes import kernel_extent

aten = torch.ops.aten


def _conv_reach(step: Step, axes: int) -> Reach | None:
    _, weight, _bias, stride, padding, dilation, is_transposed, *_ = step.args
    if is_transposed or len(step.inputs[0].shape) != axes + 2 or isinstance(weight, Value):
        return None
    stride, padding, dilation = (_per_axis(setting, axes) for setting in (stride, padding, dilation))
    extent = tuple(kernel_extent(k, d) for k, d in zip(weight.shape[2:], dilation, strict=True))
    return Reach(stride, padding, extent)


def _filters(step: Step, dtype: torch.dtype) -> Filters | None:
    """The convolution's kernels, ready for its reverse."""
    _, weight, _bias, stride, _padding, dilation, is_transposed, _output_padding, groups = step.args
    if is_transposed or isinstance(weight, Value):
        return None
    axes = weight.ndim - 2
    return Filters(weight, dtype, _per_axis(stride, axes), _per_axis(dilation, axes), groups)


@one_channel
@rule(aten.convolution.default, reach=_conv_reach, prepare=_filters)
def convolution(step: Step, r: Window) -> Window:
    """The transposed convolution with the same kernel."""
    source, weight, _bias, stride, padding, dilation, is_transposed, _output_padding, groups = step.args
    if step.inputs != (source,):
        raise NoRule(f"no reverse rule for {step.operation} with a kernel or bias made from the image (at {step.place})")
    if source.shape[0] != 1:
        (folded,) = adjoint(step, on_whole_first(step, _full(step, r)))
        assert folded is not None
        return folded
    size = source.shape[2:]
    axes = len(size)
    if is_transposed:
        weight = weight.to(r.values.dtype)
        values = on_whole_first(step, _full(step, r)).values
        made = torch.convolution(values, weight, None, stride, padding, dilation, False, [0] * axes, groups)
        return Window(made[slices([slice(n) for n in size])])
    filters = step.kept or _filters(step, r.values.dtype)
    assert isinstance(filters, Filters)
    reach = None if r.corner is None else _conv_reach(step, r.corner.shape[1])
    if reach is not None:
        return r.below(reach, source.shape, lambda cut: _back(r, filters, cut))
    r = on_whole_first(step, r)
    spans = zip(size, r.values.shape[2:], filters.extent, filters.stride, _per_axis(padding, axes), strict=True)
    return Window(_back(r, filters, [(pad, (out - 1) * s + e - pad - n) for n, out, e, s, pad in spans]))


def _back(r: Window, filters: Filters, cut: Cut) -> Tensor:
    """What `r` gives below, without the samples `cut`."""
    if r.channel is not None:
        made = from_one_channel(r.values, r.channel, filters, cut)
        if made is not None:
            return made
        r = r.dense(len(filters.weight))
    return transposed(r.channels_last(), filters, cut)


def _full(step: Step, r: Window) -> Window:
    """The signal with all channels of the step's first output."""
    return r.dense(_shape(step)[1])


def _per_axis(setting: Any, axes: int) -> tuple[int, ...]:
    return tuple(setting) * axes if len(setting) == 1 else tuple(setting)


@rule(aten.addmm.default)
def addmm(step: Step, r: Window) -> Window | list[Window | None]:
    """bias + x @ weight: back through the weight."""
    bias, x, weight, _beta, alpha = step.args
    if step.inputs != (x,) or x.shape[0] != 1 or isinstance(bias, Value) or r.corner is not None:
        return adjoint(step, on_whole_first(step, r))
    return r.map(lambda values: values @ weight.to(values.dtype).mT * alpha)


@rule(aten.mm.default, aten.bmm.default)
def mm(step: Step, r: Window) -> list[Window | None]:
    """x @ weight, or weight @ x."""
    if len(step.inputs) > 1:
        raise NoRule(f"no reverse rule for {step.operation} of two signals (at {step.place})")
    return adjoint(step, on_whole_first(step, r))


@one_channel
@rule(aten.native_batch_norm.default, aten.cudnn_batch_norm.default, aten.miopen_batch_norm.default, reach=local)
def batch_norm(step: Step, r: Window, *_statistics: None) -> Window:
    """Each channel times gamma / sigma; the shift is a bias and does not flow."""
    _x, gamma, _beta, _mean, variance, _training, _momentum, eps = step.args
    return _scaled(step, r, gamma, variance, eps)


@one_channel
@rule(aten._native_batch_norm_legit_no_training.default, reach=local)
def batch_norm_no_training(step: Step, r: Window, *_statistics: None) -> Window:
    """As `batch_norm`; a newer name of the same operation."""
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


@one_channel
@rule(aten.add.Tensor, aten.add.Scalar, aten.sub.Tensor, aten.sub.Scalar, reach=local)
def add(step: Step, r: Window) -> list[Window | None]:
    """Both terms get the signal; the one that is subtracted, its negative."""
    if any(value.shape != _shape(step) for value in step.inputs):
        return adjoint(step, on_whole_first(step, _full(step, r)))
    first, second, alpha = step.args
    sign = -alpha if "sub" in str(step.operation) else alpha
    back: list[Window | None] = [r] if isinstance(first, Value) else []
    return [*back, r if sign == 1 else r.map(lambda values: values * sign)] if isinstance(second, Value) else back


@rule(aten.rsub.Scalar, reach=local)
def rsub(step: Step, r: Window) -> Window:
    """A constant minus the signal."""
    _x, _constant, alpha = step.args
    return r.map(lambda values: values * -alpha)


@rule(aten.mul.Tensor, aten.mul.Scalar, reach=local)
def mul(step: Step, r: Window) -> list[Window | None]:
    """A constant factor."""
    factor = _constant(step)
    if step.inputs[0].shape != _shape(step):
        return adjoint(step, on_whole_first(step, r))
    return [r.times(factor)]


@rule(aten.div.Tensor, aten.div.Scalar, reach=local)
def div(step: Step, r: Window) -> list[Window | None]:
    """A constant divisor."""
    divisor = _constant(step)
    if isinstance(step.args[1], Value):
        raise NoRule(f"no reverse rule for {step.operation} by a signal (at {step.place})")
    if step.inputs[0].shape != _shape(step):
        return adjoint(step, on_whole_first(step, r))
    return [r.times(1 / divisor)]


@rule(aten.neg.default, reach=local)
def neg(_step: Step, r: Window) -> Window:
    """The signal's negative."""
    return r.map(torch.neg)


def _constant(step: Step) -> Tensor:
    """The factor that the image did not reach, in the shape of the result."""
    if len(step.inputs) > 1:
        raise NoRule(f"no reverse rule for {step.operation} of two signals (at {step.place})")
    (constant,) = (a for a in step.args[:2] if not isinstance(a, Value))
    if not isinstance(constant, Tensor):
        return torch.tensor(constant, dtype=torch.float64)
    if constant.numel() == 1:
        return constant.reshape(())
    return constant.expand(_shape(step)) if constant.ndim else constant


def _shape(step: Step) -> tuple[int, ...]:
    assert step.outputs[0] is not None
    return step.outputs[0].shape
