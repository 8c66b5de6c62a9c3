"""The tables that the rules fill, and the adjoint that serves every linear operation on the whole map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._pytree import tree_leaves

from unconv.reverse.tape.record import Before, Keeper, Step, Value
from unconv.reverse.window import Reach, Window, join

Rule = Callable[..., Window | Sequence[Window | None]]
"""`rule(step, *signals)`: from the signal at each output, or None, to the one at each input."""

Reaching = Callable[[Step, int], Reach | None]
"""What a unit sees of the map below, over so many axes; None where it may see everything."""

_R = TypeVar("_R", bound=Rule)


Preparing = Callable[[Step, torch.dtype], Any]
"""What a rule makes once of a step for all the units of a walk in a type; it finds it as `step.kept`."""

RULES: dict[OpOverload, Rule] = {}
REACHES: dict[OpOverload, Reaching] = {}
KEEPERS: dict[OpOverload, Keeper | Before] = {}
PREPARERS: dict[Rule, Preparing] = {}
_ONE_CHANNEL: set[Rule] = set()


def local(_step: Step, axes: int) -> Reach | None:
    """Each unit sees the sample at its own place and no other."""
    return Reach((1,) * axes, (0,) * axes, (1,) * axes)


def everything(_step: Step, _axes: int) -> Reach | None:
    """A unit may see the whole map."""
    return None


def rule(
    *operations: OpOverload,
    reach: Reaching = everything,
    keep: Keeper | Before | None = None,
    prepare: Preparing | None = None,
) -> Callable[[_R], _R]:
    """Make a function the reverse rule of `operations`, in every method that says nothing else.

    Args:
        operations: aten operations in the form that returns a new tensor; in-place ones are recorded
            as that form too.
        reach: what a unit sees of the map below; `local` for pointwise operations.
        keep: what `step.kept` shall hold of the forward call: from its arguments and results; or, as
            `Before(function)`, from the step and its arguments before it ran and may have overwritten them.
        prepare: from the step and the signal's type to what `step.kept` shall hold during a walk.
    """

    def register(function: _R) -> _R:
        for operation in operations:
            RULES[operation] = function
            REACHES[operation] = reach
            KEEPERS.pop(operation, None)
            if keep:
                KEEPERS[operation] = keep
        return function if prepare is None else prepared(prepare)(function)

    return register


def prepared(prepare: Preparing) -> Callable[[_R], _R]:
    """Say what a rule makes once of a step for all the units of a walk."""

    def register(function: _R) -> _R:
        PREPARERS[function] = prepare
        return function

    return register


def one_channel(function: _R) -> _R:
    """Mark a rule that also takes windows that hold one channel of each unit."""
    _ONE_CHANNEL.add(function)
    return function


def takes_one_channel(function: Rule) -> bool:
    """Whether a rule takes windows that hold one channel of each unit; for others they are filled up."""
    return function in _ONE_CHANNEL


def adjoint(step: Step, *signals: Window | None) -> list[Window | None]:
    """The adjoint of a linear operation, by autograd, from the signals at its outputs.

    Windows are kept when no spatial axis is touched; the caller makes them whole otherwise.
    """
    return _backward(step, signals, None)


def point(step: Step, args: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """A copy of the tensors that the image had become where they entered the operation."""
    pairs = zip(tree_leaves(step.args), tree_leaves(args), strict=True)
    return tuple(given.detach().clone() for named, given in pairs if isinstance(named, Value))


def differentiated(step: Step, *signals: Window | None) -> list[Window | None]:
    """The derivative of any operation at the `point` it kept, by autograd, on whole maps."""
    return _backward(step, on_whole(step, signals), step.kept)


def _backward(step: Step, signals: Sequence[Window | None], at: Sequence[Tensor] | None) -> list[Window | None]:
    totals: list[Window | None] = [None] * len(step.inputs)
    for index, signal in enumerate(signals):
        if signal is None:
            continue
        for position, part in zip(_flowing(step), _pull(step, index, signal, at), strict=True):
            totals[position] = join(totals[position], part, step.inputs[position].shape)
    return totals


def _flowing(step: Step) -> list[int]:
    """Which of the step's inputs a signal can reach: not masks and indices."""
    return [position for position, value in enumerate(step.inputs) if value.dtype.is_floating_point]


def _pull(step: Step, index: int, signal: Window, at: Sequence[Tensor] | None) -> list[Window]:
    lengths = signal.lengths
    dtype, device = signal.values.dtype, signal.values.device
    flowing = _flowing(step)

    def shape(value: Value) -> tuple[int, ...]:
        return (*value.shape[: len(value.shape) - len(lengths)], *lengths)

    def forward(*inputs: Tensor) -> Tensor:
        filled = dict(zip(flowing, inputs, strict=True))
        result = step.again([filled[k] if k in filled else at[k] for k in range(len(step.inputs))] if at else inputs)
        output: Tensor = result[index] if isinstance(result, tuple | list) else result
        return output

    points = [
        torch.zeros(shape(step.inputs[k]), dtype=dtype, device=device) if at is None else at[k].to(dtype) for k in flowing
    ]
    output = step.outputs[index]
    assert output is not None
    pullback = torch.func.vjp(forward, *points)[1]
    units = len(signal.values)
    parts = torch.func.vmap(pullback)(signal.values.reshape(units, *shape(output)))
    below = [step.inputs[k] for k in flowing]
    batched = [part[:, 0] if value.shape[:1] == (1,) else part for part, value in zip(parts, below, strict=True)]
    return [Window(part, signal.corner) for part in batched]


def on_whole(step: Step, signals: Sequence[Window | None]) -> list[Window | None]:
    """The signals at a step's first outputs, each on its whole value."""
    pairs = zip(signals, step.outputs, strict=False)
    return [signal.whole(output.shape) if signal and output else None for signal, output in pairs]


def on_whole_first(step: Step, r: Window) -> Window:
    """The signal at a step's first output, on its whole value."""
    assert step.outputs[0] is not None
    return r.whole(step.outputs[0].shape)
