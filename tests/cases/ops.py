"""Drawn settings of convolutions and pools, and what to hold their results against."""

from __future__ import annotations

from math import prod

import torch
from hypothesis import assume, settings
from hypothesis import strategies as some
from torch.testing import assert_close

from unconv import ops
from unconv.axis import Axis
from unconv.ops.arguments import FORMATS, LAYOUTS

law = settings(deadline=None, derandomize=True, max_examples=150)
CONVS = {1: ops.conv1d, 2: ops.conv2d, 3: ops.conv3d}
TRANSPOSED = {1: ops.conv1d_transpose, 2: ops.conv2d_transpose, 3: ops.conv3d_transpose}
AVERAGES = {1: ops.avg_pool1d, 2: ops.avg_pool2d, 3: ops.avg_pool3d}


def exactly(found, expected):
    assert_close(found, expected, rtol=1e-12, atol=1e-12)


def inner(a, b):
    return (a * b).sum()


def randn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + prod(shape)))


@some.composite
def calls(draw, most=3, dilated=True):
    """(layout, axes, large size, the padding argument): settings that fit, with windows."""
    layout = LAYOUTS[draw(some.sampled_from([name for name in FORMATS if len(name) <= most + 2]))]
    longest = {1: 12, 2: 7, 3: 4}[layout.axes]
    padding = draw(some.sampled_from(["SAME", "VALID", "explicit"]))
    axes, size, pairs = [], [], []
    for _ in range(layout.axes):
        kernel, stride = draw(some.integers(1, 4)), draw(some.integers(1, 4))
        dilation = draw(some.integers(1, 3)) if dilated else 1
        pairs.append((draw(some.integers(0, kernel - 1)), draw(some.integers(0, kernel - 1))))
        pads = {"SAME": None, "VALID": (0, 0), "explicit": pairs[-1]}[padding]
        axis = Axis(kernel, stride, pads, dilation)
        n = draw(some.integers(1, longest))
        assume(pads is None or n + sum(pads) >= axis.extent)
        axes.append(axis)
        size.append(n)
    return layout, axes, size, pairs if padding == "explicit" else padding


def settings_of(axes):
    return [axis.stride for axis in axes], [axis.dilation for axis in axes]
