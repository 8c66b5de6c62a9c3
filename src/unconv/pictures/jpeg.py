"""What a JPEG's file says of how it was compressed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from PIL import ExifTags
from torch import Tensor

_SIDE = 8


@dataclass(frozen=True, eq=False)
class Jpeg:
    """How the brightness of a picture was compressed by JPEG, in blocks of 8 × 8 samples.

    Attributes:
        steps: (8, 8), to whole multiples of which the cosines of each block were rounded, low frequencies first.
        offset: the first row and column of a block.
    """

    steps: Tensor
    offset: tuple[int, int]


# What upright does to rows and columns: exchange them, then turn the rows round, then the columns.
_TURNS = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def described(image: Any) -> Jpeg | None:
    """Return how a picture that Pillow opened was compressed, upright as `measured` reads it; None if it is no JPEG."""
    tables = getattr(image, "quantization", None)
    if image.format not in ("JPEG", "MPO") or not tables or len(tables.get(0, ())) != _SIDE**2:
        return None
    steps = torch.tensor(tables[0], dtype=torch.float64).view(_SIDE, _SIDE)
    exchanged, *turned = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1), (False, False, False))
    width, height = image.size[::-1] if exchanged else image.size
    # Blocks begin at the file's first row and column, which may be the last of the upright picture.
    offset = tuple(n % _SIDE if turn else 0 for n, turn in zip((height, width), turned, strict=True))
    return Jpeg(steps.T if exchanged else steps, (offset[0], offset[1]))
