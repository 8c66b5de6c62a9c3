"""Write a site: a folder of pages on every unit of an index, to be opened from disk or put on any web server."""

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
    """Write the site of an index into a folder, and return notes. A stopped run continues when this is called again.

    The pages need neither a script nor a server. Tiles are kept in a file in the folder until the site is complete.

    Args:
        n: pictures of each unit.
        distinct: leave out pictures nearly identical to a stronger one.

    Raises:
        WriteError: the folder holds something else, or another site.
        ModelError, ShapeError, ScanError: as in `Index.projections`.
    """
    folder = Path(folder)
    contents = Contents(index, n, distinct, method)
    if _refuse_taken(folder, contents.hash):
        (folder / SPOOL).unlink(missing_ok=True)  # of a run stopped between marking the site as complete and deleting it
        return []
    if not (folder / LIST).exists():
        _ = index.network  # a network with other weights is refused before the folder is taken for this site
    with said_in_words(folder):
        folder.mkdir(parents=True, exist_ok=True)
    report = progress or (lambda *_: None)
    with Spool(folder / SPOOL, contents.hash) as spool:
        _write_list(folder, contents, whole=False)
        gathering = Gathering(contents, spool, report)
        gathering.run()
        _write_pages(folder, contents, spool, gathering.missing, report)
        notes = [f"{contents.columns[k].key}: {why}" for k, why in sorted(gathering.missing.items())]
        if not notes:
            if hasattr(os, "sync"):
                os.sync()  # so that no page is lost in a power cut after the site is marked as complete
            _write_list(folder, contents, whole=True)
            if os.name == "posix":  # while it is still locked; Windows cannot delete an open file
                (folder / SPOOL).unlink()
    if not notes:
        (folder / SPOOL).unlink(missing_ok=True)
    return notes


def zipped(folder: Path, path: Path) -> None:
    """Pack a site into one ZIP file, completely or not at all.

    Raises:
        WriteError: the file cannot be written.
    """
    folder, partial = folder.resolve(), path.with_name(f".{path.name}.partial")
    with said_in_words(path):
        with zipfile.ZipFile(partial, "w") as archive:
            for file in sorted(file for file in folder.rglob("*") if file.is_file() and file.name != SPOOL):
                compression = zipfile.ZIP_STORED if file.suffix in _STORED else zipfile.ZIP_DEFLATED
                archive.write(file, Path(folder.name) / file.relative_to(folder), compression)
        os.replace(partial, path)


def _refuse_taken(folder: Path, site_hash: str) -> bool:
    """Refuse a folder that holds anything else; return whether it holds this site, complete."""
    if not folder.exists() or (folder.is_dir() and not {path.name for path in folder.iterdir()} - {SPOOL}):
        return False
    try:
        known = json.loads((folder / LIST).read_text(encoding="utf-8"))
        known_hash, is_complete = known["made_from"], bool(known["whole"])
    except (OSError, ValueError, TypeError, LookupError):
        raise WriteError(f"site: {folder} holds something other than a site of unconv. Choose another folder.") from None
    if known_hash != site_hash:
        raise WriteError(
            f"site: {folder} holds the site of another index, or one made with other settings or another version. Choose "
            "another folder, or delete that one."
        )
    return is_complete


def _write_list(folder: Path, contents: Contents, whole: bool) -> None:
    facts = {"made_from": contents.hash, "whole": whole, "index": contents.index.made_from, "n": contents.n}
    write(folder / LIST, json.dumps(facts).encode())


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
    """Write a file in place. If the run is stopped within it, the site is not yet complete and the next run rewrites it."""
    with said_in_words(path):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


def _sheets_and_pages(contents: Contents, spool: Spool, pages: Pages, pool: ThreadPoolExecutor) -> Iterator[tuple[str, bytes]]:
    """Yield every file of every place, whose sheets are drawn in several threads, then those of the pictures."""
    for place in contents.places:
        sheets = pool.map(lambda unit, place=place: UnitSheet(place, unit, contents.n).picture(spool), place.live)
        wall = PairSheet.wall(place)
        wall_picture = pool.submit(wall.picture, contents, spool)
        for unit in place.units:
            sheet, scale = next(sheets) if unit.top else (b"", 0.0)
            yield pages.unit(place, unit, scale)
            if sheet:
                yield f"{place.folder}/{unit.channel}.webp", sheet
        yield f"{place.folder}/wall.webp", wall_picture.result()
        yield pages.place(place, wall)
    groups = Thumbnails.groups(contents)
    for group, thumbnails in enumerate(groups):
        yield f"pictures/{group:04d}.webp", thumbnails.picture(spool)
    yield from pages.pictures(groups)
