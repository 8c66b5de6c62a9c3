"""Check whether a network can be run backwards: list its operations and what is frozen, and test the laws on it."""

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

_PLACES = 4  # on which the laws are tested
_MOVES = "Samples go back where they came from: views, slices, permutations, copies."
_DONE = {"rectify": "rectified", "gradient": "multiplied by the slope", "pass": "passed", "error": "refused"}


@dataclass(frozen=True)
class Operation:
    """An operation of the network: how often it occurs, and what its rule does, or that it has none."""

    name: str
    count: int
    rule: str
    places: tuple[str, ...]
    refused: bool = False


@dataclass(frozen=True)
class Pool:
    """A max pool: whether its windows overlap, and the share of its switches that point where another one does."""

    place: str
    overlaps: bool
    collisions: float


@dataclass(frozen=True)
class Coverage:
    """The result of `Network.check`.

    Args:
        about: network, weights, image, method, versions.
        operations: those that the image flows through: first those that cannot be reversed, then by frequency.
        rectifiers: the number of rectifiers of each kind.
        rectified: what happens at them, in words.
        frozen: gates and statistics of norms that are frozen: the kind in words, with its places.
        pools: the max pools.
        places: the number of places, and of those that can be projected.
        tried: the places on which the laws were tested.
        laws: each with its error.
        verdict: the result in a sentence.
        written: the number of rectifiers of each kind that the network writes out as formulas.
        unnamed: places of formulas that look like rectifiers but match no known one; they are not rectified.
        preprocess: what happens to pictures, as in `Preparation.numbers`.
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
        """Return everything, ready for JSON."""
        rows = asdict(self)
        laws = [{**row, "holds": law.holds} for row, law in zip(rows["laws"], self.laws, strict=True)]
        counts = dict(zip(("all", "projectable"), self.places, strict=True))
        rows["held"] = rows["frozen"]  # the name before 0.2, for programs that read it
        return {**rows["about"], **{k: v for k, v in rows.items() if k != "about"}, "places": counts, "laws": laws} | {
            "reversible": self.reversible
        }

    def text(self) -> str:
        """Return everything as plain text, to read or paste."""
        return "\n".join(map(printable, _lines(self)))

    def __str__(self) -> str:
        return self.text()


def _lines(coverage: Coverage) -> Iterator[str]:
    # The verdict comes first; the rest is for readers who want the reason.
    yield ", ".join(f"{key} {value}" for key, value in coverage.about.items())
    yield ""
    yield coverage.verdict
    yield ""
    yield f"pictures: {coverage.preprocess['words']}"
    yield ""
    yield "operations"
    for row in coverage.operations:
        mark = "!" if row.refused else " "
        where = f" (at {', '.join(row.places)}{', ..' if row.count > len(row.places) else ''})" if row.refused else ""
        yield f"{mark}{row.count:5d}  {row.name:20s}  {row.rule}{where}"
    yield "rectifiers"
    yield from (f"       {words}" for words in coverage.rectified or ("none",))
    yield from (f" {count:5d}  {kind}, written out" for kind, count in coverage.written.items())
    if coverage.unnamed:
        yield f"!{len(coverage.unnamed):5d}  that look like rectifiers and are none with a name: {_listed(coverage.unnamed)}"
    yield "frozen"
    for kind, places in coverage.frozen.items():
        yield f" {len(places):5d}  {kind}: {_listed(places)}"
    if not coverage.frozen:
        yield "       nothing"
    yield "max pools"
    for pool in coverage.pools:
        state = f"windows overlap; {pool.collisions:.0%} of the switches meet another" if pool.overlaps else "windows lie apart"
        yield f"        {pool.place}: {state}"
    if not coverage.pools:
        yield "       none"
    yield f"laws, tried on {', '.join(coverage.tried) or 'nothing'}"
    for law in coverage.laws:
        yield f" {'holds' if law.holds else 'BROKEN':6s} {law.name:20s}  {law.error:.1e} of {law.limit:.0e}  {law.words}"


def _listed(places: Sequence[str]) -> str:
    return ", ".join(places[:3]) + (", .." if len(places) > 3 else "")


def check(model: Model, image: Any = None, method: Method | Rules = "deconvnet") -> Coverage:
    """Run `model` once, list its operations, and test the laws on a few of its places.

    Args:
        image: as for `Network.project`; None: noise.
        method: the method to check.
    """
    rules, picture = method_named(method), model.noise() if image is None else image
    before = fingerprint(model.module)
    tried_on, precise = trial(model)
    recording = tried_on.record(picture, method=rules)
    recording_itself = recording if tried_on is model else model.record(picture, method=rules)
    frozen = recording.frozen(rules)
    refused = {id(step): reason for step in _live(frozen.tape) if (reason := rules.refusal(step)) and _floats(step)}
    listed = recording.places()
    good, returned = _projectable(recording, listed, _reached(frozen.tape, refused))
    # Prefer places that a module returns: only there can autograd be compared.
    tried = list(dict.fromkeys([*_chosen(returned if len(returned) >= _PLACES else good), *good[-1:]]))
    results = list(laws(tried_on, tried_on.record(picture, tried, rules), rules, tried, precise)) if tried else []
    changed = float(fingerprint(model.module) != before)
    results.append(Law("model untouched", "weights, modes, hooks, gradients and random numbers are as they were", changed, 0.0))
    counts, rectifiers = (len(listed), len(good)), _rectifiers(recording.tape)
    return Coverage(
        about=_about(model, recording, rules) | {"precision": _precision(recording_itself, precise)},
        operations=tuple(_operations(recording.tape, frozen, rules, refused)),
        rectifiers=rectifiers,
        rectified=tuple(_rectified(rectifiers, rules)),
        frozen={WORDS[kind].heading: places for kind, places in frozen_places(frozen) if places},
        pools=tuple(_pools(recording.tape)),
        places=counts,
        tried=tuple(place.name for place in tried),
        laws=tuple(results),
        verdict=_verdict(counts, good, list(refused.values()), results, rectifiers, rules) + _unnamed(recording.tape.unnamed),
        written=dict(Counter(step.kind for step in _live(recording.tape) if step.written and is_rectifier(step.operation))),
        unnamed=recording.tape.unnamed,
        preprocess=(model if isinstance(picture, torch.Tensor) else recording).preparation.numbers(),
    )


def _projectable(recording: Recording, listed: Sequence[Place], reached: set[int]) -> tuple[list[Place], list[Place]]:
    """Return the places that can be projected, and those of them that a module returns."""
    values = {step.place: value for step, value in looked_at(recording.tape)}
    good = [place for place in listed if values[place.name].index in reached]
    modules = {recording.tape.as_map(value).index for name, value in recording.tape.modules.items() if name}
    return good, [place for place in good if values[place.name].index in modules]


def _floats(step: Step) -> bool:
    return any(output.flows for output in step.outputs if output)


def _reached(tape: Tape, refused: Mapping[int, str]) -> set[int]:
    """Return the values from which every step of the way back has a rule."""
    reversible = {tape.value.index}
    for step in tape.steps:
        inputs = [value for value in step.inputs if value.flows]
        if id(step) not in refused and all(value.index in reversible for value in inputs):
            reversible |= {output.index for output in step.outputs if output}
    return reversible


def _operations(tape: Tape, frozen: Frozen, rules: Rules, refused: Mapping[int, str]) -> Iterator[Operation]:
    """Yield the operations that occur, those without a rule first, each with the first line of its rule's docstring."""
    # By what happens, not by kind alone: one kind may be frozen at some places and not at others.
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
    added = {value.index for maps in tape.arranged.values() for value in (maps.between, maps.value)}
    return (step for step in tape.steps if not step.within and not any(v and v.index in added for v in step.outputs))


