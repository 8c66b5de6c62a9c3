"""Write one file atomically: under a hidden name beside it, then renamed."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from unconv.errors import UnconvError, WriteError
from unconv.files.lock import lock
from unconv.files.names import hidden_name

_PARTIAL = r"\.[0-9a-f]{16}\.partial"
_REMEDIES = {
    errno.ENOSPC: "Make room, or choose another folder.",
    errno.EDQUOT: "Make room, or choose another folder.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}


def write(path: Path, content: bytes) -> None:
    """Write a file completely or not at all, and create the folders it needs.

    An existing file is replaced in one step and its mode kept. A symbolic link stays, and the file it points to is replaced.

    Raises:
        WriteError: there is no space or no permission, the name is too long, or the path is read-only or not a file.
    """
    with whole_file(path) as partial, said_in_words(path), partial.open("r+b") as file:
        file.write(content)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield an empty hidden file beside `path`. It replaces `path` when the block ends, and is deleted if the block fails.

    The block must write into this file, not replace it, and close it. As in `write`, folders are created, and a mode and a
    symbolic link are kept. Errors that the block raises while it writes are not changed: `said_in_words` explains them.

    Raises:
        WriteError: as in `write`.
    """
    with said_in_words(path):
        target, mode = _admitted(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        _clear(target)
        partial, file = _opened(target)
    with file:
        try:
            yield partial
            with said_in_words(path):
                # Without it the name may reach the disk before the content, and a power cut would leave an empty file.
                os.fsync(file.fileno())
                if mode is not None:
                    os.chmod(partial, mode)
                if sys.platform == "win32":
                    file.close()  # Windows does not rename an open file
                os.replace(partial, target)
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


def refuse_unwritable(path: Path) -> None:
    """Refuse, before any work is done, a path that `write` would refuse.

    Raises:
        WriteError: as in `write`, except for errors that only writing can cause, such as a full disk.
    """
    with said_in_words(path):
        target, _ = _admitted(path)
        parent = next(folder for folder in target.parents if folder.exists())
        if not os.access(parent, os.W_OK | os.X_OK):
            raise WriteError(f"write: cannot write {brief(path)}: {brief(parent)} is not writable. Choose another folder.")


@contextmanager
def said_in_words(path: Path) -> Iterator[None]:
    """Turn the system's errors in writing `path` into a `WriteError` that says what to do."""
    try:
        yield
    except UnconvError:
        raise
    except ValueError as error:
        raise WriteError(f"write: {brief(path)!r} cannot be a file's name: {error}. Choose another.") from error
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "Choose another folder.")
        raise WriteError(f"write: cannot write {brief(path)}: {error.strerror or error}. {remedy}") from error


def brief(path: Path) -> str:
    """Return a path as a message names it, with the middle of a very long one left out."""
    text = str(path)
    return text if len(text) <= 200 else f"{text[:80]}…{text[-80:]}"


def _admitted(path: Path) -> tuple[Path, int | None]:
    """Return the file to be written, with links followed, and the mode of an existing one."""
    target = Path(os.path.realpath(path))
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return target, None
    where = f"write: {brief(path)}"
    if stat.S_ISDIR(mode):
        raise WriteError(f"{where} is a folder, but a file's name was needed. Choose another name.")
    if not stat.S_ISREG(mode):
        raise WriteError(f"{where} is a device or a pipe, but a file's name was needed. Choose another name.")
    # The superuser could replace it anyway, but somebody has made it read-only for a reason.
    if not mode & 0o222 or not os.access(target, os.W_OK):
        raise WriteError(f"{where} is read-only, but would be replaced. Make it writable, or choose another name.")
    return target, stat.S_IMODE(mode)


def _opened(target: Path) -> tuple[Path, BinaryIO]:
    """Return a new hidden file beside `target`, and the open file that holds its lock."""
    while True:
        partial = target.with_name(hidden_name(target.name, f".{secrets.token_hex(8)}.partial"))
        try:
            descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o666)
            file = os.fdopen(descriptor, "wb")
            # `_clear` in another process deletes unlocked files like this one. It may have done so before the lock was taken:
            # then the file has no name left, and another is opened.
            if lock(descriptor) and os.fstat(descriptor).st_nlink:
                return partial, file
            file.close()
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


def _clear(target: Path) -> None:
    """Remove the partial files of killed processes that were writing the same file; those of living ones are locked."""
    prefix, _, _ = hidden_name(target.name, ".0123456789abcdef.partial").rpartition(".0123456789abcdef.partial")
    with os.scandir(target.parent) as entries:
        leftovers = [entry.path for entry in entries if re.fullmatch(re.escape(prefix) + _PARTIAL, entry.name)]
    for leftover in leftovers:
        with suppress(OSError):
            descriptor = os.open(leftover, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
            try:
                if lock(descriptor):
                    os.unlink(leftover)
            finally:
                os.close(descriptor)
