"""Winograd's minimal filtering F(4 × 4, 3 × 3): 36 multiplications instead of 144 for 4 by 4 results of a channel pair."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

_BLOCK = 256  # tiles that are computed together: few enough that their memory stays in the cache


def winograd_kernels(weight: Tensor) -> Tensor:
    """Return a weight (in, out, 3, 3) in Winograd's transformed form, (36, in, out)."""
    transform, _, _ = _transforms(weight.dtype)
    flipped = weight.flip(2, 3).permute(2, 3, 0, 1).reshape(9, -1)
    return (transform @ flipped).view(-1, *weight.shape[:2])


def winograd(planes: Tensor, kernels: Tensor, first: Sequence[int], size: Sequence[int]) -> Tensor:
    """Return the transposed convolution of stride 1 with 3 by 3 kernels, which `winograd_kernels` has transformed.

    Source:
        Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks" (2016), section 4.
    """
    (units, inside), (height, width) = planes.shape[:2], planes.shape[2:]
    _, samples, results = _transforms(planes.dtype)
    out = kernels.shape[2]
    down, across = (-(-n // 4) for n in size)
    (top, left), rows = first, planes.permute(0, 2, 3, 1)
    edges = (0, 0, 2 - left, 4 * across - width + left, 2 - top, 4 * down - height + top)
    padded = F.pad(rows, edges).contiguous()
    pitch = padded.stride()
    output = planes.new_empty(units, down, 4, across, 4, out)
    # Transformed tiles take 36 / 16 of the map's memory. A block is a few complete rows of tiles, or several small units,
    # so that it stays in the cache from the first transform to the last.
    block_rows = min(down, max(1, _BLOCK // across))
    block_units = max(1, _BLOCK // (across * down)) if block_rows == down else 1
    for unit, row in product(range(0, units, block_units), range(0, down, block_rows)):
        block = output[unit : unit + block_units, row : row + block_rows]
        # Tiles of 6 by 6 samples begin at every fourth sample. They overlap, so they are views until the first product.
        shape = (6, 6, *block.shape[:2], across, inside)
        strides = (pitch[1], pitch[2], pitch[0], 4 * pitch[1], 4 * pitch[2], 1)
        begin = padded.storage_offset() + unit * pitch[0] + 4 * row * pitch[1]
        tiles = torch.mm(samples, padded.as_strided(shape, strides, begin).reshape(36, -1)).view(36, -1, inside)
        sums = torch.bmm(tiles, kernels)
        values = torch.mm(results, sums.view(36, -1)).view(4, 4, *block.shape[:2], across, out)
        block.copy_(values.permute(2, 3, 0, 4, 1, 5))
    return output.view(units, 4 * down, 4 * across, out)[:, : size[0], : size[1]].permute(0, 3, 1, 2)


@cache
def _transforms(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return the transforms of kernels (36, 9), of tiles of samples (36, 36) and of results (16, 36).

    Along one axis, four samples of a convolution with three taps come from six products: those of two polynomials at the
    points 0, 1, -1, 1/2, -2 and infinity. These points lose no more digits than the convolution itself; the usual pair 2
    and -2 loses more.

    Source:
        Winograd, "Arithmetic Complexity of Computations" (1980).
    """
    points = torch.tensor([0, 1, -1, 0.5, -2], dtype=torch.float64)
    infinity = torch.tensor([[0, 0, 1.0]]), torch.tensor([[0], [0], [0], [1.0]])
    kernels = torch.cat([torch.vander(points, 3, increasing=True), infinity[0]])  # values of the kernel's polynomial
    results = torch.cat([torch.vander(points, 4, increasing=True).T, infinity[1]], 1)
    products = torch.stack([results[i] * kernels[:, j] for i in range(4) for j in range(3)])
    target = torch.stack([torch.eye(6, dtype=torch.float64)[i + j] for i in range(4) for j in range(3)])
    samples = torch.linalg.lstsq(products, target).solution  # such that results @ (kernels @ k * samples @ x) convolves
    k, s, r = (torch.kron(matrix, matrix).to(dtype) for matrix in (kernels, samples, results))
    return k, s, r
