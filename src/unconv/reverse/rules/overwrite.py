"""Reverse rules of operations that put values in the place of others: fill, copy, scatter, add by index."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from unconv.reverse.rules.table import adjoint, differentiated, full_map, local, one_channel, point, rule
from unconv.reverse.spans import Sights
from unconv.reverse.tape.barriers import OVERLAID
from unconv.reverse.tape.step import Before, Step, Value
from unconv.reverse.window import Reach, Window

aten = torch.ops.aten


@one_channel
@rule(aten.fill.Scalar, aten.zero.default, reach=local)
def filled(step: Step, _r: Window) -> list[Window | None]:
    """Nothing: what was there is gone."""
    return [None] * len(step.inputs)


@rule(
    aten.fill.Tensor,
    aten.index_add.default,
    aten.index_copy.default,
    aten.index_fill.int_Scalar,
    aten.index_put.default,
    aten.masked_fill.Scalar,
    aten.masked_fill.Tensor,
    aten.scatter.value,
    aten.select_scatter.default,
    aten.slice_scatter.default,
    keep=Before(point),
)
def overwritten(step: Step, *signals: Window | None) -> list[Window | None]:
    """What was overwritten gets nothing, what was put in its place gets the signal from there."""
    return differentiated(step, *signals)


def _overlaid_reach(step: Step, axes: int) -> Sights:
    """Each unit sees its own position of what was there, and of what was laid over it, if that has the same maps."""
    (x, part, index), out = step.args, step.outputs[0]
    assert out is not None
    size = out.shape[-axes:]
    if len(out.shape) != axes + 2:
        return None
    positions = torch.arange(prod(size), device=index.device).view(size)
    alike = tuple(part.shape[-axes:]) == size and bool(((index % prod(size) == positions) | (index < 0)).all())
    sees = ((x, local(step, axes)), (part, local(step, axes) if alike else None))
    return tuple(sight for argument, sight in sees if isinstance(argument, Value))


@rule(OVERLAID, reach=_overlaid_reach, role="move")
def overlaid(step: Step, r: Window) -> list[Window | None]:
    """What was written through another tensor goes back there; the rest to what was there before."""
    return adjoint(step, full_map(step, r))


@rule(aten.scatter.src, aten.scatter_add.default, keep=Before(point))
def scattered(step: Step, r: Window) -> list[Window | None]:
    """What was put by index gets the signal from there; what it was put in place of gets none."""
    # By hand: torch's own derivative fails where the source is longer than the index, whose rest is not used.
    target, axis, index, source = step.args
    entered = dict(zip((value.index for value in step.inputs), step.kept, strict=True))
    where = entered[index.index] if isinstance(index, Value) else index
    shape = _shape(step)
    signals = r.full_map(shape).values
    signals = signals.reshape(len(signals), *shape)
    where, axis = where[None].expand(len(signals), *where.shape), axis % len(shape) + 1
    found: list[Window | None] = []
    if isinstance(target, Value):
        adds = step.operation is aten.scatter_add.default
        found.append(_as_recorded(signals if adds else signals.scatter(axis, where, 0.0), target))
    if isinstance(index, Value):
        found.append(None)
    if isinstance(source, Value):
        picked = signals.gather(axis, where)
        grown = [edge for n, m in zip(reversed(source.shape), reversed(picked.shape), strict=False) for edge in (0, n - m)]
        found.append(_as_recorded(F.pad(picked, grown), source))
    return found


def _as_recorded(signals: Tensor, value: Value) -> Window:
    return Window(signals[:, 0] if value.shape[:1] == (1,) else signals)


def _copy_reach(step: Step, axes: int) -> Reach | None:
    source = step.args[1]
    return local(step, axes) if isinstance(source, Value) and source.shape == _shape(step) else None


@rule(aten.copy.default, reach=_copy_reach)
def copied(step: Step, r: Window) -> list[Window | None]:
    """The signal goes to what was copied; where that was spread over more samples, it adds up."""
    target, source = step.args[:2]
    found: list[Window | None] = [None] if isinstance(target, Value) else []
    if not isinstance(source, Value):
        return found
    if not source.flows:
        return [*found, None]
    if source.shape == _shape(step):
        return [*found, r]
    whole = full_map(step, r)
    args = (source, list(_shape(step)), False)
    return [*found, *adjoint(replace(step, operation=aten.expand.default, args=args, inputs=(source,)), whole)]


def _shape(step: Step) -> tuple[int, ...]:
    assert step.outputs[0] is not None
    return step.outputs[0].shape
