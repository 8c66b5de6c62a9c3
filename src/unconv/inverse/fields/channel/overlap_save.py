"""Filter long signals with an equaliser's taps by overlap-save: blocks of one FFT size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import ShapeError
from unconv.inverse.operators.fourier import fast_length
from unconv.inverse.solvers.arrays import as_samples

_GRID = 1024  # smallest FFT size
_ROOM = 2**20  # samples that are transformed at a time


def sub_channels_of(where: str, observed: Any, parts: int, count: int) -> Tensor:
    """Return observations (..., P, N) as a tensor, after checking that they fit an equaliser and a count of symbols.

    Raises:
        ShapeError: another number of sub-channels; a count outside 1 to N. DtypeError, NonFinite: not finite numbers.
    """
    y = as_samples(where, "observed", observed, "(..., P, N)", 2)
    if y.shape[-2] != parts or not 1 <= count <= y.shape[-1]:
        raise ShapeError(
            f"{where}: observed is {tuple(y.shape)} and count is {count}, but (..., {parts}, N), as the equaliser was designed "
            "for, and a count from 1 to N were needed."
        )
    return y


def filtered(y: Tensor, taps: Tensor, first: int, count: int) -> Tensor:
    """Return z[i] = sum_p sum_f taps[p, f] y[p, first + i - f] for i = 0 ... count - 1: (..., count) from (..., P, N).

    Samples outside y are zero.
    """
    length = taps.shape[-1]
    grid = fast_length(max(_GRID, 8 * length))
    step = grid - length + 1
    rows = y.reshape(-1, *y.shape[-2:])
    is_complex = rows.is_complex() or taps.is_complex()
    kind = torch.promote_types(rows.dtype, torch.complex64) if is_complex else rows.dtype
    weights = torch.fft.fft(taps.to(kind), grid) if is_complex else torch.fft.rfft(taps.to(kind), grid)
    result = rows.new_empty(len(rows), count, dtype=kind)
    # Many blocks at a time, but not all of a long signal: their overlapping copies would take several times its memory.
    together = max(1, _ROOM // max(1, rows.shape[0] * rows.shape[1] * step)) * step
    for begin in range(0, count, together):
        wanted = min(together, count - begin)
        blocks = -(-wanted // step)
        piece = _piece(rows, first + begin - length + 1, blocks * step + length - 1).to(kind).unfold(-1, grid, step)
        if is_complex:
            product = torch.fft.ifft((torch.fft.fft(piece) * weights[:, None]).sum(1))
        else:
            product = torch.fft.irfft((torch.fft.rfft(piece) * weights[:, None]).sum(1), grid)
        # The circular convolution corrupts the first length - 1 samples of each block.
        result[:, begin : begin + wanted] = product[..., length - 1 :].flatten(1)[:, :wanted]
    return result.reshape(*y.shape[:-2], count)


def _piece(rows: Tensor, begin: int, length: int) -> Tensor:
    """Return samples begin ... begin + length - 1 of the last axis, zero outside."""
    inside = rows[..., min(max(begin, 0), rows.shape[-1]) : max(begin + length, 0)]
    before = min(max(-begin, 0), length)
    return F.pad(inside, (before, length - before - inside.shape[-1]))
