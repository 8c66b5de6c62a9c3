"""The windows of a convolution or a pool: default settings, and padding that depends on the lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from unconv.axis import Axis
from unconv.errors import ShapeError
from unconv.networks.onnx.operators.table import bounded, choose


@dataclass(frozen=True)
class Windows:
    """The settings of windows along each axis.

    Args:
        pads: samples before and after, along each axis.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]

    @property
    def extent(self) -> tuple[int, ...]:
        """The samples that a window spans along each axis, gaps of dilation included."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    @property
    def symmetric(self) -> bool:
        """Whether padding is the same before and after along each axis, and none is negative."""
        return all(before == after >= 0 for before, after in self.pads)


def windows(
    x: Tensor,
    kernel: Sequence[int],
    strides: Sequence[int] | None,
    dilations: Sequence[int] | None,
    pads: Sequence[int] | None,
    auto_pad: str,
) -> Windows:
    """Return the windows over `x`, (N, C, samples..).

    Raises:
        ShapeError: the settings have another number of axes than `x`, or are out of range.
    """
    axes = x.ndim - 2
    stride, dilation = (list(setting or [1] * axes) for setting in (strides, dilations))
    edges = list(pads or [0] * 2 * axes)
    if not 1 <= axes <= 3 or {len(kernel), len(stride), len(dilation), len(edges) / 2} != {axes}:
        raise ShapeError(
            f"its input is {tuple(x.shape)}, but its kernel is {tuple(kernel)}; both must have the same 1 to 3 axes"
        )
    if min(*kernel, *stride, *dilation) < 1:
        raise ShapeError(f"its kernel {tuple(kernel)}, strides and dilations must each be at least 1")
    same = choose("auto_pad", auto_pad, {"NOTSET": None, "": None, "VALID": 0, "SAME_UPPER": 1, "SAME_LOWER": -1})
    pairs = [(0, 0)] * axes if same is not None else list(zip(edges[:axes], edges[axes:], strict=True))
    if same:
        # SAME pads evenly; an odd sample goes after for UPPER, which is what `Axis` does, and before for LOWER.
        rows = zip(kernel, stride, dilation, x.shape[2:], strict=True)
        even_pads = [Axis(k, s, None, d).pads(n) for k, s, d, n in rows]
        pairs = [(before, after) if same > 0 else (after, before) for before, after in even_pads]
    bounded(max(n + sum(pair), 0) for n, pair in zip(x.shape, [(0, 0), (0, 0), *pairs], strict=True))
    return Windows(tuple(kernel), tuple(stride), tuple(dilation), tuple(pairs))


def window_count(n: int, extent: int, stride: int, pads: tuple[int, int], ceil: bool) -> tuple[int, int]:
    """Return the number of windows along one axis, and the padding after it with which they just fit.

    Source:
        ONNX, AveragePool of opset 22: with `ceil`, a last window may reach beyond the end unless it begins in the padding.
    """
    room = n + sum(pads) - extent
    count = (-(-room // stride) if ceil else room // stride) + 1
    if ceil and (count - 1) * stride >= n + pads[0]:
        count -= 1
    return count, max((count - 1) * stride + extent - n - pads[0], 0)
