"""A blind beamformer: the loudest source as each channel hears it, with the least noise that leaves it as it is."""

from __future__ import annotations

import torch
from torch import Tensor


def mvdr(spectra: Tensor, noise: Tensor, loading: float) -> Tensor:
    """Keep the loudest source of spectra (F, D, T) as each channel hears it, and as little noise as can be: (F, D, T).

    In each frequency the source's steering vector h is the principal eigenvector of the spectra's covariance against that of
    the noise R, and the beamformer w = R^-1 h / (h^H R^-1 h) has the least noise of those that leave the source as it is
    (minimum variance, distortionless response). Channel d gets h[d] w^H x: levels and phases between channels are kept.

    Args:
        spectra, noise: (F, D, T), complex, of the same moments.
        loading: noise that each microphone hears for itself, as a share of the mean power of `noise`; above zero.

    Source:
        Warsitz & Haeb-Umbach, "Blind acoustic beamforming based on generalized eigenvalue decomposition" (2007); Souden,
        Benesty & Affes, "On optimal frequency-domain multichannel linear filtering for noise reduction" (2010).
    """
    size = spectra.abs().amax((1, 2), keepdim=True).double()
    size = torch.where(size > 0, size, 1)
    x, other = spectra.to(torch.complex128) / size, noise.to(torch.complex128) / size
    covariance = other @ other.mH
    level = covariance.diagonal(dim1=-2, dim2=-1).real.mean(-1)[:, None, None]
    identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    factor = torch.linalg.cholesky(covariance / torch.where(level > 0, level, 1) + loading * identity)
    # In coordinates in which the noise is white, the generalised problem is an ordinary one, and w lies along h.
    white = torch.linalg.solve_triangular(factor, x, upper=False)
    axis = torch.linalg.eigh(white @ white.mH).eigenvectors[..., -1:]
    kept: Tensor = (factor @ axis) @ (axis.mH @ white) * size
    return kept.to(spectra.dtype)
