"""Freeze a tape: make gates, and the statistics that norms took from the picture, constants.

Like a switch, a gate keeps the value of the forward pass: the step becomes a product with a constant. A norm that takes its
statistics from the picture becomes a product with its scale. Exact backpropagation freezes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from torch._ops import OpOverload

from unconv.errors import NoSuchLayer, nearest
from unconv.reverse.rules.freezing import Freezing, Kind, Origin
from unconv.reverse.rules.gate import origin
from unconv.reverse.rules.table import FREEZERS
from unconv.reverse.tape.step import Step, Tape, Value


@dataclass(frozen=True)
class Frozen:
    """A tape whose gates and statistics are constants.

    Args:
        gates: the places of products with one frozen factor.
        norms: the places of norms whose statistics are frozen.
        skipped: the places of local response norms that signals pass as if they were not there.
    """

    tape: Tape
    gates: tuple[str, ...] = ()
    norms: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Words:
    """The words for one kind of frozen step: its rule, its heading, and its note in the singular and the plural."""

    rule: str
    heading: str
    name: str
    one: str
    many: str


WORDS: dict[Kind, Words] = {
    "gates": Words(
        "A gate is frozen at its recorded value and multiplies the signal.",
        "gates, at their recorded value",
        "gate",
        "frozen at its recorded value",
        "frozen at their recorded values",
    ),
    "norms": Words(
        "The norm is frozen at the scale that it took from the picture.",
        "norms that take their statistics from the picture, at their scale",
        "norm",
        "frozen at the scale it took from the picture",
        "frozen at the scale they took from the picture",
    ),
    "skipped": Words(
        "Skipped, as in the paper.",
        "local response norms, skipped as in the paper",
        "local response norm",
        "skipped, as in the paper",
        "skipped, as in the paper",
    ),
}


def freeze(tape: Tape, skip: bool = True, own: Collection[OpOverload] = (), gates: Collection[str] = ()) -> Frozen:
    """Return the tape with its gates and statistics frozen; a product in which neither factor is a gate stays as it is.

    Args:
        skip: skip local response norms, as in the paper; otherwise their divisor is frozen.
        own: operations that stay as they are, because the user has rules for them.
        gates: names of places or modules, else kinds of operations, that the user declares gates.

    Raises:
        NoSuchLayer: no place, module or operation has such a name.
    """
    # In the order of the tape, as whether a factor is a gate follows from the steps before it. A freezer may replace one step
    # by several, whose values between need indices that no other value has.
    fresh = 1 + max((output.index for step in tape.steps for output in step.outputs if output), default=0)
    origins: dict[int, Origin | None] = {}
    user_gates = _gates_of_user(tape, gates)
    steps: list[Step] = []
    places: dict[Kind, list[str]] = {"gates": [], "norms": [], "skipped": []}
    for step in tape.steps:
        freezer = None if step.operation in own else FREEZERS.get(step.operation)
        replacement = freezer.rewrite(step, Freezing(origins, skip, fresh)) if freezer else None
        if replacement is None:
            steps.append(step)
        else:
            kind, rewritten = replacement
            if not step.within:
                places[kind].append(step.place)
            steps += rewritten
            fresh += len(rewritten) - 1
        from_history = origin(step, origins)
        origins |= {value.index: "said" if value.index in user_gates else from_history for value in step.outputs if value}
    return Frozen(replace(tape, steps=tuple(steps)), *map(tuple, places.values()))


def _gates_of_user(tape: Tape, gates: Collection[str]) -> set[int]:
    """Return the indices of the values that the user declares gates."""
    indices = set[int]()
    for name in gates:
        named: list[Value | None] = [tape.modules.get(name), *(step.outputs[0] for step in tape.steps if step.place == name)]
        values = set(named) - {None} or {step.outputs[0] for step in tape.steps if step.kind == name}
        if not any(values):
            names = dict.fromkeys((*(step.place for step in tape.steps), *filter(None, tape.modules)))
            raise NoSuchLayer(
                f"gates: {name!r} is not a place, module or operation of this network. Nearest: {nearest(name, names)}."
            )
        indices |= {value.index for value in values if value}
    return indices


def frozen_places(frozen: Frozen) -> Iterator[tuple[Kind, tuple[str, ...]]]:
    """Yield each kind of frozen step with its places."""
    yield "gates", frozen.gates
    yield "norms", frozen.norms
    yield "skipped", frozen.skipped


def frozen_words(frozen: Frozen, places: Collection[str]) -> Iterator[str]:
    """Say how many of `places` are frozen, kind by kind."""
    for kind, frozen_here in frozen_places(frozen):
        count, words = sum(place in places for place in frozen_here), WORDS[kind]
        if count:
            yield f"{count} {words.name} {words.one}" if count == 1 else f"{count} {words.name}s {words.many}"
