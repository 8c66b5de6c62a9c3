"""Reverse rules of pools: a maximum goes back to where it came from, an average is spread over its window."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Any

import torch
from torch import Tensor

from unconv.axis import adaptive_windows, kernel_extent, pool_divisor
from unconv.reverse.rules.separable import back, resizing, sees
from unconv.reverse.rules.table import adjoint, full_map, many_pictures, prepared, rule
from unconv.reverse.spans import Sights
from unconv.reverse.tape.step import Step
from unconv.reverse.window import Reach, Window, cropped

aten = torch.ops.aten

_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
_LARGE = 64 * 2**20  # bytes: larger masks are not kept


def _batched(step: Step) -> bool:
    """Whether the pool's input is (1, C, samples..); torch also accepts (C, samples..)."""
    source = step.inputs[0]
    return source.shape[0] == 1 and len(source.shape) == _axes(step) + 2


def _axes(step: Step) -> int:
    return 3 if "3d" in step.kind else 2


def _pool_reach(step: Step, axes: int) -> Reach | None:
    source = step.inputs[0]
    more = len(source.shape) - 2 - axes  # a pool along one axis runs as one along two, over a single row
    if not _batched(step) or more < 0:
        return None
    _x, kernel, stride, padding, *rest = step.args
    reach = _reach(kernel, stride, padding, rest[0] if "max_pool" in step.kind else [1], more + axes)
    if any(n != 1 for n in (*reach.extent[:more], *source.shape[2 : 2 + more])):
        return None
    return Reach(reach.stride[more:], reach.padding[more:], reach.extent[more:])


def _reach(kernel: Any, stride: Any, padding: Any, dilation: Any, axes: int) -> Reach:
    """Return a pool's windows; an empty stride means the kernel's size, and one number serves all axes."""
    settings = (tuple(n) * axes if len(n) == 1 else tuple(n) for n in (kernel, stride or kernel, padding, dilation))
    kernels, strides, paddings, dilations = settings
    return Reach(strides, paddings, tuple(map(kernel_extent, kernels, dilations)))


def _switches(args: tuple[Any, ...], results: tuple[Any, ...]) -> Tensor:
    """Return for each maximum its position in the window, `y * extent + x`, in the smallest integer type that holds it."""
    # Positions in the window, not on the map as torch has them: they mostly fit one byte, and do not depend on where a window
    # is cut.
    source, kernel, stride, padding, dilation, _ceil = args
    axes = len(kernel) if len(kernel) > 1 else source.ndim - 2  # torch also accepts maps without a batch
    rest, size = results[1], source.shape[-axes:]
    reach = _reach(kernel, stride, padding, dilation, axes)
    packed, pitch = torch.zeros_like(rest), 1
    for axis in reversed(range(axes)):
        first = torch.arange(rest.shape[axis - axes], device=rest.device) * reach.stride[axis] - reach.padding[axis]
        packed += (rest % size[axis] - first.view(-1, *[1] * (axes - 1 - axis))) * pitch
        rest, pitch = rest // size[axis], pitch * reach.extent[axis]
    small = packed.to(torch.uint8 if pitch <= 2**8 else torch.int16 if pitch < 2**15 else torch.int32)
    channels = small.ndim - axes - 1
    return small.movedim(channels, -1).contiguous().movedim(-1, channels)  # channels last, as the signals are


@dataclass(frozen=True)
class _Switches:
    """Switches, and for each position in a window the bit mask of the values whose maximum was there."""

    small: Tensor
    masks: tuple[Tensor, ...]


def _with_masks(step: Step, dtype: torch.dtype) -> Tensor | _Switches:
    """Return masks for all units of a walk, if the windows do not overlap and the masks are small enough; else the switches."""
    switches: Tensor = step.kept
    if not windows_are_disjoint(step):
        return switches
    reach = _pool_reach(step, len(step.inputs[0].shape) - 2)
    if reach is None or len(switches) > 1 or switches.numel() * prod(reach.extent) * dtype.itemsize > _LARGE:
        return switches
    return _Switches(switches, tuple(_masks(switches, reach, dtype)))


