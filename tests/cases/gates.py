"""Products of two signals, and which factor is the gate.

A form takes `h`, which marks the gate, features that are rectified, and two signals of their shape. With `h` taking what it
marks out of the graph, the gate is a constant by construction: autograd is the oracle.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

sigmoid = torch.sigmoid


def pooled(gate: Tensor) -> Tensor:
    return F.interpolate(F.avg_pool2d(gate, 2), size=gate.shape[2:])


FORMS: dict[str, Callable[..., Tensor]] = {
    "sigmoid": lambda h, x, a, b: x * h(sigmoid(a)),
    "sigmoid first": lambda h, x, a, b: h(sigmoid(a)) * x,
    "one minus": lambda h, x, a, b: x * h(1 - sigmoid(a)),
    "one minus, first": lambda h, x, a, b: h(1 - sigmoid(a)) * x,
    "negative": lambda h, x, a, b: x * h(-sigmoid(a)),
    "twice minus one": lambda h, x, a, b: x * h(2 * sigmoid(a) - 1),
    "shifted": lambda h, x, a, b: x * h(1 + sigmoid(a)),
    "scaled": lambda h, x, a, b: x * h(0.5 * sigmoid(a)),
    "divided": lambda h, x, a, b: x * h(sigmoid(a) / 2),
    "residual": lambda h, x, a, b: x + x * h(sigmoid(a)),
    "pooled": lambda h, x, a, b: x * h(pooled(sigmoid(a))),
    "max pooled": lambda h, x, a, b: x * h(F.max_pool2d(sigmoid(a), 3, 1, 1)),
    "average pooled": lambda h, x, a, b: x * h(F.avg_pool2d(sigmoid(a), 3, 1, 1)),
    "pooled to one": lambda h, x, a, b: x * h(F.adaptive_avg_pool2d(sigmoid(a), 1)),
    "mean": lambda h, x, a, b: x * h(sigmoid(a).mean((2, 3), keepdim=True)),
    "strongest channel": lambda h, x, a, b: x * h(sigmoid(a).amax(1, keepdim=True)),
    "flipped": lambda h, x, a, b: x * h(sigmoid(a).flip(3)),
    "rolled": lambda h, x, a, b: x * h(sigmoid(a).roll(1, 2)),
    "turned": lambda h, x, a, b: x * h(sigmoid(a).transpose(2, 3)),
    "resized": lambda h, x, a, b: x * h(F.interpolate(sigmoid(a)[:, :, ::2, ::2], size=x.shape[2:], mode="bilinear")),
    "nearest": lambda h, x, a, b: x * h(F.interpolate(sigmoid(a)[:, :, :4, :4], size=x.shape[2:])),
    "bicubic": lambda h, x, a, b: x * h(F.interpolate(sigmoid(a)[:, :, :4, :4], size=x.shape[2:], mode="bicubic")),
    "padded": lambda h, x, a, b: x * h(F.pad(sigmoid(a)[:, :, 1:-1, 1:-1], (1, 1, 1, 1))),
    "reflected": lambda h, x, a, b: x * h(F.pad(sigmoid(a)[:, :, 1:-1, 1:-1], (1, 1, 1, 1), mode="reflect")),
    "channels put together": lambda h, x, a, b: x * h(torch.cat([sigmoid(a)[:, :2], sigmoid(b)[:, :2]], 1)),
    "a channel repeated": lambda h, x, a, b: x * h(sigmoid(a)[:, :1].expand_as(x)),
    "product of gates": lambda h, x, a, b: x * h(sigmoid(a) * sigmoid(b)),
    "sum of gates": lambda h, x, a, b: x * h(sigmoid(a) + sigmoid(b)),
    "difference of gates": lambda h, x, a, b: x * h(sigmoid(a) - sigmoid(b)),
    "larger of gates": lambda h, x, a, b: x * h(torch.maximum(sigmoid(a), sigmoid(b))),
    "one after the other": lambda h, x, a, b: (x * h(sigmoid(a))) * h(sigmoid(b)),
    "normalised": lambda h, x, a, b: x * h(sigmoid(a) / (sigmoid(a) + sigmoid(b))),
    "square": lambda h, x, a, b: x * h(sigmoid(a) ** 2),
    "square root": lambda h, x, a, b: x * h(sigmoid(a).sqrt()),
    "cut off": lambda h, x, a, b: x * h(sigmoid(a).clamp(0.2, 0.8)),
    "rectified": lambda h, x, a, b: x * h(F.relu(2 * sigmoid(a) - 1)),
    "hard sigmoid": lambda h, x, a, b: x * h(F.hardsigmoid(a)),
    "hard sigmoid, one minus": lambda h, x, a, b: x * h(1 - F.hardsigmoid(a)),
    "softmax of channels": lambda h, x, a, b: x * h(a.softmax(1)),
    "softmax of two": lambda h, x, a, b: x * h(torch.stack([a, b]).softmax(0)[0]),
    "mask": lambda h, x, a, b: x * h(a > 0.1),
    "floating mask": lambda h, x, a, b: x * h((a > 0.1).float()),
    "mask of the features": lambda h, x, a, b: x * h((x > 0.1).float()),
    "mask of another type": lambda h, x, a, b: x * h((a > 0.1).to(x.dtype) * 2),
    "mask and gate": lambda h, x, a, b: x * h((a > 0.1) * sigmoid(b)),
    "no mask": lambda h, x, a, b: x * h(1 - (a > 0.1).float()),
    "highway": lambda h, x, a, b: x * h(sigmoid(a)) + b * h(1 - sigmoid(a)),
    "highway of rectified": lambda h, x, a, b: F.relu(b) * h(sigmoid(a)) + x * h(1 - sigmoid(a)),
    "attentional fusion": lambda h, x, a, b: 2 * x * h(sigmoid(a)) + 2 * b * h(1 - sigmoid(a)),
    "squeeze": lambda h, x, a, b: x * h(sigmoid(a.mean((2, 3), keepdim=True))),
    "squeeze, one minus": lambda h, x, a, b: x * h(1 - sigmoid(a.mean((2, 3), keepdim=True))),
    "vector spread over a gated map": lambda h, x, a, b: x.amax((2, 3), keepdim=True) * h(sigmoid(a)),
    "gate of a gated map": lambda h, x, a, b: (x * h(sigmoid(a))) * h(sigmoid(b.mean((2, 3), keepdim=True))),
    "gate, then an activation": lambda h, x, a, b: F.silu(x * h(sigmoid(a))),
    "after a gate an activation written out": lambda h, x, a, b: silu(x * h(sigmoid(a.mean((2, 3), keepdim=True)))),
    "addcmul": lambda h, x, a, b: torch.addcmul(b, x, h(sigmoid(a))),
    "in place": lambda h, x, a, b: x.clone().mul_(h(sigmoid(a))),
}


def silu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


# Neither factor is told by its history: both may be meant.
OPEN: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "two signals": lambda x, a, b: a * b,
    "two gates": lambda x, a, b: sigmoid(a) * sigmoid(b),
    "pooled features and a signal": lambda x, a, b: F.max_pool2d(x, 3, 1, 1) * a,
    "flipped features and a signal": lambda x, a, b: a * x.flip(2),
    "two rectified": lambda x, a, b: x * F.relu(a),
    "a gate that met a signal": lambda x, a, b: a * (sigmoid(a) + b),
    "two spread": lambda x, a, b: a.mean((2, 3), keepdim=True) * b.mean(1, keepdim=True),
    "product of a gate and a signal": lambda x, a, b: b * (a * sigmoid(a.flip(2))),
}
