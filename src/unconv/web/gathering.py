"""Gather the tiles of a site: every picture is read and recorded once, and what was gathered before is not again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from unconv.errors import PictureError
from unconv.pictures.preprocess import shown
from unconv.progress import Progress
from unconv.reverse.reconstruction import Reconstruction
from unconv.scan.index import Found
from unconv.scan.winners import Winner, difference
from unconv.web.contents import Contents, ShownUnit
from unconv.web.spool import Key, Spool
from unconv.web.tiles import Cell, patch_tile, projection_tile, thumbnail

PROJECTION, PATCH, LEVEL, LOWEST, THUMBNAIL = "projection", "patch", "level", "lowest", "thumbnail"

"""Told what is being done, how much of it, and of how much."""


def key(kind: str, unit: ShownUnit, rank: int) -> Key:
    """Return the key of a unit's tile."""
    return (kind, unit.place, unit.channel, rank)


class Gathering:
    """Fills a spool with the tiles of a site.

    Attributes:
        missing: by the number of a picture, why it could not be read again.
    """

    def __init__(self, contents: Contents, spool: Spool, progress: Progress) -> None:
        self.contents, self.spool, self.progress = contents, spool, progress
        self.missing: dict[int, str] = {}

    def run(self) -> None:
        """Gather what the spool does not hold yet."""
        self._projections()
        self._patches()
        self.spool.flush()

    def _read(self, picture: int) -> Any:
        """Return a picture, read again; None if it cannot be."""
        try:
            return self.contents.index.source(self.contents.columns[picture])
        except PictureError as error:
            self.missing[picture] = str(error)
            return None

    def _projections(self) -> None:
        units, ranks = list[ShownUnit](), list[list[int]]()
        for unit in self.contents.units:
            if left := [rank for rank in range(len(unit.top)) if key(PROJECTION, unit, rank) not in self.spool]:
                units.append(unit)
                ranks.append(left)
        if not units:
            return
        wanted = [self._winners(unit, left) for unit, left in zip(units, ranks, strict=True)]
        pictures, seen = {winner.picture for some in wanted for winner in some}, set[int]()
        self.progress("recording pictures", 0, len(pictures))
        for (at, rank), one in self.contents.index.single_projections(wanted, self._read, self.contents.method):
            if one.picture not in seen:
                self.spool.flush()  # of one picture all tiles or none may be lost, never half of one
                seen.add(one.picture)
                self.progress("recording pictures", len(seen) + len(self.missing), len(pictures))
            self._put(units[at], ranks[at][rank], one, difference(one, wanted[at][rank]))

    def _winners(self, unit: ShownUnit, ranks: Sequence[int]) -> list[Winner]:
        name = self.contents.places[unit.place].name
        some = [unit.top[rank] for rank in ranks]
        return [Winner(name, unit.channel, e.picture, e.key, e.position, e.value) for e in some]

    def _put(self, unit: ShownUnit, rank: int, one: Reconstruction, differs: str) -> None:
        cell, frame = self.contents.places[unit.place].cell, self.contents.frame
        patch = patch_tile(one.shown, one.box, cell)
        if (THUMBNAIL, one.picture) not in self.spool:
            self.spool.put((THUMBNAIL, one.picture), thumbnail(one.shown, self.contents.thumbnail_side))
        self.spool.put(key(PATCH, unit, rank), patch)
        told = [note for note in one.notes if note != differs]
        tile = projection_tile(one.drawn(patch.box), patch.box, frame, cell)
        self.spool.put(key(PROJECTION, unit, rank), tile, differs=[differs] if differs else [], notes=told)

    def _patches(self) -> None:
        wanted = defaultdict[int, list[tuple[Key, Found, Cell]]](list)
        for unit in self.contents.units:
            small = self.contents.places[unit.place].small
            for kind, entries in ((LEVEL, unit.levels), (LOWEST, unit.lowest)):
                for rank, entry in enumerate(entries):
                    if key(kind, unit, rank) not in self.spool:
                        wanted[entry.picture].append((key(kind, unit, rank), entry, small))
        for done, (picture, some) in enumerate(sorted(wanted.items())):
            if done % 50 == 0:
                self.progress("cutting out patches", done, len(wanted))
                self.spool.flush()
            if (look := self._look(picture)) is not None:
                for name, entry, cell in some:
                    self.spool.put(name, patch_tile(look, entry.box, cell))

    def _look(self, picture: int) -> Tensor | None:
        """Return a prepared picture as it looks; None if it cannot be read."""
        source = None if picture in self.missing else self._read(picture)
        if source is None:
            return None
        network = self.contents.index.network
        return shown(network.prepared(source)[0][0], network.preparation)
