"""Gather the tiles of a site; each picture is read and recorded once, and tiles of an earlier run are not gathered again."""

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


def key(kind: str, unit: ShownUnit, rank: int) -> Key:
    """Return the key of a unit's tile in the spool."""
    return (kind, unit.place, unit.channel, rank)


class Gathering:
    """Fill a spool with the tiles of a site.

    Attributes:
        missing: for each picture that could not be read again, by its number, the reason.
    """

    def __init__(self, contents: Contents, spool: Spool, progress: Progress) -> None:
        self.contents, self.spool, self.progress = contents, spool, progress
        self.missing: dict[int, str] = {}

    def run(self) -> None:
        """Gather the tiles that the spool does not hold yet."""
        self._projections()
        self._patches()
        self.spool.flush()

    def _read(self, picture: int) -> Any:
        """Return a picture, read again; None if it cannot be read."""
        try:
            return self.contents.index.source(self.contents.columns[picture])
        except PictureError as error:
            self.missing[picture] = str(error)
            return None

    def _projections(self) -> None:
        """Gather the tiles of projections that are missing, with patches and thumbnails, picture by picture."""
        units, ranks = list[ShownUnit](), list[list[int]]()
        for unit in self.contents.units:
            if missing_ranks := [rank for rank in range(len(unit.top)) if key(PROJECTION, unit, rank) not in self.spool]:
                units.append(unit)
                ranks.append(missing_ranks)
        if not units:
            return
        all_winners = [self._winners(unit, missing_ranks) for unit, missing_ranks in zip(units, ranks, strict=True)]
        pictures, recorded = {winner.picture for winners in all_winners for winner in winners}, set[int]()
        self.progress("recording pictures", 0, len(pictures))
        for (number, rank), reconstruction in self.contents.index.single_projections(
            all_winners, self._read, self.contents.method
        ):
            if reconstruction.picture not in recorded:
                self.spool.flush()  # if the run is killed, all tiles of a picture are lost or none
                recorded.add(reconstruction.picture)
                self.progress("recording pictures", len(recorded) + len(self.missing), len(pictures))
            self._put(units[number], ranks[number][rank], reconstruction, difference(reconstruction, all_winners[number][rank]))

    def _winners(self, unit: ShownUnit, ranks: Sequence[int]) -> list[Winner]:
        name = self.contents.places[unit.place].name
        entries = [unit.top[rank] for rank in ranks]
        return [Winner(name, unit.channel, e.picture, e.key, e.position, e.value) for e in entries]

    def _put(self, unit: ShownUnit, rank: int, reconstruction: Reconstruction, difference_note: str) -> None:
        cell, frame = self.contents.places[unit.place].cell, self.contents.frame
        patch = patch_tile(reconstruction.shown, reconstruction.box, cell)
        if (THUMBNAIL, reconstruction.picture) not in self.spool:
            self.spool.put((THUMBNAIL, reconstruction.picture), thumbnail(reconstruction.shown, self.contents.thumbnail_side))
        self.spool.put(key(PATCH, unit, rank), patch)
        notes = [note for note in reconstruction.notes if note != difference_note]
        tile = projection_tile(reconstruction.drawn(patch.box), patch.box, frame, cell)
        self.spool.put(key(PROJECTION, unit, rank), tile, differs=[difference_note] if difference_note else [], notes=notes)

    def _patches(self) -> None:
        """Gather the small patches of levels and lowest pictures that are missing; no network is needed for them."""
        by_picture = defaultdict[int, list[tuple[Key, Found, Cell]]](list)
        for unit in self.contents.units:
            small = self.contents.places[unit.place].small
            for kind, entries in ((LEVEL, unit.levels), (LOWEST, unit.lowest)):
                for rank, entry in enumerate(entries):
                    if key(kind, unit, rank) not in self.spool:
                        by_picture[entry.picture].append((key(kind, unit, rank), entry, small))
        for done, (picture, tiles) in enumerate(sorted(by_picture.items())):
            if done % 50 == 0:
                self.progress("cutting out patches", done, len(by_picture))
                self.spool.flush()
            if (prepared := self._prepared_picture(picture)) is not None:
                for name, entry, cell in tiles:
                    self.spool.put(name, patch_tile(prepared, entry.box, cell))

    def _prepared_picture(self, picture: int) -> Tensor | None:
        """Return a preprocessed picture as it looks, with the normalisation undone; None if it cannot be read."""
        source = None if picture in self.missing else self._read(picture)
        if source is None:
            return None
        network = self.contents.index.network
        return shown(network.prepared(source)[0][0], network.preparation)
