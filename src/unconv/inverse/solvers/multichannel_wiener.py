"""The multichannel Wiener filter: each channel's sound with less noise, from the covariances of sound and noise."""

from __future__ import annotations

import torch
from torch import Tensor

from unconv.inverse.solvers.weighted_prediction import solve

_RIDGE = 1e-12  # of the mean power: equal channels would make the system singular


def multichannel_wiener(spectra: Tensor, noise: Tensor, strength: float, loading: float) -> Tensor:
    """Return spectra (F, D, T) after the multichannel Wiener filter S (S + strength R)^-1: each channel with less noise.

    S is the covariance of `spectra` over all frames, R that of `noise`. There is one filter for each frequency, which
    suppresses directions with noise and little sound. All channels are returned, and any number of sources may speak.

    Args:
        spectra, noise: (F, D, T), complex, of the same frames; the noise in `spectra` must have the same spatial covariance.
        strength: the noise in `spectra`, as a share of the power of `noise`; more removes more, and distorts more.
        loading: independent noise of each microphone, as a share of the mean power of `noise`.

    Source:
        Doclo & Moonen, "GSVD-based optimal filtering for single and multimicrophone speech enhancement" (2002); Spriet, Moonen
        & Wouters (2004), for the strength.
    """
    size = torch.maximum(spectra.abs().amax((1, 2), keepdim=True), noise.abs().amax((1, 2), keepdim=True)).double()
    size = torch.where(size > 0, size, 1)
    x, noise_scaled = spectra.to(torch.complex128) / size, noise.to(torch.complex128) / size
    sound_covariance, noise_covariance = x @ x.mH, noise_scaled @ noise_scaled.mH
    level = noise_covariance.diagonal(dim1=-2, dim2=-1).real.mean(-1)[:, None, None]
    identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    total = sound_covariance + strength * (noise_covariance + loading * level * identity) / (1 + loading)
    # Spriet, Moonen & Wouters (2004): S (S + strength R)^-1, as the solution of a system instead of by an inverse.
    filters = solve(total, sound_covariance, _RIDGE).mH
    return (filters @ x * size).to(spectra.dtype)
