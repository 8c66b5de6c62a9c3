"""The nearest of a set's points, for many values: by axes or by angle where the set has them, and by all points otherwise."""

from __future__ import annotations

from math import tau

import torch
from torch import Tensor

_BLOCK = 2**22  # values times points that are compared at once
_ALIKE = 1e-9  # of the largest: coordinates that near are one


class Lookup:
    """Finds the index of the point nearest to each value; of points equally near, one of them.

    A grid is decided axis by axis, and points on a circle by their angle, each in time that grows with log M; others are all
    compared, in blocks.

    Args:
        points: (M,), real or complex.
    """

    def __init__(self, points: Tensor) -> None:
        self._points = points
        self._grid = _grid(points)
        self._circle = None if self._grid else _circle(points)

    def nearest(self, values: Tensor) -> Tensor:
        """Return (...) int64 of real or complex values (...); the imaginary part says nothing about real points."""
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
        found = _step(angles, values.angle().remainder(tau))
        return order[found]

    def _among_all(self, values: Tensor) -> Tensor:
        """Compare with all points: least |y - p|^2 is most Re(y* p) - |p|^2 / 2."""
        flat, points = values.reshape(-1), self._points.to(values.device)
        found = torch.empty(len(flat), dtype=torch.int64, device=values.device)
        half = points.abs().square() / 2
        size = max(_BLOCK // len(points), 1)
        for start in range(0, len(flat), size):
            some = flat[start : start + size]
            # In double: near a border, float32 would lose what tells two points apart.
            product = some.real.double()[:, None] * points.real - half
            if points.is_complex():
                product += some.imag.double()[:, None] * points.imag
            found[start : start + size] = product.argmax(1)
        return found.reshape(values.shape)


def _step(levels: Tensor, values: Tensor) -> Tensor:
    """Return the index of the nearest of rising levels (k,)."""
    middles = (levels[1:] + levels[:-1]) / 2
    return torch.bucketize(values.double().contiguous(), middles)


def _levels(line: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distinct coordinates, rising, and which of them each point has."""
    rising = line.sort().values
    wide = _ALIKE * float(line.abs().max())
    distinct = rising[torch.cat([torch.ones(1, dtype=torch.bool), rising.diff() > wide])]
    return distinct, torch.bucketize(line.contiguous(), (distinct[1:] + distinct[:-1]) / 2)


def _grid(points: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return the levels of both axes and the index of each of their crossings, if a point stands on every one."""
    real, column = _levels(points.real)
    imag, row = _levels(points.imag if points.is_complex() else torch.zeros_like(points))
    if len(real) * len(imag) != len(points):
        return None
    table = torch.full((len(real), len(imag)), -1)
    table[column, row] = torch.arange(len(points))
    return (real, imag, table) if bool((table >= 0).all()) else None


def _circle(points: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return the rising angles of points on a circle about zero, with both ends once more, and whose they are."""
    size = points.abs()
    if float(size.max() - size.min()) > _ALIKE * float(size.max()):
        return None
    angles, order = points.angle().remainder(tau).sort()
    wrapped = torch.cat([angles[-1:] - tau, angles, angles[:1] + tau])
    return wrapped, torch.cat([order[-1:], order, order[:1]])
