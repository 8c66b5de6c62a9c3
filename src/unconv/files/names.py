"""Names of files: from any text, and never longer than a file system allows."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable

_LONGEST = 255  # bytes of a name, on every file system in common use
_PART = 100  # bytes of a name that `file_names` keeps, so that a prefix and a suffix fit, too


def hidden_name(name: str, ending: str) -> str:
    """Return a hidden name that contains `name`, or its hash where that would be too long."""
    full_name = f".{name}{ending}"
    if len(os.fsencode(full_name)) <= _LONGEST:
        return full_name
    return f".{hashlib.sha256(os.fsencode(name)).hexdigest()[:32]}{ending}"


def file_names(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """Return a file name for each name: short, and different from all others even where upper and lower case are equal.

    Args:
        names: any text, such as the names of a network's places.
        taken: file names that must not be used.
    """
    used, unique = {name.casefold() for name in taken}, []
    for name in names:
        cleaned = re.sub(r"[^\w.-]+", "_", name)
        short = cleaned.encode(errors="replace")[:_PART].decode(errors="ignore")
        candidate, number = short, 1
        while candidate.casefold() in used or not candidate.strip("."):
            number += 1
            candidate = f"{short}-{number}"
        used.add(candidate.casefold())
        unique.append(candidate)
    return unique
