"""Tiles: a projection and the patch beside it, small, and sheets of them."""

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

_QUALITY, _EFFORT = 68, 2  # of WebP: no effort above makes them smaller by more than a twentieth
_LOSSLESS_BELOW = 16  # pixels a side: so small tiles are not worth losing anything
_STEPS = 32767  # of a projection's largest value
_GREY = 128
Array = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


@dataclass(frozen=True)
class Tile:
    """What a unit's window shows, shrunk to the size of a tile.

    Args:
        samples: (C, h, w): uint8, of a patch; int16 in steps of `step`, of a projection.
        box: in pixels of the prepared picture; what of it lies outside is not shown.
        frame: (H, W) of that picture.
    """

    samples: np.ndarray[tuple[int, ...], np.dtype[np.generic]]
    box: tuple[int, ...]
    frame: tuple[int, int]
    step: float = 0.0

    @property
    def inside(self) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]] | None:
        """(h, w): what lies within the picture; None if all does."""
        y0, x0, y1, x1 = self.box
        height, width = self.frame
        if y0 >= 0 and x0 >= 0 and y1 <= height and x1 <= width:
            return None
        tall, wide = self.samples.shape[1:]
        rows = y0 + (np.arange(tall) + 0.5) * (y1 - y0) / tall
        columns = x0 + (np.arange(wide) + 0.5) * (x1 - x0) / wide
        return np.asarray(((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width)))

    def values(self) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """(C, h, w) of a projection."""
        return self.samples.astype(np.float32) * np.float32(self.step)


@dataclass(frozen=True)
class Cell:
    """How large the windows of a place are drawn.

    Args:
        window: (h, w), in pixels of the prepared picture, of the largest.
        height, width: in pixels of a tile.
    """

    window: tuple[int, int]
    height: int
    width: int

    @classmethod
    def of(cls, receptive_field: Sequence[int], frame: Sequence[int], side: int) -> Cell:
        """Return the cell for units that see `receptive_field` of a picture of size `frame`: at most `side` pixels long."""
        window = (min(receptive_field[0], frame[0]), min(receptive_field[1], frame[1]))
        share = min(1.0, side / max(window))
        return cls(window, max(1, round(window[0] * share)), max(1, round(window[1] * share)))

    def fitted(self, box: Sequence[int]) -> tuple[int, int]:
        """Return how large a box is drawn: all of a place on one scale."""
        y0, x0, y1, x1 = box
        tall, wide = (y1 - y0) * self.height / self.window[0], (x1 - x0) * self.width / self.window[1]
        return min(self.height, max(1, round(tall))), min(self.width, max(1, round(wide)))


def projection_tile(window: Tensor, box: Sequence[int], frame: tuple[int, int], cell: Cell) -> Tile:
    """Shrink a projection's values (C, h, w), which stand in `box`."""
    values = _shrunk(window.float().cpu(), cell.fitted(box)).numpy()
    if not np.isfinite(values).all():
        raise NonFinite("site: a projection is not finite. Scan with a network in float32, or by another method.")
    step = float(np.abs(values).max()) / _STEPS
    samples = np.round(values / (step or 1.0)).astype(np.int16)
    return Tile(samples, tuple(box), frame, step)


def patch_tile(shown: Tensor, box: Sequence[int], cell: Cell) -> Tile:
    """Cut a box out of a picture (C, H, W) between 0 and 1, and shrink it."""
    frame = (int(shown.shape[1]), int(shown.shape[2]))
    box = visible_box(box, frame)
    size = cell.fitted(box)
    values = _shrunk(cut(shown, box).float().cpu(), size)
    # What lies outside is black there: at the edge of the picture, only what lies inside counts.
    inside = _shrunk(cut(torch.ones_like(shown[:1]), box).float().cpu(), size)
    return Tile(_bytes(values / inside.clamp(min=1e-3)), tuple(box), frame)


def thumbnail(shown: Tensor, side: int) -> Tile:
    """Shrink a whole picture to a side."""
    frame = (int(shown.shape[1]), int(shown.shape[2]))
    return patch_tile(shown, (0, 0, *frame), Cell.of(frame, frame, side))


def _shrunk(values: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(values.shape[1:]) == size:
        return values
    return F.interpolate(values[None], size=size, mode="bilinear", antialias=True)[0]


def _bytes(values: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    values = values if len(values) in (1, 3) else values.mean(0, keepdim=True)
    return np.asarray((values.clamp(0, 1) * 255).round().to(torch.uint8).numpy())


def scale_of(projections: Sequence[Tile]) -> float:
    """Choose the scale that projections share, as `common_scale` does."""
    found = [np.abs(tile.samples[tile.samples != 0]).astype(np.float32) * np.float32(tile.step) for tile in projections]
    magnitudes = np.concatenate(found) if found else np.zeros(0, np.float32)
    if not len(magnitudes):
        return 0.0
    last = max(1, round(0.99 * len(magnitudes))) - 1
    return float(np.partition(magnitudes, last)[last])


def drawn(tile: Tile, scale: float | None = None) -> Image.Image:
    """Draw a patch, or a projection on a scale: mid-grey is zero, white the scale. What lies outside is transparent."""
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
"""A picture, and where it stands: (x, y)."""


def laid_out(size: tuple[int, int], pictures: Sequence[Placed], lossless: bool = False, holes: bool = False) -> bytes:
    """Lay pictures out on a sheet (width, height), and return it as WebP.

    Args:
        holes: whether cells stay empty; those are transparent.
    """
    clear = holes or any(picture.mode == "RGBA" for _, _, picture in pictures)
    sheet = Image.new("RGBA", size, (_GREY, _GREY, _GREY, 0)) if clear else Image.new("RGB", size, (_GREY,) * 3)
    for x, y, picture in pictures:
        sheet.paste(picture, (x, y))
    buffer = io.BytesIO()
    sheet.save(buffer, "WEBP", quality=_QUALITY, method=_EFFORT, lossless=lossless)
    return buffer.getvalue()


def fine(cell: Cell) -> bool:
    """Whether tiles are so small that they are kept without loss."""
    return max(cell.height, cell.width) < _LOSSLESS_BELOW


def centred(x: int, y: int, cell: Cell, picture: Image.Image) -> Placed:
    """Place a picture in the middle of the cell at (x, y); what it leaves of the cell stays transparent."""
    if picture.size != (cell.width, cell.height):
        picture = picture.convert("RGBA")
    return (x + (cell.width - picture.width) // 2, y + (cell.height - picture.height) // 2, picture)
