"""A folder of pages: one picture, the layers of one network, their most active units."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unconv.errors import UnconvError
from unconv.files import write
from unconv.pictures.decode import Source
from unconv.pictures.draw import common_scale, picture_of, png
from unconv.render.page import page, stylesheet
from unconv.render.picture import (
    data_url,
    map_picture,
    patch_picture,
    placed,
    projection_picture,
    signal_pictures,
    visible_box,
)
from unconv.reverse.methods import WORDS, Rules, method_named
from unconv.reverse.network import Network, Recording
from unconv.reverse.reconstruction import Reconstruction, Signal, place_numbers, unit_numbers
from unconv.reverse.seed import Channels, Unit
from unconv.reverse.tape.record import Step
from unconv.reverse.trust import Trust, refuse_regions, trust
from unconv.reverse.walking.journey import Arrival
from unconv.reverse.walking.stream import Units
from unconv.version import __version__

Progress = Callable[[str, float, int], None]
"""Told what is being done, and how much of the total is done."""


@dataclass(frozen=True)
class Request:
    """What to show of a picture: see `Network.project`."""

    places: Sequence[str] = ()
    channels: Channels = "top:9"
    unit: Unit = "strongest"
    method: str | Rules = "deconvnet"
    dtype: str | None = None
    trust: bool = False


def report(network: Network, image: Source, folder: Path, request: Request, progress: Progress, up: str = "") -> dict[str, Any]:
    """Write the pages of one picture into `folder` and return all numbers on them.

    Args:
        request: without places, every convolution's rectified output.
        up: the page to lead back to, if there is one.
    """
    name = Path(image).name if isinstance(image, str | Path) else "the picture"
    recording = _recorded(network, image, request.places, request.method)
    shared = _shared(network, name, request)
    prepared: dict[int, Step] = {}
    asked = (request.channels, request.unit, request.method, request.dtype, True, None, prepared)
    parts = [recording.units(place, *asked) for place in recording.tape.kept]
    if request.trust:
        for units in parts:
            refuse_regions(units)
    facts = {**shared, "shown": list(parts[0].shown.shape[1:]), "unit": _unit_words(request.unit), "channels": request.channels}
    facts["channel_words"] = _channel_words(request.channels)
    layers: list[dict[str, Any]] = []
    numbers: dict[str, Any] = {}
    _prepare(folder)
    try:
        write(folder / "picture.png", png(picture_of(parts[0].shown)))
        for layer in _projected(recording, parts, folder, request, shared, progress):
            layers.append(layer)
    finally:  # also when the user stops: what is there is whole, and the page leads to it
        kept = ("network", "weights", "picture", "method", "dtype", "shown", "unit", "channels", "version")
        stopped = sum(len(layer["units"]) for layer in layers) < sum(map(len, parts))
        content = page("project.html", root="", title=f"{network.name}: {name}", layers=layers, up=up, stopped=stopped, **facts)
        write(folder / "index.html", content)
        numbers = {**{key: facts[key] for key in kept}, "layers": layers}
        write(folder / "numbers.json", json.dumps(numbers, indent=1).encode())
    return numbers


def _projected(
    recording: Recording, parts: Sequence[Units], folder: Path, request: Request, shared: dict[str, Any], progress: Progress
) -> Iterator[dict[str, Any]]:
    """Write each layer's tiles and pages as its units arrive; its numbers when all are there.

    If the user stops, or a unit fails, the layer in hand goes as far as it came.
    """
    total = sum(float(units.operations.sum()) for units in parts) or 1.0
    done = 0.0
    for name, units in zip(recording.tape.kept, parts, strict=True):
        judged: list[Trust] = []
        if request.trust:
            progress(f"trust in {name}", done / total, 1)
            judged = list(trust(recording, units, replace(units, trace=False).all()))
        layer = _Layer(name, units, folder, request, shared, judged)
        progress(name, done / total, 1)
        try:
            for arrival in units.arrivals():
                layer.take(arrival)
                done += float(units.operations[arrival.index])
                progress(name, done / total, 1)
        except (KeyboardInterrupt, Exception):
            yield layer.finished()
            raise
        yield layer.finished()
    progress("", 1, 1)


def reports(
    network: Network, images: Sequence[Path], folder: Path, request: Request, progress: Progress
) -> list[dict[str, Any]]:
    """The pages of several pictures, each in a folder of its own, and a page that leads to them."""
    _prepare(folder)
    found: list[dict[str, Any]] = []

    def share(what: str, done: float, total: int) -> None:
        progress(what, len(found) + done / total, len(images))

    try:
        for image in images:
            found.append(report(network, image, folder / image.stem, request, share, up="../index.html"))
    finally:  # also when the user stops
        begun = (image.stem for image in images[: len(found) + 1] if (folder / image.stem / "index.html").is_file())
        cards = [_card(folder, stem) for stem in begun]
        shared = _shared(network, "", request)
        write(folder / "index.html", page("pictures.html", root="", title=f"unconv: {network.name}", cards=cards, **shared))
    return found


def _card(folder: Path, stem: str) -> dict[str, Any]:
    """What the page of all pictures says of one."""
    layers = json.loads((folder / stem / "numbers.json").read_bytes())["layers"]
    units = sum(len(layer["units"]) for layer in layers)
    where = {"page": f"{stem}/index.html", "image": f"{stem}/picture.png", "name": stem}
    return {**where, "units": units, "layers": len(layers)}


def _prepare(folder: Path) -> None:
    """Refuse to write over what is not ours; what an earlier report of ours left goes."""
    index, style = folder / "index.html", stylesheet()
    ours = index.is_file() and b"Made by unconv" in index.read_bytes()
    for name in ("index.html", "numbers.json", "picture.png", "style.css"):
        found = folder / name
        if found.exists() and not ours and not (name == "style.css" and found.read_bytes() == style):
            raise UnconvError(f"report: {found} was not made by unconv and would be overwritten. Choose another folder.")
    write(folder / "style.css", style)
    for old in (*folder.glob("tiles/*_channel_*.png"), *folder.glob("units/*_channel_*.html")) if ours else ():
        old.unlink()


def _recorded(network: Network, image: Source, places: Sequence[str], method: str | Rules) -> Recording:
    """The picture's recording with the places asked for, or every rectified map of a convolution."""
    places = places or network.rectified(image)
    recording = network.record(image, places, method)
    for place in places:
        recording.activation(place)
    return recording


