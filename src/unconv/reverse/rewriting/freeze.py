"""What the methods of projection hold fixed: gates, and statistics that the picture gave a norm.

A gate is a factor that tells how much of a signal passes: a squeeze-excitation, a mask of attention, a
divisor. Like a switch, it stays as the forward pass had it: the step becomes one with a constant. A norm
that takes its statistics from the picture becomes a product with its scale. Exact backpropagation holds
nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor
from torch._ops import OpOverload

from unconv.reverse.rules.pointwise import OTHER_RECTIFIERS, RELU, SLOPES
from unconv.reverse.rules.shape import SHAPES
from unconv.reverse.tape.record import Step, Tape, Value
from unconv.reverse.tape.whole import CHANNEL_NORM, INSTANCE_NORM, LOCAL_RESPONSE_NORM

aten = torch.ops.aten

_PRODUCTS = (aten.mul.Tensor, aten.bmm.default, aten.mm.default)
_SQUASHES = (aten.sigmoid.default, aten.hardsigmoid.default, aten._softmax.default, aten.rsqrt.default, aten.reciprocal.default)
_ACTIVATIONS = (RELU, *OTHER_RECTIFIERS, *SLOPES)
_CARRIERS = (  # what leaves a gate a gate
    *SHAPES,
    aten.add.Tensor,
    aten.cat.default,
    aten.constant_pad_nd.default,
    aten.div.Tensor,
    aten.mul.Tensor,
    aten._unsafe_index.Tensor,
    aten.upsample_bilinear2d.default,
    aten.upsample_nearest2d.default,
)
_NORMS = (
    aten.native_layer_norm.default,
    aten.native_group_norm.default,
    CHANNEL_NORM,
    INSTANCE_NORM,
    LOCAL_RESPONSE_NORM,
)


@dataclass(frozen=True)
class Held:
    """A tape whose gates and statistics are constants.

    Args:
        gates: the places of products one factor of which is held.
        norms: the places of norms whose statistics are held.
        skipped: the places of local response norms that signals pass as if they were not there.
    """

    tape: Tape
    gates: tuple[str, ...]
    norms: tuple[str, ...]
    skipped: tuple[str, ...]


def hold(tape: Tape, skip: bool = True, own: Collection[OpOverload] = ()) -> Held:
    """The tape with its gates and statistics held fixed; products neither factor of which is a gate stay as they are.

    Args:
        skip: local response norms are skipped, as in the paper; otherwise their divisor is held.
        own: operations that stay as they are, as the user has rules of his own for them.
    """
    fresh = 1 + max((output.index for step in tape.steps for output in step.outputs if output), default=0)
    origins: dict[int, OpOverload | None] = {}
    steps: list[Step] = []
    found: dict[str, list[str]] = {"gates": [], "norms": [], "skipped": []}
    for step in tape.steps:
        kind = "" if step.operation in own else _kind(step, skip)
        rewritten = _rewritten(step, kind, origins, fresh)
        if rewritten[0] is not step:
            found[kind].append(step.place)
        steps += rewritten
        origins |= dict.fromkeys((output.index for output in step.outputs if output), _origin(step, origins))
        fresh += len(rewritten) - 1
    return Held(replace(tape, steps=tuple(steps)), **{kind: tuple(places) for kind, places in found.items()})


def product_refusal(step: Step) -> str | None:
    """Why a product that is left once gates are held cannot be run backwards; None if the step is no such product."""
    if step.operation in _NORMS and len(step.inputs) > 1:
        return (
            f"{step.place} is a norm with weights that the picture makes, so that it is open what is to be held fixed; "
            "method='gradient' differentiates both"
        )
    if len(_factors(step)) < 2:
        return None
    if step.operation is aten.mul.Tensor or step.operation is aten.addcmul.default:
        return (
            f"{step.place} multiplies two signals and neither is a gate, so that it is open which one is to be held fixed; "
            "method='gradient' differentiates both, or write a rule, see docs/adding-an-operation.md"
        )
    return (
        f"{step.place} is a matrix product of two signals, as in self-attention, which mixes positions by weights that the "
        "picture makes: there are no filters to run backwards; places before it can be projected"
    )


def _factors(step: Step) -> list[Value]:
    """The factors of a product that the image reached."""
    if step.operation is aten.addcmul.default:
        return [argument for argument in step.args[1:3] if isinstance(argument, Value)]
    if step.operation in (*_PRODUCTS, aten.div.Tensor):
        return [argument for argument in step.args[:2] if isinstance(argument, Value)]
    return []


def _kind(step: Step, skip: bool) -> str:
    if step.operation is LOCAL_RESPONSE_NORM and skip:
        return "skipped"
    if step.operation in _NORMS and len(step.inputs) == 1:
        return "norms"
    return "gates" if len(_factors(step)) == 2 or step.operation is aten.glu.default else ""


def _rewritten(step: Step, kind: str, origins: Mapping[int, OpOverload | None], fresh: int) -> list[Step]:
    """The step, or what stands for it."""
    if not kind:
        return [step]
    if kind == "skipped":
        return [_times(step, 1.0)]
    if kind == "norms":
        return [_times(step, scale(step))]
    if step.operation is aten.glu.default:
        return _halves(step, fresh)
    chosen = gate(step, origins)
    return [step] if chosen is None else [_with_constant(step, chosen)]


def _times(step: Step, factor: float | Tensor) -> Step:
    """The step as a product with a constant."""
    x = next(argument for argument in step.args if isinstance(argument, Value))
    return replace(step, operation=aten.mul.Tensor, args=(x, factor), inputs=(x,), outputs=step.outputs[:1], kept=None)


def _with_constant(step: Step, position: int) -> Step:
    """The step with the argument at `position` as the forward pass had it."""
    entered = iter(step.kept)
    recorded = [next(entered) if isinstance(argument, Value) else None for argument in step.args]
    args = tuple(recorded[k] if k == position else argument for k, argument in enumerate(step.args))
    left = tuple(argument for argument in args if isinstance(argument, Value))
    return replace(step, args=args, inputs=left, kept=None)


def _halves(step: Step, fresh: int) -> list[Step]:
    """A gated linear unit: its first half times what its second half let through."""
    x, axis = step.args
    first, second = step.kept[0].chunk(2, axis)
    half = Value(fresh, tuple(first.shape), x.dtype)
    cut = Step(aten.slice.Tensor, (x, axis % len(x.shape), 0, first.shape[axis], 1), (x,), (half,), step.place)
    product = Step(aten.mul.Tensor, (half, second.sigmoid()), (half,), step.outputs, step.place)
    return [cut, product]


def gate(step: Step, origins: Mapping[int, OpOverload | None]) -> int | None:
    """Which argument of a product of two signals is the gate; None if neither is, or both may be.

    A divisor is; of factors, a mask; the one that is spread over the other, as squeeze-excitation does; the
    one that comes out of a sigmoid or softmax; the one that comes out of an activation, where the other does not.
    """
    pair = _factors(step)
    first = 1 if step.operation is aten.addcmul.default else 0
    if step.operation is aten.div.Tensor:
        return 1
    ranks = [_rank(value, step, origins) for value in pair]
    return None if ranks[0] == ranks[1] or pair[0] == pair[1] else first + int(ranks[1] > ranks[0])


def _rank(value: Value, step: Step, origins: Mapping[int, OpOverload | None]) -> int:
    """How much a factor looks like a gate."""
    if not value.dtype.is_floating_point:
        return 4
    out = step.outputs[0]
    if out is not None and step.operation is aten.mul.Tensor and prod(value.shape) < prod(out.shape):
        return 3
    made = origins.get(value.index)
    if made in _SQUASHES:
        single = step.operation is aten.mul.Tensor or 1 in value.shape[-2:]  # else it is an attention between positions
        return 2 if single else 0
    return 1 if made in _ACTIVATIONS and step.operation is aten.mul.Tensor else 0


def _origin(step: Step, origins: Mapping[int, OpOverload | None]) -> OpOverload | None:
    """The operation that a step's outputs come from, past what only moves and scales samples; None if there are several."""
    live = [value for value in step.inputs if value.dtype.is_floating_point]
    if step.operation not in _CARRIERS or not live:
        return step.operation
    found = [origins.get(value.index) for value in live]
    return found[0] if len(found) == 1 else next((origin for origin in found if origin in _SQUASHES), None)


