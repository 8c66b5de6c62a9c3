"""Reverse rules of operations that replace values by others: fill, copy, scatter, add by index."""

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
    """Send nothing back: the values that were there are overwritten."""
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
    """Send the signal to the values that were written; those that were overwritten get nothing."""
    return differentiated(step, *signals)


def _overlaid_reach(step: Step, axes: int) -> Sights:
    """Each unit sees its own position in the value below, and in the one written over it if that has the same map."""
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
    """Send samples that were written through another tensor back to it, and the others to the value below."""
    return adjoint(step, full_map(step, r))


@rule(aten.scatter.src, aten.scatter_add.default, keep=Before(point))
def scattered(step: Step, r: Window) -> list[Window | None]:
    """Send the signal to the values that were put there by index; those that they replaced get none."""
    # By hand: torch's own derivative fails if the source is longer than the index, where its last values are not used.
    target, axis, index, source = step.args
    entered = dict(zip((value.index for value in step.inputs), step.kept, strict=True))
    where = entered[index.index] if isinstance(index, Value) else index
    shape = _shape(step)
    signals = r.full_map(shape).values
    signals = signals.reshape(len(signals), *shape)
    where, axis = where[None].expand(len(signals), *where.shape), axis % len(shape) + 1
    signals_below: list[Window | None] = []
    if isinstance(target, Value):
        adds = step.operation is aten.scatter_add.default
        signals_below.append(_as_recorded(signals if adds else signals.scatter(axis, where, 0.0), target))
    if isinstance(index, Value):
        signals_below.append(None)
    if isinstance(source, Value):
        gathered = signals.gather(axis, where)
        pads = [edge for n, m in zip(reversed(source.shape), reversed(gathered.shape), strict=False) for edge in (0, n - m)]
        signals_below.append(_as_recorded(F.pad(gathered, pads), source))
    return signals_below


def _as_recorded(signals: Tensor, value: Value) -> Window:
    return Window(signals[:, 0] if value.shape[:1] == (1,) else signals)


def _copy_reach(step: Step, axes: int) -> Reach | None:
    source = step.args[1]
    return local(step, axes) if isinstance(source, Value) and source.shape == _shape(step) else None


@rule(aten.copy.default, reach=_copy_reach)
def copied(step: Step, r: Window) -> list[Window | None]:
    """Send the signal to the source of the copy, added up where one sample was copied to several."""
    target, source = step.args[:2]
    to_target: list[Window | None] = [None] if isinstance(target, Value) else []
    if not isinstance(source, Value):
        return to_target
    if not source.flows:
        return [*to_target, None]
    if source.shape == _shape(step):
        return [*to_target, r]
    signal = full_map(step, r)
    args = (source, list(_shape(step)), False)
    return [*to_target, *adjoint(replace(step, operation=aten.expand.default, args=args, inputs=(source,)), signal)]


def _shape(step: Step) -> tuple[int, ...]:
    assert step.outputs[0] is not None
    return step.outputs[0].shape
