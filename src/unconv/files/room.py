"""The hidden staging folder in which a run writes: marked as ours from the first moment, and locked while the run lives."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from unconv.errors import WriteError
from unconv.files.file import brief
from unconv.files.lock import lock

_MARK = "unconv writes here"


class Room:
    """A hidden staging folder, created or taken over from a process that has died, and locked until it is closed.

    Args:
        path: the hidden folder.
        folder: the final folder, as messages name it.

    Raises:
        WriteError: another process is writing there, or something that is not ours has the hidden folder's name.
    """

    def __init__(self, path: Path, folder: Path) -> None:
        self.path = path
        self._lock = _locked(path, folder)
        # In a single write, and as long as an earlier mark: at no moment does a staging folder have content but no mark.
        words = f"{_MARK}\nprocess {os.getpid():<10}\nWhen that has ended, this folder can go.\n"
        try:
            self._lock.write(words.encode())
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Remove the staging folder, which holds nothing except its mark."""
        if sys.platform == "win32":
            self.close()  # Windows does not remove an open file
        (self.path / "lock").unlink()
        with suppress(OSError):  # another process has just taken it over
            self.path.rmdir()

    def close(self) -> None:
        """Release the lock."""
        self._lock.close()


def _locked(path: Path, folder: Path) -> BinaryIO:
    """Return the open and locked mark in the staging folder, created if needed; retry while other processes come and go."""
    while True:
        try:
            os.mkdir(path)
        except FileExistsError:
            _refuse_foreign(path)
        try:
            descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except FileNotFoundError:  # another process has just ended there
            continue
        file = os.fdopen(descriptor, "r+b", buffering=0)
        if not lock(descriptor):
            lines = (file.read(1000) or b"").decode(errors="replace").splitlines()
            holder = next((line.strip() for line in lines if line.startswith("process ")), "another process")
            file.close()
            raise WriteError(f"write: {holder} is writing {brief(folder)}. Wait until it ends, or choose another folder.")
        if os.fstat(descriptor).st_nlink:
            return file
        file.close()  # the process that held the lock has just removed the file


def _refuse_foreign(path: Path) -> None:
    """Refuse a folder that is not ours: ours is marked before anything else is written to it."""
    try:
        names = set(os.listdir(path)) if not path.is_symlink() else {"a link"}
        mark = (path / "lock").read_bytes() if "lock" in names and (path / "lock").is_file() else b""
    except FileNotFoundError:  # the process that had it has just removed it
        return
    except NotADirectoryError:
        names, mark = {"a file"}, b""
    if not mark.startswith(_MARK.encode()) and (mark or not names <= {"lock"}):
        raise WriteError(f"write: {brief(path)} was not made by unconv, and is in the way. Move it away.")
