"""A recorded network run once more under autograd, with what a method holds fixed as constants.

The walk meets a gate or a norm as a product with a number. Here the operations themselves run again, in torch's way and by
the formulas of the norms: the factor that is frozen is cut off the graph, and so are the statistics. What autograd makes
of that has to be what the rules make of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._ops import OpOverload

from unconv.reverse.rewriting.written_norms import STATISTICS
from unconv.reverse.rules.norm import CHANNEL_NORM, INSTANCE_NORM, LOCAL_RESPONSE_NORM, SCALED
from unconv.reverse.tape.barriers import FUNCTION, NO_GRAD
from unconv.reverse.tape.step import Step, Tape, Value

aten = torch.ops.aten

PartlyFrozen = Callable[..., Tensor]
"""From an operation's arguments to its result, with what is frozen cut off the graph."""

_FROZEN: dict[OpOverload, PartlyFrozen] = {}


def replayed(tape: Tape, frozen: Tape, image: Tensor, wanted: Sequence[Value]) -> dict[int, Tensor]:
    """Return values of a recording on `image`, by index, in autograd's graph, except that what is frozen is constant.

    Args:
        tape: as it was recorded.
        frozen: the same with its gates and statistics as constants, which says what they are.
        image: (1, C, samples..), which may require gradients.
        wanted: the values that are asked for; what they do not depend on is not run.
    """
    held = {value.index: step for step in frozen.steps for value in step.outputs[:1] if value}
    makers = {value.index: step.written or step for step in tape.steps for value in step.outputs if value}
    known = {tape.value.index: image}
    for step in _needed(tape, {value.index for value in wanted}):
        out = step.outputs[0]
        stands = held.get(out.index, step) if out else step
        if step.operation is SCALED:
            results: Sequence[Tensor | None] = [_written_norm(step, known, makers)]
        elif step.operation is aten.copy.default:  # of which torch has a derivative in place alone
            results = [_copied(step, known)]
        elif step.operation is FUNCTION:
            results = [step.kept.on([known[value.index].clone() for value in step.inputs])]
        elif stands is step:
            results = _listed(step.again([known[value.index] for value in step.inputs]))
            if step.operation is NO_GRAD:
                results = [result.detach() for result in results if result is not None]
        else:
            results = [_partly_frozen(step, stands, known)]
        pairs = zip(step.outputs, results, strict=False)
        known |= {value.index: result for value, result in pairs if value and result is not None}
    return known


def _needed(tape: Tape, wanted: set[int]) -> list[Step]:
    """Return the steps that some values depend on, in order; of what is written out, also the steps of its formula."""
    steps = list[Step]()
    for step in reversed(tape.steps):
        if any(value and value.index in wanted for value in step.outputs):
            steps.append(step)
            wanted |= {value.index for part in (step, step.written) if part for value in part.inputs}
    return steps[::-1]


def _listed(results: Tensor | Sequence[Tensor]) -> list[Tensor | None]:
    return [results] if isinstance(results, Tensor) else list(results)


def _partly_frozen(step: Step, stands: Step, known: Mapping[int, Tensor]) -> Tensor:
    """Return the result of a step that is frozen in part; `stands` is what stands for it in the walk."""
    if step.operation in _FROZEN:
        return _FROZEN[step.operation](*(known[a.index] if isinstance(a, Value) else a for a in step.args))
    pairs = zip(step.args, stands.args, strict=True)
    constant = {id(given) for given, instead in pairs if isinstance(given, Value) and isinstance(instead, Tensor)}
    arguments = iter([known[a.index].detach() if id(a) in constant else known[a.index] for a in _values(step.args)])
    result: Tensor = step.again(list(arguments))
    return result


def _copied(step: Step, known: Mapping[int, Tensor]) -> Tensor:
    out, source = step.outputs[0], step.args[1]
    assert out is not None
    return (known[source.index] if isinstance(source, Value) else source).to(out.dtype).expand(out.shape)


def _values(arguments: Iterable[object]) -> list[Value]:
    return [argument for argument in arguments if isinstance(argument, Value)]


def _written_norm(step: Step, known: Mapping[int, Tensor], makers: Mapping[int, Step]) -> Tensor:
    """Return what a norm that is written out makes of its root, by its own steps, its statistics cut off the graph."""
    (root,) = step.inputs
    made = {root.index: known[root.index]}

    def run(part: Step) -> None:
        for value in part.inputs:
            if value.index not in made:
                run(makers[value.index])
        results = _listed(part.again([made[value.index] for value in part.inputs]))
        for out, result in zip(part.outputs, results, strict=False):
            if out and result is not None:
                made[out.index] = result.detach() if part.operation in STATISTICS else result

    last = step.written
    assert last is not None and last.outputs[0] is not None
    run(last)
    return made[last.outputs[0].index]


def _freezes(operation: OpOverload) -> Callable[[PartlyFrozen], PartlyFrozen]:
    def register(function: PartlyFrozen) -> PartlyFrozen:
        _FROZEN[operation] = function
        return function

    return register


@_freezes(aten.glu.default)
def _gated_linear_unit(x: Tensor, axis: int) -> Tensor:
    first, second = x.chunk(2, axis)
    return first * second.sigmoid().detach()


@_freezes(aten.native_layer_norm.default)
def _layer_norm(x: Tensor, shape: Sequence[int], gamma: Tensor | None, beta: Tensor | None, eps: float) -> Tensor:
    return _normed(x, list(range(-len(shape), 0)), gamma, beta, eps)


@_freezes(CHANNEL_NORM)
def _channel_norm(x: Tensor, gamma: Tensor | None, beta: Tensor | None, eps: float) -> Tensor:
    return _normed(x, [1], _down(gamma, x), _down(beta, x), eps)


@_freezes(INSTANCE_NORM)
def _instance_norm(x: Tensor, gamma: Tensor | None, beta: Tensor | None, eps: float) -> Tensor:
    return _normed(x, list(range(2, x.ndim)), _down(gamma, x), _down(beta, x), eps)


@_freezes(aten.native_group_norm.default)
def _group_norm(
    x: Tensor, gamma: Tensor | None, beta: Tensor | None, n: int, channels: int, positions: int, groups: int, eps: float
) -> Tensor:
    normed = _normed(x.reshape(n, groups, -1), [2], None, None, eps).view(x.shape)
    return _affine(normed, _down(gamma, x), _down(beta, x))


@_freezes(LOCAL_RESPONSE_NORM)
def _local_response_norm(x: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
    # Torch's own function makes the divisor; where a sample is zero, so is the result.
    fixed = x.detach()
    return x * (F.local_response_norm(fixed, size, alpha, beta, k) / fixed.masked_fill(fixed == 0, 1))


def _normed(x: Tensor, axes: list[int], gamma: Tensor | None, beta: Tensor | None, eps: float) -> Tensor:
    fixed = x.detach()
    mean, deviation = fixed.mean(axes, keepdim=True), fixed.std(axes, correction=0, keepdim=True)
    return _affine((x - mean) / (deviation.square() + eps).sqrt(), gamma, beta)


def _affine(x: Tensor, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
    scaled = x if gamma is None else x * gamma.to(x.dtype)
    return scaled if beta is None else scaled + beta.to(x.dtype)


def _down(weights: Tensor | None, x: Tensor) -> Tensor | None:
    """Return one number for each channel, to spread over the maps."""
    return None if weights is None else weights.view(-1, *[1] * (x.ndim - 2))
