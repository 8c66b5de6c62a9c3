"""The paper's figure 2: of some units the projections in their strongest pictures, and beside them the same patches."""

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
    """Write a figure of some units: of each a square of projections, and one of patches; return what was noted on the way.

    Args:
        path: .png, .pdf or .svg.
        units: (place, channel) of each.
        n: pictures a unit; `columns`: units a row; `side`: pixels of a tile's longer side, at most.
        distinct: leave out pictures nearly identical to a stronger one.

    Raises:
        ShapeError: the kind of file is none of these, or the network takes no pictures.
        NoSuchUnit: no unit responded to any picture.
    """
    if path.suffix.lower() not in _KINDS:
        raise ShapeError(f"figure: {path.name} came, but a name that ends with {', '.join(_KINDS)} was needed. Choose one.")
    if len(index.run["input"]) != 3:
        raise ShapeError(f"figure: {index.run['network']} takes no pictures, but {len(index.run['input']) - 1} axes.")
    # Whatever can be refused is refused before the pictures are read, which may take minutes.
    refuse_size(len(units) * n, columns, side)
    refuse_unwritable(path)
    found = [(unit, index.top(*unit, n, distinct)) for unit in units]
    live = [(unit, entries) for unit, entries in found if entries]
    if not live:
        raise NoSuchUnit("figure: none of these units responded to any picture. Choose others: `unconv top INDEX` lists them.")
    winners = [[Winner(*unit, e.picture, e.key, e.position, e.value) for e in entries] for unit, entries in live]
    drawn, notes = dict[Unit, tuple[Image.Image, Image.Image]](), list[str]()
    for one in index.projected(winners, method):
        channel = one.units[0][0]
        assert channel is not None
        drawn[one.place.name, channel] = _squares(one, side)
        notes += [note for note in one.notes if note not in notes]
    tiles = [drawn[unit] for unit, _ in live]
    labels = [f"{place}, channel {channel}" for (place, channel), _ in live]
    whole = side * ceil(sqrt(n)) + _GAP * (ceil(sqrt(n)) - 1)
    if path.suffix.lower() == ".png":
        write(path, png(sheet(tiles, labels, columns, whole)))
    else:
        write(path, plotted(tiles, labels, columns, whole, path.suffix.lower()[1:]))
    dead = [f"{place}, channel {channel}, responded to no picture" for (place, channel), entries in found if not entries]
    return [*notes, *dead]


def _squares(one: Reconstructions, side: int) -> tuple[Image.Image, Image.Image]:
    """Return a unit's projections, on one scale, and the patches, each in a square, strongest first."""
    scale = common_scale(one.windows)
    projections, patches = [], []
    for single in one:
        box = visible_box(single.box, single.shown.shape[1:])
        projections.append(_flat(projection_picture(single.drawn(box), single.shown, box, scale), side, (128, 128, 128)))
        patches.append(_flat(patch_picture(single.shown, box), side, (255, 255, 255)))
    columns = ceil(sqrt(len(projections)))
    return grid(projections, columns, _GAP), grid(patches, columns, _GAP)


def _flat(picture: Image.Image, side: int, under: tuple[int, int, int]) -> Image.Image:
    """Lay a picture, which may be transparent outside the image, over one colour."""
    picture = picture.convert("RGBA")
    whole = Image.alpha_composite(Image.new("RGBA", picture.size, (*under, 255)), picture).convert("RGB")
    return enlarged(whole, side)


def chosen_units(index: Index, places: Sequence[str], channels: str, seed: int) -> list[Unit]:
    """Return the units that a text names: "3,17", or "random:4" of those that respond, drawn anew for each place.

    Raises:
        NoSuchUnit: it names none.
    """
    drawn = re.fullmatch(r"random(?::([1-9]\d*))?", channels)
    if not drawn:
        if not re.fullmatch(r"\d+(,\d+)*", channels):
            raise NoSuchUnit(f'channels: {channels!r} came, but channels, such as 3,17, or "random:4" were needed.')
        return [(place, int(channel)) for place in places for channel in channels.split(",")]
    count, live = int(drawn[1] or 1), dict[str, list[int]]()
    for unit in index.units():
        if not unit.dead:
            live.setdefault(unit.place, []).append(unit.channel)
    found = list[Unit]()
    for place in places:
        index.top(place, 0)  # says which places there are
        some = live.get(place, [])
        found += [(place, channel) for channel in sorted(random.Random(f"{seed} {place}").sample(some, min(count, len(some))))]
    return found
