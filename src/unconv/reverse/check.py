"""Whether a network can be run backwards, and proof on this very network: what occurs, what is held, which laws hold."""

from __future__ import annotations

import copy
import platform
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.modules.module as hooks
from torch import Tensor, nn

from unconv.reverse.methods import Rules, method_named
from unconv.reverse.places import Place, find
from unconv.reverse.rewriting.freeze import Held
from unconv.reverse.rules.pointwise import OTHER_RECTIFIERS, RELU
from unconv.reverse.rules.pool import collisions
from unconv.reverse.rules.shape import SHAPES
from unconv.reverse.tape.precision import full_precision
from unconv.reverse.tape.record import Step, Tape, Value, outputs
from unconv.reverse.walking.walk import walk
from unconv.reverse.window import Window
from unconv.version import __version__

if TYPE_CHECKING:
    from unconv.reverse.network import Network, Recording

_PLACES, _UNITS = 4, 2  # that the laws are tried on
_LIMITS = {torch.float64: 1e-10, torch.float32: 1e-4}
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
class Law:
    """Something that must be so: the largest error, relative to the largest value, and how much is allowed."""

    name: str
    words: str
    error: float
    limit: float

    @property
    def holds(self) -> bool:
        """Whether the error is within the limit; NaN is not."""
        return self.error <= self.limit


