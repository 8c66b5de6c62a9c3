"""Draw tensors as pictures, as signed signals on a common scale, or as tiles in a grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def picture_of(image: Tensor) -> Image.Image:
    """Draw an image (C, H, W) with samples from 0 to 1; channels are averaged unless there are 1 or 3."""
    image = image if len(image) in (1, 3) else image.mean(0, keepdim=True)
    array = (image.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return Image.fromarray(array[0] if len(array) == 1 else np.ascontiguousarray(array.transpose(1, 2, 0)))


def signed_picture(signal: Tensor, scale: float) -> Image.Image:
    """Draw a signed signal (C, H, W): mid-grey is zero, `scale` is white, `-scale` is black."""
    return picture_of(signal.detach().float() / (2 * scale or 1.0) + 0.5)


def common_scale(signals: Sequence[Tensor]) -> float:
    """Return one scale for a grid of signals: the 99th percentile of the magnitudes of their non-zero samples.

    On the scale of the largest sample the rest would be too pale to see. Samples beyond the scale are drawn white or black.
    """
    magnitudes = [signal.detach().abs().flatten() for signal in signals]
    nonzero = torch.cat([magnitude[magnitude > 0].float() for magnitude in magnitudes]) if magnitudes else torch.empty(0)
    if not len(nonzero):
        return 0.0
    thinned = nonzero[:: 1 + len(nonzero) // 2**22]  # a few million samples give nearly the same percentile as all
    return float(thinned.kthvalue(max(1, round(0.99 * len(thinned)))).values)


def grid(tiles: Sequence[Image.Image], columns: int, gap: int = 4) -> Image.Image:
    """Arrange pictures in a grid, row by row; each is centred in a cell as large as the largest picture."""
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
    """Draw one feature map (samples..), or the strongest of several (C, samples..) in a square grid, all on one scale.

    White is the largest value and black is zero; if some values are negative, mid-grey is zero.

    Args:
        most: the largest number of maps drawn; those with the largest sum of squares come first.
        side: the longest side of a map in samples; longer ones are averaged down.
    """
    maps = maps.detach().float().cpu()
    if maps.ndim < 2:
        maps = maps.reshape(1, 1, -1)  # a vector is a strip
    elif maps.ndim == 2:
        maps = maps[None]
    elif maps.ndim > 3:
        maps = maps.flatten(1, -2)
    # Sorted stably: among equally strong maps, such as those that are zero, the lower channel comes first on every machine.
    strongest = maps.flatten(1).square().sum(1).sort(descending=True, stable=True).indices[:most]
    maps = averaged(maps[strongest], side)
    largest = float(maps.abs().max()) if maps.numel() else 0.0
    signed = bool((maps < 0).any())
    tiles = [
        signed_picture(feature_map[None], largest) if signed else picture_of(feature_map[None] / (largest or 1.0))
        for feature_map in maps
    ]
    return grid(tiles, max(1, round(len(tiles) ** 0.5 + 0.499)), 1) if len(tiles) > 1 else tiles[0]


def averaged(maps: Tensor, side: int) -> Tensor:
    """Average maps (C, h, w) over square blocks until neither side is longer than `side`."""
    step = -(-max(maps.shape[1:]) // side)
    return maps if step == 1 else torch.nn.functional.avg_pool2d(maps[None], step, ceil_mode=True)[0]
