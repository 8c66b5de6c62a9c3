"""Reverse rules of pools: a maximum returns where it came from, an average spreads."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor

from unconv.errors import NoRule
from unconv.reverse.rules.table import adjoint, on_whole_first, rule
from unconv.reverse.tape import Step
from unconv.reverse.window import Reach, Window
from unconv.shapes import adaptive_windows, kernel_extent, pool_divisor

aten = torch.ops.aten


def _axes(setting: Any, axes: int) -> tuple[int, ...]:
    return tuple(setting) * axes if len(setting) == 1 else tuple(setting)


def _windows(step: Step) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Kernel, stride, padding and dilation per axis; an empty stride is the kernel."""
    axes = len(step.inputs[0].shape) - 2
    _x, kernel, stride, padding, *rest = step.args
    dilation = rest[0] if "max_pool" in step.kind else [1]
    return _axes(kernel, axes), _axes(stride or kernel, axes), _axes(padding, axes), _axes(dilation, axes)


def _pool_reach(step: Step, axes: int) -> Reach | None:
    if len(step.inputs[0].shape) != axes + 2:
        return None
    kernel, stride, padding, dilation = _windows(step)
    extent = tuple(kernel_extent(k, d) for k, d in zip(kernel, dilation, strict=True))
    return Reach(stride, padding, extent)


def _switches(_args: tuple[Any, ...], results: tuple[Any, ...]) -> Tensor:
    switches: Tensor = results[1]
    return switches


@rule(aten.max_pool2d_with_indices.default, aten.max_pool3d_with_indices.default, reach=_pool_reach, keep=_switches)
def max_pool(step: Step, r: Window, _switches: None) -> Window:
    """Each pooled value returns to the place its switch points at; where two meet they add.

    The adjoint of max pooling with the switches held fixed. `F.max_unpool2d` would let the last one
    win.

    Source:
        Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks" (2014), sec. 2.1.
    """
    source = step.inputs[0]
    if source.shape[0] != 1:
        raise NoRule(f"no reverse rule for {step.operation} with other axes folded into the batch (at {step.place})")
    size = source.shape[2:]
    reach = None if r.corner is None else _pool_reach(step, r.corner.shape[1])
    if r.corner is None or reach is None:
        r = on_whole_first(step, r)
        return Window(_unpool(r.values, step.kept, size))
    lengths, corner = reach.lengths(r.lengths), reach.corner(r.corner)
    rest, local, pitch = r.cut(step.kept), torch.zeros((), dtype=torch.int64), 1
    for axis in reversed(range(len(size))):
        first = corner[:, axis].view(-1, *[1] * (len(size) + 1)).to(rest.device)
        local = local.to(rest.device) + (rest % size[axis] - first).clamp_(0, lengths[axis] - 1) * pitch
        rest, pitch = rest // size[axis], pitch * lengths[axis]
    return r.below(reach, _unpool(r.values, local, lengths), source.shape)


def _unpool(pooled: Tensor, switches: Tensor, size: tuple[int, ...] | list[int]) -> Tensor:
    """(B, C, pooled..) to (B, C, *size); switches (B or 1, C, pooled..) index the flattened `size`."""
    switches = switches.expand(len(pooled), *switches.shape[1:]).flatten(2)
    flat = pooled.new_zeros(*pooled.shape[:2], prod(size))
    return flat.scatter_add_(2, switches, pooled.flatten(2)).view(*pooled.shape[:2], *size)


@rule(aten.avg_pool2d.default, aten.avg_pool3d.default, reach=_pool_reach)
def avg_pool(step: Step, r: Window) -> Window | list[Window | None]:
    """Each average spreads evenly over what it averaged."""
    source, out = step.inputs[0], step.outputs[0]
    axes = len(source.shape) - 2
    if source.shape[0] != 1 or (r.corner is not None and r.corner.shape[1] != axes):
        return adjoint(step, on_whole_first(step, r))
    assert out is not None
    kernel, stride, padding, _ = _windows(step)
    count_include_pad, override = step.args[5], step.args[6]
    spans = zip(out.shape[2:], source.shape[2:], kernel, stride, padding, strict=True)
    divisor = torch.ones((), dtype=torch.float64)
    for span in spans:
        along = pool_divisor(*span, count_include_pad)
        divisor = divisor[..., None] * torch.tensor(along, dtype=torch.float64)
    if override:
        divisor = torch.full_like(divisor, override)
    divisor = divisor.to(r.values.device)
    return _spread(r.times(1 / divisor[None, None]), Reach(stride, padding, kernel), source.shape)


def _spread(r: Window, reach: Reach, shape: tuple[int, ...]) -> Window:
    """Each value copied to all samples that its unit sees; where they overlap they add."""
    covering = r.corner is None
    corner = torch.zeros(len(r.values), len(reach.stride), dtype=torch.int64) if r.corner is None else r.corner
    ones = r.values.new_ones(1, 1, *reach.extent)
    none = [0] * len(reach.stride)
    single = r.values.reshape(-1, 1, *r.values.shape[2:])
    values = torch.convolution(single, ones, None, list(reach.stride), none, [1] * len(none), True, none, 1)
    window = Window(values.reshape(*r.values.shape[:2], *values.shape[2:]), reach.corner(corner))
    return window.whole(shape) if covering else window.inside(shape)


def _adaptive_reach(step: Step, axes: int) -> Reach | None:
    source, out = step.inputs[0], step.outputs[0]
    if len(source.shape) != axes + 2 or out is None:
        return None
    even = [adaptive_windows(n, o) for n, o in zip(source.shape[2:], out.shape[2:], strict=True)]
    pairs = [pair for pair in even if pair is not None]
    if len(pairs) < len(even):
        return None
    return Reach(tuple(s for _, s in pairs), (0,) * axes, tuple(k for k, _ in pairs))


@rule(aten._adaptive_avg_pool2d.default, aten._adaptive_avg_pool3d.default, reach=_adaptive_reach)
def adaptive_avg_pool(step: Step, r: Window) -> Window | list[Window | None]:
    """As `avg_pool` where the windows are even; otherwise on the whole map."""
    source = step.inputs[0]
    reach = _adaptive_reach(step, len(source.shape) - 2)
    if reach is None or source.shape[0] != 1 or (r.corner is not None and r.corner.shape[1] != len(reach.stride)):
        return adjoint(step, on_whole_first(step, r))
    return _spread(r.map(lambda values: values / prod(reach.extent)), reach, source.shape)
