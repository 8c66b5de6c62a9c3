"""The pages of one picture, or of several: each picture is read once and each network run once for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unconv.errors import UnconvError
from unconv.files import write
from unconv.pictures.decode import Source
from unconv.pictures.draw import picture_of
from unconv.pictures.encode import png
from unconv.render.page import page, stylesheet
from unconv.report.layer import Layer
from unconv.report.request import Request
from unconv.reverse.methods import method_named
from unconv.reverse.network import Network, Recording
from unconv.reverse.tape.step import Step
from unconv.reverse.trust import Trust, refuse_regions, trust
from unconv.reverse.walking.stream import Units
from unconv.version import __version__

Progress = Callable[[str, float, int], None]
"""Told what is being done, and how much of the total is done."""


def report(network: Network, image: Source, folder: Path, request: Request, progress: Progress, up: str = "") -> dict[str, Any]:
    """Write the pages of one picture into `folder` and return all numbers on them.

    Args:
        request: without places, every convolution's rectified output.
        up: the page to lead back to, if there is one.
    """
    name = Path(image).name if isinstance(image, str | Path) else "the picture"
    recording = network.record(image, request.places or None, request.method)
    places = dict.fromkeys(request.places or recording.rectified())
    shared = _shared(network, name, request)
    prepared: dict[int, Step] = {}
    asked = (request.channels, request.unit, request.method, request.dtype, True, None, prepared)
    parts = {place: recording.units(place, *asked) for place in places}
    if request.trust:
        for units in parts.values():
            refuse_regions(units)
    looks = next(iter(parts.values())).shown
    facts = {**shared, "shown": list(looks.shape[1:]), "unit": request.unit_words, "channels": request.channels}
    facts["channel_words"] = request.channel_words
    layers: list[dict[str, Any]] = []
    numbers: dict[str, Any] = {}
    _prepare(folder)
    try:
        write(folder / "picture.png", png(picture_of(looks)))
        for layer in _projected(recording, parts, folder, request, shared, progress):
            layers.append(layer)
    finally:  # also when the user stops: what is there is whole, and the page leads to it
        kept = ("network", "weights", "picture", "method", "dtype", "shown", "unit", "channels", "version")
        stopped = sum(len(layer["units"]) for layer in layers) < sum(map(len, parts.values()))
        content = page("project.html", root="", title=f"{network.name}: {name}", layers=layers, up=up, stopped=stopped, **facts)
        write(folder / "index.html", content)
        numbers = {**{key: facts[key] for key in kept}, "layers": layers}
        write(folder / "numbers.json", json.dumps(numbers, indent=1).encode())
    return numbers


def _projected(
    recording: Recording, parts: Mapping[str, Units], folder: Path, request: Request, shared: dict[str, Any], progress: Progress
) -> Iterator[dict[str, Any]]:
    """Write each layer's tiles and pages as its units arrive; its numbers when all are there.

    If the user stops, or a unit fails, the layer in hand goes as far as it came.
    """
    total = sum(float(units.operations.sum()) for units in parts.values()) or 1.0
    done = 0.0
    for name, units in parts.items():
        judged: list[Trust] = []
        if request.trust:
            progress(f"trust in {name}", done / total, 1)
            judged = list(trust(recording, units, replace(units, trace=False).all()))
        layer = Layer(name, units, folder, request, shared, judged)
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


def _shared(network: Network, name: str, request: Request) -> dict[str, Any]:
    """What every page of a report says."""
    return {
        "network": network.name,
        "weights": network.weights,
        "picture": name,
        "method": method_named(request.method).name,
        "method_words": method_named(request.method).words,
        "dtype": request.dtype,
        "version": __version__,
    }
