"""Draw pictures for a page; parts outside the image are transparent, so that the page can mark them."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from unconv.pictures.boxes import cut
from unconv.pictures.draw import averaged, picture_of, signed_picture
from unconv.pictures.encode import png

_SIGNAL_SIDE = 96  # the longest side of a signal's picture in pixels; larger maps are averaged down


def patch_picture(shown: Tensor, box: Sequence[int]) -> Image.Image:
    """Draw the part of the picture (C, H, W) that the unit saw."""
    return _see_through(picture_of(cut(shown, box)), shown, box)


def projection_picture(values: Tensor, shown: Tensor, box: Sequence[int], scale: float) -> Image.Image:
    """Draw a projection's values (C, h, w) in `box`: mid-grey is zero, `scale` white."""
    return _see_through(signed_picture(values, scale), shown, box)


def visible_box(box: Sequence[int], size: Sequence[int]) -> tuple[int, ...]:
    """Return the part of a box that a page shows: its overlap with the picture along each axis where it is longer, else all."""
    axes = len(size)
    spans = []
    for start, end, n in zip(box[:axes], box[axes:], size, strict=True):
        spans.append((max(start, 0), min(end, n)) if end - start > n else (start, end))
    return (*(start for start, _ in spans), *(end for _, end in spans))


def placed(box: Sequence[int], size: Sequence[int]) -> str:
    """Return the CSS that positions an element over the box, in a frame that shows the entire picture."""
    (y0, x0, y1, x1), (height, width) = box, size
    sides = {"left": x0 / width, "top": y0 / height, "width": (x1 - x0) / width, "height": (y1 - y0) / height}
    return ";".join(f"{side}:{100 * share:.3f}%" for side, share in sides.items())


def signal_pictures(energy: Tensor, strongest: Tensor) -> tuple[Image.Image, Image.Image]:
    """Draw a signal's energy over channels (black is zero) and its strongest channel (grey is zero), each on its own scale."""
    energy, strongest = _reduced(energy[None]), _reduced(strongest[None])
    bright = picture_of(energy / energy.max().clamp(min=1e-30))
    return bright, signed_picture(strongest, float(strongest.abs().max()))


def map_picture(values: Tensor) -> Image.Image:
    """Draw a map (rows, columns) of non-negative values: black is zero, white is the largest."""
    top = float(values.max()) or 1.0
    return picture_of((values / top)[None].float())


def data_url(picture: Image.Image) -> str:
    """Return the picture as a URL that holds it, so that the page needs no file."""
    return "data:image/png;base64," + base64.b64encode(png(picture)).decode()


def _reduced(maps: Tensor) -> Tensor:
    """Average maps (C, h, w) down to at most `_SIGNAL_SIDE` pixels a side; a vector becomes a strip."""
    maps = maps if maps.ndim == 3 else maps.reshape(1, 1, -1)
    return averaged(maps.float(), _SIGNAL_SIDE)


def _see_through(picture: Image.Image, shown: Tensor, box: Sequence[int]) -> Image.Image:
    """Make a picture transparent where the box reaches outside the image."""
    inside = cut(torch.ones_like(shown[:1]), box)
    if bool(inside.all()):
        return picture
    picture = picture.convert("RGBA")
    picture.putalpha(picture_of(inside))
    return picture
