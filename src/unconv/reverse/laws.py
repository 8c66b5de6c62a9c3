"""Test on a network the laws that its projections must obey: gradient, windows, zero seed, support."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.modules.module as hooks
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from unconv.errors import counted
from unconv.reverse.methods import Rules
from unconv.reverse.model import Model, Recording
from unconv.reverse.places import Place, find
from unconv.reverse.replay import replay
from unconv.reverse.tape.naming import named_modules
from unconv.reverse.tape.precision import full_precision
from unconv.reverse.tape.record import outputs, record
from unconv.reverse.tape.step import Tape, Value
from unconv.reverse.tape.untouched import watched
from unconv.reverse.walking.walk import walk
from unconv.reverse.window import Window

_UNITS = 2  # of each place
_LIMITS = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}


@dataclass(frozen=True)
class Law:
    """A law with its largest error, relative to the largest value, and the limit for it."""

    name: str
    words: str
    error: float
    limit: float

    @property
    def holds(self) -> bool:
        """Whether the error is within the limit; NaN is not."""
        return self.error <= self.limit


def trial(model: Model) -> tuple[Model, torch.dtype]:
    """Return a float64 copy of the model, or the model itself if it cannot run in float64; and the least precise type in it."""
    try:
        with torch.random.fork_rng(devices=[]):
            precise = model.copied("check", "to be run in float64")
            precise.module.double()
            precise.others = {name: _double(value) for name, value in model.others.items()}
            tape = precise.record(model.noise()).tape
    except Exception:  # the user's module may fail in any way when it is copied, or in float64
        return model, precisions(model.record(model.noise()).tape)[0]
    is_double = any(p.dtype == torch.float64 for p in precise.module.parameters())
    return (precise, precisions(tape)[0]) if is_double else (model, precisions(model.record(model.noise()).tape)[0])


def precisions(tape: Tape) -> list[torch.dtype]:
    """Return the floating types that a network computed in, the least precise first."""
    dtypes = {output.dtype for step in tape.steps for output in step.outputs if output and output.dtype in _LIMITS}
    return sorted(dtypes or {tape.image.dtype}, key=lambda dtype: -_LIMITS[dtype])


def _double(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


@torch.no_grad()
def laws(model: Model, recording: Recording, rules: Rules, places: Sequence[Place], dtype: torch.dtype) -> Iterator[Law]:
    """Test the laws on the strongest units of each place, and yield each with its largest error.

    Args:
        recording: one of `model`, with the outputs of `places`.
        dtype: the least precise type in the model, which sets the limits.
    """
    limit, frozen = _LIMITS[dtype], recording.frozen(rules).tape
    errors = {"windows": 0.0, "zero": 0.0, "support": 0.0}
    gradients: list[float] = []
    for place in places:
        projections = recording.project(place, f"top:{_UNITS}", method=rules)
        _, value = find(recording.tape, place.name)
        seed = _seeds(projections.units, projections.values, value)
        arrived = walk(frozen, value, Window(seed), rules)
        pixels = projections.pixels()
        full = torch.zeros_like(pixels) if arrived is None else arrived.full_map((1, *projections.image.shape)).values
        nothing = walk(frozen, value, Window(torch.zeros_like(seed)), rules)
        errors["windows"] = max(errors["windows"], _difference(pixels, full))
        errors["zero"] = max(errors["zero"], 0.0 if nothing is None else float(nothing.values.abs().max()))
        errors["support"] = max(errors["support"], _outside(full, projections.boxes))
        with full_precision(seed.device):
            right = _autograd(model, recording, value, seed)
        if right is not None:  # a module returns this value, so that autograd has its gradient
            gradient = recording.project(place, f"top:{_UNITS}", method="gradient").pixels()
            gradients.append(_difference(gradient, right))
    in_dtype = f"in {str(dtype).removeprefix('torch.')}"
    if gradients:
        words = f"our gradient is torch's, {in_dtype}, at {len(gradients)} of {counted(len(places), 'place')}"
        yield Law("gradient = autograd", words, max(gradients), limit)
    yield Law(
        "windows = full walk", f"{rules.name} over windows is the same as over full maps, {in_dtype}", errors["windows"], limit
    )
    yield Law("zero seed", "a seed of zeros gives exactly zero", errors["zero"], 0.0)
    yield Law("support", "nothing but rounding arrives outside the receptive field", errors["support"], limit)
    if rules.freeze and not rules.own:
        yield from _frozen_law(recording, rules, places, dtype)
    changed, spread = _recording_errors(model, recording)
    yield Law("recording = model", "the model computes the same, bit for bit, while it is recorded", changed, spread)


def _frozen_law(recording: Recording, rules: Rules, places: Sequence[Place], dtype: torch.dtype) -> Iterator[Law]:
    """Test what a method freezes: autograd in a second run with the same constants must agree with the rules (`replay`)."""
    by_slopes = Rules("gradient", freeze=True, gates=rules.gates)
    frozen, errors = recording.frozen(by_slopes), list[float]()
    if not (frozen.gates or frozen.norms):
        return
    with torch.inference_mode(False), torch.enable_grad(), full_precision(recording.tape.image.device):
        image = recording.tape.image.detach().clone().requires_grad_(True)
        values = [find(recording.tape, place.name)[1] for place in places]
        replayed = replay(recording.tape, frozen.tape, image, values)
        for place, value in zip(places, values, strict=True):
            projections = recording.project(place, f"top:{_UNITS}", method=by_slopes)
            out, seed = replayed[value.index], _seeds(projections.units, projections.values, value)
            # First the replay itself: it must give the recorded activations before its derivative proves anything.
            errors.append(_difference(out.detach()[0], recording.activation(place.name)))
            if out.requires_grad:
                rows = [torch.autograd.grad(out, image, row[None], retain_graph=True, allow_unused=True)[0] for row in seed]
                right = torch.cat([torch.zeros_like(image) if row is None else row for row in rows])
                errors.append(_difference(projections.pixels(), right))
    counts = " and ".join(
        counted(len(places), noun) for places, noun in ((frozen.gates, "gate"), (frozen.norms, "norm")) if places
    )
    words = f"with {counts} as constants, autograd in a second run gives our numbers, in {str(dtype).removeprefix('torch.')}"
    yield Law("frozen = constants", words, max(errors), _LIMITS[dtype])


class _PassThrough(TorchFunctionMode):
    """A mode that changes nothing. Where any such mode is on, as in a recording, torch runs some layers in another way."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return function(*args, **(kwargs or {}))


