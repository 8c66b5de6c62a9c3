"""The layout of a story's grids: as large as fits, and cropped where their cells would be too small to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import inf

from unconv.explain.fonts import length_of, wrapped
from unconv.explain.language import saying
from unconv.explain.story import Frame, Panel, Story

HEAD, TICKS, NOTE = 26, 16, 20  # pixels from a panel's title to its cells; for row and column numbers; for a note
MAP = 20  # the side, in pixels, of the overview map beside the title of a cropped grid
_LINE = 16  # pixels for each line that lists omitted panels
_WHOLE = 7  # the longest side, in cells, of a kernel that is shown uncropped
_CROPS = (48, 36, 28, 22, 18, 15, 12, 10, 8, 7, 6, 5)  # how many cells of a side are shown; the largest is tried first


@dataclass(frozen=True)
class Paper:
    """A medium to lay a story out for: its size in pixels, the sides that a cell may have, and font sizes."""

    width: float
    height: float
    sides: tuple[int, ...]
    title: float
    note: float
    gap: float
    margin: float
    lines: bool  # whether panels begin a line where they ask for it; cards always do
    looseness: float  # how many times wider than Pillow's font the text may be

    def length(self, words: str, size: float) -> float:
        """Return the estimated width of words."""
        return length_of(words, size, self.looseness)


# A projector of 1280 × 720, minus slider and caption.
WIDE = Paper(1236, 545, (46, 42, 38, 34, 31, 28, 26), 15, 12, 30, 10, True, 1.25)
TALL = Paper(380, 580, (40, 36, 32, 29, 26, 24, 22), 12.5, 11, 16, 4, False, 1.25)  # a phone of 390 × 844
SHEET = Paper(1250, 740, (42, 38, 34, 31, 28, 26), 15, 12, 36, 24, True, 1.08)  # a picture, with words around the grids


@dataclass(frozen=True)
class Plan:
    """A layout. Panels are counted as in marks: cards come after the panels.

    Args:
        paper: the medium that it is for.
        cell: (width, height) of each cell.
        corners: (x, y) of each panel's upper left corner, where its title begins.
        shows: (rows, columns) that are shown of each panel: fewer than it has where it is cropped, (0, 0) where it is
            omitted.
        width, height: the size of the complete layout.
    """

    paper: Paper
    cell: tuple[float, float]
    corners: Sequence[tuple[float, float]]
    shows: Sequence[tuple[int, int]]
    width: float
    height: float

    def origin(self, number: int, panel: Panel, frame: Frame) -> tuple[int, int]:
        """Return the first row and column that a frame shows of a panel: around the marks, but within the grid."""
        if panel.size == self.shows[number] or self.omits(number):
            return 0, 0
        marks = [mark[1:] for mark in frame.marks if mark[0] == number] or [(0, 0, 1, 1)]
        if number in frame.focus:
            marks = [frame.focus[number]]
        starts = []
        for axis, (n, visible) in enumerate(zip(panel.size, self.shows[number], strict=True)):
            # Centred on the marks; where they need more than is shown, the part begins with the first of them.
            least = min(mark[axis] for mark in marks)
            most = max(mark[axis] + mark[axis + 2] for mark in marks)
            middle = (least + most - visible) // 2 if most - least <= visible else least
            starts.append(min(max(middle, 0), n - visible))
        return starts[0], starts[1]

    def omits(self, number: int) -> bool:
        """Return whether the panel is omitted."""
        return 0 in self.shows[number]

    def cropped(self, number: int, panel: Panel) -> bool:
        """Return whether only a part of the panel is shown."""
        return panel.size != self.shows[number] and not self.omits(number)

    def cells_at(self, number: int, panel: Panel) -> tuple[float, float]:
        """Return the corner of the first cell of a panel."""
        x, y = self.corners[number]
        rows, columns = _ticks(panel, self.cropped(number, panel))
        return x + rows, y + HEAD + columns

    def letters(self, word: str) -> float:
        """Return the font size of a word in a cell."""
        return self.cell[1] * min(0.44, 1.4 * self.cell[0] / self.cell[1] / max(len(word), 1))


def plan(story: Story, paper: Paper) -> Plan:
    """Return the layout of a story with the largest cells that fit, cropped as little as possible."""
    frame = story.frames[0]
    longest = max(len(word) for panel in (*story.panels, *frame.cards) for line in panel.cells for word in line)
    stretch = min(max(longest / 5, 1.0), 1.4)
    # Large grids are cropped first, then panels of higher ranks are omitted; kernels are cropped last of all.
    large = [crop for crop in _CROPS if crop >= _WHOLE]
    small = [crop for crop in _CROPS if crop < _WHOLE]
    # A single row may show more cells than a side of a grid.
    factors = (6, 4, 3, 2, 1) if story.panels[0].size[0] == 1 else (1,)
    best, least = None, inf
    for crops, rank in product((large, small), (2, 1, 0)):
        for crop, factor, side in product(crops, factors, paper.sides):
            candidate = _flow(story, frame, paper, (round(side * stretch), side), (crop, min(factor * crop, _CROPS[0])), rank)
            excess = max(candidate.width / paper.width, candidate.height / paper.height)
            if excess <= 1:
                return candidate
            if excess < least:
                best, least = candidate, excess
    assert best is not None
    return best  # the nearest to fitting; a page shrinks it to the screen


def _flow(story: Story, frame: Frame, paper: Paper, cell: tuple[int, int], crop: tuple[int, int], rank: int) -> Plan:
    """Return the layout that sets panels and cards in lines from left to right."""
    panels, count = [*story.panels, *frame.cards], len(story.panels)
    signs = [*(panel.sign for panel in story.panels), *frame.signs]
    order = [*range(story.cards_at), *range(count, len(panels)), *range(story.cards_at, count)]
    # All grids have the same crop, so that a kernel and its window keep the same size.
    shows = [
        (_shown(panel.size[0], crop[0]), _shown(panel.size[1], crop[1])) if panel.rank <= rank else (0, 0) for panel in panels
    ]
    corners = [(0.0, 0.0)] * len(panels)
    x, y, tallest, right = paper.margin, 0.0, 0.0, 0.0
    for position, number in enumerate(order):
        panel, sign = panels[number], signs[number]
        if 0 in shows[number]:
            continue
        width, height = _size(panel, shows[number], cell, paper)
        begins = (paper.lines and panel.line) or (story.breaks and position == story.cards_at)
        x += 10 if sign else 0
        if x > paper.margin + 10 and (x + width > paper.width - paper.margin or begins):
            x, y, tallest = paper.margin + (18 if sign else 0), y + tallest + 14, 0.0
        corners[number] = (x, y)
        right, tallest = max(right, x + width), max(tallest, height)
        x += width + paper.gap
    layout = Plan(paper, cell, corners, shows, right + paper.margin, y + tallest + 4)
    return replace(layout, height=layout.height + _LINE * len(left_out(story, panels, layout)))


def _shown(length: int, crop: int) -> int:
    """Return how many cells of a side are shown; a side is not cropped for a single cell."""
    return length if length <= crop + 1 else crop


def left_out(story: Story, panels: Sequence[Panel], layout: Plan) -> list[str]:
    """Return which panels have no room, in lines as wide as the paper; an empty list if all have."""
    titles = [panel.title for number, panel in enumerate(panels) if layout.omits(number)]
    say, paper = saying(story.language), layout.paper
    words = say("No room here for: {panels}", panels=say(", ").join(titles))
    return wrapped(words, paper.note * paper.looseness, paper.width - 2 * paper.margin) if titles else []


def _size(panel: Panel, visible: tuple[int, int], cell: tuple[int, int], paper: Paper) -> tuple[float, float]:
    """Return the (width, height) that a panel takes with its title, ticks, map and note."""
    cropped = panel.size != visible
    rows, columns = _ticks(panel, cropped)
    note = "" if cropped else panel.note  # a cropped panel's note is shorter than its cells are wide
    title = paper.length(panel.title, paper.title) + (MAP + 8 if cropped else 0)
    width = max(rows + cell[0] * visible[1], title, paper.length(note, paper.note) + rows)
    return width, HEAD + columns + cell[1] * visible[0] + (NOTE if note or cropped else 0)


def _ticks(panel: Panel, cropped: bool) -> tuple[int, int]:
    """Return the pixels for row numbers, at the left, and for column numbers, above."""
    if panel.first is None and not cropped:
        return 0, 0
    return (0 if first_of(panel)[0] is None else TICKS), TICKS


def first_of(panel: Panel) -> tuple[int | None, int | None]:
    """Return the numbers of a panel's first row and column; None for a single row or column, which needs no number."""
    rows, columns = panel.size
    return panel.first or (None if rows == 1 else 0, None if columns == 1 else 0)
