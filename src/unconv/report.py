"""A folder of pages: one picture, the layers of one network, their most active units."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import unconv
from unconv.errors import UnconvError
from unconv.images import Source, common_scale, picture_of, png, write
from unconv.render.page import page, stylesheet
from unconv.render.picture import (
    data_url,
    patch_picture,
    placed,
    projection_picture,
    signal_pictures,
    visible_box,
)
from unconv.reverse.network import Network, Recording
from unconv.reverse.reconstruction import Reconstruction, Reconstructions, Signal
from unconv.reverse.seed import Channels, Unit

_METHOD_WORDS = {
    "deconvnet": "deconvnet (Zeiler & Fergus 2014): the signal going back is rectified at each rectifier.",
    "gradient": "gradient: exact backpropagation of the activation.",
    "guided": "guided backpropagation (Springenberg et al. 2015): rectified, and held to where the forward pass was positive.",
}

Progress = Callable[[str, int, int], None]
"""Told what is being done, and how many of how many layers are through."""


@dataclass(frozen=True)
class Request:
    """What to show of a picture: see `Network.project`."""

    places: Sequence[str] = ()
    channels: Channels = "top:9"
    unit: Unit = "strongest"
    method: str = "deconvnet"


def report(network: Network, image: Source, folder: Path, request: Request, progress: Progress, up: str = "") -> dict[str, Any]:
    """Write the pages of one picture into `folder` and return all numbers on them.

    Args:
        request: without places, every convolution's rectified output.
        up: the page to lead back to, if there is one.
    """
    name = Path(image).name if isinstance(image, str | Path) else "the picture"
    recording = _recorded(network, image, request.places)
    _prepare(folder)
    places = list(recording.tape.kept)
    shared = _shared(network, name, request)
    layers, first = [], None
    for done, place in enumerate(places):
        progress(place, done, len(places))
        found = recording.project(place, request.channels, request.unit, request.method, trace=True)
        first = first or found
        layers.append(_layer(found, folder, place, request))
        _unit_pages(found, layers[-1], folder, shared)
    progress("", len(places), len(places))
    assert first is not None
    write(folder / "picture.png", png(picture_of(first.shown)))
    facts = {**shared, "shown": list(first.shown.shape[1:]), "unit": _unit_words(request.unit), "channels": request.channels}
    facts["channel_words"] = _channel_words(request.channels)
    write(folder / "index.html", page("project.html", root="", title=f"{network.name}: {name}", layers=layers, up=up, **facts))
    kept = ("network", "weights", "picture", "method", "shown", "unit", "channels", "version")
    numbers = {**{key: facts[key] for key in kept}, "layers": layers}
    write(folder / "numbers.json", json.dumps(numbers, indent=1).encode())
    return numbers


def reports(
    network: Network, images: Sequence[Path], folder: Path, request: Request, progress: Progress
) -> list[dict[str, Any]]:
    """The pages of several pictures, each in a folder of its own, and a page that leads to them."""
    _prepare(folder)
    cards, found = [], []
    for image in images:
        numbers = report(network, image, folder / image.stem, request, progress, up="../index.html")
        units = sum(len(layer["units"]) for layer in numbers["layers"])
        where = f"{image.stem}/index.html"
        cards.append(
            {
                "page": where,
                "image": f"{image.stem}/picture.png",
                "name": image.stem,
                "units": units,
                "layers": len(numbers["layers"]),
            }
        )
        found.append(numbers)
    shared = _shared(network, "", request)
    write(folder / "index.html", page("pictures.html", root="", title=f"unconv: {network.name}", cards=cards, **shared))
    return found


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


def _recorded(network: Network, image: Source, places: Sequence[str]) -> Recording:
    """The picture's recording with the places asked for, or every rectified map of a convolution."""
    if not places:
        places = [place.name for place in network.record(image).places() if place.rectified]
        if not places:
            raise UnconvError(
                f"report: {network.name} has no rectified convolution (of rectifiers, only ReLU has a rule so far). "
                "Name places, from `unconv places`."
            )
    recording = network.record(image, places)
    for place in places:
        recording.activation(place)
    return recording


def _shared(network: Network, name: str, request: Request) -> dict[str, Any]:
    """What every page of a report says."""
    return {
        "network": network.name,
        "weights": network.weights,
        "picture": name,
        "method": request.method,
        "method_words": _METHOD_WORDS[request.method],
        "version": unconv.__version__,
    }


def _layer(found: Reconstructions, folder: Path, name: str, request: Request) -> dict[str, Any]:
    """One layer's numbers, with the files of its tiles, which are written."""
    anchor = re.sub(r"[^\w.-]+", "_", name)
    numbers = {**found.numbers(), "place": name, "anchor": anchor, "total": found.place.channels}
    numbers["smooth"] = max((max(w.shape[1:]) for w in found.windows), default=0) > 48
    for rank, (unit, projection) in enumerate(zip(numbers["units"], found, strict=True), 1):
        stem = f"{anchor}_{rank:04d}_channel_{unit['channel']}"
        unit["projection"], unit["patch"] = f"tiles/{stem}_projection.png", f"tiles/{stem}_patch.png"
        unit["large"], unit["page"] = f"tiles/{stem}_large.png", f"units/{stem}.html"
        unit["rank"] = rank if str(request.channels).startswith("top:") else None
        known = [y for y in unit["position"] if y is not None]
        unit["where"] = f"({', '.join(map(str, known))})" if known else ""
        unit["signals"] = [_signal_numbers(signal) for signal in projection.signals]
        _write_tile(folder, unit, projection, found)
    return numbers


def _write_tile(folder: Path, unit: dict[str, Any], projection: Reconstruction, found: Reconstructions) -> None:
    unit["scale"] = common_scale([projection.window])
    box = visible_box(projection.box, found.shown.shape[1:])
    values = projection.within(box)
    write(folder / unit["projection"], png(projection_picture(values, found.shown, box, found.scale)))
    write(folder / unit["large"], png(projection_picture(values, found.shown, box, unit["scale"])))
    write(folder / unit["patch"], png(patch_picture(found.shown, box)))


def _signal_numbers(signal: Signal) -> dict[str, Any]:
    return {
        "place": signal.place,
        "size": list(signal.energy.shape),
        "peak": float(signal.energy.max()),
        "energy": float(signal.energy.square().sum().sqrt()),
        "channels": [{"channel": channel, "share": share} for channel, share in signal.channels],
    }


def _unit_pages(found: Reconstructions, layer: dict[str, Any], folder: Path, shared: dict[str, Any]) -> None:
    """A page for each unit of the layer."""
    pages = [Path(unit["page"]).name for unit in layer["units"]]
    for index, (unit, projection) in enumerate(zip(layer["units"], found, strict=True)):
        box = visible_box(projection.box, found.shown.shape[1:])
        content = page(
            "unit.html",
            root="../",
            title=f"{layer['place']}, channel {unit['channel']}",
            layer=layer,
            unit=unit,
            frame=found.shown.shape[1:],
            placed=placed(box, found.shown.shape[1:]),
            way=list(_way(projection)),
            before=pages[index - 1] if index else "",
            after=pages[index + 1] if index + 1 < len(pages) else "",
            **shared,
        )
        write(folder / unit["page"], content)


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
