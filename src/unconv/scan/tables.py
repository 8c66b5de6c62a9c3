"""Write the index: the results of all shards together, as Parquet files that any program can read.

`pictures.parquet`, `units.parquet` and `index.parquet` are written in this order. Each names the shards from which it was
made, so that files of two runs are never read as one.
"""

from __future__ import annotations

import hashlib
import io
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unconv.files import write
from unconv.scan.arrow import pyarrow
from unconv.scan.listed import Entry
from unconv.scan.shards import Shard, load
from unconv.scan.top import NOBODY, Lists, PlaceTop, Top, merge

PICTURES, UNITS, INDEX = "pictures.parquet", "units.parquet", "index.parquet"
_ORIGIN = b"unconv.made_from"
_CLASSES = 5  # classes listed for each unit
Columns = dict[str, Any]


def write_index(folder: Path, run: Mapping[str, Any], entries: Sequence[Entry], numbers: Sequence[int]) -> None:
    """Merge all shards of a run and write the index, unless it has already been made from these shards.

    Raises:
        ScanError: a shard is damaged, or pyarrow is not installed.
    """
    pa = pyarrow()
    shards = [load(folder, number) for number in numbers]
    origin = hashlib.sha256("".join(f"{shard.run}{shard.pictures}" for shard in shards).encode()).hexdigest()
    if all(made_from(folder / name) == origin for name in (PICTURES, UNITS, INDEX)):
        return
    top = Top({}, [])
    for shard in shards:
        top = merge(top, shard.top) if top.places else shard.top
    means = _class_means(folder, entries, shards) if run["maxima"] else None
    _write(folder / PICTURES, pa.table(_pictures(pa, entries, shards)), origin)
    units = [
        pa.table(_units(pa, place, place_top, top.count, number, means)) for number, (place, place_top) in _zipped(run, top)
    ]
    _write(folder / UNITS, pa.concat_tables(units) if units else pa.table({}), origin)
    _write_groups(
        folder / INDEX, (pa.table(_rows(pa, run, place, place_top)) for _, (place, place_top) in _zipped(run, top)), origin
    )


def made_from(path: Path) -> str | None:
    """Return the hash of the shards from which a table was made; None if the file is missing or damaged."""
    pa = pyarrow()
    try:
        metadata = pa.parquet.read_schema(path).metadata or {}
    except (pa.ArrowException, OSError):  # a file that is damaged, or missing
        return None
    return (metadata.get(_ORIGIN) or b"").decode() or None


def _zipped(run: Mapping[str, Any], top: Top) -> Iterator[tuple[int, tuple[Mapping[str, Any], PlaceTop]]]:
    return enumerate(zip(run["places"], top.places, strict=True))


def _write(path: Path, table: Any, origin: str) -> None:
    _write_groups(path, iter([table]), origin)


def _write_groups(path: Path, tables: Iterator[Any], origin: str) -> None:
    """Write tables as the row groups of one file."""
    pa, buffer, writer = pyarrow(), io.BytesIO(), None
    for table in tables:
        schema = table.schema.with_metadata({_ORIGIN: origin.encode()})
        writer = writer or pa.parquet.ParquetWriter(buffer, schema, compression="zstd")
        writer.write_table(table.cast(schema), row_group_size=max(1, table.num_rows))
    if writer:
        writer.close()
    write(path, buffer.getvalue())


def _pictures(pa: Any, entries: Sequence[Entry], shards: Sequence[Shard]) -> Columns:
    content = torch.cat([shard.content for shard in shards]) if shards else torch.zeros(0, dtype=torch.int64)
    look = torch.cat([shard.look for shard in shards]) if shards else content
    damaged = {number: why for shard in shards for number, why in shard.damaged.items()}
    numbers = range(len(entries))
    return {
        "number": pa.array(numbers, pa.int64()),
        "key": pa.array([entry.key for entry in entries], pa.string()),
        "source": pa.array([entry.source for entry in entries], pa.string()),
        "offset": pa.array([entry.offset for entry in entries], pa.int64()),
        "length": pa.array([entry.length for entry in entries], pa.int64()),
        "label": pa.array([entry.label for entry in entries], pa.string()),
        "content": pa.array(content.numpy()),
        "look": pa.array(look.numpy()),
        "read": pa.array([number not in damaged for number in numbers], pa.bool_()),
        "reason": pa.array([damaged.get(number) for number in numbers], pa.string()),
    }


def _units(pa: Any, place: Mapping[str, Any], place_top: PlaceTop, count: int, number: int, means: Any) -> Columns:
    channels = len(place_top.positive)
    strongest = place_top.strongest.value[:, 0].where(place_top.strongest.picture[:, 0] != NOBODY, torch.nan)
    classes = [None] * channels if means is None else means[number]
    return {
        "place": _constant_column(pa, place["name"], channels),
        "channel": pa.array(np.arange(channels, dtype=np.int32)),
        "pictures": pa.array(np.full(channels, count)),
        "positive": pa.array(place_top.positive.numpy()),
        "mean": pa.array((place_top.sum() / max(1, count)).numpy()),
        "largest": pa.array(strongest.numpy()),
        "histogram": _lists_of(pa, place_top.histogram.numpy(), pa.int64()),
        "classes": pa.array(classes, pa.list_(pa.struct([("label", pa.string()), ("mean", pa.float32())]))),
    }


