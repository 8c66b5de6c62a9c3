"""One layer of a report: the tiles and pages of its units, written as the units arrive."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from unconv.files import Staged
from unconv.pictures.draw import common_scale, maps_picture
from unconv.pictures.encode import png
from unconv.render.page import page
from unconv.render.picture import (
    data_url,
    map_picture,
    patch_picture,
    placed,
    projection_picture,
    signal_pictures,
    visible_box,
)
from unconv.report.listing import unit_files
from unconv.reverse.numbers import named_unit, place_numbers, unit_numbers, unit_stem
from unconv.reverse.reconstruction import Reconstruction, Signal
from unconv.reverse.request import Request
from unconv.reverse.trust import Trust
from unconv.reverse.walking.journey import Arrival
from unconv.reverse.walking.stream import Units


def stem(anchor: str, units: Units, index: int) -> str:
    """Return the beginning of the names of one unit's files; `anchor` is the layer's name as a file name."""
    return f"{anchor}_{index + 1:04d}_{unit_stem(units.seeds.units[index][0])}"


class Layer:
    """Write one layer's files unit by unit; only the tiles wait, in memory, until all units give a common scale."""

    def __init__(
        self,
        name: str,
        anchor: str,
        units: Units,
        staged: Staged,
        within: str,
        request: Request,
        shared: dict[str, Any],
        judged: Sequence[Trust] = (),
    ):
        self.name, self.judged = name, judged
        self.units, self.staged, self.within, self.request, self.shared = units, staged, within, request, shared
        self.anchor = anchor
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
        """Write one unit's page and pictures, except the tile, which is drawn on the layer's common scale."""
        index, projection = arrival.index, self.units.one(arrival)
        unit = self._unit(index, projection)
        box = visible_box(projection.box, projection.shown.shape[1:])
        assert projection.feature_map is not None
        map_tiles = maps_picture(projection.feature_map)
        self._put(unit["map"], png(map_tiles))
        unit |= {"pixels": [box[2] - box[0], box[3] - box[1]], "map_pixels": [map_tiles.height, map_tiles.width]}
        unit["map_signed"] = bool((projection.feature_map < 0).any())
        large = projection_picture(projection.drawn(box), projection.shown, box, unit["scale"])
        self._put(unit["large"], png(large))
        self._put(unit["patch"], png(patch_picture(projection.shown, box)))
        self._write_page(index, unit, projection, box)
        self.windows[index] = replace(projection, signals=())
        self.written[index] = unit  # last, so that every unit in `written` is complete, wherever a stop comes

    def finished(self) -> dict[str, Any]:
        """Write the tiles, and return the layer's numbers."""
        order = sorted(self.written)
        scale = common_scale([self.windows[index].window for index in order])
        for index in order:
            projection = self.windows[index]
            box = visible_box(projection.box, projection.shown.shape[1:])
            tile = projection_picture(projection.drawn(box), projection.shown, box, scale)
            self._put(self.written[index]["projection"], png(tile))
        if len(order) < len(self.units):
            self._remove_dead_links()
        return {**self.facts, "scale": scale, "units": [self.written[index] for index in order]}

    def _remove_dead_links(self) -> None:
        """Remove links to the pages of units that a stopped run did not reach."""
        missing = {f"{self._stem(index)}.html" for index in range(len(self.units)) if index not in self.written}
        for unit in self.written.values():
            text = (self.staged.path / f"{self.within}{unit['page']}").read_text(encoding="utf-8")
            links = re.findall(r' · (?:<a href="([^"]*)" rel="(?:prev|next)">\w+</a>)', text)
            for link in missing.intersection(links):
                text = re.sub(rf' · <a href="{re.escape(link)}" rel="\w+">\w+</a>', "", text)
            self._put(unit["page"], text.encode())

    def _stem(self, index: int) -> str:
        return stem(self.anchor, self.units, index)

    def _put(self, name: str, content: bytes) -> None:
        self.staged.put(f"{self.within}{name}", content)

    def _unit(self, index: int, projection: Reconstruction) -> dict[str, Any]:
        known = [y for y in projection.unit[1:] if y is not None]
        return {
            **unit_numbers(projection.unit, projection.value, projection.box, projection.window),
            **unit_files(self._stem(index)),
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
            title=f"{self.facts['place']}, {named_unit(projection.unit[:1])}",
            layer=self.facts,
            unit=unit,
            frame=frame,
            placed=placed(box, frame),
            at=_marker(projection.unit[1:], self.units.place.size),
            way=list(_signal_path(projection)),
            occlusion=_occlusion_pictures(self.judged[index]) if self.judged else [],
            before=f"{self._stem(index - 1)}.html" if index else "",
            after=f"{self._stem(index + 1)}.html" if index < last else "",
            **self.shared,
        )
        self._put(unit["page"], content)


def _marker(position: Sequence[int | None], size: Sequence[int]) -> str:
    """Return the CSS that marks a unit's position on its map; "" if it has no position that can be drawn."""
    known = [y for y in position if y is not None]
    return placed((*known, *(y + 1 for y in known)), size) if len(known) == 2 == len(size) else ""


def _occlusion_pictures(judged: Trust) -> list[str]:
    """Return the drop of the unit under a sliding square, and the projection's energy, drawn alike; [] unless they are 2-D."""
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


def _signal_path(projection: Reconstruction) -> Iterator[dict[str, Any]]:
    """Yield the numbers and pictures of the signal at every place on the way from the unit down to the image."""
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
