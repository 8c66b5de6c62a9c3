"""Where the grids of a story stand on a screen: as large as fits, and cropped where cells would be too small to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import inf

from unconv.explain.fonts import length_of, wrapped
from unconv.explain.language import saying
from unconv.explain.story import Frame, Panel, Story

HEAD, TICKS, NOTE = 26, 16, 20  # from a panel's title to its cells; the room for the numbers of rows and columns; for a note
MAP = 20  # the side of the map beside the title of a cropped grid
_LINE = 16  # of the words on what is left out
_WHOLE = 7  # cells along the side of a kernel that is still shown whole
_CROPS = (48, 36, 28, 22, 18, 15, 12, 10, 8, 7, 6, 5)  # cells along one side that are shown; the most first


@dataclass(frozen=True)
class Paper:
    """What a story is laid out for: its room in pixels, the sides that a cell may have, and the sizes of letters."""

    width: float
    height: float
    sides: tuple[int, ...]
    title: float
    note: float
    gap: float
    margin: float
    lines: bool  # whether panels begin lines where they ask for it; cards do so everywhere
    looseness: float  # how much wider than Pillow's own the letters may be

    def length(self, words: str, size: float) -> float:
        """Estimate how wide words are."""
        return length_of(words, size, self.looseness)


# A projector of 1280 × 720, less slider and caption.
WIDE = Paper(1236, 545, (46, 42, 38, 34, 31, 28, 26), 15, 12, 30, 10, True, 1.25)
TALL = Paper(380, 580, (40, 36, 32, 29, 26, 24, 22), 12.5, 11, 16, 4, False, 1.25)  # a phone of 390 × 844
SHEET = Paper(1250, 740, (42, 38, 34, 31, 28, 26), 15, 12, 36, 24, True, 1.08)  # a picture, which has words around it


@dataclass(frozen=True)
class Plan:
    """A layout. Panels are counted as in marks: cards come after the panels.

    Args:
        paper: what it is for.
        cell: (width, height) of each cell.
        corners: (x, y) of each panel, its title's upper left end.
        shows: (rows, columns) of each panel that are shown; fewer than there are where it is cropped, none where the panel is
            left out.
        width, height: of everything.
    """

    paper: Paper
    cell: tuple[float, float]
    corners: Sequence[tuple[float, float]]
    shows: Sequence[tuple[int, int]]
    width: float
    height: float

    def origin(self, number: int, panel: Panel, frame: Frame) -> tuple[int, int]:
        """Return the first row and column of a panel that are shown at a frame: around its marks, within the grid."""
        if panel.size == self.shows[number] or self.omits(number):
            return 0, 0
        marks = [mark[1:] for mark in frame.marks if mark[0] == number] or [(0, 0, 1, 1)]
        if number in frame.focus:
            marks = [frame.focus[number]]
        starts = []
        for axis, (n, shown) in enumerate(zip(panel.size, self.shows[number], strict=True)):
            least = min(mark[axis] for mark in marks)
            most = max(mark[axis] + mark[axis + 2] for mark in marks)
            middle = (least + most - shown) // 2 if most - least <= shown else least
            starts.append(min(max(middle, 0), n - shown))
        return starts[0], starts[1]

    def omits(self, number: int) -> bool:
        """Whether the panel is left out."""
        return 0 in self.shows[number]

    def cropped(self, number: int, panel: Panel) -> bool:
        """Whether a part of the panel is shown."""
        return panel.size != self.shows[number] and not self.omits(number)

    def cells_at(self, number: int, panel: Panel) -> tuple[float, float]:
        """Return the corner of the first cell of a panel."""
        x, y = self.corners[number]
        rows, columns = _ticks(panel, self.cropped(number, panel))
        return x + rows, y + HEAD + columns

    def letters(self, word: str) -> float:
        """Return the size of a word in a cell."""
        return self.cell[1] * min(0.44, 1.4 * self.cell[0] / self.cell[1] / max(len(word), 1))


def plan(story: Story, paper: Paper) -> Plan:
    """Lay a story out: with the largest cells with which it fits, cropped as little as that needs."""
    frame = story.frames[0]
    longest = max(len(word) for panel in (*story.panels, *frame.cards) for line in panel.cells for word in line)
    stretch = min(max(longest / 5, 1.0), 1.4)
    # Panels of higher ranks are left out before kernels are cut; large grids are cropped before that.
    large = [crop for crop in _CROPS if crop >= _WHOLE]
    small = [crop for crop in _CROPS if crop < _WHOLE]
    longer = (6, 4, 3, 2, 1) if story.panels[0].size[0] == 1 else (1,)  # single rows may be longer than many are high
    found, least = None, inf
    for crops, rank in product((large, small), (2, 1, 0)):
        for crop, times, side in product(crops, longer, paper.sides):
            tried = _flow(story, frame, paper, (round(side * stretch), side), (crop, min(times * crop, _CROPS[0])), rank)
            excess = max(tried.width / paper.width, tried.height / paper.height)
            if excess <= 1:
                return tried
            if excess < least:
                found, least = tried, excess
    assert found is not None
    return found  # a page shrinks it to its screen


def _flow(story: Story, frame: Frame, paper: Paper, cell: tuple[int, int], crop: tuple[int, int], rank: int) -> Plan:
    """Set panels and cards in lines from left to right."""
    panels, count = [*story.panels, *frame.cards], len(story.panels)
    signs = [*(panel.sign for panel in story.panels), *frame.signs]
    order = [*range(story.cards_at), *range(count, len(panels)), *range(story.cards_at, count)]
    # One crop for all grids: a kernel and its window stay alike.
    shows = [
        (_shown(panel.size[0], crop[0]), _shown(panel.size[1], crop[1])) if panel.rank <= rank else (0, 0) for panel in panels
    ]
    corners = [(0.0, 0.0)] * len(panels)
    x, y, tallest, right = paper.margin, 0.0, 0.0, 0.0
    for place, number in enumerate(order):
        panel, sign = panels[number], signs[number]
        if 0 in shows[number]:
            continue
        width, height = _size(panel, shows[number], cell, paper)
        begins = (paper.lines and panel.line) or (story.breaks and place == story.cards_at)
        x += 10 if sign else 0
        if x > paper.margin + 10 and (x + width > paper.width - paper.margin or begins):
            x, y, tallest = paper.margin + (18 if sign else 0), y + tallest + 14, 0.0
        corners[number] = (x, y)
        right, tallest = max(right, x + width), max(tallest, height)
        x += width + paper.gap
    found = Plan(paper, cell, corners, shows, right + paper.margin, y + tallest + 4)
    return replace(found, height=found.height + _LINE * len(left_out(story, panels, found)))


def _shown(length: int, crop: int) -> int:
    """Return how many cells of a side are shown; a crop is not worth one cell."""
    return length if length <= crop + 1 else crop


def left_out(story: Story, panels: Sequence[Panel], laid: Plan) -> list[str]:
    """Say which panels have no room, in lines as wide as the paper; none where all have."""
    titles = [panel.title for number, panel in enumerate(panels) if laid.omits(number)]
    say, paper = saying(story.language), laid.paper
    words = say("No room here for: {panels}", panels=say(", ").join(titles))
    return wrapped(words, paper.note * paper.looseness, paper.width - 2 * paper.margin) if titles else []


def _size(panel: Panel, shown: tuple[int, int], cell: tuple[int, int], paper: Paper) -> tuple[float, float]:
    """Return the (width, height) that a panel takes with its title, ticks, map and note."""
    cropped = panel.size != shown
    rows, columns = _ticks(panel, cropped)
    note = "" if cropped else panel.note  # a crop's own is shorter than its cells are wide
    title = paper.length(panel.title, paper.title) + (MAP + 8 if cropped else 0)
    width = max(rows + cell[0] * shown[1], title, paper.length(note, paper.note) + rows)
    return width, HEAD + columns + cell[1] * shown[0] + (NOTE if note or cropped else 0)


def _ticks(panel: Panel, cropped: bool) -> tuple[int, int]:
    """Return the room for the numbers of rows, at the left, and of columns, above."""
    if panel.first is None and not cropped:
        return 0, 0
    return (0 if first_of(panel)[0] is None else TICKS), TICKS


def first_of(panel: Panel) -> tuple[int | None, int | None]:
    """Return the number of a panel's first row and of its first column; None where a single one needs none."""
    rows, columns = panel.size
    return panel.first or (None if rows == 1 else 0, None if columns == 1 else 0)
