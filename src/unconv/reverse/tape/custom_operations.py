"""Operations of our own, for functions that torch takes apart into parts that hide their meaning.

Local response normalisation is a dozen steps to torch, and none of them shows that it is the layer the paper says to skip.
We record it as one operation. The files of the rules define such operations beside their rules. This file has the tools,
and circular padding, which needs no rule: torch writes it into new memory through views, so here it is concatenated.
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

IMPLEMENTATIONS: dict[OpOverload, Callable[..., Tensor]] = {}
"""For each operation of ours, the function that computes it."""

REPLACEMENTS: dict[Any, Callable[..., Any]] = {}
"""For some functions of torch, the function that runs instead of them while a network is recorded."""


def define(schema: str, function: Callable[..., Tensor]) -> OpOverload:
    """Return a new operation that runs `function` and is one step on the tape."""
    name = _LIBRARY.define(schema)
    _LIBRARY.impl(name, function, "CompositeExplicitAutograd")
    operation: OpOverload = getattr(torch.ops.unconv, schema.partition("(")[0]).default
    IMPLEMENTATIONS[operation] = function
    return operation


def replaces(torch_function: Callable[..., Any]) -> Callable[[_F], _F]:
    """Run a function instead of torch's while a network is recorded; where it returns NotImplemented, torch's runs."""

    def register(function: _F) -> _F:
        REPLACEMENTS[torch_function] = function
        return function

    return register


class ReplacedFunctions(TorchFunctionMode):
    """A mode in which the replaced functions of torch run as one operation each."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        replacement = REPLACEMENTS.get(function)
        result = replacement(*args, **(kwargs or {})) if replacement else NotImplemented
        return function(*args, **(kwargs or {})) if result is NotImplemented else result


@replaces(F.pad)
def _pad(input: Tensor, pad: Any, mode: str = "constant", value: float | None = None) -> Any:
    """Pad circularly by concatenating slices, axis by axis."""
    if mode != "circular" or any(length < 0 for length in pad):
        return NotImplemented
    for axis, (before, after) in enumerate(zip(pad[::2], pad[1::2], strict=True)):
        n = input.shape[-1 - axis]
        if before > n or after > n:
            return NotImplemented
        parts = [input.narrow(-1 - axis, n - before, before), input, input.narrow(-1 - axis, 0, after)]
        input = torch.cat([part for part in parts if part.shape[-1 - axis]], -1 - axis)
    return input
