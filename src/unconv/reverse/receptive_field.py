"""Receptive fields: the tape read with intervals.

Along each axis a unit at `y` sees the image's samples `first + stride * y` to `last + stride * y`,
both included. One pass over the tape finds these three numbers for every value: a layer composes
them, branches that meet take the hull.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unconv.reverse.methods import GRADIENT, Rules
from unconv.reverse.rules.table import local
from unconv.reverse.tape.step import Step, Tape, Value
from unconv.reverse.window import Reach


@dataclass(frozen=True)
class ReceptiveField:
    """What the units of one value see of the image, per axis, in samples; it may reach outside the image."""

    stride: tuple[int, ...]
    first: tuple[int, ...]
    last: tuple[int, ...]

    @property
    def size(self) -> tuple[int, ...]:
        """Samples that one unit sees, per axis."""
        return tuple(b - a + 1 for a, b in zip(self.first, self.last, strict=True))

    def box(self, low: Sequence[int], high: Sequence[int]) -> tuple[int, ...]:
        """The hull of what units `low` to `high`, both included, see: firsts, then ends (excluded)."""
        starts = [a + s * y for a, s, y in zip(self.first, self.stride, low, strict=True)]
        ends = [b + s * y + 1 for b, s, y in zip(self.last, self.stride, high, strict=True)]
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
        for output in step.outputs:
            if output is not None:
                below = [_through(step, method, value, output, known[value.index], axes) for value in step.inputs]
                known[output.index] = _hull(below, output, axes)
    return known


def _through(step: Step, method: Rules, value: Value, output: Value, field: ReceptiveField, axes: int) -> ReceptiveField:
    reaching = method.reach(step.operation)
    reach = reaching(step, axes) if reaching else None
    vector = len(value.shape) < 2 + axes and not any(field.stride)
    if vector:
        return field
    broadcast = reaching is local and value.shape[-axes:] != output.shape[-axes:]
    if reach is None or broadcast:
        return _everything(value, field, axes)
    return _compose(field, reach)


def _compose(field: ReceptiveField, reach: Reach) -> ReceptiveField:
    axes = zip(field.stride, field.first, field.last, reach.stride, reach.padding, reach.extent, strict=True)
    rows = [(s * rs, a - s * p, b + s * (e - 1 - p)) for s, a, b, rs, p, e in axes]
    stride, first, last = zip(*rows, strict=True)
    return ReceptiveField(stride, first, last)


def _everything(value: Value, field: ReceptiveField, axes: int) -> ReceptiveField:
    """Each unit above may see all samples of `value`."""
    low, high = (0,) * axes, tuple(n - 1 for n in value.shape[-axes:])
    box = field.box(low, high)
    return ReceptiveField((0,) * axes, box[:axes], tuple(end - 1 for end in box[axes:]))


def _hull(fields: Sequence[ReceptiveField], value: Value, axes: int) -> ReceptiveField:
    """Branches that meet in `value`: a unit sees what any of them sees."""
    strides = {field.stride for field in fields}
    if len(strides) > 1:
        return _hull([_everything(value, field, axes) for field in fields], value, axes)
    first = tuple(map(min, zip(*(field.first for field in fields), strict=True)))
    last = tuple(map(max, zip(*(field.last for field in fields), strict=True)))
    return ReceptiveField(strides.pop(), first, last)
