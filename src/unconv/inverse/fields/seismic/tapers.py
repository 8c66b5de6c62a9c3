"""Tapers for multitaper spectra: discrete prolate spheroidal (Slepian) sequences."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

_EXTRA_DEGREES = 48  # polynomials beyond those that the bandwidth needs: the remainder is below rounding


@lru_cache(maxsize=16)
def slepian(n: int, bandwidth: float, count: int) -> Tensor:
    """Return the first `count` discrete prolate spheroidal sequences of `n` samples: (count, n), float64, of energy 1.

    They equal those of `scipy.signal.windows.dpss(n, bandwidth, count)`, including the signs. The result is cached: do not
    write into it.

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
    off_diagonal = i[1:] * (n - i[1:]) / 2
    # The first sequences are smooth, so polynomials of low degree represent them to rounding. The eigenvectors of the n x n
    # matrix itself would take O(n^3).
    degree = min(n, _EXTRA_DEGREES + 4 * int(bandwidth + 1) + 2 * count)
    t = centred / max((n - 1) / 2, 1)
    chebyshev = [torch.ones_like(t), t]
    while len(chebyshev) < degree:
        chebyshev.append(2 * t * chebyshev[-1] - chebyshev[-2])
    basis, _ = torch.linalg.qr(torch.stack(chebyshev[:degree], 1))
    product = diagonal[:, None] * basis + F.pad(off_diagonal[:, None] * basis[1:], (0, 0, 0, 1))
    product = product + F.pad(off_diagonal[:, None] * basis[:-1], (0, 0, 1, 0))
    tapers: Tensor = (basis @ torch.linalg.eigh(basis.T @ product).eigenvectors.flip(1)[:, :count]).T
    return tapers * _signs(tapers)[:, None]


def _signs(tapers: Tensor) -> Tensor:
    """Return the signs that make the mean of even tapers and the first lobe of odd tapers positive: (count,)."""
    signs = tapers.sum(1).sign()
    for k in range(1, len(tapers), 2):
        # The threshold keeps rounding errors at the start from counting as a lobe.
        lobe = tapers[k][tapers[k].square() > 1e-7 * tapers[k].square().amax()][:1]
        signs[k] = lobe.sign()[0]
    return signs
