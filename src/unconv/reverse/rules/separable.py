"""Separable operations, which mix samples along each axis by itself: resizing, pads that repeat the map, flips, rolls.

Along each axis such an operation is a matrix (samples above, samples below). Its entries that are not zero show what a unit
sees, and windows go back through the part of it that they need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._ops import OpOverload

from unconv.reverse.rules.table import adjoint, full_map, local
from unconv.reverse.spans import FAR, Sight, Spans
from unconv.reverse.tape.step import Step
from unconv.reverse.window import Window

aten = torch.ops.aten


@dataclass(frozen=True)
class Mixing:
    """A separable operation.

    Args:
        weights: per axis a matrix (above, below); or, where each sample is a copy of one below, its index (above,).
        takes: the samples below that each unit depends on.
        sees: the samples below that it is reported to see: those, or more.
    """

    weights: tuple[Tensor, ...]
    takes: Spans
    sees: Spans


Mixer = Callable[[Step, int], Mixing | None]
"""From a step and the number of axes to its separable form; None if it has none."""


def sees(mixer: Mixer) -> Callable[[Step, int], Sight]:
    """Return the `reach` of separable steps; of steps that leave the axes of the map alone, each unit's own position."""

    def reach(step: Step, axes: int) -> Sight:
        if keeps_map(step, axes):
            return local(step, axes)
        mixing = mixer(step, axes) if _ranked(step, axes) else None
        return mixing.sees if mixing else None

    return reach


def back(mixer: Mixer, step: Step, r: Window) -> Window | list[Window | None]:
    """Send a signal back through a separable step."""
    # Axis by axis, each with only the rows and columns of the matrix that the windows cover.
    if r.corner is None:
        return adjoint(step, full_map(step, r))
    axes = r.corner.shape[1]
    if keeps_map(step, axes):
        return adjoint(step, r)
    mixing = mixer(step, axes) if _ranked(step, axes) and not _mixes_channels(step) else None
    if mixing is None:
        return adjoint(step, full_map(step, r))
    corner, end = mixing.takes.below(r.corner, r.corner + torch.tensor(r.lengths), step.inputs[0].shape[-axes:])
    values, starts = r.values, list[Tensor]()
    for axis, (weights, n) in enumerate(zip(mixing.weights, step.inputs[0].shape[-axes:], strict=True)):
        length = max(int((end - corner)[:, axis].amax()), 1)
        starts.append(corner[:, axis].clamp(max=n - length))
        values = _along(values, axis - axes, weights, r.corner[:, axis], starts[-1], length)
    return Window(values, torch.stack(starts, 1)).inside(step.inputs[0].shape)


def _along(values: Tensor, axis: int, weights: Tensor, corner: Tensor, start: Tensor, length: int) -> Tensor:
    """Return what windows at `corner` along `axis` send to `length` samples from `start` on."""
    rows = values.movedim(axis, -1)
    above = corner[:, None] + torch.arange(rows.shape[-1])
    below = start[:, None] + torch.arange(length)
    same = bool((corner == corner[:1]).all()) and bool((start == start[:1]).all())
    above, below = (above[:1], below[:1]) if same else (above, below)
    outside = ((above < 0) | (above >= len(weights)))[:, :, None]  # there the signal is zero
    above = above.clamp(0, len(weights) - 1)[:, :, None]
    parts = weights[above] == below[:, None, :] if weights.ndim == 1 else weights[above, below[:, None, :]]
    parts = parts.to(values.dtype).masked_fill_(outside, 0).to(values.device)
    parts = parts.view(len(parts), *[1] * (rows.ndim - 3), *parts.shape[1:])
    return (rows @ parts).movedim(-1, axis)


