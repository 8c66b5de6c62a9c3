"""Operations that torch takes apart, recorded whole, as their parts would hide what they mean.

Local response normalisation is a dozen steps to torch; the paper says to skip it, which only the whole of
it shows. The files of the rules define such operations beside their rules. Here are the means, and what has no
rule of its own: circular padding, which torch writes into new memory through views.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._ops import OpOverload
from torch.overrides import TorchFunctionMode

_F = TypeVar("_F", bound=Callable[..., Any])

_LIBRARY = torch.library.Library("unconv", "DEF")

WHOLE: dict[OpOverload, Callable[..., Tensor]] = {}
"""For each operation of ours, the function that it is."""

REPLACED: dict[Any, Callable[..., Any]] = {}
"""For some functions of torch, what runs in their place while a network is recorded."""


def define(schema: str, function: Callable[..., Tensor]) -> OpOverload:
    """Return a new operation that is `function`, for the tape to record as one step."""
    name = _LIBRARY.define(schema)
    _LIBRARY.impl(name, function, "CompositeExplicitAutograd")
    operation: OpOverload = getattr(torch.ops.unconv, schema.partition("(")[0]).default
    WHOLE[operation] = function
    return operation


def replaces(torch_function: Callable[..., Any]) -> Callable[[_F], _F]:
    """Have a function run in place of torch's while a network is recorded; where it returns NotImplemented, torch's runs."""

    def register(function: _F) -> _F:
        REPLACED[torch_function] = function
        return function

    return register


class Whole(TorchFunctionMode):
    """While it is on, the functions that were replaced run as one operation."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        replaced = REPLACED.get(function)
        found = replaced(*args, **(kwargs or {})) if replaced else NotImplemented
        return function(*args, **(kwargs or {})) if found is NotImplemented else found


@replaces(F.pad)
def _pad(input: Tensor, pad: Any, mode: str = "constant", value: float | None = None) -> Any:
    """Pad circularly by slices put together, axis by axis."""
    if mode != "circular" or any(length < 0 for length in pad):
        return NotImplemented
    for axis, (before, after) in enumerate(zip(pad[::2], pad[1::2], strict=True)):
        n = input.shape[-1 - axis]
        if before > n or after > n:
            return NotImplemented
        parts = [input.narrow(-1 - axis, n - before, before), input, input.narrow(-1 - axis, 0, after)]
        input = torch.cat([part for part in parts if part.shape[-1 - axis]], -1 - axis)
    return input
