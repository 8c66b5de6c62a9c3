"""Drawing of stories: a layout's grids become shapes, and shapes become SVG. `painting.py` paints the same shapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from math import log

from unconv.explain.fonts import length_of, wrapped
from unconv.explain.kinds_of_cells import KINDS
from unconv.explain.language import saying
from unconv.explain.layout import MAP, NOTE, SHEET, TICKS, Plan, first_of, left_out, plan
from unconv.explain.story import Frame, Panel, Story, counted_from, legend

INKS = {"ink": ("#1d1c1a", "#ebe7df"), "quiet": ("#6b675f", "#a09a8f"), "mark": ("#c2410c", "#ff9d5c")}
PAPER = ("#fcfbf8", "#161514")
LINES = ("#b9b2a5", "#4d483f")  # the lines between cells
_NARROW, _BESIDE = 760, 420  # the smallest width of a sheet in pixels; the width of words at its right
_ASPECT = 16 / 9


@dataclass(frozen=True)
class Cell:
    """A cell with a word in it, and the exact number where the word is rounded."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    word: str
    size: float
    exact: str = ""


@dataclass(frozen=True)
class Rect:
    """A rectangle: the outline of a mark or of a map, or, filled, the part of a map that is shown."""

    x: float
    y: float
    width: float
    height: float
    kind: str


@dataclass(frozen=True)
class Words:
    """Words in one of the inks, with their left end, or their middle, at a point."""

    x: float
    y: float
    text: str
    size: float
    kind: str
    middle: bool = False


@dataclass(frozen=True)
class Arrow:
    """An arrow from left to right, or from right to left where its length is negative."""

    x: float
    y: float
    length: float

    def points(self) -> list[tuple[float, float]]:
        """Return the corners of the arrow."""
        direction = 1 if self.length > 0 else -1
        start, end = self.x - self.length / 2, self.x + self.length / 2
        neck = end - direction * 8
        across = ((start, -1.5), (neck, -1.5), (neck, -6), (end, 0), (neck, 6), (neck, 1.5), (start, 1.5))
        return [(x, self.y + y) for x, y in across]


Shape = Cell | Rect | Words | Arrow


@dataclass(frozen=True)
class Sheet:
    """Everything to paint: the shapes that stay, the ones that change from frame to frame by panel, and the marks on top."""

    width: float
    height: float
    shapes: Sequence[Shape]
    live: Mapping[int, Sequence[Shape]]
    marks: Sequence[Rect]
    cards: int  # the number of the first card

    def all(self) -> Iterator[Shape]:
        """Yield all shapes in the order in which they are painted."""
        yield from self.shapes
        yield from self.changing()

    def changing(self) -> Iterator[Shape]:
        """Yield the shapes that change from frame to frame."""
        for shapes in self.live.values():
            yield from shapes
        yield from self.marks


def compose(story: Story, frame: Frame, layout: Plan) -> Sheet:
    """Return the shapes of a story's grids at one frame, without title, caption, legend and facts."""
    shapes: list[Shape] = []
    live: dict[int, list[Shape]] = {}
    panels, signs = [*story.panels, *frame.cards], [*(panel.sign for panel in story.panels), *frame.signs]
    say = saying(story.language)
    for number, (panel, sign) in enumerate(zip(panels, signs, strict=True)):
        if layout.omits(number):
            continue
        shapes += _head(panel, number, layout, sign)
        origin = layout.origin(number, panel, frame)
        body: list[Shape] = list(_cells(panel, number, layout, origin))
        if layout.cropped(number, panel):
            numbers = crop_numbers(panel, layout.shows[number], origin)
            body += _crop(panel, number, layout, origin, say(crop_words(panel), **numbers))
        if number >= len(story.panels) or layout.cropped(number, panel):
            live[number] = body
        else:
            shapes += body
    notes = left_out(story, panels, layout)
    for number, line in enumerate(notes):
        y = layout.height - 16 * (len(notes) - number - 0.5)
        shapes.append(Words(layout.paper.margin, y, line, layout.paper.note, "quiet"))
    # Marks come last, so that they are painted above the cells.
    marks = [rect for mark in frame.marks if (rect := _outline(mark, panels[mark[0]], layout, frame))]
    return Sheet(layout.width, layout.height, shapes, live, marks, len(story.panels))


