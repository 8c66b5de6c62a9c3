"""The multichannel Wiener filter: what of each channel the covariances of sound and noise tell from the noise."""

from __future__ import annotations

import torch
from torch import Tensor

from unconv.inverse.solvers.weighted_prediction import solved

_RIDGE = 1e-12  # of the mean power: keeps channels that are alike from dividing by zero


def multichannel_wiener(spectra: Tensor, noise: Tensor, strength: float, loading: float) -> Tensor:
    """Return S (S + strength R)^-1 x of spectra x, (F, D, T), each channel's own sound with less of the noise.

    S is the covariance of `spectra` over all frames, R that of `noise`: one filter for each frequency, which turns to where
    noise is and sound is not. All channels come out, and no source is taken for the only one.

    Args:
        spectra, noise: (F, D, T), complex, of the same moments; what of the noise is in `spectra` is alike in its covariance.
        strength: the noise in `spectra`, as a share of the power of `noise`; more takes away more, and distorts more.
        loading: noise that each microphone hears for itself, as a share of the mean power of `noise`.

    Source:
        Doclo & Moonen, "GSVD-based optimal filtering for single and multimicrophone speech enhancement" (2002); Spriet, Moonen
        & Wouters (2004), for the strength.
    """
    size = torch.maximum(spectra.abs().amax((1, 2), keepdim=True), noise.abs().amax((1, 2), keepdim=True)).double()
    size = torch.where(size > 0, size, 1)
    x, other = spectra.to(torch.complex128) / size, noise.to(torch.complex128) / size
    sound, heard = x @ x.mH, other @ other.mH
    level = heard.diagonal(dim1=-2, dim2=-1).real.mean(-1)[:, None, None]
    identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    total = sound + strength * (heard + loading * level * identity) / (1 + loading)
    filters = solved(total, sound, _RIDGE).mH
    return (filters @ x * size).to(spectra.dtype)
