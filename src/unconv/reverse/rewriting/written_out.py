"""Activations that a network writes out by hand, told by their names.

`x * sigmoid(x)` is SiLU, whoever wrote it, and a method asks what a function is, not how it is spelled. So the tape is
searched for values that are a function of one earlier value, sample by sample. What that function is, is found by
running it: a named activation takes its place only where it gives the same values and slopes, first at a row of probes
and then at the values that were recorded. The formula's own steps stay on the tape, out of the way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._pytree import tree_leaves, tree_map

from unconv.reverse.rewriting.activations import PROBES, Activation, activations, is_same, looks_rectified
from unconv.reverse.rules.linear import factors
from unconv.reverse.rules.norm import SCALED
from unconv.reverse.rules.pointwise import RELU
from unconv.reverse.rules.table import KEEPERS, ROLES, is_rectifier, point
from unconv.reverse.tape.step import Before, Step, Tape, Value

aten = torch.ops.aten

_UNFIT = (RuntimeError, IndexError, TypeError, ValueError)  # what a formula raises that is made for one size
_LONGEST = 24  # steps of a formula
_SAMPLES = 8  # along each axis, of the recorded values that a formula is tried on

# Besides torch's pointwise operations, what formulas are made of.
_PARTS = {
    aten._prelu_kernel.default,
    aten._to_copy.default,
    aten.amax.default,
    aten.amin.default,
    aten.index.Tensor,
    aten.index_put.default,
    aten.log_sigmoid_forward.default,
    aten.stack.default,
}
_AFFINE = {
    aten._to_copy.default,
    aten.add.Scalar,
    aten.add.Tensor,
    aten.alias.default,
    aten.clone.default,
    aten.neg.default,
    aten.rsub.Scalar,
    aten.sub.Scalar,
    aten.sub.Tensor,
}
_SCALINGS = {aten.div.Scalar, aten.div.Tensor, aten.mul.Scalar, aten.mul.Tensor}


@dataclass(frozen=True)
class Formula:
    """A value as a function of one earlier value: the steps from `root` to the last of `steps`."""

    root: Value
    steps: tuple[Step, ...]

    def run(self, x: Tensor) -> dict[int, Tensor]:
        """Return every value of the formula with `x` as its root, by index."""
        found = {self.root.index: x}
        for step in self.steps:
            made = step.again([found[value.index] for value in step.inputs])
            results = made if isinstance(made, tuple | list) else (made,)
            found |= {value.index: result for value, result in zip(step.outputs, results, strict=True) if value}
        return found

    def __call__(self, x: Tensor) -> Tensor:
        value = self.steps[-1].outputs[0]
        assert value is not None
        return self.run(x)[value.index]


@dataclass(frozen=True)
class Unknown:
    """What a formula is, where that is not known.

    Args:
        root: the place whose values were not kept, and would tell; "" if it looks like a rectifier and has no name.
    """

    root: str = ""


def is_part(step: Step) -> bool:
    """Whether a step may be part of an activation's formula: it treats each sample alone, or selects samples."""
    return torch.Tag.pointwise in step.operation.tags or step.operation in _PARTS


def written_out(tape: Tape) -> Tape:
    """Return the tape with the activations that were written out as steps with their names.

    Such a step has the place, and the value, of the formula's last one, which it keeps as `written`. Steps that nothing
    else needs are marked as lying `within` it. For some formulas no step keeps what entered: `unkept` names the places
    that another recording has to keep.
    """
    made: dict[int, tuple[int, Step]] = {}
    steps, parts, unnamed, known = list[Step](), dict[int, str](), dict[str, str](), dict[Any, Activation | bool | None]()
    for number, step in enumerate(tape.steps):
        formula, found = _recognised(step, made, tape, known)
        if isinstance(found, Step):
            parts |= {id(part): step.place for part in formula.steps[:-1]}
            step = found
        elif found and not _repeats(formula, unnamed):
            unnamed[step.place] = found.root
        steps.append(step)
        made |= {value.index: (number, step) for value in step.outputs if value}
    if not unnamed and all(step is as_it_was for step, as_it_was in zip(steps, tape.steps, strict=True)):
        return tape
    steps = marked(steps, parts, tape)
    inner = {step.place for step in steps if step.within}
    outer = {place: root for place, root in unnamed.items() if place not in inner}
    unkept = {place: root for place, root in outer.items() if root}
    return replace(tape, steps=tuple(steps), unnamed=tuple(outer), unkept=unkept)


