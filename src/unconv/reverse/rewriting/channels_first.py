"""Rewrite a tape with channels last as one with channels first.

Some networks have their channels as the last axis in some layers, and those from TensorFlow have it throughout, so that
their tape is full of permutations. This rewriting puts the channels of such values first. Everything after it then knows
one order: places have maps, and windows pass. Only the tape changes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._pytree import tree_map

from unconv.reverse.rules.table import REACHES, TURNERS, local
from unconv.reverse.tape.step import Step, Tape, Value

aten = torch.ops.aten

_ORDERS = (aten.permute.default, aten.transpose.int)


def channels_first(tape: Tape) -> Tape:
    """Return the same tape with the channels first in every value that had them last."""
    reordering = _Reordering(tape)
    for step in tape.steps:
        reordering.add(step)
    outputs = dict(reordering.reordered_tensor(index, tensor) for index, tensor in tape.kept.items())
    values = {**reordering.first, **reordering.restored}
    modules = {name: values.get(value.index, value) for name, value in tape.modules.items()}
    last = frozenset(name for name, value in tape.modules.items() if value.index in reordering.first)
    return replace(tape, steps=tuple(reordering.steps), modules=modules, kept=outputs, channels_last=last)


class _Reordering:
    """The steps so far, and the values whose axes have another order now."""

    def __init__(self, tape: Tape):
        self.tape = tape
        self.rank = tape.image.ndim
        self.steps: list[Step] = []
        self.first: dict[int, Value] = {}  # by index: a value with channels last -> with channels first
        self.restored: dict[int, Value] = {}  # by index: a value permuted back -> the one before
        self.last: dict[int, Value] = {}  # by index: a value permuted back for a step that needs channels last
        self.count = 1 + max((v.index for step in tape.steps for v in step.outputs if v), default=0)

    def reordered_tensor(self, index: int, tensor: Tensor) -> tuple[int, Tensor]:
        """Return the new index of a value that the tape kept, and its samples in the new order."""
        if index in self.first:
            return self.first[index].index, _first(tensor)
        return (self.restored[index].index if index in self.restored else index), tensor

    def add(self, step: Step) -> None:
        """Add a step in the new order; if it needs the old one, add a permutation before it."""
        # A permutation to channels last, or back, only renames samples: it adds no step, and the value before it is used.
        step = self._renamed(step)
        last = [value.index in self.first for value in step.inputs]
        order = _order(step) if step.operation in _ORDERS else None
        rank, out = self.rank, step.outputs[0]
        if out is not None and order == (0, *range(2, rank), 1) and not any(last):
            self.first[out.index] = step.inputs[0]
            self._name(step)
        elif out is not None and order == (0, rank - 1, *range(1, rank - 1)) and all(last):
            self.restored[out.index] = self.first[step.inputs[0].index]
            self._name(step)
        elif any(last):
            reordered = self._reordered(step)
            if reordered is None:
                self.steps.append(self._in_old_order(step))
            else:
                self._write(reordered)
        else:
            self.steps.append(step)

    def _renamed(self, step: Step) -> Step:
        """Return the step with each value that two permutations left unchanged replaced by the original."""
        if not any(value.index in self.restored for value in step.inputs):
            return step
        args = tree_map(lambda a: self.restored.get(a.index, a) if isinstance(a, Value) else a, step.args)
        return replace(step, args=args, inputs=tuple(self.restored.get(value.index, value) for value in step.inputs))

    def _name(self, order: Step) -> None:
        """Give the name of a layer that ends with a permutation to the step that computed its result."""
        source = self.first.get(order.inputs[0].index, order.inputs[0])
        for index in range(len(self.steps) - 1, -1, -1):
            if self.steps[index].outputs[:1] == (source,):
                if self.steps[index].place.startswith(f"{order.place}."):
                    self.steps[index] = replace(self.steps[index], place=order.place)
                return

    def _write(self, step: Step) -> None:
        """Add a step whose outputs have their channels first, as values with new indices."""
        outputs = list(step.outputs)
        for k, value in enumerate(outputs):
            if value is not None and len(value.shape) == self.rank:
                shape = (value.shape[0], value.shape[-1], *value.shape[1:-1])
                outputs[k] = self.first[value.index] = replace(value, index=self._fresh(), shape=shape)
        self.steps.append(replace(step, outputs=tuple(outputs)))

    def _fresh(self) -> int:
        self.count += 1
        return self.count - 1

    def _reordered(self, step: Step) -> Step | None:
        """Return the step on values with their channels first; None if it has no such form."""
        mixed = [v for v in step.inputs if v.index not in self.first and len(v.shape) == self.rank]
        if any(len(value.shape) != self.rank for value in (*step.inputs, *filter(None, step.outputs[:1]))) or mixed:
            return None
        turn = TURNERS.get(step.operation)
        if turn is not None:
            replacement = turn(step, self.rank - 2)
            return None if replacement is None else self._rewritten(step, *replacement)
        if REACHES.get(step.operation) is local and step.kind not in ("as_strided", "batch_norm"):
            return self._rewritten(step, step.operation, step.args)
        return None

    def _rewritten(self, step: Step, operation: OpOverload, args: tuple[Any, ...]) -> Step:
        """Return `step` as `operation`, its values and constants with their channels first."""

        def turn(argument: Any) -> Any:
            if isinstance(argument, Value):
                return self.first.get(argument.index, argument)
            if isinstance(argument, Tensor) and operation is step.operation and argument.ndim:
                return _first(argument[(*[None] * (self.rank - argument.ndim), ...)])
            return argument

        pointwise = operation is step.operation
        kept, own = (
            tree_map(lambda x: _first(x) if isinstance(x, Tensor) and x.ndim == self.rank else x, tree)
            for tree in (step.kept, step.own)
        )
        args = tree_map(turn, args) if pointwise else (turn(args[0]), *args[1:])
        inputs = tuple(self.first.get(value.index, value) for value in step.inputs)
        # The new operation may have fewer results than the old one (a norm and its statistics); nothing reads the others.
        outputs = step.outputs[: len(operation._schema.returns)]
        return replace(step, operation=operation, args=args, inputs=inputs, outputs=outputs, kept=kept, own=own)

    def _in_old_order(self, step: Step) -> Step:
        """Return the step as it was, on values that a permutation before it puts back to channels last."""

        def old(argument: Any) -> Any:
            return self._with_channels_last(argument, step.place) if isinstance(argument, Value) else argument

        args = tree_map(old, step.args)
        return replace(step, args=args, inputs=tuple(old(value) for value in step.inputs))

    def _with_channels_last(self, value: Value, place: str) -> Value:
        first = self.first.get(value.index)
        if first is None:
            return value
        if value.index not in self.last:
            last = replace(value, index=self._fresh())
            axes = [0, *range(2, self.rank), 1]
            self.steps.append(Step(aten.permute.default, (first, axes), (first,), (last,), place))
            self.last[value.index] = last
        return self.last[value.index]


def _order(step: Step) -> tuple[int, ...]:
    rank = len(step.inputs[0].shape)
    if step.operation is aten.permute.default:
        return tuple(axis % rank for axis in step.args[1])
    order = list(range(rank))
    a, b = (axis % rank for axis in step.args[1:])
    order[a], order[b] = order[b], order[a]
    return tuple(order)


def _first(tensor: Tensor) -> Tensor:
    return tensor.movedim(-1, 1)
