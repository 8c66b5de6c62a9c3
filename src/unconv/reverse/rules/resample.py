"""Reverse rules of operations that resize, rearrange or select samples: the adjoint, as they are linear."""

from __future__ import annotations

from fractions import Fraction

import torch
import torch.nn.functional as F
from torch._ops import OpOverload

from unconv.reverse.rules.freezing import Freezer, Freezing, Kind, with_constant
from unconv.reverse.rules.separable import Mixer, back, flips, pads, repeats, resizing, rolls, sees, selects
from unconv.reverse.rules.table import adjoint, differentiated, full_map, full_maps, local, point, rule
from unconv.reverse.spans import Spans
from unconv.reverse.tape.step import Before, Step, Value
from unconv.reverse.window import Reach, Window, cropped

aten = torch.ops.aten


_MIXERS: dict[OpOverload, Mixer] = {
    **dict.fromkeys(
        (
            aten._upsample_bicubic2d_aa.default,
            aten._upsample_bilinear2d_aa.default,
            aten._upsample_nearest_exact1d.default,
            aten._upsample_nearest_exact2d.default,
            aten._upsample_nearest_exact3d.default,
            aten.upsample_bicubic2d.default,
            aten.upsample_bilinear2d.default,
            aten.upsample_linear1d.default,
            aten.upsample_nearest1d.default,
            aten.upsample_nearest2d.default,
            aten.upsample_nearest3d.default,
            aten.upsample_trilinear3d.default,
        ),
        resizing,
    ),
    **dict.fromkeys(
        (
            aten.reflection_pad1d.default,
            aten.reflection_pad2d.default,
            aten.reflection_pad3d.default,
            aten.replication_pad1d.default,
            aten.replication_pad2d.default,
            aten.replication_pad3d.default,
        ),
        pads,
    ),
    aten.flip.default: flips,
    aten.index_select.default: selects,
    aten.repeat.default: repeats,
    aten.roll.default: rolls,
}
"""Separable operations, and the function that returns their form."""


def mixed(step: Step, r: Window) -> Window | list[Window | None]:
    """Send back what each sample gave to the samples above; the parts add up."""
    return back(_MIXERS[step.operation], step, r)


for _operation, _mixer in _MIXERS.items():
    rule(_operation, reach=sees(_mixer), gate="kept")(mixed)


def _in_place(step: Step, axes: int) -> Reach | None:
    return local(step, axes) if len(step.inputs[0].shape) == axes + 2 else None


@rule(aten.channel_shuffle.default, reach=_in_place, gate="kept")
@rule(aten.col2im.default, aten.im2col.default, gate="kept")
def resampled(step: Step, *signals: Window | None) -> list[Window | None]:
    """Send back what each sample gave to the samples above; the parts add up."""
    together = step.operation is aten.channel_shuffle.default and all(s is None or s.corner is not None for s in signals)
    return adjoint(step, *(signals if together else full_maps(step, signals)))


def _shuffle_reach(step: Step, axes: int) -> Spans | None:
    """Each pixel sees the one sample whose channels it came from."""
    (source, *_), (_x, times) = step.inputs, step.args
    if len(source.shape) != axes + 2 or axes != 2 or source.shape[0] != 1:
        return None
    units = [torch.arange(n * times).div(times, rounding_mode="floor") for n in source.shape[2:]]
    return Spans(tuple(units), tuple(units), (Fraction(1, times),) * 2)


@rule(aten.pixel_shuffle.default, reach=_shuffle_reach, gate="kept")
def pixel_shuffle(step: Step, r: Window) -> Window | list[Window | None]:
    """Send pixels back into the channels that they came from."""
    spans, (_x, times) = None if r.corner is None else _shuffle_reach(step, r.corner.shape[1]), step.args
    if spans is None or r.corner is None:
        return adjoint(step, full_map(step, r))
    first = r.corner.div(times, rounding_mode="floor")
    last = (r.corner + torch.tensor(r.lengths) - 1).div(times, rounding_mode="floor")
    lengths = (((last - first).amax(0) + 1) * times).tolist()
    framed = r.framed(first * times, lengths)
    return Window(F.pixel_unshuffle(framed.values, times), first).inside(step.inputs[0].shape)


