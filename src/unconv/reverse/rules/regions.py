"""Reverse rules of torchvision's own operations: regions of interest, with constant boxes, and deformable convolution.

This file is imported when a network that uses torchvision is recorded, so that others need not wait for torchvision.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torchvision.ops  # noqa: F401 (defines the operations)
from torch import Tensor

from unconv.reverse.rules.freezing import Freezer, Freezing, Kind
from unconv.reverse.rules.table import full_map, point, rule
from unconv.reverse.tape.step import Before, Step, Value
from unconv.reverse.window import Window

_OPS = torch.ops.torchvision


@rule(
    _OPS.roi_align.default,
    _OPS.roi_pool.default,
    _OPS.ps_roi_align.default,
    _OPS.ps_roi_pool.default,
    keep=Before(point),
)
def regions(step: Step, r: Window, *_others: Any) -> list[Window | None]:
    """Send the signal of each region back to the samples it was taken from; the boxes are constants, as in torch."""
    return _by_autograd(step, r, {step.args[0].index} if isinstance(step.args[0], Value) else set())


def _freeze_offsets(step: Step, _freezing: Freezing) -> tuple[Kind, list[Step]] | None:
    """Return the step with its kernel, offsets and mask as constants, if they depend on the image."""
    source = step.args[0]
    if not isinstance(source, Value) or len(step.inputs) == 1:
        return None
    entered = iter(step.kept)
    recorded = [next(entered) if isinstance(argument, Value) else argument for argument in step.args]
    args = (source, *recorded[1:])
    return "gates", [replace(step, args=args, inputs=(source,), kept=(recorded[0],))]


@rule(_OPS.deform_conv2d.default, keep=Before(point), freeze=Freezer(_freeze_offsets))
def deformed(step: Step, r: Window) -> list[Window | None]:
    """Send the signal back through a convolution with its taps at their recorded offsets."""
    return _by_autograd(step, r, {value.index for value in step.inputs})


def _by_autograd(step: Step, r: Window, through: set[int]) -> list[Window | None]:
    """Return the derivative at the recorded point, unit by unit: torchvision's cannot run for many units at once."""
    signals = full_map(step, r).values
    with torch.inference_mode(False), torch.enable_grad():
        inputs = [
            x.to(signals.dtype) if isinstance(x, Tensor) and x.is_floating_point() else x
            for x in step.kept
            if isinstance(x, Tensor)
        ]
        leaves = [x.clone().requires_grad_(value.index in through) for x, value in zip(inputs, step.inputs, strict=True)]
        output = step.again(leaves)
        result: Tensor = output[0] if isinstance(output, tuple | list) else output
        differentiable = [leaf for leaf in leaves if leaf.requires_grad]
        rows = [
            torch.autograd.grad(result, differentiable, row.clone().view(result.shape), retain_graph=True) for row in signals
        ]
    parts = iter([torch.stack(part).detach() for part in zip(*rows, strict=True)])
    stacked = [next(parts) if leaf.requires_grad else None for leaf in leaves]
    return [part if part is None else _as_recorded(part, value) for part, value in zip(stacked, step.inputs, strict=True)]


def _as_recorded(signals: Tensor, value: Value) -> Window:
    return Window(signals[:, 0] if value.shape[:1] == (1,) else signals)
