"""Symmetric positive definite block-tridiagonal matrices: solve, and compute the inverse's diagonal."""

from __future__ import annotations

import torch
from torch import Tensor


class BlockTridiagonal:
    """The block factors of a batch of matrices A = L D L*, where L has ones on its diagonal.

    The price is that of m matrices of size b, not of one of size m * b: for a band it grows with the length, not with its
    third power.

    Args:
        diagonal: (B, m, b, b), symmetric.
        below: (B, m - 1, b, b): rows of block i + 1, columns of block i.

    Attributes:
        sound: (B,), whether each matrix is positive definite in this precision. Results for others are meaningless.

    Source:
        Golub & Van Loan, "Matrix Computations" (2013), sec. 4.5.1; for the inverse's blocks, Takahashi, Fagan & Chin,
        "Formation of a sparse bus impedance matrix" (1973).
    """

    def __init__(self, diagonal: Tensor, below: Tensor) -> None:
        count, width = diagonal.shape[1:3]
        eye = torch.eye(width, dtype=diagonal.dtype, device=diagonal.device).expand(len(diagonal), width, width)
        self.sound = torch.ones(len(diagonal), dtype=torch.bool, device=diagonal.device)
        self._roots, self._lower = list[Tensor](), list[Tensor]()
        schur = diagonal[:, 0]
        for i in range(count):
            factor, info = torch.linalg.cholesky_ex(schur)
            self.sound &= info == 0
            # Triangular solves take far longer than products, so each factor is inverted once.
            root = torch.linalg.solve_triangular(factor, eye, upper=False)  # D's inverse is root* root
            self._roots.append(root)
            if i + 1 < count:
                half = below[:, i] @ root.mT
                schur = torch.baddbmm(diagonal[:, i + 1], half, half.mT, alpha=-1)
                self._lower.append(half @ root)

    def solve(self, right: Tensor) -> Tensor:
        """Return x of A x = right: (B, m, b)."""
        # Block forward and back substitution (Golub & Van Loan, sec. 4.5.1).
        down = [right[:, 0, :, None]]
        for i, below in enumerate(self._lower):
            down.append(torch.baddbmm(right[:, i + 1, :, None], below, down[-1], alpha=-1))
        up = [self._roots[-1].mT @ (self._roots[-1] @ down[-1])]
        for root, below, y in zip(self._roots[-2::-1], self._lower[::-1], down[-2::-1], strict=True):
            up.append(torch.baddbmm(root.mT @ (root @ y), below.mT, up[-1], alpha=-1))
        return torch.stack(up[::-1], 1)[..., 0]

    def inverse_diagonal(self) -> Tensor:
        """Return the diagonal of A's inverse: (B, m, b)."""
        inverse = self._roots[-1].mT @ self._roots[-1]
        diagonals = [inverse.diagonal(dim1=-2, dim2=-1)]
        for root, below in zip(self._roots[-2::-1], self._lower[::-1], strict=True):
            # Takahashi et al. (1973): a block of the inverse needs only the block below it, so no other one is computed.
            inverse = torch.baddbmm(root.mT @ root, below.mT, inverse @ below)
            diagonals.append(inverse.diagonal(dim1=-2, dim2=-1))
        return torch.stack(diagonals[::-1], 1)

    def logarithm(self) -> Tensor:
        """Return the logarithm of each matrix's determinant: (B,)."""
        diagonals = torch.stack([root.diagonal(dim1=-2, dim2=-1) for root in self._roots], 1)
        return -2 * diagonals.log().sum((1, 2))
