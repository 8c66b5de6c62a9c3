"""Project units in the pictures to which they respond most.

Each picture is read and recorded once for all its units. Many pictures are recorded, and projected, in one batch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from unconv.pictures.preprocess import shown
from unconv.reverse.batch_recording import BatchRecording, Chosen
from unconv.reverse.method_table import Method
from unconv.reverse.methods import Rules
from unconv.reverse.model import Recording
from unconv.reverse.network import Network
from unconv.reverse.reconstruction import Picture, Reconstruction, Reconstructions

_Number = tuple[int, int]
"""The index of a unit, and that of one of its winners."""
_WORTHWHILE = 48  # pictures from which batches pay: the test whether a network allows them takes a dozen forward passes
_DIFFERS = 1e-4  # of an activation: more than another batch size or number of threads changes by rounding


@dataclass(frozen=True)
class Winner:
    """A unit and one of its strongest pictures.

    Args:
        picture, key: the picture's number and name.
        position: of the unit on its map.
        value: the activation in the scan.
    """

    place: str
    channel: int
    picture: int
    key: str
    position: tuple[int, ...]
    value: float


def projections(
    network: Network, read: Callable[[int], Any], units: Sequence[Sequence[Winner]], method: Method | Rules = "deconvnet"
) -> Iterator[Reconstructions]:
    """Yield the projections of each unit in its pictures, as soon as all of them are ready.

    Args:
        read: returns a picture by its number.
        units: the winners of each unit, all of one place.

    Raises:
        The errors of `Network.project`.
    """
    ready: list[dict[int, Reconstruction]] = [{} for _ in units]
    for (unit, rank), reconstruction in single_projections(network, read, units, method):
        ready[unit][rank] = reconstruction
        if len(ready[unit]) == len(units[unit]):
            yield Reconstructions.joined(ready[unit][k] for k in sorted(ready[unit]))
            ready[unit] = {}


def single_projections(
    network: Network, read: Callable[[int], Any], units: Sequence[Sequence[Winner]], method: Method | Rules = "deconvnet"
) -> Iterator[tuple[_Number, Reconstruction]]:
    """Yield ((unit, rank), projection) for each winner; those of one picture come together.

    Args:
        read: returns a picture by its number; if it returns None, the picture's winners are left out.
    """
    waiting: dict[int, list[_Number]] = defaultdict(list)  # by picture
    for unit, winners in enumerate(units):
        for rank, winner in enumerate(winners):
            waiting[winner.picture].append((unit, rank))
    pictures = sorted(waiting)
    places = list(dict.fromkeys(winner.place for winners in units for winner in winners))
    batches = BatchRecording(network, places, method) if len(pictures) >= _WORTHWHILE else None
    if batches is None or batches.refusal:
        for picture in pictures:
            if (source := read(picture)) is not None:
                yield from _of_one(network, source, units, waiting[picture], method)
        return
    # Pictures of a batch share a forward pass and, place by place, one walk back; each arrival is then given its own image.
    for first in range(0, len(pictures), batches.most):
        sources = {picture: read(picture) for picture in pictures[first : first + batches.most]}
        part = [picture for picture, source in sources.items() if source is not None]
        if not part:
            continue
        images = [network.prepared(sources[picture])[0] for picture in part]
        numbers = [(row, number) for row, picture in enumerate(part) for number in waiting[picture]]
        chosen, numbers_of = defaultdict[str, list[Chosen]](list), defaultdict[str, list[_Number]](list)
        for row, (unit, rank) in numbers:
            winner = units[unit][rank]
            chosen[winner.place].append(Chosen(row, winner.channel, winner.position))
            numbers_of[winner.place].append((unit, rank))
        prepared = [
            Picture(image[0], shown(image[0], network.preparation), picture)
            for image, picture in zip(images, part, strict=True)
        ]
        for place, units_of_place in batches.units(torch.cat(images), chosen).items():
            for arrival in units_of_place.arrivals():
                unit, rank = numbers_of[place][arrival.index]
                winner = units[unit][rank]
                source = replace(prepared[chosen[place][arrival.index].row], key=winner.key)
                reconstruction = replace(units_of_place, image=source.image, shown=source.shown, source=source).one(arrival)
                yield (unit, rank), _compared(reconstruction, winner)


def _of_one(
    network: Network, source: Any, units: Sequence[Sequence[Winner]], numbers: Sequence[_Number], method: Method | Rules
) -> Iterator[tuple[_Number, Reconstruction]]:
    """Yield the projections of one picture's winners."""
    places = dict.fromkeys(units[unit][rank].place for unit, rank in numbers)
    recording = network.record(source, list(places), method)
    for place in places:
        own = [(unit, rank) for unit, rank in numbers if units[unit][rank].place == place]
        yield from zip(own, _projected(recording, [units[unit][rank] for unit, rank in own], method), strict=True)


def _projected(recording: Recording, winners: Sequence[Winner], method: Method | Rules) -> Iterator[Reconstruction]:
    """Yield the projections of units of one place in one picture, in the order of `winners`."""
    positions = torch.tensor([winner.position for winner in winners], dtype=torch.int64)
    channels = [winner.channel for winner in winners]
    units = recording.units(winners[0].place, channels, positions.reshape(len(winners), -1), method)
    source = replace(units.picture, number=winners[0].picture, key=winners[0].key)
    units = replace(units, source=source)
    arrivals = sorted(units.arrivals(), key=lambda arrival: arrival.index)
    for winner, arrival in zip(winners, arrivals, strict=True):
        yield _compared(units.one(arrival), winner)


def difference(one: Reconstruction, winner: Winner) -> str:
    """Return a note if a projection's activation differs from that of the scan; "" if it does not."""
    if abs(one.value - winner.value) <= _DIFFERS * max(abs(winner.value), abs(one.value)):
        return ""
    return (
        f"{winner.key}, channel {winner.channel}: the activation is {one.value:.6g} now but was {winner.value:.6g} in "
        "the scan: other versions, or another device"
    )


def _compared(projection: Reconstruction, winner: Winner) -> Reconstruction:
    """Return a projection, with a note if its activation differs from that of the scan."""
    note = difference(projection, winner)
    return replace(projection, notes=(*projection.notes, note)) if note else projection