def _repeats(formula: Formula, unnamed: Collection[str]) -> bool:
    """Whether a formula only scales and shifts what has no name already."""
    places = [part.place in unnamed for part in formula.steps[:-1]]
    return any(places) and _is_affine(formula.steps[len(places) - places[::-1].index(True) :])


def writes_out(tape: Tape, operations: Collection[OpOverload]) -> bool:
    """Whether one of some operations is part of an activation that is written out."""
    parts = (step.written or step for step in tape.steps if step.written or step.within)
    return bool(operations) and any(step.operation in operations for step in parts)


def as_written(tape: Tape, norms_alone: bool = False) -> Tape:
    """Return the tape with the formulas that the network computed, for a method that differentiates them.

    Args:
        norms_alone: activations keep their names.
    """
    kept = {step.place for step in tape.steps if norms_alone and step.written and step.operation is not SCALED}
    steps = (step if {step.place, step.within} & kept else _original(step) for step in tape.steps)
    return replace(tape, steps=tuple(steps))


def _original(step: Step) -> Step:
    return replace(step.written or step, within="")


def _recognised(
    step: Step, made: Mapping[int, tuple[int, Step]], tape: Tape, known: dict[Any, Activation | bool | None]
) -> tuple[Formula, Step | Unknown | None]:
    """Return the step by the name of the activation that it ends; what is unknown of one, or None if it ends none."""
    unknown, formula = None, Formula(tape.value, ())
    if ROLES.get(step.operation) in ("rectifier", "move") or not is_part(step) or _changes_nothing(step):
        return formula, None
    for formula in formulas(step, made):
        if _is_affine(formula.steps):
            continue
        key = _signature(formula)
        if key not in known:
            known[key] = _fitted(formula, tape.image.device)
        found = known[key]
        if isinstance(found, Activation):
            named = _named(formula, found, tape)
            if named is not None:
                return formula, named
            root = made.get(formula.root.index)
            unknown = Unknown(root[1].place if root else "")
        elif found and _passes_no_rectifier(formula):
            unknown = unknown or Unknown()
    return formula, unknown


def formulas(
    last: Step, made: Mapping[int, tuple[int, Step]], may_be_part: Callable[[Step], bool] = is_part
) -> Iterator[Formula]:
    """Yield `last` as a function of ever earlier values, as long as there is one that all the ways back meet in."""
    steps, open_values = [last], set(last.inputs)
    out = last.outputs[0]
    while len(steps) <= _LONGEST and out is not None:
        if len(open_values) == 1:
            (root,) = open_values
            if root.shape == out.shape and root.dtype.is_floating_point:
                yield Formula(root, tuple(reversed(steps)))
        # The latest is opened first: whatever else needs a value is later than it, and is in the formula already.
        latest = max((value for value in open_values if value.index in made), key=lambda v: made[v.index][0], default=None)
        if latest is None or not may_be_part(made[latest.index][1]):
            return
        part = made[latest.index][1]
        steps.append(part)
        open_values = (open_values - {value for value in part.outputs if value}) | set(part.inputs)


def _passes_no_rectifier(formula: Formula) -> bool:
    """Whether a signal can go through a formula past all its rectifiers, as the first factor of `x * relu6(x + 3)` does."""
    direct = {formula.root.index}
    for step in formula.steps:
        if not is_rectifier(step.operation) and any(value.index in direct for value in step.inputs):
            direct |= {value.index for value in step.outputs if value}
    last = formula.steps[-1].outputs[0]
    return last is not None and last.index in direct


