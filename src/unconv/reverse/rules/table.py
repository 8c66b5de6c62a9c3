"""The tables that the rules fill, and an adjoint by autograd for every linear operation on full maps."""

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
"""From a step and the number of axes to the part of the map below that a unit sees; None where it may see everything."""

Preparing = Callable[[Step, torch.dtype], Any]
"""From a step and the signal's type to what the rule needs for all units of a walk; the rule finds it as `step.kept`."""

Turning = Callable[[Step, int], tuple[OpOverload, tuple[Any, ...]] | None]
"""From a step with its channels last, and the number of axes, to operation and arguments with the channels second."""

Role = Literal["move", "rectifier", "slope", "choice"]
"""The part that an operation plays in a network, where that matters beyond its rule:

- "move": it renames, copies or moves samples and changes none; it is not a place of its own.
- "rectifier": it passes large values and blocks negative ones; the methods differ here.
- "slope": it acts on each sample alone and is no rectifier; every method multiplies by its slope.
- "choice": it returns the larger, the smaller or one of two values.
"""

Gate = Literal["made", "kept"]
"""Why a result may be a gate: the operation makes one ("made": a sigmoid), or keeps one that came in ("kept": a resizing)."""

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
    """Return the reach of units that see the sample at their own position and no other."""
    return Reach((1,) * axes, (0,) * axes, (1,) * axes)


def is_rectifier(operation: OpOverload) -> bool:
    """Whether an operation is a ReLU or another rectifier."""
    return ROLES.get(operation) == "rectifier"


def everything(_step: Step, _axes: int) -> Reach | None:
    """Return None: a unit may see the entire map."""
    return None


def along(position: int) -> Turning:
    """Return the `turn` of a step whose argument at `position` is the axis, or the axes, that it works along."""

    def turn(step: Step, axes: int) -> tuple[OpOverload, tuple[Any, ...]]:
        rank, along = axes + 2, step.args[position]
        order = [0, *range(2, rank), 1]
        if isinstance(along, list | tuple):
            along = [order[axis % rank] for axis in along]
        elif along is not None:
            along = order[along % rank]
        return step.operation, (*step.args[:position], along, *step.args[position + 1 :])

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
    """Register a function as the reverse rule of `operations`, in every method that has no other rule for them.

    Everything that is known about an operation is registered here, so that no other file has to change. Decorators can be
    stacked, so that operations with one rule can differ in the other arguments.

    Args:
        operations: aten operations in the form that returns a new tensor; in-place ones are recorded
            as that form too.
        reach: the part of the map below that a unit sees; `local` for pointwise operations.
        keep: returns what the rule will need as `step.kept`: from the call's arguments and results; or, as
            `Before(function)`, from the step and its arguments before the operation runs, which may overwrite them.
        prepare: from the step and the signal's type to what `step.kept` is during a walk.
        role: the part that the operation plays in a network; see `Role`.
        gate: whether the result may be a gate; see `Gate`.
        freeze: replaces the step in methods that freeze gates and statistics; see `Freezer`.
        turn: rewrites a step that ran with its channels last to channels second. Pointwise operations need none.
    """
    tables: list[dict[OpOverload, Any]] = [KEEPERS, ROLES, GATES, FREEZERS, TURNERS]
    entries = (keep, role, gate, freeze, turn)

    def register(function: _R) -> _R:
        for operation in operations:
            RULES[operation] = function
            REACHES[operation] = reach
            # Registering again replaces all of an operation's entries, so that none of an earlier rule is left over.
            for table, entry in zip(tables, entries, strict=True):
                table.pop(operation, None)
                if entry is not None:
                    table[operation] = entry
        return function if prepare is None else prepared(prepare)(function)

    return register


def prepared(prepare: Preparing) -> Callable[[_R], _R]:
    """Register what a rule computes once per step for all units of a walk."""

    def register(function: _R) -> _R:
        PREPARERS[function] = prepare
        return function

    return register


def one_channel(function: _R) -> _R:
    """Mark a rule that also accepts windows with only one channel of each unit."""
    _ONE_CHANNEL.add(function)
    return function


def takes_one_channel(function: Rule) -> bool:
    """Whether a rule accepts windows with only one channel of each unit; other rules get them with all channels."""
    return function in _ONE_CHANNEL


def many_pictures(looks: bool = True) -> Callable[[_R], _R]:
    """Mark a rule that also accepts units of several pictures, with a row of `step.kept` for each picture.

    Args:
        looks: whether the rule reads `step.kept`.
    """

    def register(function: _R) -> _R:
        _MANY_PICTURES[function] = looks
        return function

    return register


def takes_many_pictures(function: Rule) -> bool:
    """Whether a rule accepts units of several pictures at a step that kept something of the forward pass."""
    return function in _MANY_PICTURES


def looks_at_kept(function: Rule) -> bool:
    """Whether a rule may read what the step kept of the forward pass."""
    return _MANY_PICTURES.get(function, True)


def adjoint(step: Step, *signals: Window | None) -> list[Window | None]:
    """Return the adjoint of a linear operation, by autograd, from the signals at its outputs.

    Windows may pass if the operation leaves all spatial axes alone; otherwise the caller must pass full maps.
    """
    return _backward(step, signals, None)


def point(step: Step, args: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """Return copies of the inputs that depend on the image, as they entered the operation."""
    pairs = zip(tree_leaves(step.args), tree_leaves(args), strict=True)
    return tuple(tensor.detach().clone() for argument, tensor in pairs if isinstance(argument, Value))


def differentiated(step: Step, *signals: Window | None) -> list[Window | None]:
    """Return the derivative of any operation at the `point` it kept, by autograd, on full maps."""
    return _backward(step, full_maps(step, signals), step.kept)


def _backward(step: Step, signals: Sequence[Window | None], at: Sequence[Tensor] | None) -> list[Window | None]:
    totals: list[Window | None] = [None] * len(step.inputs)
    for index, signal in enumerate(signals):
        if signal is None:
            continue
        for position, part in zip(_flowing(step), _pull(step, index, signal, at), strict=True):
            totals[position] = join(totals[position], part, step.inputs[position].shape)
    return totals


def _flowing(step: Step) -> list[int]:
    """Return the positions of the inputs that a signal can reach; masks and indices are left out."""
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
    # Walks run in inference mode, where torch 2.6 silently returns zeros for a derivative.
    with torch.inference_mode(False):
        values = values.clone() if values.is_inference() else values
        # The adjoint of a linear operation does not depend on the point, so zeros will do. One pullback serves all units.
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


def full_maps(step: Step, signals: Sequence[Window | None]) -> list[Window | None]:
    """Return the signals at a step's outputs, each as a full map."""
    pairs = zip(signals, step.outputs, strict=False)
    return [signal.full_map(output.shape) if signal and output else None for signal, output in pairs]


def full_map(step: Step, r: Window) -> Window:
    """Return the signal at a step's first output as a full map."""
    assert step.outputs[0] is not None
    return r.full_map(step.outputs[0].shape)
