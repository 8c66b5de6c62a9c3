"""The index of a scan: the strongest pictures of every unit, and its statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unconv.errors import ModelError, NoSuchLayer, NoSuchUnit, ScanError, ShapeError, counted, nearest
from unconv.kinds import checks_kinds_but
from unconv.pictures.decode import Source
from unconv.reverse.method_table import Method
from unconv.reverse.methods import Rules
from unconv.reverse.network import Network
from unconv.reverse.numbers import times
from unconv.reverse.reconstruction import Reconstruction, Reconstructions
from unconv.scan.again import Reader
from unconv.scan.arrow import pyarrow
from unconv.scan.firing import fires, shares
from unconv.scan.listed import Entry
from unconv.scan.opening import open_pictures
from unconv.scan.run import known_run, open_again, weights_hash
from unconv.scan.shards import load as load_shard
from unconv.scan.shards import shard_numbers
from unconv.scan.tables import INDEX, PICTURES, UNITS, made_from
from unconv.scan.winners import Winner, projections, single_projections

_NEAR = 6
"""The largest number of bits in which the difference hashes of near-identical pictures differ."""
_MOST = 2**29  # the most maxima in memory, from which similar units are computed


@dataclass(frozen=True)
class Found:
    """A picture in a unit's list.

    Args:
        value: the unit's activation there.
        picture, key, label: the picture's number, name and class.
        position: (y, x) of the unit on its map, in as many axes as that has.
        box: (y0, x0, y1, x1) in pixels of the prepared picture, ends excluded; it may reach outside.
        rank: from 0, the strongest; for a level, the level.
        score: what the list is ordered by: the activation, or its value before a clip such as ReLU6.
        near: the rank of an earlier picture in the list that this one is nearly identical to; None if there is none.
    """

    value: float
    picture: int
    key: str
    label: str | None
    position: tuple[int, ...]
    box: tuple[int, ...]
    rank: int
    score: float
    near: int | None = None


@dataclass(frozen=True)
class UnitStatistics:
    """A unit's statistics over all pictures.

    Args:
        pictures: the number of pictures scanned.
        positive: the number of pictures in which the unit was above zero somewhere.
        mean, largest: the mean and the largest of its maxima; `largest` is NaN if it never responded.
        histogram: (64,) of its maxima: first those not above zero, then by octaves; bin b begins at 2^(b-32).
        classes: the classes with the largest mean of its maxima, each with that mean.
    """

    place: str
    channel: int
    pictures: int
    positive: int
    mean: float
    largest: float
    histogram: np.ndarray[Any, Any]
    classes: tuple[tuple[str, float], ...]

    @property
    def dead(self) -> bool:
        """Whether the unit was above zero in no picture."""
        return self.positive == 0


@dataclass(frozen=True)
class ScannedPicture:
    """A picture in the list of a scan.

    Args:
        read: whether it could be read.
        reason: the reason why it could not; "" if it could.
        content, look: hashes of the bytes, and of the picture's look (difference hash).
    """

    number: int
    key: str
    source: str
    offset: int
    length: int
    label: str | None
    content: int
    look: int
    read: bool
    reason: str


@dataclass(frozen=True)
class Similar:
    """A unit that responds to the same pictures: the correlation of its maxima with those of the unit asked for."""

    place: str
    channel: int
    correlation: float


@dataclass(frozen=True)
class Fires:
    """A unit's response to a picture, compared with its responses to all scanned pictures.

    Args:
        value: its largest activation in the picture, or in the requested region.
        share: the share of all scanned pictures to which it responds less.
        position: where on its map that activation is.
    """

    place: str
    channel: int
    value: float
    share: float
    position: tuple[int, ...]


class Index:
    """The result of a scan, read from its folder.

    Args:
        folder: the one that `unconv.scan` or `unconv index` wrote.
        network: the network that was scanned; needed for projections if it was not opened by a name. None: it is opened
            again in the same way.
        pictures: the pictures that were scanned; needed for projections if they were in memory only, a data set or an array.

    Raises:
        ScanError: the folder holds no complete scan.
    """

    def __init__(self, folder: str | Path, network: Network | None = None, pictures: Any = None) -> None:
        self.folder = Path(folder)
        self.run = known_run(self.folder)
        self._network, self._source_pictures = network, pictures
        origins = {name: made_from(self.folder / name) for name in (PICTURES, UNITS, INDEX)}
        if None in origins.values() or len(set(origins.values())) > 1:
            raise ScanError(
                f"index: the index in {folder} is not complete: the scan was stopped, or shards are missing. Run the scan "
                "again; it continues where it stopped."
            )
        self.made_from = str(origins[INDEX])
        self._groups: dict[str, Any] = {}

    def __repr__(self) -> str:
        counts = f"{counted(len(self.places), 'place')}, {counted(len(self._columns), 'picture')}"
        return f"Index({self.run['network']}: {counts}, in {self.folder})"

    def _repr_html_(self) -> str:
        dead = dict.fromkeys(self.places, 0)
        for unit in self.units():
            dead[unit.place] += unit.dead
        cells = [
            (place["name"], place["channels"], dead[place["name"]], times(place["size"]), times(place["receptive_field"]))
            for place in self.run["places"]
        ]
        rows = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in cells)
        header_cells = "".join(f"<th>{head}</th>" for head in ("place", "units", "dead", "map", "a unit sees"))
        caption = (
            f"<b>{escape(self.run['network'])}</b> over {counted(len(self._columns), 'picture')}, in {escape(str(self.folder))}"
        )
        return f"<table><caption>{caption}</caption><thead><tr>{header_cells}</tr></thead><tbody>{rows}</tbody></table>"

    @property
    def places(self) -> list[str]:
        """The names of the places that were scanned."""
        return [place["name"] for place in self.run["places"]]

    @checks_kinds_but("place")
    def top(self, place: str, channel: int, n: int = 9, distinct: bool = False) -> list[Found]:
        """Return the strongest pictures of a unit, strongest first; among equals, the smaller number first.

        Args:
            n: the largest number of pictures; a unit that never responded has none.
            distinct: leave out pictures that are nearly identical to a stronger one.

        Raises:
            NoSuchLayer, NoSuchUnit: there is no such place or channel.
            ShapeError: `n` is more than the scan kept.
        """
        return self._first(self._rows(place, channel, "top"), n, distinct)

    @checks_kinds_but("place")
    def lowest(self, place: str, channel: int, n: int = 9, distinct: bool = False) -> list[Found]:
        """As `top`, for the smallest values; after a rectifier, for those of its input.

        Raises:
            ScanError: the scan did not keep them.
        """
        if not self.run["lowest"]:
            raise ScanError(
                "index: the scan kept no lowest values. Scan again with lowest=True, --lowest, into another folder."
            )
        return self._first(self._rows(place, channel, "lowest"), n, distinct)

    @checks_kinds_but("place")
    def levels(self, place: str, channel: int) -> list[Found]:
        """Return a picture of each octave of a unit's activation, drawn at random, strongest first."""
        return self._rows(place, channel, "level")[::-1]

    def units(self) -> list[UnitStatistics]:
        """Return the statistics of every unit."""
        table = self._read(UNITS).to_pydict()
        rows = zip(*table.values(), strict=True)
        records = (dict(zip(table, row, strict=True)) for row in rows)
        return [
            UnitStatistics(
                row["place"],
                row["channel"],
                row["pictures"],
                row["positive"],
                row["mean"],
                row["largest"],
                np.array(row["histogram"]),
                tuple((entry["label"], entry["mean"]) for entry in row["classes"] or ()),
            )
            for row in records
        ]

    def pictures(self) -> list[ScannedPicture]:
        """Return all pictures of the list, in the order of their numbers, also those that could not be read."""
        return list(self._columns)

    def damaged(self) -> list[ScannedPicture]:
        """Return the pictures that could not be read."""
        return [picture for picture in self._columns if not picture.read]

    @checks_kinds_but("place")
    def similar(self, place: str, channel: int, n: int = 5) -> list[Similar]:
        """Return the units, of any place, whose maxima correlate most with those of a unit.

        Raises:
            ScanError: the scan did not keep the maxima.
        """
        self._channel(place, channel)
        return next(self._most_similar(place, slice(channel, channel + 1), n))

    @checks_kinds_but("place")
    def all_similar(self, place: str, n: int = 5) -> list[list[Similar]]:
        """Return what `similar` returns for every channel of a place, in little more time than for one."""
        count = self.run["places"][self._channel(place, 0)]["channels"]
        return list(self._most_similar(place, slice(0, count), n))

    def correlations(self, place: str) -> Tensor:
        """Return (C, C), the correlations of the maxima of a place's channels; 0 for a channel that never varies."""
        own = self._own_maxima(place, slice(0, self.run["places"][self._channel(place, 0)]["channels"]))
        return own.T @ own

    def _own_maxima(self, place: str, channels: slice) -> Tensor:
        names, maxima = self._maxima
        first = names.index((place, 0))
        return maxima[:, first + channels.start : first + channels.stop]

    def _most_similar(self, place: str, channels: slice, n: int) -> Iterator[list[Similar]]:
        names, maxima = self._maxima
        own = self._own_maxima(place, channels)
        correlation, first = own.T @ maxima, names.index((place, channels.start))
        correlation[torch.arange(len(correlation)), torch.arange(len(correlation)) + first] = -torch.inf
        ranked = correlation.sort(dim=1, descending=True, stable=True)
        norms = own.norm(dim=0).tolist()
        for order, values, norm in zip(ranked.indices[:, :n].tolist(), ranked.values[:, :n].tolist(), norms, strict=True):
            pairs = zip(order, values, strict=True) if norm else ()
            yield [Similar(names[k][0], names[k][1], value) for k, value in pairs if value > -torch.inf]

    @checks_kinds_but("place", "method")
    def projections(
        self, place: str, channel: int, n: int = 9, distinct: bool = False, method: Method | Rules = "deconvnet"
    ) -> Reconstructions:
        """Return the projections of a unit in its strongest pictures, each with its own patch.

        The pictures are read and recorded again. The notes say what differs from the scan.

        Raises:
            PictureError: a picture is missing now, or has changed.
            ModelError: the network is not the one that was scanned.
        """
        entries = self.top(place, channel, n, distinct)
        if not entries:
            raise NoSuchUnit(f"projections: {place}, channel {channel}, responded to no picture: there is nothing to project.")
        winners = [Winner(place, channel, entry.picture, entry.key, entry.position, entry.value) for entry in entries]
        return next(iter(self.projected([winners], method)))

    def projected(self, units: Sequence[Sequence[Winner]], method: Method | Rules = "deconvnet") -> Iterator[Reconstructions]:
        """Yield the projections of many units, each in its own pictures; every picture is read and recorded once."""
        columns = self._columns
        return projections(self.network, lambda number: self.source(columns[number]), units, method)

    def single_projections(
        self, units: Sequence[Sequence[Winner]], read: Callable[[int], Any], method: Method | Rules = "deconvnet"
    ) -> Iterator[tuple[tuple[int, int], Reconstruction]]:
        """Yield ((unit, rank), projection) as they come, those of one picture together; none of them is kept in memory.

        Args:
            read: returns for a picture's number what `source` returns, or None to leave its projections out.
        """
        return single_projections(self.network, read, units, method)

    @checks_kinds_but("image", "region")
    def fires(self, image: Source | int, region: Sequence[int] | None = None, n: int = 20) -> list[Fires]:
        """Return the units that respond to a picture more than to others, in the order of their `share`.

        Args:
            image: a picture, as for `Network.project`, or the number of one that was scanned.
            region: (y0, x0, y1, x1) in pixels of the prepared picture: only units that see its middle part count.
        """
        picture = self.source(self._columns[image]) if isinstance(image, int) else image
        recording = self.network.record(picture, self.places)
        return [Fires(*row) for row in fires(self.run, recording, region, self._histograms, n)]

    def shares(self, values: Tensor) -> Any:
        """Return (units,): the share of all pictures to which each unit responds less than these values, one per unit."""
        return shares(values, self._histograms)

    @cached_property
    def network(self) -> Network:
        """The network that was scanned, opened again if none was passed; its weights are compared.

        Raises:
            ModelError: the network was a live module and was not passed, or its weights have changed.
        """
        network, how = self._network, self.run["opened"]
        if network is None and how is None:
            raise ModelError(
                f"index: {self.run['network']} was scanned as a live module, which no file tells how to open. "
                "Pass it: unconv.Index(folder, network=network)."
            )
        network = open_again(self.run) if network is None else network
        if weights_hash(network) != self.run["weights"]:
            raise ModelError(
                f"index: the weights of {network.name} are not those that were scanned. Pass the network that was, or scan "
                "again, into another folder."
            )
        return network

    def source(self, picture: ScannedPicture) -> Any:
        """Return a picture of the list, read again.

        Raises:
            PictureError: it is missing now, or has changed since.
        """
        entry = Entry(picture.key, picture.source, picture.offset, picture.length, picture.label)
        return self._reader.read(entry, picture.content)

    @cached_property
    def _reader(self) -> Reader:
        return Reader(self.folder, None if self._source_pictures is None else open_pictures(self._source_pictures))

    @cached_property
    def _columns(self) -> list[ScannedPicture]:
        table = self._read(PICTURES).to_pydict()
        rows = zip(*table.values(), strict=True)
        return [ScannedPicture(**{**dict(zip(table, row, strict=True)), "reason": row[-1] or ""}) for row in rows]

    @cached_property
    def _maxima(self) -> tuple[list[tuple[str, int]], Tensor]:
        """Return the units, and their maxima (pictures, units) scaled to mean 0 and norm 1; zero for those that never vary.

        With this scale a product of two columns is their correlation. If a data set is too large for memory, only every
        few pictures are used.
        """
        if not self.run["maxima"]:
            raise ScanError("index: the scan did not keep the maxima of every picture. Scan again with maxima=True.")
        shards = [load_shard(self.folder, number, maxima=True).maxima for number in shard_numbers(self.folder)]
        step = 1 + len(self._columns) * sum(place["channels"] for place in self.run["places"]) // _MOST
        parts = [torch.cat([shard[k][::step] for shard in shards]).float() for k in range(len(self.run["places"]))]
        maxima = torch.cat(parts, 1)
        maxima -= maxima.mean(0)
        norm = maxima.norm(dim=0)
        maxima /= torch.where(norm > 0, norm, 1.0)
        names = [(place["name"], channel) for place in self.run["places"] for channel in range(place["channels"])]
        return names, maxima

    @cached_property
    def _histograms(self) -> Any:
        """Return (units, 64), the histogram of each unit's maxima, in the order of the places."""
        return np.array(self._read(UNITS).column("histogram").to_pylist())

    def _read(self, name: str) -> Any:
        return pyarrow().parquet.read_table(self.folder / name)

    def _channel(self, place: str, channel: int) -> int:
        """Return the index of a place, after a check that it has the channel.

        Raises:
            NoSuchLayer, NoSuchUnit: there is no such place or channel.
        """
        if place not in self.places:
            raise NoSuchLayer(f"place: {place!r} was not scanned. Did you mean {nearest(str(place), self.places)}?")
        number = self.places.index(place)
        count = self.run["places"][number]["channels"]
        if not 0 <= channel < count:
            raise NoSuchUnit(f"channel: there is no channel {channel}; {place} has {count}, from 0 to {count - 1}.")
        return number

    def _rows(self, place: str, channel: int, kind: str) -> list[Found]:
        number = self._channel(place, channel)
        if place not in self._groups:
            group = pyarrow().parquet.ParquetFile(self.folder / INDEX).read_row_group(number)
            columns = {name: group.column(name).to_numpy() for name in ("channel", "rank", "value", "score", "picture")}
            columns["kind"] = np.array(group.column("kind").to_pylist())
            columns |= {name: group.column(name).to_pylist() for name in ("position", "box")}
            self._groups[place] = columns
        columns = self._groups[place]
        first, end = np.searchsorted(columns["channel"], [channel, channel + 1])
        matching = [row for row in range(first, end) if columns["kind"][row] == kind]
        return [self._found(columns, row) for row in matching]

    def _found(self, columns: dict[str, Any], row: int) -> Found:
        picture = self._columns[int(columns["picture"][row])]
        return Found(
            float(columns["value"][row]),
            picture.number,
            picture.key,
            picture.label,
            tuple(columns["position"][row]),
            tuple(columns["box"][row]),
            int(columns["rank"][row]),
            float(columns["score"][row]),
        )

    def _first(self, rows: list[Found], n: int, distinct: bool) -> list[Found]:
        """Return the first `n` entries, each marked with an earlier near-identical one, or without such entries."""
        if n < 1 or n > self.run["keep"]:
            raise ShapeError(
                f"n: {n} came, but the scan kept {counted(self.run['keep'], 'picture')} per unit. Ask for no more."
            )
        result = list[Found]()
        for entry in rows:
            near = next((other.rank for other in result if self._near(entry.picture, other.picture)), None)
            if near is None or not distinct:
                result.append(Found(**{**entry.__dict__, "near": near}))
            if len(result) == n:
                break
        return result

    def _near(self, a: int, b: int) -> bool:
        first, second = self._columns[a], self._columns[b]
        if first.content == second.content and first.content:
            return True
        # Python's ^ of signed numbers has infinitely many sign bits: only the 64 of the hash are counted.
        difference = (first.look ^ second.look) & (2**64 - 1)
        return bool(first.look and second.look) and difference.bit_count() <= _NEAR
