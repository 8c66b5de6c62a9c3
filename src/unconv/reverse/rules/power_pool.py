"""The reverse rule of power-average pools (LPPool), one operation here: torch's parts contain a rectifier without meaning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unconv.reverse.rules.table import differentiated, full_map, point, rule
from unconv.reverse.tape.custom_operations import define, replaces
from unconv.reverse.tape.step import Before, Step
from unconv.reverse.window import Window


def _sums(x: Tensor, power: float, kernel: Sequence[int], stride: Sequence[int], ceil: bool) -> Tensor:
    """Return sums of powers over the windows, as torch: one cut off at the edge counts as its mean times the kernel's size."""
    pool = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[len(kernel)]
    means: Tensor = pool(x.pow(power), list(kernel), list(stride or kernel), 0, ceil)
    return means * prod(kernel)


def _roots(x: Tensor, power: float, kernel: Sequence[int], stride: Sequence[int], ceil: bool) -> Tensor:
    return _sums(x, power, kernel, stride, ceil).pow(1 / power)


_SCHEMA = "(Tensor x, float power, int[] kernel, int[] stride, bool ceil) -> Tensor"
LP_POOL = define(f"lp_pool{_SCHEMA}", _roots)
SUMS = define(f"sums_of_powers{_SCHEMA}", _sums)


def _recorded(axes: int, function: Any) -> None:
    @replaces(function)
    def record(input: Tensor, norm_type: int | float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Any:
        kernel, strides = ([n] * axes if isinstance(n, int) else list(n or []) for n in (kernel_size, stride))
        return LP_POOL(input, float(norm_type), kernel, strides, ceil_mode)


for _axes, _function in ((1, F.lp_pool1d), (2, F.lp_pool2d), (3, F.lp_pool3d)):
    _recorded(_axes, _function)


@rule(LP_POOL, keep=Before(point))
def power_pool(step: Step, r: Window) -> list[Window | None]:
    """Take the derivative at the recorded point; nothing goes back to a window of zeros."""
    (x,), power = step.kept, step.args[1]
    # By hand: at zero, the slope of torch's root is infinite, and its gradient NaN.
    sums = _sums(x, *step.args[1:])
    slope = torch.where(sums == 0, 0.0, sums.pow(1 / power - 1) / power)
    signal = full_map(step, r)
    inner = replace(step, operation=SUMS)
    return differentiated(inner, signal.map(lambda values: values * slope.to(values.dtype)))
