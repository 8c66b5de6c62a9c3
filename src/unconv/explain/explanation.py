"""Illustrated explanations: they print, draw and save themselves, and show themselves in a notebook."""

from __future__ import annotations

import base64
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image
from torch import Tensor

from unconv.errors import DtypeError, NonFinite, NoSuchUnit, ShapeError
from unconv.explain import painting
from unconv.explain.choices import Language
from unconv.explain.language import refuse_language
from unconv.explain.sheet import full_sheet, svg
from unconv.explain.story import Frame, Story, text
from unconv.explain.story_page import story_page
from unconv.files import write
from unconv.kinds import fits_kind, shown
from unconv.pictures.encode import png
from unconv.progress import Progress

_I = TypeVar("_I", bound="Illustration")
Position = tuple[int, int] | int | None
# Formats that cannot be written, and what to write instead.
_FOREIGN = {
    suffix: "save NAME.gif or NAME.webp and convert it: ffmpeg -i NAME.gif -pix_fmt yuv420p NAME" + suffix
    for suffix in (".mp4", ".mov", ".webm", ".avi", ".mkv")
}


class Illustration(ABC):
    """An explanation with a story, which has a frame for each position of a grid. Without a choice, `start` is shown."""

    input: Tensor

    @abstractmethod
    def story(self) -> Story:
        """Return the story: panels, facts, and a frame for each position, row by row."""

    @abstractmethod
    def title(self) -> str:
        """Return the explained operation and its settings in one line."""

    @abstractmethod
    def numbers(self) -> dict[str, Any]:
        """Return all tensors and settings, ready for JSON."""

    @property
    @abstractmethod
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of the grid; each of its positions has a frame."""

    @property
    def places(self) -> tuple[int, int]:
        """The name of `grid` before 0.2; it warns."""
        warnings.warn("explain: places is now called grid, and will go. Write grid.", DeprecationWarning, stacklevel=2)
        return self.grid

    @property
    @abstractmethod
    def start(self) -> tuple[int, int]:
        """The position (row, column) that is shown if none is chosen."""

    @property
    def opening(self) -> tuple[int, int]:
        """The position (row, column) that a page begins with if none is chosen."""
        return self.start

    def in_language(self: _I, language: Language) -> _I:
        """Return the same explanation with its words in English, "en", or Chinese, "zh"."""
        refuse_language("in_language", language)
        return replace(self, language=language)  # type: ignore[type-var]

    def text(self, at: Position = None) -> str:
        """Return the explanation as plain text, at one position (row, column)."""
        story, frame = self._frame_at(at)
        return text(story, frame)

    def picture(self, at: Position = None) -> Image.Image:
        """Return the explanation as a picture with the position (row, column) marked; large grids show the part around it."""
        return painting.picture(*self._frame_at(at))

    def animation(self, progress: Progress | None = None) -> bytes:
        """Return a GIF that goes through all positions."""
        return self._animation("GIF", progress)

    def page(self, at: Position = None) -> bytes:
        """Return a self-contained HTML page, with a slider that goes through all positions and begins at `at`."""
        self._refuse_empty()
        number = self._number(self.opening if at is None else at)
        return story_page(self.story(), number)

    def save(self, path: str | Path, at: Position = None, progress: Progress | None = None) -> None:
        """Write the explanation to a file, completely or not at all.

        Args:
            path: NAME.png or NAME.svg for the picture; NAME.gif, NAME.webp or NAME.apng for the animation; NAME.html for the
                page; NAME.txt for the text.
            at: the position (row, column) to show, or a number along a single axis; a page begins with it.
            progress: called while an animation is drawn, with the name of the stage, the frames so far and all frames.

        Raises:
            ShapeError: a file of another kind, too many frames, or no font for a picture with Chinese words.
            NoSuchUnit: a position outside the grid.
        """
        path = Path(path)
        writers: dict[str, Callable[[], bytes]] = {
            ".png": lambda: png(self.picture(at)),
            ".svg": lambda: svg(full_sheet(*self._frame_at(at)), label=self.title()).encode(),
            ".gif": lambda: self._animation("GIF", progress),
            ".webp": lambda: self._animation("WEBP", progress),
            ".apng": lambda: self._animation("PNG", progress),
            ".html": lambda: self.page(at),
            ".txt": lambda: f"{self.text(at)}\n".encode(),
        }
        # The file is written only after its bytes are complete, so a failure leaves an earlier file as it was.
        suffix = path.suffix.lower()
        if suffix not in writers:
            remedy = _FOREIGN.get(suffix, f"pass NAME{', NAME'.join(writers)}").replace(
                "NAME", path.stem if suffix in _FOREIGN else "NAME"
            )
            raise ShapeError(f"save: {path.name} is not of a kind that can be written; {remedy}.")
        write(path, writers[suffix]())

    def _animation(self, kind: str, progress: Progress | None) -> bytes:
        self._refuse_empty()
        return painting.animation(self.story(), kind, progress=progress)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.title()}>"

    def _repr_html_(self) -> str | None:
        """Return the page in a frame of its own height, or None where it would be too large."""
        try:
            page = escape(self.page().decode())
        except ShapeError:
            return None
        # The height is set twice: the drawing uses some of the height that it gets the first time.
        fit = "for (const turn of [1, 2]) this.style.height = this.contentDocument.documentElement.scrollHeight + 20 + 'px'"
        return f'<iframe srcdoc="{page}" onload="{fit}" style="width:100%;height:46rem;border:0"></iframe>'

    def _repr_png_(self) -> str | None:
        try:
            return base64.b64encode(png(self.picture())).decode()
        except ShapeError:
            return None

    def _frame_at(self, at: Position) -> tuple[Story, Frame]:
        number = self._number(at)
        story = self.story()
        return story, story.frames[number]

    def _refuse_empty(self) -> None:
        if 0 in self.input.shape:
            raise ShapeError(
                f"explain: the input is {tuple(self.input.shape)}, which has no values to show. Pass an input that has values."
            )
        if 0 in self.grid:
            raise ShapeError(
                f"explain: the result is {self.grid[0]} × {self.grid[1]}, which has no values to show. Pass a larger size."
            )

    def _number(self, at: Position) -> int:
        self._refuse_empty()
        rows, columns = self.grid
        position = self.start if at is None else (0, at) if rows == 1 and fits_kind(at, int) else at
        if not fits_kind(position, tuple[int, int]):
            raise NoSuchUnit(f"explain: at is {shown(at)}, but a position (row, column) was needed. Pass two whole numbers.")
        row, column = (int(edge) for edge in position)  # type: ignore[union-attr, arg-type]
        if not (0 <= row < rows and 0 <= column < columns):
            raise NoSuchUnit(
                f"explain: at is {at}, but rows are 0 to {rows - 1} and columns 0 to {columns - 1}. Pass (row, column)."
            )
        return row * columns + column


def refuse_not_finite(where: str, **tensors: Tensor) -> None:
    """Refuse NaN and infinity: an explanation adds up numbers, and with these there is nothing to follow."""
    for name, tensor in tensors.items():
        if not fits_kind(tensor, Tensor):
            raise DtypeError(f"{where}: {name} is {shown(tensor)}, but a dense tensor with values was needed. Pass one.")
        if not bool(tensor.isfinite().all()):
            raise NonFinite(f"{where}: {name} has NaN or infinite values, but finite ones were needed. Replace them first.")
