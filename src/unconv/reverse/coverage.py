"""Whether a network can be run backwards: what occurs, what is frozen, and which laws hold on this very network."""

from __future__ import annotations

import platform
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from unconv.errors import counted, printable
from unconv.reverse.laws import Law, fingerprint, laws, precisions, trial
from unconv.reverse.method_table import Method
from unconv.reverse.methods import Rules, method_named
from unconv.reverse.model import Model, Recording
from unconv.reverse.places import Place, looked_at
from unconv.reverse.rewriting.freeze import WORDS, Frozen, frozen_places
from unconv.reverse.rules.pointwise import RELU
from unconv.reverse.rules.pool import collisions
from unconv.reverse.rules.table import ROLES, is_rectifier
from unconv.reverse.tape.step import Step, Tape
from unconv.version import __version__

_PLACES = 4  # that the laws are tried on
_MOVES = "Samples go back where they came from: views, slices, permutations, copies."
_DONE = {"rectify": "rectified", "gradient": "their slope is taken", "pass": "passed", "error": "refused"}


@dataclass(frozen=True)
class Operation:
    """An operation that occurs: how often, and what its rule does; no rule: what is missing."""

    name: str
    count: int
    rule: str
    places: tuple[str, ...]
    refused: bool = False


@dataclass(frozen=True)
class Pool:
    """A max pool, whether its windows overlap, and which share of its switches point where another does, too."""

    place: str
    overlaps: bool
    collisions: float


@dataclass(frozen=True)
class Coverage:
    """The result of `Network.check`.

    Args:
        about: network, weights, image, method, versions.
        operations: what the image flows through, most frequent first, but those that cannot be reversed before all others.
        rectifiers: of each kind, how many.
        rectified: what happens at them, in words.
        frozen: what is frozen, in words, with its places: gates, statistics of norms.
        pools: the max pools.
        places: how many there are, and how many can be projected.
        tried: the places that the laws were tried on.
        laws: with their errors.
        verdict: all of it in a sentence.
        written: of each kind of rectifier, how many the network writes out by other operations.
        unnamed: places of functions that look like rectifiers, but are none that has a name: they are not rectified.
        preprocess: what is done to pictures, as `Preparation.numbers` lists it.
    """

    about: Mapping[str, str]
    operations: tuple[Operation, ...]
    rectifiers: Mapping[str, int]
    rectified: tuple[str, ...]
    frozen: Mapping[str, tuple[str, ...]]
    pools: tuple[Pool, ...]
    places: tuple[int, int]
    tried: tuple[str, ...]
    laws: tuple[Law, ...]
    verdict: str
    written: Mapping[str, int]
    unnamed: tuple[str, ...]
    preprocess: Mapping[str, Any]

    @property
    def reversible(self) -> bool:
        """Whether every place can be projected and every law holds."""
        return 0 < self.places[0] == self.places[1] and bool(self.laws) and all(law.holds for law in self.laws)

    @property
    def held(self) -> Mapping[str, tuple[str, ...]]:
        """The name of `frozen` before 0.2; it warns."""
        warnings.warn("Coverage: held is now called frozen, and will go. Write frozen.", DeprecationWarning, stacklevel=2)
        return self.frozen

    def numbers(self) -> dict[str, Any]:
        """Return all of it, ready for JSON."""
        rows = asdict(self)
        laws = [{**row, "holds": law.holds} for row, law in zip(rows["laws"], self.laws, strict=True)]
        counts = dict(zip(("all", "projectable"), self.places, strict=True))
        rows["held"] = rows["frozen"]  # the name before 0.2, for programs that read it
        return {**rows["about"], **{k: v for k, v in rows.items() if k != "about"}, "places": counts, "laws": laws} | {
            "reversible": self.reversible
        }

    def text(self) -> str:
        """Return all of it as plain text, to read and to paste."""
        return "\n".join(map(printable, _lines(self)))

    def __str__(self) -> str:
        return self.text()


