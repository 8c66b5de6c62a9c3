"""Write a folder of files completely or not at all: in a hidden staging folder beside it, then moved to its final path.

Only files that an earlier run has listed are ever deleted or replaced. If the folder holds nothing else, the old and the new
folder are exchanged in one step. Otherwise, or if the system cannot exchange folders, the files are moved one by one. A run
killed in these milliseconds leaves the remaining files in the hidden folder, and the next run moves them first.
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
"""A function that reads the list in a folder and returns the files there that unconv wrote: relative names with "/" between."""

_WITHIN = ".unconv"


class Staged:
    """Files in a staging folder, until they are published to their final folder.

    Args:
        folder: the final folder.
        room: the hidden staging folder.
        listed: reads the list in a folder and returns the files there that unconv wrote.
        last: the file with links to all others. If files are moved one by one, it is deleted first and moved last.
    """

    def __init__(self, folder: Path, room: Path, listed: Listed, last: str) -> None:
        self.folder, self.path, self._room, self._listed, self._last = folder, room / "pages", room, listed, last

    def put(self, name: str, content: bytes) -> None:
        """Write a file under its name relative to the folder."""
        with said_in_words(self.folder):
            path = self.path / name
            try:
                path.write_bytes(content)
            except FileNotFoundError:  # the first file of its folder
                path.parent.mkdir(parents=True)
                path.write_bytes(content)

    def publish(self) -> None:
        """Move the listed files to the final folder, in place of those that were listed there before.

        Raises:
            WriteError: the folder cannot be written, or a file that is not listed has appeared there and is in the way.
        """
        with uninterrupted(), said_in_words(self.folder):
            new = self._listed(self.path)
            _delete(self.path, set(_files(self.path)) - new)  # files that were begun when the run was stopped
            if not os.path.lexists(self.folder):
                os.rename(self.path, self.folder)
                return
            old = self._listed(self.folder)
            refuse_taken(self.folder, new, old)
            if not _others(self.folder, old) and exchanged(self.path, self.folder):
                with suppress(OSError):  # the pages are published, and the next run tries this again
                    _delete(self.path, old)
                    _rescue(self.path, self.folder)
                return
            moves = {"gone": sorted(old - new), "last": self._last}
            (self._room / "moves.json").write_text(json.dumps(moves), encoding="utf-8")
            os.rename(self.path, self._room / "whole")  # from here on the next run completes the move if this one is killed
            _move(self._room, self.folder)


@contextmanager
def whole_folder(folder: Path, listed: Listed, last: str, names: Iterable[str]) -> Iterator[Staged]:
    """Yield a staging folder for a folder's files, which its `publish` moves to the folder.

    If the block does not call `publish`, all files written are deleted and the folder stays as it was.

    Args:
        listed: reads the list in a folder and returns the files there that unconv wrote.
        last: the file with links to all others.
        names: the files that are already known to be written.

    Raises:
        WriteError: the folder cannot be written, another process is writing it, or a file that is not listed is in the way.
    """
    with said_in_words(folder):
        target = Path(os.path.realpath(folder))
        if os.path.lexists(target) and not target.is_dir():
            raise WriteError(f"write: {brief(folder)} is a file, but a folder was needed. Choose another folder.")
        if target.is_dir() and (not target.stat().st_mode & 0o222 or not os.access(target, os.W_OK | os.X_OK)):
            raise WriteError(f"write: {brief(folder)} is read-only. Make it writable, or choose another folder.")
        created = [parent for parent in target.parents if not parent.exists()]
        room: Room | None = None
    try:
        with said_in_words(folder):
            target.parent.mkdir(parents=True, exist_ok=True)
            room = Room(_room(target), folder)
            if (room.path / "whole").is_dir():  # an earlier run was killed while it moved its files
                _move(room.path, target)
            _discard(room.path)
            refuse_taken(folder, names, listed(target))
            (room.path / "pages").mkdir()
        yield Staged(target, room.path, listed, last)
    finally:
        with uninterrupted(), suppress(OSError):
            _end(room, created)


def refuse_taken(folder: Path, names: Iterable[str], ours: set[str]) -> None:
    """Refuse names under which the folder holds something that unconv did not write.

    Raises:
        WriteError: it does.
    """
    names = set(names)
    for part in {parent for name in names | ours for parent in Path(name).parents} - {Path()}:
        if os.path.lexists(folder / part) and ((folder / part).is_symlink() or not (folder / part).is_dir()):
            raise _taken(folder / part)  # a link could lead out of the folder, to files that are not ours
    for name in sorted(names | ours):
        if os.path.isdir(folder / name) or (name not in ours and os.path.lexists(folder / name)):
            raise _taken(folder / name)


def _taken(path: Path) -> WriteError:
    return WriteError(f"write: {brief(path)} was not made by unconv and would be overwritten. Choose another folder.")


def _room(folder: Path) -> Path:
    """Return the staging folder's path: beside the folder, or inside it if the parent is read-only or on another disk."""
    parent = folder.parent
    if folder.is_dir() and (not os.access(parent, os.W_OK | os.X_OK) or folder.stat().st_dev != parent.stat().st_dev):
        return folder / _WITHIN
    return parent / hidden_name(folder.name, _WITHIN)


