"""Write a site: a folder of pages on every unit of an index, opened from a file or put on any server."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from unconv.errors import WriteError
from unconv.files import write
from unconv.files.file import said_in_words
from unconv.progress import Progress
from unconv.render.page import keys, stylesheet, wall_script
from unconv.reverse.method_table import Method
from unconv.reverse.methods import Rules
from unconv.scan import Index
from unconv.web.contents import Contents
from unconv.web.gathering import Gathering
from unconv.web.pages import Pages
from unconv.web.sheets import PairSheet, Thumbnails, UnitSheet
from unconv.web.spool import Spool

LIST, SPOOL = "site.json", "tiles.partial"
_STORED = (".webp",)


def write_site(
    index: Index,
    folder: str | Path,
    n: int = 9,
    distinct: bool = True,
    method: Method | Rules = "deconvnet",
    progress: Progress | None = None,
) -> list[str]:
    """Write the site of an index into a folder; stopped, it goes on where it was. Return what was noted on the way.

    The pages need no script and no server. Tiles are kept in a file in the folder until the site is whole.

    Args:
        n: pictures of each unit.
        distinct: leave out pictures nearly identical to a stronger one.

    Raises:
        WriteError: the folder holds something else, or another site.
        ModelError, ShapeError, ScanError: as `Index.projections`.
    """
    folder = Path(folder)
    contents = Contents(index, n, distinct, method)
    if _refuse_taken(folder, contents.hash):
        (folder / SPOOL).unlink(missing_ok=True)  # of a run that was stopped between the two
        return []
    with said_in_words(folder):
        folder.mkdir(parents=True, exist_ok=True)
    tell = progress or (lambda *_: None)
    with Spool(folder / SPOOL, contents.hash) as spool:
        _tell(folder, contents, whole=False)
        gathering = Gathering(contents, spool, tell)
        gathering.run()
        _write_pages(folder, contents, spool, gathering.missing, tell)
        notes = [f"{contents.columns[k].key}: {why}" for k, why in sorted(gathering.missing.items())]
        if not notes:
            if hasattr(os, "sync"):
                os.sync()  # no page may be lost by a power cut that comes after the site is called whole
            _tell(folder, contents, whole=True)
            if os.name == "posix":  # while it is locked; elsewhere no open file can be deleted
                (folder / SPOOL).unlink()
    if not notes:
        (folder / SPOOL).unlink(missing_ok=True)
    return notes


def zipped(folder: Path, path: Path) -> None:
    """Pack a site into one file, whole or not at all.

    Raises:
        WriteError: it cannot be written.
    """
    folder, partial = folder.resolve(), path.with_name(f".{path.name}.partial")
    with said_in_words(path):
        with zipfile.ZipFile(partial, "w") as packed:
            for file in sorted(file for file in folder.rglob("*") if file.is_file() and file.name != SPOOL):
                kind = zipfile.ZIP_STORED if file.suffix in _STORED else zipfile.ZIP_DEFLATED
                packed.write(file, Path(folder.name) / file.relative_to(folder), kind)
        os.replace(partial, path)


def _refuse_taken(folder: Path, made: str) -> bool:
    """Refuse a folder with something else in it; return whether it holds this site, and whole."""
    if not folder.exists() or (folder.is_dir() and not {path.name for path in folder.iterdir()} - {SPOOL}):
        return False
    try:
        known = json.loads((folder / LIST).read_text(encoding="utf-8"))
        held, whole = known["made_from"], bool(known["whole"])
    except (OSError, ValueError, TypeError, LookupError):
        raise WriteError(f"site: {folder} holds something that is no site of ours. Choose another folder.") from None
    if held != made:
        raise WriteError(
            f"site: {folder} holds the site of another index, or one made with other settings or another version. Choose "
            "another folder, or delete that one."
        )
    return whole


def _tell(folder: Path, contents: Contents, whole: bool) -> None:
    told = {"made_from": contents.hash, "whole": whole, "index": contents.index.made_from, "n": contents.n}
    write(folder / LIST, json.dumps(told).encode())


def _write_pages(folder: Path, contents: Contents, spool: Spool, missing: dict[int, str], progress: Progress) -> None:
    for name, content in (("style.css", stylesheet()), ("keys.js", keys()), ("wall.js", wall_script())):
        _put(folder / name, content)
    progress("comparing units", 0, 1)
    pages, units = Pages(contents, spool, missing), len(list(contents.units))
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for done, (name, content) in enumerate(_sheets_and_pages(contents, spool, pages, pool)):
            _put(folder / name, content)
            progress("drawing", min(done / 2, units), units)
    sampled = [unit for units_of_place in contents.sampled for unit in units_of_place]
    starts = [sum(map(len, contents.sampled[:k])) for k in range(len(contents.places))]
    front = PairSheet.front(sampled)
    _put(folder / "front.webp", front.picture(contents, spool))
    name, content = pages.front(front, starts)
    _put(folder / name, content)


def _put(path: Path, content: bytes) -> None:
    """Write a file. A run that stops in the middle of it has not called the site whole, and the next one writes it anew."""
    with said_in_words(path):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


def _sheets_and_pages(contents: Contents, spool: Spool, pages: Pages, pool: ThreadPoolExecutor) -> Iterator[tuple[str, bytes]]:
    """Yield every file of every place, sheets drawn in a few threads, and those of the pictures."""
    for place in contents.places:
        sheets = pool.map(lambda unit, place=place: UnitSheet(place, unit, contents.n).picture(spool), place.live)
        wall = PairSheet.wall(place)
        drawn = pool.submit(wall.picture, contents, spool)
        for unit in place.units:
            sheet, scale = next(sheets) if unit.top else (b"", 0.0)
            yield pages.unit(place, unit, scale)
            if sheet:
                yield f"{place.folder}/{unit.channel}.webp", sheet
        yield f"{place.folder}/wall.webp", drawn.result()
        yield pages.place(place, wall)
    groups = Thumbnails.groups(contents)
    for group, thumbnails in enumerate(groups):
        yield f"pictures/{group:04d}.webp", thumbnails.picture(spool)
    yield from pages.pictures(groups)
