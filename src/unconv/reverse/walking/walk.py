"""The walk: run the tape backwards, through a table of rules.

Many units go together in a batch. If their windows grow too large, or lie so far apart that most of a common window would
be off the map, the batch is split, and the parts continue one after the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from torch import Tensor

from unconv.errors import DtypeError, NoRule, UnconvError
from unconv.reverse.methods import Rules
from unconv.reverse.rules import takes_one_channel
from unconv.reverse.rules.pointwise import rectify
from unconv.reverse.rules.pool import max_pool, windows_are_disjoint
from unconv.reverse.rules.spectral import is_complex, through_complex
from unconv.reverse.tape.precision import full_precision, own_types
from unconv.reverse.tape.step import Step, Tape, Value
from unconv.reverse.walking.cutting import parts
from unconv.reverse.window import Window, join

Watch = Callable[[Value, Window, Tensor], None]
"""Called with each value on the way down, its signal with all channels, and the units that it belongs to."""


@dataclass
class Route:
    """The steps from one value down to the image, last first, prepared for many walks.

    Args:
        method: rules by operation.
        dtype: of the signals.
        prepared: steps with what their rules computed once, by the index of their first value. Routes of one tape, method
            and type may share it.
    """

    tape: Tape
    value: Value
    method: Rules
    dtype: torch.dtype
    prepared: dict[int, Step] = field(default_factory=dict)

    def __post_init__(self) -> None:
        steps = path(self.tape, self.value)
        refuse_unknown(steps, self.method)
        if self.dtype.itemsize < 4 and any(map(is_complex, steps)):
            raise DtypeError(
                f"project: dtype is {self.dtype}, but the way back passes complex numbers (a Fourier transform), and there are "
                "none in half precision. Leave dtype out."
            )
        self.steps = [self._prepared(step) for step in steps]
        self.quick_steps = _rectified_first(self.steps, self.method)

    def _prepared(self, step: Step) -> Step:
        index = next(output.index for output in step.outputs if output)
        if index not in self.prepared:
            keeper = self.method.keepers.get(step.operation)
            if keeper is not None:
                if self.tape.own.get(step.operation) is not keeper:
                    raise UnconvError(
                        f"project: the rule for {step.operation} needs something of the forward pass, which this recording "
                        "did not keep. Pass the same Rules to record(image, places, method)."
                    )
                step = replace(step, kept=step.own)
            prepare = None if is_complex(step) else self.method.preparing(step.operation)
            with own_types(self.tape.image.device):
                self.prepared[index] = replace(step, kept=prepare(step, self.dtype)) if prepare else step
        return self.prepared[index]


def _rectified_first(steps: Sequence[Step], method: Rules) -> list[Step]:
    """Return the steps with each rectifier that follows an unpooling moved before it, where it has fewer samples to rectify.

    The result is the same if the unpooling only copies values and adds zeros, and no other signal joins between the two.
    """
    uses = Counter(value.index for step in steps for value in step.inputs)
    order = list(steps)
    for index, (pool, relu) in enumerate(pairwise(steps)):
        between, above = pool.inputs[:1] == relu.outputs[:1], pool.outputs[0]
        alone = between and uses[pool.inputs[0].index] == 1
        swappable = method[pool.operation] is max_pool and method[relu.operation] is rectify
        if swappable and alone and above and windows_are_disjoint(pool):
            order[index] = replace(relu, inputs=(above,), outputs=(above,))
            order[index + 1] = replace(pool, inputs=relu.inputs)
    return order


def path(tape: Tape, value: Value) -> list[Step]:
    """Return the steps between the image and `value`, last first."""
    on_path, steps = {value.index}, []
    for step in reversed(tape.steps):
        if any(output and output.index in on_path for output in step.outputs):
            steps.append(step)
            on_path.update(v.index for v in step.inputs if v.flows)
    return steps


def refuse_unknown(steps: Sequence[Step], method: Rules) -> None:
    """Stop before the walk if a step has no rule."""
    for step in steps:
        refusal = method.refusal(step)
        if refusal:
            raise NoRule(f"{refusal}.")


def walk(tape: Tape, value: Value, seed: Window, method: Rules) -> Window | None:
    """Return the signal that arrives at the image when `seed` starts from `value`; None if no path leads there."""
    ((_, arrived),) = walk_apart(Route(tape, value, method, seed.values.dtype), seed, None)
    return arrived


def walk_apart(
    route: Route, seed: Window, room: int | None, watch: Watch | None = None
) -> Iterator[tuple[Tensor, Window | None]]:
    """Yield the result of `walk` in parts: the indices of some of the seed's units, and their signals at the image.

    Args:
        room: bytes that the signals of one part may take, if it has more than one unit. None: all stay together.
    """
    # A watcher needs the signal at every value, also between an unpooling and its rectifier, so the steps then keep their
    # order. Parts wait on a stack: one reaches the image before the next one continues.
    steps = route.steps if watch else route.quick_steps
    waiting = [(0, {route.value.index: seed}, torch.arange(len(seed)))]
    while waiting:
        position, pending, units = waiting.pop()
        while position < len(steps):
            step = steps[position]
            batches = parts(step, route.method, pending, room) if room and len(units) > 1 else []
            if len(batches) > 1:
                split = [(position, {i: w.units(part) for i, w in pending.items()}, units[part]) for part in batches]
                waiting += reversed(split)
                break
            _run_step(route.method, step, pending, units, watch)
            position += 1
        else:
            arrived = pending.pop(route.tape.value.index, None)
            yield units, arrived.dense(route.tape.value.shape[1]) if arrived else None


def _run_step(method: Rules, step: Step, pending: dict[int, Window], units: Tensor, watch: Watch | None) -> None:
    """Run one step backwards: replace the signals at its outputs by those at its inputs, added to signals already there."""
    # A signal of one channel stays so only through rules that accept it; watchers and complex numbers need all channels.
    signals = [pending.pop(output.index, None) if output else None for output in step.outputs]
    if not any(signals) or not any(below.flows for below in step.inputs):
        return
    rule, among_complex = method[step.operation], is_complex(step)
    takes_one = takes_one_channel(rule) and not among_complex
    for index, (output, signal) in enumerate(zip(step.outputs, signals, strict=True)):
        if output and signal and signal.channel is not None and (watch or not takes_one):
            signals[index] = signal = signal.dense(output.shape[1])
        if output and signal and watch:
            watch(output, signal, units)
    one = next(signal for signal in signals if signal)
    device = one.values.device
    with full_precision(device), own_types(device):
        arrived = through_complex(step, rule, signals) if among_complex else rule(step, *signals)
    parts = [arrived] if isinstance(arrived, Window) else arrived
    for below, part in zip(step.inputs, parts, strict=True):
        if part is not None and below.flows:
            joined = join(pending.get(below.index), part, below.shape)
            pending[below.index] = joined if one.picture is None else replace(joined, picture=one.picture)
