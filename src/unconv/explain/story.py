"""Stories: grids of numbers with frames, and their plain text. `sheet.py` draws them.

This file does not depend on the operation that is explained. Panels are grids that stay. A frame marks some of their cells,
and adds a caption and small grids of its own, the cards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from typing import Any

from torch import Tensor

from unconv.explain.choices import Language
from unconv.explain.kinds_of_cells import KINDS
from unconv.explain.language import saying


@dataclass(frozen=True)
class Panel:
    """A grid with a title, the words and the kind of each cell, and a note below it.

    Args:
        title, cells, kinds, note: as they are shown.
        first: the numbers of the first row and column; None where rows and columns are not numbered, and within the pair
            where one of the two is not.
        sign: the sign before the panel: ×, =, + or an arrow, → or ←.
        line: whether the panel begins a new line on wide media.
        rank: 0 for panels that must be shown; those of 2, then of 1, are omitted from a drawing that is too small for all.
        exact: the exact number for each cell whose words are rounded, and "" for the others; empty if none is rounded.
    """

    title: str
    cells: Sequence[Sequence[str]]
    kinds: Sequence[Sequence[str]]
    note: str = ""
    first: tuple[int | None, int | None] | None = None
    sign: str = ""
    line: bool = False
    rank: int = 0
    exact: Sequence[Sequence[str]] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(rows, columns)."""
        return len(self.cells), len(self.cells[0])


@dataclass(frozen=True)
class Frame:
    """One step: marked rectangles of cells, cards with the signs between them, and a caption.

    A mark is (panel, row, column, rows, columns); cards are numbered on after the panels. The last mark is the position that
    the frame is about. Of a cropped panel, the part around its marks is shown, or around its rectangle in `focus`.
    """

    marks: Sequence[tuple[int, int, int, int, int]]
    cards: Sequence[Panel]
    signs: Sequence[str]
    caption: str
    focus: Mapping[int, tuple[int, int, int, int]] = field(default_factory=dict)


class Frames(Sequence[Frame]):
    """Frames that are made only when they are read, so that the text of one position needs no other frame."""

    def __init__(self, count: int, make: Callable[[int], Frame]) -> None:
        self._numbers, self._make = range(count), make

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._make(number) for number in self._numbers[index]]
        return self._make(self._numbers[index])


@dataclass(frozen=True)
class Story:
    """Panels that stay, frames that follow each other, and facts (name, words) that hold throughout.

    A frame's cards come before panel number `cards_at`; with `breaks`, they begin a line.
    """

    title: str
    panels: Sequence[Panel]
    frames: Sequence[Frame]
    facts: Sequence[tuple[str, str]]
    cards_at: int
    breaks: bool
    language: Language = "en"


def cell(value: float) -> str:
    """Return a number as text that fits into a cell.

    Integers of up to seven digits and short fractions are written in full; other numbers are rounded to a few digits.
    """
    if math.isfinite(value) and value == round(value) and abs(value) < 1e7:
        return f"{int(value)}"
    short, size = f"{value:.4g}", abs(value)
    # A float32's 0.1 is not quite 0.1. To a reader, a difference in the eighth digit is no difference.
    if 1e-3 <= size < 1e3 and math.isclose(float(short), value, rel_tol=1e-6) and len(short.lstrip("-")) <= 5:
        return short
    if 1e3 <= size < 1e7:
        return f"{value:.0f}"
    mantissa, exponent, power = (
        f"{value:.2e}" if size < 1e-3 or size >= 1e7 else f"{value:.{3 if size >= 0.1 else 2}g}"
    ).partition("e")
    return f"{float(mantissa):g}e{int(power)}" if exponent else mantissa


def cells(values: Tensor) -> list[list[str]]:
    """Return the values of a grid (rows, columns) as text for its cells."""
    return [[cell(value) for value in row] for row in values.tolist()]


def uniform(values: Tensor, kind: str) -> list[list[str]]:
    """Return the same kind for all cells of a grid."""
    return [[kind] * values.shape[1] for _ in range(len(values))]


def grid(title: str, values: Tensor, kinds: str | Sequence[Sequence[str]], **more: Any) -> Panel:
    """Return a panel with a grid of values (rows, columns); `kinds` is one kind for all cells, or one for each."""
    pairs = [[_word_and_exact(value) for value in row] for row in values.tolist()]
    words, exact = ([[pair[part] for pair in row] for row in pairs] for part in (0, 1))
    cell_kinds = uniform(values, kinds) if isinstance(kinds, str) else kinds
    return Panel(title, words, cell_kinds, exact=exact if any(any(row) for row in exact) else (), **more)


@lru_cache(maxsize=1 << 16)
def _word_and_exact(value: float) -> tuple[str, str]:
    """Return a number's word, and the exact number if that is rounded; cached, because frames repeat the numbers."""
    word = cell(value)
    return word, "" if float(word) == value else f"{value:.10g}"


def size_words(plane: Tensor | Sequence[int]) -> str:
    """Return the size of a grid in words, 2 × 3; for a single row its length."""
    rows, columns = plane.shape if isinstance(plane, Tensor) else plane
    return f"{columns}" if rows == 1 else f"{rows} × {columns}"


def text(story: Story, frame: Frame) -> str:
    """Return the story at one frame as plain text, with signs instead of a picture's colours."""
    say = saying(story.language)
    order = [*range(story.cards_at), *range(len(story.panels), len(story.panels) + len(frame.cards))]
    order += range(story.cards_at, len(story.panels))
    panels = [*story.panels, *frame.cards]
    blocks = [story.title, ""]
    for index in order:
        marks = [mark for mark in frame.marks if mark[0] == index]
        spans = [(range(y, y + rows), range(x, x + columns)) for _, y, x, rows, columns in marks]
        blocks += _block(panels[index], {place for span in spans for place in product(*span)})
    blocks += [frame.caption.replace("\u00a0", " "), ""]
    blocks += [say("{what}: {words}", what=what, words=words) for what, words in story.facts]
    blocks += [counted_from(story)]
    signs = [f"{sign} {words}" for _kind, words, sign in legend(story) if sign]
    return "\n".join([*blocks, "", say("; ").join([*signs, say("[ ] marked")])])


def counted_from(story: Story) -> str:
    """Return the sentence on where counting begins."""
    single = all(panel.first is None or panel.first[0] is None for panel in story.panels)
    return saying(story.language)("Samples are counted from 0." if single else "Rows and columns are counted from 0.")


def legend(story: Story) -> list[tuple[str, str, str]]:
    """Return the kinds of cells in the story as (kind, words, sign)."""
    # The first and the last frame are enough: a kind that appears later than in the first is there in the last.
    panels = [*story.panels, *(card for number in (0, -1) for card in story.frames[number].cards)]
    present, say = {kind for panel in panels for row in panel.kinds for kind in row}, saying(story.language)
    return [(name, say(kind.words), kind.sign) for name, kind in KINDS.items() if name in present and kind.words]


def _block(panel: Panel, marked: set[tuple[int, int]]) -> list[str]:
    """Return the lines of a panel: its title, its rows, its note."""
    rows = zip(panel.cells, panel.kinds, strict=True)
    words = [[KINDS[kind].sign or word for word, kind in zip(row, kinds, strict=True)] for row, kinds in rows]
    width = max(len(word) for row in words for word in row)
    lines = [
        "  "
        + "".join(f"[{word:>{width}}]" if (y, x) in marked else f" {word:>{width}} " for x, word in enumerate(row)).rstrip()
        for y, row in enumerate(words)
    ]
    return [panel.title, *lines, *([f"  {panel.note}"] if panel.note else []), ""]
