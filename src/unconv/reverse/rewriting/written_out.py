"""Recognise activations that a network writes out as formulas.

`x * sigmoid(x)` is SiLU, however it is written, and a method must treat it as one. So this rewriting searches the tape for
values that are a function of one earlier value, sample by sample, and runs that function. A named activation replaces it
only where both have the same values and slopes, first at a list of probes and then at the recorded values. The formula's
own steps stay on the tape, marked as parts of the activation.
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

_FAILURES = (RuntimeError, IndexError, TypeError, ValueError)  # what a formula made for one size raises at another
_LONGEST = 24  # steps of a formula
_SAMPLES = 8  # along each axis: how many of the recorded values a formula is compared at

# Operations that formulas consist of, besides torch's pointwise ones.
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
        values = {self.root.index: x}
        for step in self.steps:
            output = step.again([values[value.index] for value in step.inputs])
            results = output if isinstance(output, tuple | list) else (output,)
            values |= {value.index: result for value, result in zip(step.outputs, results, strict=True) if value}
        return values

    def __call__(self, x: Tensor) -> Tensor:
        value = self.steps[-1].outputs[0]
        assert value is not None
        return self.run(x)[value.index]


@dataclass(frozen=True)
class Unknown:
    """A formula that has no name.

    Args:
        root: the place whose values would identify it, had the tape kept them; "" if it looks like a rectifier but is none
            that we know.
    """

    root: str = ""


def is_part(step: Step) -> bool:
    """Whether a step may be part of an activation's formula: it acts on each sample alone, or selects samples."""
    return torch.Tag.pointwise in step.operation.tags or step.operation in _PARTS


def written_out(tape: Tape) -> Tape:
    """Return the tape with each activation that was written out as one step.

    That step has the place and the value of the formula's last step, which it keeps as `written`. Steps that only the formula
    needs are marked as lying `within` it. For some formulas no step keeps the input; `unkept` names the places whose outputs
    another recording has to keep.
    """
    # One pass in the order of the tape: a formula may contain activations that were recognised before it.
    producers: dict[int, tuple[int, Step]] = {}
    steps, parts, unnamed, cache = list[Step](), dict[int, str](), dict[str, str](), dict[Any, Activation | bool | None]()
    for number, step in enumerate(tape.steps):
        formula, result = _recognise(step, producers, tape, cache)
        if isinstance(result, Step):
            parts |= {id(part): step.place for part in formula.steps[:-1]}
            step = result
        elif result and not _repeats(formula, unnamed):
            unnamed[step.place] = result.root
        steps.append(step)
        producers |= {value.index: (number, step) for value in step.outputs if value}
    if not unnamed and all(step is as_it_was for step, as_it_was in zip(steps, tape.steps, strict=True)):
        return tape
    steps = mark_parts(steps, parts, tape)
    inner = {step.place for step in steps if step.within}
    outer = {place: root for place, root in unnamed.items() if place not in inner}
    unkept = {place: root for place, root in outer.items() if root}
    return replace(tape, steps=tuple(steps), unnamed=tuple(outer), unkept=unkept)


def _repeats(formula: Formula, unnamed: Collection[str]) -> bool:
    """Whether a formula only scales and shifts a value that is in `unnamed` already."""
    places = [part.place in unnamed for part in formula.steps[:-1]]
    return any(places) and _is_affine(formula.steps[len(places) - places[::-1].index(True) :])


def writes_out(tape: Tape, operations: Collection[OpOverload]) -> bool:
    """Whether one of these operations is part of an activation that is written out."""
    parts = (step.written or step for step in tape.steps if step.written or step.within)
    return bool(operations) and any(step.operation in operations for step in parts)


def as_written(tape: Tape, norms_alone: bool = False) -> Tape:
    """Return the tape with the formulas that the network computed, for a method that differentiates them.

    Args:
        norms_alone: activations keep their names.
    """
    activations = {step.place for step in tape.steps if norms_alone and step.written and step.operation is not SCALED}
    steps = (step if {step.place, step.within} & activations else _original(step) for step in tape.steps)
    return replace(tape, steps=tuple(steps))


def _original(step: Step) -> Step:
    return replace(step.written or step, within="")


