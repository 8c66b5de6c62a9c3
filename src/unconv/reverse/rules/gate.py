"""Gates: which factor of a product of two signals is frozen, and the operations that hold a gate of their own.

A gate is a factor that tells how much of a signal passes: a squeeze-excitation, a mask of attention, a divisor. Like a
switch, it stays as the forward pass had it. Which factor is one, its history tells: a sigmoid, a softmax or a comparison
makes a gate, and whatever only scales, shifts, resizes, pools, moves or combines gates leaves it one.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import torch

from unconv.reverse.rules.freezing import Freezer, Freezing, Kind, Origin, with_constant
from unconv.reverse.rules.table import GATES, ROLES, differentiated, point, rule
from unconv.reverse.tape.step import Before, Step, Value
from unconv.reverse.window import Window

aten = torch.ops.aten


_SCALES = (aten.add.Tensor, aten.div.Scalar, aten.div.Tensor, aten.mul.Scalar, aten.mul.Tensor)


def product(*positions: int, divisor: int | None = None, matrix: bool = False) -> Freezer:
    """Return how a product is frozen whose factors stand at `positions` of its arguments.

    Args:
        divisor: the argument that is always the gate, if it is a quotient.
        matrix: it multiplies matrices: samples of one factor are mixed by the other.
    """

    def rewrite(step: Step, freezing: Freezing) -> tuple[Kind, list[Step]] | None:
        factors = _factors(step, positions)
        if len(factors) != 2:  # one factor is a constant already: a weight, or a gate that a layer made from it
            return None
        chosen = divisor if divisor is not None else _gate(step, factors, positions, freezing.origins)
        return None if chosen is None else ("gates", [with_constant(step, chosen)])

    def refusal(step: Step) -> str | None:
        if len(_factors(step, positions)) < 2:
            return None
        if not matrix:
            return (
                f"{step.place} multiplies two signals and neither is a gate, so that it is open which one is to be frozen; "
                "say which by Rules(gates=[PLACE]); method='gradient' differentiates both"
            )
        return (
            f"{step.place} is a matrix product of two signals, as in self-attention, which mixes positions by weights that the "
            "picture makes: there are no filters to run backwards; places before it can be projected"
        )

    return Freezer(rewrite, refusal)


def _factors(step: Step, positions: tuple[int, ...]) -> list[Value]:
    """Return the factors that the image reached."""
    return [argument for k in positions if isinstance(argument := step.args[k], Value)]


def _gate(step: Step, factors: list[Value], positions: tuple[int, ...], origins: Mapping[int, Origin | None]) -> int | None:
    """Return which argument is the gate; None if neither is, or both may be.

    In this order: the one that the user says is one; a mask; the one that was made one, by a sigmoid or softmax, where the
    other was not, or is spread less over the result; the one that is spread over the other, as squeeze-excitation does;
    the one that comes out of an activation, where the other does not.
    """
    ranks = [_rank(value, step, origins.get(value.index)) for value in factors]
    return None if ranks[0] == ranks[1] or factors[0] == factors[1] else positions[int(ranks[1] > ranks[0])]


def _rank(value: Value, step: Step, origin: Origin | None) -> int:
    """Return how much a factor looks like a gate."""
    if origin == "said":
        return 6
    if not value.flows:
        return 5
    out = step.outputs[0]
    pointwise = step.operation in (aten.mul.Tensor, aten.addcmul.default)
    spread = out is not None and pointwise and prod(value.shape) < prod(out.shape)
    if origin == "gate" and (pointwise or 1 in value.shape[-2:]):  # else it is an attention between positions
        return 4 if spread else 3
    return 2 if spread else int(origin == "activation" and pointwise)


def origin(step: Step, origins: Mapping[int, Origin | None]) -> Origin | None:
    """Return what a step's outputs are, from what its inputs were."""
    made, out = GATES.get(step.operation), step.outputs[0]
    if made == "made" or (out is not None and not out.flows):
        return "gate"
    found = {origins.get(value.index) for value in step.inputs}
    if made == "kept" or ROLES.get(step.operation) == "move":
        if found and found <= {"gate", "said"}:
            return max(found, key=lambda one: one == "said")
        # Features that were pooled or resized since their rectifier are features, and no gate of something else.
        moves = ROLES.get(step.operation) == "move" or step.operation in _SCALES
        if found == {"activation"} and len(step.inputs) == 1 and moves:
            return "activation"
    return "activation" if ROLES.get(step.operation) in ("rectifier", "slope") else None


def _halves(step: Step, freezing: Freezing) -> tuple[Kind, list[Step]]:
    """Return a gated linear unit as its first half, times what its second half let through."""
    x, axis = step.args
    first, second = step.kept[0].chunk(2, axis)
    half = Value(freezing.fresh, tuple(first.shape), x.dtype)
    cut = Step(aten.slice.Tensor, (x, axis % len(x.shape), 0, first.shape[axis], 1), (x,), (half,), step.place)
    return "gates", [cut, Step(aten.mul.Tensor, (half, second.sigmoid()), (half,), step.outputs, step.place)]


@rule(aten.glu.default, keep=Before(point), freeze=Freezer(_halves))
def gated_linear_unit(step: Step, r: Window) -> list[Window | None]:
    """The derivative where the forward pass was."""
    return differentiated(step, r)
