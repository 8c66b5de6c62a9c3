"""Projections of the units of one place, with their position in the image."""

from __future__ import annotations

import base64
import json
import operator
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any, overload

import torch
from PIL import Image
from torch import Tensor

from unconv.errors import NoSuchUnit, ShapeError, counted, printable
from unconv.files import whole_folder, write
from unconv.kinds import checks_kinds, fits_kind
from unconv.pictures.boxes import cut, overlap
from unconv.pictures.draw import common_scale, maps_picture, picture_of, signed_picture
from unconv.pictures.encode import png
from unconv.reverse.numbers import named_unit, place_numbers, saved_files, times, unit_numbers, unit_pictures
from unconv.reverse.places import Place
from unconv.reverse.seed import Name
from unconv.reverse.sheet import Tile, plotted, refuse_size, sheet
from unconv.reverse.window import slices

_LARGEST = 100_000_000  # samples of a picture or a box


@dataclass(frozen=True)
class Picture:
    """A picture that units belong to.

    Args:
        image: (C, samples..), preprocessed, as the network got it.
        shown: the same picture as it looks, between 0 and 1.
        number: its index in the list of pictures, from 0.
        key: its file; "" if it came as pixels.
    """

    image: Tensor
    shown: Tensor
    number: int = 0
    key: str = ""

    def __repr__(self) -> str:
        return (
            f"Picture({self.number}{f', {printable(Path(self.key).name)}' if self.key else ''}: {times(self.image.shape[1:])})"
        )


@dataclass(frozen=True)
class Signal:
    """The signal of one unit at one place on its way back.

    Args:
        place: the place, as in `Place.name`.
        energy: (samples..), the root of the sum of squares over channels, for the entire map of the place.
        channels: the three with the largest shares of the sum of squares, and these shares.
        strongest: (samples..), the signed signal of the first of these channels.
    """

    place: str
    energy: Tensor
    channels: tuple[tuple[int, float], ...]
    strongest: Tensor

    def __repr__(self) -> str:
        carried = ", ".join(f"{channel} {share:.0%}" for channel, share in self.channels)
        return f"Signal({printable(self.place)}: {times(self.energy.shape)}, channels {carried})"


@dataclass(frozen=True)
class Reconstruction:
    """One unit's projection: `window` (C, h, w) covers `box` (y0, x0, y1, x1) of the image.

    `feature_map` is the map of its channel in the forward pass, (samples..), or for all channels together
    (C, samples..). `picture` is the number and `key` the file of the picture, as in `Picture`.
    """

    place: Place
    method: str
    unit: Name
    value: float
    window: Tensor
    box: tuple[int, ...]
    image: Tensor
    shown: Tensor
    signals: tuple[Signal, ...]
    error: float | None = None
    notes: tuple[str, ...] = ()
    blue_first: bool = False
    network: str = ""
    feature_map: Tensor | None = None
    picture: int = 0
    key: str = ""

    def __repr__(self) -> str:
        unit, of = named_unit(self.unit), f" of {printable(Path(self.key).name)}" if self.key else ""
        return (
            f"Reconstruction({_where(self.network, self.place)}, {unit}: {self.value:.4g}, "
            f"{self.method}, {times(self.window.shape[1:])} pixels{of})"
        )

    @property
    def patch(self) -> Tensor:
        """(C, h, w): the preprocessed image within `box`, zero outside the image."""
        return cut(self.image, self.box)

    def _repr_html_(self) -> str:
        return Reconstructions.joined([self])._repr_html_()

    @checks_kinds
    def within(self, box: Sequence[int]) -> Tensor:
        """Return (C, h, w): the projection within `box`, in pixels of the image; zero outside its window.

        Raises:
            ShapeError: the box has other axes than this image, or more than a hundred million samples.
        """
        axes = len(self.box) // 2
        refuse_box(box, axes)
        shifts = self.box[:axes] * 2
        return cut(self.window, [edge - shift for edge, shift in zip(box, shifts, strict=True)])

    def drawn(self, box: Sequence[int]) -> Tensor:
        """Return the projection `within` a box, its colours in the order in which pictures are drawn."""
        return as_they_look(self.within(box), self.blue_first)


