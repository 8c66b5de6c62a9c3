"""What came back: projections of the units of one place, and where in the image they stand."""

from __future__ import annotations

import base64
import json
import operator
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any, overload

import torch
from PIL import Image
from torch import Tensor

from unconv.errors import NoSuchUnit, ShapeError
from unconv.files import whole_folder, write
from unconv.kinds import checks_kinds, fits_kind
from unconv.pictures.boxes import cut, overlap
from unconv.pictures.draw import common_scale, grid, picture_of, signed_picture
from unconv.pictures.encode import png
from unconv.reverse.places import Place
from unconv.reverse.seed import Name
from unconv.reverse.window import slices

_LARGEST = 100_000_000  # samples of a picture or a box


@dataclass(frozen=True)
class Signal:
    """The signal of one unit at one place on its way down.

    Args:
        place: where, as in `Place.name`.
        energy: (samples..) of the place's whole map: the root of the squares' sum over channels.
        channels: the three that carry most, with their share of the squares' sum.
        strongest: (samples..), the signed signal of the first of them.
    """

    place: str
    energy: Tensor
    channels: tuple[tuple[int, float], ...]
    strongest: Tensor


@dataclass(frozen=True)
class Reconstruction:
    """One unit's projection: `window` (C, h, w) stands at `box` (y0, x0, y1, x1) of the image."""

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

    @property
    def patch(self) -> Tensor:
        """(C, h, w): the same place of the preprocessed image, zero outside it."""
        return cut(self.image, self.box)

    def _repr_html_(self) -> str:
        one = Reconstructions(
            self.place,
            self.method,
            [self.unit],
            torch.tensor([self.value]),
            [self.window],
            torch.tensor([self.box]),
            self.image,
            self.shown,
            [],
            blue_first=self.blue_first,
        )
        return one._repr_html_()

    @checks_kinds
    def within(self, box: Sequence[int]) -> Tensor:
        """(C, h, w): what of the projection stands in `box`, in pixels of the image; zero where there is none.

        Raises:
            ShapeError: no box of this image's axes, or one of more than a hundred million samples.
        """
        axes = len(self.box) // 2
        refuse_box(box, axes)
        shifts = self.box[:axes] * 2
        return cut(self.window, [edge - shift for edge, shift in zip(box, shifts, strict=True)])

    def drawn(self, box: Sequence[int]) -> Tensor:
        """As `within`, with the colours in the order in which pictures are drawn."""
        return as_they_look(self.within(box), self.blue_first)


def as_they_look(signal: Tensor, blue_first: bool) -> Tensor:
    """(C, ...): a signal with its colours in the order in which pictures are drawn."""
    return signal.flip(0) if blue_first and len(signal) == 3 else signal


