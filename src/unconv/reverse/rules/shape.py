"""Reverse rules of operations that move samples about and change none."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._pytree import tree_leaves

from unconv.errors import NoRule
from unconv.reverse.rules.table import Role, Rule, adjoint, along, full_map, full_maps, local, rule
from unconv.reverse.tape.barriers import NO_GRAD, STALE, WRITTEN, refusal_of_barrier
from unconv.reverse.tape.step import Before, Step, Value
from unconv.reverse.window import Reach, Window, cropped

aten = torch.ops.aten

_R = TypeVar("_R", bound=Rule)

_ALONG: dict[OpOverload, int] = {}
"""Where the schema has the axis, or axes, that an operation works along."""


def _untouched(step: Step, axes: int) -> bool:
    """Whether batch and spatial axes stay as they are, so that a window can pass."""
    source, out = step.inputs[0], step.outputs[0]
    assert out is not None
    rank = max(len(source.shape), len(out.shape))
    if rank < axes:  # a single number
        return False
    kept = (0, *range(rank - axes, rank))
    if step.operation in (aten.transpose.int, aten.t.default, aten.permute.default):
        order = list(range(len(source.shape)))
        if step.operation is aten.permute.default:
            order = [axis % len(order) for axis in step.args[1]]
        elif len(order) > 1:
            a, b = (0, 1) if step.operation is aten.t.default else (axis % len(order) for axis in step.args[1:])
            order[a], order[b] = b, a
        return all(order[axis] == axis for axis in kept)
    if step.operation not in _ALONG:
        return False
    along = step.args[_ALONG[step.operation]]
    along = along if isinstance(along, list | tuple) else [along]
    return None not in along and bool(along) and not {axis % rank for axis in along} & set(kept)


def _shape_reach(step: Step, axes: int) -> Reach | None:
    return local(step, axes) if _untouched(step, axes) else None


def _moving(*operations: OpOverload, axes_at: int | None = None, role: Role | None = "move", **more: Any) -> Callable[[_R], _R]:
    """As `rule`, for what moves or joins samples: windows pass where batch and spatial axes stay as they are.

    Args:
        axes_at: which argument has the axis, or axes, that the operation works along.
    """
    if axes_at is not None:
        _ALONG.update(dict.fromkeys(operations, axes_at))
    return rule(*operations, reach=_shape_reach, role=role, **more)


@_moving(aten.expand.default, aten.permute.default, aten.squeeze.default, aten.t.default, aten.transpose.int)
@_moving(
    aten.select.int,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.unbind.int,
    aten.unsqueeze.default,
    axes_at=1,
)
@_moving(aten.stack.default, axes_at=1, role=None, gate="kept")
@_moving(aten.mean.dim, aten.sum.dim_IntList, axes_at=1, role=None, turn=along(1), gate="kept")
def moved(step: Step, *signals: Window | None) -> list[Window | None]:
    """Every sample goes back where it came from; a window passes if no spatial axis is touched."""
    ranks = {signal.corner.shape[1] for signal in signals if signal and signal.corner is not None}
    constants = any(isinstance(argument, torch.Tensor) for argument in tree_leaves(step.args))  # of the whole map's size
    if len(ranks) == 1 and not constants and _untouched(step, *ranks) and not any(s and s.corner is None for s in signals):
        return adjoint(step, *signals)
    return adjoint(step, *full_maps(step, signals))


@rule(aten.mean.default, aten.sum.default, gate="kept")
def reduced(step: Step, r: Window) -> list[Window | None]:
    """A single number goes back to every sample that it was made of."""
    return adjoint(step, full_map(step, r))


def _memory(_step: Step, args: tuple[Any, ...]) -> Tensor | None:
    """Return which samples of its input an operation on memory takes, as flat indices; None where it takes others, too."""
    source, size, stride, offset = args
    samples = source.untyped_storage().nbytes() // source.element_size()
    known = torch.full((samples,), -1, dtype=torch.int64, device=source.device)
    torch.as_strided(known, source.shape, source.stride(), source.storage_offset()).copy_(
        torch.arange(source.numel(), device=source.device).view(source.shape)
    )
    taken = torch.as_strided(known, size, stride, source.storage_offset() if offset is None else offset)
    return None if bool((taken < 0).any()) else taken.contiguous()


def _strided_reach(step: Step, axes: int) -> Reach | None:
    return local(step, axes) if _pooled_to_one(step) else None


def _pooled_to_one(step: Step) -> bool:
    """Whether a pool to one sample only wrote down that its map lies channels last in memory."""
    source, out = step.inputs[0], step.outputs[0]
    return out is not None and source.shape == out.shape and all(n == 1 for n in source.shape[2:])


@rule(aten.as_strided.default, reach=_strided_reach, keep=Before(_memory), role="move")
def as_strided(step: Step, r: Window) -> Window:
    """Each sample goes back to where it lay in memory, as the frames of a spectrogram do; where they overlap they add."""
    if _pooled_to_one(step):
        return r
    if step.kept is None:
        raise NoRule(f"{step.place} reads memory that its input does not hold (as_strided), so that nobody knows what it is")
    source, values = step.inputs[0], full_map(step, r).values.flatten(1)
    flat = values.new_zeros(len(values), prod(source.shape)).index_add_(1, step.kept.flatten(), values)
    return Window(flat.view(len(values), *(source.shape[1:] if source.shape[0] == 1 else source.shape)))


@rule(aten.detach.default, reach=local, role="move")
def detach(_step: Step, _r: Window) -> list[Window | None]:
    """Nothing: autograd stops here, by the model's own wish, and so do we."""
    return [None]


