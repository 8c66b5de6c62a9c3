"""Render the pages of a site from the index and the tiles."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from math import log10
from pathlib import Path
from typing import Any

import numpy as np

from unconv.errors import ScanError
from unconv.render.page import page
from unconv.scan.index import Found, Similar
from unconv.scan.run import known_list
from unconv.scan.tables import INDEX
from unconv.scan.top import ZERO, bins
from unconv.version import __version__
from unconv.web.contents import _SEED, Contents, ShownPlace, ShownUnit, group_page
from unconv.web.gathering import PATCH, PROJECTION, key
from unconv.web.sheets import PairSheet, Spot, Thumbnails, UnitSheet, size_css
from unconv.web.spool import Spool
from unconv.web.tiles import Cell, fine

_PIXELS = 48  # a tile's side: smaller ones are enlarged with square samples, not smoothed
_TWIN = 0.95  # correlation above which two units are called twins
_TALL, _BAR = 60, 10  # pixels of a chart: its height, and the width of a bar
Files = Iterator[tuple[str, bytes]]
"""Addresses relative to the site's folder, and the content of each file."""


class Pages:
    """Render the pages of a site.

    Args:
        missing: for each picture that could not be read again, by its number, the reason.
    """

    def __init__(self, contents: Contents, spool: Spool, missing: dict[int, str]) -> None:
        self.contents, self.spool, self.missing = contents, spool, missing
        index, network = contents.index, contents.index.network
        self.shared = {
            "network": index.run["network"],
            "weights": index.run["weights"][:16],
            "method": contents.method.name,
            "method_words": contents.method.words,
            "preprocess": network.preparation.numbers(),
            "version": __version__,
            "frame": contents.frame,
            "n": min(contents.n, len(contents.columns)),
            "distinct": contents.distinct,
            "command": self._command("site"),
        }
        self.similar: dict[int, list[list[Similar]]] = {}
        self.order: dict[int, list[int]] = {}
        try:
            for place in contents.places:
                self.similar[place.number] = index.all_similar(place.name)
                self.order[place.number] = seriation(index.correlations(place.name).numpy())
        except ScanError:  # the scan did not keep the maxima
            self.similar, self.order = {}, {}
        self.at = {(place.name, unit.channel): unit for place in contents.places for unit in place.units}

    # The front page

    def front(self, sheet: PairSheet, starts: Sequence[int]) -> tuple[str, bytes]:
        """Return the address and content of the front page.

        Args:
            sheet: the sheet of the sampled units.
            starts: the number on the sheet of each place's first unit.
        """
        contents = self.contents
        index = contents.index
        source = known_list(index.folder)[1]
        units = list(contents.units)
        counts = {
            "pictures": sum(picture.read for picture in contents.columns),
            "damaged": sum(not picture.read for picture in contents.columns),
            "units": len(units),
            "dead": sum(not unit.top for unit in units),
            "among": len(contents.among),
        }
        places = []
        for place, start, sampled in zip(contents.places, starts, contents.sampled, strict=True):
            shown = [
                {"channel": unit.channel, "page": contents.unit_page(unit), "spot": sheet.spot(start + k)}
                for k, unit in enumerate(sampled)
            ]
            pair = (sheet.cell.height, 2 * sheet.cell.width)
            appearance = {"sampled": shown, "size": size_css(pair, sheet.size), "pair": pair, "smooth": _smooth(place.cell)}
            places.append({**_place(place), **appearance, "page": f"{place.folder}/index.html"})
        # The date of the index and not of today, so that the same index gives the same pages.
        date = datetime.fromtimestamp((index.folder / INDEX).stat().st_mtime, timezone.utc).date().isoformat()
        facts = {
            "places": places,
            "counts": counts,
            "where": Path(source["where"]).name or f"the {source['kind']}",
            "date": date,
            "dtype": index.run["dtype"].removeprefix("torch."),
            "scanned_by": index.run["versions"]["unconv"],
            "seed": _SEED,
            "missing": [f"{contents.columns[k].key}: {why}" for k, why in sorted(self.missing.items())],
        }
        title = f"What {index.run['network']} responds to"
        return "index.html", page("site_front.html", root="", title=title, **facts, **self.shared)

    # A place and its units

    def place(self, place: ShownPlace, wall: PairSheet) -> tuple[str, bytes]:
        """Return the address and content of a place's page."""
        order_of = {channel: k for k, channel in enumerate(self.order.get(place.number, ()))}
        units = [
            {
                "channel": unit.channel,
                "dead": not unit.top,
                "largest": f"{unit.statistics.largest:.6g}" if unit.top else 0,
                "share": f"{_share(unit):.4g}",
                "place_in_order": order_of.get(unit.channel, 0),
                "classes": " ".join(label for label, _ in unit.statistics.classes) if unit.top else "",
                "twin": any(neighbour.correlation > _TWIN for neighbour in self._similar(unit)),
                "spot": wall.spot(k),
            }
            for k, unit in enumerate(place.units)
        ]
        # Twenty bins of 5 % and one for units that fire everywhere: at 100 % they would hide among those above 95 %.
        counts = np.bincount([min(20, int(20 * _share(unit))) for unit in place.units], minlength=21)
        words = [f"{5 * k} to {5 * k + 5} %: {count}" if k < 20 else f"100 %: {count}" for k, count in enumerate(counts)]
        pair = (wall.cell.height, 2 * wall.cell.width)
        neighbours = [f"../{other.folder}/index.html" if other else "" for other in _beside(self.contents.places, place.number)]
        facts = {
            "place": _place(place),
            "units": units,
            "size": size_css(pair, wall.size),
            "pair": pair,
            "smooth": _smooth(place.cell),
            "similarity": bool(order_of),
            "densities": _chart(counts.tolist(), words, set()),
            "before": neighbours[0],
            "after": neighbours[1],
        }
        title = f"{place.name}: {place.facts['channels']} channels"
        return f"{place.folder}/index.html", page("site_place.html", root="../", title=title, **facts, **self.shared)

    def unit(self, place: ShownPlace, unit: ShownUnit, scale: float) -> tuple[str, bytes]:
        """Return the address and content of a unit's page; `scale` is that of all its projections."""
        contents, sheet = self.contents, UnitSheet(place, unit, self.contents.n)
        rows = [self._row(sheet, rank, entry) for rank, entry in enumerate(unit.top)]
        strips = {
            "levels": [{**self._entry(entry), "spot": sheet.level(k)} for k, entry in enumerate(unit.levels)],
            "lowest": [{**self._entry(entry), "spot": sheet.lowest(k)} for k, entry in enumerate(unit.lowest)],
        }
        beside = [f"{other.channel}.html" if other else "" for other in _beside(place.units, unit.channel)]
        following = contents.next_random.get((unit.place, unit.channel))
        facts = {
            "place": _place(place),
            "unit": _statistics(unit),
            "rows": rows,
            **strips,
            "labels": any(row["label"] for row in rows),
            "sheet": _sheet(sheet, f"{unit.channel}.webp"),
            "scale": scale,
            "chart": _distribution(unit),
            "similar": [self._neighbour(neighbour) for neighbour in self._similar(unit)],
            # Rows mostly repeat one note, such as how a rectifier was treated.
            "notes": list(dict.fromkeys(note for row in rows for note in row["notes"])),
            "checked": not any(row["differs"] or row["missing"] for row in rows),
            "before": beside[0],
            "after": beside[1],
            "random": f"../{contents.unit_page(following)}" if following else "",
        }
        figure = self._command("figure", "--at", place.name, "--channels", str(unit.channel))
        shared = {**self.shared, "command": figure}
        title = f"{place.name}, channel {unit.channel}"
        return contents.unit_page(unit), page("site_unit.html", root="../", title=title, **facts, **shared)

    def _command(self, name: str, *more: str) -> str:
        """Return the shell command that writes the content of a page again."""
        contents = self.contents
        options = ["-n", str(contents.n), "--method", contents.method.name, *([] if contents.distinct else ["--no-distinct"])]
        return shlex.join(["unconv", name, contents.index.folder.resolve().name, *more, *options])

    def _similar(self, unit: ShownUnit) -> list[Similar]:
        return self.similar[unit.place][unit.channel] if self.similar and unit.top else []

    def _neighbour(self, similar: Similar) -> dict[str, Any]:
        other = self.at[similar.place, similar.channel]
        place = self.contents.places[other.place]
        sheet = UnitSheet(place, other, self.contents.n)
        file = f"../{place.folder}/{other.channel}.webp"
        return {
            "place": similar.place,
            "channel": similar.channel,
            "correlation": similar.correlation,
            "page": self.contents.unit_page(other),
            "sheet": _sheet(sheet, file) if other.top else None,
            "projection": sheet.projection(0),
            "patch": sheet.patch(0),
        }

    def _entry(self, entry: Found) -> dict[str, Any]:
        name = Path(entry.key).name
        return {"value": entry.value, "name": name, "label": entry.label, "page": self.contents.picture_page(entry.picture)}

    def _row(self, sheet: UnitSheet, rank: int, entry: Found) -> dict[str, Any]:
        name = key(PROJECTION, sheet.unit, rank)
        words = self.spool.words(name) if name in self.spool else {}
        return {
            **self._entry(entry),
            "box": entry.box,
            "near": None if entry.near is None else entry.near + 1,
            "projection": sheet.projection(rank),
            "patch": sheet.patch(rank),
            "differs": words.get("differs", []),
            "notes": words.get("notes", []),
            "missing": "" if key(PATCH, sheet.unit, rank) in self.spool else "the picture is not there any more",
        }

    # Pictures

    def pictures(self, groups: Sequence[Thumbnails]) -> Files:
        """Yield the pages of all pictures among any unit's strongest, then the page with links to them."""
        group_facts = []
        for group, sheet in enumerate(groups):
            # The pages of groups share a folder, so links between them are file names.
            before = group_page(group - 1).split("/")[1] if group else ""
            after = group_page(group + 1).split("/")[1] if group + 1 < len(groups) else ""
            labels = dict.fromkeys(label for k in sheet.pictures if (label := self.contents.columns[k].label))
            words = f"{', '.join(list(labels)[:3])}{', …' if len(labels) > 3 else ''}"
            first, last, file = sheet.pictures[0], sheet.pictures[-1], group_page(group).split("/")[1]
            group_facts.append({"page": file, "first": first, "last": last, "count": len(sheet.pictures), "labels": words})
            cell = (sheet.cell.height, sheet.cell.width)
            facts = {
                "pictures": [self._picture(picture, sheet.spot(k)) for k, picture in enumerate(sheet.pictures)],
                "sheet": {"file": f"{group:04d}.webp", "size": size_css(cell, sheet.size), "cell": cell},
                "first": first,
                "last": last,
                "before": before,
                "after": after,
            }
            title = f"Pictures {first} to {last}"
            yield group_page(group), page("site_pictures.html", root="../", title=title, **facts, **self.shared)
        facts = {"groups": group_facts, "total": len(self.contents.among)}
        title = "Pictures among some unit's strongest"
        yield "pictures/index.html", page("site_groups.html", root="../", title=title, **facts, **self.shared)

    def _picture(self, picture: int, spot: Spot) -> dict[str, Any]:
        channels = defaultdict[int, list[int]](list)
        for unit, _ in self.contents.among[picture]:
            channels[unit.place].append(unit.channel)
        places = [
            {"name": place.name, "folder": place.folder, "channels": channels[place.number]}
            for place in self.contents.places
            if place.number in channels
        ]
        column = self.contents.columns[picture]
        return {"number": picture, "name": column.key, "label": column.label, "places": places, "spot": spot}


