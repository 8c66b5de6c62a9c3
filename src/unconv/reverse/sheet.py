"""Lay out projections as numbered tiles in rows, in a picture or a figure of matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from unconv.errors import ShapeError, UnconvError
from unconv.pictures.draw import grid

_LARGEST = 100_000_000  # samples of a picture
_LETTERS = 11  # approximate height of a label, in pixels
_GAP = 10  # pixels between tiles

Tile = Sequence[Image.Image]
"""The pictures of one unit, side by side."""


def refuse_size(count: int, columns: int, side: int, side_by_side: int = 2) -> None:
    """Refuse a picture without pixels, or one too large for memory."""
    if columns < 1 or side < 1 or side_by_side * count * side**2 > _LARGEST:
        raise ShapeError(
            f"picture: {columns} columns of {count} projections, {side} pixels a side, but at least 1 of each, and at most "
            f"{_LARGEST} pixels in all, were needed. Choose a smaller side, or fewer units."
        )


def sheet(tiles: Sequence[Tile], labels: Sequence[str], columns: int, side: int) -> Image.Image:
    """Return a picture of tiles in rows of `columns`, each with its label below it, if there are labels."""
    joined = [grid([enlarged(picture, side) for picture in tile], len(tile), 2) for tile in tiles]
    if labels:
        joined = [_over(tile, label) for tile, label in zip(joined, labels, strict=True)]
    return grid(joined, columns, _GAP)


def _over(tile: Image.Image, label: str) -> Image.Image:
    """Return a tile with its label below."""
    font = ImageFont.load_default(_LETTERS)
    left_edge, _top, right, bottom = font.getbbox(label)
    canvas = Image.new("RGB", (max(tile.width, int(right - left_edge) + 2), tile.height + int(bottom) + 4), "white")
    canvas.paste(tile, (0, 0))
    ImageDraw.Draw(canvas).text((1, tile.height + 2), label, fill="black", font=font)
    return canvas


def plotted(tiles: Sequence[Tile], labels: Sequence[str], columns: int, side: int, kind: str) -> bytes:
    """Return the sheet as a figure of matplotlib, in which labels are text and samples are squares.

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
    inch = side / 96  # the size on a screen of 96 pixels to the inch
    figure = Figure(figsize=(columns * (wide * inch + 0.2), rows * (inch + 0.35)))
    cells = figure.subplots(rows, columns, squeeze=False).flat
    for cell in cells:
        cell.set_axis_off()
    for cell, tile, label in zip(figure.axes, tiles, labels or [""] * len(tiles), strict=False):
        cell.set_title(label, fontsize=7, y=0, pad=-10, loc="left")
        for column, picture in enumerate(tile):
            _draw_in(cell, picture, column, wide)
    buffer = io.BytesIO()
    # Without dates and random names, the same projections give the same bytes.
    with rc_context({"svg.hashsalt": "unconv", "svg.fonttype": "none", "pdf.fonttype": 42}):
        figure.savefig(buffer, format=kind, metadata={"CreationDate": None} if kind == "pdf" else {"Date": None})
    return buffer.getvalue()


def _draw_in(cell: Any, picture: Image.Image, column: int, wide: int) -> None:
    """Draw one picture of a tile in its column of the cell."""
    inset = cell.inset_axes((column / wide, 0, 0.98 / wide, 1))
    inset.imshow(picture.convert("RGB"), interpolation="nearest")
    inset.set_axis_off()


def enlarged(picture: Image.Image, side: int) -> Image.Image:
    """Return a picture enlarged by an integer factor until its longer side is nearly `side`, or reduced if it is larger."""
    longest = max(picture.size)
    if longest > side:
        size = (max(1, round(picture.width * side / longest)), max(1, round(picture.height * side / longest)))
        return picture.resize(size, Image.Resampling.LANCZOS)
    step = max(1, side // longest)
    return picture.resize((picture.width * step, picture.height * step), Image.Resampling.NEAREST)
