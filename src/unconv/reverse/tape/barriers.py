"""Steps of the tape at which autograd would go another way than the recorded operations say.

Three things have no operation of torch: a block that ran without gradients, a tensor that was written in such a block, and
a custom `torch.autograd.Function` with a backward pass of its own. Each becomes a step of the tape, so that only signals
that pass it are refused.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unconv.reverse.tape.custom_operations import define
from unconv.reverse.tape.step import Step


def _as_it_is(x: Tensor) -> Tensor:
    return x.clone()


NO_GRAD = define("no_grad(Tensor x) -> Tensor", _as_it_is)
"""A result of a block under `no_grad` or inference mode is used outside the block: autograd treats it as a constant."""

WRITTEN = define("written_without_grad(Tensor x) -> Tensor", _as_it_is)
"""A tensor that was overwritten in such a block is used outside: autograd goes on as if it had never been written."""

FUNCTION = define("custom_function(Tensor[] x, str name) -> Tensor", lambda x, name: x[0].clone())
"""The result of a custom autograd function whose backward pass is not the derivative of its forward pass."""


OVERLAID = define(
    "overlaid(Tensor x, Tensor part, Tensor index) -> Tensor",
    lambda x, part, index: torch.where(index >= 0, part.reshape(-1)[index.clamp(min=0)], x),
)
"""Not a barrier: samples of `x` were written through another tensor. `index` says which of `part` each one is; -1: none."""

STALE = define("written_through_a_view(Tensor x, str where, str reader) -> Tensor", lambda x, where, reader: x.clone())
"""A tensor in memory that was written through another tensor: which of its values the image reached is no longer known."""


def refusal_of_gradient(step: Step) -> str | None:
    """Return why exact backpropagation cannot pass a step; None if it can."""
    if step.operation is not WRITTEN:
        return refusal_of_barrier(step) if step.operation is STALE else None
    return (
        f"{step.place}: a signal was overwritten under torch.no_grad(), and autograd goes on as if it had not been; "
        "the gradient would not be that of what the model computes. Write the result to a new tensor"
    )


def refusal_of_barrier(step: Step) -> str | None:
    """Return why no method but the gradient can pass a step; None if it is no barrier to them."""
    if step.operation is STALE:
        _x, where, reader = step.args
        return (
            f"{where} wrote in place through a view, and {reader} reads the memory under it; which values the image reached "
            "is no longer known. Write the result to a new tensor (torch.cat, torch.where, clone()) instead, or project a "
            "place before it"
        )
    if step.operation is not FUNCTION:
        return None
    return (
        f"{step.place} runs the torch.autograd.Function {step.args[1]}, whose backward pass is not the derivative of its "
        "forward pass on this image, so that its operations do not show what goes back. method='gradient' calls it; otherwise "
        "replace it by its plain operations, or project a place before it"
    )
