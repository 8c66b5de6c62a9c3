"""One file, written whole: to a hidden name beside it, then moved into its place."""

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

_REST = r"\.[0-9a-f]{16}\.partial"
_REMEDIES = {
    errno.ENOSPC: "Make room, or choose another folder.",
    errno.EDQUOT: "Make room, or choose another folder.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; folders that it needs are made.

    A file that is there is replaced in one step, and its mode kept. A symbolic link stays; the file it leads to is replaced.

    Raises:
        WriteError: there is no room or no permission, the name is too long, or what has it is read-only or no file.
    """
    with whole_file(path) as partial, said_in_words(path), partial.open("r+b") as file:
        file.write(content)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give an empty hidden file beside `path`, which takes its place as the block ends, or goes where the block fails.

    It is to be written as it stands, not replaced, and closed before the block ends. As for `write`, folders are made, a mode
    and a symbolic link are kept. Errors of the block's own writing come as they are: `said_in_words` has words for them.

    Raises:
        WriteError: as `write` does.
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
                # Otherwise the name may reach the disk before the content, and a power cut leave an empty file.
                os.fsync(file.fileno())
                if mode is not None:
                    os.chmod(partial, mode)
                if sys.platform == "win32":
                    file.close()  # which renames no open file
                os.replace(partial, target)
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


def refuse_unwritable(path: Path) -> None:
    """Refuse what `write` would refuse, before there is anything to write.

    Raises:
        WriteError: the same that `write` raises, except what only writing can show.
    """
    with said_in_words(path):
        target, _ = _admitted(path)
        parent = next(folder for folder in target.parents if folder.exists())
        if not os.access(parent, os.W_OK | os.X_OK):
            raise WriteError(f"write: cannot write {brief(path)}: {brief(parent)} is not writable. Choose another folder.")


@contextmanager
def said_in_words(path: Path) -> Iterator[None]:
    """Raise what the system says against writing `path` as our own kind of error."""
    try:
        yield
    except UnconvError:
        raise
    except ValueError as error:
        raise WriteError(f"write: {brief(path)!r} can be no file's name: {error}. Choose another.") from error
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "Choose another folder.")
        raise WriteError(f"write: cannot write {brief(path)}: {error.strerror or error}. {remedy}") from error


def brief(path: Path) -> str:
    """Return a path as a message names it: of an endless one, both ends."""
    text = str(path)
    return text if len(text) <= 200 else f"{text[:80]}…{text[-80:]}"


def _admitted(path: Path) -> tuple[Path, int | None]:
    """Return the file that is to be written, links followed, and its mode if there is one."""
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
    # The superuser could write it, but a file is made read-only for a reason.
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
            # Locked, it is no rest to the `_clear` of another process, which may have come before the lock.
            if lock(descriptor) and os.fstat(descriptor).st_nlink:
                return partial, file
            file.close()
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


def _clear(target: Path) -> None:
    """Remove what processes that were killed while they wrote the same file have left beside it."""
    start, _, _ = hidden_name(target.name, ".0123456789abcdef.partial").rpartition(".0123456789abcdef.partial")
    with os.scandir(target.parent) as entries:
        rests = [entry.path for entry in entries if re.fullmatch(re.escape(start) + _REST, entry.name)]
    for rest in rests:
        with suppress(OSError):
            descriptor = os.open(rest, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
            try:
                if lock(descriptor):
                    os.unlink(rest)
            finally:
                os.close(descriptor)
