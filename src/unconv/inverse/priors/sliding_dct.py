"""Denoise by a sliding DCT frame; its analysis is a convolution, and its synthesis the transposed convolution.

Each 8 × 8 block of the picture, on a lattice of positions, is transformed to its 64 DCT coefficients; the small ones are noise.
Blocks overlap, so that each sample is an average over many estimates.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import inf, pi, prod

import torch
from torch import Tensor

from unconv.errors import DtypeError, ShapeError
from unconv.inverse import headway
from unconv.kinds import checks_kinds

SIDE = 8  # samples of a block along each axis
_BAND = 2**14  # blocks filtered at once, so that they fit into the processor's cache
_GPU = 64  # a GPU takes so many times as many at once; with fewer it waits for the next call

Shrink = Callable[[Tensor, Tensor | None], Tensor]


class Workspace:
    """Memory that is reused. The system clears fresh memory of this size, which took a third of the total time."""

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def take(self, name: str, like: Tensor, *shape: int) -> Tensor:
        """Return memory of (*shape), with the dtype and device of `like`, and old values in it; one buffer for each name."""
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < prod(shape) or (buffer.dtype, buffer.device) != (like.dtype, like.device):
            buffer = self._buffers[name] = like.new_empty(prod(shape))
        return buffer[: prod(shape)].view(shape)


def at_once(on_cpu: int, like: Tensor) -> int:
    """Return how many items to process in one call on the device of `like`."""
    return on_cpu if like.device.type == "cpu" else _GPU * on_cpu


class SlidingDct:
    """Denoise by a sliding DCT: hard thresholding of the blocks' coefficients, then an empirical Wiener filter.

    The lattice of blocks moves from call to call, as in a plug-and-play solver. That makes up for the blocks that a coarser
    lattice leaves out.

    Args:
        step: samples from one block to the next along each axis; 1 is the complete frame.
        threshold: coefficients below this many standard deviations of the noise are treated as noise.

    Source:
        Yaroslavsky, Egiazarian & Astola, "Transform domain image restoration methods" (2001); as the prior of
        half-quadratic splitting: Zoran & Weiss (2011). Weights by sparsity: Guleryuz (2007).
    """

    @checks_kinds
    def __init__(self, step: int = 2, threshold: float = 2.7) -> None:
        if not 1 <= step <= SIDE:
            raise ShapeError(f"SlidingDct: step is {step}, but 1 to {SIDE} samples were needed. Pass 2 for half the frame.")
        self.step, self.threshold = step, threshold
        self._calls, self._space = 0, Workspace()

    @checks_kinds
    def __call__(self, noisy: Tensor, deviation: float) -> Tensor:
        """Remove white noise of this standard deviation from (..., H, W); the picture is treated as periodic."""
        refuse_no_picture("SlidingDct", noisy, deviation)
        noisy, at = noisy.detach(), lattice(self._calls, self.step)
        self._calls += 1
        flat = noisy.reshape(-1, *noisy.shape[-2:])
        planes = []
        for number, plane in enumerate(flat):
            with headway.part(number / len(flat), (number + 1) / len(flat)):
                planes.append(self.plane(plane, deviation, at))
        return torch.stack(planes).reshape(noisy.shape)

    def plane(self, noisy: Tensor, deviation: float, at: tuple[int, int]) -> Tensor:
        """Denoise one plane (H, W), with a lattice that starts at `at`."""
        with headway.part(0, 0.4):
            pilot = filter_blocks(noisy, None, hard_threshold(self.threshold * deviation), self.step, at, self._space)
        with headway.part(0.4, 1):
            return filter_blocks(noisy, pilot, empirical_wiener(deviation**2), self.step, at, self._space)


def refuse_no_picture(where: str, noisy: Tensor, deviation: float) -> None:
    """Refuse a tensor that is not a picture of real samples, and a deviation that is negative or not finite."""
    if not noisy.is_floating_point():
        raise DtypeError(f"{where}: the picture is {noisy.dtype}, but real floating-point samples were needed. Pass x.float().")
    if noisy.ndim < 2 or 0 in noisy.shape:
        raise ShapeError(
            f"{where}: the picture is {tuple(noisy.shape)}, but (..., H, W) without a length of 0 was needed. Reshape it."
        )
    if not 0 <= deviation < inf:
        raise ShapeError(
            f"{where}: the deviation is {deviation}, but a finite number of at least 0 was needed. See estimate_noise."
        )


def lattice(call: int, step: int) -> tuple[int, int]:
    """Return where the lattice starts at this call: all offsets in turn, in an order that keeps successive ones apart."""
    order = sorted(range(step * step), key=lambda n: (n * 3 % (step * step), n))
    n = order[call % (step * step)]
    return n % step, (n // step + n) % step


def hard_threshold(least: float) -> Shrink:
    """Return a hard threshold that keeps a block's mean; the weight is one over the number of coefficients mask."""

    def shrink(coefficients: Tensor, _pilot: Tensor | None) -> Tensor:
        means = coefficients[0].clone()
        mask = coefficients.abs().ge_(least)
        coefficients.mul_(mask)
        coefficients[0] = means
        return mask[1:].sum(0).add_(1).reciprocal_()

    return shrink