def as_they_look(signal: Tensor, blue_first: bool) -> Tensor:
    """Return a signal (C, ...) with its colours in the order in which pictures are drawn."""
    return signal.flip(0) if blue_first and len(signal) == 3 else signal


@dataclass(frozen=True)
class Reconstructions:
    """Projections of several units of one place.

    Args:
        place, method: the place and the method of the projections.
        units: (channel, y, x) of each; (channel, None, None) for an entire map or a region.
        values: (n,), the unit's activation; for a map or region, the largest in it.
        windows: for each unit (C, h, w): the signal that arrived, signed, in the units of the
            preprocessed image times the activation's gradient rule.
        boxes: (n, 4) int64: y0, x0, y1, x1 in pixels, ends excluded. A unit's receptive field may
            reach outside the image. It is cut to the image along an axis where it is longer than two
            images, and so are those of a map or region.
        image: (C, H, W), preprocessed, as the network got it.
        shown: (C, H, W) between 0 and 1, the same picture as it looks.
        signals: for each unit, if asked for, the signal at every place on the way back.
        error: in half precision, the largest difference from float32 in a few of the units, as a share of
            a projection's largest value; None in full precision.
        notes: what the method did where the paper says nothing, and what it froze, in words.
        blue_first: whether the network's channels are blue, green, red; drawings have the true colours all the same.
        network: the network's name.
        feature_maps: for each unit, the map of its channel in the forward pass, (samples..); for all channels
            together (C, samples..).
        pictures: for each unit, its picture; `image` and `shown` are those of the first.
    """

    place: Place
    method: str
    units: list[Name]
    values: Tensor
    windows: list[Tensor]
    boxes: Tensor
    image: Tensor
    shown: Tensor
    signals: list[tuple[Signal, ...]]
    error: float | None = None
    notes: tuple[str, ...] = ()
    blue_first: bool = False
    network: str = ""
    feature_maps: list[Tensor] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.pictures:
            object.__setattr__(self, "pictures", [Picture(self.image, self.shown)] * len(self.units))

    @classmethod
    def joined(cls, parts: Iterable[Reconstructions | Reconstruction]) -> Reconstructions:
        """Return projections of one place from several pictures or runs as one, in the same order.

        Raises:
            ShapeError: there are none, or they differ in network, place, method or order of colours.
        """
        several = [part if isinstance(part, Reconstructions) else _as_several(part) for part in parts]
        kinds = [(part.network, part.place.name, part.method, part.blue_first) for part in several]
        if not several or len(set(kinds)) > 1:
            came = " and ".join(f"{name} {place} by {method}" for name, place, method, _ in dict.fromkeys(kinds)) or "nothing"
            raise ShapeError(f"joined: {came} came, but projections of one network, place and method were needed. Join those.")
        errors = [part.error for part in several if part.error is not None]
        signals = list(chain(*(part.signals for part in several)))
        units = list(chain(*(part.units for part in several)))
        return replace(
            several[0],
            units=units,
            values=torch.cat([part.values for part in several]),
            windows=list(chain(*(part.windows for part in several))),
            boxes=torch.cat([part.boxes for part in several]),
            signals=signals
            if len(signals) == len(units)
            else [],  # if only some units have signals, they would be matched with the wrong ones
            error=max(errors, default=None),
            notes=tuple(dict.fromkeys(chain(*(part.notes for part in several)))),
            feature_maps=list(chain(*(part.feature_maps for part in several))),
            pictures=_with_unique_numbers(list(chain(*(part.pictures for part in several)))),
        )

    def __repr__(self) -> str:
        count = f"{len(self)} unit{'s' if len(self) != 1 else ''}"
        channels = [str(unit[0]) for unit in self.units[:4] if unit[0] is not None]
        more = " ..." if len(self) > 4 else ""
        which = f"channel{'s' if len(self) != 1 else ''} {', '.join(channels)}{more}" if channels else "all channels together"
        kind = ", whole maps or regions" if len(self) and None in self.units[0][1:] else ""
        sizes = list(dict.fromkeys(times(window.shape[1:]) for window in self.windows))
        shapes = f", {sizes[0] if len(sizes) == 1 else f'up to {max(sizes, key=_product)}'} pixels" if sizes else ""
        keys = {picture.number: picture.key for picture in self.pictures}
        names = [printable(Path(key).name) for key in keys.values() if key]
        of = f", {len(keys)} pictures" if len(keys) > 1 else f", {names[0]}" if names else ""
        return (
            f"Reconstructions({_where(self.network, self.place)}: {count}{f', {which}' if len(self) else ''}{kind}, "
            f"{self.method}{shapes}{of})"
        )

    def __len__(self) -> int:
        return len(self.units)

    @overload
    def __getitem__(self, index: int) -> Reconstruction: ...
    @overload
    def __getitem__(self, index: slice) -> Reconstructions: ...
    def __getitem__(self, index: int | slice) -> Reconstruction | Reconstructions:
        if isinstance(index, slice):
            rows = list(range(len(self)))[index]  # torch takes no negative steps
            part = replace(self, values=self.values[rows], boxes=self.boxes[rows])
            return replace(
                part,
                units=self.units[index],
                windows=self.windows[index],
                signals=self.signals[index],
                feature_maps=self.feature_maps[index],
                pictures=self.pictures[index],
            )
        if not fits_kind(index, int):
            raise NoSuchUnit(f"projections: {repr(index)[:60]} came, but an integer or a slice was needed. Pass one.")
        if not -len(self) <= operator.index(index) < len(self):
            raise NoSuchUnit(f"projections: there is no {index} among {counted(len(self), 'projection')}. Count from 0.")
        index = operator.index(index)
        picture = self.pictures[index]
        return Reconstruction(
            self.place,
            self.method,
            self.units[index],
            float(self.values[index]),
            self.windows[index],
            tuple(self.boxes[index].tolist()),
            picture.image,
            picture.shown,
            self.signals[index] if self.signals else (),
            self.error,
            self.notes,
            self.blue_first,
            self.network,
            self.feature_maps[index] if self.feature_maps else None,
            picture.number,
            picture.key,
        )

    def __iter__(self) -> Iterator[Reconstruction]:
        return (self[index] for index in range(len(self)))

    def pixels(self) -> Tensor:
        """Return (n, C, H, W): each projection in an image of full size, zero outside its window."""
        sizes = list(dict.fromkeys(tuple(picture.image.shape) for picture in self.pictures))
        if len(sizes) > 1:
            raise ShapeError(
                f"pixels: the pictures are {sizes[0]} and {sizes[1]}, but one size was needed for one tensor. "
                "Use .windows, or take the pixels of each picture's projections."
            )
        out = self.image.new_zeros(len(self), *self.image.shape, dtype=self._dtype)
        for row, window, box in zip(out, self.windows, self.boxes.tolist(), strict=True):
            takes, puts = overlap(box, self.image.shape[1:])
            row[slices(puts)] = window[slices(takes)]
        return out

    def patches(self) -> list[Tensor]:
        """Return for each unit (C, h, w): the preprocessed image within its box, zero outside the image."""
        return [cut(picture.image, box) for picture, box in zip(self.pictures, self.boxes.tolist(), strict=True)]

    @property
    def activations(self) -> Tensor:
        """The map of each unit's channel in the forward pass, (n, samples..); for all channels together (n, C, samples..).

        Raises:
            ShapeError: the maps differ in size and do not fit one tensor; `feature_maps` lists them.
        """
        sizes = list(dict.fromkeys(tuple(one.shape) for one in self.feature_maps))
        if len(sizes) > 1:
            raise ShapeError(f"activations: maps are {sizes[0]} and {sizes[1]}, but one size was needed. Use .feature_maps.")
        return torch.stack(self.feature_maps) if self.feature_maps else self.values.new_zeros(0, *self.place.size)

    @property
    def _dtype(self) -> torch.dtype:
        return self.windows[0].dtype if self.windows else self.image.dtype

    @cached_property
    def scale(self) -> float:
        """The value drawn white in `picture`; 99 % of the projections' nonzero samples lie within it."""
        return common_scale(self.windows)

    @checks_kinds
    def picture(self, columns: int = 4, side: int = 96, labels: bool = True, maps: bool = False) -> Image.Image:
        """Draw a numbered grid of projections, each beside the patch that caused it, on one scale, with zero as grey.

        Args:
            columns: units per row.
            side: the approximate side of each projection and patch, in pixels.
            labels: whether to write each unit's index, channel and activation below it.
            maps: whether to draw the feature map of the forward pass in front; for all channels together, the
                strongest 16.
        """
        refuse_size(len(self), columns, side, 2 + maps)
        tiles = self._tiles(maps)
        return sheet(tiles, self._labels() if labels else [], columns, side)

    def _tiles(self, maps: bool) -> list[Tile]:
        self._refuse_flat()
        tiles = list[Tile]()
        for index, (window, box) in enumerate(zip(self.windows, self.boxes.tolist(), strict=True)):
            projection = signed_picture(as_they_look(window, self.blue_first), self.scale)
            first = [maps_picture(self.feature_maps[index])] if maps and self.feature_maps else []
            tiles.append([*first, projection, self._patch_picture(index, box)])
        return tiles

    def _labels(self) -> list[str]:
        rows = enumerate(zip(self.units, self.values.tolist(), strict=True))
        return [f"{index}: {named_unit(unit)}: {value:.3g}" for index, (unit, value) in rows]

    def numbers(self) -> dict[str, Any]:
        """Return everything that is not a picture, ready for JSON."""
        rows = zip(self.units, self.values.tolist(), self.boxes.tolist(), self.windows, strict=True)
        common = place_numbers(self.place, self.method, self.error, self.notes)
        units = [unit_numbers(*row) for row in rows]
        for unit, picture in zip(units, self.pictures, strict=True):
            unit["picture"], unit["key"] = picture.number, picture.key
        return {**common, "network": self.network, "scale": self.scale, "units": units}

    @checks_kinds
    def save(self, path: str | Path, columns: int = 4, side: int = 96, labels: bool = True, maps: bool = False) -> None:
        """Write the projections to a file or a folder; existing files are replaced completely or not at all.

        In a folder, the files that an earlier `save` listed in its `units.json` are replaced; other files stay.

        Args:
            path: `NAME.png`, the grid of `picture`; `NAME.pdf` or `NAME.svg`, the same as a figure of matplotlib;
                `NAME.safetensors`, the exact `windows` as "window_0", "window_1" and so on, "values" and "boxes"; or a
                folder, which gets a PNG of each projection and each patch, and `units.json`.
            columns, side, labels, maps: as in `picture`, for a grid.

        Raises:
            ShapeError: the file is of another kind, or a picture was requested of projections that are not two-dimensional.
            WriteError: the path cannot be written, or a file in the folder that is not ours would be replaced.
            UnconvError: matplotlib, which PDF and SVG need, is not installed.
        """
        # A folder is recognised last, as its name may have a dot in it.
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix == ".png":
            write(path, png(self.picture(columns, side, labels, maps)))
        elif suffix in (".pdf", ".svg"):
            refuse_size(len(self), columns, side, 2 + maps)
            write(path, plotted(self._tiles(maps), self._labels() if labels else [], columns, side, suffix[1:]))
        elif suffix == ".safetensors":
            write(path, self._tensors())
        elif suffix and not os.path.isdir(path):
            raise ShapeError(
                f"save: {path.name} came, but another kind of file was needed. Pass NAME.png, NAME.pdf, NAME.svg, "
                "NAME.safetensors or a folder."
            )
        else:
            self._save_folder(path)

    def _save_folder(self, folder: Path) -> None:
        self._refuse_flat()
        names = [unit_pictures(index, unit[0]) for index, unit in enumerate(self.units)]
        with whole_folder(folder, saved_files, "units.json", ("units.json", *chain(*names))) as staged:
            rows = zip(names, self.windows, self.boxes.tolist(), strict=True)
            for index, ((projection, patch), window, box) in enumerate(rows):
                staged.put(projection, png(signed_picture(as_they_look(window, self.blue_first), self.scale)))
                staged.put(patch, png(self._patch_picture(index, box)))
            staged.put("units.json", json.dumps(self.numbers(), indent=1).encode())
            staged.publish()

    def _patch_picture(self, index: int, box: Sequence[int]) -> Image.Image:
        """Draw the picture within a unit's `box`, white outside the picture."""
        return picture_of(1 + cut(self.pictures[index].shown - 1, box))

    def _tensors(self) -> bytes:
        from safetensors.torch import save

        named = {f"window_{index}": window.contiguous().clone() for index, window in enumerate(self.windows)}
        facts = {key: json.dumps(value) for key, value in self.numbers().items()}
        return save({**named, "values": self.values.contiguous(), "boxes": self.boxes.contiguous()}, facts)

    def _refuse_flat(self) -> None:
        if not len(self):
            raise ShapeError("picture: there are no projections to draw. Ask for at least one channel.")
        if any(picture.image.ndim != 3 for picture in self.pictures):
            raise ShapeError(
                f"picture: the image is {tuple(self.image.shape)}; only (C, H, W) makes a picture. "
                "Use .windows, or save as .safetensors."
            )

    def _repr_html_(self) -> str:
        count, size = f"{len(self)} unit{'s' if len(self) != 1 else ''}", " × ".join(map(str, self.place.receptive_field))
        place, method = escape(self.place.name), escape(self.method)
        caption = f"<b>{place}</b>: {count}, {method}, receptive field {size}; grey is 0, white {self.scale:.3g} or more"
        if self.image.ndim != 3 or not len(self):
            return f"<p>{caption}</p>"
        drawn = self[:36]
        more = f"; the first {len(drawn)} are drawn" if len(drawn) < len(self) else ""
        data = base64.b64encode(png(drawn.picture())).decode()
        picture = f'<img src="data:image/png;base64,{data}">'
        return f'<figure style="margin:0">{picture}<figcaption>{caption}{more}</figcaption></figure>'