def _masks(switches: Tensor, reach: Reach, dtype: torch.dtype) -> Iterator[Tensor]:
    for number in range(prod(reach.extent)):
        yield (switches == number).to(_BITS[dtype.itemsize]).neg_()


def windows_are_disjoint(step: Step) -> bool:
    """Whether the windows of a max pool do not overlap, so that its reverse only copies values and adds zeros between."""
    if "max_pool" not in step.kind or not _batched(step):
        return False
    reach = _pool_reach(step, len(step.inputs[0].shape) - 2)
    return reach is not None and reach.stride == reach.extent


@many_pictures()
@rule(
    aten.max_pool2d_with_indices.default,
    aten.max_pool3d_with_indices.default,
    reach=_pool_reach,
    keep=_switches,
    prepare=_with_masks,
    gate="kept",
)
def max_pool(step: Step, r: Window, _switches: None) -> Window:
    """Unpool: send each pooled value to the sample that its switch points at; where two meet, they add.

    The adjoint of max pooling with frozen switches. `F.max_unpool2d` would keep only the last of several values that meet.

    Source:
        Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks" (2014), sec. 2.1.
    """
    if not _batched(step):
        return _unpool_rows(step, r)
    source = step.inputs[0]
    axes = len(source.shape) - 2
    reach = _pool_reach(step, axes)
    assert reach is not None
    # A full map goes back as a window at 0, so that both kinds take the same way.
    is_full = r.corner is None or r.corner.shape[1] != axes
    if is_full:
        values = full_map(step, r).values
        r = Window(values, torch.zeros(len(values), axes, dtype=torch.int64), None, r.picture)
    if not windows_are_disjoint(step):
        unpooled = _unpool(r.values, r.cut(step.kept), reach)
    elif isinstance(step.kept, _Switches) and r.together:
        unpooled = _unpool_disjoint(r.values, map(r.cut, step.kept.masks), reach)
    else:
        switches = step.kept.small if isinstance(step.kept, _Switches) else step.kept
        unpooled = _unpool_disjoint(r.values, _masks(r.cut(switches), reach, r.values.dtype), reach)
    window = r.below(reach, source.shape, lambda needless: cropped(unpooled, needless))
    return window.full_map(source.shape) if is_full else window


def _unpool_rows(step: Step, r: Window) -> Window:
    """Unpool maps whose batch has other axes folded into it, such as frames: each row goes back as a unit of its own."""
    (source, *_), (out, *_) = step.inputs, step.outputs
    assert out is not None
    axes = _axes(step)
    below, above = (replace(value, shape=(1, *value.shape[-axes - 1 :])) for value in (source, out))
    values = full_map(step, r.dense(out.shape[1]) if r.channel is not None else r).values
    switches = step.kept.small if isinstance(step.kept, _Switches) else step.kept
    rows = switches.reshape(-1, *above.shape[1:]).repeat(len(values), *[1] * (axes + 1))
    alone = replace(step, args=(below, *step.args[1:]), inputs=(below,), outputs=(above, *step.outputs[1:]), kept=rows)
    unpooled = max_pool(alone, Window(values.reshape(-1, *above.shape[1:])), None).values
    return Window(unpooled.reshape(len(values), *(source.shape[1:] if source.shape[0] == 1 else source.shape)))


