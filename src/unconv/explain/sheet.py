"""A story drawn: laid out once as rectangles and words, painted as a picture, an animation, or SVG for a page."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from html import escape
from textwrap import wrap

from markupsafe import Markup
from PIL import Image, ImageDraw, ImageFont
from PIL.ImageFont import FreeTypeFont

from unconv.errors import ShapeError
from unconv.explain.story import KINDS, Frame, Panel, Story, legend
from unconv.render.page import page, stylesheet
from unconv.version import __version__

_INKS = {"ink": ("#1d1c1a", "#ebe7df"), "quiet": ("#6b675f", "#a09a8f"), "mark": ("#c2410c", "#ff9d5c")}
_PAPER = ("#fcfbf8", "#161514")
# Pillow's own font lacks these characters.
_PLAIN = str.maketrans({"×": "x", "−": "-", "→": ">", "≤": "<", "…": "...", "\u00a0": " "})
_WIDTH, _NARROW, _MARGIN, _GAP, _SIDE = 1180, 760, 24, 40, 42
_HEAD, _TICKS = 26, 15  # from a panel's title to its cells; the room for the numbers of rows and columns
_LARGEST = 48  # cells along one side that are still drawn
_FRAMES = 1600  # of one page; an animation gets a quarter


@dataclass(frozen=True)
class Rect:
    """A rectangle of some kind of cell, or a mark: an outline."""

    x: float
    y: float
    width: float
    height: float
    kind: str


@dataclass(frozen=True)
class Words:
    """Words with their middle (or left end) at a point; `kind` is that of the cell they stand in, or an ink."""

    x: float
    y: float
    text: str
    size: float
    kind: str
    middle: bool = False


@dataclass(frozen=True)
class Sheet:
    """Everything to paint; the marks come last. `cards` are the shapes that change from frame to frame."""

    width: float
    height: float
    shapes: Sequence[Rect | Words]
    cards: Sequence[Rect | Words]
    marks: Sequence[Rect]


def picture(story: Story, frame: Frame, scale: int = 2) -> Image.Image:
    """Draw the story at one frame, with its facts and a legend of its colours."""
    return _painted(compose(story, frame), scale)


def animation(story: Story, seconds: float = 0.8) -> bytes:
    """Draw the frames one after another, as a GIF that repeats without end."""
    if len(story.frames) > _FRAMES // 4:
        raise ShapeError(
            f"animation: {len(story.frames)} frames are more than the {_FRAMES // 4} that an animation may have. "
            f"Explain a smaller input, save the picture of one place (.png), or a page (.html) of up to {_FRAMES}."
        )
    sheets = [compose(story, frame) for frame in story.frames]
    height = max(sheet.height for sheet in sheets)
    first, *others = (_painted(replace(sheet, height=height), 1) for sheet in sheets)
    palette = first.quantize(64)
    rest = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in others]
    buffer = io.BytesIO()
    palette.save(buffer, "GIF", save_all=True, append_images=rest, duration=round(1000 * seconds), loop=0)
    return buffer.getvalue()


def story_page(story: Story, at: int) -> bytes:
    """Make one file to open in a browser: a slider goes through the frames and begins with number `at`.

    Without JavaScript the frame stands still, and below it all captions can be read.
    """
    if len(story.frames) > _FRAMES:
        raise ShapeError(
            f"page: {len(story.frames)} frames are more than the {_FRAMES} that a page may have. Explain a smaller input, or "
            "save the text of one place (.txt)."
        )
    frames = list(story.frames)
    side = _side(story)
    moments = [_moment(story, frame, side, _MARGIN) for frame in frames]
    # All frames have as many cards of the same size, so the script only changes their words and colours, and moves the
    # marks; where a frame has fewer marks than others, the rest shrink to nothing.
    steps = [
        {
            "marks": [[mark.x, mark.y, mark.width, mark.height] for mark in moment.marks],
            "cards": [[shape.text, shape.kind, round(shape.size, 2)] for shape in moment.cards if isinstance(shape, Words)],
            "caption": frame.caption,
        }
        for moment, frame in zip(moments, frames, strict=True)
    ]
    sheet, most = compose(story, frames[at], words=False), max(len(moment.marks) for moment in moments)
    shown = replace(sheet, marks=[*sheet.marks, *[Rect(0, 0, 0, 0, "mark")] * (most - len(sheet.marks))])
    facts = {"style": Markup(stylesheet().decode()), "version": __version__}
    return page(
        "story.html", story=story, svg=Markup(svg(shown)), frames=steps, at=at, data=Markup(_script_json(steps)), **facts
    )


def svg(sheet: Sheet) -> str:
    """Write the sheet as SVG, in colours for day and night; cards and marks, which change, are in groups of their own."""
    shapes = [_svg_shape(shape) for shape in sheet.shapes]
    cards = "".join(_svg_shape(shape) for shape in sheet.cards)
    marks = "".join(_svg_shape(mark) for mark in sheet.marks)
    size = f'viewBox="0 0 {sheet.width:g} {sheet.height:g}" width="{sheet.width:g}" height="{sheet.height:g}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="system-ui, sans-serif">'
        f'<style>{_style()}</style><rect class="paper" width="100%" height="100%"/>'
        f'{"".join(shapes)}<g class="cards">{cards}</g><g class="marks">{marks}</g></svg>'
    )


def compose(story: Story, frame: Frame, words: bool = True) -> Sheet:
    """Lay out the story at one frame; with `words`, also its title, caption and facts."""
    side = _side(story)
    moment = _moment(story, frame, side, _MARGIN + (46 if words else 0))
    shapes: list[Rect | Words] = [Words(_MARGIN, _MARGIN + 12, story.title, 22, "ink")] if words else []
    for panel, (x, y) in zip(story.panels, moment.corners, strict=True):
        shapes += _panel(panel, x, y, side)
    shapes += moment.heads
    width = max(_NARROW, _MARGIN + max(_end(shape) for shape in (*shapes, *moment.cards)))
    key, height = _key(story, moment.bottom + 20, width)
    shapes += key
    if words:
        lines = [(line, 17, "ink") for line in wrap(frame.caption, int(width / 9))]
        lines += [(line, 14, "quiet") for what, fact in story.facts for line in wrap(f"{what}: {fact}", int(width / 7.3))]
        for line, size, ink in lines:
            shapes.append(Words(_MARGIN, height + size / 2, line, size, ink))
            height += size * 1.5
    return Sheet(width, height + _MARGIN, shapes, moment.cards, moment.marks)


@dataclass(frozen=True)
class _Moment:
    """The part of a sheet that depends on the frame: the corners of the panels and their lower end, cards and marks."""

    corners: Sequence[tuple[float, float]]
    bottom: float
    heads: Sequence[Rect | Words]
    cards: Sequence[Rect | Words]
    marks: Sequence[Rect]


def _moment(story: Story, frame: Frame, side: float, top: float) -> _Moment:
    turn, count = story.cards_at, len(frame.cards)
    flow = [*story.panels[:turn], *frame.cards, *story.panels[turn:]]
    signs = [*[""] * turn, *frame.signs, *[""] * (len(story.panels) - turn)]
    corners, bottom = _flow(flow, side, top, signs, turn if story.breaks else 0)
    places, corners = corners[turn : turn + count], corners[:turn] + corners[turn + count :]
    heads: list[Rect | Words] = []
    cards: list[Rect | Words] = []
    for card, (x, y), sign in zip(frame.cards, places, frame.signs, strict=True):
        head, *cells = _panel(card, x, y, side)  # cards have no notes and no ticks: their cells come after the title
        heads.append(head)
        cards += cells
        if sign:
            heads.append(Words(x - _GAP / 2, y + _HEAD + side * card.size[0] / 2, sign, 20, "ink", middle=True))
    marks = [_marked(mark, story.panels[mark[0]], corners[mark[0]], side) for mark in frame.marks]
    return _Moment(corners, bottom, heads, cards, marks)


def _end(shape: Rect | Words) -> float:
    """The right end of a shape."""
    return shape.x + (shape.width if isinstance(shape, Rect) else 0 if shape.middle else _length(shape.text, shape.size))


def _side(story: Story) -> float:
    """The side of a cell: the longest that the largest panel allows."""
    rows, columns = (max(panel.size[axis] for panel in story.panels) for axis in (0, 1))
    if max(rows, columns) > _LARGEST:
        raise ShapeError(
            f"picture: a grid has {rows} × {columns} cells, more than the {_LARGEST} along a side that can be drawn. "
            "Explain a smaller input; the tensors of this one are there all the same."
        )
    return max(22, min(_SIDE, 420 // max(rows, columns)))


def _flow(
    panels: Sequence[Panel], side: float, top: float, signs: Sequence[str], breaks: int
) -> tuple[list[tuple[float, float]], float]:
    """Set the panels in lines from left to right, one of which begins at number `breaks`: their corners and lower end."""
    corners, x, y, tallest = [], float(_MARGIN), top, 0.0
    for index, (panel, sign) in enumerate(zip(panels, signs, strict=True)):
        ticks = _TICKS if panel.first else 0
        width = max(ticks + side * panel.size[1], _length(panel.title, 15), _length(panel.note, 12))
        x += 8 if sign else 0
        if x > _MARGIN and (x + width > _WIDTH - _MARGIN or index == breaks):
            x, y, tallest = float(_MARGIN), y + tallest + 16, 0.0
        corners.append((x, y))
        x += width + _GAP
        tallest = max(tallest, _HEAD + ticks + side * panel.size[0] + (20 if panel.note else 0))
    return corners, y + tallest


def _panel(panel: Panel, x: float, y: float, side: float) -> list[Rect | Words]:
    shapes: list[Rect | Words] = [Words(x, y + 9, panel.title, 15, "ink")]
    x, y = _cells_at(panel, x, y)
    if panel.first is not None:
        rows, columns = (range(first, first + n) for first, n in zip(panel.first, panel.size, strict=True))
        size = min(11, 0.5 * side)
        shapes += [Words(x - 8, y + (i + 0.5) * side, str(row), size, "quiet", True) for i, row in enumerate(rows)]
        shapes += [Words(x + (i + 0.5) * side, y - 7, str(column), size, "quiet", True) for i, column in enumerate(columns)]
    for row, (words, kinds) in enumerate(zip(panel.cells, panel.kinds, strict=True)):
        for column, (word, kind) in enumerate(zip(words, kinds, strict=True)):
            left, top = x + column * side, y + row * side
            size = min(0.42 * side, 1.55 * side / max(len(word), 1))
            shapes += [Rect(left, top, side, side, kind), Words(left + side / 2, top + side / 2, word, size, kind, True)]
    if panel.note:
        shapes.append(Words(x, y + side * panel.size[0] + 12, panel.note, 12, "quiet"))
    return shapes


def _cells_at(panel: Panel, x: float, y: float) -> tuple[float, float]:
    """The corner of the cells of a panel whose own corner is at (x, y)."""
    ticks = _TICKS if panel.first else 0
    return x + ticks, y + _HEAD + ticks


def _marked(mark: tuple[int, int, int, int, int], panel: Panel, corner: tuple[float, float], side: float) -> Rect:
    _, row, column, rows, columns = mark
    x, y = _cells_at(panel, *corner)
    return Rect(x + column * side, y + row * side, columns * side, rows * side, "mark")


def _key(story: Story, y: float, width: float) -> tuple[list[Rect | Words], float]:
    """The legend of the colours, and its lower end."""
    shapes: list[Rect | Words] = []
    x = float(_MARGIN)
    for kind, words, _sign in legend(story):
        if x > _MARGIN and x + 22 + _length(words, 13) > width - _MARGIN:
            x, y = float(_MARGIN), y + 24
        shapes += [Rect(x, y, 15, 15, kind), Words(x + 22, y + 8, words, 13, "quiet")]
        x += 22 + _length(words, 13) + 24
    return shapes, y + 34


@cache
def _font(size: int) -> FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, FreeTypeFont):
        raise ShapeError("picture: this Pillow has no FreeType, without which it cannot write. Install Pillow's own wheel.")
    return font


@lru_cache(maxsize=4096)
def _length(words: str, size: float) -> float:
    return 1.08 * _font(round(size)).getlength(words.translate(_PLAIN)) if words else 0.0


def _painted(sheet: Sheet, scale: int) -> Image.Image:
    image = Image.new("RGB", (round(sheet.width * scale), round(sheet.height * scale)), _PAPER[0])
    draw = ImageDraw.Draw(image)
    for shape in (*sheet.shapes, *sheet.cards, *sheet.marks):
        if isinstance(shape, Words):
            ink = _INKS[shape.kind][0] if shape.kind in _INKS else KINDS[shape.kind].day[1]
            place = (shape.x * scale, shape.y * scale)
            words = shape.text.translate(_PLAIN)
            draw.text(place, words, ink, _font(round(shape.size * scale)), anchor="mm" if shape.middle else "lm")
            continue
        box = [shape.x, shape.y, shape.x + shape.width, shape.y + shape.height]
        corners = [round(edge * scale) for edge in box]
        if shape.kind == "mark":
            draw.rectangle(corners, outline=_INKS["mark"][0], width=3 * scale)
        else:
            draw.rectangle(corners, fill=KINDS[shape.kind].day[0], outline="#b9b2a5")
    return image


def _svg_shape(shape: Rect | Words) -> str:
    if isinstance(shape, Rect):
        place = f'x="{shape.x:g}" y="{shape.y:g}" width="{shape.width:g}" height="{shape.height:g}"'
        return f'<rect class="{shape.kind}" {place}/>'
    anchor = ' text-anchor="middle"' if shape.middle else ""
    place = f'x="{shape.x:g}" y="{shape.y:g}" font-size="{shape.size:.4g}"'
    return f'<text class="{shape.kind}" {place}{anchor} dominant-baseline="central">{escape(shape.text)}</text>'


def _style() -> str:
    """The colours, by day and by night."""

    def rules(night: int) -> Iterator[str]:
        yield f".paper{{fill:{_PAPER[night]}}}rect.mark{{fill:none;stroke:{_INKS['mark'][night]};stroke-width:3}}"
        yield from (f"text.{name}{{fill:{inks[night]}}}" for name, inks in _INKS.items())
        for name, kind in KINDS.items():
            fill, ink = (kind.day, kind.night)[night]
            yield f"rect.{name}{{fill:{fill};stroke:{'#b9b2a5' if not night else '#4d483f'}}}text.{name}{{fill:{ink}}}"

    return f"{''.join(rules(0))}@media(prefers-color-scheme:dark){{{''.join(rules(1))}}}"


def _script_json(data: object) -> str:
    """JSON that may stand within a script element."""
    return json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
