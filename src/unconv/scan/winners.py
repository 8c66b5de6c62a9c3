"""Project units in the pictures they respond to most: each picture is read and recorded once for all its units."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from unconv.reverse.methods import Rules
from unconv.reverse.model import Recording
from unconv.reverse.network import Network
from unconv.reverse.reconstruction import Reconstruction, Reconstructions

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
    network: Network, read: Callable[[int], Any], units: Sequence[Sequence[Winner]], method: str | Rules = "deconvnet"
) -> Iterator[Reconstructions]:
    """Yield the projections of each unit in its pictures, as soon as they are all there.

    Args:
        read: from a picture's number to the picture.
        units: of each the winners, all of one place.

    Raises:
        As `Network.project`.
    """
    waiting: dict[int, list[tuple[int, int]]] = defaultdict(list)  # by picture: which winners of which units
    for unit, winners in enumerate(units):
        for rank, winner in enumerate(winners):
            waiting[winner.picture].append((unit, rank))
    found: list[dict[int, Reconstruction]] = [{} for _ in units]
    for picture in sorted(waiting):
        places = dict.fromkeys(units[unit][rank].place for unit, rank in waiting[picture])
        recording = network.record(read(picture), list(places), method)
        for place in places:
            those = [(unit, rank) for unit, rank in waiting[picture] if units[unit][rank].place == place]
            made = _projected(recording, [units[unit][rank] for unit, rank in those], method)
            for (unit, rank), one in zip(those, made, strict=True):
                found[unit][rank] = one
                if len(found[unit]) == len(units[unit]):
                    yield Reconstructions.joined(found[unit][at] for at in sorted(found[unit]))
                    found[unit] = {}


def _projected(recording: Recording, winners: Sequence[Winner], method: str | Rules) -> Iterator[Reconstruction]:
    """Return the projections of units of one place in one picture, in their order."""
    positions = torch.tensor([winner.position for winner in winners], dtype=torch.int64)
    channels = [winner.channel for winner in winners]
    units = recording.units(winners[0].place, channels, positions.reshape(len(winners), -1), method)
    source = replace(units.picture, number=winners[0].picture, key=winners[0].key)
    units = replace(units, source=source)
    arrived = sorted(units.arrivals(), key=lambda arrival: arrival.index)
    for winner, arrival in zip(winners, arrived, strict=True):
        one = units.one(arrival)
        if abs(one.value - winner.value) > _DIFFERS * max(abs(winner.value), abs(one.value)):
            differs = (
                f"{winner.key}, channel {winner.channel}: the activation is {one.value:.6g} now but was {winner.value:.6g} in "
                "the scan: other versions, or another device"
            )
            one = replace(one, notes=(*one.notes, differs))
        yield one
