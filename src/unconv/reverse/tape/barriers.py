"""Places on the tape where autograd would go another way than the operations say.

No operation of torch stands for them: a block that ran without gradients, a tensor that was written in such a block, and
a custom `torch.autograd.Function` whose backward pass is its own. Each is a step of the tape, so that only what passes it
is concerned.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unconv.reverse.tape.step import Step
from unconv.reverse.tape.whole import define


def _as_it_is(x: Tensor) -> Tensor:
    return x.clone()


NO_GRAD = define("no_grad(Tensor x) -> Tensor", _as_it_is)
"""What a block under `no_grad` or inference mode made is used outside of it: autograd takes it as a constant."""

WRITTEN = define("written_without_grad(Tensor x) -> Tensor", _as_it_is)
"""What was overwritten in such a block is used outside: autograd goes on as if it had never been written."""

FUNCTION = define("custom_function(Tensor[] x, str name) -> Tensor", lambda x, name: x[0].clone())
"""What a custom autograd function returned whose backward pass is not the derivative of its forward pass."""


OVERLAID = define(
    "overlaid(Tensor x, Tensor part, Tensor index) -> Tensor",
    lambda x, part, index: torch.where(index >= 0, part.reshape(-1)[index.clamp(min=0)], x),
)
"""No barrier: a tensor some samples of which were written through another tensor, and which of that they are; -1: none."""

STALE = define("written_through_a_view(Tensor x, str where, str reader) -> Tensor", lambda x, where, reader: x.clone())
"""What lies in memory that was written through another tensor: which values the image reached can no longer be told."""


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
            "can no longer be told. Write the result to a new tensor (torch.cat, torch.where, clone()) instead, or project a "
            "place before it"
        )
    if step.operation is not FUNCTION:
        return None
    return (
        f"{step.place} runs the torch.autograd.Function {step.args[1]}, whose backward pass is not the derivative of its "
        "forward pass on this image, so that its operations do not tell what goes back. method='gradient' calls it; else "
        "replace it by its plain operations, or project a place before it"
    )
