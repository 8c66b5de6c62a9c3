"""Compute receptive fields by one pass of interval arithmetic over the tape.

Along each axis a unit at `y` sees the image's samples `first + stride * y` to `last + stride * y`, both included. The pass
computes these three numbers for every value: a layer composes them, and where branches meet they become the hull.

After a transposed convolution, a resizing or a pad that repeats the map, units differ. A table then has the interval of each
unit, and the three numbers are those of a unit in the middle of the map.
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
    """The samples of the image that the units of one value see, per axis; they may lie outside the image.

    Args:
        stride: image samples from one unit to the next; below 0 where the map is flipped.
        first, last: the first and the last sample of the unit at 0, if all units were like one in the middle of the map.
        rows: per axis, the first and the last sample of each unit, if units differ; else ().
    """

    stride: tuple[int | Fraction, ...]
    first: tuple[int, ...]
    last: tuple[int, ...]
    rows: tuple[_Row, ...] = field(default=(), compare=False)

    @property
    def size(self) -> tuple[int, ...]:
        """Samples that a unit in the middle of the map sees, per axis; the most of them where neighbours differ."""
        return tuple(b - a + 1 for a, b in zip(self.first, self.last, strict=True))

    @property
    def steps(self) -> tuple[int | float, ...]:
        """Samples of the image from one unit to the next, per axis, as plain numbers."""
        strides = [abs(Fraction(stride)) for stride in self.stride]
        return tuple(int(s) if s.denominator == 1 else round(float(s), 4) for s in strides)

    def box(self, low: Sequence[int], high: Sequence[int]) -> tuple[int, ...]:
        """Return the hull of the samples that units `low` to `high`, both included, see: firsts, then ends (excluded)."""
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
        tape: a frozen one, if gates and statistics, which may depend on the entire image, are not to count.
        method: has the rules that say what a unit sees of the map below.
    """
    # From the image on, so that the receptive fields of a step's inputs are known before those of its outputs.
    axes = tape.image.ndim - 2
    by_value = {tape.value.index: ReceptiveField((1,) * axes, (0,) * axes, (0,) * axes)}
    for step in tape.steps:
        reaching = method.reach(step.operation)
        sights = reaching(step, axes) if reaching else None
        for outlet, output in enumerate(step.outputs):
            if output is not None:
                sights_of_inputs = [one_of(sights, entry, outlet, len(step.outputs)) for entry in range(len(step.inputs))]
                pairs = zip(step.inputs, sights_of_inputs, strict=True)
                below = [
                    _through(reaching is local, sight, value, output, by_value[value.index], axes) for value, sight in pairs
                ]
                by_value[output.index] = _hull(below, output, axes)
    return by_value


def _through(pointwise: bool, sight: Sight, value: Value, output: Value, below: ReceptiveField, axes: int) -> ReceptiveField:
    vector = len(value.shape) < 2 + axes and not any(below.stride)
    if vector:
        return below
    broadcast = pointwise and value.shape[-axes:] != output.shape[-axes:]
    if sight is None or broadcast:
        return _everything(value, below, axes)
    same = Reach((1,) * axes, (0,) * axes, (1,) * axes)
    as_many = all(len(low) == n for (low, _), n in zip(below.rows, output.shape[-axes:], strict=False))
    if pointwise or (sight == same and as_many):
        return below
    if isinstance(sight, Reach) and not below.rows:
        return _compose(below, sight)
    if not any(below.stride):
        return _everything(value, below, axes)
    spans, lengths = as_spans(sight, output.shape[-axes:]), value.shape[-axes:]
    axis_by_axis = zip(_rows(below, lengths), below.stride, spans.first, spans.last, strict=True)
    rows = [(_least(a, s, first, last), -_least(-b, -s, first, last)) for (a, b), s, first, last in axis_by_axis]
    return _of_rows(rows, [s * t for s, t in zip(below.stride, spans.stride, strict=True)])


