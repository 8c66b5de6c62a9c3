"""Estimate what JPEG's compression did to a picture from its decoded samples.

JPEG rounds the DCT coefficients of each block of 8 × 8 samples to integer multiples of a quantisation step. The steps bound
the error of each coefficient. They can be read off the samples, so the file's own table is not needed: pictures that were
saved again as PNG, or that arrive as an array, show the steps, too.

Pictures of few levels, such as black and white pages, stripes and dithered pictures, have coefficients at multiples of some
number by themselves. But theirs lie so on any grid of blocks, JPEG's only on its own grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isnan, nan, pi, prod, sqrt

import torch
from torch import Tensor

from unconv.pictures.jpeg import Jpeg

_SIDE = 8
_BLOCKS = 36  # fewer blocks do not show the steps
_LOOKED_AT = 768  # samples along each axis, from the middle of a large picture
_STEPS = torch.arange(2, 100, dtype=torch.float64)
_FEW = 24  # fewer coefficients that are not zero do not show the step of their frequency
_ALIKE = 0.36  # score of coefficients at multiples of a step, whose samples were rounded, too; others score near 0
_COUNTED, _FEWEST = 8, 3  # the best frequencies that count, and the fewest that must have a score; a few fit anything by chance
_ELSEWHERE = ((4, 4), (3, 5), (1, 2))  # offsets from JPEG's grid, for comparison
_APART = 0.75  # grids off JPEG's score at most this share of its score; with pictures of few levels, 0.9 and more
_SEARCHED = 256  # samples along each axis in which the grid of a cropped picture is searched
_TRIED = tuple((u, v) for u in range(5) for v in range(5) if 0 < u + v < 6)  # low frequencies, with enough power to show a grid
_LUMA = (0.299, 0.587, 0.114)

# The example table of the standard (T.81, table K.1), which encoders scale.
_EXAMPLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)


@dataclass(frozen=True)
class Compression:
    """The steps to which a picture's DCT coefficients were rounded, and the error that this made.

    Args:
        steps: (8, 8), for the luminance.
        offset: row and column of the first complete block.
        error: an upper bound for the standard deviation of a sample's error.
    """

    steps: Tensor
    offset: tuple[int, int]
    error: float


def compression(samples: Tensor, known: Jpeg | None = None) -> Compression | None:
    """Return the quantisation steps and the block grid of JPEG in a picture of 8 bits; None if it shows no JPEG.

    Args:
        samples: (H, W) or (3, H, W), 0 to 255.
        known: the steps and the grid, if the file says them; fine steps leave no trace in the samples.

    Source:
        ITU-T T.81 (1992), annexes A and K.1: blocks, DCT, steps. Fan & de Queiroz, "Identification of bitmap compression
        history" (2003): estimating the steps from the multiples at which the coefficients lie.
    """
    shape = samples.shape[-2:]
    size = [min(n, _LOOKED_AT) // _SIDE * _SIDE for n in shape]
    blocks = prod(n // _SIDE for n in size)
    if blocks < (1 if known is not None else _BLOCKS) or bool(samples.isnan().any()):
        return None
    starts = [(n - m) // 2 // _SIDE * _SIDE for n, m in zip(shape, size, strict=True)]
    part = samples[..., starts[0] : starts[0] + size[0], starts[1] : starts[1] + size[1]].double()
    part = part if part.ndim == 2 else torch.tensordot(part.new_tensor(_LUMA), part, 1)
    if known is not None:
        # The cut starts at a multiple of 8, so the file's offset holds in it as in the entire picture.
        steps, offset = known.steps.to(part), known.offset
        coefficients = _coefficients(_blocks(part, offset))
    else:
        grid = _offset(part)
        if grid is None:
            return None
        offset, coefficients = grid, _coefficients(_blocks(part, grid))
        steps = _filled(torch.stack([_step(row) for row in coefficients.flatten(0, 1)]).view(_SIDE, _SIDE))
    return Compression(steps, offset, sqrt(float(_rounding_error(coefficients, steps).mean())))


def _basis() -> Tensor:
    """Return the orthonormal DCT-II, (8, 8), one cosine a row."""
    index = torch.arange(_SIDE, dtype=torch.float64)
    rows = torch.cos(pi * (2 * index + 1) * index[:, None] / (2 * _SIDE)) * (2 / _SIDE) ** 0.5
    return torch.cat([rows[:1] / sqrt(2), rows[1:]])


def _blocks(grey: Tensor, offset: tuple[int, int]) -> Tensor:
    """Return the complete blocks of a grid, (blocks, 8, 8)."""
    rows, columns = (n - (n - start) % _SIDE for n, start in zip(grey.shape, offset, strict=True))
    return grey[offset[0] : rows, offset[1] : columns].unfold(0, _SIDE, _SIDE).unfold(1, _SIDE, _SIDE).flatten(0, 1)


def _coefficients(blocks: Tensor) -> Tensor:
    """Return the DCT coefficients of each block, (8, 8, blocks)."""
    basis = _basis().to(blocks)
    return torch.einsum("ui,vj,nij->uvn", basis, basis, blocks - 128)


def _offset(grey: Tensor) -> tuple[int, int] | None:
    """Return the offset of the grid on which the coefficients lie at multiples of steps; None if none does, or several do."""

    def fits(offset: tuple[int, int]) -> bool:
        score = _on_grid(grey, offset, _STEPS)
        if score <= _ALIKE:
            return False
        others = (((offset[0] + down) % _SIDE, (offset[1] + across) % _SIDE) for down, across in _ELSEWHERE)
        # The score of another grid may be NaN, for too few coefficients. The comparison is false then: nothing is certain.
        return all(_on_grid(grey, other, _STEPS) < _APART * score for other in others)

    # A picture that was not cropped begins with a block: try that first. All 64 offsets are tried only on a smaller part.
    if fits((0, 0)):
        return 0, 0
    part = tuple(slice(max(0, n - _SEARCHED) // 2 // _SIDE * _SIDE, None) for n in grey.shape)
    looked_at = grey[part][:_SEARCHED, :_SEARCHED].float()
    offsets = [(down, across) for down in range(_SIDE) for across in range(_SIDE)]
    scores = {offset: score for offset in offsets if not isnan(score := _on_grid(looked_at, offset, _STEPS[:30].float()))}
    if not scores:
        return None
    best = max(scores, key=scores.__getitem__)
    # A grid that shares its rows or its columns with JPEG's keeps some of its coefficients, and is no fair rival.
    rivals = [score for (down, across), score in scores.items() if down != best[0] and across != best[1]]
    return best if rivals and max(rivals) < _APART * scores[best] and fits(best) else None


def _on_grid(grey: Tensor, offset: tuple[int, int], steps: Tensor) -> float:
    """Return the mean score of a grid's best frequencies, from 0 to 1; NaN if too few frequencies have one."""
    coefficients = _coefficients(_blocks(grey, offset).unique(dim=0))  # copies of a block are no further evidence
    scores = [score for u, v in _TRIED if not isnan(score := _score(coefficients[u, v], steps)[0])]
    scores = sorted(scores)[-_COUNTED:]
    return sum(scores) / len(scores) if len(scores) >= _FEWEST else nan


