"""The contents of a site: the units of an index, their pictures, and the address of each."""

from __future__ import annotations

import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from unconv.errors import ShapeError, counted
from unconv.files import file_names
from unconv.reverse.method_table import Method
from unconv.reverse.methods import Rules, method_named
from unconv.scan import Index
from unconv.scan.index import Found, UnitStatistics
from unconv.version import __version__
from unconv.web.tiles import Cell

SIDE, SMALL = 96, 48  # pixels of a tile, and of a small one in the margin
_MANY, _SIDE_OF_MANY = (
    2500,
    68,
)  # with more units than this the tiles are smaller, so that a site is not too large for a web server
_MOST = 64  # pictures of a unit: the stylesheet has rules for as many
TAKEN = ("pictures", "index.html", "style.css", "keys.js", "wall.js", "front.webp", "site.json", "tiles.partial")
"""Names that the folder of a place cannot have."""
_LEVELS = 10  # octaves below the strongest picture: 2**10 below it is practically zero
GROUP = 100  # pictures per page
_FEW = 4000  # with more pictures than this the thumbnails are smaller
_SEED = 0  # of the units on the front page, and of the order of the links "random"


@dataclass(frozen=True)
class ShownUnit:
    """A unit and its pictures.

    Args:
        place: the number of its place.
        top, levels, lowest: its strongest pictures, those at each octave, and the lowest, each strongest first.
    """

    place: int
    channel: int
    statistics: UnitStatistics
    top: list[Found]
    levels: list[Found]
    lowest: list[Found]


@dataclass(frozen=True)
class ShownPlace:
    """A place of the network, and the size of its tiles.

    Args:
        facts: the facts that the scan recorded.
        folder: the folder of its pages.
        cell, small: the size of its tiles, and of small ones.
    """

    number: int
    facts: dict[str, Any]
    folder: str
    cell: Cell
    small: Cell
    units: list[ShownUnit]

    @property
    def name(self) -> str:
        return str(self.facts["name"])

    @property
    def live(self) -> list[ShownUnit]:
        """The units that responded to a picture."""
        return [unit for unit in self.units if unit.top]


class Contents:
    """All contents of a site.

    Args:
        n: pictures of each unit.
        distinct: leave out pictures nearly identical to a stronger one.

    Raises:
        ShapeError: the network takes no pictures, or the scan kept fewer pictures than are to be shown.
    """

    def __init__(self, index: Index, n: int = 9, distinct: bool = True, method: Method | Rules = "deconvnet") -> None:
        if len(index.run["input"]) != 3:
            raise ShapeError(f"site: {index.run['network']} takes no pictures, but {len(index.run['input']) - 1} axes.")
        if not 1 <= n <= _MOST:
            raise ShapeError(
                f"site: {counted(n, 'picture')} per unit came, but 1 to {_MOST} were needed. Choose another number."
            )
        self.index, self.n, self.distinct, self.method = index, n, distinct, method_named(method)
        height, width = index.run["input"][1:]
        self.frame = (int(height), int(width))
        self.columns = index.pictures()
        folders = file_names(index.places, taken=TAKEN)
        statistics = defaultdict[str, list[UnitStatistics]](list)
        for unit in index.units():
            statistics[unit.place].append(unit)
        self.side = SIDE if sum(map(len, statistics.values())) <= _MANY else _SIDE_OF_MANY
        self.places = [
            self._place(number, facts, folder, statistics[facts["name"]])
            for number, (facts, folder) in enumerate(zip(index.run["places"], folders, strict=True))
        ]

    def _place(self, number: int, facts: dict[str, Any], folder: str, statistics: list[UnitStatistics]) -> ShownPlace:
        receptive_field = facts["receptive_field"] if any(facts["stride"]) else self.frame
        cell, small = (Cell.of(receptive_field, self.frame, side) for side in (self.side, SMALL))
        return ShownPlace(number, facts, folder, cell, small, [self._unit(number, unit) for unit in statistics])

    def _unit(self, number: int, unit: UnitStatistics) -> ShownUnit:
        at = (unit.place, unit.channel)
        lowest = self.index.lowest(*at, self.n, self.distinct) if self.index.run["lowest"] else []
        top, levels = self.index.top(*at, self.n, self.distinct), self.index.levels(*at)[:_LEVELS]
        return ShownUnit(number, unit.channel, unit, top, levels, lowest)

    @property
    def units(self) -> Iterator[ShownUnit]:
        """The units of all places."""
        return (unit for place in self.places for unit in place.units)

    @cached_property
    def hash(self) -> str:
        """The SHA-256 of everything on which the site depends."""
        inputs = [self.index.made_from, self.n, self.distinct, self.method.name, self.side, SMALL, _LEVELS, __version__]
        return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()

    @cached_property
    def among(self) -> dict[int, list[tuple[ShownUnit, int]]]:
        """For each picture: the units among whose strongest it is, each with its rank there, ordered by place and channel."""
        units_by_picture = defaultdict[int, list[tuple[ShownUnit, int]]](list)
        for unit in self.units:
            for rank, entry in enumerate(unit.top):
                units_by_picture[entry.picture].append((unit, rank))
        return dict(sorted(units_by_picture.items()))

    @property
    def thumbnail_side(self) -> int:
        """The longer side of a thumbnail in pixels."""
        return SIDE if len(self.among) <= _FEW else 64

    @cached_property
    def next_random(self) -> dict[tuple[int, int], ShownUnit]:
        """The unit to which the link "random" of each live unit leads; following it visits all of them."""
        live = [unit for unit in self.units if unit.top]
        random.Random(_SEED).shuffle(live)
        return {(a.place, a.channel): b for a, b in zip(live, live[1:] + live[:1], strict=True)}

    @cached_property
    def sampled(self) -> list[list[ShownUnit]]:
        """At most nine live units of every place, drawn at random, ordered by channel."""
        generator = random.Random(_SEED)
        return [
            sorted(generator.sample(place.live, min(9, len(place.live))), key=lambda unit: unit.channel)
            for place in self.places
        ]

    def picture_page(self, picture: int) -> str | None:
        """Return the address of a picture, relative to the site's folder; None if it is not among any unit's strongest."""
        return f"{group_page(self._numbers[picture] // GROUP)}#p{picture}" if picture in self.among else None

    @cached_property
    def _numbers(self) -> dict[int, int]:
        return {picture: number for number, picture in enumerate(self.among)}

    def unit_page(self, unit: ShownUnit) -> str:
        """Return the address of a unit's page, relative to the site's folder."""
        return f"{self.places[unit.place].folder}/{unit.channel}.html"


def group_page(group: int) -> str:
    """Return the address of the page of a hundred pictures."""
    return f"pictures/{group:04d}.html"