def _as_several(one: Reconstruction) -> Reconstructions:
    """Return one projection as `Reconstructions`."""
    return Reconstructions(
        one.place,
        one.method,
        [one.unit],
        torch.tensor([one.value], dtype=one.window.dtype),
        [one.window],
        torch.tensor([one.box]),
        one.image,
        one.shown,
        [one.signals] if one.signals else [],
        one.error,
        one.notes,
        one.blue_first,
        one.network,
        [] if one.feature_map is None else [one.feature_map],
        [Picture(one.image, one.shown, one.picture, one.key)],
    )


def _with_unique_numbers(pictures: list[Picture]) -> list[Picture]:
    """Return pictures with unique numbers: their own if they are unique, else in their order."""
    images = {id(picture.image): picture for picture in pictures}
    if len({picture.number for picture in images.values()}) == len(images):
        return pictures
    numbers = {key: number for number, key in enumerate(images)}
    return [replace(picture, number=numbers[id(picture.image)]) for picture in pictures]


def _where(network: str, place: Place) -> str:
    return printable(f"{network} {place.name}".strip())


def _product(lengths: str) -> int:
    return prod(map(int, lengths.split(" × ")))


def refuse_box(box: Sequence[int], axes: int) -> None:
    """Refuse a box that has an end before its start, other axes, or too many samples for memory."""
    lengths = [end - start for start, end in zip(box[:axes], box[axes:], strict=False)]
    if len(box) != 2 * axes or min(lengths, default=0) < 0 or prod(lengths) > _LARGEST:
        raise ShapeError(
            f"within: box is {tuple(box)}, but {axes} firsts and {axes} ends were needed, of at most {_LARGEST} samples. "
            "Pass (y0, x0, y1, x1), ends excluded."
        )
