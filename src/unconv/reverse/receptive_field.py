"""Receptive fields: the tape read with intervals.

Along each axis a unit at `y` sees the image's samples `first + stride * y` to `last + stride * y`, both included. One pass
over the tape finds these three numbers for every value: a layer composes them, branches that meet take the hull.

Behind a transposed convolution, a resizing or a pad that repeats the map, units differ: each has its own interval then,
in a table, and the three numbers are those of a unit in the middle of the map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import floor

import torch
from torch import Tensor

from unconv.reverse.methods import GRADIENT, Rules
from unconv.reverse.rules.table import local
from unconv.reverse.spans import FAR, Sight, as_spans, one_of
from unconv.reverse.tape.step import Tape, Value
from unconv.reverse.window import Reach

_Row = tuple[Tensor, Tensor]
"""Along one axis, the first and the last sample that each unit sees."""


@dataclass(frozen=True)
class ReceptiveField:
    """What the units of one value see of the image, per axis, in samples; it may reach outside the image.

    Args:
        stride: image samples from one unit to the next; below 0 where the map is turned round.
        first, last: of the unit at 0, if all units were as one in the middle of the map.
        rows: per axis, what each unit sees, where units differ; () where they do not.
    """

    stride: tuple[int | Fraction, ...]
    first: tuple[int, ...]
    last: tuple[int, ...]
    rows: tuple[_Row, ...] = field(default=(), compare=False)

    @property
    def size(self) -> tuple[int, ...]:
        """Samples that one unit sees, per axis: one away from the map's edges, the most where neighbours take turns."""
        return tuple(b - a + 1 for a, b in zip(self.first, self.last, strict=True))

    @property
    def steps(self) -> tuple[int | float, ...]:
        """Samples of the image from one unit to the next, per axis, as plain numbers."""
        strides = [abs(Fraction(stride)) for stride in self.stride]
        return tuple(int(s) if s.denominator == 1 else round(float(s), 4) for s in strides)

    def box(self, low: Sequence[int], high: Sequence[int]) -> tuple[int, ...]:
        """The hull of what units `low` to `high`, both included, see: firsts, then ends (excluded)."""
        if self.rows:
            spans = [(a[y : z + 1], b[y : z + 1]) for (a, b), y, z in zip(self.rows, low, high, strict=True)]
            pairs = [(int(a.amin()), int(b.amax()) + 1) for a, b in spans]
            pairs = [(a, b) if a < b else (0, 0) for a, b in pairs]
            return (*(a for a, _ in pairs), *(b for _, b in pairs))
        starts = [a + int(s) * y for a, s, y in zip(self.first, self.stride, low, strict=True)]
        ends = [b + int(s) * y + 1 for b, s, y in zip(self.last, self.stride, high, strict=True)]
        return (*starts, *ends)


def receptive_fields(tape: Tape, method: Rules = GRADIENT) -> dict[int, ReceptiveField]:
    """Return the receptive field of the units of each value on the tape, by the value's index.

    Args:
        tape: a frozen one, where gates and statistics, which may depend on the whole image, are not to count.
        method: whose rules say what a unit sees of the map below.
    """
    axes = tape.image.ndim - 2
    known = {tape.value.index: ReceptiveField((1,) * axes, (0,) * axes, (0,) * axes)}
    for step in tape.steps:
        reaching = method.reach(step.operation)
        sights = reaching(step, axes) if reaching else None
        for outlet, output in enumerate(step.outputs):
            if output is not None:
                seen = [one_of(sights, entry, outlet, len(step.outputs)) for entry in range(len(step.inputs))]
                pairs = zip(step.inputs, seen, strict=True)
                below = [_through(reaching is local, sight, value, output, known[value.index], axes) for value, sight in pairs]
                known[output.index] = _hull(below, output, axes)
    return known


def _through(pointwise: bool, sight: Sight, value: Value, output: Value, field: ReceptiveField, axes: int) -> ReceptiveField:
    vector = len(value.shape) < 2 + axes and not any(field.stride)
    if vector:
        return field
    broadcast = pointwise and value.shape[-axes:] != output.shape[-axes:]
    if sight is None or broadcast:
        return _everything(value, field, axes)
    same = Reach((1,) * axes, (0,) * axes, (1,) * axes)
    as_many = all(len(low) == n for (low, _), n in zip(field.rows, output.shape[-axes:], strict=False))
    if pointwise or (sight == same and as_many):
        return field
    if isinstance(sight, Reach) and not field.rows:
        return _compose(field, sight)
    if not any(field.stride):
        return _everything(value, field, axes)
    spans, lengths = as_spans(sight, output.shape[-axes:]), value.shape[-axes:]
    axis_by_axis = zip(_rows(field, lengths), field.stride, spans.first, spans.last, strict=True)
    rows = [(_least(a, s, first, last), -_least(-b, -s, first, last)) for (a, b), s, first, last in axis_by_axis]
    return _of_rows(rows, [s * t for s, t in zip(field.stride, spans.stride, strict=True)])