def _changes_nothing(step: Step) -> bool:
    """Whether a step multiplies by one or adds zero: what it is given has been told already."""
    neutral = 1 if step.operation in _SCALINGS else 0
    if (
        step.operation not in _AFFINE | _SCALINGS
        or len(step.inputs) != 1
        or step.operation in (aten.neg.default, aten.rsub.Scalar)
    ):
        return False
    others = [argument for argument in step.args[:2] if argument is not step.inputs[0]]
    return all(bool(a == neutral) for a in others if not isinstance(a, Tensor) or a.numel() == 1) and not any(
        isinstance(a, Tensor) and a.numel() != 1 for a in others
    )


def _is_affine(steps: Sequence[Step]) -> bool:
    return all(step.operation in _AFFINE or (step.operation in _SCALINGS and len(step.inputs) == 1) for step in steps)


def _signature(formula: Formula) -> Any:
    """What two formulas have in common that are the same function, whatever they are applied to."""
    numbers = {formula.root.index: 0}
    rows = []
    for step in formula.steps:
        leaves = [
            numbers.get(leaf.index) if isinstance(leaf, Value) else _constant(leaf) if isinstance(leaf, Tensor) else repr(leaf)
            for leaf in tree_leaves(step.args)
        ]
        rows.append((step.operation, tuple(leaves)))
        numbers |= {value.index: len(numbers) + k for k, value in enumerate(step.outputs) if value}
    return len(formula.root.shape), tuple(rows)


def _constant(tensor: Tensor) -> Any:
    return tensor.item() if tensor.numel() == 1 else (id(tensor), tensor.shape)


def _fitted(formula: Formula, device: torch.device) -> Activation | bool | None:
    """Return the activation that a formula is at all probes; True if it is none but looks like one; else None."""
    small = compact(formula)
    if small is None:
        return None
    formula, extents = small
    probes = PROBES.to(device).reshape(-1, *[1] * (len(extents) - 1)).expand(-1, *extents[1:]).clone()
    y = _sampled(formula, probes)
    if y is None:
        return None
    found = next((a for a in activations(y) if _agree(formula, a, probes)), None)
    return found or (True if looks_rectified(y) else None)


