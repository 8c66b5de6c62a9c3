"""Reverse rules of operations that resize, rearrange or pick samples: linear, so their adjoint on whole maps."""

from __future__ import annotations

import torch

from unconv.reverse.rules.freezing import Freezer, Freezing, Kind, with_constant
from unconv.reverse.rules.table import adjoint, differentiated, on_whole, point, rule
from unconv.reverse.tape.step import Before, Step, Value
from unconv.reverse.window import Window

aten = torch.ops.aten


@rule(
    aten._upsample_bicubic2d_aa.default,
    aten._upsample_bilinear2d_aa.default,
    aten.channel_shuffle.default,
    aten.col2im.default,
    aten.im2col.default,
    aten.index_select.default,
    aten.pixel_shuffle.default,
    aten.pixel_unshuffle.default,
    aten.repeat.default,
    aten.roll.default,
    aten.upsample_bicubic2d.default,
    aten.upsample_linear1d.default,
    aten.upsample_nearest1d.default,
    aten.upsample_nearest3d.default,
    aten.upsample_trilinear3d.default,
    gate="kept",
)
@rule(aten.upsample_bilinear2d.default, aten.upsample_nearest2d.default, gate="kept")
def resampled(step: Step, *signals: Window | None) -> list[Window | None]:
    """What each sample gave to the samples above comes back and adds up."""
    return adjoint(step, *on_whole(step, signals))


_EXACT = {
    aten._upsample_nearest_exact1d.default: aten._upsample_nearest_exact1d_backward.default,
    aten._upsample_nearest_exact2d.default: aten._upsample_nearest_exact2d_backward.default,
    aten._upsample_nearest_exact3d.default: aten._upsample_nearest_exact3d_backward.default,
}


@rule(*_EXACT, gate="kept")
def nearest_exact(step: Step, r: Window) -> Window:
    """What each sample gave to the samples above comes back and adds up."""
    # By the operation itself, units as a batch: torch has no way to run its derivative for many units at once.
    source, out = step.inputs[0], step.outputs[0]
    assert out is not None
    _x, size, *scales = step.args
    signals = r.whole(out.shape).values.reshape(-1, *out.shape[1:])
    back = _EXACT[step.operation](signals, size, [len(signals), *source.shape[1:]], *scales)
    return Window(back if source.shape[0] == 1 else back.reshape(-1, *source.shape))


def _grid_held(step: Step, _freezing: Freezing) -> tuple[Kind, list[Step]] | None:
    """Return the step with its grid as it was, where the image made that, as a spatial transformer does."""
    return ("gates", [with_constant(step, 1)]) if isinstance(step.args[1], Value) and len(step.inputs) > 1 else None


@rule(
    aten.grid_sampler_2d.default,
    aten.grid_sampler_3d.default,
    keep=Before(point),
    freeze=Freezer(_grid_held),
    gate="kept",
)
def sampled_on_a_grid(step: Step, r: Window) -> list[Window | None]:
    """What each sample gave to the samples above comes back and adds up; the grid is as it was."""
    return differentiated(step, r) if step.kept is not None else adjoint(step, on_whole(step, [r])[0])


@rule(aten._unsafe_index.Tensor, keep=Before(point), gate="kept")
@rule(
    aten.gather.default,
    aten.index.Tensor,
    aten.max_unpool2d.default,
    aten.max_unpool3d.default,
    keep=Before(point),
    gate="kept",
)
def picked(step: Step, *signals: Window | None) -> list[Window | None]:
    """What was picked, or put, by index comes back from there; the indices are as they were, also where the image made them."""
    return differentiated(step, *signals)


@rule(
    aten.adaptive_max_pool2d.default,
    aten.adaptive_max_pool3d.default,
    keep=Before(point),
    gate="kept",
)
def adaptive_max_pool(step: Step, r: Window, _switches: Window | None) -> list[Window | None]:
    """Each maximum returns to where it came from; where two meet they add."""
    return differentiated(step, r)
