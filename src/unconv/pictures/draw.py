"""Draw tensors: as pictures, as signed signals on a common scale, in a grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def picture_of(image: Tensor) -> Image.Image:
    """Draw (C, H, W) between 0 and 1; other numbers of channels than 1 and 3 are averaged."""
    image = image if len(image) in (1, 3) else image.mean(0, keepdim=True)
    array = (image.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return Image.fromarray(array[0] if len(array) == 1 else np.ascontiguousarray(array.transpose(1, 2, 0)))


def signed_picture(signal: Tensor, scale: float) -> Image.Image:
    """Draw a signed signal (C, H, W): mid-grey is zero, `scale` is white, `-scale` is black."""
    return picture_of(signal.detach().float() / (2 * scale or 1.0) + 0.5)


def common_scale(signals: Sequence[Tensor]) -> float:
    """Choose one scale for a grid of signals: 99 in 100 of their samples that are not zero lie within it.

    The few largest would otherwise leave the rest too pale to see; they are drawn as white or black.
    """
    magnitudes = [signal.detach().abs().flatten() for signal in signals]
    kept = torch.cat([m[m > 0].float() for m in magnitudes]) if magnitudes else torch.empty(0)
    if not len(kept):
        return 0.0
    thinned = kept[:: 1 + len(kept) // 2**22]  # a few million samples tell as much as all
    return float(thinned.kthvalue(max(1, round(0.99 * len(thinned)))).values)


def grid(tiles: Sequence[Image.Image], columns: int, gap: int = 4) -> Image.Image:
    """Lay pictures in rows, each centred in a cell of the largest's size."""
    width, height = max(tile.width for tile in tiles), max(tile.height for tile in tiles)
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    size = (columns * (width + gap) - gap, rows * (height + gap) - gap)
    canvas = Image.new("RGB", size, "white")
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        x = column * (width + gap) + (width - tile.width) // 2
        y = row * (height + gap) + (height - tile.height) // 2
        canvas.paste(tile, (x, y))
    return canvas
