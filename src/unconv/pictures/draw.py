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


def maps_picture(maps: Tensor, most: int = 16, side: int = 96) -> Image.Image:
    """Draw one feature map (samples..), or the strongest of several (C, samples..) in a square, all on one scale.

    White is the largest value, and black none; where some are negative, mid-grey is none.

    Args:
        most: maps that are drawn, those with the largest sum of squares first.
        side: samples that a map may have along an axis; larger ones are averaged down.
    """
    maps = maps.detach().float().cpu()
    if maps.ndim < 2:
        maps = maps.reshape(1, 1, -1)  # a vector is a strip
    elif maps.ndim == 2:
        maps = maps[None]
    elif maps.ndim > 3:
        maps = maps.flatten(1, -2)
    chosen = maps.flatten(1).square().sum(1).sort(descending=True, stable=True).indices[:most]
    maps = averaged(maps[chosen], side)
    largest = float(maps.abs().max()) if maps.numel() else 0.0
    signed = bool((maps < 0).any())
    tiles = [signed_picture(one[None], largest) if signed else picture_of(one[None] / (largest or 1.0)) for one in maps]
    return grid(tiles, max(1, round(len(tiles) ** 0.5 + 0.499)), 1) if len(tiles) > 1 else tiles[0]


def averaged(maps: Tensor, side: int) -> Tensor:
    """Average (C, h, w) down until neither side is longer."""
    step = -(-max(maps.shape[1:]) // side)
    return maps if step == 1 else torch.nn.functional.avg_pool2d(maps[None], step, ceil_mode=True)[0]
