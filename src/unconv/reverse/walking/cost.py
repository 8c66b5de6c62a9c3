"""Count the floating-point operations of the way back, and measure how fast this machine convolves."""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor

from unconv.reverse.methods import Rules
from unconv.reverse.rules.table import local
from unconv.reverse.seed import Seeds
from unconv.reverse.spans import Spans, one_of
from unconv.reverse.tape.step import Step, Tape, Value
from unconv.reverse.walking.walk import path

_PRODUCTS = ("conv", "linear")
_Span = tuple[Tensor, Tensor]
"""The first sample and the end of the part of a map that each unit's signal may cover, each (units, axes)."""


def operations(tape: Tape, value: Value, method: Rules, seeds: Seeds) -> Tensor:
    """Return (n,) float64: the multiplications and additions of each unit's convolutions and linear layers.

    Each sample of the unit's window that lies on the map counts once per weight of the kernel; for a signal of one channel,
    of that channel's kernel. All convolutions count as direct ones, whichever algorithm runs.
    """
    if not len(seeds.channels):
        return torch.zeros(0, dtype=torch.float64)
    low, high = (torch.tensor(list(side), dtype=torch.int64) for side in zip(*seeds.spans(), strict=True))
    spans: dict[int, _Span] = {value.index: (low.view(len(low), -1), high.view(len(high), -1) + 1)}
    single = set[int]() if seeds.together else {value.index}
    total = torch.zeros(len(low), dtype=torch.float64)
    for step in path(tape, value):
        above = next((output for output in step.outputs if output and output.index in spans), None)
        if above is None:
            continue
        span = spans[above.index]
        is_transposed = step.kind == "conv" and step.args[6]  # which counts the samples below
        total += _of_step(step, _below(step, method, span, above, 0) if is_transposed else span, above.index in single)
        for entry, below in enumerate(step.inputs):
            if below.flows:
                covered = _below(step, method, span, above, entry)
                spans[below.index] = _hull(spans[below.index], covered) if below.index in spans else covered
                if above.index in single and method.reach(step.operation) is local:
                    single.add(below.index)
    return total


def _of_step(step: Step, span: _Span, single: bool) -> Tensor:
    first, end = span
    samples = (end - first).clamp(min=0).prod(1).double()
    weights = [argument for argument in step.args if isinstance(argument, Tensor) and argument.ndim > 1]
    if step.kind not in _PRODUCTS or not weights:
        return torch.zeros(len(first), dtype=torch.float64)
    products = weights[0].numel() / (len(weights[0]) if single and step.kind == "conv" else 1)
    return 2 * samples * products


def _below(step: Step, method: Rules, span: _Span, above: Value, entry: int) -> _Span:
    """Return the part of an input's map that each unit's signal may cover."""
    first, end = span
    axes = first.shape[1]
    reaching = method.reach(step.operation)
    sights = reaching(step, axes) if reaching and axes else None
    reach = one_of(sights, entry, step.outputs.index(above), len(step.outputs))
    sizes = torch.tensor(step.inputs[entry].shape[2:], dtype=torch.int64)
    if reach is None or len(sizes) != axes:
        return torch.zeros(len(first), len(sizes), dtype=torch.int64), sizes.expand(len(first), -1)
    if isinstance(reach, Spans):
        return reach.below(first, end, sizes.tolist())
    stride, padding, extent = (torch.tensor(setting) for setting in (reach.stride, reach.padding, reach.extent))
    nothing = torch.zeros_like(sizes)
    start = torch.clamp(first * stride - padding, nothing, sizes)
    return start, torch.clamp((end - 1) * stride - padding + extent, nothing, sizes)


def _hull(a: _Span, b: _Span) -> _Span:
    return (torch.minimum(a[0], b[0]), torch.maximum(a[1], b[1])) if a[0].shape == b[0].shape else b


def convolution_rate(dtype: torch.dtype, device: torch.device, rounds: int = 7) -> float:
    """Return the floating-point operations per second of torch's convolutions: the best median of three shapes of VGG16."""
    shapes = (
        ((4, 512, 28), (4, 256, 56), (1, 64, 224)) if device.type == "cpu" else ((64, 512, 28), (64, 256, 56), (16, 64, 224))
    )
    return max(_rate(*shape, dtype, device, rounds) for shape in shapes)


def _rate(units: int, channels: int, side: int, dtype: torch.dtype, device: torch.device, rounds: int) -> float:
    sizes = ((units, channels, side, side), (channels, channels, 3, 3))
    ones = (torch.ones(size, dtype=dtype, device=device) for size in sizes)
    image, weight = (tensor.contiguous(memory_format=torch.channels_last) for tensor in ones)
    spent: list[float] = []
    for _ in range(rounds + 1):
        wait(device)
        began = time.perf_counter()
        torch.nn.functional.conv2d(image, weight, padding=1)
        wait(device)
        spent.append(time.perf_counter() - began)
    return 2 * image.numel() * weight.numel() / channels / float(statistics.median(spent[1:]))


def wait(device: torch.device) -> None:
    """Wait until the device has finished its work, so that a clock is right."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
