"""Tapers for spectra: discrete prolate spheroidal sequences."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

_SMOOTH = 48  # polynomials beyond those that the bandwidth asks for: the rest is below rounding


@lru_cache(maxsize=16)
def slepian(n: int, bandwidth: float, count: int) -> Tensor:
    """Return the first `count` discrete prolate spheroidal sequences of `n` samples: (count, n), float64, of energy 1.

    They are what `scipy.signal.windows.dpss(n, bandwidth, count)` returns, signs included. Do not write into them.

    Args:
        bandwidth: half the time-bandwidth product, n W for a half bandwidth of W cycles a sample.

    Source:
        Slepian, "Prolate spheroidal wave functions V" (1978), for the tridiagonal matrix; Xiao, Rokhlin & Yarvin,
        "Prolate spheroidal wave functions, quadrature and interpolation" (2001), for polynomials as their basis; Percival &
        Walden, "Spectral Analysis for Physical Applications" (1993), ch. 8, for the signs.
    """
    i = torch.arange(n, dtype=torch.double)
    centred = (n - 1) / 2 - i
    diagonal = centred.square() * torch.cos(torch.tensor(2 * torch.pi * bandwidth / n, dtype=torch.double))
    beside = i[1:] * (n - i[1:]) / 2
    # The sequences wanted are smooth: among polynomials of a low degree they are found to rounding, where the matrix of n
    # rows would take O(n^3).
    degree = min(n, _SMOOTH + 4 * int(bandwidth + 1) + 2 * count)
    t = centred / max((n - 1) / 2, 1)
    powers = [torch.ones_like(t), t]
    while len(powers) < degree:
        powers.append(2 * t * powers[-1] - powers[-2])
    basis, _ = torch.linalg.qr(torch.stack(powers[:degree], 1))
    moved = diagonal[:, None] * basis + F.pad(beside[:, None] * basis[1:], (0, 0, 0, 1))
    moved = moved + F.pad(beside[:, None] * basis[:-1], (0, 0, 1, 0))
    tapers: Tensor = (basis @ torch.linalg.eigh(basis.T @ moved).eigenvectors.flip(1)[:, :count]).T
    return tapers * _signs(tapers)[:, None]


def _signs(tapers: Tensor) -> Tensor:
    """Return the signs that give even tapers a mean above zero, and odd ones a first lobe above zero: (count,)."""
    signs = tapers.sum(1).sign()
    for k in range(1, len(tapers), 2):
        # Rounding is not taken for a lobe.
        lobe = tapers[k][tapers[k].square() > 1e-7 * tapers[k].square().amax()][:1]
        signs[k] = lobe.sign()[0]
    return signs
