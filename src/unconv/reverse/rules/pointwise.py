"""Reverse rules of rectifiers and other functions of single samples: where the methods differ.

The paper speaks of one rectifier, ReLU. What a method does with the others that networks use in its place, whose
role is "rectifier" here, is a choice: see `methods.py`.
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

# What torch has no operation for: x * sigmoid(beta x), with a beta of 1.702 known as QuickGELU.
SWISH = define("swish(Tensor x, float beta) -> Tensor", lambda x, beta: x * torch.sigmoid(beta * x))

# The same of So et al., "Primer: Searching for Efficient Transformers for Language Modeling" (2021), sec. 3.
SQUARED_RELU = define("squared_relu(Tensor x) -> Tensor", lambda x: x.clamp(min=0).square())


def _passed(_step: Step, args: tuple[Any, ...]) -> Tensor:
    passed: Tensor = args[0] > 0
    return passed


@many_pictures()
@one_channel
@rule(RELU, reach=local, keep=Before(_passed), role="rectifier", gate="kept")
def relu_gradient(step: Step, r: Window) -> Window:
    """Backpropagation: the signal passes where the forward pass was positive."""
    return r.times(step.kept)


@many_pictures(looks=False)
@one_channel
def rectify(_step: Step, r: Window) -> Window:
    """Deconvnet: what goes back is rectified, whatever passed forward.

    Source:
        Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks" (2014), sec. 2.1.
    """
    return r.map(lambda values: values.clamp(min=0))


@many_pictures()
@one_channel
def rectify_passed(step: Step, r: Window) -> Window:
    """Guided backpropagation: both.

    Source:
        Springenberg et al., "Striving for Simplicity: The All Convolutional Net" (2015), sec. 3.4.
    """
    return relu_gradient(step, rectify(step, r))


def _sloped(step: Step, dtype: torch.dtype) -> Tensor:
    """The function's slope at every sample, for all units of a walk."""
    (x,) = step.kept
    x = x.to(dtype if dtype.itemsize >= 4 else torch.float32)
    with torch.inference_mode(False):
        (slope,) = torch.func.vjp(lambda x: step.again([x]), x.clone())[1](torch.ones_like(x))
    found: Tensor = slope.to(dtype)
    return found


_sloping = partial(rule, reach=local, keep=Before(point), prepare=_sloped)


@many_pictures()
@one_channel
@_sloping(
    # What takes ReLU's place in a network: it passes large values on and holds negative ones back.
    aten._prelu_kernel.default,
    aten.celu.default,
    aten.elu.default,
    aten.gelu.default,
    aten.hardswish.default,
    aten.hardtanh.default,  # recorded of those from 0 up: ReLU6
    aten.leaky_relu.default,
    aten.mish.default,
    aten.silu.default,
    aten.softplus.default,
    SQUARED_RELU,
    SWISH,
    role="rectifier",
)
@_sloping(
    # Functions of each sample that are no rectifiers.
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
    # The same, and a gate stays one.
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
    # The same, and what comes out tells how much of another signal passes.
    aten.hardsigmoid.default,
    aten.reciprocal.default,
    aten.rsqrt.default,
    aten.sigmoid.default,
    role="slope",
    gate="made",
)
def by_slope(step: Step, r: Window) -> Window:
    """The signal times the slope that the function had at each sample."""
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
    """Nothing: a function that goes in steps has no slope."""
    return [None] * len(step.inputs)


@many_pictures()
@one_channel
@prepared(_sloped)
def rectify_by_slope(step: Step, r: Window) -> Window:
    """The signal rectified, then times the slope: what guided backpropagation is for a ReLU."""
    return by_slope(step, rectify(step, r))


@replaces(F.rrelu)
def _record_rrelu(
    input: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False
) -> Any:
    # Outside training torch draws no random numbers for it, though it says that it may: it is a leaky ReLU then.
    return NotImplemented if training else F.leaky_relu(input, (lower + upper) / 2, inplace)


@one_channel
def pass_on(_step: Step, r: Window) -> Window:
    """The signal as it is."""
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
    role="choice",  # rectifiers are written so, too, but not only
    gate="kept",
)
@rule(aten.log_sigmoid_forward.default, aten.logaddexp.default, keep=Before(point), role="choice")
def at_its_point(step: Step, *signals: Window | None) -> list[Window | None]:
    """The derivative where the forward pass was."""
    return differentiated(step, *signals)
