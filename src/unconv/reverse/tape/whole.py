"""Operations that torch takes apart, recorded whole, as their parts would hide what they mean.

Local response normalisation is a dozen steps to torch; the paper says to skip it, which only the whole of
it shows. Instance norm would look like a batch norm in training mode. A linear layer over the channels of
each position would flatten the positions. Circular padding writes into new memory through views. The layer norm
over the channels of each position is what `layout` makes of one in channels-last order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._ops import OpOverload
from torch.overrides import TorchFunctionMode

_LIBRARY = torch.library.Library("unconv", "DEF")

_SCHEMAS: dict[str, Callable[..., Tensor]] = {
    "local_response_norm(Tensor x, int size, float alpha, float beta, float k) -> Tensor": F.local_response_norm,
    "instance_norm(Tensor x, Tensor? weight, Tensor? bias, float eps) -> Tensor": lambda x, weight, bias, eps: F.instance_norm(
        x, None, None, weight, bias, True, 0.0, eps
    ),
    "channel_norm(Tensor x, Tensor? weight, Tensor? bias, float eps) -> Tensor": lambda x, weight, bias, eps: F.layer_norm(
        x.movedim(1, -1), x.shape[1:2], weight, bias, eps
    ).movedim(-1, 1),
    "linear(Tensor x, Tensor weight, Tensor? bias) -> Tensor": F.linear,
}


def _defined(schema: str, function: Callable[..., Tensor]) -> OpOverload:
    name = _LIBRARY.define(schema)
    _LIBRARY.impl(name, function, "CompositeExplicitAutograd")
    operation: OpOverload = getattr(torch.ops.unconv, schema.partition("(")[0]).default
    return operation


WHOLE: dict[OpOverload, Callable[..., Tensor]] = {_defined(schema, f): f for schema, f in _SCHEMAS.items()}
"""Of each operation of ours, the function that it is."""

LOCAL_RESPONSE_NORM, INSTANCE_NORM, CHANNEL_NORM, LINEAR = WHOLE


class Whole(TorchFunctionMode):
    """While it is on, these functions run as one operation."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        replaced = _REPLACED.get(function)
        found = replaced(*args, **(kwargs or {})) if replaced else NotImplemented
        return function(*args, **(kwargs or {})) if found is NotImplemented else found


def _local_response_norm(input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    normed: Tensor = LOCAL_RESPONSE_NORM(input, size, alpha, beta, k)
    return normed


def _instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    if not use_input_stats:
        return NotImplemented
    return INSTANCE_NORM(input, weight, bias, eps)


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
    return LINEAR(input, weight, bias) if input.ndim > 2 else NotImplemented


def _pad(input: Tensor, pad: Any, mode: str = "constant", value: float | None = None) -> Any:
    """Circular padding as slices put together, axis by axis."""
    if mode != "circular" or any(length < 0 for length in pad):
        return NotImplemented
    for axis, (before, after) in enumerate(zip(pad[::2], pad[1::2], strict=True)):
        n = input.shape[-1 - axis]
        if before > n or after > n:
            return NotImplemented
        parts = [input.narrow(-1 - axis, n - before, before), input, input.narrow(-1 - axis, 0, after)]
        input = torch.cat([part for part in parts if part.shape[-1 - axis]], -1 - axis)
    return input


_REPLACED: dict[Any, Callable[..., Any]] = {
    F.local_response_norm: _local_response_norm,
    F.instance_norm: _instance_norm,
    F.linear: _linear,
    F.pad: _pad,
}
