"""The Gram matrix A*A of a convolution along one axis: a band as wide as the kernel is long, for any subset of samples."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import ShapeError
from unconv.inverse.operators.convolution import Convolution
from unconv.inverse.operators.operator import Operator

_SEEN = 0.01  # of the kernel's energy: with less of it observed, noise alone determines the spike's size
_LEAST = 8  # samples in a block; smaller blocks take as long


class Gram:
    """The inner products of a kernel's shifted copies, each cut off where the observation ends.

    Args:
        operator: a real convolution along one axis, stride 1, boundary "zero" or "unknown".
        like: a tensor with the precision and device to use.
        weights: (B, m), of the observed samples: 0 for a missing one; None: all are 1.

    Attributes:
        band: (1 or B, k + 1, n + 1); band[:, d, a] is the product of the copies at samples a and a + d. The last row and
            the last column are zero, for pairs that do not overlap and for padding.
        seen: (1 or B, n), whether a spike at that sample would be observed, with at least a hundredth of the kernel's energy.

    Raises:
        ShapeError: the operator is another one.
    """

    def __init__(self, operator: Operator, like: Tensor, weights: Tensor | None = None) -> None:
        convolution = _line(operator)
        taps = convolution.kernel.to(like)
        self.n, self.k = convolution.shape_in[0], len(taps)
        observed = convolution.shape_out[0]
        # Sample a has tap j = i + shift - a in output i. So band[d, a] = sum over j of k[j] k[j - d] weights[a + j - shift]:
        # one convolution of the weights with the kernel's products, instead of n columns of A.
        shift = convolution.centre[0] if convolution.boundary == "zero" else self.k - 1
        tap_products = torch.stack([F.pad(taps[d:] * taps[: self.k - d], (d, 0)) for d in range(self.k)])
        w = like.new_ones((1, observed)) if weights is None else weights.to(like)
        padded = F.pad(w, (shift, self.n + self.k - 1 - shift - observed))
        self.band = F.pad(F.conv1d(padded[:, None], tap_products[:, None]), (0, 1, 0, 1))
        self.seen = self.band[:, 0, : self.n] > _SEEN * taps.square().sum()

    def width(self, active: Tensor) -> int:
        """Return the most active samples that overlap one another: in blocks of that many, only neighbouring blocks overlap."""
        end = torch.searchsorted(active.contiguous(), (active + self.k).contiguous())
        # Padding is at sample n, and overlaps with nothing.
        is_sample = active < self.n
        count = torch.where(
            is_sample, end.clamp(max=is_sample.sum(-1, keepdim=True)) - torch.arange(active.shape[-1]).to(end), 0
        )
        return max(_LEAST, int(count.max())) if count.numel() else _LEAST

    def blocks(self, active: Tensor, width: int, problems: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the matrix between active samples, as blocks.

        Args:
            active: (B, m * width), ascending, padded with n at the end.
            problems: (B,), the problems whose weights to use; None: one band serves all.

        Returns:
            The blocks on the diagonal (B, m, width, width), and those below it (B, m - 1, width, width): rows of block i + 1,
            columns of block i.
        """
        samples, band = active.unflatten(-1, (-1, width)), self._flat_bands(problems)
        return self._products(samples, samples, band), self._products(samples[:, 1:], samples[:, :-1], band)

    def between(self, active: Tensor, problems: Tensor | None = None) -> Tensor:
        """Return the full matrix between active samples: (B, s, s)."""
        return self._products(active, active, self._flat_bands(problems))

    def _flat_bands(self, problems: Tensor | None) -> Tensor:
        band = self.band.flatten(1)
        return band if problems is None or len(band) == 1 else band[problems]

    def _products(self, rows: Tensor, columns: Tensor, band: Tensor) -> Tensor:
        a, b = rows[..., :, None], columns[..., None, :]
        position = (a - b).abs().clamp_(max=self.k).mul_(self.n + 1).add_(torch.minimum(a, b))
        # The product of a sample with padding is zero.
        position = torch.where((a < self.n) & (b < self.n), position, self.k * (self.n + 1))
        return band.expand(len(rows), -1).gather(1, position.flatten(1)).view(position.shape)


def _line(operator: Operator) -> Convolution:
    """Return the operator as a real convolution along one axis that is not circular.

    Raises:
        ShapeError: the operator is another one.
    """
    if (
        not isinstance(operator, Convolution)
        or len(operator.shape_in) != 1
        or operator.kernel.ndim != 1
        or operator.kernel.is_complex()
        or operator.boundary not in ("zero", "unknown")
        or operator.stride != (1,)
    ):
        raise ShapeError(
            f"spikes: the operator is {operator!r}, but a Convolution with a real kernel along one axis, boundary 'zero' or "
            "'unknown' and stride 1 was needed. Use fista with L1 for others."
        )
    return operator
