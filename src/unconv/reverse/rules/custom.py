"""Reverse rules of custom autograd functions with a backward pass of their own: straight-through estimators, reversals.

The gradient calls that backward pass, as autograd does. The other methods refuse such a function, as they need its operations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unconv.errors import NoRule
from unconv.reverse.rules.table import full_map, prepared, rule
from unconv.reverse.tape.barriers import FUNCTION, refusal_of_barrier
from unconv.reverse.tape.step import Step
from unconv.reverse.window import Window


@rule(FUNCTION)
def unknown_function(step: Step, _r: Window) -> Window:
    """Refuse: the function's operations do not show what goes back."""
    raise NoRule(f"{refusal_of_barrier(step)}.")


def _applied(step: Step, _dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
    """Run the function once more, for all units of a walk; return its result and the leaves of its graph."""
    result: tuple[Tensor, list[Tensor]] = step.kept.again()
    return result


@prepared(_applied)
def own_backward(step: Step, r: Window) -> list[Window | None]:
    """Call the function's own backward pass with the signal."""
    result, leaves = step.kept
    signals = full_map(step, r).values
    with torch.inference_mode(False), torch.enable_grad():
        rows = [_gradients(result, leaves, signal.clone().to(result.dtype)) for signal in signals]
    return [_stacked(parts, step, position, signals.dtype) for position, parts in enumerate(zip(*rows, strict=True))]


def _gradients(result: Tensor, leaves: list[Tensor], signal: Tensor) -> Any:
    if not result.requires_grad:  # the function says that nothing goes back
        return [None] * len(leaves)
    return torch.autograd.grad(result, leaves, signal.view(result.shape), retain_graph=True, allow_unused=True)


def _stacked(parts: Any, step: Step, position: int, dtype: torch.dtype) -> Window | None:
    """Return the signals of all units at one input; None where the function sends nothing."""
    if any(part is None for part in parts):
        return None
    shape = step.inputs[position].shape
    lead = shape[1:] if shape[:1] == (1,) else shape
    return Window(torch.stack([part.detach().to(dtype).reshape(lead) for part in parts]))
