"""Whole numbers: convolutions of int32, exact to the last 32 bits, as TensorFlow has them, and maxima of all types."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from unconv.errors import ShapeError
from unconv.ops.spatial import traced

_SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}
_EXACT = 2**53  # float64 has every whole number up to it


def by_parts(where: str, convolve: Callable[[Tensor, Tensor], Tensor], planes: Tensor, weight: Tensor, taps: int) -> Tensor:
    """Apply a function that is linear in both, and adds up `taps` products at most for a sample; of int32, by float64."""
    if planes.dtype != torch.int32:
        return convolve(planes, weight)
    if taps > 2**22:
        raise ShapeError(
            f"{where}: {taps} products are added up for a sample, but int32 is exact for {2**22} at most. Pass float64, or "
            "smaller filters."
        )
    if not traced(planes, weight) and _largest(planes) * _largest(weight) * taps <= _EXACT:
        return convolve(planes.double(), weight.double()).long().to(torch.int32)
    # x w = (x_low + 2**16 x_high) (w_low + 2**16 w_high); what 2**32 multiplies is not among the last 32 bits. A product
    # of halves is 2**30 at most, so that a sum of 2**22 is still exact.
    (x_low, x_high), (w_low, w_high) = _halves(planes), _halves(weight)
    upper = convolve(x_high, w_low).long() + convolve(x_low, w_high).long()
    return (convolve(x_low, w_low).long() + (upper << 16)).to(torch.int32)


def _largest(tensor: Tensor) -> int:
    if not tensor.numel():
        return 0
    low, high = tensor.aminmax()
    return max(-int(low), int(high))


def _halves(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Split int32 into (low, high), low + 2**16 high, both from -2**15 to 2**15."""
    high = (tensor.long() + 2**15) >> 16
    return (tensor.long() - (high << 16)).double(), high.double()


def signed(tensor: Tensor) -> Tensor:
    """View what has no sign as the type that has one, which is all that most of torch's operations take."""
    return tensor.view(_SIGNED[tensor.dtype]) if tensor.dtype in _SIGNED else tensor


def in_order(tensor: Tensor) -> Tensor:
    """Return float64 in the same order as these whole numbers, equal where they are: themselves, or where they rank."""
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
