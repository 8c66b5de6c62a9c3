"""What JPEG's compression did to a picture, read off its decoded samples.

JPEG rounds the cosines of each block of 8 × 8 samples to whole multiples of a step. Whoever knows the steps knows how far
each cosine may be off. They show in the samples themselves, so that a file's own table is not needed: pictures that went
on as PNG, or as an array, have it, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt

import torch
from torch import Tensor

from unconv.pictures.jpeg import Jpeg

_SIDE = 8
_LOOKED_AT = 768  # samples along each axis, of a large picture
_STEPS = torch.arange(2, 100, dtype=torch.float64)
_FEW = 24  # cosines that are not zero: of fewer the step cannot be told
_ALIKE = 0.36  # mean cosine of what is a multiple of a step, with the rounding of samples; of others it is near 0
_COUNTED, _FEWEST = 8, 3  # frequencies that count, the best ones; by chance some few fit anything
_SEARCHED = 256  # samples along each axis, where the blocks of a cropped picture are looked for
_TRIED = tuple((u, v) for u in range(5) for v in range(5) if 0 < u + v < 6)  # frequencies that hold enough to tell the grid
_LUMA = (0.299, 0.587, 0.114)

# The example of the standard, from which encoders scale theirs.
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
    """Steps to which a picture's cosines were rounded, and what that took away.

    Args:
        steps: (8, 8), of brightness.
        offset: where the blocks begin, rows and columns.
        error: the standard deviation of what the rounding did to a sample, at most.
    """

    steps: Tensor
    offset: tuple[int, int]
    error: float


def compression(samples: Tensor, known: Jpeg | None = None) -> Compression | None:
    """Find the traces of JPEG in a picture of 8 bits; None if there are none.

    Args:
        samples: (H, W) or (3, H, W), 0 to 255.
        known: the steps and where the blocks begin, if the file says so; fine steps cannot be told from samples.

    Source:
        ITU-T T.81 (1992), annexes A and K.1: blocks, cosines, steps. Fan & de Queiroz, "Identification of bitmap compression
        history" (2003): steps are told from the multiples that the cosines lie at.
    """
    shape = samples.shape[-2:]
    size = [min(n, _LOOKED_AT) // _SIDE * _SIDE for n in shape]
    if min(size) < 6 * _SIDE or bool(samples.isnan().any()):
        return None
    starts = [(n - m) // 2 // _SIDE * _SIDE for n, m in zip(shape, size, strict=True)]
    part = samples[..., starts[0] : starts[0] + size[0], starts[1] : starts[1] + size[1]].double()
    part = part if part.ndim == 2 else torch.tensordot(part.new_tensor(_LUMA), part, 1)
    if known is not None:
        # The part that is looked at begins with a block where the picture does.
        steps, offset = known.steps.to(part), known.offset
        cosines = _cosines(part, offset)
    else:
        found = _offset(part)
        if found is None:
            return None
        offset, cosines = found, _cosines(part, found)
        steps = _filled(torch.stack([_step(row) for row in cosines.flatten(0, 1)]).view(_SIDE, _SIDE))
    return Compression(steps, offset, sqrt(float(_lost(cosines, steps).mean())))


def _basis() -> Tensor:
    """(8, 8): the orthonormal cosines, one a row."""
    place = torch.arange(_SIDE, dtype=torch.float64)
    rows = torch.cos(pi * (2 * place + 1) * place[:, None] / (2 * _SIDE)) * (2 / _SIDE) ** 0.5
    return torch.cat([rows[:1] / sqrt(2), rows[1:]])


def _cosines(grey: Tensor, offset: tuple[int, int]) -> Tensor:
    """(8, 8, blocks): the cosines of each block of a grid."""
    rows, columns = (n - (n - start) % _SIDE for n, start in zip(grey.shape, offset, strict=True))
    blocks = (grey[offset[0] : rows, offset[1] : columns] - 128).unfold(0, _SIDE, _SIDE).unfold(1, _SIDE, _SIDE)
    basis = _basis().to(grey)
    return torch.einsum("ui,vj,yxij->uvyx", basis, basis, blocks).flatten(2)


def _offset(grey: Tensor) -> tuple[int, int] | None:
    """Return where blocks begin whose cosines lie at multiples of steps; None if none do."""
    # As in every picture that was not cropped; else a part of it tells.
    if _on_grid(_cosines(grey, (0, 0)), _STEPS) > _ALIKE:
        return 0, 0
    part = grey[
        tuple(slice(None) if n <= _SEARCHED else slice((n - _SEARCHED) // 2 // _SIDE * _SIDE, None) for n in grey.shape)
    ]
    part = part[:_SEARCHED, :_SEARCHED].float()
    offsets = [(down, across) for down in range(_SIDE) for across in range(_SIDE)]
    found = max(offsets, key=lambda offset: _on_grid(_cosines(part, offset), _STEPS[:30].float()))
    return found if _on_grid(_cosines(grey, found), _STEPS) > _ALIKE else None


def _on_grid(cosines: Tensor, steps: Tensor) -> float:
    """Return how well the cosines of blocks lie at multiples of steps, from 0 to 1."""
    scores = [score for u, v in _TRIED if (score := _score(cosines[u, v], steps)[0])]
    scores = sorted(scores)[-_COUNTED:]
    return sum(scores) / len(scores) if len(scores) >= _FEWEST else 0.0


def _score(cosines: Tensor, steps: Tensor) -> tuple[float, float]:
    """Return how well cosines lie at multiples of a step, from 0 to 1, and the step; (0, 0) if it cannot be told."""
    steps = steps.to(cosines.device)[:, None]
    turns = cosines / steps
    beyond = turns.abs() > 0.5  # those that are rounded to zero lie at a multiple of every step
    counts = beyond.sum(1)
    alike = (torch.cos(2 * pi * turns) * beyond).sum(1) / counts.clamp(min=1)
    alike = torch.where(counts >= _FEW, alike, 0.0)
    most = float(alike.max())
    if most <= 0:
        return 0.0, 0.0
    # A step's own divisors fit as well: the longest is meant.
    longest = float(steps[alike >= 0.8 * most].max())
    return most, longest


def _step(cosines: Tensor) -> Tensor:
    """Return the step of one frequency; NaN if it cannot be told, 1 if there is none to see."""
    score, step = _score(cosines, _STEPS)
    few = int((cosines.abs() > 1).sum()) < _FEW
    return cosines.new_tensor(step if score > _ALIKE else float("nan") if few else 1.0)


def _filled(known: Tensor) -> Tensor:
    """Return a table with the steps that could not be told, in the proportions of the standard's example."""
    example = torch.tensor(_EXAMPLE, dtype=torch.float64, device=known.device)
    ratio = (known / example)[~known.isnan()]
    return torch.where(known.isnan(), (example * ratio.median()).clamp(min=1), known)


def _lost(cosines: Tensor, steps: Tensor) -> Tensor:
    """(8, 8): the mean square of what rounding to the steps took from each cosine, at most.

    Where a multiple is left, that is uniform over a step. Where all went to zero, it was the cosine itself: those are
    Laplace's, as wide as the share of zeros tells.
    """
    count = cosines.shape[-1]
    zeros = (cosines.abs() <= steps[..., None] / 2).double().mean(-1).clamp(1 / count, 1 - 1 / count)
    half = steps / 2
    scale = -half / torch.log(1 - zeros)
    outside = torch.exp(-half / scale)
    within = (2 * scale**2 - outside * (half**2 + 2 * half * scale + 2 * scale**2)) / (1 - outside)
    return zeros * within + (1 - zeros) * steps**2 / 12