def _entries(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each row the positions of its first and last nonzero entry."""
    nonzero, count = matrix != 0, matrix.shape[1]
    first, last = nonzero.int().argmax(1), count - 1 - nonzero.flip(1).int().argmax(1)
    none = ~nonzero.any(1)
    return first.masked_fill(none, FAR), last.masked_fill(none, -FAR)


def _ranked(step: Step, axes: int) -> bool:
    source, out = step.inputs[0].shape, step.outputs[0]
    return len(step.inputs) == 1 and out is not None and len(source) == len(out.shape) == axes + 2 and source[0] == 1


# -- resizing -------------------------------------------------------------------------------------


def resizing(step: Step, axes: int) -> Mixing | None:
    """Return a resizing as matrices: along each axis its own results for unit impulses."""
    source, out = step.inputs[0], step.outputs[0]
    assert out is not None
    if 0 in out.shape or tuple(out.shape[:2]) != tuple(source.shape[:2]):
        return None
    rest = tuple(tuple(a) if isinstance(a, list) else a for a in step.args[2:])
    sizes = list(zip(source.shape[2:], out.shape[2:], strict=True))
    wide = source.dtype if source.dtype.itemsize >= 4 else torch.float32
    results = [_resized(step.operation, n, o, axis, axes, rest, wide) for axis, (n, o) in enumerate(sizes)]
    aligned = rest[:1] == (True,)  # align_corners: the first sample lies on the first, the last on the last
    strides = [Fraction(n - 1, o - 1) if aligned and o > 1 and n > 1 else Fraction(n, o) for n, o in sizes]
    matrices, firsts, lasts = zip(*results, strict=True)
    spans = Spans(firsts, lasts, tuple(strides))
    return Mixing(matrices, spans, spans)


@lru_cache(maxsize=128)
def _resized(
    operation: OpOverload, n: int, o: int, axis: int, axes: int, rest: tuple[Any, ...], dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the matrix that resizes an axis from `n` to `o` samples, and where its rows begin and end."""
    # Keep the other axes two samples long: torch's antialiased forms are wrong where an axis has only one.
    below, above = ([*[2] * axis, length, *[2] * (axes - 1 - axis)] for length in (n, o))
    with torch.inference_mode(False), torch.no_grad():
        impulses = torch.eye(n, dtype=dtype).view(n, 1, *[n if k == axis else 1 for k in range(axes)]).expand(n, 1, *below)
        responses = operation(impulses.contiguous(), above, *rest)
        matrix = responses[(slice(None), 0, *(slice(None) if k == axis else 0 for k in range(axes)))].mT.contiguous()
    return matrix, *_entries(matrix)


# -- picking --------------------------------------------------------------------------------------

Picks = dict[int, tuple[Tensor, Fraction]]
"""For axes of the map: the index of the sample below that each sample above copies, and the distance of neighbours below."""


def pads(step: Step, axes: int) -> Mixing | None:
    """Return a pad by reflection or replication; its units are reported to see the padding too, as with a pad of zeros."""
    lengths, kind = step.args[1], "reflect" if "reflection" in step.kind else "replicate"
    picks: Picks = {}
    for axis, pair in zip(reversed(range(axes)), zip(lengths[::2], lengths[1::2], strict=True), strict=False):
        n = step.inputs[0].shape[2 + axis]
        picks[axis] = F.pad(torch.arange(n, dtype=torch.float64)[None, None], pair, kind)[0, 0].long(), Fraction(1)
    mixing = _selection(step, axes, picks)
    if mixing is None:
        return None
    befores = [*[0] * (axes - len(lengths) // 2), *reversed(lengths[::2])]
    plain = [torch.arange(len(source)) - before for source, before in zip(mixing.weights, befores, strict=True)]
    first = tuple(map(torch.minimum, plain, mixing.takes.first))
    last = tuple(map(torch.maximum, plain, mixing.takes.last))
    return replace(mixing, sees=Spans(first, last, mixing.takes.stride))


def flips(step: Step, axes: int) -> Mixing | None:
    """Return a flip: units see the map from its other end."""
    where = _map_axes(step, step.args[1], axes)
    return _selection(step, axes, {axis: (torch.arange(n).flip(0), Fraction(-1)) for axis, n in where.items()})


def rolls(step: Step, axes: int) -> Mixing | None:
    """Return a roll: units at one edge see the other edge."""
    _x, shifts, along = step.args
    if not along:
        return None
    rank = axes + 2
    picks: Picks = {}
    for shift, axis in zip(shifts, along, strict=True):
        if axis % rank > 1:
            n = step.inputs[0].shape[axis]
            picks[axis % rank - 2] = torch.arange(n).sub(shift).remainder(n), Fraction(1)
    return _selection(step, axes, picks)


def repeats(step: Step, axes: int) -> Mixing | None:
    """Return a repetition: copies of the map side by side."""
    times = step.args[1][-axes:]
    sizes = step.inputs[0].shape[-axes:]
    pairs = enumerate(zip(sizes, times, strict=True))
    return _selection(step, axes, {axis: (torch.arange(n).repeat(t), Fraction(1)) for axis, (n, t) in pairs if t != 1})


def selects(step: Step, axes: int) -> Mixing | None:
    """Return a selection of samples along one axis."""
    _x, along, index = step.args
    where = _map_axes(step, [along], axes)
    index = index.cpu().reshape(-1)
    spread = Fraction(int(index[-1] - index[0]), len(index) - 1) if len(index) > 1 else Fraction(1)
    return _selection(step, axes, {axis: (index, spread or Fraction(1)) for axis in where})


def _selection(step: Step, axes: int, picks: Picks) -> Mixing | None:
    plain = [(torch.arange(n), Fraction(1)) for n in step.inputs[0].shape[-axes:]]
    sources, strides = zip(*(picks.get(axis, same) for axis, same in enumerate(plain)), strict=True)
    if not all(map(len, sources)):
        return None
    spans = Spans(sources, sources, strides)
    return Mixing(sources, spans, spans)


def _map_axes(step: Step, along: Sequence[int], axes: int) -> dict[int, int]:
    """Return the axes of the map among `along`, counted from 0, with their lengths."""
    rank = axes + 2
    return {axis % rank - 2: step.inputs[0].shape[axis] for axis in along if axis % rank > 1}


def _mixes_channels(step: Step) -> bool:
    """Whether a step also moves channels."""
    if step.operation is aten.repeat.default:
        return any(times != 1 for times in step.args[1][:2])
    return bool(_moved_axes(step) & {0, 1})


def keeps_map(step: Step, axes: int) -> bool:
    """Whether a step that selects samples leaves the batch and the axes of the map as they are."""
    rank = len(step.inputs[0].shape)
    if step.operation is aten.repeat.default:
        times = step.args[1]
        return len(times) == rank > axes and all(t == 1 for t in (times[0], *times[-axes:]))
    touched = _moved_axes(step)
    return bool(touched) and rank > axes and not touched & {0, *range(rank - axes, rank)}


def _moved_axes(step: Step) -> set[int]:
    """Return the axes along which a flip, a roll or a selection moves samples; no axes for other steps."""
    position = {aten.flip.default: 1, aten.roll.default: 2, aten.index_select.default: 1}.get(step.operation)
    if position is None:
        return set()
    along = step.args[position]
    return {axis % len(step.inputs[0].shape) for axis in (along if isinstance(along, list | tuple) else [along])}
