"""Functions of single samples: rectifiers, gates, roots, and conversions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from unconv.errors import UnconvError
from unconv.networks.onnx.operators.table import choose, numbers, operator

Bound = Tensor | Sequence[float] | float | None


def _register(name: str, function: Callable[[Tensor], Tensor]) -> None:
    def run(x: Tensor) -> Tensor:
        return function(x)

    operator(name)(run)


_ROWS: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "HardSwish": F.hardswish,
    "Identity": lambda x: x,
    "IsNaN": torch.isnan,
    "Log": torch.log,
    "Mish": F.mish,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Relu": F.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Softplus": F.softplus,
    "Softsign": F.softsign,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
}
for _name, _function in _ROWS.items():
    _register(_name, _function)


@operator("LeakyRelu")
def leaky_relu(x: Tensor, *, alpha: float = 0.01) -> Tensor:
    """Return x, times alpha where it is negative."""
    return F.leaky_relu(x, alpha)


@operator("Elu")
def elu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Return x where it is positive, alpha (exp(x) - 1) elsewhere."""
    return F.elu(x, alpha)


@operator("Celu")
def celu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Return ELU with x / alpha in the exponential."""
    return F.celu(x, alpha)


@operator("Selu")
def selu(x: Tensor, *, alpha: float = 1.6732632423543772, gamma: float = 1.0507009873554805) -> Tensor:
    """Return gamma times ELU."""
    return F.elu(x, alpha) * gamma


@operator("Gelu")
def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    """Return x times the normal distribution's probability below x."""
    return F.gelu(x, approximate=choose("approximate", approximate, {"none": "none", "tanh": "tanh"}))


@operator("Swish")
def swish(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Return x sigmoid(alpha x)."""
    return F.silu(x) if alpha == 1 else x * torch.sigmoid(alpha * x)


@operator("HardSigmoid")
def hard_sigmoid(x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    """Return alpha x + beta, clipped to 0..1."""
    # Expressed by torch's hardsigmoid, clip(x / 6 + 1 / 2), so that it is recognised as a gate and not as a rectifier.
    slope, shift = 6 * alpha, 6 * beta - 3
    if abs(slope - 1) > 1e-6:  # exporters write 1 / 6 in float32
        x = x * slope
    return F.hardsigmoid(x + shift if shift else x)


@operator("ThresholdedRelu")
def thresholded_relu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Return x where it is above alpha, 0 elsewhere."""
    return F.threshold(x, alpha, 0.0)


@operator("Shrink")
def shrink(x: Tensor, *, bias: float = 0.0, lambd: float = 0.5) -> Tensor:
    """Return x moved towards 0 by `bias`, and 0 where x is within `lambd` of it."""
    return torch.where(x < -lambd, x + bias, torch.where(x > lambd, x - bias, torch.zeros_like(x)))


@operator("PRelu")
def prelu(x: Tensor, slope: Tensor, *, opset: int) -> Tensor:
    """Return x, times a learned slope where it is negative; up to opset 6 the slope is one per channel."""
    channel_axis = slope.ndim - x.ndim + 1  # the channel axis of the slope, broadcast to x as in numpy
    per_channel = opset < 7 or (channel_axis in (0, 1) and slope.shape[channel_axis] == slope.numel())
    if slope.numel() == 1 or (x.ndim > 1 and slope.numel() == x.shape[1] and per_channel):
        return F.prelu(x, slope.reshape(-1))
    return torch.where(x < 0, x * slope, x)


@operator("IsInf")
def is_inf(x: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    """Return whether each sample is infinite."""
    nowhere = torch.zeros_like(x, dtype=torch.bool)
    return (torch.isposinf(x) if detect_positive else nowhere) | (torch.isneginf(x) if detect_negative else nowhere)


@operator("Clip", scalars=("min", "max"))
def clip(x: Tensor, min: Bound = None, max: Bound = None) -> Tensor:
    """Return x clipped at both ends."""
    ends = [end if end is None or isinstance(end, Tensor) else numbers(end)[0] for end in (min, max)]
    if not any(isinstance(end, Tensor) for end in ends):
        if not x.is_floating_point():
            ends = [None if end is None else int(end) for end in ends]
        low, high = (cast(float | None, end) for end in ends)
        return x if low is None and high is None else x.clamp(low, high)
    for end, cut in zip(ends, (torch.maximum, torch.minimum), strict=True):
        if end is not None:
            x = cut(x, torch.as_tensor(end, dtype=x.dtype, device=x.device))
    return x


@operator("Cast", types=("to",))
def converted(x: Tensor, *, to: Tensor, saturate: int = 1, round_mode: str = "up") -> Tensor:
    """Return x in another type."""
    return x.to(to.dtype)


@operator("CastLike")
def cast_like(x: Tensor, other: Tensor, *, saturate: int = 1, round_mode: str = "up") -> Tensor:
    """Return x in the type of `other`."""
    return x.to(other.dtype)


@operator("Dropout", settings=("ratio", "training_mode"))
def dropout(
    x: Tensor, ratio: float | None = None, training_mode: bool | None = None, *, seed: int = 0, is_test: int = 1, outputs: int
) -> Tensor | tuple[Tensor, Tensor]:
    """Return x unchanged, and a mask of ones if the node names one.

    Raises:
        UnconvError: it is in training mode.
    """
    if isinstance(training_mode, Tensor) or training_mode or not is_test:
        raise UnconvError("it drops samples at random, as in training; export the model after model.eval()")
    return x if outputs == 1 else (x, torch.ones_like(x, dtype=torch.bool))