def seriation(correlations: np.ndarray[Any, Any]) -> list[int]:
    """Return an order of channels in which neighbours are alike, by a greedy nearest-neighbour path.

    The path starts at the channel most correlated with all others, and goes on to the remaining one most like the last.

    Args:
        correlations: (C, C).
    """
    remaining = np.ones(len(correlations), dtype=bool)
    last = int(correlations.sum(1).argmax())
    order = [last]
    remaining[last] = False
    for _ in range(len(correlations) - 1):
        last = int(np.where(remaining, correlations[last], -np.inf).argmax())
        order.append(last)
        remaining[last] = False
    return order


def _place(place: ShownPlace) -> dict[str, Any]:
    facts = place.facts
    return {
        "number": place.number,
        "name": place.name,
        "operation": facts["operation"],
        "channels": facts["channels"],
        "map": facts["size"],
        "sees": place.cell.window if not any(facts["stride"]) else facts["receptive_field"],
        "stride": facts["stride"],
        "everything": not any(facts["stride"]),
        "rectified": facts["rectified"],
        "dead": len(place.units) - len(place.live),
    }


def _statistics(unit: ShownUnit) -> dict[str, Any]:
    statistics = unit.statistics
    return {
        "channel": unit.channel,
        "pictures": statistics.pictures,
        "positive": statistics.positive,
        "share": _share(unit),
        "largest": statistics.largest,
        "mean": statistics.mean,
        "classes": [{"label": label, "mean": mean} for label, mean in statistics.classes],
    }


