"""An illustrated explanation, which prints, draws and saves itself and shows itself in a notebook."""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from unconv.errors import DtypeError, NonFinite, NoSuchUnit, ShapeError
from unconv.explain import sheet
from unconv.explain.story import Frame, Story, cell, text
from unconv.files import write
from unconv.kinds import fits_kind, shown
from unconv.pictures.encode import png

_UNBROKEN = "\u00a0"  # a space at which no line ends


class Illustration(ABC):
    """An explanation told as a story that has a frame for each place of a grid; `start` is the first one shown."""

    input: Tensor

    @abstractmethod
    def story(self) -> Story:
        """Panels, facts, and a frame for each place, row by row."""

    @abstractmethod
    def title(self) -> str:
        """The operation that is explained, and its settings, in one line."""

    @abstractmethod
    def numbers(self) -> dict[str, Any]:
        """Everything, ready for JSON."""

    @property
    @abstractmethod
    def places(self) -> tuple[int, int]:
        """(rows, columns) of the grid; each of its places has a frame."""

    @property
    @abstractmethod
    def start(self) -> tuple[int, int]:
        """The place (row, column) that is shown when none is asked for."""

    def text(self, at: tuple[int, int] | None = None) -> str:
        """The explanation in plain characters, at one place (row, column)."""
        story, frame = self._frame_at(at)
        return text(story, frame)

    def picture(self, at: tuple[int, int] | None = None) -> Image.Image:
        """The explanation drawn, with the place (row, column) marked: grids of at most 48 cells along a side."""
        return sheet.picture(*self._frame_at(at))

    def animation(self) -> bytes:
        """A GIF that goes through all places."""
        self._refuse_empty()
        return sheet.animation(self.story())

    def page(self, at: tuple[int, int] | None = None) -> bytes:
        """An HTML page by itself, with a slider that goes through all places; it begins at one of them."""
        number = self._number(at)
        return sheet.story_page(self.story(), number)

    def save(self, path: str | Path, at: tuple[int, int] | None = None) -> None:
        """Write the explanation, whole or not at all.

        Args:
            path: NAME.png or NAME.svg, the picture; NAME.gif, the animation; NAME.html, the page; NAME.txt, the text.
            at: the place (row, column) to show; in a page, to begin with.

        Raises:
            ShapeError: a file of another kind, or grids too large to draw.
            NoSuchUnit: a place outside the grid.
        """
        path = Path(path)
        writers: dict[str, Callable[[], bytes]] = {
            ".png": lambda: png(self.picture(at)),
            ".svg": lambda: sheet.svg(sheet.compose(*self._frame_at(at))).encode(),
            ".gif": self.animation,
            ".html": lambda: self.page(at),
            ".txt": lambda: f"{self.text(at)}\n".encode(),
        }
        if path.suffix.lower() not in writers:
            raise ShapeError(f"save: {path.name} is no kind of file we write; pass NAME{', NAME'.join(writers)}.")
        write(path, writers[path.suffix.lower()]())

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.title()}>"

    def _repr_html_(self) -> str | None:
        """The page, as high as it is; nothing where it would be too large."""
        try:
            page = escape(self.page().decode())
        except ShapeError:
            return None
        fit = "this.style.height = this.contentDocument.documentElement.scrollHeight + 20 + 'px'"
        return f'<iframe srcdoc="{page}" onload="{fit}" style="width:100%;height:46rem;border:0"></iframe>'

    def _repr_png_(self) -> str | None:
        try:
            return base64.b64encode(png(self.picture())).decode()
        except ShapeError:
            return None

    def _frame_at(self, at: tuple[int, int] | None) -> tuple[Story, Frame]:
        number = self._number(at)
        story = self.story()
        return story, story.frames[number]

    def _refuse_empty(self) -> None:
        if 0 in self.input.shape:
            raise ShapeError(
                f"explain: the input is {tuple(self.input.shape)}, which has no values to show. Explain one that has some."
            )
        if 0 in self.places:
            raise ShapeError(
                f"explain: the result is {self.places[0]} × {self.places[1]}, which has no values to show. Ask for more."
            )

    def _number(self, at: tuple[int, int] | None) -> int:
        self._refuse_empty()
        rows, columns = self.places
        place = self.start if at is None else at
        if not fits_kind(place, tuple[int, int]):
            raise NoSuchUnit(f"explain: at is {shown(at)}, but a place (row, column) was needed. Pass two whole numbers.")
        row, column = (int(edge) for edge in place)
        if not (0 <= row < rows and 0 <= column < columns):
            raise NoSuchUnit(
                f"explain: there is no place {at}; rows are 0 to {rows - 1}, columns 0 to {columns - 1}. Pass (row, column)."
            )
        return row * columns + column


def refuse_not_finite(where: str, **tensors: Tensor) -> None:
    """Refuse NaN and infinity: an explanation adds up numbers, and these leave nothing to follow."""
    for name, tensor in tensors.items():
        if not fits_kind(tensor, Tensor):
            raise DtypeError(f"{where}: {name} is {shown(tensor)}, but a dense tensor with values was needed. Pass one.")
        if not bool(tensor.isfinite().all()):
            raise NonFinite(f"{where}: {name} has NaN or infinite values, but finite ones were needed. Replace them first.")


def cells(values: Tensor) -> list[list[str]]:
    """Format the values of a grid (rows, columns) for its cells."""
    return [[cell(value) for value in row] for row in values.tolist()]


def uniform(values: Tensor, kind: str) -> list[list[str]]:
    """Give all cells of a grid one kind."""
    return [[kind] * values.shape[1] for _ in range(len(values))]


def product_words(factors: list[tuple[float, float]]) -> str:
    """Write a sum of products: 1·4 + 2·(-3)."""
    terms = [f"{_UNBROKEN}·{_UNBROKEN}".join(f"({cell(n)})" if n < 0 else cell(n) for n in pair) for pair in factors]
    return " + ".join(terms)


def by_axis(names: Sequence[str], words: Iterable[object], before: str = "") -> str:
    """Join the words of each axis, or say them once where they are the same: "2 before", "height 2 before; width 1 before"."""
    said = [str(word) for word in words]
    if len(set(said)) == 1:
        return said[0]
    return "; ".join(f"{before}{name} {word}" for name, word in zip(names, said, strict=True))


def before_and_after(names: Sequence[str], pads: Iterable[tuple[int, int]]) -> str:
    """Say in words how each axis is padded."""
    return by_axis(names, (f"{before} before, {after} after" for before, after in pads))
