"""A check for signals whose power double precision can hold: neither silent, nor far too small or large."""

from __future__ import annotations

import torch
from torch import Tensor

from unconv.errors import ShapeError

_SMALLEST, _LARGEST = 1e-120, 1e120  # magnitudes whose squares, and products of these, stay within double precision


def refuse_silence(where: str, name: str, samples: Tensor) -> None:
    """Refuse signals (..., n) that are all zeros, or whose power double precision cannot hold.

    Raises:
        ShapeError: names the first such signal by its number.
    """
    peaks = samples.abs().amax(-1).reshape(-1).double()
    wrong = ~((peaks >= _SMALLEST) & (peaks <= _LARGEST))
    if not bool(wrong.any()):
        return
    number = int(torch.nonzero(wrong)[0])
    which = f"{name} {number}" if len(peaks) > 1 else name
    if not float(peaks[number]):
        raise ShapeError(f"{where}: {which} is silent: all zeros, but other samples were needed. Leave it out.")
    raise ShapeError(
        f"{where}: {which} reaches {float(peaks[number]):.3g}, but samples whose powers double precision holds were "
        "needed. Scale the signal."
    )
