"""A story told in grids of numbers, and how it reads as plain text. `sheet.py` draws it.

Nothing here knows which operation is explained. Panels are grids that stay. A frame marks some of their cells, and adds
small grids of its own, the cards, and a caption.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any


@dataclass(frozen=True)
class Kind:
    """A kind of cell: its name in words, its sign in text, which has no colours, and its (fill, ink) by day and by night."""

    words: str
    sign: str
    day: tuple[str, str]
    night: tuple[str, str]


KINDS = {
    "value": Kind("a value", "", ("#f7d9c0", "#1d1c1a"), ("#6b3d1f", "#f6ece2")),
    "inserted": Kind("an inserted zero", "·", ("#ffffff", "#77716a"), ("#2a2825", "#a39c90")),
    "padding": Kind("padding", "□", ("#d6e6f5", "#3f5b77"), ("#22384d", "#a9c4dd")),
    "rest": Kind("more padding, for a larger output (r)", "■", ("#7d5fa6", "#ffffff"), ("#a487cf", "#161514")),
    "cropped": Kind("cropped", "×", ("#e4e0d7", "#857d70"), ("#1f1d1b", "#7d766b")),
    "kernel": Kind("the kernel", "", ("#d7ebd0", "#1d1c1a"), ("#2f4a28", "#e6f2e1")),
    "output": Kind("the output", "", ("#fdf0b8", "#1d1c1a"), ("#5a4d12", "#f7f0d6")),
    "largest": Kind("the largest of its window", "", ("#ffd34d", "#1d1c1a"), ("#8a7000", "#fff8dc")),
    "nothing": Kind("a zero where nothing came", "·", ("#ffffff", "#77716a"), ("#2a2825", "#a39c90")),
    "count": Kind("a count or an index", "", ("#f1efe9", "#1d1c1a"), ("#2e2b28", "#ebe7df")),
}


@dataclass(frozen=True)
class Panel:
    """A grid with a title, the words and the kind of each cell, and a note below it. With `first`, rows and columns are
    numbered, from there on."""

    title: str
    cells: Sequence[Sequence[str]]
    kinds: Sequence[Sequence[str]]
    note: str = ""
    first: tuple[int, int] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(rows, columns)."""
        return len(self.cells), len(self.cells[0])


@dataclass(frozen=True)
class Frame:
    """One step: marked rectangles of cells (panel, row, column, rows, columns), cards with the signs between them, and a
    caption."""

    marks: Sequence[tuple[int, int, int, int, int]]
    cards: Sequence[Panel]
    signs: Sequence[str]
    caption: str


class Frames(Sequence[Frame]):
    """Frames that are made one by one when they are looked at: the text of one place waits for no other."""

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

    `cards_at` is the number of the panel before which a frame's cards stand; with `breaks`, they begin a line.
    """

    title: str
    panels: Sequence[Panel]
    frames: Sequence[Frame]
    facts: Sequence[tuple[str, str]]
    cards_at: int
    breaks: bool


def cell(value: float) -> str:
    """Format a number so that it fits into a cell."""
    if math.isfinite(value) and value == round(value) and abs(value) < 1e5:
        return f"{int(value)}"
    return f"{value:.4g}"


def text(story: Story, frame: Frame) -> str:
    """Write the story at one frame in plain characters; signs stand for the colours of a picture."""
    blocks = [story.title, ""]
    for index, panel in enumerate(story.panels):
        if index == story.cards_at:
            for card in frame.cards:
                blocks += _block(card, set())
        marks = [mark for mark in frame.marks if mark[0] == index]
        spans = [(range(y, y + rows), range(x, x + columns)) for _, y, x, rows, columns in marks]
        blocks += _block(panel, {place for span in spans for place in product(*span)})
    blocks += [frame.caption.replace("\u00a0", " "), ""]
    blocks += [f"{what}: {words}" for what, words in story.facts]
    blocks += ["Rows and columns are counted from 0."]
    signs = [f"{sign} {words}" for _kind, words, sign in legend(story) if sign]
    return "\n".join([*blocks, "", "; ".join([*signs, "[ ] marked"])])


def legend(story: Story) -> list[tuple[str, str, str]]:
    """List the kinds of cells that the panels have: (kind, words, sign)."""
    panels = [*story.panels, *(card for frame in story.frames[:1] for card in frame.cards)]
    found = {kind for panel in panels for row in panel.kinds for kind in row}
    return [(name, kind.words, kind.sign) for name, kind in KINDS.items() if name in found]


def _block(panel: Panel, marked: set[tuple[int, int]]) -> list[str]:
    """The lines of a panel: its title, its rows, its note."""
    rows = zip(panel.cells, panel.kinds, strict=True)
    words = [[KINDS[kind].sign or word for word, kind in zip(row, kinds, strict=True)] for row, kinds in rows]
    width = max(len(word) for row in words for word in row)
    lines = [
        "  "
        + "".join(f"[{word:>{width}}]" if (y, x) in marked else f" {word:>{width}} " for x, word in enumerate(row)).rstrip()
        for y, row in enumerate(words)
    ]
    return [panel.title, *lines, *([f"  {panel.note}"] if panel.note else []), ""]
