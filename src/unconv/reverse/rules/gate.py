"""Gates: choose the factor of a product of two signals to be frozen, and freeze operations with a gate inside.

A gate is a factor that says how much of a signal passes: a squeeze-excitation, a mask of attention, a divisor. Like a switch,
it keeps the value of the forward pass. Its history shows which factor is one: a sigmoid, softmax or comparison makes a gate,
and operations that only scale, shift, resize, pool, move or combine gates leave it one.
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
    """Return the freezer of a product whose factors are the arguments at `positions`.

    Args:
        divisor: for a quotient, the argument that is always the gate.
        matrix: whether it is a product of matrices, in which one factor mixes the samples of the other.
    """

    def rewrite(step: Step, freezing: Freezing) -> tuple[Kind, list[Step]] | None:
        factors = _factors(step, positions)
        if len(factors) != 2:  # one factor is a constant already: a weight, or a gate that a layer made from it
            return None
        gate = divisor if divisor is not None else _gate(step, factors, positions, freezing.origins)
        return None if gate is None else ("gates", [with_constant(step, gate)])

    def refusal(step: Step) -> str | None:
        if len(_factors(step, positions)) < 2:
            return None
        if not matrix:
            return (
                f"{step.place} multiplies two signals and neither is a gate, so that it is not clear which one to freeze; "
                "name it with Rules(gates=[PLACE]); method='gradient' differentiates both"
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

    The factor with the higher rank is the gate. From the highest: one that the user names; a mask; the result of a sigmoid or
    softmax, higher if it is broadcast to the result; another factor that is broadcast, as in squeeze-excitation; the output
    of an activation.
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
    """Return what a step's outputs are as factors, from what its inputs were."""
    gate, out = GATES.get(step.operation), step.outputs[0]
    if gate == "made" or (out is not None and not out.flows):
        return "gate"
    before = {origins.get(value.index) for value in step.inputs}
    if gate == "kept" or ROLES.get(step.operation) == "move":
        if before and before <= {"gate", "said"}:
            return max(before, key=lambda one: one == "said")
        # Features that were pooled or resized after their rectifier are features; they do not gate another signal.
        moves = ROLES.get(step.operation) == "move" or step.operation in _SCALES
        if before == {"activation"} and len(step.inputs) == 1 and moves:
            return "activation"
    return "activation" if ROLES.get(step.operation) in ("rectifier", "slope") else None


def _halves(step: Step, freezing: Freezing) -> tuple[Kind, list[Step]]:
    """Return a gated linear unit as its first half times the recorded sigmoid of its second half."""
    x, axis = step.args
    first, second = step.kept[0].chunk(2, axis)
    half = Value(freezing.fresh, tuple(first.shape), x.dtype)
    first_half = Step(aten.slice.Tensor, (x, axis % len(x.shape), 0, first.shape[axis], 1), (x,), (half,), step.place)
    return "gates", [first_half, Step(aten.mul.Tensor, (half, second.sigmoid()), (half,), step.outputs, step.place)]


@rule(aten.glu.default, keep=Before(point), freeze=Freezer(_halves))
def gated_linear_unit(step: Step, r: Window) -> list[Window | None]:
    """Take the derivative at the recorded point."""
    return differentiated(step, r)
