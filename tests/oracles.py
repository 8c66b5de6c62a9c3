"""Slow or independent ways to the same answers."""

from __future__ import annotations

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

RELUS = {F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}


class _Rectified(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, guided):
        result = x.clamp(min=0)
        ctx.save_for_backward(result)
        ctx.guided = guided
        return result

    @staticmethod
    def backward(ctx, signal):
        (result,) = ctx.saved_tensors
        signal = signal.clamp(min=0)
        return (signal * (result > 0) if ctx.guided else signal), None


class ReplacedRelu(TorchFunctionMode):
    """Autograd with another backward for every rectifier, called in whatever way: the rest is torch's own."""

    def __init__(self, guided: bool = False):
        super().__init__()
        self.guided = guided

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in RELUS:
            return _Rectified.apply(args[0], self.guided)
        return func(*args, **(kwargs or {}))


def outputs(model: nn.Module, image: Tensor, modules: list[str]) -> dict[str, Tensor]:
    """The outputs of named modules, by hooks, cloned before an in-place successor can write over them."""
    found: dict[str, Tensor] = {}
    table = dict(model.named_modules())
    handles = [
        table[name].register_forward_hook(lambda m, a, out, name=name: found.setdefault(name, out.clone())) for name in modules
    ]
    try:
        model(image)
    finally:
        for handle in handles:
            handle.remove()
    return found


def one_unit(unit):
    """The seed that is one unit's activation, and zero elsewhere."""

    def seed(activation):
        only = torch.zeros_like(activation)
        only[(0, *unit)] = activation[(0, *unit)]
        return only

    return seed


def projection(model: nn.Module, image: Tensor, module: str, seed, method: str = "gradient") -> Tensor:
    """(C, H, W): `seed(activation)` sent back from a module's output by torch's own autograd."""
    image = image.clone().requires_grad_(True)
    kept = {}

    def keep(_module, _args, out):
        kept["out"] = out.clone()
        return kept["out"]

    handle = dict(model.named_modules())[module].register_forward_hook(keep)
    try:
        if method == "gradient":
            model(image)
        else:
            with ReplacedRelu(guided=method == "guided"):
                model(image)
    finally:
        handle.remove()
    out = kept["out"]
    (gradient,) = torch.autograd.grad(out, image, seed(out.detach()))
    return gradient[0]


def slow_conv(x: Tensor, filters: Tensor, axes) -> Tensor:
    """(N, samples.., C) with filters [kernel.., C, out]: the definition, tap by tap and window by window."""
    size = x.shape[1:-1]
    made = x.new_zeros(len(x), *(axis.small(n) for axis, n in zip(axes, size, strict=True)), filters.shape[-1])
    for window in product(*map(range, made.shape[1:-1])):
        for tap in product(*map(range, filters.shape[:-2])):
            spots = zip(window, tap, axes, size, strict=True)
            place = [i * axis.stride + t * axis.dilation - axis.pads(n)[0] for i, t, axis, n in spots]
            if all(0 <= p < n for p, n in zip(place, size, strict=True)):
                made[(slice(None), *window)] += x[(slice(None), *place)] @ filters[tap]
    return made


def slow_windows(size, axes):
    """Each window of a pool with the places of its samples, row by row; padding is left out."""
    for window in product(*(range(axis.small(n)) for axis, n in zip(axes, size, strict=True))):
        starts = [i * axis.stride - axis.pads(n)[0] for i, axis, n in zip(window, axes, size, strict=True)]
        spans = [range(max(s, 0), min(s + a.kernel, n)) for s, a, n in zip(starts, axes, size, strict=True)]
        yield window, list(product(*spans))
