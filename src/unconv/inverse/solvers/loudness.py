"""Signals that can be squared: neither silent, nor so small or large that their power leaves double precision."""

from __future__ import annotations

import torch
from torch import Tensor

from unconv.errors import ShapeError

_SMALLEST, _LARGEST = 1e-120, 1e120  # magnitudes whose fourth powers are still of the same kind


def refuse_silence(where: str, name: str, samples: Tensor) -> None:
    """Refuse signals (..., n) that are all zeros, or whose power double precision does not hold; say which.

    Raises:
        ShapeError: with the number of the first such signal.
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
        "needed. Scale it."
    )
