"""Reverse rules of rectifiers, where the methods differ, and of other functions of single samples.

The paper defines one rectifier, ReLU. What a method does at the others that networks use instead, which have the role
"rectifier" here, is a choice: see `methods.py`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unconv.reverse.rules.table import along, differentiated, local, many_pictures, one_channel, point, prepared, rule
from unconv.reverse.tape.custom_operations import define, replaces
from unconv.reverse.tape.step import Before, Step
from unconv.reverse.window import Window

aten = torch.ops.aten

RELU = aten.relu.default

# x * sigmoid(beta x), for which torch has no operation; with a beta of 1.702 it is known as QuickGELU.
SWISH = define("swish(Tensor x, float beta) -> Tensor", lambda x, beta: x * torch.sigmoid(beta * x))

# Squared ReLU, for which torch has none either.
# So et al., "Primer: Searching for Efficient Transformers for Language Modeling" (2021), sec. 3.
SQUARED_RELU = define("squared_relu(Tensor x) -> Tensor", lambda x: x.clamp(min=0).square())


def _mask(_step: Step, args: tuple[Any, ...]) -> Tensor:
    positive: Tensor = args[0] > 0
    return positive


@many_pictures()
@one_channel
@rule(RELU, reach=local, keep=Before(_mask), role="rectifier", gate="kept")
def relu_gradient(step: Step, r: Window) -> Window:
    """Backpropagate: pass the signal where the forward pass was positive."""
    return r.times(step.kept)


@many_pictures(looks=False)
@one_channel
def rectify(_step: Step, r: Window) -> Window:
    """Rectify the signal going back, whatever passed forward (deconvnet).

    Source:
        Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks" (2014), sec. 2.1.
    """
    return r.map(lambda values: values.clamp(min=0))


@many_pictures()
@one_channel
def rectify_passed(step: Step, r: Window) -> Window:
    """Rectify the signal, and pass it only where the forward pass was positive (guided backpropagation).

    Source:
        Springenberg et al., "Striving for Simplicity: The All Convolutional Net" (2015), sec. 3.4.
    """
    return relu_gradient(step, rectify(step, r))


def _sloped(step: Step, dtype: torch.dtype) -> Tensor:
    """Return the function's slope at every sample, for all units of a walk."""
    (x,) = step.kept
    x = x.to(dtype if dtype.itemsize >= 4 else torch.float32)
    with torch.inference_mode(False):
        (slope,) = torch.func.vjp(lambda x: step.again([x]), x.clone())[1](torch.ones_like(x))
    in_type: Tensor = slope.to(dtype)
    return in_type


_sloping = partial(rule, reach=local, keep=Before(point), prepare=_sloped)


@many_pictures()
@one_channel
@_sloping(
    # Rectifiers: they pass large values and block negative ones.
    aten._prelu_kernel.default,
    aten.celu.default,
    aten.elu.default,
    aten.gelu.default,
    aten.hardswish.default,
    aten.hardtanh.default,  # only ReLU6 and others from 0 up are recorded as hardtanh
    aten.leaky_relu.default,
    aten.mish.default,
    aten.silu.default,
    aten.softplus.default,
    SQUARED_RELU,
    SWISH,
    role="rectifier",
)
@_sloping(
    # Other functions of each sample.
    aten.cos.default,
    aten.erf.default,
    aten.exp.default,
    aten.expm1.default,
    aten.hardshrink.default,
    aten.log.default,
    aten.log1p.default,
    aten.sin.default,
    aten.softshrink.default,
    aten.tanh.default,
    aten.threshold.default,
    role="slope",
)
@_sloping(
    # Functions that leave a gate a gate.
    aten.abs.default,
    aten.clamp.default,
    aten.clamp_max.default,
    aten.clamp_min.default,
    aten.pow.Tensor_Scalar,
    aten.sqrt.default,
    role="slope",
    gate="kept",
)
@_sloping(
    # Functions that make a gate: their result says how much of another signal passes.
    aten.hardsigmoid.default,
    aten.reciprocal.default,
    aten.rsqrt.default,
    aten.sigmoid.default,
    role="slope",
    gate="made",
)
def by_slope(step: Step, r: Window) -> Window:
    """Multiply the signal by the slope that the function had at each sample."""
    return r.times(step.kept if isinstance(step.kept, Tensor) else _sloped(step, r.values.dtype))


@one_channel
@rule(
    aten.ceil.default,
    aten.floor.default,
    aten.round.default,
    aten.sign.default,
    aten.sgn.default,
    aten.trunc.default,
    reach=local,
    role="slope",
)
def flat(step: Step, _r: Window) -> list[Window | None]:
    """Send nothing back: the slope of a step function is zero."""
    return [None] * len(step.inputs)


@many_pictures()
@one_channel
@prepared(_sloped)
def rectify_by_slope(step: Step, r: Window) -> Window:
    """Rectify the signal, then multiply it by the slope, as guided backpropagation does at a ReLU."""
    return by_slope(step, rectify(step, r))


@replaces(F.rrelu)
def _record_rrelu(
    input: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False
) -> Any:
    # Outside training it is a leaky ReLU. Torch still marks it as random, which the tape would refuse.
    return NotImplemented if training else F.leaky_relu(input, (lower + upper) / 2, inplace)


@one_channel
def pass_on(_step: Step, r: Window) -> Window:
    """Pass the signal on as it is."""
    return r


@rule(
    aten._log_softmax.default,
    aten.cumsum.default,
    aten.linalg_vector_norm.default,
    aten.logsumexp.default,
    aten.max.default,
    aten.max.dim,
    aten.median.dim,
    aten.min.default,
    aten.min.dim,
    aten.pow.Scalar,
    aten.pow.Tensor_Tensor,
    aten.prod.dim_int,
    aten.sort.default,
    aten.std.correction,
    aten.topk.default,
    aten.var.correction,
    aten.var_mean.correction,
    keep=Before(point),
)
@rule(aten._softmax.default, keep=Before(point), gate="made")
@rule(aten.amax.default, aten.amin.default, keep=Before(point), turn=along(1), gate="kept")
@rule(
    aten.maximum.default,
    aten.minimum.default,
    aten.where.self,
    keep=Before(point),
    role="choice",  # some rectifiers are written with these, but so are other functions
    gate="kept",
)
@rule(aten.log_sigmoid_forward.default, aten.logaddexp.default, keep=Before(point), role="choice")
def at_its_point(step: Step, *signals: Window | None) -> list[Window | None]:
    """Take the derivative at the recorded point."""
    return differentiated(step, *signals)
