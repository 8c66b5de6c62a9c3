"""Names of files: made of anybody's words, and never longer than a file system takes."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable

_LONGEST = 255  # bytes of a name, on every file system in common use
_PART = 100  # bytes that `file_names` leaves of a name, so that what is put before and behind it fits too


def hidden_name(name: str, ending: str) -> str:
    """Return a hidden name beside `name`, which says what it belongs to, or stands for it where that would be too long."""
    whole = f".{name}{ending}"
    if len(os.fsencode(whole)) <= _LONGEST:
        return whole
    return f".{hashlib.sha256(os.fsencode(name)).hexdigest()[:32]}{ending}"


def file_names(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """Return for each name one that a file can have: short, and different from all others, also where case does not count.

    Args:
        names: any text, such as the names of a network's places.
        taken: file names that none of them may have.
    """
    used, found = {name.casefold() for name in taken}, []
    for name in names:
        plain = re.sub(r"[^\w.-]+", "_", name)
        short = plain.encode(errors="replace")[:_PART].decode(errors="ignore")
        candidate, number = short, 1
        while candidate.casefold() in used or not candidate.strip("."):
            number += 1
            candidate = f"{short}-{number}"
        used.add(candidate.casefold())
        found.append(candidate)
    return found
