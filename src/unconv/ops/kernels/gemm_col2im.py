"""GEMM + col2im: matrix products, whose results are added up where the kernel's taps fall."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any

import torch
from torch import Tensor

from unconv.ops.spatial import cut


def gemm_col2im(
    planes: Tensor,
    weight: Tensor,
    strides: Sequence[int],
    dilations: Sequence[int],
    first: Sequence[int],
    size: Sequence[int],
) -> Tensor:
    """Return the transposed convolution by GEMM + col2im, one product for all taps; weight (in, out, kernel..).

    It pays where a map has fewer positions than channels: the weight is used in the order it has in memory.
    """
    taps = weight.movedim((0, 1), (-1, -2))
    rows, kernel = planes.movedim(1, -1), weight.shape[2:]
    columns = rows.reshape(-1, rows.shape[-1]) @ taps.reshape(-1, *taps.shape[-2:]).mT
    columns = columns.view(prod(kernel), *rows.shape[:-1], columns.shape[-1]).movedim(-1, 2)
    # The sums have channels last in memory, because the products have.
    full_size = _full_size(planes, kernel, strides, dilations, first, size)
    full = columns.new_zeros(rows.shape[0], *full_size, columns.shape[2]).movedim(-1, 1)
    return cut(_col2im(columns, kernel, strides, dilations, full), first, size)


def gemm_col2im_by_rows(
    planes: Tensor, taps: Tensor, kernel: Sequence[int], first: Sequence[int], size: Sequence[int]
) -> Tensor:
    """Return the transposed convolution of stride 1 along two axes by GEMM + col2im, one product for each row of the map.

    It pays where there are few output channels: the lanes of a vector register hold the samples of a row instead.

    Args:
        planes: channels last in memory.
        taps: (taps times out, in), the taps in reading order.
    """
    units, inside, height, width = planes.shape
    rows = planes.permute(0, 2, 3, 1).reshape(units * height, width, inside)
    products = torch.bmm(taps.expand(rows.shape[0], *taps.shape), rows.mT)
    columns = products.view(units, height, kernel[0] * kernel[1], -1, width).permute(2, 0, 3, 1, 4)
    ones = (1, 1)
    full_size = _full_size(planes, kernel, ones, ones, first, size)
    return cut(_col2im(columns, kernel, ones, ones, products.new_zeros(*columns.shape[1:3], *full_size)), first, size)


def _full_size(
    planes: Tensor,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    first: Sequence[int],
    size: Sequence[int],
) -> list[int]:
    """Return the full result's samples along each axis, including the zeros after it that the caller asked for."""
    axes = zip(planes.shape[2:], kernel, strides, dilations, first, size, strict=True)
    return [max((n - 1) * s + d * (k - 1) + 1, start + length) for n, k, s, d, start, length in axes]


def _col2im(columns: Tensor, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], full: Tensor) -> Tensor:
    """Add each of `columns`, (taps, N, out, samples..), to `full`, (N, out, lengths..), where its tap falls."""
    for column, tap in zip(columns, product(*map(range, kernel)), strict=True):
        starts = [t * dilation for t, dilation in zip(tap, dilations, strict=True)]
        spans = zip(starts, strides, column.shape[2:], strict=True)
        where: list[Any] = [slice(start, start + (n - 1) * stride + 1, stride) for start, stride, n in spans]
        full[(..., *where)].add_(column)
    return full
