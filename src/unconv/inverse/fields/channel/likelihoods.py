"""Log-likelihood ratios of bits, exactly, from soft symbols or from the probabilities of points."""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCK = 2**21  # values times points that are held at once


def bit_ratios(points: Tensor, labels: Tensor, soft: Tensor, variance: Tensor) -> Tensor:
    """Return log P(bit = 0) / P(bit = 1), (..., n * m), of soft values (..., n) of E|noise|^2 `variance`, (..., n).

    Complex values have the density exp(-|y - p|^2 / variance), real ones exp(-(y - p)^2 / (2 variance)).
    """
    parts = _axes(points, labels) if soft.is_complex() else None
    if parts is None:
        return _by_points(points, labels, soft, variance).reshape(*soft.shape[:-1], -1)
    # On a grid whose bits belong to one axis each, the sum over the other axis is the same above and below: M becomes sqrt(M).
    (real, first), (imag, second), half = *parts, variance / 2
    found = _by_points(real, first, soft.real, half), _by_points(imag, second, soft.imag, half)
    return torch.cat(found, -1).reshape(*soft.shape[:-1], -1)


def _axes(points: Tensor, labels: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
    """Return levels and labels of both axes, if the first bits choose the real part alone and the rest the imaginary one."""
    if not points.is_complex():
        return None
    m, count = labels.shape[1], len(points)
    for k in range(1, m):
        wide = points.reshape(2**k, count // 2**k)
        scale = 1e-9 * float(points.abs().max())
        real = float((wide.real - wide.real[:, :1]).abs().max()) <= scale
        if real and float((wide.imag - wide.imag[:1]).abs().max()) <= scale:
            bits = labels.reshape(2**k, -1, m)
            return (wide.real[:, 0].clone(), bits[:, 0, :k]), (wide.imag[0].clone(), bits[0, :, k:])
    return None


def _by_points(points: Tensor, labels: Tensor, soft: Tensor, variance: Tensor) -> Tensor:
    """Return the ratios (..., n, m) by sums over all points, in blocks of values."""
    m, device = labels.shape[1], soft.device
    values, level = soft.reshape(-1), variance.reshape(-1)
    out = torch.empty((len(values), m), dtype=values.real.dtype, device=device)
    places, sides = points.to(device), labels.to(device)
    twice = 1 if soft.is_complex() else 2
    size = max(_BLOCK // len(points), 1)
    for start in range(0, len(values), size):
        some = slice(start, start + size)
        # In double: distances of far points are differences of large numbers.
        apart = (values[some, None] - places).abs().double().square()
        out[some] = ratios_of_posteriors(-apart / (twice * level[some, None].double()), sides).reshape(-1, m).to(out.dtype)
    return out.reshape(*soft.shape, m)


def ratios_of_posteriors(logs: Tensor, labels: Tensor) -> Tensor:
    """Return log P(bit = 0) / P(bit = 1), (..., n * m), of log-probabilities (..., n, M) and labels (M, m)."""
    found = []
    for column in labels.T:
        # The points are halves: an index is far cheaper than a mask filled with -inf, whose exponentials would be computed.
        zero, one = (torch.logsumexp(logs[..., column == bit], -1) for bit in (0, 1))
        found.append(zero - one)
    return torch.stack(found, -1).flatten(-2)