def _share(unit: ShownUnit) -> float:
    return unit.statistics.positive / max(1, unit.statistics.pictures)


def _distribution(unit: ShownUnit) -> dict[str, Any]:
    """Return the histogram of a unit's largest activation per picture: those not above zero, then octave by octave."""
    histogram = unit.statistics.histogram
    octaves = np.flatnonzero(histogram[ZERO + 1 :]) + ZERO + 1
    if not len(octaves):
        return {**_chart([], [], set()), "first": 0.0}
    first, last = int(octaves[0]), int(octaves[-1])
    bars = [ZERO, *range(first, last + 1)]
    marked = {bars.index(int(b)) for b in bins(np.array([entry.value for entry in unit.top], np.float32)) if int(b) in bars}
    labels = ["not above zero", *(f"from {2.0 ** (b - 32):.3g}" for b in bars[1:])]
    counts = [int(histogram[b]) for b in bars]
    captions = [f"{word}: {count:,}" for word, count in zip(labels, counts, strict=True)]
    return {**_chart(counts, captions, marked), "first": 2.0 ** (first - 32)}


def _chart(counts: Sequence[int], words: Sequence[str], marked: set[int]) -> dict[str, Any]:
    tallest = log10(1 + max(counts, default=0)) or 1.0
    bars = [
        f"M{_BAR * k} {_TALL}v{-round(_TALL * log10(1 + count) / tallest)}h{_BAR - 1}V{_TALL}" for k, count in enumerate(counts)
    ]
    plain, marked_bars = (
        "".join(bar for k, bar in enumerate(bars) if (k in marked) == is_marked) for is_marked in (False, True)
    )
    return {"plain": plain, "marked": marked_bars, "words": "; ".join(words), "width": _BAR * len(bars)}


def _sheet(sheet: UnitSheet, file: str) -> dict[str, Any]:
    cell, small = ((c.height, c.width) for c in (sheet.place.cell, sheet.place.small))
    return {
        "file": file,
        "cell": cell,
        "small": small,
        "size": size_css(cell, sheet.size),
        "small_size": size_css(small, sheet.size),
        "smooth": _smooth(sheet.place.cell),
    }


def _smooth(cell: Cell) -> bool:
    return not fine(cell) and max(cell.height, cell.width) > _PIXELS


def _beside(items: Sequence[Any], at: int) -> Iterable[Any]:
    """Return the items before and after index `at`; None at an end."""
    return (
        items[at - 1] if at > 0 else None,
        items[at + 1] if at + 1 < len(items) else None,
    )