def _score(coefficients: Tensor, steps: Tensor) -> tuple[float, float]:
    """Return how well coefficients lie at multiples of a step, from 0 to 1, and the step; NaN if there are too few of them."""
    steps = steps.to(coefficients.device)[:, None]
    multiples = coefficients / steps
    beyond = multiples.abs() > 0.5  # one that is rounded to zero fits every step
    counts = beyond.sum(1)
    fit = (torch.cos(2 * pi * multiples) * beyond).sum(1) / counts.clamp(min=1)
    fit = torch.where(counts >= _FEW, fit, -torch.inf)
    most = float(fit.max())
    if most <= 0:
        return (nan if most == -inf else 0.0), nan
    # The divisors of a step fit as well as the step, so the largest that fits is taken.
    largest = float(steps[fit >= 0.8 * most].max())
    return most, largest


def _step(coefficients: Tensor) -> Tensor:
    """Return the step of one frequency: NaN if it has too few coefficients, 1 if they lie at no multiples."""
    score, step = _score(coefficients, _STEPS)
    few = int((coefficients.abs() > 1).sum()) < _FEW
    return coefficients.new_tensor(step if score > _ALIKE else float("nan") if few else 1.0)


def _filled(known: Tensor) -> Tensor:
    """Fill in the steps that are NaN, in the proportions of the standard's example."""
    example = torch.tensor(_EXAMPLE, dtype=torch.float64, device=known.device)
    ratio = (known / example)[~known.isnan()]
    return torch.where(known.isnan(), (example * ratio.median()).clamp(min=1), known)


def _rounding_error(coefficients: Tensor, steps: Tensor) -> Tensor:
    """Return an upper bound for the mean square error of each rounded coefficient, (8, 8).

    The error of a coefficient that did not become zero is uniform over a step. The error of one that became zero is the
    coefficient itself. The coefficients follow a Laplace distribution, and the share of zeros gives its scale.
    """
    count = coefficients.shape[-1]
    zeros = (coefficients.abs() <= steps[..., None] / 2).double().mean(-1).clamp(1 / count, 1 - 1 / count)
    half = steps / 2
    scale = -half / torch.log(1 - zeros)
    outside = torch.exp(-half / scale)
    within = (2 * scale**2 - outside * (half**2 + 2 * half * scale + 2 * scale**2)) / (1 - outside)
    return zeros * within + (1 - zeros) * steps**2 / 12
