"""Project units in the pictures they respond to most.

Each picture is read and recorded once for all its units; pictures are recorded, and their units walk back, many together.
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
"""Which of the units, and which of its winners."""
_WORTHWHILE = 48  # pictures: to try whether a network allows it takes a dozen forward passes
_DIFFERS = 1e-4  # of an activation: more than rounding makes of another batch or thread


@dataclass(frozen=True)
class Winner:
    """A unit and a picture of its list.

    Args:
        picture, key: the picture's number and name.
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
    """Yield the projections of each unit in its pictures, as soon as they are all there.

    Args:
        read: from a picture's number to the picture.
        units: of each the winners, all of one place.

    Raises:
        As `Network.project`.
    """
    found: list[dict[int, Reconstruction]] = [{} for _ in units]
    for (unit, rank), one in single_projections(network, read, units, method):
        found[unit][rank] = one
        if len(found[unit]) == len(units[unit]):
            yield Reconstructions.joined(found[unit][at] for at in sorted(found[unit]))
            found[unit] = {}


def single_projections(
    network: Network, read: Callable[[int], Any], units: Sequence[Sequence[Winner]], method: Method | Rules = "deconvnet"
) -> Iterator[tuple[_Number, Reconstruction]]:
    """Yield each winner's number, of the unit and among its winners, and its projection; those of one picture together.

    Args:
        read: from a picture's number to the picture; None: its winners are left out.
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
    for first in range(0, len(pictures), batches.most):
        sources = {picture: read(picture) for picture in pictures[first : first + batches.most]}
        part = [picture for picture, source in sources.items() if source is not None]
        if not part:
            continue
        images = [network.prepared(sources[picture])[0] for picture in part]
        numbers = [(row, number) for row, picture in enumerate(part) for number in waiting[picture]]
        wanted, those = defaultdict[str, list[Chosen]](list), defaultdict[str, list[_Number]](list)
        for row, (unit, rank) in numbers:
            winner = units[unit][rank]
            wanted[winner.place].append(Chosen(row, winner.channel, winner.position))
            those[winner.place].append((unit, rank))
        looks = [
            Picture(image[0], shown(image[0], network.preparation), picture)
            for image, picture in zip(images, part, strict=True)
        ]
        for place, made in batches.units(torch.cat(images), wanted).items():
            for arrival in made.arrivals():
                unit, rank = those[place][arrival.index]
                winner = units[unit][rank]
                source = replace(looks[wanted[place][arrival.index].row], key=winner.key)
                one = replace(made, image=source.image, shown=source.shown, source=source).one(arrival)
                yield (unit, rank), _compared(one, winner)


def _of_one(
    network: Network, source: Any, units: Sequence[Sequence[Winner]], numbers: Sequence[_Number], method: Method | Rules
) -> Iterator[tuple[_Number, Reconstruction]]:
    """Yield the winners of one picture."""
    places = dict.fromkeys(units[unit][rank].place for unit, rank in numbers)
    recording = network.record(source, list(places), method)
    for place in places:
        those = [(unit, rank) for unit, rank in numbers if units[unit][rank].place == place]
        yield from zip(those, _projected(recording, [units[unit][rank] for unit, rank in those], method), strict=True)


def _projected(recording: Recording, winners: Sequence[Winner], method: Method | Rules) -> Iterator[Reconstruction]:
    """Return the projections of units of one place in one picture, in their order."""
    positions = torch.tensor([winner.position for winner in winners], dtype=torch.int64)
    channels = [winner.channel for winner in winners]
    units = recording.units(winners[0].place, channels, positions.reshape(len(winners), -1), method)
    source = replace(units.picture, number=winners[0].picture, key=winners[0].key)
    units = replace(units, source=source)
    arrived = sorted(units.arrivals(), key=lambda arrival: arrival.index)
    for winner, arrival in zip(winners, arrived, strict=True):
        yield _compared(units.one(arrival), winner)


def difference(one: Reconstruction, winner: Winner) -> str:
    """Return in words that a projection's activation is not that of the scan; "" if it is."""
    if abs(one.value - winner.value) <= _DIFFERS * max(abs(winner.value), abs(one.value)):
        return ""
    return (
        f"{winner.key}, channel {winner.channel}: the activation is {one.value:.6g} now but was {winner.value:.6g} in "
        "the scan: other versions, or another device"
    )


def _compared(one: Reconstruction, winner: Winner) -> Reconstruction:
    """Return a projection; if its activation is not that of the scan, with a note that says so."""
    differs = difference(one, winner)
    return replace(one, notes=(*one.notes, differs)) if differs else one
