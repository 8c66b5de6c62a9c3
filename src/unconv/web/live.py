"""What the live page answers: a picture's strongest units, those of a region, and what of the picture drives one of them."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image

from unconv.errors import NoSuchUnit, ShapeError
from unconv.files import file_names
from unconv.pictures.decode import picture_in
from unconv.pictures.draw import common_scale, picture_of
from unconv.pictures.preprocess import shown
from unconv.render.picture import patch_picture, projection_picture, signal_pictures, visible_box
from unconv.reverse.maps import Maps
from unconv.reverse.method_table import METHODS
from unconv.reverse.model import Recording
from unconv.reverse.network import Network
from unconv.reverse.reconstruction import Signal
from unconv.reverse.trust import trust
from unconv.reverse.walking.stream import Units
from unconv.scan import Index
from unconv.scan.firing import responses
from unconv.scan.run import place_facts
from unconv.web.contents import SIDE, TAKEN
from unconv.web.tiles import Cell

_KEPT, _ROOM = 24, 2 * 2**30  # recordings, and bytes of their maps, that are kept at most
_SHOWN = 9  # units of a place
_LARGEST = 512  # pixels of a drawn window


@dataclass(frozen=True)
class Taken:
    """A picture that was handed over, and what the network made of it."""

    number: int
    content: bytes
    recording: Recording

    @property
    def size(self) -> int:
        """Bytes of its maps."""
        return sum(map_.nbytes for map_ in self.recording.tape.kept.values())


class Live:
    """The network and the pictures of one live page.

    Args:
        network: to look into.
        index: of a scan of it: then units are told against their own distributions, over its places.
    """

    def __init__(self, network: Network, index: Index | None = None) -> None:
        self.network, self.index = network, index
        if index is None:
            maps = Maps(network, None, 1)
            self.places: Sequence[Mapping[str, Any]] = [place_facts(seen) for seen in maps.seen]
        else:
            self.places = index.run["places"]
        self.input = tuple(network.input_size)
        if len(self.input) != 3:
            raise ShapeError(f"serve: {network.name} takes no pictures, but {len(self.input) - 1} axes.")
        self.dead: dict[str, list[int]] = {str(place["name"]): [] for place in self.places}
        for unit in [] if index is None else index.units():
            if unit.dead:
                self.dead[unit.place].append(unit.channel)
        self.names = [str(place["name"]) for place in self.places]
        self.folders = file_names(self.names, taken=TAKEN)
        self._taken: OrderedDict[int, Taken] = OrderedDict()
        self._numbers, self._lock = itertools.count(1), Lock()

    def facts(self) -> dict[str, Any]:
        """What the page says before any picture comes."""
        return {
            "network": self.network.name,
            "frame": list(self.input[1:]),
            "methods": list(METHODS),
            "places": [
                {"name": name, "folder": folder, "channels": place["channels"], "map": place["size"], **self._drawn(place)}
                for name, folder, place in zip(self.names, self.folders, self.places, strict=True)
            ],
            "scanned": self.index is not None,
        }

    def _drawn(self, place: Mapping[str, Any]) -> dict[str, Any]:
        """Return the proportions of a place's tiles on the site, (height, width), and the units without."""
        cell = Cell.of(place["receptive_field"] if any(place["stride"]) else self.input[1:], self.input[1:], SIDE)
        return {"cell": [cell.height, cell.width], "dead": self.dead[place["name"]]}

    def take(self, data: bytes, name: str) -> dict[str, Any]:
        """Run a picture, a file's bytes, through the network, and say what it drives.

        Raises:
            PictureError: it is none, or too large.
        """
        taken = self._kept(hashlib.sha256(data).digest(), lambda: self.network.record(picture_in(data, name), self.names))
        recording = taken.recording
        classes = recording.top_classes()
        look = picture_of(shown(recording.tape.image[0], self.network.preparation))
        return {
            "picture": taken.number,
            "name": name,
            "shown": _url(look),
            "size": [look.height, look.width],
            "classes": classes.numbers() if classes else None,
            "units": self.strongest(taken.number),
        }

    def strongest(self, picture: int, region: Sequence[int] | None = None) -> list[list[dict[str, Any]]]:
        """Return of every place the units that a picture, or a region (y0, x0, y1, x1) of it, drives most.

        With an index, those that it drives more than most pictures do; without, by activation.
        """
        recording = self._of(picture).recording
        rows, values = responses(self.places, self.input, recording, region)
        shares = None if self.index is None else self.index.shares(values)
        found, first = [], 0
        for place in self.places:
            there = slice(first, first := first + place["channels"])
            value = values[there].numpy()
            share = None if shares is None else shares[there]
            # By share first, then by value; a dead unit, and one that overflowed, is never among the strongest.
            order = np.lexsort((-value, -value if share is None else -share))
            chosen = [k for k in order.tolist() if 0 < value[k] < np.inf][:_SHOWN]
            found.append(
                [
                    {
                        "channel": k,
                        "value": float(value[k]),
                        "share": None if share is None else float(share[k]),
                        "position": list(rows[there.start + k][2]),
                    }
                    for k in chosen
                ]
            )
        return found

    def unit(
        self,
        picture: int,
        place: int,
        channel: int,
        method: str = "deconvnet",
        position: Sequence[int] | None = None,
        trace: bool = False,
    ) -> dict[str, Any]:
        """Return a unit's projection in a picture, with the patch it saw, drawn; with `trace` the signal on the way down.

        Args:
            position: (y, x) on the map; None: where the channel is strongest.

        Raises:
            NoSuchUnit: there is no such place, channel or method. ShapeError: no such position.
        """
        one = self._units(picture, place, channel, method, position, trace).all()[0]
        box = visible_box(one.box, one.shown.shape[1:])
        scale = common_scale([one.window])
        return {
            "place": self.names[place],
            "channel": channel,
            "method": method,
            "value": one.value,
            "position": [y for y in one.unit[1:] if y is not None],
            "box": list(box),
            "scale": scale,
            "projection": _url(_fitted(projection_picture(one.drawn(box), one.shown, box, scale))),
            "patch": _url(_fitted(patch_picture(one.shown, box))),
            "notes": list(one.notes),
            "way": [_step(signal) for signal in one.signals],
        }

    def trust(
        self, picture: int, place: int, channel: int, method: str = "deconvnet", position: Sequence[int] | None = None
    ) -> dict[str, Any]:
        """Return how far that projection is to be trusted, in sentences and numbers.

        Raises:
            NoSuchUnit, ShapeError: as `unit`.
        """
        units = self._units(picture, place, channel, method, position)
        (judged,) = trust(self._of(picture).recording, units, units.all())
        return judged.numbers()

    def _units(
        self, picture: int, place: int, channel: int, method: str, position: Sequence[int] | None, trace: bool = False
    ) -> Units:
        recording = self._of(picture).recording
        if not 0 <= place < len(self.names):
            raise NoSuchUnit(f"serve: there is no place {place}; they are 0 to {len(self.names) - 1}.")
        if method not in METHODS:
            raise NoSuchUnit(f"serve: there is no method {method!r}; there are {', '.join(METHODS)}.")
        unit: Any = "strongest" if position is None else tuple(position)
        return recording.units(self.names[place], [channel], unit, method, trace=trace)

    def _kept(self, content: bytes, record: Callable[[], Recording]) -> Taken:
        """Return a picture that is kept, or keep it; the ones longest not asked for make room."""
        with self._lock:
            known = next((taken for taken in self._taken.values() if taken.content == content), None)
        taken = known or Taken(next(self._numbers), content, record())
        with self._lock:
            self._taken[taken.number] = taken
            self._taken.move_to_end(taken.number)
            while len(self._taken) > _KEPT or (
                len(self._taken) > 1 and sum(each.size for each in self._taken.values()) > _ROOM
            ):
                self._taken.popitem(last=False)
        return taken

    def _of(self, picture: int) -> Taken:
        with self._lock:
            taken = self._taken.get(picture)
            if taken is None:
                raise NoSuchUnit(f"serve: picture {picture} is not kept any more. Hand it over again.")
            self._taken.move_to_end(picture)
            return taken


def _step(signal: Signal) -> dict[str, Any]:
    """Return the signal at one place on the way down, drawn."""
    energy, strongest = map(_url, signal_pictures(signal.energy, signal.strongest))
    told = {"place": signal.place, "size": list(signal.energy.shape), "channels": signal.channels}
    return {**told, "energy": energy, "strongest": strongest}


def _fitted(picture: Image.Image) -> Image.Image:
    """Shrink what would be larger than a page shows it."""
    if max(picture.size) > _LARGEST:
        picture.thumbnail((_LARGEST, _LARGEST))
    return picture


def _url(picture: Image.Image) -> str:
    """Return a picture as an address that holds it."""
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", lossless=True, method=0)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
