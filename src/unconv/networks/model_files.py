"""Files that others wrote: opened only if they are regular, and named in messages so that a terminal obeys nothing in them."""

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
    """What a reader found wrong in a file, in words; who called it knows the file's name and what to do."""


def shown(name: object) -> str:
    """Return a name as it may stand in a message: quoted and escaped if it holds anything odd, and not too long."""
    text = str(name)
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}.."
    return text if text.isprintable() and text == text.strip() else repr(text)


def reason(error: BaseException) -> str:
    """Return another library's words in one line; those that advise to run the file's code are not passed on."""
    text = " ".join(str(error).split())[:300]
    advice = ("weights_only", "safe_mode", "unsafe", "safe_globals", "add_safe", "allow_pickle", "trust")
    if not text or any(word in text for word in advice):
        return "its contents are not what such a file holds"
    return text if text.isprintable() else repr(text)


def open_regular(path: Path, what: str, remedy: str) -> BinaryIO:
    """Open a regular file to read it; a folder, pipe or device is refused, and none of them holds us up.

    Args:
        what: what the file was to be, such as "weights file".
        remedy: the sentence that says what to do.

    Raises:
        WeightsError: there is no such file, or it is of another kind or cannot be opened.
    """
    absent = f"load: there is no {what} {shown(path)}"
    try:
        # Check the file that was opened, whatever the name stands for a moment later, and do not block on a pipe.
        number = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise WeightsError(f"{absent}. {remedy}") from None
    except (OSError, ValueError) as error:  # a loop of links, too long a name, no permission; a NUL in the name
        words = error.strerror if isinstance(error, OSError) else "a name cannot hold that"
        raise WeightsError(f"{absent} that can be opened ({words}), but one was needed. {remedy}") from error
    kind = stat.S_IFMT(os.fstat(number).st_mode)
    if kind != stat.S_IFREG:
        os.close(number)
        raise WeightsError(f"{absent}: it is {_KINDS.get(kind, 'no file')}, but a regular file was needed. {remedy}")
    return os.fdopen(number, "rb")


def size_of(file: BinaryIO) -> int:
    """Return how many bytes an open file holds."""
    return os.fstat(file.fileno()).st_size