def _lines(found: Coverage) -> Iterator[str]:
    # The verdict first: who reads on is looking for the reason.
    yield ", ".join(f"{key} {value}" for key, value in found.about.items())
    yield ""
    yield found.verdict
    yield ""
    yield f"pictures: {found.preprocess['words']}"
    yield ""
    yield "operations"
    for row in found.operations:
        mark = "!" if row.refused else " "
        where = f" (at {', '.join(row.places)}{', ..' if row.count > len(row.places) else ''})" if row.refused else ""
        yield f"{mark}{row.count:5d}  {row.name:20s}  {row.rule}{where}"
    yield "rectifiers"
    yield from (f"       {words}" for words in found.rectified or ("none",))
    yield from (f" {count:5d}  {kind}, written out" for kind, count in found.written.items())
    if found.unnamed:
        yield f"!{len(found.unnamed):5d}  that look like rectifiers and are none with a name: {_listed(found.unnamed)}"
    yield "frozen"
    for kind, places in found.frozen.items():
        yield f" {len(places):5d}  {kind}: {_listed(places)}"
    if not found.frozen:
        yield "       nothing"
    yield "max pools"
    for pool in found.pools:
        state = f"windows overlap; {pool.collisions:.0%} of the switches meet another" if pool.overlaps else "windows lie apart"
        yield f"        {pool.place}: {state}"
    if not found.pools:
        yield "       none"
    yield f"laws, tried on {', '.join(found.tried) or 'nothing'}"
    for law in found.laws:
        yield f" {'holds' if law.holds else 'BROKEN':6s} {law.name:20s}  {law.error:.1e} of {law.limit:.0e}  {law.words}"


def _listed(places: Sequence[str]) -> str:
    return ", ".join(places[:3]) + (", .." if len(places) > 3 else "")


def check(model: Model, image: Any = None, method: Method | Rules = "deconvnet") -> Coverage:
    """Run `model` once, list all that it does, and try the laws on a few of its places.

    Args:
        image: as for `Network.project`; None: noise.
        method: the one whose rules are checked.
    """
    rules, shown = method_named(method), model.noise() if image is None else image
    before = fingerprint(model.module)
    tried_on, precise = trial(model)
    recording = tried_on.record(shown, method=rules)
    own = recording if tried_on is model else model.record(shown, method=rules)
    frozen = recording.frozen(rules)
    refused = {id(step): reason for step in _live(frozen.tape) if (reason := rules.refusal(step)) and _floats(step)}
    seen = recording.places()
    good, returned = _projectable(recording, seen, _reached(frozen.tape, refused))
    # A place that a module returns is worth more: there, autograd can be asked as well.
    tried = list(dict.fromkeys([*_chosen(returned if len(returned) >= _PLACES else good), *good[-1:]]))
    found = list(laws(tried_on, tried_on.record(shown, tried, rules), rules, tried, precise)) if tried else []
    changed = float(fingerprint(model.module) != before)
    found.append(Law("model untouched", "weights, modes, hooks, gradients and random numbers are as they were", changed, 0.0))
    counts, rectifiers = (len(seen), len(good)), _rectifiers(recording.tape)
    return Coverage(
        about=_about(model, recording, rules) | {"precision": _precision(own, precise)},
        operations=tuple(_operations(recording.tape, frozen, rules, refused)),
        rectifiers=rectifiers,
        rectified=tuple(_rectified(rectifiers, rules)),
        frozen={WORDS[kind].heading: places for kind, places in frozen_places(frozen) if places},
        pools=tuple(_pools(recording.tape)),
        places=counts,
        tried=tuple(place.name for place in tried),
        laws=tuple(found),
        verdict=_verdict(counts, good, list(refused.values()), found, rectifiers, rules) + _unnamed(recording.tape.unnamed),
        written=dict(Counter(step.kind for step in _live(recording.tape) if step.written and is_rectifier(step.operation))),
        unnamed=recording.tape.unnamed,
        preprocess=(model if isinstance(shown, torch.Tensor) else recording).preparation.numbers(),
    )


def _projectable(recording: Recording, seen: Sequence[Place], reached: set[int]) -> tuple[list[Place], list[Place]]:
    """Return the places that can be projected, and those of them that a module returns."""
    values = {step.place: value for step, value in looked_at(recording.tape)}
    good = [place for place in seen if values[place.name].index in reached]
    modules = {recording.tape.as_map(value).index for name, value in recording.tape.modules.items() if name}
    return good, [place for place in good if values[place.name].index in modules]


def _floats(step: Step) -> bool:
    return any(output.flows for output in step.outputs if output)


def _reached(tape: Tape, refused: Mapping[int, str]) -> set[int]:
    """Values from which the way back passes rules alone."""
    known = {tape.value.index}
    for step in tape.steps:
        inputs = [value for value in step.inputs if value.flows]
        if id(step) not in refused and all(value.index in known for value in inputs):
            known |= {output.index for output in step.outputs if output}
    return known


