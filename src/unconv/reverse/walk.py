"""The walk: the tape from end to start, through a table of rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from unconv.errors import NoRule
from unconv.reverse.methods import Method
from unconv.reverse.tape import Step, Tape, Value
from unconv.reverse.window import Window, join

Watch = Callable[[Value, Window, int], None]
"""Told of each value's whole signal on the way down, and of the bytes in flight at that moment."""


def path(tape: Tape, value: Value) -> list[Step]:
    """The steps between the image and `value`, last first."""
    wanted, steps = {value.index}, []
    for step in reversed(tape.steps):
        if any(output and output.index in wanted for output in step.outputs):
            steps.append(step)
            wanted.update(v.index for v in step.inputs if v.dtype.is_floating_point)
    return steps


def refuse_unknown(steps: Sequence[Step], method: Method) -> None:
    """Stop before the walk if a step has no rule."""
    for step in steps:
        if step.operation not in method:
            raise NoRule(
                f"no reverse rule for {step.operation} (at {step.place}); write one with @rule, see docs/adding-an-operation.md"
            )


def walk(tape: Tape, value: Value, seed: Window, method: Method, watch: Watch | None = None) -> Window | None:
    """What arrives at the image when `seed` starts from `value`; None where nothing leads there."""
    pending: dict[int, Window] = {value.index: seed}
    for step in path(tape, value):
        signals = [pending.pop(output.index, None) if output else None for output in step.outputs]
        if not any(signals):
            continue
        if watch:
            for output, signal in zip(step.outputs, signals, strict=True):
                if output and signal:
                    watch(output, signal, sum(w.values.nbytes for w in (*pending.values(), signal)))
        arrived = method[step.operation](step, *signals)
        parts = [arrived] if isinstance(arrived, Window) else arrived
        for below, part in zip(step.inputs, parts, strict=True):
            if part is not None and below.dtype.is_floating_point:
                pending[below.index] = join(pending.get(below.index), part, below.shape)
    return pending.get(tape.value.index)
