"""Reverse rules of norms: a batch norm is its scale; norms that take their statistics from the picture have two forms.

The gradient differentiates the statistics too. The other methods freeze them, like those of a batch norm: the norm becomes
a product with its `scale`. That function is all that a norm needs to define here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._ops import OpOverload

from unconv.errors import NoRule
from unconv.reverse.rules.freezing import Freezer, Freezing, Kind, times
from unconv.reverse.rules.table import Turning, differentiated, everything, local, one_channel, point, rule
from unconv.reverse.tape.custom_operations import define, replaces
from unconv.reverse.tape.step import Before, Step
from unconv.reverse.window import Window

aten = torch.ops.aten

Scale = Callable[[Step, Tensor], Tensor]
"""From a norm's step and its input to the factor of each sample, in a shape that broadcasts to the value."""


@one_channel
@rule(aten.native_batch_norm.default, aten.cudnn_batch_norm.default, aten.miopen_batch_norm.default, reach=local)
def batch_norm(step: Step, r: Window, *_statistics: None) -> Window:
    """Multiply each channel by gamma / sigma; the shift is a bias and does not flow."""
    _x, gamma, _beta, _mean, variance, _training, _momentum, eps = step.args
    return _scaled(step, r, gamma, variance, eps)


@one_channel
@rule(aten._native_batch_norm_legit_no_training.default, reach=local)
def batch_norm_no_training(step: Step, r: Window, *_statistics: None) -> Window:
    """Multiply each channel by gamma / sigma; the shift is a bias and does not flow."""
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


def norm_gradient(step: Step, r: Window, *_statistics: None) -> list[Window | None]:
    """Backpropagate, through the statistics too."""
    return differentiated(step, r)


def position_norm_gradient(step: Step, r: Window) -> Window:
    """Backpropagate each position by itself: its statistics are those of its own channels."""
    # At least float32: in float16 the squares of the statistics overflow.
    wide = r.values.dtype if r.values.dtype.itemsize >= 4 else torch.float32
    entered = r.cut(step.kept[0]).to(wide).expand(len(r), *[-1] * (r.values.ndim - 1))
    with torch.inference_mode(False):
        pullback = torch.func.vjp(lambda x: step.again([x]), entered.clone())[1]
        return r.map(lambda values: pullback(values.to(wide, copy=True))[0].to(values.dtype))


def norm(
    *operations: OpOverload, per_position: bool = False, skipped: bool = False, turn: Turning | None = None
) -> Callable[[Scale], Scale]:
    """Register a function as the scale of a norm that takes its statistics from the picture.

    The norm's gradient, its frozen form and its notes follow from it.

    Args:
        per_position: the statistics of a position are those of its own channels, so that windows pass.
        skipped: the paper's methods pass signals as if the norm were not there.
        turn: as in `rule`.
    """
    # The rule is always the gradient's: in methods that freeze, the freezer has replaced the step before a walk reaches it.

    def register(scale: Scale) -> Scale:
        freezer = Freezer(partial(_frozen, scale, skipped), _open_weights)
        if per_position:
            rule(*operations, reach=local, keep=Before(point), freeze=freezer, turn=turn)(position_norm_gradient)
        else:
            rule(*operations, reach=everything, keep=Before(point), freeze=freezer, turn=turn)(norm_gradient)
        return scale

    return register


def _frozen(scale: Scale, skipped: bool, step: Step, freezing: Freezing) -> tuple[Kind, list[Step]] | None:
    if skipped and freezing.skip:
        return "skipped", [times(step, 1.0)]
    if len(step.inputs) > 1:
        return None
    (x,) = step.kept
    return "norms", [times(step, scale(step, x if x.dtype == torch.float64 else x.float()))]


def _open_weights(step: Step) -> str | None:
    if len(step.inputs) < 2:
        return None
    return (
        f"{step.place} is a norm whose weights depend on the picture, so that it is not clear what to freeze; "
        "method='gradient' differentiates both"
    )


