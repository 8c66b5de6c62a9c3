"""A blind MVDR beamformer: the loudest source in each channel, undistorted, with the least noise."""

from __future__ import annotations

import torch
from torch import Tensor


def mvdr(spectra: Tensor, noise: Tensor, loading: float) -> Tensor:
    """Return the loudest source of spectra (F, D, T) in each channel, by a blind MVDR beamformer: (F, D, T).

    In each frequency, the source's steering vector h comes from the principal generalised eigenvector of the covariances of
    spectra and noise, R. The beamformer w = R^-1 h / (h^H R^-1 h) has the least noise of all that leave the source unchanged
    (minimum variance, distortionless response). Channel d becomes h[d] w^H x, so levels and phases between channels stay.

    Args:
        spectra, noise: (F, D, T), complex, of the same frames.
        loading: independent noise of each microphone, as a share of the mean power of `noise`; above zero.

    Source:
        Warsitz & Haeb-Umbach, "Blind acoustic beamforming based on generalized eigenvalue decomposition" (2007); Souden,
        Benesty & Affes, "On optimal frequency-domain multichannel linear filtering for noise reduction" (2010).
    """
    size = spectra.abs().amax((1, 2), keepdim=True).double()
    size = torch.where(size > 0, size, 1)
    x, noise_scaled = spectra.to(torch.complex128) / size, noise.to(torch.complex128) / size
    covariance = noise_scaled @ noise_scaled.mH
    mean_power = covariance.diagonal(dim1=-2, dim2=-1).real.mean(-1)[:, None, None]
    identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    factor = torch.linalg.cholesky(covariance / torch.where(mean_power > 0, mean_power, 1) + loading * identity)
    # Whitened by the noise's Cholesky factor, the generalised eigenproblem is an ordinary one, and w is parallel to h.
    white = torch.linalg.solve_triangular(factor, x, upper=False)
    axis = torch.linalg.eigh(white @ white.mH).eigenvectors[..., -1:]
    source: Tensor = (factor @ axis) @ (axis.mH @ white) * size
    return source.to(spectra.dtype)
