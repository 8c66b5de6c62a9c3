"""Which files of a folder a report has written: those that its numbers.json names, and no others."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

PAGES = ("index.html", "numbers.json", "picture.png", "style.css")
"""The files that every report has."""

_UNIT = re.compile(r"(tiles/[^/\\\0]+\.png|units/[^/\\\0]+\.html)", re.ASCII)
_FOLDER = re.compile(r"(?!\.+$)[^/\\\0]+")


def unit_files(stem: str) -> dict[str, str]:
    """Return the files of one unit: its pictures and its page, relative to the report."""
    return {
        "projection": f"tiles/{stem}_projection.png",
        "patch": f"tiles/{stem}_patch.png",
        "large": f"tiles/{stem}_large.png",
        "page": f"units/{stem}.html",
    }


def listed(folder: Path) -> set[str]:
    """Return the files of a report, or of several below one folder, as names relative to it; none if there is no report."""
    numbers = _numbers(folder)
    if isinstance(pictures := numbers.get("pictures"), list):
        names = [name for name in pictures if isinstance(name, str) and _FOLDER.fullmatch(name)]
        return {"index.html", "numbers.json", "style.css"}.union(f"{n}/{file}" for n in names for file in listed(folder / n))
    if not isinstance(layers := numbers.get("layers"), list):
        return set()
    units = [unit for layer in layers if isinstance(layer, dict) for unit in layer.get("units", ()) if isinstance(unit, dict)]
    files = (str(unit.get(kind)) for unit in units for kind in unit_files(""))
    return {*PAGES, *(file for file in files if _UNIT.fullmatch(file))}


def _numbers(folder: Path) -> dict[str, Any]:
    """Return what a report says of itself in its numbers.json; nothing if another program or a person wrote that."""
    try:
        numbers = json.loads((folder / "numbers.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    ours = isinstance(numbers, dict) and isinstance(numbers.get("version"), str) and isinstance(numbers.get("network"), str)
    return numbers if ours else {}
