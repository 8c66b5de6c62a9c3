"""Compute exact log-likelihood ratios of bits from soft symbols or from posterior probabilities of points."""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCK = 2**21  # values times points that are in memory at a time


def bit_ratios(points: Tensor, labels: Tensor, soft: Tensor, variance: Tensor) -> Tensor:
    """Return log P(bit = 0) / P(bit = 1), (..., n * m), for soft values (..., n) whose noise has the `variance` (..., n).

    The likelihood of point p is exp(-|y - p|^2 / variance) for complex y, exp(-(y - p)^2 / (2 variance)) for real y.
    """
    parts = _axes(points, labels) if soft.is_complex() else None
    if parts is None:
        return _by_points(points, labels, soft, variance).reshape(*soft.shape[:-1], -1)
    # On a grid whose bits each belong to one axis, the sum over the other axis cancels in the ratio: sqrt(M) terms, not M.
    (real, first), (imag, second), half = *parts, variance / 2
    ratios = _by_points(real, first, soft.real, half), _by_points(imag, second, soft.imag, half)
    return torch.cat(ratios, -1).reshape(*soft.shape[:-1], -1)


def _axes(points: Tensor, labels: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
    """Return levels and labels of both axes; None unless the first bits choose the real part and the others the imaginary."""
    if not points.is_complex():
        return None
    m, count = labels.shape[1], len(points)
    for k in range(1, m):
        # As a table whose rows share the first k bits: a grid has one real part for each row, one imaginary part per column.
        table = points.reshape(2**k, count // 2**k)
        tolerance = 1e-9 * float(points.abs().max())
        real = float((table.real - table.real[:, :1]).abs().max()) <= tolerance
        if real and float((table.imag - table.imag[:1]).abs().max()) <= tolerance:
            bits = labels.reshape(2**k, -1, m)
            return (table.real[:, 0].clone(), bits[:, 0, :k]), (table.imag[0].clone(), bits[0, :, k:])
    return None


def _by_points(points: Tensor, labels: Tensor, soft: Tensor, variance: Tensor) -> Tensor:
    """Return the ratios (..., n, m) by sums over all points, for blocks of values."""
    m, device = labels.shape[1], soft.device
    values, level = soft.reshape(-1), variance.reshape(-1)
    ratios = torch.empty((len(values), m), dtype=values.real.dtype, device=device)
    points, labels = points.to(device), labels.to(device)
    twice = 1 if soft.is_complex() else 2
    size = max(_BLOCK // len(points), 1)
    for start in range(0, len(values), size):
        block = slice(start, start + size)
        # In double: the ratio is a difference of large exponents where the points are far away.
        distances = (values[block, None] - points).abs().double().square()
        exact = ratios_of_posteriors(-distances / (twice * level[block, None].double()), labels)
        ratios[block] = exact.reshape(-1, m).to(ratios.dtype)
    return ratios.reshape(*soft.shape, m)


def ratios_of_posteriors(logs: Tensor, labels: Tensor) -> Tensor:
    """Return log P(bit = 0) / P(bit = 1), (..., n * m), from log-probabilities (..., n, M) and labels (M, m)."""
    ratios = []
    for column in labels.T:
        # Half of the points have the bit: indexing them is far cheaper than masking with -inf, whose exponentials cost as much.
        zero, one = (torch.logsumexp(logs[..., column == bit], -1) for bit in (0, 1))
        ratios.append(zero - one)
    return torch.stack(ratios, -1).flatten(-2)