def _files(folder: Path) -> Iterator[str]:
    """Yield the names of all files below a folder, relative to it."""
    for root, _, files in os.walk(folder):
        relative = Path(root).relative_to(folder)
        yield from ((relative / name).as_posix() for name in files)


def _others(folder: Path, ours: set[str]) -> bool:
    """Return whether a folder holds anything that is not ours, even an empty folder."""
    parents = {parent.as_posix() for name in ours for parent in Path(name).parents}
    for root, folders, files in os.walk(folder):
        relative = Path(root).relative_to(folder)
        if {(relative / name).as_posix() for name in files} - ours or {
            (relative / name).as_posix() for name in folders
        } - parents:
            return True
    return False


def _delete(folder: Path, names: Iterable[str]) -> None:
    """Delete files by name, and the folders that become empty."""
    names = list(names)
    for name in names:
        (folder / name).unlink(missing_ok=True)
    parents = {parent for name in names for parent in Path(name).parents} - {Path()}
    for parent in sorted(parents, reverse=True):  # inner folders before outer ones
        with suppress(OSError):
            (folder / parent).rmdir()


def _rescue(old: Path, new: Path) -> None:
    """Move files that appeared in a folder just before it was exchanged to the same paths in the new one."""
    for name in _files(old):
        if not os.path.lexists(new / name):
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            os.rename(old / name, new / name)


def _move(room: Path, folder: Path) -> None:
    """Move files to their final paths one by one. If this is interrupted at any point, it can be run again."""
    source, moves = room / "whole", json.loads((room / "moves.json").read_text(encoding="utf-8"))
    last = moves["last"]
    if (source / last).exists():  # else the old page would show pictures of the new run
        (folder / last).unlink(missing_ok=True)
    _delete(folder, moves["gone"])
    for name in sorted(_files(source), key=lambda name: name == last):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.replace(source / name, folder / name)
        except OSError as error:
            if error.errno != errno.EXDEV:  # a mount inside the folder, although its device number is the parent's
                raise
            write(folder / name, (source / name).read_bytes())
    shutil.rmtree(source)


def _discard(room: Path) -> None:
    """Remove a run's files from the staging folder, except the mark that makes it ours."""
    if (room / "pages").is_dir():
        shutil.rmtree(room / "pages")
    (room / "moves.json").unlink(missing_ok=True)


def _end(room: Room | None, created: Iterable[Path]) -> None:
    """Remove the staging folder and parents created in vain; keep it if it holds files that the next run must move."""
    try:
        if room is not None and not (room.path / "whole").is_dir():
            _discard(room.path)
            room.remove()
        for parent in created:
            parent.rmdir()
    finally:
        if room is not None:
            room.close()
