"""Slow or independent ways to the same answers."""

from __future__ import annotations

import contextlib
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

RELUS = {F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.threshold}
ACTIVATIONS = {
    F.elu,
    F.gelu,
    F.hardswish,
    F.leaky_relu,
    F.leaky_relu_,
    F.mish,
    F.prelu,
    F.relu6,
    F.silu,
    F.softplus,
    torch._C._nn.gelu,
    torch._C._nn.hardtanh_,
    torch._C._nn.silu,
    torch.prelu,
}
GATES = {torch.sigmoid, Tensor.sigmoid, Tensor.sigmoid_, F.hardsigmoid, torch.softmax, Tensor.softmax, F.softmax}
PRODUCTS = {torch.mul, Tensor.mul, Tensor.mul_, Tensor.__mul__, Tensor.__rmul__, Tensor.__imul__}


class _Reversed(torch.autograd.Function):
    """A rectifier whose way back rectifies; guided, times its slope."""

    @staticmethod
    def forward(ctx, x, result, slope):
        ctx.slope = slope
        return result.clone()

    @staticmethod
    def backward(ctx, signal):
        signal = signal.clamp(min=0)
        return signal if ctx.slope is None else signal * ctx.slope, None, None


def _rectifier(func, args, kwargs, guided):
    x = args[0]
    if not x.requires_grad:
        return func(*args, **kwargs)
    with torch.enable_grad():
        at = x.detach().clone().requires_grad_(True)
        result = func(at.clone(), *args[1:], **{key: value for key, value in kwargs.items() if key != "inplace"})
        (slope,) = torch.autograd.grad(result.sum(), at)
    return _Reversed.apply(x, result.detach(), slope if guided else None)


class Replaced(TorchFunctionMode):
    """Autograd with another backward for rectifiers, and with gates and statistics detached: the rest is torch's own.

    Gates are what sigmoids and softmaxes give, and, of two factors, the one that is spread over the other.
    """

    def __init__(self, method: str):
        super().__init__()
        self.guided = method in ("guided", "desalinet")
        self.skip = method != "guided"

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in RELUS | ACTIVATIONS or (func in (Tensor.clamp, torch.clamp) and kwargs.get("min") == 0):
            with torch._C.DisableTorchFunction():
                return _rectifier(func, args, kwargs, self.guided)
        if func is F.hardtanh and (*args[1:2], kwargs.get("min_val"))[0] == 0:
            with torch._C.DisableTorchFunction():
                return _rectifier(func, args, kwargs, self.guided)
        if func in GATES:
            return func(*args, **kwargs).detach()
        if func in PRODUCTS and all(isinstance(a, Tensor) and a.requires_grad for a in args):
            first, second = args
            if first.shape != second.shape:
                args = (first.detach(), second) if first.numel() < second.numel() else (first, second.detach())
        if func in NORMS and args[0].requires_grad:
            return NORMS[func](self.skip, *args, **kwargs)
        return func(*args, **kwargs)


def _held(x, axes, eps, weight, bias, shape):
    mean, deviation = x.mean(axes, keepdim=True).detach(), (x.var(axes, correction=0, keepdim=True) + eps).sqrt().detach()
    result = (x - mean) / deviation
    weight, bias = (None if p is None else p.view(shape) for p in (weight, bias))
    result = result if weight is None else result * weight
    return result if bias is None else result + bias


def _layer_norm(_skip, x, shape, weight=None, bias=None, eps=1e-5):
    return _held(x, list(range(-len(shape), 0)), eps, weight, bias, shape)


def _group_norm(_skip, x, groups, weight=None, bias=None, eps=1e-5):
    grouped = x.reshape(len(x), groups, -1)
    normed = _held(grouped, [-1], eps, None, None, None).view(x.shape)
    shape = [-1] + [1] * (x.ndim - 2)
    normed = normed if weight is None else normed * weight.view(shape)
    return normed if bias is None else normed + bias.view(shape)


def _instance_norm(
    _skip, x, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, momentum=0.1, eps=1e-5
):
    return _held(x, list(range(2, x.ndim)), eps, weight, bias, [-1] + [1] * (x.ndim - 2))


def _local_response_norm(skip, x, size, alpha=1e-4, beta=0.75, k=1.0):
    with torch._C.DisableTorchFunction():
        result = F.local_response_norm(x, size, alpha, beta, k).detach()
    if skip:
        return x + (result - x).detach()
    ones = torch.where(x == 0, torch.ones_like(x), x).detach()
    return x * (result / ones)


NORMS = {
    F.layer_norm: _layer_norm,
    F.group_norm: _group_norm,
    F.instance_norm: _instance_norm,
    F.local_response_norm: _local_response_norm,
}


def outputs(model: nn.Module, image: Tensor, modules: list[str]) -> dict[str, Tensor]:
    """The outputs of named modules, by hooks, cloned before an in-place successor can write over them."""
    found: dict[str, Tensor] = {}
    table = dict(model.named_modules())

    def keep(name):
        def hook(_module, _args, out):
            found.setdefault(name, out.clone())

        return hook

    handles = [table[name].register_forward_hook(keep(name)) for name in modules]
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
    return projections(model, image, [(module, seed)], method)[0]


class _Seen(Exception):
    """Every module asked for has run; what comes after it in the network does not matter."""


def projections(model: nn.Module, image: Tensor, asked, method: str = "gradient") -> list[Tensor]:
    """`projection` for each (module, seed) of a list, from one forward pass that ends with the last of the modules."""
    image = image.clone().requires_grad_(True)
    outputs: dict[str, Tensor] = {}
    names = {name for name, _ in asked}

    def keep(name):
        def hook(_module, _args, out):
            outputs[name] = out.clone()
            if outputs.keys() == names:
                raise _Seen
            return outputs[name].clone()  # which an in-place successor may write over

        return hook

    table = dict(model.named_modules())
    handles = [table[name].register_forward_hook(keep(name)) for name in names]
    try:
        with contextlib.suppress(_Seen), contextlib.nullcontext() if method == "gradient" else Replaced(method):
            model(image)
    finally:
        for handle in handles:
            handle.remove()
    found = []
    for name, seed in asked:
        out = outputs[name]
        (gradient,) = torch.autograd.grad(out, image, seed(out.detach()), retain_graph=True)
        found.append(gradient[0])
    return found


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
