"""The index: what all shards together have found, as Parquet files that any program reads.

`pictures.parquet`, `units.parquet` and `index.parquet` are written in this order, and each says which shards it was made
from: files of two runs are never read as one.
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
_MADE = b"unconv.made_from"
_CLASSES = 5
Columns = dict[str, Any]


def write_index(folder: Path, run: Mapping[str, Any], entries: Sequence[Entry], numbers: Sequence[int]) -> None:
    """Merge all shards of a run and write the index, unless it is that of these shards already.

    Raises:
        ScanError: a shard is damaged, or pyarrow is not installed.
    """
    pa = pyarrow()
    shards = [load(folder, number) for number in numbers]
    made = hashlib.sha256("".join(f"{shard.run}{shard.pictures}" for shard in shards).encode()).hexdigest()
    if all(made_from(folder / name) == made for name in (PICTURES, UNITS, INDEX)):
        return
    top = Top({}, [])
    for shard in shards:
        top = merge(top, shard.top) if top.places else shard.top
    means = _class_means(folder, entries, shards) if run["maxima"] else None
    _write(folder / PICTURES, pa.table(_pictures(pa, entries, shards)), made)
    units = [pa.table(_units(pa, place, kept, top.count, number, means)) for number, (place, kept) in _zipped(run, top)]
    _write(folder / UNITS, pa.concat_tables(units) if units else pa.table({}), made)
    _write_groups(folder / INDEX, (pa.table(_rows(pa, run, place, kept)) for _, (place, kept) in _zipped(run, top)), made)


def made_from(path: Path) -> str | None:
    """Return from which shards a table was made; None if it is not there or damaged."""
    pa = pyarrow()
    try:
        metadata = pa.parquet.read_schema(path).metadata or {}
    except (pa.ArrowException, OSError):  # a file that is torn, or none
        return None
    return (metadata.get(_MADE) or b"").decode() or None


def _zipped(run: Mapping[str, Any], top: Top) -> Iterator[tuple[int, tuple[Mapping[str, Any], PlaceTop]]]:
    return enumerate(zip(run["places"], top.places, strict=True))


def _write(path: Path, table: Any, made: str) -> None:
    _write_groups(path, iter([table]), made)


def _write_groups(path: Path, tables: Iterator[Any], made: str) -> None:
    """Write tables as the row groups of one file."""
    pa, buffer, writer = pyarrow(), io.BytesIO(), None
    for table in tables:
        schema = table.schema.with_metadata({_MADE: made.encode()})
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


def _units(pa: Any, place: Mapping[str, Any], kept: PlaceTop, count: int, number: int, means: Any) -> Columns:
    channels = len(kept.positive)
    strongest = kept.strongest.value[:, 0].where(kept.strongest.picture[:, 0] != NOBODY, torch.nan)
    classes = [None] * channels if means is None else means[number]
    return {
        "place": _named(pa, place["name"], channels),
        "channel": pa.array(np.arange(channels, dtype=np.int32)),
        "pictures": pa.array(np.full(channels, count)),
        "positive": pa.array(kept.positive.numpy()),
        "mean": pa.array((kept.sum() / max(1, count)).numpy()),
        "largest": pa.array(strongest.numpy()),
        "histogram": _lists_of(pa, kept.histogram.numpy(), pa.int64()),
        "classes": pa.array(classes, pa.list_(pa.struct([("label", pa.string()), ("mean", pa.float32())]))),
    }


def _rows(pa: Any, run: Mapping[str, Any], place: Mapping[str, Any], kept: PlaceTop) -> Columns:
    """Return the entries of a place, sorted by channel, then strongest, lowest and levels."""
    parts = [_listed(kept.strongest, "top", 1.0)]
    if kept.lowest is not None:
        parts.append(_listed(kept.lowest, "lowest", -1.0))
    channel, level = (kept.levels.picture != NOBODY).nonzero(as_tuple=True)
    at = (channel, level)
    levels = (kept.levels.value[at], kept.levels.value[at], kept.levels.picture[at], kept.levels.position[at])
    parts.append((channel, level, *levels, "level"))
    kinds = np.concatenate([np.full(len(part[0]), number) for number, part in enumerate(parts)])
    columns = [torch.cat([part[k] for part in parts]).numpy() for k in range(6)]
    channels, rank, score, value, picture, position = columns
    order = np.lexsort((rank, kinds, channels))  # lexsort's last key is the first to sort by
    names = np.array([part[6] for part in parts])[kinds][order]
    boxes = boxes_of(position[order], place, run["input"][1:])
    return {
        "place": _named(pa, place["name"], len(order)),
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
    """(n, 2 axes): firsts, then ends, of what units at (n, axes of the map) see of the image.

    As those of projections: cut to the image along an axis where they are longer than two images, or where every
    unit sees all of it.
    """
    spans, axes = place["spans"], len(size)
    more, everything = positions.shape[1] - axes, not any(place["stride"])
    firsts, ends = [], []
    for axis, ((starts, stops), n) in enumerate(zip(spans, size, strict=True)):
        along = more + axis
        at = positions[:, along] if along >= 0 and len(starts) > 1 else np.zeros(len(positions), np.int64)
        first, end = np.array(starts)[at], np.array(stops)[at]
        if everything:
            first, end = np.clip(first, 0, None), np.clip(end, None, n)
        long = end - first > 2 * n
        first, end = np.where(long, np.clip(first, 0, None), first), np.where(long, np.clip(end, None, n), end)
        firsts.append(first)
        ends.append(np.maximum(first, end))
    return np.stack([*firsts, *ends], 1) if axes else np.zeros((len(positions), 0), np.int64)


def _class_means(folder: Path, entries: Sequence[Entry], shards: Sequence[Shard]) -> list[list[list[dict[str, Any]]]] | None:
    """Return of each unit the classes with the largest mean of its maxima; None without labels."""
    labels = sorted({entry.label for entry in entries if entry.label is not None})
    if not labels:
        return None
    number_of = {label: number for number, label in enumerate(labels)}
    sums, counts = defaultdict[int, Tensor](lambda: torch.zeros(0)), torch.zeros(len(labels), dtype=torch.float64)
    for shard in shards:
        whole = load(folder, shard.number, maxima=True)
        read = [k for k in range(len(whole.content)) if whole.first + k not in whole.damaged]
        told = [(row, entries[whole.first + k].label) for row, k in enumerate(read)]
        rows = torch.tensor([row for row, label in told if label is not None], dtype=torch.int64)
        classes = torch.tensor([number_of[label] for _, label in told if label is not None], dtype=torch.int64)
        counts += torch.bincount(classes, minlength=len(labels))
        for place, maxima in enumerate(whole.maxima):
            if not len(sums[place]):
                sums[place] = torch.zeros(len(labels), maxima.shape[1], dtype=torch.float64)
            sums[place].index_add_(0, classes, maxima[rows].double())
    return [_largest(sums[place] / counts.clamp(min=1)[:, None], labels) for place in sorted(sums)]


def _largest(means: Tensor, labels: Sequence[str]) -> list[list[dict[str, Any]]]:
    found = means.sort(dim=0, descending=True, stable=True)
    values, order = found.values[:_CLASSES].T.tolist(), found.indices[:_CLASSES].T.tolist()
    return [
        [{"label": labels[k], "mean": v} for k, v in zip(classes, mean, strict=True)]
        for classes, mean in zip(order, values, strict=True)
    ]


def _named(pa: Any, name: str, count: int) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([name]))


def _lists_of(pa: Any, rows: Any, kind: Any) -> Any:
    offsets = np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows.reshape(-1)).cast(kind))