LOCAL_RESPONSE_NORM = define(
    "local_response_norm(Tensor x, int size, float alpha, float beta, float k) -> Tensor", F.local_response_norm
)
INSTANCE_NORM = define(
    "instance_norm(Tensor x, Tensor? weight, Tensor? bias, float eps) -> Tensor",
    lambda x, weight, bias, eps: F.instance_norm(x, None, None, weight, bias, True, 0.0, eps),
)
CHANNEL_NORM = define(
    "channel_norm(Tensor x, Tensor? weight, Tensor? bias, float eps) -> Tensor",
    lambda x, weight, bias, eps: F.layer_norm(x.movedim(1, -1), x.shape[1:2], weight, bias, eps).movedim(-1, 1),
)


@replaces(F.local_response_norm)
def _record_local_response_norm(input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    normed: Tensor = LOCAL_RESPONSE_NORM(input, size, alpha, beta, k)
    return normed


@replaces(F.instance_norm)
def _record_instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    # Torch computes it as a batch norm in training mode, which the tape refuses.
    return INSTANCE_NORM(input, weight, bias, eps) if use_input_stats else NotImplemented


@norm(LOCAL_RESPONSE_NORM, per_position=True, skipped=True)
def local_response_norm(step: Step, x: Tensor) -> Tensor:
    """Return the divisor, which comes from the neighbouring channels of each sample.

    Source:
        Krizhevsky, Sutskever & Hinton, "ImageNet Classification with Deep Convolutional Neural Networks" (2012),
        sec. 3.3, with the mean of squares in place of their sum, as `torch.nn.LocalResponseNorm`.
    """
    _x, size, alpha, beta, k = step.args
    squares = F.pad(x.square().movedim(1, -1), (size // 2, (size - 1) // 2))
    means: Tensor = squares.unfold(-1, size, 1).mean(-1).movedim(-1, 1)
    scale: Tensor = (k + alpha * means).pow(-beta)
    return scale


def _over_channels(step: Step, _axes: int) -> tuple[OpOverload, tuple[Any, ...]] | None:
    """Return a layer norm over the last axis alone as, with channels first, a norm of the channels of each position."""
    x, shape, gamma, beta, eps = step.args
    return (CHANNEL_NORM, (x, gamma, beta, eps)) if len(shape) == 1 else None


@norm(aten.native_layer_norm.default, turn=_over_channels)
def layer_norm(step: Step, x: Tensor) -> Tensor:
    """Return gamma over one deviation for all samples of the normalised axes."""
    _x, shape, gamma, _beta, eps = step.args
    return _over(x, range(-len(shape), 0), eps) * (1 if gamma is None else gamma)


@norm(aten.native_group_norm.default)
def group_norm(step: Step, x: Tensor) -> Tensor:
    """Return gamma over one deviation for each group of channels."""
    _x, gamma, _beta, _n, channels, _positions, groups, eps = step.args
    grouped = _over(x.reshape(len(x), groups, -1), [-1], eps)
    spread = grouped.repeat_interleave(channels // groups, 1).view(len(x), channels, *[1] * (x.ndim - 2))
    return spread * _per_channel(gamma, x)


@norm(INSTANCE_NORM)
def instance_norm(step: Step, x: Tensor) -> Tensor:
    """Return gamma over one deviation for each map."""
    _x, gamma, _beta, eps = step.args
    return _over(x, range(2, x.ndim), eps) * _per_channel(gamma, x)


@norm(CHANNEL_NORM, per_position=True)
def channel_norm(step: Step, x: Tensor) -> Tensor:
    """Return gamma over one deviation for each position."""
    _x, gamma, _beta, eps = step.args
    return _over(x, [1], eps) * _per_channel(gamma, x)


SCALED = define("scaled(Tensor x, Tensor scale) -> Tensor", lambda x, scale: x * scale)


def _freeze_scale(step: Step, _freezing: Freezing) -> tuple[Kind, list[Step]]:
    return "norms", [times(step, step.args[1])]


@rule(SCALED, reach=local, freeze=Freezer(_freeze_scale))
def written_norm(step: Step, r: Window) -> list[Window | None]:
    """The norm is frozen at the scale that it took from the picture."""
    raise NoRule(f"{step.place} is a norm that is written out as a formula, which a method freezes or differentiates")


def _over(x: Tensor, axes: Sequence[int], eps: float) -> Tensor:
    return (x.var(list(axes), correction=0, keepdim=True) + eps).rsqrt()


def _per_channel(gamma: Tensor | None, x: Tensor) -> Tensor | int:
    return 1 if gamma is None else gamma.view(-1, *[1] * (x.ndim - 2))