def _compose(field: ReceptiveField, reach: Reach) -> ReceptiveField:
    axes = zip(field.stride, field.first, field.last, reach.stride, reach.padding, reach.extent, strict=True)
    rows = [(s * rs, a - int(s) * p, b + int(s) * (e - 1 - p)) for s, a, b, rs, p, e in axes]
    stride, first, last = zip(*rows, strict=True)
    return ReceptiveField(stride, first, last)


def _rows(field: ReceptiveField, sizes: Sequence[int]) -> Sequence[_Row]:
    """What each unit sees, of a map of `sizes`."""
    if field.rows:
        return field.rows
    steps = [torch.arange(n) * int(s) for n, s in zip(sizes, field.stride, strict=True)]
    return [(step + a, step + b) for step, a, b in zip(steps, field.first, field.last, strict=True)]


def _least(lows: Tensor, stride: int | Fraction, first: Tensor, last: Tensor) -> Tensor:
    """Return for each unit the least of `lows` from `first` to `last` on the map below, continued by `stride` beyond it."""
    most = int((last - first).amax()) + 1
    if most <= 0:  # no unit sees anything
        return torch.full_like(first, FAR)
    at = torch.minimum(first[:, None] + torch.arange(most), last[:, None])
    on = at.clamp(0, len(lows) - 1)
    # Rounded down: nothing that is seen lies beyond the edges, and what is reported there may be a sample more.
    values = lows[on] + ((at - on) * stride.numerator).div(stride.denominator, rounding_mode="floor")
    return values.amin(1).masked_fill(last < first, FAR)


def _of_rows(rows: Sequence[_Row], strides: Sequence[int | Fraction]) -> ReceptiveField:
    """Return the field of units with `rows`, in three numbers as they are in the middle of the map."""
    firsts, lasts = list[int](), list[int]()
    for (low, high), stride in zip(rows, strides, strict=True):
        count = len(low)
        turns = min(Fraction(stride).denominator, max(1, count // 2))  # as many neighbours take turns
        middle = slice((count - turns) // 2, (count - turns) // 2 + turns)
        size = max(int((high - low)[middle].amax()) + 1, 0)
        first = floor(int(low[count // 2]) - stride * (count // 2))
        firsts.append(first)
        lasts.append(first + size - 1)
    return ReceptiveField(tuple(strides), tuple(firsts), tuple(lasts), tuple(rows))


def _everything(value: Value, field: ReceptiveField, axes: int) -> ReceptiveField:
    """Each unit above may see all samples of `value`."""
    low, high = (0,) * axes, tuple(n - 1 for n in value.shape[-axes:])
    box = field.box(low, high)
    return ReceptiveField((0,) * axes, box[:axes], tuple(end - 1 for end in box[axes:]))


def _hull(fields: Sequence[ReceptiveField], value: Value, axes: int) -> ReceptiveField:
    """Branches that meet in `value`: a unit sees what any of them sees."""
    if len(fields) == 1:
        return fields[0]
    strides = {field.stride for field in fields}
    if len(strides) > 1 and not all(any(field.stride) for field in fields):
        whole = [_everything(value, field, axes) if any(field.stride) else field for field in fields]
        return _hull(whole, value, axes)
    if len(strides) > 1 or any(field.rows for field in fields):
        tables = [_rows(field, value.shape[-axes:]) for field in fields]
        lows, highs = ([torch.stack([table[axis][side] for table in tables]) for axis in range(axes)] for side in (0, 1))
        rows = [(low.amin(0), high.amax(0)) for low, high in zip(lows, highs, strict=True)]
        return _of_rows(rows, [max(along, key=abs) for along in zip(*(field.stride for field in fields), strict=True)])
    first = tuple(map(min, zip(*(field.first for field in fields), strict=True)))
    last = tuple(map(max, zip(*(field.last for field in fields), strict=True)))
    return replace(fields[0], first=first, last=last)
