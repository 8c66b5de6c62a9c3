"""Answer the live page: the strongest units of a picture or of a region, and the projection of any one of them."""

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

_MOST_PICTURES, _MOST_BYTES = 24, 2 * 2**30  # the most recordings in memory, and the most bytes of their maps
_SHOWN = 9  # units of a place
_LARGEST = 512  # pixels of a drawn window


@dataclass(frozen=True)
class Upload:
    """An uploaded picture and the network's recording of it."""

    number: int
    content: bytes
    recording: Recording

    @property
    def size(self) -> int:
        """The bytes of its feature maps."""
        return sum(map_.nbytes for map_ in self.recording.tape.kept.values())


class Live:
    """The network and the uploaded pictures of one live page.

    Args:
        network: the network to look into.
        index: the index of a scan of it. With one, units are compared with their own distributions over the data set, and
            the places are those of the scan.
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
        self._uploads: OrderedDict[int, Upload] = OrderedDict()
        self._numbers, self._lock = itertools.count(1), Lock()

    def facts(self) -> dict[str, Any]:
        """Return what the page shows before any picture is uploaded."""
        return {
            "network": self.network.name,
            "frame": list(self.input[1:]),
            "methods": list(METHODS),
            "places": [
                {"name": name, "folder": folder, "channels": place["channels"], "map": place["size"], **self._tile_facts(place)}
                for name, folder, place in zip(self.names, self.folders, self.places, strict=True)
            ],
            "scanned": self.index is not None,
        }

    def _tile_facts(self, place: Mapping[str, Any]) -> dict[str, Any]:
        """Return the (height, width) of a place's tiles on the site, and its dead units, which have none."""
        cell = Cell.of(place["receptive_field"] if any(place["stride"]) else self.input[1:], self.input[1:], SIDE)
        return {"cell": [cell.height, cell.width], "dead": self.dead[place["name"]]}

    def take(self, data: bytes, name: str) -> dict[str, Any]:
        """Pass a picture, as a file's bytes, through the network, and return its strongest units.

        Raises:
            PictureError: it is not a picture, or too large.
        """
        upload = self._recorded(hashlib.sha256(data).digest(), lambda: self.network.record(picture_in(data, name), self.names))
        recording = upload.recording
        classes = recording.top_classes()
        prepared = picture_of(shown(recording.tape.image[0], self.network.preparation))
        return {
            "picture": upload.number,
            "name": name,
            "shown": _url(prepared),
            "size": [prepared.height, prepared.width],
            "classes": classes.numbers() if classes else None,
            "units": self.strongest(upload.number),
        }

    def strongest(self, picture: int, region: Sequence[int] | None = None) -> list[list[dict[str, Any]]]:
        """Return for every place the units that respond most to a picture, or to a region (y0, x0, y1, x1) of it.

        With an index units are ranked by the share of pictures that drive them less; without, by activation.
        """
        recording = self._upload(picture).recording
        rows, values = responses(self.places, self.input, recording, region)
        shares = None if self.index is None else self.index.shares(values)
        units_by_place, first = [], 0
        for place in self.places:
            place_slice = slice(first, first := first + place["channels"])
            value = values[place_slice].numpy()
            share = None if shares is None else shares[place_slice]
            # By share first, then by value. Units that are dead, or whose value overflowed, are left out.
            order = np.lexsort((-value, -value if share is None else -share))
            best = [k for k in order.tolist() if 0 < value[k] < np.inf][:_SHOWN]
            units_by_place.append(
                [
                    {
                        "channel": k,
                        "value": float(value[k]),
                        "share": None if share is None else float(share[k]),
                        "position": list(rows[place_slice.start + k][2]),
                    }
                    for k in best
                ]
            )
        return units_by_place

    def unit(
        self,
        picture: int,
        place: int,
        channel: int,
        method: str = "deconvnet",
        position: Sequence[int] | None = None,
        trace: bool = False,
    ) -> dict[str, Any]:
        """Return pictures of a unit's projection and of the patch it saw; with `trace` also of the signal on the way down.

        Args:
            position: (y, x) on the map; None for the channel's strongest position.

        Raises:
            NoSuchUnit: there is no such place, channel or method.
            ShapeError: there is no such position.
        """
        reconstruction = self._units(picture, place, channel, method, position, trace).all()[0]
        box = visible_box(reconstruction.box, reconstruction.shown.shape[1:])
        scale = common_scale([reconstruction.window])
        return {
            "place": self.names[place],
            "channel": channel,
            "method": method,
            "value": reconstruction.value,
            "position": [y for y in reconstruction.unit[1:] if y is not None],
            "box": list(box),
            "scale": scale,
            "projection": _url(_fitted(projection_picture(reconstruction.drawn(box), reconstruction.shown, box, scale))),
            "patch": _url(_fitted(patch_picture(reconstruction.shown, box))),
            "notes": list(reconstruction.notes),
            "way": [_signal_numbers(signal) for signal in reconstruction.signals],
        }

    def trust(
        self, picture: int, place: int, channel: int, method: str = "deconvnet", position: Sequence[int] | None = None
    ) -> dict[str, Any]:
        """Return how far that projection can be trusted, in sentences and numbers.

        Raises:
            NoSuchUnit, ShapeError: as in `unit`.
        """
        units = self._units(picture, place, channel, method, position)
        (verdict,) = trust(self._upload(picture).recording, units, units.all())
        return verdict.numbers()

    def _units(
        self, picture: int, place: int, channel: int, method: str, position: Sequence[int] | None, trace: bool = False
    ) -> Units:
        recording = self._upload(picture).recording
        if not 0 <= place < len(self.names):
            raise NoSuchUnit(f"serve: there is no place {place}. Choose one from 0 to {len(self.names) - 1}.")
        if method not in METHODS:
            raise NoSuchUnit(f"serve: there is no method {method!r}. Choose one of {', '.join(METHODS)}.")
        unit: Any = "strongest" if position is None else tuple(position)
        return recording.units(self.names[place], [channel], unit, method, trace=trace)

    def _recorded(self, content: bytes, record: Callable[[], Recording]) -> Upload:
        """Return the upload with this hash, recorded now if new; the least recently used ones are dropped to make room."""
        with self._lock:
            known = next((upload for upload in self._uploads.values() if upload.content == content), None)
        # Recorded outside the lock: a network may take seconds, and the other requests need only the table.
        upload = known or Upload(next(self._numbers), content, record())
        with self._lock:
            self._uploads[upload.number] = upload
            self._uploads.move_to_end(upload.number)
            while len(self._uploads) > _MOST_PICTURES or (
                len(self._uploads) > 1 and sum(other.size for other in self._uploads.values()) > _MOST_BYTES
            ):
                self._uploads.popitem(last=False)
        return upload

    def _upload(self, picture: int) -> Upload:
        with self._lock:
            upload = self._uploads.get(picture)
            if upload is None:
                raise NoSuchUnit(f"serve: picture {picture} is not in memory any more. Upload it again.")
            self._uploads.move_to_end(picture)
            return upload


def _signal_numbers(signal: Signal) -> dict[str, Any]:
    """Return the numbers and pictures of the signal at one place on the way down."""
    energy, strongest = map(_url, signal_pictures(signal.energy, signal.strongest))
    numbers = {"place": signal.place, "size": list(signal.energy.shape), "channels": signal.channels}
    return {**numbers, "energy": energy, "strongest": strongest}


def _fitted(picture: Image.Image) -> Image.Image:
    """Return a picture reduced to the largest size that a page shows."""
    if max(picture.size) > _LARGEST:
        picture.thumbnail((_LARGEST, _LARGEST))
    return picture


def _url(picture: Image.Image) -> str:
    """Return a picture as a data URL."""
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", lossless=True, method=0)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