def crop_words(panel: Panel) -> str:
    """Return the sentence on which part of a panel is shown; `crop_numbers` fills it in."""
    is_positive = all(first in (0, None) for first in first_of(panel))  # "-2–5" would be hard to read
    if panel.size[0] == 1:
        return "{left}–{right}" if is_positive else "{left} to {right}"
    if panel.size[1] == 1:
        return "{top}–{bottom}"
    return "rows {top}–{bottom}, columns {left}–{right}" if is_positive else "rows {top} to {bottom}, columns {left} to {right}"


def crop_numbers(panel: Panel, visible: tuple[int, int], origin: tuple[int, int]) -> dict[str, int]:
    """Return the numbers of the first and last row and column that are shown."""
    first = first_of(panel)
    top, left = (first[0] or 0) + origin[0], (first[1] or 0) + origin[1]
    return {"top": top, "bottom": top + visible[0] - 1, "left": left, "right": left + visible[1] - 1}


def _head(panel: Panel, number: int, layout: Plan, sign: str) -> Iterator[Shape]:
    """Yield what stays of a panel: title and sign and, unless it is cropped, row and column numbers and the note."""
    (x, y), paper, (rows, columns) = layout.corners[number], layout.paper, layout.shows[number]
    left, top = layout.cells_at(number, panel)
    yield Words(x, y + 10, panel.title, paper.title, "ink")
    middle = x - (paper.gap + 10) / 2, top + layout.cell[1] * rows / 2
    if sign in ("→", "←"):
        yield Arrow(*middle, (paper.gap - 4) * (1 if sign == "→" else -1))
    elif sign:
        yield Words(*middle, sign, paper.title + 5, "ink", True)
    if layout.cropped(number, panel):
        return
    if panel.first is not None:
        yield from _numbers(panel, layout, left, top, (rows, columns), (0, 0))
    if panel.note:
        yield Words(left, top + layout.cell[1] * rows + NOTE / 2 + 2, panel.note, paper.note, "quiet")


def _numbers(
    panel: Panel, layout: Plan, left: float, top: float, visible: tuple[int, int], origin: tuple[int, int]
) -> Iterator[Words]:
    """Yield the numbers of the rows and columns that are shown."""
    (row, column), (wide, high), size = first_of(panel), layout.cell, layout.paper.note - 1
    if row is not None:
        for i in range(visible[0]):
            yield Words(left - TICKS / 2 - 1, top + (i + 0.5) * high, str(row + origin[0] + i), size, "quiet", True)
    if column is not None:
        for i in range(visible[1]):
            yield Words(left + (i + 0.5) * wide, top - TICKS / 2, str(column + origin[1] + i), size, "quiet", True)


def _cells(panel: Panel, number: int, layout: Plan, origin: tuple[int, int]) -> Iterator[Cell]:
    """Yield the cells that are shown, row by row."""
    (left, top), (wide, high), (rows, columns) = layout.cells_at(number, panel), layout.cell, layout.shows[number]
    for i in range(rows):
        for j in range(columns):
            y, x = origin[0] + i, origin[1] + j
            word, kind = panel.cells[y][x], panel.kinds[y][x]
            exact = panel.exact[y][x] if panel.exact else ""
            yield Cell(left + j * wide, top + i * high, wide, high, kind, word, layout.letters(word), exact)


def _crop(panel: Panel, number: int, layout: Plan, origin: tuple[int, int], words: str) -> Iterator[Shape]:
    """Yield what a cropped panel needs: row and column numbers, words on which part is shown, and a map."""
    (left, top), visible = layout.cells_at(number, panel), layout.shows[number]
    yield from _numbers(panel, layout, left, top, visible, origin)
    yield Words(left, top + layout.cell[1] * visible[0] + NOTE / 2 + 2, words, layout.paper.note, "quiet")
    outline, part = map_of(panel, number, layout, origin)
    yield Rect(*outline, "map")
    yield Rect(*part, "seen")


def map_of(
    panel: Panel, number: int, layout: Plan, origin: tuple[int, int]
) -> tuple[tuple[float, float, float, float], tuple[float, float, float, float]]:
    """Return (x, y, width, height) of a panel's map and, within the map, of the part that is shown."""
    (x, y), visible = layout.corners[number], layout.shows[number]
    rows, columns = panel.size
    wide, high = (max(MAP * n / max(rows, columns), MAP / 4) for n in (columns, rows))
    ticks = layout.cells_at(number, panel)[0] - x
    x += max(layout.paper.length(panel.title, layout.paper.title) + 8, ticks + layout.cell[0] * visible[1] - wide)
    part = (x + wide * origin[1] / columns, y + high * origin[0] / rows, wide * visible[1] / columns, high * visible[0] / rows)
    return (x, y, wide, high), part


