"""A shard: what is kept of a part of the list of pictures, in one file that is whole or not there.

The set of whole shards is how far a run has come; nothing else says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from unconv.errors import ScanError
from unconv.files import write
from unconv.scan.top import BINS, NOBODY, Levels, Lists, PlaceTop, Top

FOLDER = "shards"
_VERSION = "1"
_NAME = re.compile(r"(\d{5,})\.safetensors")


@dataclass(frozen=True)
class Shard:
    """What was kept of some pictures.

    Args:
        number: of the shard; `first`: of its first picture.
        run, pictures: hashes of the run and of this part of the list.
        top: what is kept of them.
        content: (n,) int64, of each picture a hash of what was read; 0 where nothing was.
        look: (n,) int64, of each picture its difference hash.
        damaged: by number, why a picture was not read.
        maxima: of each place (pictures that were read, C) float16; [] if they were not kept.
    """

    number: int
    first: int
    run: str
    pictures: str
    top: Top
    content: Tensor
    look: Tensor
    damaged: Mapping[int, str] = field(default_factory=dict)
    maxima: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True)
class Heading:
    """What a shard's file says of itself, without its numbers."""

    run: str
    pictures: str


def shard_path(folder: Path, number: int) -> Path:
    """Return where a shard's file is."""
    return folder / FOLDER / f"{number:05d}.safetensors"


def shard_numbers(folder: Path) -> list[int]:
    """Return the numbers of the shards in a folder."""
    found = (_NAME.fullmatch(path.name) for path in (folder / FOLDER).glob("*.safetensors"))
    return sorted(int(match[1]) for match in found if match)


def heading(path: Path) -> Heading | None:
    """Return what a shard's file says of itself; None if it is damaged, and has to be made again."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            told = file.metadata() or {}
    except (safetensors.SafetensorError, OSError):
        return None
    return Heading(told["run"], told["pictures"]) if told.get("unconv") == _VERSION and "run" in told else None


def save(folder: Path, shard: Shard) -> None:
    """Write a shard's file, whole or not at all."""
    write(shard_path(folder, shard.number), packed(shard))


def packed(shard: Shard) -> bytes:
    """Return the content of a shard's file."""
    tensors: dict[str, Tensor] = {"content": shard.content, "look": shard.look}
    for number, place in enumerate(shard.top.places):
        tensors |= {f"{number}.{name}": part for name, part in _packed(place, shard.first).items()}
    for number, maxima in enumerate(shard.maxima):
        tensors[f"{number}.maxima"] = maxima
    told = {
        "unconv": _VERSION,
        "run": shard.run,
        "pictures": shard.pictures,
        "first": str(shard.first),
        "count": str(shard.top.parts[shard.first]),
        "places": str(len(shard.top.places)),
        "damaged": json.dumps({str(number): why for number, why in sorted(shard.damaged.items())}),
    }
    return safetensors.torch.save({name: part.contiguous() for name, part in tensors.items()}, told)


def load(folder: Path, number: int, maxima: bool = False) -> Shard:
    """Read a shard.

    Args:
        maxima: also those of every picture.

    Raises:
        ScanError: its file is damaged.
    """
    path = shard_path(folder, number)
    try:
        with safetensors.safe_open(path, "pt") as file:
            told, names = file.metadata(), set(file.keys())
            parts = {name: file.get_tensor(name) for name in sorted(names) if maxima or not name.endswith(".maxima")}
    except (safetensors.SafetensorError, OSError) as error:
        raise ScanError(f"scan: the shard {path} is damaged: {error}. Delete it, and run the scan again.") from error
    first, count = int(told["first"]), int(told["places"])
    places = [_unpacked(parts, f"{place}.", first) for place in range(count)]
    damaged = {int(key): why for key, why in json.loads(told["damaged"]).items()}
    kept = [parts[f"{place}.maxima"] for place in range(count) if f"{place}.maxima" in parts]
    top = Top({first: int(told["count"])}, places)
    return Shard(number, first, told["run"], told["pictures"], top, parts["content"], parts["look"], damaged, kept)


def _packed(place: PlaceTop, first: int) -> dict[str, Tensor]:
    """Return a place's tensors, without the levels and the bins that are empty."""
    found: dict[str, Any] = {}
    for name, lists in (("strongest", place.strongest), ("lowest", place.lowest)):
        if lists is not None:
            found |= dict(zip(_lists(name), lists.parts, strict=True))
    bins = (place.levels.picture != NOBODY).nonzero().to(torch.int32)
    at = tuple(bins.long().T)
    found |= {f"levels.{name}": part[at] for name, part in zip(_LEVELS, place.levels.parts, strict=True)}
    filled = place.histogram.nonzero().to(torch.int32)
    found |= {"levels.at": bins, "histogram.at": filled, "histogram": place.histogram[tuple(filled.long().T)]}
    return found | {"positive": place.positive, "sum": place.sums[first]}


def _unpacked(parts: Mapping[str, Tensor], prefix: str, first: int) -> PlaceTop:
    own = {name.removeprefix(prefix): part for name, part in parts.items() if name.startswith(prefix)}
    strongest = Lists(*(own[name] for name in _lists("strongest")))
    lowest = Lists(*(own[name] for name in _lists("lowest"))) if "lowest.rank" in own else None
    channels, _, axes = strongest.position.shape
    levels, at = Levels.empty(channels, axes), tuple(own["levels.at"].long().T)
    for part, name in zip(levels.parts, _LEVELS, strict=True):
        part[at] = own[f"levels.{name}"]
    histogram = torch.zeros(channels, BINS, dtype=torch.int64)
    histogram[tuple(own["histogram.at"].long().T)] = own["histogram"]
    return PlaceTop(strongest, lowest, own["positive"], histogram, levels, {first: own["sum"]})


_LEVELS = ("draw", "picture", "value", "position")


def _lists(name: str) -> list[str]:
    return [f"{name}.{part}" for part in ("rank", "value", "picture", "position")]