@dataclass(frozen=True)
class Coverage:
    """What `Network.check` found.

    Args:
        about: network, weights, image, method, versions.
        operations: what the image flows through, most frequent first; what cannot be reversed before all.
        rectifiers: of each kind, how many.
        rectified: what happens at them, in words.
        held: what is held fixed, in words: gates, statistics of norms; with places.
        pools: the max pools.
        places: how many there are, and how many can be projected.
        tried: the places that the laws were tried on.
        laws: with their errors.
        verdict: all of it in a sentence.
    """

    about: Mapping[str, str]
    operations: tuple[Operation, ...]
    rectifiers: Mapping[str, int]
    rectified: tuple[str, ...]
    held: Mapping[str, tuple[str, ...]]
    pools: tuple[Pool, ...]
    places: tuple[int, int]
    tried: tuple[str, ...]
    laws: tuple[Law, ...]
    verdict: str

    @property
    def reversible(self) -> bool:
        """Whether every place can be projected and every law holds."""
        return self.places[0] == self.places[1] and bool(self.laws) and all(law.holds for law in self.laws)

    def numbers(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        rows = asdict(self)
        laws = [{**row, "holds": law.holds} for row, law in zip(rows["laws"], self.laws, strict=True)]
        counts = dict(zip(("all", "projectable"), self.places, strict=True))
        return {**rows["about"], **{k: v for k, v in rows.items() if k != "about"}, "places": counts, "laws": laws} | {
            "reversible": self.reversible
        }

    def text(self) -> str:
        """All of it as plain text, to read and to paste."""
        return "\n".join(_lines(self))

    def __str__(self) -> str:
        return self.text()


def _lines(found: Coverage) -> Iterator[str]:
    yield ", ".join(f"{key} {value}" for key, value in found.about.items())
    yield ""
    yield found.verdict
    yield ""
    yield "operations"
    for row in found.operations:
        mark = "!" if row.refused else " "
        where = f" (at {', '.join(row.places)}{', ..' if row.count > len(row.places) else ''})" if row.refused else ""
        yield f"{mark}{row.count:5d}  {row.name:20s}  {row.rule}{where}"
    yield "rectifiers"
    yield from (f"       {words}" for words in found.rectified or ("none",))
    yield "held fixed"
    for kind, places in found.held.items():
        yield f" {len(places):5d}  {kind}: {', '.join(places[:3])}{', ..' if len(places) > 3 else ''}"
    if not found.held:
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


def check(network: Network, image: Any = None, method: str | Rules = "deconvnet") -> Coverage:
    """Run `network` once, look at all it does, and try the laws on a few of its places.

    Args:
        image: as for `Network.project`; None: noise.
        method: the one whose rules are looked at.
    """
    rules = method_named(method)
    given = _noise(network) if image is None else image
    before = _fingerprint(network.module)
    trial, precise = _trial(network)
    recording = trial.record(given, method=rules)
    held = recording.held(rules)
    refused = {id(step): reason for step in held.tape.steps if (reason := rules.refusal(step)) and _floats(step)}
    reached = _reached(held.tape, refused)
    values = {step.place: step.outputs[0] for step in recording.tape.steps}
    seen = recording.places()
    good = [place for place in seen if (value := values[place.name]) and value.index in reached]
    modules = {value.index for name, value in recording.tape.modules.items() if name}
    returned = [place for place in good if (value := values[place.name]) and value.index in modules]
    tried = list(dict.fromkeys([*_chosen(returned if len(returned) >= _PLACES else good), *good[-1:]]))
    laws = list(_laws(trial, trial.record(given, tried, rules), rules, tried, precise)) if tried else []
    changed = float(_fingerprint(network.module) != before)
    laws.append(Law("model untouched", "weights, modes, hooks, gradients and random numbers are as they were", changed, 0.0))
    counts = (len(seen), len(good))
    return Coverage(
        about=_about(network, recording, rules),
        operations=tuple(_operations(recording.tape, held, rules, refused)),
        rectifiers=_rectifiers(recording.tape),
        rectified=tuple(_rectified(recording.tape, rules)),
        held=_held(held),
        pools=tuple(_pools(recording.tape)),
        places=counts,
        tried=tuple(place.name for place in tried),
        laws=tuple(laws),
        verdict=_verdict(counts, good, list(refused.values()), laws, _rectifiers(recording.tape), rules),
    )


def _noise(network: Network) -> Tensor:
    return torch.randn(network.input_size, generator=torch.Generator().manual_seed(0))


def _trial(network: Network) -> tuple[Network, torch.dtype]:
    """A copy of the network in float64, where it runs in that, else itself; and the type that its numbers are precise to."""
    from unconv.reverse.network import Network

    try:
        with torch.random.fork_rng(devices=[]):
            module = copy.deepcopy(network.module).double()
            others = {name: _double(value) for name, value in network.others.items()}
            precise = Network(module, network.preprocess, network.input_size, argument=network.argument, others=others)
            tape = precise.record(_noise(network)).tape
    except Exception:  # whatever a module of the user's has against being copied, or against float64
        return network, torch.float32
    whole = all(output.dtype != torch.float32 for step in tape.steps for output in step.outputs if output)
    own = any(p.dtype == torch.float64 for p in module.parameters())
    return (precise, torch.float64 if whole else torch.float32) if own else (network, torch.float32)


def _double(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def _floats(step: Step) -> bool:
    return any(output.dtype.is_floating_point for output in step.outputs if output)


def _reached(tape: Tape, refused: Mapping[int, str]) -> set[int]:
    """Values from which the way back passes rules alone."""
    known = {tape.value.index}
    for step in tape.steps:
        inputs = [value for value in step.inputs if value.dtype.is_floating_point]
        if id(step) not in refused and all(value.index in known for value in inputs):
            known |= {output.index for output in step.outputs if output}
    return known


def _operations(tape: Tape, held: Held, rules: Rules, refused: Mapping[int, str]) -> Iterator[Operation]:
    """What occurs, told by the first line of its rule's docstring; what is refused before all."""
    named = {
        "A gate is held as it was; the signal times it.": held.gates,
        "The norm is held at the scale that it took from the picture.": held.norms,
        "Skipped, as in the paper.": held.skipped,
    }
    special = {place: words for words, places in named.items() for place in places}
    kinds = {step.place: step.kind for step in tape.steps}
    rows: dict[tuple[str, str, bool], list[str]] = {}
    for step in held.tape.steps:
        if not _floats(step):
            continue
        is_refused = id(step) in refused
        if is_refused:
            words = "no rule"
        elif step.operation in SHAPES:
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
    return dict(Counter(step.kind for step in tape.steps if step.operation in (RELU, *OTHER_RECTIFIERS)))


def _rectified(tape: Tape, rules: Rules) -> Iterator[str]:
    for kind, count in _rectifiers(tape).items():
        if kind == "relu":
            yield f"{count} of {count} relu: {_first_line(rules[RELU])}"
        elif rules.name == "gradient":
            yield f"{count} of {count} {kind}: their slope is taken"
        else:
            done = f"{_DONE[rules.activations]}; the paper speaks of ReLU alone"
            yield f"{count} of {count} {kind}: {done} (activations={rules.activations!r})"


def _held(held: Held) -> dict[str, tuple[str, ...]]:
    words = {
        "gates, at their recorded value": held.gates,
        "norms that take their statistics from the picture, at their scale": held.norms,
        "local response norms, skipped as in the paper": held.skipped,
    }
    return {kind: places for kind, places in words.items() if places}


def _pools(tape: Tape) -> Iterator[Pool]:
    for step in tape.steps:
        share = collisions(step)
        if share is not None:
            yield Pool(step.place, *share)


def _chosen(places: Sequence[Place]) -> list[Place]:
    """A few places, from early to deep."""
    step = max(1, (len(places) - 1) / max(1, _PLACES - 1))
    return list(dict.fromkeys(places[round(k * step)] for k in range(min(_PLACES, len(places)))))


@torch.no_grad()
def _laws(network: Network, recording: Recording, rules: Rules, places: Sequence[Place], dtype: torch.dtype) -> Iterator[Law]:
    limit, held = _LIMITS[dtype], recording.held(rules).tape
    errors = {"gradient": 0.0, "windows": 0.0, "zero": 0.0, "support": 0.0}
    compared = 0
    for place in places:
        found = recording.project(place, f"top:{_UNITS}", method=rules)
        value = find(recording.tape, place.name, held)[1]
        seed = _seeds(found.units, found.values, value)
        arrived = walk(held, value, Window(seed), rules)
        whole = torch.zeros_like(found.pixels()) if arrived is None else arrived.whole((1, *found.image.shape)).values
        errors["windows"] = max(errors["windows"], _difference(found.pixels(), whole))
        nothing = walk(held, value, Window(torch.zeros_like(seed)), rules)
        errors["zero"] = max(errors["zero"], 0.0 if nothing is None else float(nothing.values.abs().max()))
        errors["support"] = max(errors["support"], _outside(whole, found.boxes))
        with full_precision(seed.device):
            right = _autograd(network, recording, value, seed)
        if right is not None:
            compared += 1
            gradients = recording.project(place, f"top:{_UNITS}", method="gradient").pixels()
            errors["gradient"] = max(errors["gradient"], _difference(gradients, right))
    own = f"in {str(dtype).removeprefix('torch.')}"
    if compared:
        yield Law(
            "gradient = autograd",
            f"our gradient is torch's, {own}, at {compared} of {len(places)} places",
            errors["gradient"],
            limit,
        )
    yield Law("windows = full walk", f"{rules.name} over windows is that over whole maps, {own}", errors["windows"], limit)
    yield Law("zero seed", "nothing gives exactly nothing", errors["zero"], 0.0)
    yield Law("support", "nothing but rounding arrives outside the receptive field", errors["support"], limit)


def _seeds(units: Sequence[Sequence[int | None]], values: Tensor, value: Value) -> Tensor:
    seed = torch.zeros(len(units), *value.shape[1:], dtype=values.dtype, device=values.device)
    for row, unit, activation in zip(seed, units, values, strict=True):
        row[tuple(unit)] = activation
    return seed


def _difference(mine: Tensor, right: Tensor, measure: Tensor | None = None) -> float:
    """The largest difference, as a share of the largest value of `right`, or of `measure`."""
    largest = (right if measure is None else measure).abs().max().clamp(min=torch.finfo(right.dtype).tiny)
    return float(((mine.to(right.dtype) - right).abs().max() / largest).detach())


def _outside(whole: Tensor, boxes: Tensor) -> float:
    """The largest value outside a unit's box, as a share of its largest."""
    worst, axes = 0.0, boxes.shape[1] // 2
    for signal, box in zip(whole, boxes.tolist(), strict=True):
        rest = signal.clone()
        rest[(slice(None), *(slice(max(a, 0), max(b, 0)) for a, b in zip(box[:axes], box[axes:], strict=True)))] = 0
        worst = max(worst, _difference(rest, torch.zeros_like(rest), signal))
    return worst


def _autograd(network: Network, recording: Recording, value: Value, seed: Tensor) -> Tensor | None:
    """(n, C, samples..): what torch's own backward pass makes of seeds at a value; None if no module returns it."""
    names = [name for name, returned in recording.tape.modules.items() if returned == value and name]
    modules = {id(module): name for name, module in network.module.named_modules() if name in names}
    kept: dict[str, Tensor] = {}
    here = threading.get_ident()

    def keep(ran: nn.Module, _args: Any, out: Any) -> Any:
        if threading.get_ident() != here or id(ran) not in modules or not isinstance(out, Tensor) or not out.requires_grad:
            return None
        kept[modules[id(ran)]] = out.clone()
        return kept[modules[id(ran)]].clone()  # which an in-place successor may write over

    handle = hooks.register_module_forward_hook(keep)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            image = recording.tape.image.detach().clone().requires_grad_(True)
            returned = network._call(image.clone())
    finally:
        handle.remove()
    kept |= {name: tensor for name, tensor in outputs(returned).items() if name in names}
    name = next((name for name in names if name in kept and kept[name].requires_grad), None)
    if name is None:
        return None
    out, rows = kept[name], seed.movedim(1, -1) if name in recording.tape.turned else seed
    _lay_out(out)
    found = [torch.autograd.grad(out, image, row[None], retain_graph=True, allow_unused=True)[0] for row in rows]
    return torch.cat([torch.zeros_like(image) if gradient is None else gradient for gradient in found])


def _lay_out(out: Tensor) -> None:
    """Give the batch norms before `out` gradients that lie channels first: of others, torch (2.14, CPU) makes wrong ones."""
    nodes, seen = [out.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if "BatchNorm" in node.name():
            node.register_prehook(lambda grads: tuple(None if grad is None else grad.contiguous() for grad in grads))
        nodes += [following for following, _ in node.next_functions]


def _fingerprint(module: nn.Module) -> list[Any]:
    """What a run may not change: each tensor's version, modes, hooks, gradients; the random numbers to come."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    states = [(n, id(t), -1 if t.is_inference() else t._version, t.requires_grad, t.grad is None, t.dtype) for n, t in tensors]
    modes = [
        (n, m.training, len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
        for n, m in module.named_modules()
    ]
    return [states, modes, torch.get_rng_state().tolist()]


def _about(network: Network, recording: Recording, rules: Rules) -> dict[str, str]:
    return {
        "network": network.name,
        "weights": network.weights,
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
    if projectable < total:
        upto = f"{projectable} of its {total} places can be projected" + (f", the last is {good[-1].name}" if good else "")
        return f"Not reversible as a whole: {upto}. Why: {reasons[0]}."
    if not rectifiers:
        return f"Reversible: all {total} places by {rules.name}, though there is no rectifier to reverse; every law holds."
    kinds = " and ".join(f"{count} {kind}" for kind, count in rectifiers.items())
    number = sum(rectifiers.values())
    return f"Reversible: all {total} places by {rules.name}, through all {number} rectifiers ({kinds}); every law holds."