def _outline(mark: tuple[int, int, int, int, int], panel: Panel, layout: Plan, frame: Frame) -> Rect | None:
    """Return the outline of the visible part of a mark, or None where nothing of it is visible."""
    number, row, column, rows, columns = mark
    origin, visible = layout.origin(number, panel, frame), layout.shows[number]
    (left, top), (wide, high) = layout.cells_at(number, panel), layout.cell
    y0, x0 = max(row - origin[0], 0), max(column - origin[1], 0)
    y1, x1 = min(row + rows - origin[0], visible[0]), min(column + columns - origin[1], visible[1])
    if y1 <= y0 or x1 <= x0:
        return None
    return Rect(left + x0 * wide, top + y0 * high, (x1 - x0) * wide, (y1 - y0) * high, "mark")


def full_sheet(story: Story, frame: Frame, layout: Plan | None = None, lines: Sequence[int] = (0, 0)) -> Sheet:
    """Return the shapes of a story at one frame with its title, a legend, the caption and the facts.

    The words are below the grids or at their right, whichever comes nearer to a projector's 16 to 9.

    Args:
        story, frame: what to draw.
        layout: the layout of the grids; by default the one for a picture.
        lines: at least this many lines of caption, below and at the right, because other frames need them.
    """
    layout = layout or plan(story, SHEET)
    top = 46 + SHEET.margin
    shifted = replace(
        layout,
        corners=[(x + SHEET.margin - layout.paper.margin, y + top) for x, y in layout.corners],
        height=layout.height + top,
    )
    sheet = compose(story, frame, shifted)
    title = Words(SHEET.margin, SHEET.margin + 12, story.title, 22, "ink")
    least = length_of(story.title, 22) + 2 * SHEET.margin
    regions = [
        (SHEET.margin, top + layout.height + 22, max(_NARROW, layout.width, least) - 2 * SHEET.margin),
        (layout.width + 20, top + 4, max(_BESIDE, least - layout.width - 20 - SHEET.margin)),
    ]
    # Both arrangements are laid out; the one whose aspect ratio is closer, on a logarithmic scale, is drawn.
    blocks = [_words(story, frame, *region, minimum) for region, minimum in zip(regions, lines, strict=True)]
    sizes = [
        (x + width + SHEET.margin, max(bottom, top + layout.height) + SHEET.margin)
        for (x, _, width), (_, _, bottom) in zip(regions, blocks, strict=True)
    ]
    best = min((0, 1), key=lambda number: abs(log(sizes[number][0] / sizes[number][1] / _ASPECT)))
    fixed, caption, _ = blocks[best]
    width, height = sizes[best]
    live = {**sheet.live, -1: caption}
    return replace(sheet, width=width, height=height, shapes=[title, *sheet.shapes, *fixed], live=live)


def caption_lines(story: Story, layout: Plan) -> tuple[int, int]:
    """Return the number of lines of the longest caption, below the grids and at their right."""
    width = max(_NARROW, layout.width, length_of(story.title, 22) + 2 * SHEET.margin) - 2 * SHEET.margin
    below, beside = (max(len(wrapped(frame.caption, 17, room)) for frame in story.frames) for room in (width, _BESIDE))
    return below, beside


def _words(
    story: Story, frame: Frame, x: float, y: float, width: float, minimum: int
) -> tuple[list[Shape], list[Shape], float]:
    """Return the words: legend and facts, which stay; the caption, which changes; and the y of their lower end."""
    fixed, y = _key(story, x, y, width)
    lines = wrapped(frame.caption, 17, width)
    caption: list[Shape] = [Words(x, y + 9 + 25 * i, line, 17, "ink") for i, line in enumerate(lines)]
    y += 25 * max(len(lines), minimum) + 6
    say = saying(story.language)
    for fact in [*(say("{what}: {words}", what=what, words=words) for what, words in story.facts), counted_from(story)]:
        for line in wrapped(fact, 14, width):
            fixed.append(Words(x, y + 7, line, 14, "quiet"))
            y += 20
        y += 2
    return fixed, caption, y


