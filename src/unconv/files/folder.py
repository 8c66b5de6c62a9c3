"""A folder of files, written whole: in a hidden folder beside it, then moved into its place.

Only files that an earlier run of ours has listed are ever deleted or replaced. Where nothing else is in the folder, old and new
are exchanged in one step. Where other files are, or where the system cannot do that, the files are moved one by one; a run that
is killed in these milliseconds leaves the rest in the hidden folder, and the next run moves it first.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unconv.errors import WriteError
from unconv.files.exchange import exchanged
from unconv.files.file import brief, said_in_words, write
from unconv.files.names import hidden_name
from unconv.files.room import Room
from unconv.files.stops import uninterrupted

Listed = Callable[[Path], set[str]]
"""The files of ours in a folder, by the list in it: relative names with "/" between."""

_WITHIN = ".unconv"


class Staged:
    """A folder of files that are not in their final folder yet.

    Args:
        folder: the final one.
        room: the hidden folder.
        listed: tells from the list in a folder which files of it are ours.
        last: the file that leads to all others; it goes first and comes last where files are moved one by one.
    """

    def __init__(self, folder: Path, room: Path, listed: Listed, last: str) -> None:
        self.folder, self.path, self._room, self._listed, self._last = folder, room / "pages", room, listed, last

    def put(self, name: str, content: bytes) -> None:
        """Write a file, by its name relative to the folder."""
        with said_in_words(self.folder):
            path = self.path / name
            try:
                path.write_bytes(content)
            except FileNotFoundError:  # the first file of its folder
                path.parent.mkdir(parents=True)
                path.write_bytes(content)

    def publish(self) -> None:
        """Move the listed files to the final folder, replacing those that were listed there before.

        Raises:
            WriteError: it cannot be written, or a file that nobody listed has come there and is in the way.
        """
        with uninterrupted(), said_in_words(self.folder):
            new = self._listed(self.path)
            _delete(self.path, set(_files(self.path)) - new)  # what was begun when the run was stopped
            if not os.path.lexists(self.folder):
                os.rename(self.path, self.folder)
                return
            old = self._listed(self.folder)
            refuse_taken(self.folder, new, old)
            if not _others(self.folder, old) and exchanged(self.path, self.folder):
                with suppress(OSError):  # the pages are there, and the next run tries again
                    _delete(self.path, old)
                    _give_back(self.path, self.folder)
                return
            moves = {"gone": sorted(old - new), "last": self._last}
            (self._room / "moves.json").write_text(json.dumps(moves), encoding="utf-8")
            os.rename(self.path, self._room / "whole")  # from here on the next run completes what this one does not
            _move(self._room, self.folder)


@contextmanager
def whole_folder(folder: Path, listed: Listed, last: str, names: Iterable[str]) -> Iterator[Staged]:
    """Yield where to write a folder's files; they come into the folder when it is told to publish them.

    If it is not told, all that was written goes, and what was in the folder before stays.

    Args:
        listed: tells from the list in a folder which files of it are ours.
        last: the file that leads to all others.
        names: files that are known to come.

    Raises:
        WriteError: the folder cannot be written, another process writes it, or a file that nobody listed is in the way.
    """
    with said_in_words(folder):
        target = Path(os.path.realpath(folder))
        if os.path.lexists(target) and not target.is_dir():
            raise WriteError(f"write: {brief(folder)} is a file, but a folder was needed. Choose another folder.")
        if target.is_dir() and (not target.stat().st_mode & 0o222 or not os.access(target, os.W_OK | os.X_OK)):
            raise WriteError(f"write: {brief(folder)} is read-only. Make it writable, or choose another folder.")
        made = [parent for parent in target.parents if not parent.exists()]
        room: Room | None = None
    try:
        with said_in_words(folder):
            target.parent.mkdir(parents=True, exist_ok=True)
            room = Room(_room(target), folder)
            if (room.path / "whole").is_dir():  # an earlier run was killed while it moved these
                _move(room.path, target)
            _discard(room.path)
            refuse_taken(folder, names, listed(target))
            (room.path / "pages").mkdir()
        yield Staged(target, room.path, listed, last)
    finally:
        with uninterrupted(), suppress(OSError):
            _end(room, made)


def refuse_taken(folder: Path, names: Iterable[str], ours: set[str]) -> None:
    """Refuse names at which there is something that is not ours.

    Raises:
        WriteError: there is.
    """
    names = set(names)
    for part in {parent for name in names | ours for parent in Path(name).parents} - {Path()}:
        if os.path.lexists(folder / part) and ((folder / part).is_symlink() or not (folder / part).is_dir()):
            raise _taken(folder / part)  # a link would lead out of what is ours
    for name in sorted(names | ours):
        if os.path.isdir(folder / name) or (name not in ours and os.path.lexists(folder / name)):
            raise _taken(folder / name)


def _taken(path: Path) -> WriteError:
    return WriteError(f"write: {brief(path)} was not made by unconv and would be overwritten. Choose another folder.")


def _room(folder: Path) -> Path:
    """Return the hidden folder: beside the folder, or within it if nothing can be written or moved there from beside."""
    parent = folder.parent
    if folder.is_dir() and (not os.access(parent, os.W_OK | os.X_OK) or folder.stat().st_dev != parent.stat().st_dev):
        return folder / _WITHIN
    return parent / hidden_name(folder.name, _WITHIN)


def _files(folder: Path) -> Iterator[str]:
    """Yield the names of all files below a folder, relative to it."""
    for root, _, files in os.walk(folder):
        here = Path(root).relative_to(folder)
        yield from ((here / name).as_posix() for name in files)


def _others(folder: Path, ours: set[str]) -> bool:
    """Whether a folder holds anything, be it an empty folder, that is not ours."""
    parents = {parent.as_posix() for name in ours for parent in Path(name).parents}
    for root, folders, files in os.walk(folder):
        here = Path(root).relative_to(folder)
        if {(here / name).as_posix() for name in files} - ours or {(here / name).as_posix() for name in folders} - parents:
            return True
    return False


def _delete(folder: Path, names: Iterable[str]) -> None:
    """Delete files by name, and the folders that are empty then."""
    names = list(names)
    for name in names:
        (folder / name).unlink(missing_ok=True)
    parents = {parent for name in names for parent in Path(name).parents} - {Path()}
    for parent in sorted(parents, reverse=True):  # what lies in another one comes first
        with suppress(OSError):
            (folder / parent).rmdir()


def _give_back(old: Path, new: Path) -> None:
    """Move what came into a folder in the moment before it was exchanged to the same path in the new one."""
    for name in _files(old):
        if not os.path.lexists(new / name):
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            os.rename(old / name, new / name)


def _move(room: Path, folder: Path) -> None:
    """Move files to their final paths one by one. May be stopped anywhere, and done again."""
    whole, moves = room / "whole", json.loads((room / "moves.json").read_text(encoding="utf-8"))
    last = moves["last"]
    if (whole / last).exists():  # no page may show the pictures of another run
        (folder / last).unlink(missing_ok=True)
    _delete(folder, moves["gone"])
    for name in sorted(_files(whole), key=lambda name: name == last):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.replace(whole / name, folder / name)
        except OSError as error:
            if error.errno != errno.EXDEV:  # a mount that gives the number of the disk beside it
                raise
            write(folder / name, (whole / name).read_bytes())
    shutil.rmtree(whole)


def _discard(room: Path) -> None:
    """Remove what a run has left in its room, except what marks it as ours."""
    if (room / "pages").is_dir():
        shutil.rmtree(room / "pages")
    (room / "moves.json").unlink(missing_ok=True)


def _end(room: Room | None, made: Iterable[Path]) -> None:
    """Remove the room, and folders that were made for nothing; a room with files that the next run is to move stays."""
    try:
        if room is not None and not (room.path / "whole").is_dir():
            _discard(room.path)
            room.remove()
        for parent in made:
            parent.rmdir()
    finally:
        if room is not None:
            room.close()