def _operations(tape: Tape, frozen: Frozen, rules: Rules, refused: Mapping[int, str]) -> Iterator[Operation]:
    """What occurs, told by the first line of its rule's docstring; what is refused before all."""
    special = {place: WORDS[kind].rule for kind, places in frozen_places(frozen) for place in places}
    kinds = {step.place: step.kind for step in tape.steps}
    rows: dict[tuple[str, str, bool], list[str]] = {}
    for step in _live(frozen.tape):
        if not _floats(step):
            continue
        is_refused = id(step) in refused
        if is_refused:
            words = "no rule"
        elif ROLES.get(step.operation) == "move":
            words = _MOVES
        else:
            words = special.get(step.place) or _first_line(rules[step.operation])
        name = "moves" if words == _MOVES else kinds.get(step.place, step.kind)
        rows.setdefault((name, words, is_refused), []).append(step.place)
    order = sorted(rows.items(), key=lambda row: (not row[0][2], -len(row[1])))
    for (name, words, is_refused), places in order:
        yield Operation(name, len(places), words, tuple(places[:3]), is_refused)


def _first_line(rule: Callable[..., Any]) -> str:
    return (rule.__doc__ or f"{rule.__name__}, a rule of yours").strip().splitlines()[0]


def _rectifiers(tape: Tape) -> dict[str, int]:
    return dict(Counter(step.kind for step in _live(tape) if is_rectifier(step.operation)))


def _live(tape: Tape) -> Iterator[Step]:
    """Yield the network's steps, except parts of written-out activations and the steps with which unconv arranges maps."""
    ours = {value.index for found in tape.arranged.values() for value in (found.between, found.value)}
    return (step for step in tape.steps if not step.within and not any(v and v.index in ours for v in step.outputs))


def _rectified(rectifiers: Mapping[str, int], rules: Rules) -> Iterator[str]:
    for kind, count in rectifiers.items():
        if kind == "relu":
            yield f"{count} of {count} relu: {_first_line(rules[RELU])}"
        elif rules.name == "gradient":
            yield f"{count} of {count} {kind}: their slope is taken"
        else:
            done = f"{_DONE[rules.activations]}; the paper speaks of ReLU alone"
            yield f"{count} of {count} {kind}: {done} (activations={rules.activations!r})"


def _pools(tape: Tape) -> Iterator[Pool]:
    for step in tape.steps:
        share = collisions(step)
        if share is not None:
            yield Pool(step.place, *share)


def _chosen(places: Sequence[Place]) -> list[Place]:
    """A few places, from early to deep."""
    step = max(1, (len(places) - 1) / max(1, _PLACES - 1))
    return list(dict.fromkeys(places[round(k * step)] for k in range(min(_PLACES, len(places)))))


def _precision(own: Recording, tried: torch.dtype) -> str:
    """Say in which types the network computes, and in which the laws were tried."""
    types = " and ".join(str(dtype).removeprefix("torch.") for dtype in precisions(own.tape))
    return f"{types} (laws: {str(tried).removeprefix('torch.')})"


def _about(model: Model, recording: Recording, rules: Rules) -> dict[str, str]:
    return {
        "network": model.name,
        "weights": model.weights,
        "image": " × ".join(map(str, recording.tape.image.shape[1:])),
        "method": rules.name,
        "device": str(recording.tape.image.device),
        "unconv": __version__,
        "torch": str(torch.__version__),
        "Python": platform.python_version(),
    }


def _verdict(
    counts: tuple[int, int],
    good: Sequence[Place],
    reasons: Sequence[str],
    laws: Sequence[Law],
    rectifiers: Mapping[str, int],
    rules: Rules,
) -> str:
    total, projectable = counts
    broken = [law.name for law in laws if not law.holds]
    if broken:
        return f"Not to be trusted: {', '.join(broken)} does not hold on this network. Please report it, with this text."
    if not total:
        return "Not reversible: nothing that the network computes has channels that could be looked at."
    if projectable < total:
        upto = f"{projectable} of its {counted(total, 'place')} can be projected" + (
            f", the last is {good[-1].name}" if good else ""
        )
        return f"Not reversible as a whole: {upto}. Why: {reasons[0]}."
    places = "its one place" if total == 1 else f"all {total} places"
    if not rectifiers:
        return f"Reversible: {places} by {rules.name}, though there is no rectifier to reverse; every law holds."
    kinds = " and ".join(f"{count} {kind}" for kind, count in rectifiers.items())
    number = sum(rectifiers.values())
    through = f"all {number} rectifiers" if number > 1 else "its one rectifier"
    return f"Reversible: {places} by {rules.name}, through {through} ({kinds}); every law holds."


def _unnamed(places: Sequence[str]) -> str:
    """Return the verdict's warning of what may be a rectifier and is not treated as one."""
    if not places:
        return ""
    return (
        f" But what is written out at {_listed(places)} holds negative values back and passes large ones on, as a rectifier, "
        "and is none that unconv knows: it goes back as the formula it is. If it is one, make it a named activation of torch's."
    )