def _recognise(
    step: Step, producers: Mapping[int, tuple[int, Step]], tape: Tape, cache: dict[Any, Activation | bool | None]
) -> tuple[Formula, Step | Unknown | None]:
    """Return a formula that the step ends, and the step as an activation; or `Unknown`; or None if it ends no activation."""
    # Shorter formulas come first. A network repeats its activations, so each distinct formula is compared once (`cache`).
    unknown, formula = None, Formula(tape.value, ())
    if ROLES.get(step.operation) in ("rectifier", "move") or not is_part(step) or _is_identity(step):
        return formula, None
    for formula in formulas(step, producers):
        if _is_affine(formula.steps):
            continue
        key = _signature(formula)
        if key not in cache:
            cache[key] = _activation_of(formula, tape.image.device)
        match = cache[key]
        if isinstance(match, Activation):
            activation = _as_activation(formula, match, tape)
            if activation is not None:
                return formula, activation
            root = producers.get(formula.root.index)
            unknown = Unknown(root[1].place if root else "")
        elif match and _passes_no_rectifier(formula):
            unknown = unknown or Unknown()
    return formula, unknown


def formulas(
    last: Step, producers: Mapping[int, tuple[int, Step]], may_be_part: Callable[[Step], bool] = is_part
) -> Iterator[Formula]:
    """Yield `last` as a function of one earlier value, for each value that all paths back from it pass, the latest first."""
    steps, open_values = [last], set(last.inputs)
    out = last.outputs[0]
    while len(steps) <= _LONGEST and out is not None:
        if len(open_values) == 1:
            (root,) = open_values
            if root.shape == out.shape and root.dtype.is_floating_point:
                yield Formula(root, tuple(reversed(steps)))
        # Expand the latest value first: every step that needs it comes later, so it is in the formula already.
        expandable = [value for value in open_values if value.index in producers]
        latest = max(expandable, key=lambda value: producers[value.index][0], default=None)
        if latest is None or not may_be_part(producers[latest.index][1]):
            return
        part = producers[latest.index][1]
        steps.append(part)
        open_values = (open_values - {value for value in part.outputs if value}) | set(part.inputs)


def _passes_no_rectifier(formula: Formula) -> bool:
    """Whether a signal can pass through a formula without meeting a rectifier, as in the first factor of `x * relu6(x + 3)`."""
    direct = {formula.root.index}
    for step in formula.steps:
        if not is_rectifier(step.operation) and any(value.index in direct for value in step.inputs):
            direct |= {value.index for value in step.outputs if value}
    last = formula.steps[-1].outputs[0]
    return last is not None and last.index in direct


def _is_identity(step: Step) -> bool:
    """Whether a step multiplies by one or adds zero; its input has been searched already."""
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
    """Return a key that is equal for formulas that compute the same function, whatever they are applied to."""
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


def _activation_of(formula: Formula, device: torch.device) -> Activation | bool | None:
    """Return the activation that agrees with a formula at all probes; True if none does but it looks rectified; else None."""
    small = compact(formula)
    if small is None:
        return None
    formula, extents = small
    probes = PROBES.to(device).reshape(-1, *[1] * (len(extents) - 1)).expand(-1, *extents[1:]).clone()
    y = _sampled(formula, probes)
    if y is None:
        return None
    activation = next((a for a in activations(y) if _agree(formula, a, probes)), None)
    return activation or (True if looks_rectified(y) else None)


def compact(formula: Formula) -> tuple[Formula, list[int]] | None:
    """Return the formula with each constant cut to one sample along axes where it is the same, and the sizes that remain.

    None: its constants differ along the first axis, which the probes need; or it has no samples.
    """
    # The formula then runs at the probes once for each sample where its constants differ: mostly once for each channel.
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
    """Return the step without rounding to another type, which is not part of the formula's meaning."""
    rounds = step.operation is aten._to_copy.default and step.inputs[0].dtype.is_floating_point
    return replace(step, operation=aten.clone.default, args=(step.inputs[0], None)) if rounds else step


