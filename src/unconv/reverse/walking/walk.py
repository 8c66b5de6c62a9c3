"""The walk: the tape from end to start, through a table of rules.

Many units go together. Where their windows have grown too large, or stand on so different parts of
the map that most of a common window would lie outside it, the batch is cut and each part walks on
alone, one after the other.
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
from unconv.reverse.rules.pool import lie_apart, max_pool
from unconv.reverse.rules.spectral import is_complex, through_complex
from unconv.reverse.tape.precision import full_precision, own_types
from unconv.reverse.tape.step import Step, Tape, Value
from unconv.reverse.walking.cutting import parts
from unconv.reverse.window import Window, join

Watch = Callable[[Value, Window, Tensor], None]
"""Told of each value's whole signal on the way down, and of which units."""


@dataclass
class Route:
    """The way from one value down to the image: its steps, last first, ready to be walked many times.

    Args:
        method: rules by operation.
        dtype: of the signals.
        prepared: what rules have made of steps, by the index of their first value; routes of one tape, method and
            type may share it.
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
                        f"project: the rule for {step.operation} keeps something of the forward pass, which this recording "
                        "was made without. Pass the same Rules to record(image, places, method)."
                    )
                step = replace(step, kept=step.own)
            prepare = None if is_complex(step) else self.method.preparing(step.operation)
            with own_types(self.tape.image.device):
                self.prepared[index] = replace(step, kept=prepare(step, self.dtype)) if prepare else step
        return self.prepared[index]


def _rectified_first(steps: Sequence[Step], method: Rules) -> list[Step]:
    """The same way, with what is unpooled and then rectified rectified before it is unpooled: on fewer samples.

    Allowed where an unpooling only places values and zeros, and nothing else joins on the way.
    """
    uses = Counter(value.index for step in steps for value in step.inputs)
    order = list(steps)
    for at, (pool, relu) in enumerate(pairwise(steps)):
        between, above = pool.inputs[:1] == relu.outputs[:1], pool.outputs[0]
        alone = between and uses[pool.inputs[0].index] == 1
        ours = method[pool.operation] is max_pool and method[relu.operation] is rectify
        if ours and alone and above and lie_apart(pool):
            order[at] = replace(relu, inputs=(above,), outputs=(above,))
            order[at + 1] = replace(pool, inputs=relu.inputs)
    return order


def path(tape: Tape, value: Value) -> list[Step]:
    """The steps between the image and `value`, last first."""
    wanted, steps = {value.index}, []
    for step in reversed(tape.steps):
        if any(output and output.index in wanted for output in step.outputs):
            steps.append(step)
            wanted.update(v.index for v in step.inputs if v.flows)
    return steps


def refuse_unknown(steps: Sequence[Step], method: Rules) -> None:
    """Stop before the walk if a step has no rule."""
    for step in steps:
        refusal = method.refusal(step)
        if refusal:
            raise NoRule(f"{refusal}.")


def walk(tape: Tape, value: Value, seed: Window, method: Rules) -> Window | None:
    """What arrives at the image when `seed` starts from `value`; None where nothing leads there."""
    ((_, arrived),) = walk_apart(Route(tape, value, method, seed.values.dtype), seed, None)
    return arrived


def walk_apart(
    route: Route, seed: Window, room: int | None, watch: Watch | None = None
) -> Iterator[tuple[Tensor, Window | None]]:
    """As `walk`, part by part: which of the seed's units, and what arrives at the image.

    Args:
        room: bytes that the signals of one part may take, if it has more than one unit. None: all stay together.
    """
    steps = route.steps if watch else route.quick_steps
    waiting = [(0, {route.value.index: seed}, torch.arange(len(seed)))]
    while waiting:
        at, pending, units = waiting.pop()
        while at < len(steps):
            step = steps[at]
            cut = parts(step, route.method, pending, room) if room and len(units) > 1 else []
            if len(cut) > 1:
                cuts = [(at, {i: window.units(part) for i, window in pending.items()}, units[part]) for part in cut]
                waiting += reversed(cuts)
                break
            _take(route.method, step, pending, units, watch)
            at += 1
        else:
            arrived = pending.pop(route.tape.value.index, None)
            yield units, arrived.dense(route.tape.value.shape[1]) if arrived else None


def _take(method: Rules, step: Step, pending: dict[int, Window], units: Tensor, watch: Watch | None) -> None:
    """One step: the signals at its outputs become those at its inputs, joined to what is there."""
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