def _shared(network: Network, name: str, request: Request) -> dict[str, Any]:
    """What every page of a report says."""
    return {
        "network": network.name,
        "weights": network.weights,
        "picture": name,
        "method": method_named(request.method).name,
        "method_words": WORDS[method_named(request.method).name],
        "dtype": request.dtype,
        "version": __version__,
    }


class _Layer:
    """One layer's files, written unit by unit; of the projections only the windows wait for their common scale."""

    def __init__(
        self,
        name: str,
        units: Units,
        folder: Path,
        request: Request,
        shared: dict[str, Any],
        judged: Sequence[Trust] = (),
    ):
        self.judged = judged
        self.units, self.folder, self.request, self.shared = units, folder, request, shared
        self.anchor = re.sub(r"[^\w.-]+", "_", name)
        axes = len(units.image.shape) - 1
        lengths = (end - start for box in units.boxes for start, end in zip(box[:axes], box[axes:], strict=True))
        self.facts = {
            **place_numbers(units.place, units.method, units.error, units.notes),
            "place": name,
            "anchor": self.anchor,
            "total": units.place.channels,
            "smooth": max(lengths, default=0) > 48,
        }
        self.windows: dict[int, Reconstruction] = {}
        self.written: dict[int, dict[str, Any]] = {}

    def take(self, arrival: Arrival) -> None:
        """Write one unit's page and pictures, but for the tile on the layer's scale."""
        index, projection = arrival.index, self.units.one(arrival)
        unit = self._unit(index, projection)
        box = visible_box(projection.box, projection.shown.shape[1:])
        large = projection_picture(projection.within(box), projection.shown, box, unit["scale"])
        write(self.folder / unit["large"], png(large))
        write(self.folder / unit["patch"], png(patch_picture(projection.shown, box)))
        self._write_page(index, unit, projection, box)
        self.written[index], self.windows[index] = unit, replace(projection, signals=())

    def finished(self) -> dict[str, Any]:
        """The layer's numbers; its tiles are written."""
        order = sorted(self.written)
        scale = common_scale([self.windows[index].window for index in order])
        for index in order:
            projection = self.windows[index]
            box = visible_box(projection.box, projection.shown.shape[1:])
            tile = projection_picture(projection.within(box), projection.shown, box, scale)
            write(self.folder / self.written[index]["projection"], png(tile))
        if len(order) < len(self.units):
            self._mend_links()
        return {**self.facts, "scale": scale, "units": [self.written[index] for index in order]}

    def _mend_links(self) -> None:
        """Take the links to pages out that were not reached."""
        missing = {f"{self._stem(index)}.html" for index in range(len(self.units)) if index not in self.written}
        for unit in self.written.values():
            path = self.folder / unit["page"]
            text = path.read_text(encoding="utf-8")
            links = re.findall(r' · (?:<a href="([^"]*)" rel="(?:prev|next)">\w+</a>)', text)
            for link in missing.intersection(links):
                text = re.sub(rf' · <a href="{re.escape(link)}" rel="\w+">\w+</a>', "", text)
            write(path, text.encode())

    def _stem(self, index: int) -> str:
        return f"{self.anchor}_{index + 1:04d}_channel_{self.units.seeds.units[index][0]}"

    def _unit(self, index: int, projection: Reconstruction) -> dict[str, Any]:
        stem, known = self._stem(index), [y for y in projection.unit[1:] if y is not None]
        return {
            **unit_numbers(projection.unit, projection.value, projection.box, projection.window),
            "projection": f"tiles/{stem}_projection.png",
            "patch": f"tiles/{stem}_patch.png",
            "large": f"tiles/{stem}_large.png",
            "page": f"units/{stem}.html",
            "rank": index + 1 if str(self.request.channels).startswith("top:") else None,
            "where": f"({', '.join(map(str, known))})" if known else "",
            "signals": [_signal_numbers(signal) for signal in projection.signals],
            "scale": common_scale([projection.window]),
            "trust": self.judged[index].numbers() if self.judged else None,
        }

    def _write_page(self, index: int, unit: dict[str, Any], projection: Reconstruction, box: tuple[int, ...]) -> None:
        frame, last = projection.shown.shape[1:], len(self.units) - 1
        content = page(
            "unit.html",
            root="../",
            title=f"{self.facts['place']}, channel {unit['channel']}",
            layer=self.facts,
            unit=unit,
            frame=frame,
            placed=placed(box, frame),
            way=list(_way(projection)),
            occlusion=_occlusion_pictures(self.judged[index]) if self.judged else [],
            before=f"{self._stem(index - 1)}.html" if index else "",
            after=f"{self._stem(index + 1)}.html" if index < last else "",
            **self.shared,
        )
        write(self.folder / unit["page"], content)


