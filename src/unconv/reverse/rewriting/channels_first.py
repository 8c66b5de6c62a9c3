"""Channels last, told as channels first.

Some networks keep their channels as the last axis for a while, and some (TensorFlow's) from end to end:
their tape is full of permutations to and fro. Here such values are written down with their channels first,
so that everything after knows one order: places have maps, windows pass. What changes is the tape alone.
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
    """Return the same tape with every value that had its channels last written with its channels first."""
    turned = _Turned(tape)
    for step in tape.steps:
        turned.take(step)
    kept = dict(turned.retold(index, tensor) for index, tensor in tape.kept.items())
    told = {**turned.known, **turned.same}
    modules = {name: told.get(value.index, value) for name, value in tape.modules.items()}
    last = frozenset(name for name, value in tape.modules.items() if value.index in turned.known)
    return replace(tape, steps=tuple(turned.steps), modules=modules, kept=kept, turned=last)


class _Turned:
    """The steps so far, and which values are told in another order than they were."""

    def __init__(self, tape: Tape):
        self.tape = tape
        self.rank = tape.image.ndim
        self.steps: list[Step] = []
        self.known: dict[int, Value] = {}  # by index: a value that had its channels last, as it is told now
        self.same: dict[int, Value] = {}  # by index: a value with its channels first again, by its first name
        self.back: dict[int, Value] = {}  # by index: the same value in its own order, where a step needed it
        self.count = 1 + max((v.index for step in tape.steps for v in step.outputs if v), default=0)

    def retold(self, index: int, tensor: Tensor) -> tuple[int, Tensor]:
        """Return under which index the value that the tape kept is known now, and its samples in that order."""
        if index in self.known:
            return self.known[index].index, _first(tensor)
        return (self.same[index].index if index in self.same else index), tensor

    def take(self, step: Step) -> None:
        """Write the step in the new order, or what it needs in the old one before it."""
        step = self._renamed(step)
        last = [value.index in self.known for value in step.inputs]
        order = _order(step) if step.operation in _ORDERS else None
        rank, out = self.rank, step.outputs[0]
        if out is not None and order == (0, *range(2, rank), 1) and not any(last):
            self.known[out.index] = step.inputs[0]
            self._name(step)
        elif out is not None and order == (0, rank - 1, *range(1, rank - 1)) and all(last):
            self.same[out.index] = self.known[step.inputs[0].index]
            self._name(step)
        elif any(last):
            turned = self._turned(step)
            if turned is None:
                self.steps.append(self._in_its_own_order(step))
            else:
                self._write(turned)
        else:
            self.steps.append(step)

    def _renamed(self, step: Step) -> Step:
        """The step with the values that a permutation gave another name by their first one."""
        if not any(value.index in self.same for value in step.inputs):
            return step
        args = tree_map(lambda a: self.same.get(a.index, a) if isinstance(a, Value) else a, step.args)
        return replace(step, args=args, inputs=tuple(self.same.get(value.index, value) for value in step.inputs))

    def _name(self, order: Step) -> None:
        """A layer that ends with a permutation gives its name to what it computed."""
        told = self.known.get(order.inputs[0].index, order.inputs[0])
        for at in range(len(self.steps) - 1, -1, -1):
            if self.steps[at].outputs[:1] == (told,):
                if self.steps[at].place.startswith(f"{order.place}."):
                    self.steps[at] = replace(self.steps[at], place=order.place)
                return

    def _write(self, step: Step) -> None:
        """The step whose outputs are told with their channels first, under a number of their own."""
        outputs = list(step.outputs)
        for at, value in enumerate(outputs):
            if value is not None and len(value.shape) == self.rank:
                shape = (value.shape[0], value.shape[-1], *value.shape[1:-1])
                outputs[at] = self.known[value.index] = replace(value, index=self._fresh(), shape=shape)
        self.steps.append(replace(step, outputs=tuple(outputs)))

    def _fresh(self) -> int:
        self.count += 1
        return self.count - 1

    def _turned(self, step: Step) -> Step | None:
        """The step on values with their channels first; None if it cannot be told so."""
        mixed = [v for v in step.inputs if v.index not in self.known and len(v.shape) == self.rank]
        if any(len(value.shape) != self.rank for value in (*step.inputs, *filter(None, step.outputs[:1]))) or mixed:
            return None
        turn = TURNERS.get(step.operation)
        if turn is not None:
            found = turn(step, self.rank - 2)
            return None if found is None else self._told(step, *found)
        if REACHES.get(step.operation) is local and step.kind not in ("as_strided", "batch_norm"):
            return self._told(step, step.operation, step.args)
        return None

    def _told(self, step: Step, operation: OpOverload, args: tuple[Any, ...]) -> Step:
        """`step` as `operation`, its values and constants with their channels first."""

        def turn(argument: Any) -> Any:
            if isinstance(argument, Value):
                return self.known.get(argument.index, argument)
            if isinstance(argument, Tensor) and operation is step.operation and argument.ndim:
                return _first(argument[(*[None] * (self.rank - argument.ndim), ...)])
            return argument

        pointwise = operation is step.operation
        kept, own = (
            tree_map(lambda x: _first(x) if isinstance(x, Tensor) and x.ndim == self.rank else x, found)
            for found in (step.kept, step.own)
        )
        args = tree_map(turn, args) if pointwise else (turn(args[0]), *args[1:])
        inputs = tuple(self.known.get(value.index, value) for value in step.inputs)
        # An operation may stand for one with more results (a norm and its statistics), of which nothing reads the others.
        made = step.outputs[: len(operation._schema.returns)]
        return replace(step, operation=operation, args=args, inputs=inputs, outputs=made, kept=kept, own=own)

    def _in_its_own_order(self, step: Step) -> Step:
        """The step as it was, on values turned back before it."""

        def old(argument: Any) -> Any:
            return self._turned_back(argument, step.place) if isinstance(argument, Value) else argument

        args = tree_map(old, step.args)
        return replace(step, args=args, inputs=tuple(old(value) for value in step.inputs))

    def _turned_back(self, value: Value, place: str) -> Value:
        told = self.known.get(value.index)
        if told is None:
            return value
        if value.index not in self.back:
            own = replace(value, index=self._fresh())
            axes = [0, *range(2, self.rank), 1]
            self.steps.append(Step(aten.permute.default, (told, axes), (told,), (own,), place))
            self.back[value.index] = own
        return self.back[value.index]


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
