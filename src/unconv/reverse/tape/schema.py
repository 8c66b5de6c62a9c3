"""Names of torch's operations, what they write, and the plain form in which they are recorded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from unconv.reverse.tape.memory import tensors_in

aten = torch.ops.aten

_NAMES = {
    "_adaptive_avg_pool2d": "adaptive_avg_pool2d",
    "_adaptive_avg_pool3d": "adaptive_avg_pool3d",
    "_native_batch_norm_legit_no_training": "batch_norm",
    "_prelu_kernel": "prelu",
    "_softmax": "softmax",
    "_unsafe_index": "index",
    "_native_batch_norm_legit": "batch_norm",
    "native_batch_norm_legit": "batch_norm",
    "addmm": "linear",
    "bmm": "linear",
    "convolution": "conv",
    "cudnn_batch_norm": "batch_norm",
    "max_pool2d_with_indices": "max_pool2d",
    "max_pool3d_with_indices": "max_pool3d",
    "miopen_batch_norm": "batch_norm",
    "mm": "linear",
    "hardtanh": "relu6",
    "native_batch_norm": "batch_norm",
    "native_group_norm": "group_norm",
    "native_layer_norm": "layer_norm",
}


_CLIPS = (
    aten.clamp.default,
    aten.clamp_min.default,
    aten.hardtanh.default,
    aten.maximum.default,
    aten.threshold.default,
)


def kind(operation: OpOverload) -> str:
    """Return an operation's common name."""
    name = operation._schema.name.split("::")[1]
    return "attention" if "attention" in name else _NAMES.get(name) or name.strip("_")


@cache
def is_factory(func: OpOverload) -> bool:
    """Whether an operation uses only the shape of its argument: `zeros_like`, `new_empty`."""
    name = func._schema.name.split("::")[1]
    return name.endswith("_like") or name.startswith("new_")


# Their parts write into views step by step. There is no rule for them, neither for the operation nor for its parts.
_RECURRENT = {aten.gru.input, aten.lstm.input, aten.rnn_relu.input, aten.rnn_tanh.input}


@cache
def is_composite(func: OpOverload) -> bool:
    """Whether torch computes an operation from others, in C++.

    Decompositions in Python, which torch has for its compiler, do not count: they round differently, and may choose another
    nearest neighbour for a sample.
    """
    return func not in _RECURRENT and torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), _COMPOSITE)


def draws_nothing(func: OpOverload, args: tuple[Any, ...]) -> bool:
    """Whether an operation that may draw random numbers does not: a recurrent layer without dropout."""
    if func not in _RECURRENT:
        return False
    named = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False))
    return not named.get("train") or not named.get("dropout")


def fills_with_infinity(args: tuple[Any, ...]) -> bool:
    """Whether an argument is infinite, as in a mask before a softmax; then an infinite result is intended."""
    return any(
        bool(torch.isinf(a).any()) if isinstance(a, Tensor) and a.numel() == 1 else isinstance(a, float) and math.isinf(a)
        for a in args
    )


def taken_apart(func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Return the result of a composite operation, computed by the operations that torch itself takes it apart into."""
    return func._op_dk(_COMPOSITE, *args, **kwargs)


_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd


@cache
def _named(func: OpOverload) -> tuple[tuple[str, Any], ...]:
    return tuple((a.name, a.default_value) for a in func._schema.arguments)


def arguments(func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return all arguments in the order of the schema, defaults filled in."""
    return (*args, *(kwargs.get(name, default) for name, default in _named(func)[len(args) :]))


@cache
def _writes(func: OpOverload) -> tuple[int, ...]:
    """Return the positions of the arguments that an operation writes."""
    return tuple(position for position, a in enumerate(func._schema.arguments) if a.alias_info and a.alias_info.is_write)


def written_by(func: OpOverload, full: tuple[Any, ...]) -> list[Tensor]:
    """Return the tensors that an operation writes in place; `full` are all its arguments."""
    return [tensor for position in _writes(func) for tensor in tensors_in(full[position])]


@cache
def functional(func: OpOverload) -> OpOverload:
    """Return the form of an in-place operation that returns a new tensor; other operations as they are."""
    namespace, name = func._schema.name.split("::")
    if not name.endswith("_") or name.endswith("__"):
        return func
    packet = getattr(getattr(torch.ops, namespace), name[:-1], None)
    types = [str(argument.type) for argument in func._schema.arguments]
    forms = [getattr(packet, overload) for overload in packet.overloads()] if packet else []
    alike = [form for form in forms if [str(argument.type) for argument in form._schema.arguments] == types]
    return next((form for form in alike if form._overloadname == func._overloadname), alike[0] if alike else func)


def plain(operation: OpOverload, args: tuple[Any, ...]) -> tuple[OpOverload, tuple[Any, ...]]:
    """Return a rectifier under its plain name: `clamp(min=0)` is a ReLU, `clamp(0, 6)` a ReLU6."""
    if operation not in _CLIPS:
        return operation, args
    x, low, high = (*args, None)[:3]
    if operation is aten.maximum.default and isinstance(x, Tensor):
        x, low = low, x
    zero = isinstance(low, int | float) and low == 0
    if isinstance(low, Tensor) and not isinstance(x, Tensor):
        zero = not low.any() and torch.broadcast_shapes(low.shape, x.shape) == x.shape
    if operation is aten.hardtanh.default:
        return (operation if zero else aten.clamp.default), (x, low, high)
    if zero and (high is None or (operation is aten.threshold.default and high == 0)):
        return aten.relu.default, (x,)
    if operation is aten.clamp.default and zero:
        return aten.hardtanh.default, (x, low, high)
    return operation, args
