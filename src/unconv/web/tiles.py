"""Draw tiles, which are small pictures of projections and patches, and sheets of many tiles."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import NonFinite
from unconv.pictures.boxes import cut
from unconv.render.picture import visible_box

_QUALITY, _EFFORT = 68, 2  # of WebP: more effort makes files smaller by less than a twentieth
_LOSSLESS_BELOW = 16  # pixels a side: smaller tiles are stored without loss, since they cost little
_STEPS = 32767  # quantisation steps up to a projection's largest value
_GREY = 128
Array = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


@dataclass(frozen=True)
class Tile:
    """The content of a unit's window, reduced to the size of a tile.

    Args:
        samples: (C, h, w), uint8 for a patch, int16 in multiples of `step` for a projection.
        box: in pixels of the preprocessed picture; its part outside the picture is not shown.
        frame: (H, W) of that picture.
        step: the value of 1 in the samples of a projection.
    """

    samples: np.ndarray[tuple[int, ...], np.dtype[np.generic]]
    box: tuple[int, ...]
    frame: tuple[int, int]
    step: float = 0.0

    @property
    def inside(self) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]] | None:
        """(h, w), whether each sample lies inside the picture; None if all do."""
        y0, x0, y1, x1 = self.box
        height, width = self.frame
        if y0 >= 0 and x0 >= 0 and y1 <= height and x1 <= width:
            return None
        tall, wide = self.samples.shape[1:]
        rows = y0 + (np.arange(tall) + 0.5) * (y1 - y0) / tall
        columns = x0 + (np.arange(wide) + 0.5) * (x1 - x0) / wide
        return np.asarray(((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width)))

    def values(self) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """Return the values (C, h, w) of a projection."""
        return self.samples.astype(np.float32) * np.float32(self.step)


@dataclass(frozen=True)
class Cell:
    """The size at which the windows of a place are drawn.

    Args:
        window: (h, w) of the largest window, in pixels of the preprocessed picture.
        height, width: its size in pixels of a tile.
    """

    window: tuple[int, int]
    height: int
    width: int

    @classmethod
    def of(cls, receptive_field: Sequence[int], frame: Sequence[int], side: int) -> Cell:
        """Return a cell at most `side` pixels long for units with this receptive field in a picture of size `frame`."""
        window = (min(receptive_field[0], frame[0]), min(receptive_field[1], frame[1]))
        share = min(1.0, side / max(window))
        return cls(window, max(1, round(window[0] * share)), max(1, round(window[1] * share)))

    def fitted(self, box: Sequence[int]) -> tuple[int, int]:
        """Return the (height, width) at which a box is drawn; all boxes of a place have one scale."""
        y0, x0, y1, x1 = box
        tall, wide = (y1 - y0) * self.height / self.window[0], (x1 - x0) * self.width / self.window[1]
        return min(self.height, max(1, round(tall))), min(self.width, max(1, round(wide)))


def projection_tile(window: Tensor, box: Sequence[int], frame: tuple[int, int], cell: Cell) -> Tile:
    """Return the tile of a projection's values (C, h, w) in `box`."""
    values = _resized(window.float().cpu(), cell.fitted(box)).numpy()
    if not np.isfinite(values).all():
        raise NonFinite(
            "site: a projection is not finite, but finite values were needed. Scan with a network in float32, or choose "
            "another method."
        )
    step = float(np.abs(values).max()) / _STEPS
    samples = np.round(values / (step or 1.0)).astype(np.int16)
    return Tile(samples, tuple(box), frame, step)


def patch_tile(shown: Tensor, box: Sequence[int], cell: Cell) -> Tile:
    """Return the tile of a box in a picture (C, H, W) with samples from 0 to 1."""
    frame = (int(shown.shape[1]), int(shown.shape[2]))
    box = visible_box(box, frame)
    size = cell.fitted(box)
    values = _resized(cut(shown, box).float().cpu(), size)
    # Samples outside the picture are zero. At its edge each tile sample is divided by its share inside, or it would be dark.
    inside = _resized(cut(torch.ones_like(shown[:1]), box).float().cpu(), size)
    return Tile(_bytes(values / inside.clamp(min=1e-3)), tuple(box), frame)


def thumbnail(shown: Tensor, side: int) -> Tile:
    """Return the tile of an entire picture, at most `side` pixels long."""
    frame = (int(shown.shape[1]), int(shown.shape[2]))
    return patch_tile(shown, (0, 0, *frame), Cell.of(frame, frame, side))


def _resized(values: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(values.shape[1:]) == size:
        return values
    return F.interpolate(values[None], size=size, mode="bilinear", antialias=True)[0]


def _bytes(values: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    values = values if len(values) in (1, 3) else values.mean(0, keepdim=True)
    return np.asarray((values.clamp(0, 1) * 255).round().to(torch.uint8).numpy())


def scale_of(projections: Sequence[Tile]) -> float:
    """Return the scale that projections share, as `common_scale` does."""
    nonzero = [np.abs(tile.samples[tile.samples != 0]).astype(np.float32) * np.float32(tile.step) for tile in projections]
    magnitudes = np.concatenate(nonzero) if nonzero else np.zeros(0, np.float32)
    if not len(magnitudes):
        return 0.0
    last = max(1, round(0.99 * len(magnitudes))) - 1
    return float(np.partition(magnitudes, last)[last])


def drawn(tile: Tile, scale: float | None = None) -> Image.Image:
    """Draw a patch, or a projection on a scale (mid-grey is zero, white the scale); outside the picture it is transparent."""
    if scale is None:
        samples = tile.samples.astype(np.uint8)
    else:
        values = tile.values() if len(tile.samples) in (1, 3) else tile.values().mean(0, keepdims=True)
        samples = np.clip(np.round((values / (2 * scale or 1.0) + 0.5) * 255), 0, 255).astype(np.uint8)
    colours = np.broadcast_to(samples, (3, *samples.shape[1:])).transpose(1, 2, 0)
    picture = Image.fromarray(np.ascontiguousarray(colours))
    if (inside := tile.inside) is not None:
        picture.putalpha(Image.fromarray((inside * 255).astype(np.uint8)))
    return picture


Placed = tuple[int, int, Image.Image]
"""A picture and the (x, y) of its top left corner."""


def laid_out(size: tuple[int, int], pictures: Sequence[Placed], lossless: bool = False, holes: bool = False) -> bytes:
    """Return a sheet of `size` (width, height) with the pictures on it, as WebP.

    Args:
        lossless: compress without loss.
        holes: whether some cells are empty; these are transparent.
    """
    clear = holes or any(picture.mode == "RGBA" for _, _, picture in pictures)
    sheet = Image.new("RGBA", size, (_GREY, _GREY, _GREY, 0)) if clear else Image.new("RGB", size, (_GREY,) * 3)
    for x, y, picture in pictures:
        sheet.paste(picture, (x, y))
    buffer = io.BytesIO()
    sheet.save(buffer, "WEBP", quality=_QUALITY, method=_EFFORT, lossless=lossless)
    return buffer.getvalue()


def fine(cell: Cell) -> bool:
    """Return whether tiles are so small that they are stored without loss."""
    return max(cell.height, cell.width) < _LOSSLESS_BELOW


def centred(x: int, y: int, cell: Cell, picture: Image.Image) -> Placed:
    """Return a picture at the centre of the cell at (x, y); the rest of the cell is transparent."""
    if picture.size != (cell.width, cell.height):
        picture = picture.convert("RGBA")
    return (x + (cell.width - picture.width) // 2, y + (cell.height - picture.height) // 2, picture)