def scale(step: Step) -> Tensor:
    """What a norm multiplied each sample with, in a shape that spreads over the value."""
    (x,) = step.kept
    x = x if x.dtype == torch.float64 else x.float()  # squares overflow in half precision
    axes = x.ndim - 2
    if step.operation is LOCAL_RESPONSE_NORM:
        _x, size, alpha, beta, k = step.args
        squares = torch.nn.functional.pad(x.square().movedim(1, -1), (size // 2, (size - 1) // 2))
        means: Tensor = squares.unfold(-1, size, 1).mean(-1).movedim(-1, 1)
        divided: Tensor = (k + alpha * means).pow(-beta)
        return divided
    if step.operation is aten.native_layer_norm.default:
        _x, shape, gamma, _beta, eps = step.args
        return _over(x, list(range(-len(shape), 0)), eps) * (1 if gamma is None else gamma)
    if step.operation is aten.native_group_norm.default:
        _x, gamma, _beta, _n, channels, _positions, groups, eps = step.args
        grouped = x.reshape(len(x), groups, -1)
        deviations = _over(grouped, [-1], eps).repeat_interleave(channels // groups, 1).view(len(x), channels, *[1] * axes)
        return deviations * (1 if gamma is None else gamma.view(-1, *[1] * axes))
    _x, gamma, _beta, eps = step.args
    over = [1] if step.operation is CHANNEL_NORM else list(range(2, x.ndim))
    return _over(x, over, eps) * (1 if gamma is None else gamma.view(-1, *[1] * axes))


def _over(x: Tensor, axes: Sequence[int], eps: float) -> Tensor:
    return (x.var(list(axes), correction=0, keepdim=True) + eps).rsqrt()


def held_words(held: Held, places: Collection[str]) -> Iterator[str]:
    """What of `places` is held fixed, in words."""
    kinds = (
        (held.gates, "gate", "held as it was", "held as they were"),
        (held.norms, "norm", "held at the scale it took from the picture", "held at the scale they took from the picture"),
        (held.skipped, "local response norm", "skipped, as in the paper", "skipped, as in the paper"),
    )
    for found, name, one, many in kinds:
        count = sum(place in places for place in found)
        if count:
            yield f"{count} {name} {one}" if count == 1 else f"{count} {name}s {many}"
