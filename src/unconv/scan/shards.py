"""Shards: the results of a part of the list of pictures, in one file that is complete or missing.

The progress of a run is the set of its complete shards, and is recorded nowhere else.
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
    """The results of some pictures.

    Args:
        number: the shard's number.
        first: the number of its first picture.
        run, pictures: hashes of the run and of this part of the list.
        top: the results.
        content: (n,) int64, for each picture a hash of what was read; 0 if nothing was.
        look: (n,) int64, the difference hash of each picture.
        damaged: for each picture that was not read, by its number, the reason.
        maxima: for each place (pictures read, C) float16; [] if they are not kept.
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
    """The metadata of a shard's file."""

    run: str
    pictures: str


def shard_path(folder: Path, number: int) -> Path:
    """Return the path of a shard's file."""
    return folder / FOLDER / f"{number:05d}.safetensors"


def shard_numbers(folder: Path) -> list[int]:
    """Return the numbers of the shards in a folder."""
    matches = (_NAME.fullmatch(path.name) for path in (folder / FOLDER).glob("*.safetensors"))
    return sorted(int(match[1]) for match in matches if match)


def heading(path: Path) -> Heading | None:
    """Return the metadata of a shard's file; None if the file is damaged and the shard must be scanned again."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (safetensors.SafetensorError, OSError):
        return None
    return Heading(metadata["run"], metadata["pictures"]) if metadata.get("unconv") == _VERSION and "run" in metadata else None


def save(folder: Path, shard: Shard) -> None:
    """Write a shard's file, completely or not at all."""
    write(shard_path(folder, shard.number), packed(shard))


def packed(shard: Shard) -> bytes:
    """Return the content of a shard's file."""
    tensors: dict[str, Tensor] = {"content": shard.content, "look": shard.look}
    for number, place in enumerate(shard.top.places):
        tensors |= {f"{number}.{name}": part for name, part in _packed(place, shard.first).items()}
    for number, maxima in enumerate(shard.maxima):
        tensors[f"{number}.maxima"] = maxima
    metadata = {
        "unconv": _VERSION,
        "run": shard.run,
        "pictures": shard.pictures,
        "first": str(shard.first),
        "count": str(shard.top.parts[shard.first]),
        "places": str(len(shard.top.places)),
        "damaged": json.dumps({str(number): why for number, why in sorted(shard.damaged.items())}),
    }
    return safetensors.torch.save({name: part.contiguous() for name, part in tensors.items()}, metadata)


def load(folder: Path, number: int, maxima: bool = False) -> Shard:
    """Return a shard read from its file.

    Args:
        maxima: whether to read the maxima of every picture, too.

    Raises:
        ScanError: its file is damaged.
    """
    path = shard_path(folder, number)
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata, names = file.metadata(), set(file.keys())
            parts = {name: file.get_tensor(name) for name in sorted(names) if maxima or not name.endswith(".maxima")}
    except (safetensors.SafetensorError, OSError) as error:
        raise ScanError(f"scan: the shard {path} is damaged: {error}. Delete it, and run the scan again.") from error
    first, count = int(metadata["first"]), int(metadata["places"])
    places = [_unpacked(parts, f"{place}.", first) for place in range(count)]
    damaged = {int(key): why for key, why in json.loads(metadata["damaged"]).items()}
    all_maxima = [parts[f"{place}.maxima"] for place in range(count) if f"{place}.maxima" in parts]
    top = Top({first: int(metadata["count"])}, places)
    return Shard(
        number, first, metadata["run"], metadata["pictures"], top, parts["content"], parts["look"], damaged, all_maxima
    )


def _packed(place: PlaceTop, first: int) -> dict[str, Tensor]:
    """Return a place's tensors by name; levels and histograms are stored sparsely, since most entries are empty."""
    tensors: dict[str, Any] = {}
    for name, lists in (("strongest", place.strongest), ("lowest", place.lowest)):
        if lists is not None:
            tensors |= dict(zip(_lists(name), lists.parts, strict=True))
    bins = (place.levels.picture != NOBODY).nonzero().to(torch.int32)
    nonempty = tuple(bins.long().T)
    tensors |= {f"levels.{name}": part[nonempty] for name, part in zip(_LEVELS, place.levels.parts, strict=True)}
    filled = place.histogram.nonzero().to(torch.int32)
    tensors |= {"levels.at": bins, "histogram.at": filled, "histogram": place.histogram[tuple(filled.long().T)]}
    return tensors | {"positive": place.positive, "sum": place.sums[first]}


def _unpacked(parts: Mapping[str, Tensor], prefix: str, first: int) -> PlaceTop:
    own = {name.removeprefix(prefix): part for name, part in parts.items() if name.startswith(prefix)}
    strongest = Lists(*(own[name] for name in _lists("strongest")))
    lowest = Lists(*(own[name] for name in _lists("lowest"))) if "lowest.rank" in own else None
    channels, _, axes = strongest.position.shape
    levels, nonempty = Levels.empty(channels, axes), tuple(own["levels.at"].long().T)
    for part, name in zip(levels.parts, _LEVELS, strict=True):
        part[nonempty] = own[f"levels.{name}"]
    histogram = torch.zeros(channels, BINS, dtype=torch.int64)
    histogram[tuple(own["histogram.at"].long().T)] = own["histogram"]
    return PlaceTop(strongest, lowest, own["positive"], histogram, levels, {first: own["sum"]})


_LEVELS = ("draw", "picture", "value", "position")


def _lists(name: str) -> list[str]:
    return [f"{name}.{part}" for part in ("rank", "value", "picture", "position")]
