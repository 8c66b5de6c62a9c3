"""Recordings as arrays, lists or tensors, converted to floats; results go back in the type of the input."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unconv.errors import DtypeError, NonFinite, ShapeError
from unconv.inverse.solvers.problems import is_finite


@dataclass(frozen=True)
class Signal:
    """A recording: the input itself, and its samples (..., n) as float32 or float64."""

    original: Any
    samples: Tensor

    def like(self, values: Tensor) -> Any:
        """Return a result as a tensor if the recording came as one, else as an array."""
        return values if isinstance(self.original, Tensor) else values.detach().cpu().numpy()

    def double(self) -> Tensor:
        """Return the samples in float64."""
        return self.samples.detach().double()


def as_signal(where: str, signal: Any, name: str = "signal", least: int = 2) -> Signal:
    """Return real numbers (..., n) as a `Signal`; integers become floats.

    Args:
        where, name: the function and its argument that errors are about.
        least: number of samples that are needed.

    Raises:
        DtypeError: no real numbers. ShapeError: fewer than `least` samples. NonFinite: NaN or infinite samples.
    """
    array = real_tensor(where, signal, name)
    if array.ndim < 1 or array.numel() == 0 or array.shape[-1] < least:
        raise ShapeError(
            f"{where}: {name} is {tuple(array.shape)}, but (..., n) with n of {least} or more was needed. "
            "The last axis is time."
        )
    samples = floats(array)
    if not is_finite(samples):
        channel, sample = np.argwhere(~np.isfinite(samples.cpu().reshape(-1, samples.shape[-1]).numpy()))[0]
        raise NonFinite(
            f"{where}: {name} is NaN or infinite, first at sample {sample} of channel {channel}, but finite numbers were "
            "needed. Cut that stretch out."
        )
    return Signal(signal, samples)


def real_tensor(where: str, signal: Any, name: str = "signal") -> Tensor:
    """Return real numbers as a tensor of their own number type; float128 becomes float64.

    Raises:
        DtypeError: no real numbers. ShapeError: a list whose rows differ in length.
    """
    if isinstance(signal, Tensor):
        if signal.is_complex() or signal.dtype == torch.bool:
            raise DtypeError(f"{where}: {name} is {signal.dtype}, but real numbers were needed. Pass x.real or x.float().")
        return signal.detach()
    try:
        array = np.asarray(signal)
    except ValueError as error:
        raise ShapeError(f"{where}: {name} is not an array: {str(error).rstrip('.')}. Pass rows of one length.") from error
    if array.dtype.kind not in "fiu":
        raise DtypeError(f"{where}: {name} is {array.dtype}, but real numbers were needed. Pass x.real, or a numeric array.")
    # A copy, in the machine's byte order, which torch needs and may keep.
    native = array.dtype.newbyteorder("=")
    return torch.from_numpy(np.array(array, np.float64 if native.itemsize > 8 else native))


def floats(array: Tensor) -> Tensor:
    """Return numbers as float32 if it holds their type exactly, else as float64."""
    wide = array.dtype in (torch.float64, torch.int32, torch.int64, torch.uint32, torch.uint64)
    return array.to(torch.float64 if wide else torch.float32)


def check_rate(where: str, rate: float) -> None:
    """Refuse a sampling rate that is not a finite number above zero."""
    if not (isfinite(rate) and rate > 0):
        raise ShapeError(f"{where}: rate is {rate}, but a number of samples a second above zero was needed.")


def refuse_silence(where: str, samples: Tensor, name: str = "signal") -> None:
    """Refuse channels (..., n) that are zero throughout."""
    silent = ~(samples != 0).any(-1)
    if bool(silent.any()):
        channel = int(torch.nonzero(silent.reshape(-1))[0])
        raise ShapeError(f"{where}: channel {channel} of the {name} is silent, but sound was needed. Leave it out.")
