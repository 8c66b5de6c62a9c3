"""A known wavelet or pulse as an operator on traces, and blocks of traces that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unconv.errors import DtypeError, NonFinite, ShapeError
from unconv.inverse.operators.convolution import Convolution

_TAIL = 1e-4  # of the largest sample: a wavelet's ends below it are cut off, since the price grows with their square
_ROOM = 2**20  # samples of the matrices' bands that are worked on at a time


def pulse(where: str, given: Any, centre: int | None = None) -> tuple[Tensor, int]:
    """Take a wavelet (k,), and the sample of it that stands at a spike's time; by default the middle, k // 2.

    Returns:
        It in float64, without ends that are next to nothing, and the centre in what is left.

    Raises:
        ShapeError: not one axis, empty, zero everywhere, or a centre outside. DtypeError, NonFinite: no real numbers.
    """
    samples = given.detach().cpu() if isinstance(given, Tensor) else torch.from_numpy(np.array(_numeric(where, given)))
    if samples.is_complex() or samples.dtype == torch.bool:
        raise DtypeError(f"{where}: the wavelet is {samples.dtype}, but real numbers were needed. Pass a numeric array.")
    samples = samples.double()
    if samples.ndim != 1 or samples.numel() == 0 or not bool((samples != 0).any()):
        raise ShapeError(f"{where}: the wavelet is {tuple(samples.shape)}, but (k,) that is not zero everywhere was needed.")
    if not bool(torch.isfinite(samples).all()):
        raise NonFinite(f"{where}: the wavelet has NaN or infinite samples, but numbers were needed. Replace them.")
    at = len(samples) // 2 if centre is None else centre
    if not 0 <= at < len(samples):
        raise ShapeError(f"{where}: centre is {centre}, but 0 to {len(samples) - 1} was needed: the sample at a spike's time.")
    loud = torch.nonzero(samples.abs() > _TAIL * samples.abs().max()).flatten()
    first, last = min(int(loud[0]), at), max(int(loud[-1]), at)
    return samples[first : last + 1].clone(), at - first


def _numeric(where: str, given: Any) -> np.ndarray[Any, Any]:
    array = np.asarray(given)
    if array.dtype.kind not in "fiu":
        raise DtypeError(f"{where}: the wavelet is {array.dtype}, but real numbers were needed. Pass a numeric array.")
    return array.astype(np.float64)


def on_traces(where: str, samples: Tensor, centre: int, n: int) -> Convolution:
    """Return the convolution of spikes with a pulse, of traces of n samples that are zero before and after.

    Raises:
        ShapeError: the pulse is longer than the traces.
    """
    if len(samples) > n:
        raise ShapeError(
            f"{where}: the wavelet has {len(samples)} samples, but the traces only {n}. Cut the wavelet to where it is not "
            "zero, or pass longer traces."
        )
    return Convolution(samples, (n,), "zero", centre=(centre,))


def blocks(count: int, n: int, k: int) -> Iterator[slice]:
    """Return slices of as many traces of n samples as are worked on at a time, for a pulse of k."""
    many = max(1, min(256, _ROOM // max(1, n * k)))
    return (slice(first, first + many) for first in range(0, count, many))
