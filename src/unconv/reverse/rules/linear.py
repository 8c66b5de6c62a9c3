"""Reverse rules of linear operations: the adjoint. Biases send nothing back."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._ops import OpOverload

from unconv.axis import kernel_extent
from unconv.errors import NoRule
from unconv.reverse.rules.gate import product
from unconv.reverse.rules.table import adjoint, differentiated, full_map, local, one_channel, point, rule
from unconv.reverse.spans import FAR, Sight, Spans
from unconv.reverse.tape.custom_operations import define, replaces
from unconv.reverse.tape.step import Before, Step, Value
from unconv.reverse.transposed import Filters, from_one_channel, transposed
from unconv.reverse.window import Cut, Reach, Window, off_map, slices

aten = torch.ops.aten


def _geometry(step: Step, axes: int) -> Reach | None:
    """Return a convolution's stride, padding and extent; for a transposed one, those of the convolution that is its adjoint."""
    _, weight, _bias, stride, padding, dilation, *_ = step.args
    if len(step.inputs[0].shape) != axes + 2 or isinstance(weight, Value):
        return None
    stride, padding, dilation = (_per_axis(setting, axes) for setting in (stride, padding, dilation))
    extent = tuple(kernel_extent(k, d) for k, d in zip(weight.shape[2:], dilation, strict=True))
    return Reach(stride, padding, extent)


def _conv_reach(step: Step, axes: int) -> Sight:
    reach, out = _geometry(step, axes), step.outputs[0]
    if reach is None or out is None or not step.args[6]:
        return reach
    pairs = list(map(_kernel_range, map(torch.arange, out.shape[2:]), *_as_tuples(reach)))
    # A transposed convolution has no samples outside the map below that a unit could see.
    unseen = [(a > b) | (b < 0) | (a >= n) for (a, b), n in zip(pairs, step.inputs[0].shape[2:], strict=True)]
    first = tuple(a.masked_fill(none, FAR) for (a, _), none in zip(pairs, unseen, strict=True))
    last = tuple(b.masked_fill(none, -FAR) for (_, b), none in zip(pairs, unseen, strict=True))
    return Spans(first, last, tuple(Fraction(1, stride) for stride in reach.stride))


def _as_tuples(reach: Reach) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    return reach.stride, reach.padding, reach.extent


def _kernel_range(unit: Tensor, stride: Any, padding: Any, extent: Any) -> tuple[Tensor, Tensor]:
    """Return the first and the last sample whose kernel, in a transposed convolution, reaches `unit`."""
    last = (unit + padding).div(stride, rounding_mode="floor")
    first = -(extent - 1 - unit - padding).div(stride, rounding_mode="floor")
    return first, last


def _filters(step: Step, dtype: torch.dtype) -> Filters | None:
    """Return the convolution's kernels, prepared for its reverse."""
    _, weight, _bias, stride, _padding, dilation, is_transposed, _output_padding, groups = step.args
    if is_transposed or isinstance(weight, Value):
        return None
    axes = weight.ndim - 2
    return Filters(weight, dtype, _per_axis(stride, axes), _per_axis(dilation, axes), groups)


@one_channel
@rule(aten.convolution.default, reach=_conv_reach, prepare=_filters)
def convolution(step: Step, r: Window) -> Window:
    """Apply the transposed convolution with the same kernel."""
    source, _weight, _bias, _stride, padding, _dilation, is_transposed, *_ = step.args
    if step.inputs != (source,):
        raise NoRule(f"no reverse rule for {step.operation} with a kernel or bias that depends on the image (at {step.place})")
    if source.shape[0] != 1:  # other axes are folded into the batch, where windows have no meaning
        (folded,) = adjoint(step, full_map(step, _all_channels(step, r)))
        assert folded is not None
        return folded
    size = source.shape[2:]
    axes = len(size)
    if is_transposed:
        return _forward(step, _all_channels(step, r))
    filters = step.kept or _filters(step, r.values.dtype)
    assert isinstance(filters, Filters)
    reach = None if r.corner is None else _geometry(step, r.corner.shape[1])
    if reach is not None:
        return r.below(reach, source.shape, lambda needless: _back(r, filters, needless))
    # On a full map, cut the padding off after the transposed convolution, and fill up the samples that a stride left over.
    r = full_map(step, r)
    spans = zip(size, r.values.shape[2:], filters.extent, filters.stride, _per_axis(padding, axes), strict=True)
    return Window(_back(r, filters, [(pad, (out - 1) * s + e - pad - n) for n, out, e, s, pad in spans]))


