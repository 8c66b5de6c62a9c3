"""How a JPEG file says that it was compressed: its quantisation table and where its blocks begin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from PIL import ExifTags
from torch import Tensor

_SIDE = 8


@dataclass(frozen=True, eq=False)
class Jpeg:
    """The JPEG compression of a picture's brightness, in blocks of 8 × 8 samples.

    Attributes:
        steps: (8, 8), the quantisation table. Each DCT coefficient of a block was rounded to an integer multiple of its
            step; low frequencies come first.
        offset: the row and the column at which the first complete block begins.
    """

    steps: Tensor
    offset: tuple[int, int]


# EXIF orientation -> how the picture is made upright: swap rows and columns, then reverse the rows, then the columns.
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
    """Return the JPEG compression of a picture that Pillow opened, upright as `measured` reads it; None if it has none."""
    tables = getattr(image, "quantization", None)
    if image.format not in ("JPEG", "MPO") or not tables or len(tables.get(0, ())) != _SIDE**2:
        return None
    steps = torch.tensor(tables[0], dtype=torch.float64).view(_SIDE, _SIDE)
    swapped, *reversed_axes = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1), (False, False, False))
    width, height = image.size[::-1] if swapped else image.size
    # Blocks begin at the file's first row and column, which may be the last ones of the upright picture.
    offset = tuple(n % _SIDE if is_reversed else 0 for n, is_reversed in zip((height, width), reversed_axes, strict=True))
    return Jpeg(steps.T if swapped else steps, (offset[0], offset[1]))
