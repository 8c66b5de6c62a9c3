"""Arrays of any kind: NumPy arrays, lists or tensors in, the same kind out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from unconv.errors import DtypeError, NonFinite, ShapeError
from unconv.inverse.solvers.problems import is_finite
from unconv.kinds import fits_kind, shown


def as_numbers(where: str, name: str, values: Any, axes: str) -> Tensor:
    """Return numbers of any kind and shape as a tensor; floats of a width that torch lacks become double.

    Raises:
        DtypeError: the values are not numbers. ShapeError: a list of lists of different lengths.
    """
    if isinstance(values, Tensor):
        if not fits_kind(values, Tensor):
            raise DtypeError(f"{where}: {name} is {shown(values)}, but a dense tensor with values was needed. Pass one.")
        return values.detach()
    try:
        array = np.asarray(values)
    except ValueError:
        raise ShapeError(f"{where}: {name} is a ragged list, but {axes} was needed. Pass an array.") from None
    if array.dtype.kind not in "fiuc":
        raise DtypeError(f"{where}: {name} is {shown(values)}, but numbers were needed. Pass a numeric array.")
    same = array.dtype in (np.float32, np.float64, np.complex64, np.complex128)
    wide = {"c": np.complex128, "f": np.float64}.get(array.dtype.kind, np.int64)
    # A copy where torch cannot share memory: read-only, of another byte order, or with negative strides.
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("=") if same else wide))


def as_samples(where: str, name: str, values: Any, axes: str, least: int = 1) -> Tensor:
    """Return finite floating or complex samples with at least `least` axes as a tensor; integers become float64.

    Args:
        axes: the shape to name in an error: "(..., P, n)".

    Raises:
        DtypeError: not numbers, or half precision. ShapeError: too few axes, or no samples. NonFinite: NaN or infinite samples.
    """
    samples = as_numbers(where, name, values, axes)
    if samples.dtype in (torch.float16, torch.bfloat16, torch.bool):
        raise DtypeError(f"{where}: {name} is {samples.dtype}, but single or double precision was needed. Pass x.float().")
    if not (samples.is_floating_point() or samples.is_complex()):
        samples = samples.double()
    if samples.ndim < least or samples.numel() == 0:
        raise ShapeError(f"{where}: {name} is {tuple(samples.shape)}, but {axes} with at least one sample was needed.")
    if not is_finite(samples):
        at = tuple(torch.nonzero(~torch.isfinite(samples))[0].tolist())
        raise NonFinite(
            f"{where}: {name} has NaN or infinite samples, the first at {at[0] if len(at) == 1 else at}, but finite ones were "
            "needed. Replace them or leave them out."
        )
    return samples


def like(argument: Any, result: Tensor) -> Any:
    """Return a result in the kind of the argument: a tensor for a tensor, else a NumPy array."""
    return result if isinstance(argument, Tensor) else result.cpu().resolve_conj().numpy()
