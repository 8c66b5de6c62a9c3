"""Split oversampled or complex signals into sub-channels of one sample per symbol (polyphase components)."""

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
    """Split oversampled signals (..., n) into polyphase sub-channels (..., P, ceil(n / P)), P being samples_per_symbol.

    Sub-channel p holds samples p, p + samples_per_symbol, ...; the last symbol is padded with zeros. For several antennas,
    (..., A, P, n), merge the two axes of sub-channels with `.flatten(-3, -2)` or `.reshape`.

    Raises:
        ShapeError: less than one sample per symbol. DtypeError, NonFinite: not finite numbers.

    Example:
        >>> subchannels([0.0, 1.0, 2.0, 3.0, 4.0], 2)
        array([[0., 2., 4.],
               [1., 3., 0.]])
    """
    return like(received, _split("subchannels", "received", received, samples_per_symbol))


@checks_kinds_but("taps")
def split_taps(taps: Any, samples_per_symbol: int) -> Any:
    """Split an oversampled channel (..., L), pulse shaping included, into its polyphase sub-channels (..., P, ceil(L / P)).

    Raises:
        ShapeError, DtypeError, NonFinite: as `subchannels`.

    Example:
        >>> split_taps([1.0, 0.5, 0.25], 2)
        array([[1.  , 0.25],
               [0.5 , 0.  ]])
    """
    return like(taps, _split("split_taps", "taps", taps, samples_per_symbol))


def _split(where: str, name: str, values: Any, parts: int) -> Tensor:
    if parts < 1:
        raise ShapeError(f"{where}: samples_per_symbol is {parts}, but 1 or more was needed.")
    samples = as_samples(where, name, values, "(..., n)")
    padded = F.pad(samples, (0, -samples.shape[-1] % parts))
    split: Tensor = padded.unflatten(-1, (-1, parts)).movedim(-1, -2).contiguous()
    return split


@checks_kinds_but("observed", "taps")
def as_real(observed: Any, taps: Any) -> tuple[Any, Any]:
    """Split complex observations (..., P, N) and taps (..., P, L) into 2 P real sub-channels, real parts first.

    For real symbols, BPSK and PAM: an equaliser for these sub-channels is widely linear, with less error than one for complex
    signals, which also fits the imaginary part that the symbols lack. Noise of standard deviation sigma becomes sigma / sqrt(2)
    in each part.

    Raises:
        ShapeError: fewer than two axes. DtypeError, NonFinite: not finite numbers.

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