@rule(STALE, role="move")
def stale(step: Step, _r: Window) -> Window:
    """Refused: which values of the picture it holds cannot be told."""
    raise NoRule(f"{refusal_of_barrier(step)}.")


@rule(aten.alias.default, aten.clone.default, aten._to_copy.default, NO_GRAD, WRITTEN, reach=local, role="move")
def same(_step: Step, r: Window) -> Window:
    """A copy: the signal as it is."""
    return r


def _view_reach(step: Step, axes: int) -> Reach | None:
    source, out = step.inputs[0], step.outputs[0]
    assert out is not None
    return local(step, axes) if _keeps_axes(source, out, axes) else None


def _keeps_axes(source: Value, out: Value, axes: int) -> bool:
    ranked = len(source.shape) > axes and len(out.shape) > axes and source.shape[0] == out.shape[0] == 1
    return ranked and source.shape[-axes:] == out.shape[-axes:]


@rule(aten.view.default, aten._unsafe_view.default, reach=_view_reach, role="move")
def view(step: Step, r: Window) -> Window:
    """The same samples in the shape they had."""
    source, out = step.inputs[0], step.outputs[0]
    assert out is not None
    if r.corner is not None and _keeps_axes(source, out, r.corner.shape[1]):
        middle = source.shape[1 : -r.corner.shape[1]]
        return r.map(lambda values: values.reshape(len(values), *middle, *r.lengths))
    lead = source.shape[1:] if source.shape[:1] == (1,) else source.shape
    return Window(r.full_map(out.shape).values.reshape(len(r), *lead))


def _pad_reach(step: Step, axes: int) -> Reach | None:
    pads = step.args[1]
    if len(pads) > 2 * axes:
        return None
    before = (0,) * (axes - len(pads) // 2) + tuple(reversed(pads[::2]))
    return Reach((1,) * axes, before, (1,) * axes)


def _pads_turned(step: Step, axes: int) -> tuple[OpOverload, tuple[Any, ...]]:
    """The pads, innermost axis first, with those of the channels behind those of the samples."""
    x, pads, value = step.args
    rank = axes + 2
    filled = [*pads, *[0] * (2 * rank - len(pads))]
    turned = [*filled[2 : 2 * rank - 2], *filled[:2], *filled[2 * rank - 2 :]]
    while turned[-2:] == [0, 0]:
        turned = turned[:-2]
    return step.operation, (x, turned, value)


@rule(aten.constant_pad_nd.default, reach=_pad_reach, gate="kept", turn=_pads_turned)
def constant_pad(step: Step, r: Window) -> Window | list[Window | None]:
    """What was padded on is nothing, and is cut off."""
    reach = None if r.corner is None else _pad_reach(step, r.corner.shape[1])
    if reach is None:
        return adjoint(step, full_map(step, r))
    return r.below(reach, step.inputs[0].shape, lambda cut: cropped(r.values, cut).clone())
