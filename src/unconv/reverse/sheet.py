"""A sheet of projections: numbered tiles in rows, as a picture or as a figure of matplotlib's."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from unconv.errors import ShapeError, UnconvError
from unconv.pictures.draw import grid

_LARGEST = 100_000_000  # samples of a picture
_LETTERS = 11  # pixels that a label is high, about
_GAP = 10  # pixels between tiles

Tile = Sequence[Image.Image]
"""Pictures of one unit that stand side by side."""


def refuse_size(count: int, columns: int, side: int, side_by_side: int = 2) -> None:
    """Refuse a picture without pixels, or too large for memory."""
    if columns < 1 or side < 1 or side_by_side * count * side**2 > _LARGEST:
        raise ShapeError(
            f"picture: {columns} columns of {count} projections, {side} pixels a side, but at least 1 of each, and at most "
            f"{_LARGEST} pixels in all, were needed. Choose a smaller side, or fewer units."
        )


def sheet(tiles: Sequence[Tile], labels: Sequence[str], columns: int, side: int) -> Image.Image:
    """Lay tiles in rows of `columns`, each over its label, if there are labels."""
    joined = [grid([enlarged(picture, side) for picture in tile], len(tile), 2) for tile in tiles]
    if labels:
        joined = [_over(tile, label) for tile, label in zip(joined, labels, strict=True)]
    return grid(joined, columns, _GAP)


def _over(tile: Image.Image, label: str) -> Image.Image:
    """Return a tile with its label below."""
    font = ImageFont.load_default(_LETTERS)
    left, _top, right, bottom = font.getbbox(label)
    canvas = Image.new("RGB", (max(tile.width, int(right - left) + 2), tile.height + int(bottom) + 4), "white")
    canvas.paste(tile, (0, 0))
    ImageDraw.Draw(canvas).text((1, tile.height + 2), label, fill="black", font=font)
    return canvas


def plotted(tiles: Sequence[Tile], labels: Sequence[str], columns: int, side: int, kind: str) -> bytes:
    """Return the same sheet as a figure of matplotlib's: labels stay text, samples stay squares.

    Args:
        kind: pdf or svg.

    Raises:
        UnconvError: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UnconvError(
            f"save: matplotlib cannot be imported ({error}), but .{kind} needs it. "
            'Install it with pip install "unconv[plot]", or save as .png.'
        ) from error
    columns = min(columns, len(tiles))
    rows, wide = -(-len(tiles) // columns), len(tiles[0])
    inch = side / 96  # as large as a screen shows the picture
    figure = Figure(figsize=(columns * (wide * inch + 0.2), rows * (inch + 0.35)))
    cells = figure.subplots(rows, columns, squeeze=False).flat
    for cell in cells:
        cell.set_axis_off()
    for cell, tile, label in zip(figure.axes, tiles, labels or [""] * len(tiles), strict=False):
        cell.set_title(label, fontsize=7, y=0, pad=-10, loc="left")
        for at, picture in enumerate(tile):
            _place(cell, picture, at, wide)
    buffer = io.BytesIO()
    # Without dates and random names, the same projections give the same bytes.
    with rc_context({"svg.hashsalt": "unconv", "svg.fonttype": "none", "pdf.fonttype": 42}):
        figure.savefig(buffer, format=kind, metadata={"CreationDate": None} if kind == "pdf" else {"Date": None})
    return buffer.getvalue()


def _place(cell: Any, picture: Image.Image, at: int, wide: int) -> None:
    """Draw one picture of a tile in its share of the cell."""
    inset = cell.inset_axes((at / wide, 0, 0.98 / wide, 1))
    inset.imshow(picture.convert("RGB"), interpolation="nearest")
    inset.set_axis_off()


def enlarged(picture: Image.Image, side: int) -> Image.Image:
    """Blown up by whole steps, pixels staying square, until the longer side nears `side`; shrunk if larger."""
    longest = max(picture.size)
    if longest > side:
        size = (max(1, round(picture.width * side / longest)), max(1, round(picture.height * side / longest)))
        return picture.resize(size, Image.Resampling.LANCZOS)
    step = max(1, side // longest)
    return picture.resize((picture.width * step, picture.height * step), Image.Resampling.NEAREST)
