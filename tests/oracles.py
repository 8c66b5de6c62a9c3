"""Slow or independent ways to the same answers."""

from __future__ import annotations

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