def _key(story: Story, left: float, y: float, width: float) -> tuple[list[Shape], float]:
    """Return the legend of the colours and the y of its lower end."""
    shapes: list[Shape] = []
    x = left
    for kind, words, _sign in legend(story):
        if x > left and x + 22 + length_of(words, 13) > left + width:
            x, y = left, y + 24
        shapes += [Cell(x, y, 15, 15, kind, "", 1), Words(x + 22, y + 8, words, 13, "quiet")]
        x += 22 + length_of(words, 13) + 24
    return shapes, y + 36


def svg(sheet: Sheet, name: str = "", label: str = "", style: str | None = None) -> str:
    """Return a sheet as SVG, in colours for day and night. Shapes that change from frame to frame have their own groups."""
    # At each frame the page's script changes the groups "crops", "cards" and "marks", and nothing else.
    cards, crops = (
        "".join(
            f'<g class="live" data-panel="{number}">{"".join(map(_svg_shape, shapes))}</g>'
            for number, shapes in sheet.live.items()
            if (number >= sheet.cards) == are_cards
        )
        for are_cards in (True, False)
    )
    marks = "".join(map(_svg_shape, sheet.marks))
    size = f'viewBox="0 0 {sheet.width:g} {sheet.height:g}" width="{sheet.width:g}" height="{sheet.height:g}"'
    rules = colours() if style is None else style
    kind, look = f' class="{name}"' if name else "", f"<style>{rules}</style>" if rules else ""
    spoken = f' aria-label="{escape(label)}"' if label else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg"{kind} {size} role="img"{spoken} preserveAspectRatio="xMinYMin" '
        f'font-family="system-ui, sans-serif">{look}<rect class="paper" width="100%" height="100%"/>'
        f'{"".join(map(_svg_shape, sheet.shapes))}<g class="crops">{crops}</g><g class="cards">{cards}</g>'
        f'<g class="marks">{marks}</g></svg>'
    )


def _svg_shape(shape: Shape) -> str:
    if isinstance(shape, Arrow):
        return f'<polygon class="arrow" points="{" ".join(f"{x:g},{y:g}" for x, y in shape.points())}"/>'
    if isinstance(shape, Words):
        anchor = ' text-anchor="middle"' if shape.middle else ""
        position = f'x="{shape.x:g}" y="{shape.y:g}" font-size="{shape.size:.4g}"'
        return f'<text class="{shape.kind}" {position}{anchor} dominant-baseline="central">{escape(shape.text)}</text>'
    position = f'x="{shape.x:g}" y="{shape.y:g}" width="{shape.width:g}" height="{shape.height:g}"'
    if isinstance(shape, Rect):
        return f'<rect class="{shape.kind}" {position}/>'
    title = f"<title>{escape(shape.exact)}</title>" if shape.exact else ""
    middle = f'x="{shape.x + shape.width / 2:g}" y="{shape.y + shape.height / 2:g}" font-size="{shape.size:.4g}"'
    return (
        f'<rect class="{shape.kind}" {position}>{title}</rect><text class="{shape.kind}" {middle} text-anchor="middle" '
        f'dominant-baseline="central">{escape(shape.word)}</text>'
    )


def colours() -> str:
    """Return the CSS rules of all kinds of shapes, by day and by night."""

    def rules(night: int) -> Iterator[str]:
        mark, quiet = INKS["mark"][night], INKS["quiet"][night]
        yield f".paper{{fill:{PAPER[night]}}}rect.mark{{fill:none;stroke:{mark};stroke-width:3}}"
        yield f"rect.map{{fill:none;stroke:{quiet}}}rect.seen{{fill:{mark};fill-opacity:.45}}.arrow{{fill:{quiet}}}"
        yield from (f"text.{name}{{fill:{inks[night]}}}" for name, inks in INKS.items())
        for name, kind in KINDS.items():
            fill, ink = (kind.day, kind.night)[night]
            yield f"rect.{name}{{fill:{fill};stroke:{LINES[night]}}}text.{name}{{fill:{ink}}}"
        yield "rect.blank{fill:none;stroke:none}"

    return f"text{{pointer-events:none}}{''.join(rules(0))}@media(prefers-color-scheme:dark){{{''.join(rules(1))}}}"
