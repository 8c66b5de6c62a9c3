"""Labels, file names and JSON of projections."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from torch import Tensor

from unconv.reverse.places import Place
from unconv.reverse.seed import Name


def named_unit(unit: Name) -> str:
    """Return "channel 17 at (6, 7)", "channel 17", or "all channels"."""
    where = "" if None in unit[1:] or len(unit) < 2 else f" at ({', '.join(map(str, unit[1:]))})"
    return f"{'all channels' if unit[0] is None else f'channel {unit[0]}'}{where}"


def unit_stem(channel: int | None) -> str:
    """Return the part of a file name for a unit's channel."""
    return "together" if channel is None else f"channel_{channel}"


def unit_pictures(index: int, channel: int | None) -> tuple[str, str]:
    """Return the file names of a projection's picture and its patch."""
    stem = f"{index:04d}_{unit_stem(channel)}"
    return f"{stem}_projection.png", f"{stem}_patch.png"


def saved_files(folder: Path) -> set[str]:
    """Return the files that an earlier `save` wrote into a folder, by its units.json; none if that file is not ours."""
    if not (folder / "units.json").is_file():  # reading a pipe would block
        return set()
    try:
        numbers = json.loads((folder / "units.json").read_bytes())
        channels = [unit["channel"] for unit in numbers["units"]]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return set()
    if not {"place", "method", "receptive_field"} <= numbers.keys() or not all(
        isinstance(each, int | None) for each in channels
    ):
        return set()
    return {"units.json", *chain(*(unit_pictures(index, channel) for index, channel in enumerate(channels)))}


def place_numbers(place: Place, method: str, error: float | None, notes: Sequence[str]) -> dict[str, Any]:
    """Return what all units of a place have in common, ready for JSON."""
    return {
        "place": place.name,
        "operation": place.operation,
        "method": method,
        "error": error,
        "notes": list(notes),
        "map": list(place.size),
        "receptive_field": list(place.receptive_field),
        "stride": list(place.stride),
    }


def unit_numbers(unit: Name, value: float, box: Sequence[int], window: Tensor) -> dict[str, Any]:
    """Return one unit's numbers, ready for JSON."""
    return {
        "channel": unit[0],
        "position": list(unit[1:]),
        "activation": value,
        "box": list(box),
        "largest": float(window.abs().max()) if window.numel() else 0.0,
    }


def times(lengths: Sequence[int]) -> str:
    """Return "14 × 14"."""
    return " × ".join(map(str, lengths)) or "1"
