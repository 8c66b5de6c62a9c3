"""Padding with zeros, a value, or the map's own samples; negative padding cuts samples off."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from unconv.errors import ShapeError, counted
from unconv.networks.onnx.operators.table import Setting, axis_of, bounded, choose, index_tensor, integers, numbers, operator

Pairs = Sequence[tuple[int, int]]
"""Samples before and after, along each axis."""


def padded(x: Tensor, pairs: Pairs, value: float | bool = 0.0) -> Tensor:
    """Return x with `value` around its last axes, one pair for each; negative padding cuts samples off."""
    first = x.ndim - len(pairs)
    bounded([*x.shape[:first], *(max(n + sum(pair), 0) for n, pair in zip(x.shape[first:], pairs, strict=True))])
    for axis, (before, after) in enumerate(pairs, first):
        if min(before, after) < 0:
            start = max(-before, 0)
            x = x.narrow(axis, start, max(x.shape[axis] - start - max(-after, 0), 0))
    flat = [max(edge, 0) for pair in reversed(pairs) for edge in pair]
    return F.pad(x, flat, value=value) if any(flat) else x


_TORCH_MODES = {"edge": "replicate", "reflect": "reflect", "wrap": "circular"}


@operator("Pad", settings=("pads", "constant_value", "axes"))
def pad(
    x: Tensor,
    pads: Setting | None = None,
    constant_value: float | Tensor | None = None,
    axes: Setting | None = None,
    *,
    mode: str = "constant",
    value: float = 0.0,
    paddings: Sequence[int] | None = None,
) -> Tensor:
    """Return x with more samples before and after along each of `axes`."""
    along = range(x.ndim) if axes is None else [axis_of(axis, x.ndim) for axis in integers(axes)]
    lengths = integers(paddings or [] if pads is None else pads)
    if len(lengths) != 2 * len(along):
        raise ShapeError(f"it has {counted(len(lengths), 'pad')}, but {2 * len(along)} were needed")
    pairs = [(0, 0)] * x.ndim
    for axis, before, after in zip(along, lengths[: len(along)], lengths[len(along) :], strict=True):
        pairs[axis] = (before, after)
    choose("mode", mode, {"constant": 0, **_TORCH_MODES})
    if mode == "constant":
        fill = value if constant_value is None else numbers(constant_value)[0]
        return padded(x, pairs, fill if x.is_floating_point() else bool(fill) if x.dtype == torch.bool else int(fill))
    # Cut first, then repeat: the repeated samples are those of what is left.
    bounded(max(n + sum(pair), 0) for n, pair in zip(x.shape, pairs, strict=True))
    x = padded(x, [(min(before, 0), min(after, 0)) for before, after in pairs])
    return _repeat(x, [(max(before, 0), max(after, 0)) for before, after in pairs], mode)


def _repeat(x: Tensor, pairs: Pairs, mode: str) -> Tensor:
    # torch pads up to three axes, and by no more than the map can give; anything else is indexed axis by axis.
    axes = x.ndim - 2
    room = {"edge": 2**62, "reflect": -1, "wrap": 0}[mode]
    fits = all(max(pair) <= n + room for n, pair in zip(x.shape[2:], pairs[2:], strict=True))
    if axes in (1, 2, 3) and not any(map(any, pairs[:2])) and fits and x.is_floating_point() and x.numel():
        return F.pad(x, [edge for pair in reversed(pairs[2:]) for edge in pair], mode=_TORCH_MODES[mode])
    for axis, (before, after) in enumerate(pairs):
        if before or after:
            order = _order(x.shape[axis], before, after, mode)
            x = x.index_select(axis, index_tensor(order, x))
    return x


def _order(n: int, before: int, after: int, mode: str) -> list[int]:
    """Return which of n samples is at each position of the longer axis."""
    if n == 0:
        raise ShapeError(f"an axis without samples cannot be padded by mode {mode!r}")
    bounded([before + n + after], 2**20)
    positions = range(-before, n + after)
    if mode == "edge":
        return [min(max(position, 0), n - 1) for position in positions]
    if mode == "wrap":
        return [position % n for position in positions]
    period = max(2 * (n - 1), 1)
    return [min(position % period, period - position % period) if n > 1 else 0 for position in positions]