def empirical_wiener(variance: float) -> Shrink:
    """Return a Wiener filter set by a pilot, which keeps the mean; the weight is one over the sum of squared gains."""

    def shrink(coefficients: Tensor, pilot: Tensor | None) -> Tensor:
        assert pilot is not None
        gains = pilot.square_()
        gains.div_(gains + variance)
        gains[0] = 1
        coefficients.mul_(gains)
        return gains.square_().sum(0).reciprocal_()

    return shrink


def filter_blocks(
    noisy: Tensor, pilot: Tensor | None, shrink: Shrink, step: int, at: tuple[int, int], space: Workspace
) -> Tensor:
    """Shrink the DCT of every block and average the blocks, with the weights from `shrink`; return (H, W)."""
    height, width = noisy.shape
    rows, columns = -(-height // step), -(-width // step)
    source, guide = extend(noisy, step, at), None if pilot is None else extend(pilot, step, at)
    total, weight = torch.zeros_like(source), torch.zeros_like(source)
    basis = cosines(noisy.dtype, noisy.device)
    many = max(1, at_once(_BAND, noisy) // columns)
    # Bands of rows, so that all blocks of one band stay in the processor's cache.
    for first in range(0, rows, many):
        headway.tell(first / rows)
        count = min(many, rows - first)
        one, two, three = (space.take(name, noisy, SIDE**2, count * columns) for name in ("one", "two", "three"))
        coefficients = torch.mm(basis, blocks(source, first, count, columns, step, one), out=two)
        pilot_coefficients = (
            None if guide is None else torch.mm(basis, blocks(guide, first, count, columns, step, one), out=three)
        )
        weights = shrink(coefficients, pilot_coefficients)
        coefficients.mul_(weights)
        estimates = torch.mm(basis.t(), coefficients, out=one).view(SIDE, SIDE, count, columns)
        add_blocks(total, estimates, first, step)
        add_boxes(weight, weights.view(count, columns), first, step)
    return fold(total, step, at, noisy.shape).div_(fold(weight, step, at, noisy.shape))


def extend(x: Tensor, step: int, at: tuple[int, int]) -> Tensor:
    """Extend the picture periodically, from `at` on, as far as the last block reaches."""
    reach = [(-(-n // step) - 1) * step + SIDE for n in x.shape]
    index = [(torch.arange(r, device=x.device) + a) % n for r, a, n in zip(reach, at, x.shape, strict=True)]
    return x[index[0][:, None], index[1][None]]


def fold(y: Tensor, step: int, at: tuple[int, int], shape: tuple[int, ...]) -> Tensor:
    """Apply the adjoint of `extend`: add the samples that wrapped round to those that they are copies of."""
    for axis, n in enumerate(shape):
        # A picture shorter than a block wraps round more than once.
        while (long := y.shape[axis]) > n:
            over = min(long - n, n)
            folded = y.narrow(axis, 0, long - over).clone()
            folded.narrow(axis, long - over - n, over).add_(y.narrow(axis, long - over, over))
            y = folded
    return y.roll(at, (0, 1))


def blocks(source: Tensor, first: int, count: int, columns: int, step: int, out: Tensor) -> Tensor:
    """Copy blocks from row `first` of the lattice on into `out`, one block a column; return it, (64, count * columns)."""
    width = source.shape[1]
    view = source.as_strided((SIDE, SIDE, count, columns), (width, 1, step * width, step), first * step * width)
    out.view(SIDE, SIDE, count, columns).copy_(view)
    return out


def add_blocks(total: Tensor, values: Tensor, first: int, step: int) -> None:
    """Apply the adjoint of `blocks`: add (8, 8, count, columns) to `total` at the positions of the blocks."""
    _, _, count, columns = values.shape
    top, height, width = first * step, (count - 1) * step + 1, (columns - 1) * step + 1
    for row in range(SIDE):
        for column in range(SIDE):
            total[top + row : top + row + height : step, column : column + width : step].add_(values[row, column])


def add_boxes(total: Tensor, weights: Tensor, first: int, step: int) -> None:
    """Add constant blocks with values (count, columns), as `add_blocks` does, but axis by axis: 16 sums instead of 64."""
    count, columns = weights.shape
    top, height, width = first * step, (count - 1) * step + 1, (columns - 1) * step + 1
    lines = total.new_zeros(count, total.shape[1])
    for column in range(SIDE):
        lines[:, column : column + width : step].add_(weights)
    for row in range(SIDE):
        total[top + row : top + row + height : step].add_(lines)


@lru_cache(maxsize=8)
def cosines(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the orthonormal 8 × 8 DCT, (64, 64); row (v, u) is the v-th cosine down times the u-th across."""
    line = line_cosines(torch.float64, torch.device("cpu"))
    return torch.kron(line, line).to(device=device, dtype=dtype)


@lru_cache(maxsize=8)
def line_cosines(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the orthonormal DCT-II of eight samples, (8, 8), one cosine a row."""
    index, order = torch.arange(SIDE, dtype=torch.float64), torch.arange(SIDE, dtype=torch.float64)[:, None]
    line = torch.cos(pi * (2 * index + 1) * order / (2 * SIDE)) * (2 / SIDE) ** 0.5
    line[0] /= 2**0.5
    rows: Tensor = line.to(device=device, dtype=dtype)
    return rows