def _forward(step: Step, r: Window) -> Window:
    """Run a transposed convolution backwards, which is the plain convolution."""
    # A window first becomes the frame that the kernels of its samples below cover: then the convolution needs no padding.
    source, weight, _bias, stride, padding, dilation, _transposed, _output_padding, groups = step.args
    size = source.shape[2:]
    axes, weight = len(size), weight.to(r.values.dtype)
    reach = None if r.corner is None else _geometry(step, r.corner.shape[1])
    if r.corner is None or reach is None:  # output padding can make the result longer than the map was
        values = full_map(step, r).values
        below = torch.convolution(values, weight, None, stride, padding, dilation, False, [0] * axes, groups)
        return Window(below[slices([slice(n) for n in size])])
    settings = [torch.tensor(setting) for setting in _as_tuples(reach)]
    first = _kernel_range(r.corner, *settings)[0]
    last = _kernel_range(r.corner + torch.tensor(r.lengths) - 1, *settings)[1]
    lengths = ((last - first).amax(0) + 1).clamp(min=1).tolist()
    needless = off_map(first, lengths, source.shape)
    first = first + torch.tensor([before for before, _ in needless])
    lengths = [n - before - after for n, (before, after) in zip(lengths, needless, strict=True)]
    framed = r.framed(reach.corner(first), reach.lengths(lengths)).channels_last()
    below = torch.convolution(framed, weight, None, stride, [0] * axes, dilation, False, [0] * axes, groups)
    return Window(below, first).inside(source.shape)


def _back(r: Window, filters: Filters, cut: Cut) -> Tensor:
    """Return what `r` sends below, without the samples `cut`."""
    if r.channel is not None:
        below = from_one_channel(r.values, r.channel, filters, cut)
        if below is not None:
            return below
        r = r.dense(len(filters.weight))
    return transposed(r.channels_last(), filters, cut)


def _all_channels(step: Step, r: Window) -> Window:
    """Return the signal with all channels of the step's first output."""
    return r.dense(_shape(step)[1])


def _per_axis(setting: Any, axes: int) -> tuple[int, ...]:
    return tuple(setting) * axes if len(setting) == 1 else tuple(setting)


@rule(aten.addmm.default)
def addmm(step: Step, r: Window) -> Window | list[Window | None]:
    """Multiply by the transposed weight of bias + x @ weight."""
    bias, x, weight, _beta, alpha = step.args
    if step.inputs != (x,) or x.shape[0] != 1 or isinstance(bias, Value) or r.corner is not None:
        return adjoint(step, full_map(step, r))
    return r.map(lambda values: values @ weight.to(values.dtype).mT * alpha)


def factors(step: Step, args: tuple[Any, ...]) -> tuple[Tensor, ...] | None:
    """Return both factors of a product of two signals; None for one with a constant, which is on the tape."""
    return point(step, args) if len(step.inputs) > 1 else None


@rule(aten.mm.default, aten.bmm.default, keep=Before(factors), freeze=product(0, 1, matrix=True))
def mm(step: Step, r: Window) -> list[Window | None]:
    """Multiply by the transposed weight of a matrix product; in one of two signals, each goes back through the other."""
    return adjoint(step, full_map(step, r)) if step.kept is None else differentiated(step, r)


LINEAR = define("linear(Tensor x, Tensor weight, Tensor? bias) -> Tensor", F.linear)


@replaces(F.linear)
def _record_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
    # Torch's parts of a linear layer over the channels of each position flatten the positions, and with them the windows.
    return LINEAR(input, weight, bias) if input.ndim > 2 else NotImplemented


def _by_1x1_kernels(step: Step, axes: int) -> tuple[OpOverload, tuple[Any, ...]] | None:
    """Return a linear layer over the last axis as, with channels first, a convolution with kernels of one sample."""
    x, weight, bias = step.args
    if not isinstance(weight, Tensor):
        return None
    ones = [1] * axes
    settings = (weight[(..., *[None] * axes)], bias, ones, [0] * axes, ones, False, [0] * axes, 1)
    return aten.convolution.default, (x, *settings)


