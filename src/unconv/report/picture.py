"""One picture of a report: it passes through the network once, and its layers are written as their units arrive."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unconv.errors import ShapeError
from unconv.files import Staged, file_names
from unconv.pictures.decode import Source
from unconv.pictures.draw import picture_of
from unconv.pictures.encode import png
from unconv.progress import Progress
from unconv.render.page import keys, page, stylesheet
from unconv.report.layer import Layer, stem
from unconv.report.listing import KEYS, PAGES, unit_files
from unconv.reverse.methods import method_named
from unconv.reverse.model import name_of
from unconv.reverse.network import Network
from unconv.reverse.request import Request
from unconv.reverse.tape.step import Step
from unconv.reverse.trust import refuse_regions, trust
from unconv.reverse.walking.stream import Units
from unconv.version import __version__

_FIRST = 6  # layers at the top of a page
_IN_NUMBERS = (  # facts on the pages that numbers.json holds, too
    *("network", "weights", "picture", "preprocess", "method", "dtype", "shown", "unit", "channels"),
    *("top_classes", "script", "version"),
)


class Picture:
    """The pages of one picture, written layer by layer.

    Args:
        image: the picture, which is read and passed through the network here.
        staged: the staging folder to write to.
        name: the folder inside `staged` for the files; "" for `staged` itself.
    """

    def __init__(self, network: Network, image: Source, request: Request, staged: Staged, name: str = "") -> None:
        self.network, self.request, self.staged = network, request, staged
        self.within, self.up = (f"{name}/", "../index.html") if name else ("", "")
        self.shared = words(network, Path(image).name if isinstance(image, str | Path) else "the picture", request)
        self.recording = network.record(image, request.places or None, request.method)
        if self.recording.tape.image.ndim != 4:
            raise ShapeError(
                f"report: pages show pictures, but {network.name} takes images of {self.recording.tape.image.ndim - 2} axes. "
                "Project them in Python with Network.project; `unconv check` and `unconv bench` take them, too."
            )
        self.shared["preprocess"] = self.recording.preparation.numbers()
        places = list(dict.fromkeys(map(name_of, request.places or self.recording.rectified())))
        self.anchors = dict(zip(places, file_names(places), strict=True))
        prepared: dict[int, Step] = {}  # steps that were rewritten for one place serve all others
        traced = replace(request, trace=True)
        self.parts: dict[str, Units] = {place: self.recording.requested(place, traced, prepared) for place in places}
        if request.trust:
            for units in self.parts.values():
                refuse_regions(units)
        self.layers: dict[str, dict[str, Any]] = {}
        self.open: Layer | None = None
        self.numbers: dict[str, Any] = {}

    def files(self) -> list[str]:
        """Return the names of the files that will be written, relative to the folder of `staged`."""
        stems = [stem(self.anchors[place], units, n) for place, units in self.parts.items() for n in range(len(units))]
        return [f"{self.within}{file}" for name in stems for file in unit_files(name).values()] + [
            f"{self.within}{name}" for name in (*PAGES, KEYS)
        ]

    @property
    def begun(self) -> bool:
        """Whether at least one unit is written."""
        return bool(self.layers or (self.open is not None and self.open.written))

    def walk(self, progress: Progress) -> None:
        """Write each layer's tiles and pages as its units arrive."""
        total = sum(float(units.operations.sum()) for units in self.parts.values()) or 1.0
        done = 0.0
        for name, units in self.parts.items():
            judged = []
            if self.request.trust:
                progress(f"trust in {name}", done / total, 1)
                judged = list(trust(self.recording, units, replace(units, trace=False).all()))
            # A stop may come anywhere from here on: `finish` ends the layer that is open then.
            self.open = Layer(name, self.anchors[name], units, self.staged, self.within, self.request, self.shared, judged)
            progress(name, done / total, 1)
            for arrival in units.arrivals():
                self.open.take(arrival)
                done += float(units.operations[arrival.index])
                progress(name, done / total, 1)
            self._close_layer()
        progress("", 1, 1)

    def finish(self) -> None:
        """Write the page with links to all others, and the numbers, which list them, also for a stopped run."""
        self._close_layer()
        prepared = next(iter(self.parts.values())).shown
        request, layers = self.request, list(self.layers.values())
        facts = {**self.shared, "shown": list(prepared.shape[1:]), "unit": request.unit_words, "channels": request.channels}
        top = self.recording.top_classes()
        facts |= {"top_classes": top and top.numbers(), "script": KEYS}
        numbers = {**{key: facts[key] for key in _IN_NUMBERS}, "layers": layers}
        facts["channel_words"] = request.channel_words
        stopped = sum(len(layer["units"]) for layer in layers) < sum(map(len, self.parts.values()))
        title = f"{self.network.name}: {self.shared['picture']}"
        facts |= {"together": request.channels == "together", "first": _first(layers), "up": self.up, "stopped": stopped}
        content = page("project.html", root="", title=title, layers=layers, **facts)
        self._put("picture.png", png(picture_of(prepared)))
        self._put("style.css", stylesheet())
        self._put(KEYS, keys())
        self._put("index.html", content)
        self._put("numbers.json", json.dumps(numbers, indent=1).encode())
        self.numbers = numbers

    def _close_layer(self) -> None:
        if self.open is not None:
            self.layers[self.open.name] = self.open.finished()
            self.open = None

    def _put(self, name: str, content: bytes) -> None:
        self.staged.put(f"{self.within}{name}", content)


def _first(layers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what a page begins with: the first unit of a few layers, evenly chosen from the first to the last."""
    shown = [layer for layer in layers if layer["units"]]
    count = min(_FIRST, len(shown))
    chosen = [shown[round(k * (len(shown) - 1) / max(count - 1, 1))] for k in range(count)]
    return [{"layer": layer, "unit": layer["units"][0]} for layer in chosen]


def words(network: Network, name: str, request: Request) -> dict[str, Any]:
    """Return the facts that every page of a report shows."""
    return {
        "network": network.name,
        "weights": network.weights,
        "picture": name,
        "preprocess": network.preparation.numbers(),
        "method": method_named(request.method).name,
        "method_words": method_named(request.method).words,
        "dtype": request.dtype,
        "version": __version__,
    }
