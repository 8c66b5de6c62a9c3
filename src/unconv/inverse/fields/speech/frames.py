"""Short overlapping frames of a recording, in which a voice hardly changes."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from unconv.errors import ShapeError

Times = np.ndarray[Any, np.dtype[np.float64]]


def framed(where: str, samples: Tensor, rate: float, length: float, hop: float) -> tuple[Tensor, Times]:
    """Return the frames (..., T, k) that lie wholly in samples (..., n), and the seconds (T,) of their middles.

    Args:
        length, hop: seconds.

    Raises:
        ShapeError: frames of less than two samples or with no step between them; a recording that is shorter than one.
    """
    size, step = round(length * rate), round(hop * rate)
    n = samples.shape[-1]
    if size < 2 or step < 1:
        raise ShapeError(
            f"{where}: frames of {length:g} s, {hop:g} s apart, were asked for, but two samples and a step of one or more were "
            f"needed, at {rate:g} a second."
        )
    if n < size:
        raise ShapeError(
            f"{where}: the signal lasts {n / rate:.3g} s, but one frame of {length:g} s or more was needed. Pass a longer one."
        )
    frames = samples.unfold(-1, size, step)
    times: Times = (np.arange(frames.shape[-2], dtype=np.float64) * step + size / 2) / rate
    return frames, times
