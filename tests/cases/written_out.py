"""Activations and the ways in which people write them out; and functions that are none."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Function = Callable[[Tensor], Tensor]


def filled(x: Tensor) -> Tensor:
    y = x.clone()
    y[y < 0] = 0
    return y


def scaled(x: Tensor) -> Tensor:
    y = x.clone()
    y[x < 0] *= 0.1
    return y


def in_place(x: Tensor) -> Tensor:
    y = x.clone()
    return y.mul_(torch.sigmoid(x))


def squares(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class Slopes(nn.Module):
    """PReLU with a slope for each channel, written out or not."""

    def __init__(self, named: bool):
        super().__init__()
        self.named = named
        self.weight = nn.Parameter(torch.tensor([0.1, 0.3, -0.2, 1.5]))

    def forward(self, x: Tensor) -> Tensor:
        if self.named:
            return F.prelu(x, self.weight)
        return torch.where(x > 0, x, x * self.weight[:, None, None])


WAYS: dict[str, tuple[Function, dict[str, Function]]] = {
    "relu": (
        F.relu,
        {
            "clamp": lambda x: x.clamp(min=0),
            "clamp in place": lambda x: x.clone().clamp_(min=0),
            "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
            "maximum with a number": lambda x: torch.max(x, torch.tensor(0.0)),
            "threshold": lambda x: F.threshold(x, 0.0, 0.0),
            "times what is positive": lambda x: x * (x > 0),
            "times a floating mask": lambda x: x * (x > 0).float(),
            "times the mask of its type": lambda x: (x >= 0).type_as(x) * x,
            "where": lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
            "where turned": lambda x: torch.where(x < 0, 0.0, x),
            "masked fill": lambda x: x.masked_fill(x < 0, 0.0),
            "filled by index": filled,
            "absolute value": lambda x: (x + x.abs()) / 2,
            "absolute value halved": lambda x: 0.5 * (torch.abs(x) + x),
            "sign": lambda x: x * (1 + torch.sign(x)) / 2,
            "step": lambda x: x * torch.heaviside(x, torch.tensor(0.0)),
            "minimum of the negative": lambda x: -torch.minimum(-x, torch.tensor(0.0)),
            "less its negative part": lambda x: x - x.clamp(max=0),
        },
    ),
    "relu6": (
        F.relu6,
        {
            "hardtanh": lambda x: F.hardtanh(x, 0.0, 6.0),
            "clamp": lambda x: x.clamp(0, 6),
            "clamp of relu": lambda x: F.relu(x).clamp(max=6),
            "minimum of relu": lambda x: torch.minimum(F.relu(x), torch.tensor(6.0)),
            "minimum of maximum": lambda x: torch.minimum(torch.maximum(x, torch.tensor(0.0)), torch.full_like(x, 6.0)),
            "numpy style": lambda x: 6 - F.relu(6 - F.relu(x)),
        },
    ),
    "leaky_relu": (
        lambda x: F.leaky_relu(x, 0.1),
        {
            "where": lambda x: torch.where(x > 0, x, 0.1 * x),
            "where turned": lambda x: torch.where(x < 0, x * 0.1, x),
            "maximum": lambda x: torch.maximum(x, 0.1 * x),
            "two relus": lambda x: F.relu(x) - 0.1 * F.relu(-x),
            "clamps": lambda x: x.clamp(min=0) + 0.1 * x.clamp(max=0),
            "by index": scaled,
            "absolute value": lambda x: 0.55 * x + 0.45 * x.abs(),
            "mask": lambda x: x * ((x > 0).float() * 0.9 + 0.1),
        },
    ),
    "prelu": (
        Slopes(True),
        {"where": Slopes(False)},
    ),
    "silu": (
        F.silu,
        {
            "sigmoid": lambda x: x * torch.sigmoid(x),
            "sigmoid first": lambda x: x.sigmoid() * x,
            "in place": in_place,
            "exponential": lambda x: x / (1 + torch.exp(-x)),
            "reciprocal": lambda x: x * (1 + torch.exp(-x)).reciprocal(),
            "module": lambda x: x * nn.Sigmoid()(x),
            "hyperbolic tangent": lambda x: 0.5 * x * (1 + torch.tanh(x / 2)),
            "in double": lambda x: (x.double() * torch.sigmoid(x.double())).to(x.dtype),
        },
    ),
    "hardswish": (
        F.hardswish,
        {
            "relu6": lambda x: x * F.relu6(x + 3) / 6,
            "relu6 sixth": lambda x: x * (F.relu6(x + 3.0) * (1 / 6)),
            "hardsigmoid": lambda x: x * F.hardsigmoid(x),
            "clamp": lambda x: x * torch.clamp(x / 6 + 0.5, 0, 1),
            "clamp of the sum": lambda x: x * (x + 3).clamp(0, 6).div(6),
        },
    ),
    "gelu": (
        F.gelu,
        {
            "erf": lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2))),
            "erf grouped": lambda x: x * 0.5 * (1.0 + torch.erf(x * 0.7071067811865476)),
            "normal": lambda x: x * torch.special.ndtr(x),
            "cdf": lambda x: x * (0.5 + 0.5 * torch.erf(x / 1.41421354)),
        },
    ),
    "gelu by tanh": (lambda x: F.gelu(x, approximate="tanh"), {"tanh": squares}),
    "mish": (
        F.mish,
        {
            "softplus": lambda x: x * torch.tanh(F.softplus(x)),
            "logarithm": lambda x: x * torch.tanh(torch.log1p(torch.exp(x))),
            "log of sum": lambda x: torch.log(1 + x.exp()).tanh() * x,
        },
    ),
    "squared relu": (
        lambda x: F.relu(x) ** 2,
        {
            "square": lambda x: F.relu(x).square(),
            "a product": lambda x: F.relu(x) * F.relu(x),
            "times itself": lambda x: (lambda y: y * y)(x.clamp(min=0)),
            "times what came": lambda x: x * F.relu(x),
            "where": lambda x: torch.where(x > 0, x * x, torch.zeros_like(x)),
        },
    ),
    "softplus": (
        F.softplus,
        {
            "log": lambda x: torch.log(1 + torch.exp(x)),
            "log1p": lambda x: x.exp().log1p(),
            "logaddexp": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
            "log sigmoid": lambda x: -F.logsigmoid(-x),
            "stable": lambda x: F.relu(x) + torch.log1p(torch.exp(-x.abs())),
        },
    ),
    "elu": (
        F.elu,
        {
            "where": lambda x: torch.where(x > 0, x, torch.exp(x) - 1),
            "where expm1": lambda x: torch.where(x > 0, x, torch.expm1(x)),
            "two parts": lambda x: F.relu(x) + torch.clamp(torch.exp(x) - 1, max=0),
            "minimum": lambda x: F.relu(x) + torch.minimum(torch.expm1(x), torch.tensor(0.0)),
            "celu": F.celu,
        },
    ),
    "selu": (
        F.selu,
        {"where": lambda x: 1.0507009873554805 * torch.where(x > 0, x, 1.6732632423543772 * torch.expm1(x))},
    ),
    "quick gelu": (
        lambda x: F.silu(1.702 * x) / 1.702,
        {
            "sigmoid": lambda x: x * torch.sigmoid(1.702 * x),
            "other order": lambda x: torch.sigmoid(x * 1.702) * x,
            "exponential": lambda x: x / (1 + torch.exp(-1.702 * x)),
        },
    ),
}

# Functions of single samples that are no activations: nothing takes their place.
NONE: dict[str, Function] = {
    "square": lambda x: x * x,
    "absolute value": lambda x: x.abs(),
    "absolute value by maximum": lambda x: torch.maximum(x, -x),
    "negative slope 1": lambda x: torch.where(x > 0, x, -x),
    "sigmoid": lambda x: 1 / (1 + torch.exp(-x)),
    "tanh": lambda x: (torch.exp(x) - torch.exp(-x)) / (torch.exp(x) + torch.exp(-x)),
    "hard tanh": lambda x: torch.minimum(torch.maximum(x, torch.tensor(-1.0)), torch.tensor(1.0)),
    "line": lambda x: 0.5 * (x + 3) - x / 4,
    "square root": lambda x: (x * x + 1).sqrt(),
    "tanh times": lambda x: x * torch.tanh(x),
    "negative part": lambda x: x - F.relu(x),
}

# These look like rectifiers, but are none that has a name.
UNNAMED: dict[str, Function] = {
    "far threshold": lambda x: x * (x > 0.5),
    "torch's far threshold": lambda x: F.threshold(x, 0.5, 0.0),
    "clamp above zero": lambda x: x.clamp(min=0.1),
    "hard mish, with a rectifier in its gate": lambda x: x * (x + 2).clamp(0, 2) / 2,
    "serf": lambda x: x * torch.erf(F.softplus(x)),
    "logistic with a shift": lambda x: x * torch.sigmoid(x + 1),
    "arcus": lambda x: x * (0.5 + torch.atan(x) / math.pi),
    "other knee": lambda x: torch.where(x > 1, x, 0.01 * x),
}