def _rectified(rectifiers: Mapping[str, int], rules: Rules) -> Iterator[str]:
    for kind, count in rectifiers.items():
        if kind == "relu":
            yield f"{count} of {count} relu: {_first_line(rules[RELU])}"
        elif rules.name == "gradient":
            yield f"{count} of {count} {kind}: multiplied by the slope"
        else:
            treatment = f"{_DONE[rules.activations]}; the paper defines ReLU only"
            yield f"{count} of {count} {kind}: {treatment} (activations={rules.activations!r})"


def _pools(tape: Tape) -> Iterator[Pool]:
    for step in tape.steps:
        share = collisions(step)
        if share is not None:
            yield Pool(step.place, *share)


def _chosen(places: Sequence[Place]) -> list[Place]:
    """Return a few places, from early to deep."""
    step = max(1, (len(places) - 1) / max(1, _PLACES - 1))
    return list(dict.fromkeys(places[round(k * step)] for k in range(min(_PLACES, len(places)))))


def _precision(recording: Recording, tried: torch.dtype) -> str:
    """Return the types in which the network computes, and the one in which the laws were tested."""
    types = " and ".join(str(dtype).removeprefix("torch.") for dtype in precisions(recording.tape))
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
    # The most serious finding decides: a broken law, no places, some places, no rectifier, in this order.
    total, projectable = counts
    broken = [law.name for law in laws if not law.holds]
    if broken:
        holds = "does not hold" if len(broken) == 1 else "do not hold"
        return f"Not to be trusted: {' and '.join(broken)} {holds} on this network. Please report it, with this text."
    if not total:
        return "Not reversible: no output of the network has channels that can be shown."
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
    """Return the verdict's warning of a formula that may be a rectifier and is not treated as one."""
    if not places:
        return ""
    return (
        f" But the formula at {_listed(places)} blocks negative values and passes large ones, as a rectifier does, and matches "
        "none that unconv knows: it is treated as a formula. If it is a rectifier, replace it by an activation of torch."
    )