def _sampled(formula: Formula, x: Tensor) -> Tensor | None:
    """Return the formula's values at `x`, one for each sample; None if it fails or they are not finite."""
    try:
        with torch.inference_mode(False), torch.no_grad():
            y = formula(x)
    except _FAILURES:
        return None
    return y if y.shape == x.shape and y.is_floating_point() and bool(torch.isfinite(y).all()) else None


def _agree(formula: Formula, activation: Activation, x: Tensor) -> bool:
    """Whether a formula runs on `x` and equals an activation there."""
    try:
        with torch.inference_mode(False), torch.no_grad():
            return is_same(formula, activation, x)
    except _FAILURES:
        return False


def _as_activation(formula: Formula, activation: Activation, tape: Tape) -> Step | None:
    """Return the formula's last step as the activation, if they agree at the recorded values, which the step then keeps."""
    small = compact(formula)
    x = tape.kept.get(formula.root.index)
    if small is not None and x is None:
        x = _root_samples(formula, *small, activation)
    if x is None or small is None:
        return None
    ranges = [slice(None) if extent > 1 else slice(_SAMPLES) for extent in small[1]]
    sample = x[tuple(ranges)].to(torch.float64)
    if not _agree(small[0], activation, sample):
        return None
    last = formula.steps[-1]
    kept = x > 0 if activation.operation is RELU else (x,)
    args = activation.arguments(formula.root)
    return Step(activation.operation, args, (formula.root,), last.outputs[:1], last.place, kept, written=last)


def _recorded(step: Step) -> dict[int, Tensor]:
    """Return the recorded inputs of a step, by the index of their value, if its rule keeps them."""
    keeper = KEEPERS.get(step.operation)
    if not isinstance(keeper, Before) or keeper.keep not in (point, factors) or not isinstance(step.kept, tuple):
        return {}
    return {value.index: tensor for value, tensor in zip(step.inputs, step.kept, strict=False)}


def _root_samples(formula: Formula, compact: Formula, extents: Sequence[int], activation: Activation) -> Tensor | None:
    """Return the recorded samples of the formula's root, or as much of them as the activation needs.

    They come from a step that kept the root or an affine function of it. For some activations the positive part, or the sign,
    is enough.
    """
    root = formula.root
    for step in formula.steps:
        if root in step.inputs and (x := _recorded(step).get(root.index)) is not None:
            return x
    # Run the formula at four points: a value that is affine in the root at all of them can be solved for the root.
    probes = torch.tensor([0.0, 1.0, -2.0, 5.0], dtype=torch.float64)
    probes = probes.reshape(-1, *[1] * (len(extents) - 1)).expand(-1, *extents[1:])
    try:
        values = compact.run(probes)
    except _FAILURES:
        values = {}
    for index, recorded in (pair for step in formula.steps for pair in _recorded(step).items()):
        response = values.get(index)
        if response is None or response.shape != probes.shape or recorded.shape != root.shape:
            continue
        offset, slope = response[:1], response[1:2] - response[:1]
        if bool((slope != 0).all()) and torch.allclose(response, offset + slope * probes, rtol=1e-12):
            return ((recorded - offset) / slope).to(recorded.dtype)
        if (activation.by_sign or activation.operation is aten.hardtanh.default) and torch.equal(response, probes.clamp(min=0)):
            return recorded
    return _signs(formula) if activation.by_sign else None


def _signs(formula: Formula) -> Tensor | None:
    """Return 1 where the root was positive and -1 elsewhere, if a ReLU kept that."""
    for step in formula.steps:
        if step.operation is RELU and step.inputs == (formula.root,) and isinstance(step.kept, Tensor):
            return step.kept.to(formula.root.dtype) * 2 - 1
    return None


def mark_parts(steps: Sequence[Step], parts: Mapping[int, str], tape: Tape) -> list[Step]:
    """Return the steps, those parts of formulas that nothing else needs marked as lying within the formula's step."""
    needed = {value.index for name, value in tape.modules.items() if name.startswith("output")}
    reversed_steps = list[Step]()
    for step in reversed(steps):
        within = parts.get(id(step), "")
        if within and not any(value.index in needed for value in step.outputs if value):
            reversed_steps.append(replace(step, within=within))
        else:
            needed |= {value.index for value in step.inputs}
            reversed_steps.append(step)
    return reversed_steps[::-1]
