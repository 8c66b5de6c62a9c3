"""Short overlapping frames of a recording, in which a voice hardly changes."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from unconv.errors import ShapeError

Times = np.ndarray[Any, np.dtype[np.float64]]


def framed(where: str, samples: Tensor, rate: float, length: float, hop: float) -> tuple[Tensor, Times]:
    """Split samples (..., n) into complete frames (..., T, k), and return their middles in seconds (T,) as well.

    Args:
        length, hop: seconds.

    Raises:
        ShapeError: frames of fewer than two samples, or no step between them; a recording shorter than one frame.
    """
    size, step = round(length * rate), round(hop * rate)
    n = samples.shape[-1]
    if size < 2 or step < 1:
        raise ShapeError(
            f"{where}: frames are {length:g} s long and {hop:g} s apart, but at a rate of {rate:g} two samples and a step of "
            "one or more were needed. Pass the recording's own rate in Hz."
        )
    if n < size:
        raise ShapeError(
            f"{where}: the signal lasts {n / rate:.3g} s, but at least one frame of {length:g} s was needed. Pass a longer "
            "recording."
        )
    frames = samples.unfold(-1, size, step)
    times: Times = (np.arange(frames.shape[-2], dtype=np.float64) * step + size / 2) / rate
    return frames, times