@rule(LINEAR, turn=_by_1x1_kernels)
def linear(step: Step, r: Window) -> list[Window | None]:
    """Multiply by the transposed weight along the last axis."""
    if len(step.inputs) > 1:
        raise NoRule(f"no reverse rule for {step.operation} with weights that depend on the image (at {step.place})")
    return adjoint(step, full_map(step, r))


@one_channel
@rule(aten.add.Tensor, reach=local, gate="kept")
@rule(aten.add.Scalar, aten.sub.Tensor, aten.sub.Scalar, reach=local, gate="kept")
def add(step: Step, r: Window) -> list[Window | None]:
    """Pass the signal to both terms; to one that is subtracted, its negative."""
    if any(value.shape != _shape(step) for value in step.inputs):
        return adjoint(step, full_map(step, _all_channels(step, r)))
    first, second, alpha = step.args
    sign = -alpha if "sub" in str(step.operation) else alpha
    back: list[Window | None] = [r] if isinstance(first, Value) else []
    return [*back, r if sign == 1 else r.map(lambda values: values * sign)] if isinstance(second, Value) else back


@rule(aten.rsub.Scalar, reach=local, gate="kept")
def rsub(step: Step, r: Window) -> Window:
    """Pass the negative of the signal: the operation is a constant minus its input."""
    _x, _constant, alpha = step.args
    return r.map(lambda values: values * -alpha)


@rule(aten.addcmul.default, keep=Before(factors), freeze=product(1, 2))
def addcmul(step: Step, r: Window) -> list[Window | None]:
    """Pass the signal to the term, and to each factor of the product times the other one."""
    if step.kept is not None and sum(isinstance(argument, Value) for argument in step.args[1:3]) > 1:
        return differentiated(step, r)
    return adjoint(step, full_map(step, r))


@rule(aten.mul.Tensor, reach=local, keep=Before(factors), gate="kept", freeze=product(0, 1))
@rule(aten.mul.Scalar, reach=local, keep=Before(factors), gate="kept")
def mul(step: Step, r: Window) -> list[Window | None]:
    """Multiply by the constant factor; in a product of two signals, each by the other."""
    if step.kept is not None:
        return _by_other_factor(step, r)
    factor = _constant(step)
    if step.inputs[0].shape != _shape(step):
        return adjoint(step, full_map(step, r))
    return [r.times(factor)]


def _by_other_factor(step: Step, r: Window) -> list[Window | None]:
    """Send each of two factors the signal times the other, in windows if both have the result's shape; else on full maps."""
    flowing = [value.dtype.is_floating_point for value in step.inputs]
    if any(value.shape != _shape(step) for value in step.inputs):
        return differentiated(step, r)
    others = reversed(step.kept)
    return [r.times(other) if flows else None for flows, other in zip(flowing, others, strict=True)]


def _point_of_quotient(step: Step, args: tuple[Any, ...]) -> tuple[Tensor, ...] | None:
    return point(step, args) if isinstance(step.args[1], Value) else None


@rule(aten.div.Tensor, reach=local, keep=Before(_point_of_quotient), gate="kept", freeze=product(0, 1, divisor=1))
@rule(aten.div.Scalar, reach=local, keep=Before(_point_of_quotient), gate="kept")
def div(step: Step, r: Window) -> list[Window | None]:
    """Divide by the constant divisor; in a quotient of two signals, take the derivative."""
    if step.kept is not None:
        return differentiated(step, r)
    divisor = _constant(step)
    if step.inputs[0].shape != _shape(step):
        return adjoint(step, full_map(step, r))
    return [r.times(1 / divisor)]


@rule(aten.neg.default, reach=local, gate="kept")
def neg(_step: Step, r: Window) -> Window:
    """Pass the signal's negative."""
    return r.map(torch.neg)


def _constant(step: Step) -> Tensor:
    """Return the factor that does not depend on the image, in the shape of the result."""
    (constant,) = (a for a in step.args[:2] if not isinstance(a, Value))
    if not isinstance(constant, Tensor):
        return torch.tensor(constant, dtype=torch.float64)
    if constant.numel() == 1:
        return constant.reshape(())
    return constant.expand(_shape(step)) if constant.ndim else constant


def _shape(step: Step) -> tuple[int, ...]:
    assert step.outputs[0] is not None
    return step.outputs[0].shape