def _occlusion_pictures(judged: Trust) -> list[str]:
    """What the sliding square took away, and the projection's energy, drawn alike; nothing of what is not two-dimensional."""
    occlusion = judged.occlusion
    if occlusion is None or occlusion.corners.shape[1] != 2:
        return []
    drops, energies = occlusion.maps()
    return [data_url(map_picture(values)) for values in (drops.clamp(min=0), energies)]


def _signal_numbers(signal: Signal) -> dict[str, Any]:
    return {
        "place": signal.place,
        "size": list(signal.energy.shape),
        "peak": float(signal.energy.max()),
        "energy": float(signal.energy.square().sum().sqrt()),
        "channels": [{"channel": channel, "share": share} for channel, share in signal.channels],
    }


def _way(projection: Reconstruction) -> Iterator[dict[str, Any]]:
    """The signal at every place from the unit down, drawn."""
    for signal in projection.signals:
        energy, strongest = signal_pictures(signal.energy, signal.strongest)
        channel, share = signal.channels[0]
        yield {
            **_signal_numbers(signal),
            "energy": data_url(energy),
            "strongest": data_url(strongest),
            "channel": channel,
            "share": round(100 * share),
        }


def _channel_words(channels: Channels) -> str:
    if isinstance(channels, str):
        return "all channels" if channels == "all" else f"the {channels.removeprefix('top:')} most active channels"
    return "the channels asked for"


def _unit_words(unit: Unit) -> str:
    if isinstance(unit, str):
        return {"strongest": "the strongest of each channel", "map": "the whole map"}[unit]
    return f"the one at {unit}" if isinstance(unit, tuple) else "a region"