def compact(formula: Formula) -> tuple[Formula, list[int]] | None:
    """Return the formula with constants that are the same along an axis cut down to one sample of it, and which sizes count.

    None: its constants differ along the first axis, which probes need; or it has no samples.
    """
    rank = len(formula.root.shape)
    if 0 in formula.root.shape:
        return None
    extents = [1] * rank

    def cut(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or leaf.ndim > rank:
            return leaf
        for axis, length in enumerate(leaf.shape):
            first = leaf.narrow(axis, 0, 1)
            if length > 1 and bool((leaf == first).all()):
                leaf = first
        for axis, length in enumerate(leaf.shape, rank - leaf.ndim):
            extents[axis] = max(extents[axis], length)
        return leaf

    steps = tuple(replace(_exact(step), args=tree_map(cut, _exact(step).args)) for step in formula.steps)
    return (replace(formula, steps=steps), extents) if extents[:1] == [1] else None


def _exact(step: Step) -> Step:
    """The step without rounding to another type, which is none of a formula's meaning."""
    rounds = step.operation is aten._to_copy.default and step.inputs[0].dtype.is_floating_point
    return replace(step, operation=aten.clone.default, args=(step.inputs[0], None)) if rounds else step


def _sampled(formula: Formula, x: Tensor) -> Tensor | None:
    """Return the formula's values at `x`, one for each sample; None if it does not give them."""
    try:
        with torch.inference_mode(False), torch.no_grad():
            y = formula(x)
    except _UNFIT:
        return None
    return y if y.shape == x.shape and y.is_floating_point() and bool(torch.isfinite(y).all()) else None


def _agree(formula: Formula, found: Activation, x: Tensor) -> bool:
    """Whether a formula runs on `x` and is the same as an activation there."""
    try:
        with torch.inference_mode(False), torch.no_grad():
            return is_same(formula, found, x)
    except _UNFIT:
        return False


def _named(formula: Formula, found: Activation, tape: Tape) -> Step | None:
    """Return the formula's last step as the activation, if it is the same at the recorded values; they are kept with it."""
    small = compact(formula)
    x = tape.kept.get(formula.root.index)
    if small is not None and x is None:
        x = _entered(formula, *small, found)
    if x is None or small is None:
        return None
    ranges = [slice(None) if extent > 1 else slice(_SAMPLES) for extent in small[1]]
    some = x[tuple(ranges)].to(torch.float64)
    if not _agree(small[0], found, some):
        return None
    last = formula.steps[-1]
    kept = x > 0 if found.operation is RELU else (x,)
    args = found.arguments(formula.root)
    return Step(found.operation, args, (formula.root,), last.outputs[:1], last.place, kept, written=last)


def _recorded(step: Step) -> dict[int, Tensor]:
    """Return what entered a step, by the values' index, where its rule keeps that."""
    keeper = KEEPERS.get(step.operation)
    if not isinstance(keeper, Before) or keeper.keep not in (point, factors) or not isinstance(step.kept, tuple):
        return {}
    return {value.index: entered for value, entered in zip(step.inputs, step.kept, strict=False)}


def _entered(formula: Formula, compact: Formula, extents: Sequence[int], found: Activation) -> Tensor | None:
    """Return what was recorded of the formula's root: itself, or a value that tells as much of it.

    That is one that is a line of it; its positive part, or its sign, where the activation needs no more.
    """
    root = formula.root
    for step in formula.steps:
        if root in step.inputs and (x := _recorded(step).get(root.index)) is not None:
            return x
    # Run the formula at four points: a value that is affine in the root there can be solved for the root.
    line = torch.tensor([0.0, 1.0, -2.0, 5.0], dtype=torch.float64)
    line = line.reshape(-1, *[1] * (len(extents) - 1)).expand(-1, *extents[1:])
    try:
        values = compact.run(line)
    except _UNFIT:
        values = {}
    for index, entered in (pair for step in formula.steps for pair in _recorded(step).items()):
        of_line = values.get(index)
        if of_line is None or of_line.shape != line.shape or entered.shape != root.shape:
            continue
        offset, slope = of_line[:1], of_line[1:2] - of_line[:1]
        if bool((slope != 0).all()) and torch.allclose(of_line, offset + slope * line, rtol=1e-12):
            return ((entered - offset) / slope).to(entered.dtype)
        if (found.by_sign or found.operation is aten.hardtanh.default) and torch.equal(of_line, line.clamp(min=0)):
            return entered
    return _signs(formula) if found.by_sign else None


def _signs(formula: Formula) -> Tensor | None:
    """Return 1 where the root was positive and -1 elsewhere, as a ReLU kept it."""
    for step in formula.steps:
        if step.operation is RELU and step.inputs == (formula.root,) and isinstance(step.kept, Tensor):
            return step.kept.to(formula.root.dtype) * 2 - 1
    return None


def marked(steps: Sequence[Step], parts: Mapping[int, str], tape: Tape) -> list[Step]:
    """Mark the parts of formulas that nothing else needs, as lying within a named step."""
    needed = {value.index for name, value in tape.modules.items() if name.startswith("output")}
    told = list[Step]()
    for step in reversed(steps):
        within = parts.get(id(step), "")
        if within and not any(value.index in needed for value in step.outputs if value):
            told.append(replace(step, within=within))
        else:
            needed |= {value.index for value in step.inputs}
            told.append(step)
    return told[::-1]
