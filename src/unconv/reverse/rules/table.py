"""The tables that the rules fill, and the adjoint that serves every linear operation on the whole map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._pytree import tree_leaves

from unconv.reverse.rules.freezing import Freezer
from unconv.reverse.spans import Sights
from unconv.reverse.tape.step import Before, Keeper, Step, Value, like
from unconv.reverse.window import Reach, Window, join

Rule = Callable[..., Window | Sequence[Window | None]]
"""`rule(step, *signals)`: from the signal at each output, or None, to the one at each input."""

Reaching = Callable[[Step, int], Sights]
"""What a unit sees of the map below, over so many axes; None where it may see everything."""

Preparing = Callable[[Step, torch.dtype], Any]
"""What a rule makes once of a step for all the units of a walk in a type; it finds it as `step.kept`."""

Turning = Callable[[Step, int], tuple[OpOverload, tuple[Any, ...]] | None]
"""The step on a value of so many axes whose channels come second instead of last: operation and arguments."""

Role = Literal["move", "rectifier", "slope", "choice"]
"""What an operation is in a network, where that matters beyond its rule:

- "move": it renames, copies or moves samples and changes none; it makes no place of its own.
- "rectifier": it passes large values on and holds negative ones back; methods differ in what they do there.
- "slope": it acts on each sample alone and is no rectifier; every method takes its slope.
- "choice": it takes the larger, the smaller or one of two.
"""

Gate = Literal["made", "kept"]
"""Whether what comes out may be a gate: "made" here (a sigmoid), or "kept" from what came in (a resizing)."""

_R = TypeVar("_R", bound=Rule)

RULES: dict[OpOverload, Rule] = {}
REACHES: dict[OpOverload, Reaching] = {}
KEEPERS: dict[OpOverload, Keeper | Before] = {}
ROLES: dict[OpOverload, Role] = {}
GATES: dict[OpOverload, Gate] = {}
FREEZERS: dict[OpOverload, Freezer] = {}
TURNERS: dict[OpOverload, Turning] = {}
PREPARERS: dict[Rule, Preparing] = {}
_ONE_CHANNEL: set[Rule] = set()
_MANY_PICTURES: dict[Rule, bool] = {}


def local(_step: Step, axes: int) -> Reach:
    """Each unit sees the sample at its own position and no other."""
    return Reach((1,) * axes, (0,) * axes, (1,) * axes)


def is_rectifier(operation: OpOverload) -> bool:
    """Whether an operation is a ReLU or stands in its place."""
    return ROLES.get(operation) == "rectifier"


def everything(_step: Step, _axes: int) -> Reach | None:
    """A unit may see the whole map."""
    return None


def along(position: int) -> Turning:
    """Return how a step is turned whose argument at `position` is the axis, or the axes, that it works along."""

    def turn(step: Step, axes: int) -> tuple[OpOverload, tuple[Any, ...]]:
        rank, said = axes + 2, step.args[position]
        order = [0, *range(2, rank), 1]
        if isinstance(said, list | tuple):
            said = [order[axis % rank] for axis in said]
        elif said is not None:
            said = order[said % rank]
        return step.operation, (*step.args[:position], said, *step.args[position + 1 :])

    return turn


def rule(
    *operations: OpOverload,
    reach: Reaching = everything,
    keep: Keeper | Before | None = None,
    prepare: Preparing | None = None,
    role: Role | None = None,
    gate: Gate | None = None,
    freeze: Freezer | None = None,
    turn: Turning | None = None,
) -> Callable[[_R], _R]:
    """Make a function the reverse rule of `operations`, in every method that says nothing else.

    All that is known of an operation is said here: no other file has to learn about it. Decorators add up, so that
    operations with one rule can differ in the rest.

    Args:
        operations: aten operations in the form that returns a new tensor; in-place ones are recorded
            as that form too.
        reach: what a unit sees of the map below; `local` for pointwise operations.
        keep: what `step.kept` is to hold of the forward call: from its arguments and results; or, as
            `Before(function)`, from the step and its arguments before it ran and may have overwritten them.
        prepare: from the step and the signal's type to what `step.kept` is to hold during a walk.
        role: what the operation is in a network; see `Role`.
        gate: whether what comes out may be a gate; see `Gate`.
        freeze: what stands for the step in methods that freeze gates and statistics; see `Freezer`.
        turn: the step with its channels second, where it ran with its channels last. Pointwise operations need none.
    """

    tables: list[dict[OpOverload, Any]] = [KEEPERS, ROLES, GATES, FREEZERS, TURNERS]
    entries = (keep, role, gate, freeze, turn)

    def register(function: _R) -> _R:
        for operation in operations:
            RULES[operation] = function
            REACHES[operation] = reach
            for table, entry in zip(tables, entries, strict=True):
                table.pop(operation, None)
                if entry is not None:
                    table[operation] = entry
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


def many_pictures(looks: bool = True) -> Callable[[_R], _R]:
    """Mark a rule that also takes units of several pictures, with a row of what was kept for each of them.

    Args:
        looks: whether the rule looks at what was kept.
    """

    def register(function: _R) -> _R:
        _MANY_PICTURES[function] = looks
        return function

    return register


def takes_many_pictures(function: Rule) -> bool:
    """Whether a rule takes units of several pictures where something was kept of the forward pass."""
    return function in _MANY_PICTURES


def looks_at_kept(function: Rule) -> bool:
    """Whether a rule may look at what was kept of the forward pass."""
    return _MANY_PICTURES.get(function, True)


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
    return [position for position, value in enumerate(step.inputs) if value.flows]


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

    output = step.outputs[index]
    assert output is not None
    units, values = len(signal.values), signal.values
    # Under inference mode, in which walks run, torch 2.6 gives zeros for a derivative, without a word.
    with torch.inference_mode(False):
        values = values.clone() if values.is_inference() else values
        # A linear operation has the same adjoint everywhere, so that zeros serve as the point. One pullback serves all units.
        kinds = [like(step.inputs[k].dtype, dtype) for k in flowing]
        points = [
            torch.zeros(shape(step.inputs[k]), dtype=kind, device=device) if at is None else at[k].to(kind)
            for k, kind in zip(flowing, kinds, strict=True)
        ]
        pullback = torch.func.vjp(forward, *points)[1]
        parts = torch.func.vmap(pullback)(values.reshape(units, *shape(output)))
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