def _unshuffle_reach(step: Step, axes: int) -> Reach | None:
    (source, *_), (_x, times) = step.inputs, step.args
    if len(source.shape) != axes + 2 or axes != 2 or source.shape[0] != 1:
        return None
    return Reach((times,) * 2, (0,) * 2, (times,) * 2)


@rule(aten.pixel_unshuffle.default, reach=_unshuffle_reach, gate="kept")
def pixel_unshuffle(step: Step, r: Window) -> Window | list[Window | None]:
    """Send channels back to the pixels that they came from."""
    reach = None if r.corner is None else _unshuffle_reach(step, r.corner.shape[1])
    if reach is None:
        return adjoint(step, full_map(step, r))
    shuffled = F.pixel_shuffle(r.values, reach.stride[0])
    return r.below(reach, step.inputs[0].shape, lambda needless: cropped(shuffled, needless).clone())


_EXACT = {
    aten._upsample_nearest_exact1d.default: aten._upsample_nearest_exact1d_backward.default,
    aten._upsample_nearest_exact2d.default: aten._upsample_nearest_exact2d_backward.default,
    aten._upsample_nearest_exact3d.default: aten._upsample_nearest_exact3d_backward.default,
}


@rule(*_EXACT, reach=sees(resizing), gate="kept")
def nearest_exact(step: Step, r: Window) -> Window | list[Window | None]:
    """Send back what each sample gave to the samples above; the parts add up."""
    if r.corner is not None and _MIXERS[step.operation](step, r.corner.shape[1]):
        return mixed(step, r)
    # Call the backward operation itself, with the units as a batch: torch cannot run the derivative for many units at once.
    source, out = step.inputs[0], step.outputs[0]
    assert out is not None
    _x, size, *scales = step.args
    signals = r.full_map(out.shape).values.reshape(-1, *out.shape[1:])
    back = _EXACT[step.operation](signals, size, [len(signals), *source.shape[1:]], *scales)
    return Window(back if source.shape[0] == 1 else back.reshape(-1, *source.shape))


def _freeze_grid(step: Step, _freezing: Freezing) -> tuple[Kind, list[Step]] | None:
    """Return the step with its grid as a constant, if the grid depends on the image, as in a spatial transformer."""
    return ("gates", [with_constant(step, 1)]) if isinstance(step.args[1], Value) and len(step.inputs) > 1 else None


@rule(
    aten.grid_sampler_2d.default,
    aten.grid_sampler_3d.default,
    keep=Before(point),
    freeze=Freezer(_freeze_grid),
    gate="kept",
)
def sampled_on_a_grid(step: Step, r: Window) -> list[Window | None]:
    """Send back, with the recorded grid, what each sample gave to the samples above; the parts add up."""
    return differentiated(step, r) if step.kept is not None else adjoint(step, full_maps(step, [r])[0])


@rule(aten.unfold.default, gate="kept")
def sliding_windows(step: Step, r: Window) -> Window:
    """Send each slice back to where it was taken; where slices overlap, they add."""
    # Call the backward operation itself, with the units in front: torch cannot run the derivative for many units at once.
    (source, *_), (out, *_), (_x, along, size, every) = step.inputs, step.outputs, step.args
    assert out is not None
    signals = r.full_map(out.shape).values.reshape(-1, *out.shape)
    shape = [len(signals), *source.shape]
    back = torch.ops.aten.unfold_backward.default(signals, shape, along % len(source.shape) + 1, size, every)
    return Window(back[:, 0] if source.shape[0] == 1 else back)


@rule(aten._unsafe_index.Tensor, keep=Before(point), gate="kept")
@rule(
    aten.gather.default,
    aten.index.Tensor,
    aten.max_unpool2d.default,
    aten.max_unpool3d.default,
    keep=Before(point),
    gate="kept",
)
def selected(step: Step, *signals: Window | None) -> list[Window | None]:
    """Send samples back to where an index took them from; the indices are the recorded ones, even if the image made them."""
    return differentiated(step, *signals)


@rule(
    aten.adaptive_max_pool2d.default,
    aten.adaptive_max_pool3d.default,
    keep=Before(point),
    gate="kept",
)
def adaptive_max_pool(step: Step, r: Window, _switches: Window | None) -> list[Window | None]:
    """Send each maximum back to where it came from; where two meet, they add."""
    return differentiated(step, r)
