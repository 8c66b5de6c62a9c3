"""Draw the paper's figure 2: projections of units in their strongest pictures, beside the patches that the units saw."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from math import ceil, sqrt
from pathlib import Path

from PIL import Image

from unconv.errors import NoSuchUnit, ShapeError
from unconv.files import refuse_unwritable, write
from unconv.pictures.draw import common_scale, grid
from unconv.pictures.encode import png
from unconv.render.picture import patch_picture, projection_picture, visible_box
from unconv.reverse.method_table import Method
from unconv.reverse.methods import Rules
from unconv.reverse.reconstruction import Reconstructions
from unconv.reverse.sheet import enlarged, plotted, refuse_size, sheet
from unconv.scan import Index
from unconv.scan.winners import Winner

_KINDS = (".png", ".pdf", ".svg")
_GAP = 2
Unit = tuple[str, int]


def save_figure(
    index: Index,
    path: Path,
    units: Sequence[Unit],
    n: int = 9,
    columns: int = 3,
    side: int = 64,
    distinct: bool = True,
    method: Method | Rules = "deconvnet",
) -> list[str]:
    """Write a figure of some units, each with a square of projections and one of patches, and return notes.

    Args:
        path: the file, .png, .pdf or .svg.
        units: (place, channel) of each unit.
        n: pictures per unit.
        columns: units per row.
        side: the longest side of a tile in pixels.
        distinct: leave out pictures nearly identical to a stronger one.

    Raises:
        ShapeError: the file is of another kind, or the network takes no pictures.
        NoSuchUnit: no unit responded to any picture.
    """
    if path.suffix.lower() not in _KINDS:
        raise ShapeError(f"figure: path is {path.name}, but a name that ends in {', '.join(_KINDS)} was needed. Choose one.")
    if len(index.run["input"]) != 3:
        raise ShapeError(f"figure: {index.run['network']} takes no pictures, but {len(index.run['input']) - 1} axes.")
    # All that can be refused is refused before the pictures are read, which may take minutes.
    refuse_size(len(units) * n, columns, side)
    refuse_unwritable(path)
    tops = [(unit, index.top(*unit, n, distinct)) for unit in units]
    live = [(unit, entries) for unit, entries in tops if entries]
    if not live:
        raise NoSuchUnit("figure: none of these units responded to any picture. Choose others: `unconv top INDEX` lists them.")
    winners = [[Winner(*unit, e.picture, e.key, e.position, e.value) for e in entries] for unit, entries in live]
    squares, notes = dict[Unit, tuple[Image.Image, Image.Image]](), list[str]()
    for reconstructions in index.projected(winners, method):
        channel = reconstructions.units[0][0]
        assert channel is not None
        squares[reconstructions.place.name, channel] = _squares(reconstructions, side)
        notes += [note for note in reconstructions.notes if note not in notes]
    tiles = [squares[unit] for unit, _ in live]
    labels = [f"{place}, channel {channel}" for (place, channel), _ in live]
    square_side = side * ceil(sqrt(n)) + _GAP * (ceil(sqrt(n)) - 1)
    if path.suffix.lower() == ".png":
        write(path, png(sheet(tiles, labels, columns, square_side)))
    else:
        write(path, plotted(tiles, labels, columns, square_side, path.suffix.lower()[1:]))
    dead = [f"{place}, channel {channel}, responded to no picture" for (place, channel), entries in tops if not entries]
    return [*notes, *dead]


def _squares(reconstructions: Reconstructions, side: int) -> tuple[Image.Image, Image.Image]:
    """Return a unit's projections, on one scale, and the patches, each in a square, strongest first."""
    scale = common_scale(reconstructions.windows)
    projections, patches = [], []
    for reconstruction in reconstructions:
        box = visible_box(reconstruction.box, reconstruction.shown.shape[1:])
        projections.append(
            _flat(projection_picture(reconstruction.drawn(box), reconstruction.shown, box, scale), side, (128, 128, 128))
        )
        patches.append(_flat(patch_picture(reconstruction.shown, box), side, (255, 255, 255)))
    columns = ceil(sqrt(len(projections)))
    return grid(projections, columns, _GAP), grid(patches, columns, _GAP)


def _flat(picture: Image.Image, side: int, background: tuple[int, int, int]) -> Image.Image:
    """Lay a picture, which may be transparent outside the image, over a background of one colour."""
    picture = picture.convert("RGBA")
    opaque = Image.alpha_composite(Image.new("RGBA", picture.size, (*background, 255)), picture).convert("RGB")
    return enlarged(opaque, side)


def chosen_units(index: Index, places: Sequence[str], channels: str, seed: int) -> list[Unit]:
    """Return the units that a text names: "3,17", or "random:4" for four responding channels of each place.

    Raises:
        NoSuchUnit: the text is neither, or a place does not exist.
    """
    random_count = re.fullmatch(r"random(?::([1-9]\d*))?", channels)
    if not random_count:
        if not re.fullmatch(r"\d+(,\d+)*", channels):
            raise NoSuchUnit(
                f"channels: {channels!r} came, but numbers such as 3,17, or random:4, were needed. Name channels so."
            )
        return [(place, int(channel)) for place in places for channel in channels.split(",")]
    count, live = int(random_count[1] or 1), dict[str, list[int]]()
    for unit in index.units():
        if not unit.dead:
            live.setdefault(unit.place, []).append(unit.channel)
    units = list[Unit]()
    for place in places:
        index.top(place, 0)  # raises, and names the places, if there is no such place
        candidates = live.get(place, [])
        # Seeded by the place, too, so that a place gets the same units whichever others are named with it.
        units += [
            (place, channel)
            for channel in sorted(random.Random(f"{seed} {place}").sample(candidates, min(count, len(candidates))))
        ]
    return units