@dataclass(frozen=True)
class Reconstructions:
    """Projections of several units of one place.

    Args:
        place, method: what was projected, and how.
        units: (channel, y, x) of each; (channel, None, None) for a whole map or region.
        values: (n,) the unit's activation; of a map or region, the largest in it.
        windows: of each, (C, h, w): the signal that arrived, signed, in the units of the
            preprocessed image times the activation's gradient rule.
        boxes: (n, 4) int64: y0, x0, y1, x1 in pixels, ends excluded. A unit's receptive field may
            reach outside the image; it is cut to the image along an axis where it is longer than two
            images, as are those of a map or region.
        image: (C, H, W), preprocessed, as it went in.
        shown: (C, H, W) between 0 and 1, the same as it looked.
        signals: of each, on request, the signal at every place on the way down, from the unit on.
        error: of a way back in half precision, the largest difference from float32 that a few of the units
            had, as a share of a projection's largest value; None in full precision.
        notes: what was done where the paper says nothing, and what was held fixed, in words.
        blue_first: whether the network's channels are blue, green, red: pictures are drawn with the colours as they look.
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
            return replace(part, units=self.units[index], windows=self.windows[index], signals=self.signals[index])
        if not fits_kind(index, int):
            raise NoSuchUnit(f"projections: {repr(index)[:60]} is no place among them; pass a whole number or a slice.")
        if not -len(self) <= operator.index(index) < len(self):
            raise NoSuchUnit(f"projections: there is no {index}; there are {len(self)}, from 0 on.")
        index = operator.index(index)
        box = tuple(self.boxes[index].tolist())
        signals = self.signals[index] if self.signals else ()
        unit, value, window = self.units[index], float(self.values[index]), self.windows[index]
        common = (self.image, self.shown, signals, self.error, self.notes, self.blue_first)
        return Reconstruction(self.place, self.method, unit, value, window, box, *common)

    def __iter__(self) -> Iterator[Reconstruction]:
        return (self[index] for index in range(len(self)))

    def pixels(self) -> Tensor:
        """(n, C, H, W): each projection on the whole image, zero outside its window."""
        out = self.image.new_zeros(len(self), *self.image.shape, dtype=self._dtype)
        for row, window, box in zip(out, self.windows, self.boxes.tolist(), strict=True):
            takes, puts = overlap(box, self.image.shape[1:])
            row[slices(puts)] = window[slices(takes)]
        return out

    def patches(self) -> list[Tensor]:
        """Return for each (C, h, w): the same place of the preprocessed image, zero outside it."""
        return [cut(self.image, box) for box in self.boxes.tolist()]

    @property
    def _dtype(self) -> torch.dtype:
        return self.windows[0].dtype if self.windows else self.image.dtype

    @cached_property
    def scale(self) -> float:
        """The value drawn white in `picture`: 99 in 100 of the projections' samples that are not zero lie within it."""
        return common_scale(self.windows)

    @checks_kinds
    def picture(self, columns: int = 9, side: int = 96) -> Image.Image:
        """A grid: each projection beside the patch that caused it, all on one scale, grey is zero."""
        self._refuse_flat()
        refuse_size(len(self), columns, side)
        tiles = []
        for window, box in zip(self.windows, self.boxes.tolist(), strict=True):
            pair = (signed_picture(as_they_look(window, self.blue_first), self.scale), self._patch_picture(box))
            tiles.append(grid([enlarged(tile, side) for tile in pair], 2, 2))
        return grid(tiles, max(1, columns // 2), 10)

    def numbers(self) -> dict[str, Any]:
        """All that is not a picture, ready for JSON."""
        rows = zip(self.units, self.values.tolist(), self.boxes.tolist(), self.windows, strict=True)
        common = place_numbers(self.place, self.method, self.error, self.notes)
        return {**common, "scale": self.scale, "units": [unit_numbers(*row) for row in rows]}

    def save(self, path: str | Path) -> None:
        """Write the projections; what is there is replaced whole or not at all.

        In a folder, what an earlier `save` listed in its `units.json` is replaced; other files stay.

        Args:
            path: `NAME.png`, the grid of `picture`; `NAME.safetensors`, `windows` under "window_0"
                and on, "values" and "boxes", exact; or a folder, which gets a PNG of each projection
                and each patch, and `units.json`.

        Raises:
            ShapeError: a file of another kind, or pictures of what is not two-dimensional.
            WriteError: it cannot be written, or a file that is not ours would be replaced in the folder.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix == ".png":
            write(path, png(self.picture()))
        elif suffix == ".safetensors":
            write(path, self._tensors())
        elif suffix and not os.path.isdir(path):
            raise ShapeError(f"save: {path.name} is no kind of file we write; pass NAME.png, NAME.safetensors or a folder.")
        else:
            self._save_folder(path)

    def _save_folder(self, folder: Path) -> None:
        self._refuse_flat()
        names = [_pictures_of(index, unit[0]) for index, unit in enumerate(self.units)]
        with whole_folder(folder, _listed, "units.json", ("units.json", *chain(*names))) as staged:
            for (projection, patch), window, box in zip(names, self.windows, self.boxes.tolist(), strict=True):
                staged.put(projection, png(signed_picture(as_they_look(window, self.blue_first), self.scale)))
                staged.put(patch, png(self._patch_picture(box)))
            staged.put("units.json", json.dumps(self.numbers(), indent=1).encode())
            staged.publish()

    def _patch_picture(self, box: Sequence[int]) -> Image.Image:
        """What stands in `box`; what lies outside the picture is white."""
        return picture_of(1 + cut(self.shown - 1, box))

    def _tensors(self) -> bytes:
        from safetensors.torch import save

        named = {f"window_{index}": window.contiguous().clone() for index, window in enumerate(self.windows)}
        facts = {key: json.dumps(value) for key, value in self.numbers().items()}
        return save({**named, "values": self.values.contiguous(), "boxes": self.boxes.contiguous()}, facts)

    def _refuse_flat(self) -> None:
        if not len(self):
            raise ShapeError("picture: there are no projections to draw. Ask for at least one channel.")
        if self.image.ndim != 3:
            raise ShapeError(
                f"picture: the image is {tuple(self.image.shape)}; only (C, H, W) makes a picture. "
                "Use .windows, or save as .safetensors."
            )

    def _repr_html_(self) -> str:
        count, field = f"{len(self)} unit{'s' if len(self) != 1 else ''}", " × ".join(map(str, self.place.receptive_field))
        place, method = escape(self.place.name), escape(self.method)
        caption = f"<b>{place}</b>: {count}, {method}, receptive field {field}; grey is 0, white {self.scale:.3g} or more"
        if self.image.ndim != 3 or not len(self):
            return f"<p>{caption}</p>"
        kept = self[:36]
        more = f"; the first {len(kept)} are drawn" if len(kept) < len(self) else ""
        data = base64.b64encode(png(kept.picture())).decode()
        picture = f'<img src="data:image/png;base64,{data}">'
        return f'<figure style="margin:0">{picture}<figcaption>{caption}{more}</figcaption></figure>'


def _pictures_of(index: int, channel: int | None) -> tuple[str, str]:
    """Return the names of a projection's picture and of its patch's in a folder."""
    return f"{index:04d}_channel_{channel}_projection.png", f"{index:04d}_channel_{channel}_patch.png"


def _listed(folder: Path) -> set[str]:
    """Return the files that an earlier `save` has written into a folder, by its units.json; none if that is not ours."""
    if not (folder / "units.json").is_file():  # a pipe would hold us up
        return set()
    try:
        numbers = json.loads((folder / "units.json").read_bytes())
        channels = [unit["channel"] for unit in numbers["units"]]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return set()
    if not {"place", "method", "receptive_field"} <= numbers.keys() or not all(
        isinstance(each, int | None) for each in channels
    ):
        return set()
    return {"units.json", *chain(*(_pictures_of(index, channel) for index, channel in enumerate(channels)))}


def place_numbers(place: Place, method: str, error: float | None, notes: Sequence[str]) -> dict[str, Any]:
    """What all units of a place have in common, ready for JSON."""
    return {
        "place": place.name,
        "operation": place.operation,
        "method": method,
        "error": error,
        "notes": list(notes),
        "map": list(place.size),
        "receptive_field": list(place.receptive_field),
        "stride": list(place.stride),
    }


def refuse_box(box: Sequence[int], axes: int) -> None:
    """Refuse a box with an end before its start, of other axes, or too large for memory."""
    lengths = [end - start for start, end in zip(box[:axes], box[axes:], strict=False)]
    if len(box) != 2 * axes or min(lengths, default=0) < 0 or prod(lengths) > _LARGEST:
        raise ShapeError(
            f"within: box is {tuple(box)}, but {axes} firsts and {axes} ends were needed, of at most {_LARGEST} samples. "
            "Pass (y0, x0, y1, x1), ends excluded."
        )


def refuse_size(count: int, columns: int, side: int) -> None:
    """Refuse a picture without pixels, or too large for memory."""
    if columns < 1 or side < 1 or 2 * count * side**2 > _LARGEST:
        raise ShapeError(
            f"picture: {columns} columns of {count} projections, {side} pixels a side, but at least 1 of each, and at most "
            f"{_LARGEST} pixels in all, were needed. Choose a smaller side, or fewer units."
        )


def unit_numbers(unit: Name, value: float, box: Sequence[int], window: Tensor) -> dict[str, Any]:
    """One unit's numbers, ready for JSON."""
    return {
        "channel": unit[0],
        "position": list(unit[1:]),
        "activation": value,
        "box": list(box),
        "largest": float(window.abs().max()) if window.numel() else 0.0,
    }


def enlarged(picture: Image.Image, side: int) -> Image.Image:
    """Blown up by whole steps, pixels staying square, until the longer side nears `side`; shrunk if larger."""
    longest = max(picture.size)
    if longest > side:
        size = (max(1, round(picture.width * side / longest)), max(1, round(picture.height * side / longest)))
        return picture.resize(size, Image.Resampling.LANCZOS)
    step = max(1, side // longest)
    return picture.resize((picture.width * step, picture.height * step), Image.Resampling.NEAREST)