def _recording_errors(model: Model, recording: Recording) -> tuple[float, float]:
    """Return how much the model's outputs differ in a recording, and how much they differ between two plain runs."""
    image, caught = recording.tape.image, dict[str, Tensor]()

    def call(image: Tensor) -> Any:
        returned = model.call(image)
        caught.update({name: tensor.detach().clone() for name, tensor in outputs(returned).items()})
        return returned

    def plain() -> dict[str, Tensor]:
        with watched(model.module, model.others), torch.no_grad(), _PassThrough(), full_precision(image.device):
            return {name: tensor.detach().clone() for name, tensor in outputs(model.call(image.clone())).items()}

    record(model.module, image, {}, call=call, others=model.others)
    first, second = plain(), plain()
    return _largest_difference(caught, first), _largest_difference(second, first)


def _largest_difference(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Return the largest difference between outputs of the same name; infinity if names, shapes or types differ."""
    if actual.keys() != expected.keys() or any(
        actual[n].shape != expected[n].shape or actual[n].dtype != expected[n].dtype for n in actual
    ):
        return float("inf")
    floats = [name for name in actual if actual[name].is_floating_point() and actual[name].numel()]
    others = [name for name in actual if name not in floats]
    if not all(torch.equal(actual[name], expected[name]) for name in others):
        return float("inf")
    return max((_difference(actual[name], expected[name]) for name in floats), default=0.0)


def _seeds(units: Sequence[Sequence[int | None]], values: Tensor, value: Value) -> Tensor:
    seed = torch.zeros(len(units), *value.shape[1:], dtype=values.dtype, device=values.device)
    for row, unit, activation in zip(seed, units, values, strict=True):
        row[tuple(unit)] = activation
    return seed


def _difference(actual: Tensor, expected: Tensor, measure: Tensor | None = None) -> float:
    """Return the largest difference, as a share of the largest value of `expected`, or of `measure`."""
    largest = (expected if measure is None else measure).abs().max().clamp(min=torch.finfo(expected.dtype).tiny)
    return float(((actual.to(expected.dtype) - expected).abs().max() / largest).detach())


def _outside(signals: Tensor, boxes: Tensor) -> float:
    """Return the largest value outside a unit's box, as a share of the unit's largest value."""
    worst, axes = 0.0, boxes.shape[1] // 2
    for signal, box in zip(signals, boxes.tolist(), strict=True):
        rest = signal.clone()
        rest[(slice(None), *(slice(max(a, 0), max(b, 0)) for a, b in zip(box[:axes], box[axes:], strict=True)))] = 0
        worst = max(worst, _difference(rest, torch.zeros_like(rest), signal))
    return worst


def _autograd(model: Model, recording: Recording, value: Value, seed: Tensor) -> Tensor | None:
    """Return (n, C, samples..): the result of torch's backward pass for seeds at a value; None if no module returns it."""
    tape = recording.tape
    names = [name for name, returned in tape.modules.items() if tape.as_map(returned) == value and name]
    modules = {id(module): name for name, module in named_modules(model.module) if name in names}
    outputs_of: dict[str, Tensor] = {}
    here, recorded = threading.get_ident(), tape.kept[value.index]

    def keep(ran: nn.Module, _args: Any, out: Any) -> Any:
        if threading.get_ident() != here or id(ran) not in modules or not isinstance(out, Tensor) or not out.requires_grad:
            return None
        name, copy = modules[id(ran)], out.clone()
        # A module may also run on something else than the image: the output that was recorded is the one of the image.
        if name not in outputs_of or _is_recorded(tape, name, copy, recorded):
            outputs_of[name] = copy
        return copy.clone()  # which an in-place successor may overwrite

    handle = hooks.register_module_forward_hook(keep)
    try:
        # The backward pass reads buffers that the forward pass wrote, so the model is restored only after it.
        with watched(model.module, model.others), torch.inference_mode(False), torch.enable_grad():
            image = recording.tape.image.detach().clone().requires_grad_(True)
            returned = model.call(image.clone())
            handle.remove()
            outputs_of |= {name: tensor for name, tensor in outputs(returned).items() if name in names}
            name = next((name for name in names if name in outputs_of and outputs_of[name].requires_grad), None)
            if name is None:
                return None
            out = tape.arranged_output(name, outputs_of[name])
            make_gradients_contiguous(out)
            rows = [torch.autograd.grad(out, image, row[None], retain_graph=True, allow_unused=True)[0] for row in seed]
    except RuntimeError as error:
        # Torch cannot differentiate this network, or the network overwrites what that needs, or accepts only .backward().
        if re.search(
            r"derivative for|modified by an inplace operation|does not require grad|use_reentrant|modified inplace", str(error)
        ):
            return None
        raise
    finally:
        handle.remove()
    return torch.cat([torch.zeros_like(image) if row is None else row for row in rows])


def _is_recorded(tape: Tape, name: str, returned: Tensor, recorded: Tensor) -> bool:
    """Whether a module's output in this run is the one on the tape."""
    shape = tape.modules[name].shape
    if tuple(returned.shape) != ((shape[0], *shape[2:], shape[1]) if name in tape.channels_last else shape):
        return False
    return bool(torch.isclose(tape.arranged_output(name, returned.detach()), recorded, rtol=1e-5, atol=1e-7).all())


def make_gradients_contiguous(out: Tensor) -> None:
    """Make the gradients that enter batch norms before `out` contiguous: torch (2.14, CPU) is wrong on others."""
    nodes, visited = [out.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        if "BatchNorm" in node.name():
            node.register_prehook(lambda grads: tuple(None if grad is None else grad.contiguous() for grad in grads))
        nodes += [following for following, _ in node.next_functions]


def fingerprint(module: nn.Module) -> list[Any]:
    """Return the state that a run may not change: tensor versions, modes, hooks, gradients, the random generator."""
    tensors = [(n, t) for n, t in (*module.named_parameters(), *module.named_buffers()) if not is_lazy(t)]
    states = [(n, id(t), -1 if t.is_inference() else t._version, t.requires_grad, t.grad is None, t.dtype) for n, t in tensors]
    modes = [
        (n, m.training, len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
        for n, m in module.named_modules()
    ]
    return [states, modes, torch.get_rng_state().tolist()]