def _centres(step: Step) -> Tensor:
    """Return switches that point at the centre of each window (the first of two middle samples), or the nearest on the map."""
    source, pooled = step.inputs[0].shape, step.outputs[0]
    assert pooled is not None
    axes = _axes(step)
    _x, kernel, stride, padding, dilation, _ceil = step.args
    reach = _reach(kernel, stride, padding, dilation, axes)
    packed = torch.zeros((), dtype=torch.int64)
    for axis, (count, n) in enumerate(zip(pooled.shape[-axes:], source[-axes:], strict=True)):
        width, gap = (setting[axis % len(setting)] for setting in (kernel, dilation))
        first = torch.arange(count) * reach.stride[axis] - reach.padding[axis]
        within = (first + (width - 1) // 2 * gap).clamp(0, n - 1) - first
        packed = packed[..., None] * reach.extent[axis] + within
    switches: Tensor = step.kept
    return packed.to(switches.device, switches.dtype).expand_as(switches).contiguous()


def _centred(step: Step, dtype: torch.dtype) -> Tensor | _Switches:
    return _with_masks(replace(step, kept=_centres(step)), dtype)


@many_pictures()
@prepared(_centred)
def max_pool_to_centre(step: Step, r: Window, switches: None) -> Window:
    """Send each pooled value to the centre of its window; what is missing then is the contribution of the switches.

    Source:
        Mahendran & Vedaldi, "Salient Deconvolutional Networks" (2016), sec. 3.
    """
    return max_pool(step, r, switches)


def collisions(step: Step) -> tuple[bool, float] | None:
    """Return whether a max pool's windows overlap, and the share of switches that point where another does.

    None for other operations.
    """
    if step.kind not in ("max_pool2d", "max_pool3d") or not _batched(step):
        return None
    reach = _pool_reach(step, len(step.inputs[0].shape) - 2)
    assert reach is not None
    lengths = step.kept.shape[2:]
    indices = _target_indices(step.kept, reach, reach.lengths(lengths)).flatten(2)[0]
    distinct = sum(len(row.unique()) for row in indices)
    overlaps = any(s < e for s, e in zip(reach.stride, reach.extent, strict=True))
    return overlaps, 1 - distinct / max(1, indices.numel())


def _unpool_disjoint(pooled: Tensor, masks: Iterable[Tensor], reach: Reach) -> Tensor:
    """Unpool (B, C, pooled..) to (B, C, samples..) through windows that do not overlap.

    At each offset in the window, the values are masked by the switches that point there. The mask is applied to the bits of
    the values, in a fifth of the time of a scatter.
    """
    bits = _BITS[pooled.itemsize]
    rows = pooled.movedim(1, -1).contiguous().view(bits)
    lengths, channels = rows.shape[1:-1], rows.shape[-1]
    pairs = [n for pair in zip(lengths, reach.extent, strict=True) for n in pair]
    out = torch.empty(len(rows), *pairs, channels, dtype=pooled.dtype, device=pooled.device)
    for mask, offset in zip(masks, product(*map(range, reach.extent)), strict=True):
        target = out.view(bits)[(slice(None), *(index for start in offset for index in (slice(None), start)))]
        torch.bitwise_and(rows, mask.movedim(1, -1), out=target)
    return out.view(len(rows), *reach.lengths(lengths), channels).movedim(-1, 1)


def _unpool(pooled: Tensor, switches: Tensor, reach: Reach) -> Tensor:
    """Unpool (B, C, pooled..) to (B, C, samples..) through windows that may overlap: values that meet add.

    The result is channels last in memory, which is fastest for the convolution below.
    """
    units, channels, *lengths = pooled.shape
    size = reach.lengths(lengths)
    indices = _target_indices(switches, reach, size).movedim(1, -1)
    rows = indices.reshape(len(indices), -1, channels).expand(units, -1, -1)
    flat = pooled.new_zeros(units, prod(size), channels)
    flat.scatter_add_(1, rows, pooled.movedim(1, -1).reshape(units, -1, channels))
    return flat.view(units, *size, channels).movedim(-1, 1)


def _target_indices(switches: Tensor, reach: Reach, size: Sequence[int]) -> Tensor:
    """Return the flat indices, in a frame of `size`, that switches point at."""
    pitches = [prod(size[axis + 1 :]) for axis in range(len(size))]
    within = torch.zeros((), dtype=torch.int64)  # the flat index of each sample of a window, counted from the window's first
    begins = torch.zeros((), dtype=torch.int64)  # the flat index of each window's first sample
    for count, extent, stride, pitch in zip(switches.shape[2:], reach.extent, reach.stride, pitches, strict=True):
        within = within[..., None] + torch.arange(extent) * pitch
        begins = begins[..., None] + torch.arange(count) * stride * pitch
    table = within.flatten().to(switches.device)
    return table[switches.to(torch.int32)] + begins.to(switches.device)


@rule(aten.avg_pool2d.default, aten.avg_pool3d.default, reach=_pool_reach, gate="kept")
def avg_pool(step: Step, r: Window) -> Window | list[Window | None]:
    """Spread each average evenly over the samples that it was taken of."""
    source, out = step.inputs[0], step.outputs[0]
    axes = len(source.shape) - 2
    if not _batched(step) or (r.corner is not None and r.corner.shape[1] != axes):
        return adjoint(step, full_map(step, r))
    assert out is not None
    reach = _pool_reach(step, axes)
    assert reach is not None
    # The divisor differs from window to window at the edges, so the signal is divided before it is spread.
    count_include_pad, override = step.args[5], step.args[6]
    spans = zip(out.shape[2:], source.shape[2:], reach.extent, reach.stride, reach.padding, strict=True)
    divisor = torch.ones((), dtype=torch.float64)
    for span in spans:
        along = pool_divisor(*span, count_include_pad)
        divisor = divisor[..., None] * torch.tensor(along, dtype=torch.float64)
    if override:
        divisor = torch.full_like(divisor, override)
    divisor = divisor.to(r.values.device)
    return _spread(r.times(1 / divisor[None, None]), reach, source.shape)


def _spread(r: Window, reach: Reach, shape: tuple[int, ...]) -> Window:
    """Copy each value to all samples that its unit sees; where windows overlap, the copies add."""
    is_full = r.corner is None
    corner = torch.zeros(len(r.values), len(reach.stride), dtype=torch.int64) if r.corner is None else r.corner
    ones = r.values.new_ones(1, 1, *reach.extent)
    none = [0] * len(reach.stride)
    single = r.values.reshape(-1, 1, *r.values.shape[2:])
    values = torch.convolution(single, ones, None, list(reach.stride), none, [1] * len(none), True, none, 1)
    window = Window(values.reshape(*r.values.shape[:2], *values.shape[2:]), reach.corner(corner))
    return window.full_map(shape) if is_full else window.inside(shape)


def _adaptive_reach(step: Step, axes: int) -> Reach | None:
    source, out = step.inputs[0], step.outputs[0]
    if not _batched(step) or len(source.shape) != axes + 2 or out is None:
        return None
    even = [adaptive_windows(n, o) for n, o in zip(source.shape[2:], out.shape[2:], strict=True)]
    pairs = [pair for pair in even if pair is not None]
    if len(pairs) < len(even):
        return None
    return Reach(tuple(s for _, s in pairs), (0,) * axes, tuple(k for k, _ in pairs))


def _adaptive_sight(step: Step, axes: int) -> Sights:
    return _adaptive_reach(step, axes) or sees(resizing)(step, axes)


@rule(aten._adaptive_avg_pool2d.default, aten._adaptive_avg_pool3d.default, reach=_adaptive_sight, gate="kept")
def adaptive_avg_pool(step: Step, r: Window) -> Window | list[Window | None]:
    """Spread each average over its window, as `avg_pool` does; where windows differ in size, as a resizing does."""
    source = step.inputs[0]
    reach = _adaptive_reach(step, len(source.shape) - 2)
    if reach is None or source.shape[0] != 1 or (r.corner is not None and r.corner.shape[1] != len(reach.stride)):
        return back(resizing, step, r)
    return _spread(r.map(lambda values: values / prod(reach.extent)), reach, source.shape)
