"""Files that others wrote: opened only if they are regular files, with names escaped before they reach a message."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from unconv.errors import WeightsError

_LONGEST = 200  # characters of a name in a message

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Unfit(Exception):
    """A fault that a reader found in a file, in words; the caller adds the file's name and the remedy."""


def shown(name: object) -> str:
    """Return a name fit for a message: shortened, and quoted and escaped if it contains anything unprintable."""
    text = str(name)
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}.."
    return text if text.isprintable() and text == text.strip() else repr(text)


def reason(error: BaseException) -> str:
    """Return another library's message in one line, unless it advises running the code in the file."""
    text = " ".join(str(error).split())[:300]
    advice = ("weights_only", "safe_mode", "unsafe", "safe_globals", "add_safe", "allow_pickle", "trust")
    if not text or any(word in text for word in advice):
        return "its contents are not what such a file holds"
    return text if text.isprintable() else repr(text)


def open_regular(path: Path, what: str, remedy: str) -> BinaryIO:
    """Open a regular file for reading; a folder, pipe or device is refused without blocking.

    Args:
        what: what the file should be, such as "weights file".
        remedy: the sentence that says what to do.

    Raises:
        WeightsError: there is no such file, or it is no regular file or cannot be opened.
    """
    missing = f"load: there is no {what} {shown(path)}"
    try:
        # Open first and check the descriptor: the name may point elsewhere a moment later. Do not block on a pipe.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise WeightsError(f"{missing}. {remedy}") from None
    except (OSError, ValueError) as error:  # a loop of links, too long a name, no permission; a NUL in the name
        words = error.strerror if isinstance(error, OSError) else "its name is not valid"
        raise WeightsError(f"{missing} that can be opened ({words}), but one was needed. {remedy}") from error
    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if kind != stat.S_IFREG:
        os.close(descriptor)
        raise WeightsError(f"{missing}: it is {_KINDS.get(kind, 'no file')}, but a regular file was needed. {remedy}")
    return os.fdopen(descriptor, "rb")


def size_of(file: BinaryIO) -> int:
    """Return the size of an open file, in bytes."""
    return os.fstat(file.fileno()).st_size
