"""Draw sheets: all tiles of a unit, a place, the front page or a hundred pictures in one file each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from unconv.web.contents import GROUP, SMALL, Contents, ShownPlace, ShownUnit
from unconv.web.gathering import LEVEL, LOWEST, PATCH, PROJECTION, THUMBNAIL, key
from unconv.web.spool import Spool
from unconv.web.tiles import Cell, Placed, Tile, centred, drawn, fine, laid_out, scale_of

_WIDEST, _TALLEST = 2048, 16383  # pixels of a wall: browsers blur wider ones, and WebP holds no taller ones
_SLOTS = 10  # thumbnails in a row


@dataclass(frozen=True)
class Spot:
    """The position of a tile on its sheet, in pixels and as CSS."""

    x: int
    y: int
    cell: tuple[int, int]
    sheet: tuple[int, int]

    @property
    def position(self) -> str:
        """The CSS `background-position` that shows the tile."""
        return f"{self.across} {self.down}"

    @property
    def across(self) -> str:
        """The horizontal part of `position`."""
        return _share(self.x, self.sheet[0] - self.cell[1])

    @property
    def down(self) -> str:
        """The vertical part of `position`."""
        return _share(self.y, self.sheet[1] - self.cell[0])


def size_css(cell: tuple[int, int], sheet: tuple[int, int]) -> str:
    """Return the `background-size` at which one cell fills its element."""
    return f"{100 * sheet[0] / cell[1]:.5g}% {100 * sheet[1] / cell[0]:.5g}%"


def _share(at: int, room: int) -> str:
    return f"{round(100 * at / room, 2):g}%" if room else "0"


@dataclass(frozen=True)
class UnitSheet:
    """The sheet of one unit: a row of projections, a row of patches, then small patches of the levels and of the lowest."""

    place: ShownPlace
    unit: ShownUnit
    n: int

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        cell, small = self.place.cell, self.place.small
        rows = sum(-(-len(entries) // self._slots) for entries in (self.unit.levels, self.unit.lowest))
        return self.n * cell.width, 2 * cell.height + rows * small.height

    @property
    def _slots(self) -> int:
        return max(1, self.n * self.place.cell.width // self.place.small.width)

    def projection(self, rank: int) -> Spot:
        """Return the position of the projection with this rank."""
        return self._spot(rank * self.place.cell.width, 0, self.place.cell)

    def patch(self, rank: int) -> Spot:
        """Return the position of the patch with this rank."""
        return self._spot(rank * self.place.cell.width, self.place.cell.height, self.place.cell)

    def level(self, rank: int) -> Spot:
        """Return the position of the patch of a level, counted from the strongest."""
        return self._strip(rank, 0)

    def lowest(self, rank: int) -> Spot:
        """Return the position of the patch of one of the lowest pictures."""
        return self._strip(rank, -(-len(self.unit.levels) // self._slots))

    def _strip(self, rank: int, above: int) -> Spot:
        row, column = divmod(rank, self._slots)
        small = self.place.small
        return self._spot(column * small.width, 2 * self.place.cell.height + (above + row) * small.height, small)

    def _spot(self, x: int, y: int, cell: Cell) -> Spot:
        return Spot(x, y, (cell.height, cell.width), self.size)

    def picture(self, spool: Spool) -> tuple[bytes, float]:
        """Return the sheet as WebP, and the scale that its projections share."""
        projections = [self._tile(spool, PROJECTION, rank) for rank in range(len(self.unit.top))]
        scale, placed = scale_of([tile for tile in projections if tile]), list[Placed]()
        for rank in range(len(self.unit.top)):
            for kind, spot in ((PROJECTION, self.projection(rank)), (PATCH, self.patch(rank))):
                if tile := self._tile(spool, kind, rank):
                    picture = drawn(tile, scale if kind == PROJECTION else None)
                    placed.append(centred(spot.x, spot.y, self.place.cell, picture))
        for kind, entries, where in ((LEVEL, self.unit.levels, self.level), (LOWEST, self.unit.lowest, self.lowest)):
            for rank in range(len(entries)):
                if tile := self._tile(spool, kind, rank):
                    spot = where(rank)
                    placed.append(centred(spot.x, spot.y, self.place.small, drawn(tile)))
        expected = 2 * len(self.unit.top) + len(self.unit.levels) + len(self.unit.lowest)
        holes = len(placed) < expected or len(self.unit.top) < self.n
        return laid_out(self.size, placed, fine(self.place.cell), holes), scale

    def pair(self, spool: Spool, cell: Cell) -> list[Image.Image]:
        """Return the strongest projection and its patch, no larger than a cell; [] for a unit without pictures."""
        tiles = [self._tile(spool, kind, 0) for kind in (PROJECTION, PATCH)] if self.unit.top else []
        pairs = [(tile, scale) for tile, scale in zip(tiles, (True, False), strict=False) if tile]
        return [_reduced(drawn(tile, scale_of([tile]) if signed else None), cell, self.place.cell) for tile, signed in pairs]

    def _tile(self, spool: Spool, kind: str, rank: int) -> Tile | None:
        name = key(kind, self.unit, rank)
        return spool.get(name) if name in spool else None


def _reduced(picture: Image.Image, cell: Cell, before: Cell) -> Image.Image:
    """Return a tile reduced by as much as its cell is."""
    share = min(cell.width / before.width, cell.height / before.height)
    wide, tall = (max(1, round(n * share)) for n in picture.size)
    return picture if (wide, tall) == picture.size else picture.resize((wide, tall), Image.Resampling.BOX)


@dataclass(frozen=True)
class PairSheet:
    """One pair of projection and patch for each unit, in rows: a place's wall, or the sample on the front page."""

    units: Sequence[ShownUnit]
    cell: Cell
    columns: int

    @classmethod
    def wall(cls, place: ShownPlace) -> PairSheet:
        """Return the wall of all units of a place, with smaller tiles if it would be too tall."""
        for side in range(max(place.small.height, place.small.width), 0, -1):
            cell = Cell.of(place.cell.window, place.cell.window, side)
            sheet = cls(place.units, cell, max(1, min(len(place.units), _WIDEST // (2 * cell.width))))
            if sheet.size[1] <= _TALLEST:
                break
        return sheet

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        rows = max(1, -(-len(self.units) // self.columns))
        return 2 * self.columns * self.cell.width, rows * self.cell.height

    @classmethod
    def front(cls, units: Sequence[ShownUnit]) -> PairSheet:
        """Return the sheet of the front page's units, nine in a row."""
        rows = max(1, -(-len(units) // 9))
        side = min(SMALL, _TALLEST // rows)
        return cls(units, Cell((side, side), side, side), 9)

    def spot(self, number: int) -> Spot:
        """Return the position of a unit's pair, by the unit's number."""
        row, column = divmod(number, self.columns)
        return Spot(2 * column * self.cell.width, row * self.cell.height, (self.cell.height, 2 * self.cell.width), self.size)

    def picture(self, contents: Contents, spool: Spool) -> bytes:
        """Return the sheet as WebP."""
        placed = list[Placed]()
        for number, unit in enumerate(self.units):
            spot = self.spot(number)
            pair = UnitSheet(contents.places[unit.place], unit, contents.n).pair(spool, self.cell)
            placed += [centred(spot.x + k * self.cell.width, spot.y, self.cell, one) for k, one in enumerate(pair)]
        return laid_out(self.size, placed, fine(self.cell))


@dataclass(frozen=True)
class Thumbnails:
    """A sheet of thumbnails in rows of ten."""

    pictures: Sequence[int]
    cell: Cell

    @classmethod
    def groups(cls, contents: Contents) -> list[Thumbnails]:
        """Return the sheets of all pictures among any unit's strongest, a hundred on each."""
        cell = Cell.of(contents.frame, contents.frame, contents.thumbnail_side)
        pictures = list(contents.among)
        return [cls(pictures[first : first + GROUP], cell) for first in range(0, len(pictures), GROUP)]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return min(_SLOTS, len(self.pictures)) * self.cell.width, -(-len(self.pictures) // _SLOTS) * self.cell.height

    def spot(self, number: int) -> Spot:
        """Return the position of a picture, by its number on the sheet."""
        row, column = divmod(number, _SLOTS)
        cell = self.cell
        return Spot(column * cell.width, row * cell.height, (cell.height, cell.width), self.size)

    def picture(self, spool: Spool) -> bytes:
        """Return the sheet as WebP."""
        placed = list[Placed]()
        for number, picture in enumerate(self.pictures):
            if (THUMBNAIL, picture) in spool and (tile := spool.get((THUMBNAIL, picture))):
                spot = self.spot(number)
                placed.append(centred(spot.x, spot.y, self.cell, drawn(tile)))
        return laid_out(self.size, placed)
