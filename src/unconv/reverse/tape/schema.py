"""What torch's operations are called, what they write, and in which plain form they are recorded."""

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
    """An aten operation's everyday name."""
    name = operation._schema.name.split("::")[1]
    return "attention" if "attention" in name else _NAMES.get(name) or name.strip("_")


@cache
def is_factory(func: OpOverload) -> bool:
    """Whether only the argument's shape matters: `zeros_like`, `new_empty`."""
    name = func._schema.name.split("::")[1]
    return name.endswith("_like") or name.startswith("new_")


# Taken apart, they write into views step by step; they have no rule, whole or in parts.
_RECURRENT = {aten.gru.input, aten.lstm.input, aten.rnn_relu.input, aten.rnn_tanh.input}


@cache
def is_composite(func: OpOverload) -> bool:
    """Whether torch computes an operation by others, in C++.

    The operations that torch takes apart in Python instead, for its compiler, are not meant: those parts round otherwise,
    and the nearest neighbour of a sample may be another.
    """
    return func not in _RECURRENT and torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), _COMPOSITE)


def draws_nothing(func: OpOverload, args: tuple[Any, ...]) -> bool:
    """Whether an operation that may draw random numbers does not: a recurrent layer without dropout."""
    if func not in _RECURRENT:
        return False
    named = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False))
    return not named.get("train") or not named.get("dropout")


def fills_with_infinity(args: tuple[Any, ...]) -> bool:
    """Whether an operation is given an infinity, as a mask before a softmax is: then it is no accident in its result."""
    return any(
        bool(torch.isinf(a).any()) if isinstance(a, Tensor) and a.numel() == 1 else isinstance(a, float) and math.isinf(a)
        for a in args
    )


def taken_apart(func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Return what a composite operation returns, by the operations that torch itself makes of it."""
    return func._op_dk(_COMPOSITE, *args, **kwargs)


_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd


@cache
def _named(func: OpOverload) -> tuple[tuple[str, Any], ...]:
    return tuple((a.name, a.default_value) for a in func._schema.arguments)


def arguments(func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """All arguments in the order of the schema, defaults filled in."""
    return (*args, *(kwargs.get(name, default) for name, default in _named(func)[len(args) :]))


@cache
def _writes(func: OpOverload) -> tuple[int, ...]:
    """Where the arguments stand that an operation writes."""
    return tuple(at for at, a in enumerate(func._schema.arguments) if a.alias_info and a.alias_info.is_write)


def written_by(func: OpOverload, full: tuple[Any, ...]) -> list[Tensor]:
    """The tensors that the operation writes in place."""
    return [tensor for at in _writes(func) for tensor in tensors_in(full[at])]


@cache
def functional(func: OpOverload) -> OpOverload:
    """The form of an in-place operation that returns a new tensor; others as they are."""
    namespace, name = func._schema.name.split("::")
    if not name.endswith("_") or name.endswith("__"):
        return func
    packet = getattr(getattr(torch.ops, namespace), name[:-1], None)
    types = [str(argument.type) for argument in func._schema.arguments]
    forms = [getattr(packet, overload) for overload in packet.overloads()] if packet else []
    alike = [form for form in forms if [str(argument.type) for argument in form._schema.arguments] == types]
    return next((form for form in alike if form._overloadname == func._overloadname), alike[0] if alike else func)


def plain(operation: OpOverload, args: tuple[Any, ...]) -> tuple[OpOverload, tuple[Any, ...]]:
    """A rectifier by its plain name: `clamp(min=0)` is a ReLU, `clamp(0, 6)` a ReLU6."""
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
