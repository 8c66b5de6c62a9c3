"""Sub-channels at one sample a symbol each: of oversampled signals, of antennas, of real and imaginary parts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import ShapeError
from unconv.inverse.solvers.arrays import as_samples, like
from unconv.kinds import checks_kinds_but


@checks_kinds_but("received")
def subchannels(received: Any, samples_per_symbol: int) -> Any:
    """Split oversampled signals (..., n) into sub-channels (..., samples_per_symbol, ceil(n / samples_per_symbol)).

    Sub-channel p holds samples p, p + samples_per_symbol, ...; zeros fill the last symbol up. The sub-channels of several
    antennas, (..., A, P, n), are those of one link after `.flatten(-3, -2)` or `.reshape`.

    Raises:
        ShapeError: less than one sample a symbol. DtypeError, NonFinite: no numbers, or NaN.

    Example:
        >>> subchannels([0.0, 1.0, 2.0, 3.0, 4.0], 2)
        array([[0., 2., 4.],
               [1., 3., 0.]])
    """
    return like(received, _split("subchannels", "received", received, samples_per_symbol))


@checks_kinds_but("taps")
def split_taps(taps: Any, samples_per_symbol: int) -> Any:
    """Split an oversampled channel (..., L), pulse and all, into those of the sub-channels: (..., P, ceil(L / P)).

    Raises:
        ShapeError, DtypeError, NonFinite: as `subchannels`.

    Example:
        >>> split_taps([1.0, 0.5, 0.25], 2)
        array([[1.  , 0.25],
               [0.5 , 0.  ]])
    """
    return like(taps, _split("split_taps", "taps", taps, samples_per_symbol))


def _split(where: str, name: str, given: Any, parts: int) -> Tensor:
    if parts < 1:
        raise ShapeError(f"{where}: samples_per_symbol is {parts}, but 1 or more was needed.")
    samples = as_samples(where, name, given, "(..., n)")
    whole = F.pad(samples, (0, -samples.shape[-1] % parts))
    split: Tensor = whole.unflatten(-1, (-1, parts)).movedim(-1, -2).contiguous()
    return split


@checks_kinds_but("observed", "taps")
def as_real(observed: Any, taps: Any) -> tuple[Any, Any]:
    """Return real symbols' complex observations (..., P, N) and taps (..., P, L) as 2 P real sub-channels, real parts first.

    An equaliser of complex signals also fits the imaginary part of symbols that have none; of BPSK and PAM this one knows
    better. Complex noise of standard deviation noise is one of noise / sqrt(2) in each part.

    Raises:
        ShapeError: less than two axes. DtypeError, NonFinite: no numbers, or NaN.

    Example:
        >>> as_real([[1 + 2j]], [[3 - 1j]])
        (array([[1.],
               [2.]]), array([[ 3.],
               [-1.]]))
    """
    y = as_samples("as_real", "observed", observed, "(..., P, N)", 2)
    h = as_samples("as_real", "taps", taps, "(..., P, L)", 2)
    return like(observed, _parts(y)), like(taps, _parts(h))


def _parts(samples: Tensor) -> Tensor:
    imaginary = samples.imag if samples.is_complex() else torch.zeros_like(samples)
    return torch.cat([samples.real, imaginary], -2)
