"""Reverse rules of operations that put values in the place of others: fill, copy, scatter, add by index."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from unconv.reverse.rules.table import adjoint, differentiated, local, on_whole_first, one_channel, point, rule
from unconv.reverse.tape.step import Before, Step, Value
from unconv.reverse.window import Window

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


@rule(aten.scatter.src, aten.scatter_add.default, keep=Before(point))
def scattered(step: Step, r: Window) -> list[Window | None]:
    """What was put by index gets the signal from there; what it was put in place of gets none."""
    # By hand: torch's own derivative fails where the source is longer than the index, whose rest is not used.
    target, axis, index, source = step.args
    entered = dict(zip((value.index for value in step.inputs), step.kept, strict=True))
    where = entered[index.index] if isinstance(index, Value) else index
    shape = _shape(step)
    signals = r.whole(shape).values
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


@rule(aten.copy.default)
def copied(step: Step, r: Window) -> list[Window | None]:
    """The signal goes to what was copied; where that was spread over more samples, it adds up."""
    target, source = step.args[:2]
    found: list[Window | None] = [None] if isinstance(target, Value) else []
    if not isinstance(source, Value):
        return found
    if not source.dtype.is_floating_point:
        return [*found, None]
    whole = on_whole_first(step, r)
    args = (source, list(_shape(step)), False)
    return [*found, *adjoint(replace(step, operation=aten.expand.default, args=args, inputs=(source,)), whole)]


def _shape(step: Step) -> tuple[int, ...]:
    assert step.outputs[0] is not None
    return step.outputs[0].shape
