"""What JPEG's compression did to a picture, read off its decoded samples.

JPEG rounds the cosines of each block of 8 × 8 samples to whole multiples of a step. Whoever knows the steps knows how far
each cosine may be off. They show in the samples themselves, so that a file's own table is not needed: pictures that went
on as PNG, or as an array, have it, too.

Cosines of few values, as of pages of black and white, of stripes and of dithered pictures, lie at multiples of something by
themselves. But they do so wherever blocks are taken to begin; those of JPEG in one place only.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isnan, nan, pi, prod, sqrt

import torch
from torch import Tensor

from unconv.pictures.jpeg import Jpeg

_SIDE = 8
_BLOCKS = 36  # of fewer the steps cannot be told
_LOOKED_AT = 768  # samples along each axis, of a large picture
_STEPS = torch.arange(2, 100, dtype=torch.float64)
_FEW = 24  # cosines that are not zero: of fewer the step cannot be told
_ALIKE = 0.36  # mean cosine of what is a multiple of a step, with the rounding of samples; of others it is near 0
_COUNTED, _FEWEST = 8, 3  # frequencies that count, the best ones; by chance some few fit anything
_ELSEWHERE = ((4, 4), (3, 5), (1, 2))  # blocks that begin there are none of JPEG's
_APART = 0.75  # the most of JPEG's score that these may have; of pictures of few levels they have 0.9 and more
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
    blocks = prod(n // _SIDE for n in size)
    if blocks < (1 if known is not None else _BLOCKS) or bool(samples.isnan().any()):
        return None
    starts = [(n - m) // 2 // _SIDE * _SIDE for n, m in zip(shape, size, strict=True)]
    part = samples[..., starts[0] : starts[0] + size[0], starts[1] : starts[1] + size[1]].double()
    part = part if part.ndim == 2 else torch.tensordot(part.new_tensor(_LUMA), part, 1)
    if known is not None:
        # The part that is looked at begins with a block where the picture does.
        steps, offset = known.steps.to(part), known.offset
        cosines = _cosines(_blocks(part, offset))
    else:
        found = _offset(part)
        if found is None:
            return None
        offset, cosines = found, _cosines(_blocks(part, found))
        steps = _filled(torch.stack([_step(row) for row in cosines.flatten(0, 1)]).view(_SIDE, _SIDE))
    return Compression(steps, offset, sqrt(float(_lost(cosines, steps).mean())))


def _basis() -> Tensor:
    """(8, 8): the orthonormal cosines, one a row."""
    place = torch.arange(_SIDE, dtype=torch.float64)
    rows = torch.cos(pi * (2 * place + 1) * place[:, None] / (2 * _SIDE)) * (2 / _SIDE) ** 0.5
    return torch.cat([rows[:1] / sqrt(2), rows[1:]])


def _blocks(grey: Tensor, offset: tuple[int, int]) -> Tensor:
    """(blocks, 8, 8): those of a grid."""
    rows, columns = (n - (n - start) % _SIDE for n, start in zip(grey.shape, offset, strict=True))
    return grey[offset[0] : rows, offset[1] : columns].unfold(0, _SIDE, _SIDE).unfold(1, _SIDE, _SIDE).flatten(0, 1)


def _cosines(blocks: Tensor) -> Tensor:
    """(8, 8, blocks): the cosines of each block."""
    basis = _basis().to(blocks)
    return torch.einsum("ui,vj,nij->uvn", basis, basis, blocks - 128)


def _offset(grey: Tensor) -> tuple[int, int] | None:
    """Return where blocks begin whose cosines lie at multiples of steps; None if none do, or others as well."""

    def fits(offset: tuple[int, int]) -> bool:
        score = _on_grid(grey, offset, _STEPS)
        if score <= _ALIKE:
            return False
        others = (((offset[0] + down) % _SIDE, (offset[1] + across) % _SIDE) for down, across in _ELSEWHERE)
        # Where nothing can be told of another place, JPEG's is not told from it, either.
        return all(_on_grid(grey, other, _STEPS) < _APART * score for other in others)

    # As in every picture that was not cropped; else a part of it tells.
    if fits((0, 0)):
        return 0, 0
    part = tuple(slice(max(0, n - _SEARCHED) // 2 // _SIDE * _SIDE, None) for n in grey.shape)
    looked_at = grey[part][:_SEARCHED, :_SEARCHED].float()
    places = [(down, across) for down in range(_SIDE) for across in range(_SIDE)]
    scores = {place: score for place in places if not isnan(score := _on_grid(looked_at, place, _STEPS[:30].float()))}
    if not scores:
        return None
    found = max(scores, key=scores.__getitem__)
    # Where only the rows, or only the columns, are those of JPEG's blocks, some of its cosines are left.
    rivals = [score for (down, across), score in scores.items() if down != found[0] and across != found[1]]
    return found if rivals and max(rivals) < _APART * scores[found] and fits(found) else None


def _on_grid(grey: Tensor, offset: tuple[int, int], steps: Tensor) -> float:
    """Return how well the cosines of a grid's blocks lie at multiples of steps, from 0 to 1; NaN if that cannot be told."""
    cosines = _cosines(_blocks(grey, offset).unique(dim=0))  # of blocks that recur one tells as much as all
    scores = [score for u, v in _TRIED if not isnan(score := _score(cosines[u, v], steps)[0])]
    scores = sorted(scores)[-_COUNTED:]
    return sum(scores) / len(scores) if len(scores) >= _FEWEST else nan


def _score(cosines: Tensor, steps: Tensor) -> tuple[float, float]:
    """Return how well cosines lie at multiples of a step, from 0 to 1, and the step; NaN if it cannot be told."""
    steps = steps.to(cosines.device)[:, None]
    turns = cosines / steps
    beyond = turns.abs() > 0.5  # those that are rounded to zero lie at a multiple of every step
    counts = beyond.sum(1)
    alike = (torch.cos(2 * pi * turns) * beyond).sum(1) / counts.clamp(min=1)
    alike = torch.where(counts >= _FEW, alike, -torch.inf)
    most = float(alike.max())
    if most <= 0:
        return (nan if most == -inf else 0.0), nan
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
