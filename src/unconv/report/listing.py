"""List the files in a folder that a report has written: those that its numbers.json names, and no others."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

PAGES = ("index.html", "numbers.json", "picture.png", "style.css")
"""The files that every report has."""

KEYS = "keys.js"
"""The script of newer reports, which name it in their numbers.json."""

_LONGEST = 2**28  # bytes of a list: some million units
_UNIT = re.compile(r"(tiles/[^/\\\0]+\.png|units/[^/\\\0]+\.html)", re.ASCII)
_FOLDER = re.compile(r"(?!\.+$)[^/\\\0]+")


def unit_files(stem: str) -> dict[str, str]:
    """Return the files of one unit: its pictures and its page, relative to the report."""
    return {
        "projection": f"tiles/{stem}_projection.png",
        "patch": f"tiles/{stem}_patch.png",
        "large": f"tiles/{stem}_large.png",
        "map": f"tiles/{stem}_map.png",
        "page": f"units/{stem}.html",
    }


def listed(folder: Path) -> set[str]:
    """Return the files of a report, or of several below one folder, as names relative to it; none if there is no report."""
    numbers = _numbers(folder)
    if not isinstance(pictures := numbers.get("pictures"), list):
        return _of_one(numbers)
    names = {name for name in pictures if isinstance(name, str) and _FOLDER.fullmatch(name) and _is_short(name)}
    within = (f"{name}/{file}" for name in names for file in _of_one(_numbers(folder / name)))
    return {"index.html", "numbers.json", "style.css"}.union(within)


def _of_one(numbers: dict[str, Any]) -> set[str]:
    """Return the files of one report, as names relative to it."""
    if not isinstance(layers := numbers.get("layers"), list):
        return set()
    parts = [layer.get("units") for layer in layers if isinstance(layer, dict)]
    units = [unit for part in parts if isinstance(part, list) for unit in part if isinstance(unit, dict)]
    files = (str(unit.get(kind)) for unit in units for kind in unit_files(""))
    script = {KEYS} if numbers.get("script") == KEYS else set()
    return {*PAGES, *script, *(file for file in files if _UNIT.fullmatch(file) and _is_short(file))}


def _is_short(name: str) -> bool:
    """Return whether each part of a name is short enough for a file system; otherwise it cannot be ours."""
    try:
        return all(len(os.fsencode(part)) <= 255 for part in name.split("/"))
    except UnicodeEncodeError:
        return False


def _numbers(folder: Path) -> dict[str, Any]:
    """Return the content of a report's numbers.json; {} if another program or a person wrote that file."""
    path = folder / "numbers.json"
    try:
        # A pipe or a device cannot be ours, and reading it could block.
        if not stat.S_ISREG(path.stat().st_mode) or path.stat().st_size > _LONGEST:
            return {}
        numbers = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    is_ours = isinstance(numbers, dict) and isinstance(numbers.get("version"), str) and isinstance(numbers.get("network"), str)
    return numbers if is_ours else {}