def _compose(below: ReceptiveField, reach: Reach) -> ReceptiveField:
    axes = zip(below.stride, below.first, below.last, reach.stride, reach.padding, reach.extent, strict=True)
    rows = [(s * rs, a - int(s) * p, b + int(s) * (e - 1 - p)) for s, a, b, rs, p, e in axes]
    stride, first, last = zip(*rows, strict=True)
    return ReceptiveField(stride, first, last)


def _rows(receptive_field: ReceptiveField, sizes: Sequence[int]) -> Sequence[_Row]:
    """Return what each unit of a map of `sizes` sees."""
    if receptive_field.rows:
        return receptive_field.rows
    steps = [torch.arange(n) * int(s) for n, s in zip(sizes, receptive_field.stride, strict=True)]
    return [(step + a, step + b) for step, a, b in zip(steps, receptive_field.first, receptive_field.last, strict=True)]


def _least(lows: Tensor, stride: int | Fraction, first: Tensor, last: Tensor) -> Tensor:
    """Return, for each unit, the least of `lows` from `first` to `last` on the map below, extended by `stride` beyond it."""
    most = int((last - first).amax()) + 1
    if most <= 0:  # no unit sees anything
        return torch.full_like(first, FAR)
    position = torch.minimum(first[:, None] + torch.arange(most), last[:, None])
    on_map = position.clamp(0, len(lows) - 1)
    # Beyond the edges there is only padding, so rounding may report a sample too many there, but never one too few.
    values = lows[on_map] + ((position - on_map) * stride.numerator).div(stride.denominator, rounding_mode="floor")
    return values.amin(1).masked_fill(last < first, FAR)


def _of_rows(rows: Sequence[_Row], strides: Sequence[int | Fraction]) -> ReceptiveField:
    """Return the receptive field of units with `rows`; its three numbers are those in the middle of the map."""
    firsts, lasts = list[int](), list[int]()
    for (low, high), stride in zip(rows, strides, strict=True):
        count = len(low)
        period = min(Fraction(stride).denominator, max(1, count // 2))  # after so many units, the sizes repeat
        middle = slice((count - period) // 2, (count - period) // 2 + period)
        size = max(int((high - low)[middle].amax()) + 1, 0)
        first = floor(int(low[count // 2]) - stride * (count // 2))
        firsts.append(first)
        lasts.append(first + size - 1)
    return ReceptiveField(tuple(strides), tuple(firsts), tuple(lasts), tuple(rows))


def _everything(value: Value, below: ReceptiveField, axes: int) -> ReceptiveField:
    """Return the receptive field of units that may see all samples of `value`."""
    low, high = (0,) * axes, tuple(n - 1 for n in value.shape[-axes:])
    box = below.box(low, high)
    return ReceptiveField((0,) * axes, box[:axes], tuple(end - 1 for end in box[axes:]))


def _hull(branches: Sequence[ReceptiveField], value: Value, axes: int) -> ReceptiveField:
    """Return the receptive field of `value`, where branches meet: a unit sees what it sees through any of them."""
    if len(branches) == 1:
        return branches[0]
    strides = {branch.stride for branch in branches}
    if len(strides) > 1 and not all(any(branch.stride) for branch in branches):
        widened = [_everything(value, branch, axes) if any(branch.stride) else branch for branch in branches]
        return _hull(widened, value, axes)
    if len(strides) > 1 or any(branch.rows for branch in branches):
        tables = [_rows(branch, value.shape[-axes:]) for branch in branches]
        lows, highs = ([torch.stack([table[axis][side] for table in tables]) for axis in range(axes)] for side in (0, 1))
        rows = [(low.amin(0), high.amax(0)) for low, high in zip(lows, highs, strict=True)]
        return _of_rows(rows, [max(along, key=abs) for along in zip(*(branch.stride for branch in branches), strict=True)])
    first = tuple(map(min, zip(*(branch.first for branch in branches), strict=True)))
    last = tuple(map(max, zip(*(branch.last for branch in branches), strict=True)))
    return replace(branches[0], first=first, last=last)
