"""Split a batch of windows before a step, if it takes too much memory or most of a common window lies off the map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import torch
from torch import Tensor

from unconv.reverse.methods import Rules
from unconv.reverse.rules.table import local
from unconv.reverse.spans import Sight, Spans, as_spans, one_of
from unconv.reverse.tape.step import Step, Value
from unconv.reverse.transposed import call_price
from unconv.reverse.window import Window

_PRICE = 4096  # samples that one more call costs where a map is resized, moved or joined


def parts(step: Step, method: Rules, pending: dict[int, Window], room: int) -> list[Tensor]:
    """Return the parts in which a batch passes `step`; at most one if it stays together."""
    # All windows of a batch have one size, which covers what any of its units has on the map below: units at opposite edges
    # cost each other samples that lie off the map.
    above = next((output for output in step.outputs if output and output.index in pending), None)
    entry = next((k for k, value in enumerate(step.inputs) if value.flows), None)
    if above is None or entry is None:
        return []
    signal, below = pending[above.index], step.inputs[entry]
    if method.reach(step.operation) is local and signal.channel is None:
        return []
    reaching = method.reach(step.operation)
    sights = reaching(step, signal.corner.shape[1]) if reaching and signal.corner is not None else None
    if isinstance(sights, tuple) and len(step.outputs) == 1:
        return _by_source(step, sights, signal)
    sight = one_of(sights, entry, step.outputs.index(above), len(step.outputs))
    first, end = _extent_on_map(sight, signal, below)
    current = sum(window.values.nbytes for window in pending.values()) // len(signal)
    sample = prod(below.shape[1 : len(below.shape) - first.shape[1]]) * signal.values.itemsize
    price = call_price(step.args[1]) if step.kind == "conv" and isinstance(step.args[1], Tensor) else None
    price = _PRICE if price is None and isinstance(sight, Spans) else price
    return list(cut(torch.arange(len(signal)), first, end, room, current, sample, price))


def _by_source(step: Step, sights: Sequence[Sight], signal: Window) -> list[Tensor]:
    """Separate units by the inputs of a step that they see: at the seam of a circular pad, for example, they lie far apart."""
    assert signal.corner is not None
    ends, axes = signal.corner + torch.tensor(signal.lengths), signal.corner.shape[1]
    reached = [
        as_spans(sight, step.outputs[0].shape[-axes:]).below(signal.corner, ends, value.shape[-axes:])[1].gt(0).all(1)
        for sight, value in zip(sights, step.inputs, strict=True)
        if sight is not None and step.outputs[0] is not None
    ]
    if not reached:
        return []
    _, group = torch.stack(reached, 1).unique(dim=0, return_inverse=True)
    return [(group == number).nonzero()[:, 0] for number in range(int(group.amax()) + 1)]


def _extent_on_map(reach: Sight, signal: Window, below: Value) -> tuple[Tensor, Tensor]:
    """Return the part of each unit's window below that lies on the map: first and end per axis, counted from its corner."""
    if reach is None or signal.corner is None:
        sizes = torch.tensor(below.shape[2:], dtype=torch.int64).expand(len(signal), -1)
        return torch.zeros_like(sizes), sizes
    if isinstance(reach, Spans):
        first, end = reach.below(
            signal.corner, signal.corner + torch.tensor(signal.lengths), below.shape[-signal.corner.shape[1] :]
        )
        return torch.zeros_like(first), end - first
    corner, lengths = reach.corner(signal.corner), torch.tensor(reach.lengths(signal.lengths))
    sizes = torch.tensor(below.shape[-len(lengths) :])
    nothing = torch.zeros_like(lengths)
    return torch.clamp(-corner, nothing, lengths), torch.clamp(sizes - corner, nothing, lengths)


def cut(units: Tensor, first: Tensor, end: Tensor, room: int, current: int, sample: int, price: int | None) -> Iterator[Tensor]:
    """Yield parts of `units` that fit into `room` bytes, split further where that saves more samples than a call costs.

    Args:
        first, end: (units, axes), the part of each unit's window that lies on the map.
        current, sample: bytes of one unit's signals, and of one sample that it will have on the map below.
        price: of one more call, in samples; None: split only to fit into the room.
    """
    # In two at the best position, and each part again, until a cut saves less than one more call costs.
    count = len(units)
    hull = int((end.amax(0) - first.amin(0)).prod()) if first.shape[1] else 1
    fits = count * (current + hull * sample) <= room
    if count == 1 or (fits and (price is None or count * hull <= price)):
        yield units
        return
    order, position, gain = best_cut(first, end)
    if gain <= (price or 0):
        if fits:
            yield units
        else:
            yield from units.split(max(1, room // (current + hull * sample)))
        return
    for part in (order[:position], order[position:]):
        yield from cut(units[part], first[part], end[part], room, current, sample, price)


def best_cut(first: Tensor, end: Tensor) -> tuple[Tensor, int, int]:
    """Return an order of the units, the position to cut it, and how many samples two windows save over one for all."""
    count, best = len(first), (torch.arange(len(first)), 0, 0)
    for axis in range(first.shape[1]):
        keys, order = (first[:, axis] + end[:, axis]).sort(stable=True)
        if keys[0] == keys[-1]:
            continue
        low, high = first[order], end[order]
        before = (high.cummax(0).values - low.cummin(0).values).prod(1)
        after = (high.flip(0).cummax(0).values - low.flip(0).cummin(0).values).prod(1).flip(0)
        in_first = torch.arange(1, count)
        samples = in_first * before[:-1] + (count - in_first) * after[1:]
        samples[keys[1:] == keys[:-1]] = count * int(before[-1])
        position = int(samples.argmin())
        gain = count * int(before[-1]) - int(samples[position])
        if gain > best[2]:
            best = (order, position + 1, gain)
    return best
