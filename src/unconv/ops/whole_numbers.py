"""Integers: int32 convolutions that are exact modulo 2**32, as in TensorFlow, and an order for maxima of every type."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from unconv.errors import ShapeError
from unconv.ops.spatial import traced

_SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}
_EXACT = 2**53  # float64 represents every integer up to it


def by_parts(where: str, convolve: Callable[[Tensor, Tensor], Tensor], planes: Tensor, weight: Tensor, taps: int) -> Tensor:
    """Return `convolve(planes, weight)`; for int32 it is computed in float64, in parts that lose no bit.

    `convolve` must be linear in both tensors, and add up at most `taps` products for a sample.
    """
    if planes.dtype != torch.int32:
        return convolve(planes, weight)
    if taps > 2**22:
        raise ShapeError(
            f"{where}: {taps} products are added up for a sample, but int32 is exact for {2**22} at most. Pass float64, or "
            "smaller filters."
        )
    if not traced(planes, weight) and _largest(planes) * _largest(weight) * taps <= _EXACT:
        return convolve(planes.double(), weight.double()).long().to(torch.int32)
    # x w = (x_low + 2**16 x_high) (w_low + 2**16 w_high). The term with 2**32 does not reach the last 32 bits, so three
    # convolutions are enough. A product of halves is 2**30 at most, so a sum of 2**22 of them is still exact.
    (x_low, x_high), (w_low, w_high) = _halves(planes), _halves(weight)
    upper = convolve(x_high, w_low).long() + convolve(x_low, w_high).long()
    return (convolve(x_low, w_low).long() + (upper << 16)).to(torch.int32)


def _largest(tensor: Tensor) -> int:
    if not tensor.numel():
        return 0
    low, high = tensor.aminmax()
    return max(-int(low), int(high))


def _halves(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Return int32 as (low, high) with low + 2**16 high, both from -2**15 to 2**15."""
    high = (tensor.long() + 2**15) >> 16
    return (tensor.long() - (high << 16)).double(), high.double()


def signed(tensor: Tensor) -> Tensor:
    """Return an unsigned tensor viewed as the signed type of the same size, since most of torch's operations need one."""
    return tensor.view(_SIGNED[tensor.dtype]) if tensor.dtype in _SIGNED else tensor


def in_order(tensor: Tensor) -> Tensor:
    """Return float64 numbers in the same order as these integers: the integers themselves, or their ranks.

    Equal integers stay equal. Ranks are needed where an integer is too large for float64.
    """
    if tensor.dtype not in (torch.int64, torch.uint64):
        return tensor.double()
    numbers = signed(tensor)
    if not traced(tensor) and tensor.numel():
        low, high = numbers.aminmax()
        if high <= _EXACT and low >= (0 if tensor.dtype == torch.uint64 else -_EXACT):
            return numbers.double()
    if tensor.dtype == torch.uint64:
        numbers = numbers ^ torch.iinfo(torch.int64).min  # the smallest is now the most negative
    ascending, order = numbers.flatten().sort()
    ranks = torch.cat([torch.zeros_like(order[:1]), (ascending[1:] != ascending[:-1]).cumsum(0)])
    return torch.zeros_like(ranks).scatter(0, order, ranks).view(numbers.shape).double()
