"""Channels last, told as channels first.

Some networks keep their channels as the last axis for a while, and some (TensorFlow's) from end to end:
their tape is full of permutations to and fro. Here such values are written down with their channels first,
so that everything after knows one order: places have maps, windows pass. What changes is the tape alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from unconv.reverse.rules.table import REACHES, local
from unconv.reverse.tape.record import Step, Tape, Value
from unconv.reverse.tape.whole import CHANNEL_NORM, LINEAR

aten = torch.ops.aten

_ORDERS = (aten.permute.default, aten.transpose.int)
_ALONG = {aten.cat.default: 1, aten.mean.dim: 1, aten.sum.dim_IntList: 1, aten.amax.default: 1, aten.amin.default: 1}


def channels_first(tape: Tape) -> Tape:
    """The same tape with every value that had its channels last written with its channels first."""
    turned = _Turned(tape)
    for step in tape.steps:
        turned.take(step)
    kept = {name: _first(tensor) if turned.was_last(name) else tensor for name, tensor in tape.kept.items()}
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

    def was_last(self, name: str) -> bool:
        """Whether the value that the tape kept as `name` had its channels last."""
        places = {step.place: step.outputs[0] for step in self.tape.steps}
        value = places.get(name) or self.tape.modules.get(name)
        return value is not None and value.index in self.known

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
        args = step.args
        if step.operation is aten.native_layer_norm.default and len(args[1]) == 1:
            return self._told(step, CHANNEL_NORM, (args[0], *args[2:]), step.outputs[:1])
        if step.operation is LINEAR and isinstance(args[1], Tensor):
            ones, axes = [1] * (self.rank - 2), self.rank - 2
            kernel = args[1][(..., *[None] * axes)]
            settings = (kernel, args[2], ones, [0] * axes, ones, False, [0] * axes, 1)
            return self._told(step, aten.convolution.default, (args[0], *settings), step.outputs)
        if step.operation in _ALONG:
            position = _ALONG[step.operation]
            return self._told(step, step.operation, _with_axes(args, position, self.rank), step.outputs)
        if step.operation is aten.constant_pad_nd.default:
            pads = [*args[1], *[0] * (2 * self.rank - len(args[1]))]
            turned = [*pads[2 : 2 * self.rank - 2], *pads[:2], *pads[2 * self.rank - 2 :]]
            while turned[-2:] == [0, 0]:
                turned = turned[:-2]
            return self._told(step, step.operation, (args[0], turned, args[2]), step.outputs)
        if REACHES.get(step.operation) is local and step.kind not in ("as_strided", "batch_norm"):
            return self._told(step, step.operation, args, step.outputs)
        return None

    def _told(self, step: Step, operation: Any, args: tuple[Any, ...], outputs: Sequence[Value | None]) -> Step:
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
        made = tuple(outputs)
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


def _with_axes(args: tuple[Any, ...], position: int, rank: int) -> tuple[Any, ...]:
    """Arguments with their axis, or axes, where the channels are second."""
    given = args[position]
    order = [0, *range(2, rank), 1]
    turn: Callable[[int], int] = lambda axis: order[axis % rank]  # noqa: E731
    axes = [turn(axis) for axis in given] if isinstance(given, list | tuple) else None if given is None else turn(given)
    return (*args[:position], axes, *args[position + 1 :])