def _rows(pa: Any, run: Mapping[str, Any], place: Mapping[str, Any], place_top: PlaceTop) -> Columns:
    """Return the entries of a place, sorted by channel, then strongest, lowest and levels."""
    parts = [_listed(place_top.strongest, "top", 1.0)]
    if place_top.lowest is not None:
        parts.append(_listed(place_top.lowest, "lowest", -1.0))
    channel, level = (place_top.levels.picture != NOBODY).nonzero(as_tuple=True)
    at = (channel, level)
    levels = (
        place_top.levels.value[at],
        place_top.levels.value[at],
        place_top.levels.picture[at],
        place_top.levels.position[at],
    )
    parts.append((channel, level, *levels, "level"))
    kinds = np.concatenate([np.full(len(part[0]), number) for number, part in enumerate(parts)])
    columns = [torch.cat([part[k] for part in parts]).numpy() for k in range(6)]
    channels, rank, score, value, picture, position = columns
    order = np.lexsort((rank, kinds, channels))  # lexsort's last key is the first to sort by
    names = np.array([part[6] for part in parts])[kinds][order]
    boxes = boxes_of(position[order], place, run["input"][1:])
    return {
        "place": _constant_column(pa, place["name"], len(order)),
        "channel": pa.array(channels[order].astype(np.int32)),
        "kind": pa.array(names.tolist()).dictionary_encode(),
        "rank": pa.array(rank[order].astype(np.int16)),
        "value": pa.array(value[order]),
        "score": pa.array(score[order]),
        "picture": pa.array(picture[order]),
        "position": _lists_of(pa, position[order], pa.int32()),
        "box": _lists_of(pa, boxes, pa.int32()),
    }


def _listed(lists: Lists, name: str, sign: float) -> tuple[Any, ...]:
    channel, rank = (lists.picture != NOBODY).nonzero(as_tuple=True)
    at = (channel, rank)
    return (channel, rank, sign * lists.rank[at], sign * lists.value[at], lists.picture[at], lists.position[at], name)


def boxes_of(positions: Any, place: Mapping[str, Any], size: Sequence[int]) -> Any:
    """Return (n, 2 axes), the receptive fields of units at positions (n, axes of the map): first samples, then ends.

    They are the boxes of projections: clipped to the image along an axis where they are longer than two images, or where
    every unit sees all of it.
    """
    spans, axes = place["spans"], len(size)
    extra_axes, everything = positions.shape[1] - axes, not any(place["stride"])
    firsts, ends = [], []
    for axis, ((starts, stops), n) in enumerate(zip(spans, size, strict=True)):
        along = extra_axes + axis
        index = positions[:, along] if along >= 0 and len(starts) > 1 else np.zeros(len(positions), np.int64)
        first, end = np.array(starts)[index], np.array(stops)[index]
        if everything:
            first, end = np.clip(first, 0, None), np.clip(end, None, n)
        too_long = end - first > 2 * n
        first, end = np.where(too_long, np.clip(first, 0, None), first), np.where(too_long, np.clip(end, None, n), end)
        firsts.append(first)
        ends.append(np.maximum(first, end))
    return np.stack([*firsts, *ends], 1) if axes else np.zeros((len(positions), 0), np.int64)


def _class_means(folder: Path, entries: Sequence[Entry], shards: Sequence[Shard]) -> list[list[list[dict[str, Any]]]] | None:
    """Return for each unit the classes with the largest mean of its maxima; None if there are no labels."""
    labels = sorted({entry.label for entry in entries if entry.label is not None})
    if not labels:
        return None
    number_of = {label: number for number, label in enumerate(labels)}
    sums, counts = defaultdict[int, Tensor](lambda: torch.zeros(0)), torch.zeros(len(labels), dtype=torch.float64)
    for shard in shards:
        complete = load(folder, shard.number, maxima=True)
        read = [k for k in range(len(complete.content)) if complete.first + k not in complete.damaged]
        labelled = [(row, entries[complete.first + k].label) for row, k in enumerate(read)]
        rows = torch.tensor([row for row, label in labelled if label is not None], dtype=torch.int64)
        classes = torch.tensor([number_of[label] for _, label in labelled if label is not None], dtype=torch.int64)
        counts += torch.bincount(classes, minlength=len(labels))
        for place, maxima in enumerate(complete.maxima):
            if not len(sums[place]):
                sums[place] = torch.zeros(len(labels), maxima.shape[1], dtype=torch.float64)
            sums[place].index_add_(0, classes, maxima[rows].double())
    return [_largest(sums[place] / counts.clamp(min=1)[:, None], labels) for place in sorted(sums)]


def _largest(means: Tensor, labels: Sequence[str]) -> list[list[dict[str, Any]]]:
    sorted_means = means.sort(dim=0, descending=True, stable=True)
    values, order = sorted_means.values[:_CLASSES].T.tolist(), sorted_means.indices[:_CLASSES].T.tolist()
    return [
        [{"label": labels[k], "mean": v} for k, v in zip(classes, mean, strict=True)]
        for classes, mean in zip(order, values, strict=True)
    ]


def _constant_column(pa: Any, name: str, count: int) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([name]))


def _lists_of(pa: Any, rows: Any, kind: Any) -> Any:
    offsets = np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows.reshape(-1)).cast(kind))
