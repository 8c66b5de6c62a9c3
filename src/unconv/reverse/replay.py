"""Run a recorded network again under autograd, with frozen gates and statistics as constants.

In the walk a gate or a norm is a product with a number. Here the operations themselves run again, by torch and by the formulas
of the norms, with frozen factors and statistics detached from the graph. Autograd and the rules must then give the same result.
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
"""From an operation's arguments to its result, with its frozen parts detached from the graph."""

_FROZEN: dict[OpOverload, PartlyFrozen] = {}


def replay(tape: Tape, frozen: Tape, image: Tensor, requested: Sequence[Value]) -> dict[int, Tensor]:
    """Return values of a recording on `image`, by index, as part of autograd's graph except for what is frozen.

    Args:
        tape: as it was recorded.
        frozen: the same tape with its gates and statistics frozen, which shows what to detach.
        image: (1, C, samples..), which may require gradients.
        requested: the values to return; steps that they do not depend on do not run.
    """
    frozen_steps = {value.index: step for step in frozen.steps for value in step.outputs[:1] if value}
    makers = {value.index: step.written or step for step in tape.steps for value in step.outputs if value}
    tensors = {tape.value.index: image}
    for step in _needed(tape, {value.index for value in requested}):
        out = step.outputs[0]
        frozen_step = frozen_steps.get(out.index, step) if out else step
        if step.operation is SCALED:
            results: Sequence[Tensor | None] = [_written_norm(step, tensors, makers)]
        elif step.operation is aten.copy.default:  # torch differentiates only its in-place form
            results = [_copy_result(step, tensors)]
        elif step.operation is FUNCTION:
            results = [step.kept.on([tensors[value.index].clone() for value in step.inputs])]
        elif frozen_step is step:
            results = _listed(step.again([tensors[value.index] for value in step.inputs]))
            if step.operation is NO_GRAD:
                results = [result.detach() for result in results if result is not None]
        else:
            results = [_partly_frozen(step, frozen_step, tensors)]
        pairs = zip(step.outputs, results, strict=False)
        tensors |= {value.index: result for value, result in pairs if value and result is not None}
    return tensors


def _needed(tape: Tape, needed: set[int]) -> list[Step]:
    """Return the steps that some values depend on, in order; for one that is written out, also those of its formula."""
    steps = list[Step]()
    for step in reversed(tape.steps):
        if any(value and value.index in needed for value in step.outputs):
            steps.append(step)
            needed |= {value.index for part in (step, step.written) if part for value in part.inputs}
    return steps[::-1]


def _listed(results: Tensor | Sequence[Tensor]) -> list[Tensor | None]:
    return [results] if isinstance(results, Tensor) else list(results)


def _partly_frozen(step: Step, frozen_step: Step, tensors: Mapping[int, Tensor]) -> Tensor:
    """Return the result of a step that is partly frozen; `frozen_step` replaces it in the walk."""
    if step.operation in _FROZEN:
        return _FROZEN[step.operation](*(tensors[a.index] if isinstance(a, Value) else a for a in step.args))
    pairs = zip(step.args, frozen_step.args, strict=True)
    constant = {id(a) for a, replacement in pairs if isinstance(a, Value) and isinstance(replacement, Tensor)}
    arguments = iter([tensors[a.index].detach() if id(a) in constant else tensors[a.index] for a in _values(step.args)])
    result: Tensor = step.again(list(arguments))
    return result


def _copy_result(step: Step, tensors: Mapping[int, Tensor]) -> Tensor:
    out, source = step.outputs[0], step.args[1]
    assert out is not None
    return (tensors[source.index] if isinstance(source, Value) else source).to(out.dtype).expand(out.shape)


def _values(arguments: Iterable[object]) -> list[Value]:
    return [argument for argument in arguments if isinstance(argument, Value)]


def _written_norm(step: Step, tensors: Mapping[int, Tensor], makers: Mapping[int, Step]) -> Tensor:
    """Return the result of a norm that is written out, by its own steps, its statistics detached from the graph."""
    (root,) = step.inputs
    values = {root.index: tensors[root.index]}

    def run(part: Step) -> None:
        for value in part.inputs:
            if value.index not in values:
                run(makers[value.index])
        results = _listed(part.again([values[value.index] for value in part.inputs]))
        for out, result in zip(part.outputs, results, strict=False):
            if out and result is not None:
                values[out.index] = result.detach() if part.operation in STATISTICS else result

    last = step.written
    assert last is not None and last.outputs[0] is not None
    run(last)
    return values[last.outputs[0].index]


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
    # The divisor comes from torch's own function; where a sample is zero, so is the result.
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
    """Return one number for each channel, in a shape that broadcasts to the maps."""
    return None if weights is None else weights.view(-1, *[1] * (x.ndim - 2))
