"""Find the nearest point for many values: axis by axis on a grid, by angle on a circle, else among all points."""

from __future__ import annotations

from math import tau

import torch
from torch import Tensor

_BLOCK = 2**22  # values times points that are compared at a time
_SAME = 1e-9  # of the largest: coordinates that close count as equal


class Lookup:
    """Finds the index of the point nearest to each value; any one of those where several are equally near.

    A grid is decided axis by axis and points on a circle by their angle, both by binary search, in time that grows with log M.
    Any other set takes a comparison with all points, in blocks.

    Args:
        points: (M,), real or complex.
    """

    def __init__(self, points: Tensor) -> None:
        self._points = points
        self._grid = _grid(points)
        self._circle = None if self._grid else _circle(points)

    def nearest(self, values: Tensor) -> Tensor:
        """Return indices (...), int64, for real or complex values (...); for real points, the imaginary part is ignored."""
        if not self._points.is_complex() and values.is_complex():
            values = values.real
        if self._grid:
            return self._on_grid(values)
        if self._circle:
            return self._on_circle(values)
        return self._among_all(values)

    def _on_grid(self, values: Tensor) -> Tensor:
        assert self._grid is not None
        real, imag, table = (each.to(values.device) for each in self._grid)
        column = _step(real, values.real)
        row = _step(imag, values.imag) if values.is_complex() else torch.zeros_like(column)
        return table[column, row]

    def _on_circle(self, values: Tensor) -> Tensor:
        assert self._circle is not None
        angles, order = (each.to(values.device) for each in self._circle)
        return order[_step(angles, values.angle().remainder(tau))]

    def _among_all(self, values: Tensor) -> Tensor:
        """Compare with all points: the least |y - p|^2 has the largest Re(y* p) - |p|^2 / 2."""
        flat, points = values.reshape(-1), self._points.to(values.device)
        indices = torch.empty(len(flat), dtype=torch.int64, device=values.device)
        half = points.abs().square() / 2
        size = max(_BLOCK // len(points), 1)
        for start in range(0, len(flat), size):
            block = flat[start : start + size]
            # In double: near a decision boundary, float32 would lose the difference between two points.
            product = block.real.double()[:, None] * points.real - half
            if points.is_complex():
                product += block.imag.double()[:, None] * points.imag
            indices[start : start + size] = product.argmax(1)
        return indices.reshape(values.shape)


def _step(levels: Tensor, values: Tensor) -> Tensor:
    """Return the index of the nearest among rising levels (k,)."""
    middles = (levels[1:] + levels[:-1]) / 2
    return torch.bucketize(values.double().contiguous(), middles)


def _levels(line: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distinct coordinates, rising, and the index of each point's coordinate among them."""
    rising = line.sort().values
    tolerance = _SAME * float(line.abs().max())
    distinct = rising[torch.cat([torch.ones(1, dtype=torch.bool), rising.diff() > tolerance])]
    return distinct, torch.bucketize(line.contiguous(), (distinct[1:] + distinct[:-1]) / 2)


def _grid(points: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return the levels of both axes and the index of the point at each crossing; None unless every crossing has one."""
    real, column = _levels(points.real)
    imag, row = _levels(points.imag if points.is_complex() else torch.zeros_like(points))
    if len(real) * len(imag) != len(points):
        return None
    table = torch.full((len(real), len(imag)), -1)
    table[column, row] = torch.arange(len(points))
    return (real, imag, table) if bool((table >= 0).all()) else None


def _circle(points: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return the rising angles of points on a circle about zero, and their indices; None if they lie on no such circle."""
    size = points.abs()
    if float(size.max() - size.min()) > _SAME * float(size.max()):
        return None
    angles, order = points.angle().remainder(tau).sort()
    # The first and last angle again, a turn further: a value just below 2 pi may be nearest to the point at 0.
    wrapped = torch.cat([angles[-1:] - tau, angles, angles[:1] + tau])
    return wrapped, torch.cat([order[-1:], order, order[:1]])
