"""Reverse rules of operations that move samples and change none."""

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
"""For operations that work along an axis, or several, the position of that argument."""


def _leaves_map_axes(step: Step, axes: int) -> bool:
    """Whether batch and spatial axes stay as they are, so that a window can pass."""
    # Only permutations, and operations that name their axes, can be judged; any other may move samples anywhere.
    source, out = step.inputs[0], step.outputs[0]
    assert out is not None
    rank = max(len(source.shape), len(out.shape))
    if rank < axes:  # a single number
        return False
    fixed = (0, *range(rank - axes, rank))
    if step.operation in (aten.transpose.int, aten.t.default, aten.permute.default):
        order = list(range(len(source.shape)))
        if step.operation is aten.permute.default:
            order = [axis % len(order) for axis in step.args[1]]
        elif len(order) > 1:
            a, b = (0, 1) if step.operation is aten.t.default else (axis % len(order) for axis in step.args[1:])
            order[a], order[b] = b, a
        return all(order[axis] == axis for axis in fixed)
    if step.operation not in _ALONG:
        return False
    along = step.args[_ALONG[step.operation]]
    along = along if isinstance(along, list | tuple) else [along]
    return None not in along and bool(along) and not {axis % rank for axis in along} & set(fixed)


def _shape_reach(step: Step, axes: int) -> Reach | None:
    return local(step, axes) if _leaves_map_axes(step, axes) else None


def _moving(*operations: OpOverload, axes_at: int | None = None, role: Role | None = "move", **more: Any) -> Callable[[_R], _R]:
    """Register a rule as `rule` does, for operations that move or join samples.

    Windows pass if batch and spatial axes stay as they are.

    Args:
        axes_at: the position of the argument with the axis, or axes, that the operation works along.
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
    """Send every sample back to where it came from; a window passes if all spatial axes stay."""
    ranks = {signal.corner.shape[1] for signal in signals if signal and signal.corner is not None}
    constants = any(isinstance(argument, torch.Tensor) for argument in tree_leaves(step.args))  # of the full map's size
    if (
        len(ranks) == 1
        and not constants
        and _leaves_map_axes(step, *ranks)
        and not any(s and s.corner is None for s in signals)
    ):
        return adjoint(step, *signals)
    return adjoint(step, *full_maps(step, signals))


@rule(aten.mean.default, aten.sum.default, gate="kept")
def reduced(step: Step, r: Window) -> list[Window | None]:
    """Send a single number back to every sample that it was computed from."""
    return adjoint(step, full_map(step, r))


def _memory_indices(_step: Step, args: tuple[Any, ...]) -> Tensor | None:
    """Return which samples of its input `as_strided` takes, as flat indices; None if it also reads other memory."""
    source, size, stride, offset = args
    samples = source.untyped_storage().nbytes() // source.element_size()
    positions = torch.full((samples,), -1, dtype=torch.int64, device=source.device)
    torch.as_strided(positions, source.shape, source.stride(), source.storage_offset()).copy_(
        torch.arange(source.numel(), device=source.device).view(source.shape)
    )
    taken_from = torch.as_strided(positions, size, stride, source.storage_offset() if offset is None else offset)
    return None if bool((taken_from < 0).any()) else taken_from.contiguous()


def _strided_reach(step: Step, axes: int) -> Reach | None:
    return local(step, axes) if _pooled_to_one(step) else None


def _pooled_to_one(step: Step) -> bool:
    """Whether the step only says that a map of one sample is channels last in memory, as a pool to one sample does."""
    source, out = step.inputs[0], step.outputs[0]
    return out is not None and source.shape == out.shape and all(n == 1 for n in source.shape[2:])


@rule(aten.as_strided.default, reach=_strided_reach, keep=Before(_memory_indices), role="move")
def as_strided(step: Step, r: Window) -> Window:
    """Send each sample back to where it was read in memory, as for the frames of a spectrogram; overlapping ones add."""
    if _pooled_to_one(step):
        return r
    if step.kept is None:
        raise NoRule(f"{step.place} reads memory outside its input (as_strided), so that its values have no known origin")
    source, values = step.inputs[0], full_map(step, r).values.flatten(1)
    flat = values.new_zeros(len(values), prod(source.shape)).index_add_(1, step.kept.flatten(), values)
    return Window(flat.view(len(values), *(source.shape[1:] if source.shape[0] == 1 else source.shape)))


@rule(aten.detach.default, reach=local, role="move")
def detach(_step: Step, _r: Window) -> list[Window | None]:
    """Send nothing back: the model stops autograd here, and so do we."""
    return [None]


@rule(STALE, role="move")
def stale(step: Step, _r: Window) -> Window:
    """Refuse: which values of the picture the tensor holds is not known."""
    raise NoRule(f"{refusal_of_barrier(step)}.")


@rule(aten.alias.default, aten.clone.default, aten._to_copy.default, NO_GRAD, WRITTEN, reach=local, role="move")
def same(_step: Step, r: Window) -> Window:
    """Pass the signal on as it is."""
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
    """Send the samples back in the shape they had."""
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


def _pads_channels_first(step: Step, axes: int) -> tuple[OpOverload, tuple[Any, ...]]:
    """Return a pad with channels first: the pairs of the samples' axes, innermost first, then that of the channels."""
    x, pads, value = step.args
    rank = axes + 2
    filled = [*pads, *[0] * (2 * rank - len(pads))]
    reordered = [*filled[2 : 2 * rank - 2], *filled[:2], *filled[2 * rank - 2 :]]
    while reordered[-2:] == [0, 0]:
        reordered = reordered[:-2]
    return step.operation, (x, reordered, value)


@rule(aten.constant_pad_nd.default, reach=_pad_reach, gate="kept", turn=_pads_channels_first)
def constant_pad(step: Step, r: Window) -> Window | list[Window | None]:
    """Cut the padding off."""
    reach = None if r.corner is None else _pad_reach(step, r.corner.shape[1])
    if reach is None:
        return adjoint(step, full_map(step, r))
    return r.below(reach, step.inputs[0].shape, lambda needless: cropped(r.values, needless).clone())
