"""A known wavelet or pulse as a convolution of traces, and blocks of traces that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unconv.errors import DtypeError, NonFinite, ShapeError
from unconv.inverse.operators.convolution import Convolution

_TAIL = (
    1e-4  # of the largest sample: smaller samples at a wavelet's ends are cut off, as the cost grows with its length squared
)
_ROOM = 2**20  # numbers in the bands of the matrices at a time


def pulse(where: str, wavelet: Any, centre: int | None = None) -> tuple[Tensor, int]:
    """Return a wavelet (k,), and its sample at a spike's time, by default the middle one, k // 2.

    Returns:
        The wavelet in float64, without negligible samples at its ends, and the centre's index in it.

    Raises:
        ShapeError: the wavelet does not have one axis, is empty, or is zero everywhere; the centre is outside. DtypeError,
            NonFinite: the samples are not real, finite numbers.
    """
    samples = wavelet.detach().cpu() if isinstance(wavelet, Tensor) else torch.from_numpy(np.array(_numeric(where, wavelet)))
    if samples.is_complex() or samples.dtype == torch.bool:
        raise DtypeError(f"{where}: the wavelet is {samples.dtype}, but real numbers were needed. Pass a numeric array.")
    samples = samples.double()
    if samples.ndim != 1 or samples.numel() == 0 or not bool((samples != 0).any()):
        raise ShapeError(f"{where}: the wavelet is {tuple(samples.shape)}, but (k,) samples, not zero everywhere, were needed.")
    if not bool(torch.isfinite(samples).all()):
        raise NonFinite(f"{where}: the wavelet has NaN or infinite samples, but finite ones were needed. Replace them.")
    position = len(samples) // 2 if centre is None else centre
    if not 0 <= position < len(samples):
        raise ShapeError(f"{where}: centre is {centre}, but 0 to {len(samples) - 1}, the sample at a spike's time, was needed.")
    significant = torch.nonzero(samples.abs() > _TAIL * samples.abs().max()).flatten()
    first, last = min(int(significant[0]), position), max(int(significant[-1]), position)
    return samples[first : last + 1].clone(), position - first


def _numeric(where: str, wavelet: Any) -> np.ndarray[Any, Any]:
    array = np.asarray(wavelet)
    if array.dtype.kind not in "fiu":
        raise DtypeError(f"{where}: the wavelet is {array.dtype}, but real numbers were needed. Pass a numeric array.")
    return array.astype(np.float64)


def on_traces(where: str, samples: Tensor, centre: int, n: int) -> Convolution:
    """Return the convolution of spikes with a pulse, for traces of n samples that are zero before and after.

    Raises:
        ShapeError: the pulse is longer than the traces.
    """
    if len(samples) > n:
        raise ShapeError(
            f"{where}: the wavelet has {len(samples)} samples, but the traces only {n}. Cut off the wavelet's zeros, or pass "
            "longer traces."
        )
    return Convolution(samples, (n,), "zero", centre=(centre,))


def blocks(count: int, n: int, k: int) -> Iterator[slice]:
    """Return slices of the traces, of n samples each, to process at a time, for a pulse of k samples."""
    size = max(1, min(256, _ROOM // max(1, n * k)))
    return (slice(first, first + size) for first in range(0, count, size))
