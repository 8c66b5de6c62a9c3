"""Arrays as they come: NumPy arrays, lists or tensors in, the same kind out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from unconv.errors import DtypeError, NonFinite, ShapeError
from unconv.inverse.solvers.problems import is_finite
from unconv.kinds import fits_kind, shown


def as_numbers(where: str, name: str, given: Any, axes: str) -> Tensor:
    """Take numbers of any kind and shape as a tensor; those of other widths than torch's become double.

    Raises:
        DtypeError: no numbers. ShapeError: a list of lists of several lengths.
    """
    if isinstance(given, Tensor):
        if not fits_kind(given, Tensor):
            raise DtypeError(f"{where}: {name} is {shown(given)}, but a dense tensor with values was needed. Pass one.")
        return given.detach()
    try:
        array = np.asarray(given)
    except ValueError:
        raise ShapeError(f"{where}: {name} is a ragged list, but {axes} was needed. Pass an array.") from None
    if array.dtype.kind not in "fiuc":
        raise DtypeError(f"{where}: {name} is {shown(given)}, but numbers were needed. Pass a numeric array.")
    same = array.dtype in (np.float32, np.float64, np.complex64, np.complex128)
    wide = {"c": np.complex128, "f": np.float64}.get(array.dtype.kind, np.int64)
    # A copy where torch cannot share memory: read-only, of another byte order, or with negative strides.
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("=") if same else wide))


def as_samples(where: str, name: str, given: Any, axes: str, least: int = 1) -> Tensor:
    """Take finite floating or complex samples with at least `least` axes; integers become float64.

    Args:
        axes: what is needed, in words: "(..., P, n)".

    Raises:
        DtypeError: no numbers, or half precision. ShapeError: too few axes, or no samples. NonFinite: NaN or infinite samples.
    """
    samples = as_numbers(where, name, given, axes)
    if samples.dtype in (torch.float16, torch.bfloat16, torch.bool):
        raise DtypeError(f"{where}: {name} is {samples.dtype}, but single or double precision was needed. Pass x.float().")
    if not (samples.is_floating_point() or samples.is_complex()):
        samples = samples.double()
    if samples.ndim < least or samples.numel() == 0:
        raise ShapeError(f"{where}: {name} is {tuple(samples.shape)}, but {axes} with samples was needed.")
    if not is_finite(samples):
        at = tuple(torch.nonzero(~torch.isfinite(samples))[0].tolist())
        raise NonFinite(
            f"{where}: {name} has NaN or infinite samples, the first at {at[0] if len(at) == 1 else at}, but numbers were "
            "needed. Replace them or leave them out."
        )
    return samples


def like(given: Any, made: Tensor) -> Any:
    """Return a result in the kind that `given` came in: a tensor for a tensor, else a NumPy array."""
    return made if isinstance(given, Tensor) else made.cpu().resolve_conj().numpy()
