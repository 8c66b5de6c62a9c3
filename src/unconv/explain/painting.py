"""Painting of sheets: a picture of one frame, or an animation of all frames that share one palette."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import chain
from math import ceil
from typing import Any

import numpy as np
from PIL import Image, ImageColor, ImageDraw, features

from unconv.errors import ShapeError
from unconv.explain.fonts import font_of
from unconv.explain.kinds_of_cells import KINDS
from unconv.explain.layout import SHEET, plan
from unconv.explain.sheet import INKS, LINES, PAPER, Arrow, Cell, Rect, Shape, caption_lines, full_sheet
from unconv.explain.story import Frame, Story
from unconv.progress import Progress

FRAMES = 400  # the most frames of an animation
_SHADES = 7  # steps from the colour of letters to their background
_MAP_PART = "#e2a98f"  # the colour of the shown part of a map
_EDGE = 2  # pixels beside painted words


def picture(story: Story, frame: Frame, scale: int = 2) -> Image.Image:
    """Return a picture of the story at one frame, with its facts and a legend of its colours."""
    sheet = full_sheet(story, frame)
    image = Image.new("RGB", (round(sheet.width * scale), round(sheet.height * scale)), PAPER[0])
    _paint(image, sheet.all(), scale)
    return image


def animation(story: Story, kind: str = "GIF", seconds: float = 0.8, progress: Progress | None = None) -> bytes:
    """Return the frames one after another as an animated "GIF", "WEBP" or "PNG" that repeats forever."""
    if len(story.frames) > FRAMES:
        raise ShapeError(
            f"animation: {len(story.frames)} frames are more than the {FRAMES} that an animation may have. Explain a smaller "
            "input, or save the picture of one position (.png) or a page (.html), which may have 1600 frames."
        )
    if kind == "WEBP" and not features.check("webp"):
        raise ShapeError("animation: this Pillow cannot write WebP. Install Pillow's own wheel, or save a .gif or an .apng.")
    buffer, (first, *others) = io.BytesIO(), _paint_frames(story, progress or (lambda *_: None))
    settings = {"save_all": True, "append_images": others, "duration": round(1000 * seconds), "loop": 0}
    more = {"lossless": True, "quality": 0, "method": 0, "kmin": 999, "kmax": 1000} if kind == "WEBP" else {}
    first.save(buffer, kind, **settings, **more)
    return buffer.getvalue()


def _paint_frames(story: Story, progress: Progress) -> Iterator[Image.Image]:
    """Yield the frames: what stays is painted once, and for each frame only what changes. All share one palette."""
    layout, count = plan(story, SHEET), len(story.frames)
    lines = caption_lines(story, layout)
    sheet = full_sheet(story, story.frames[0], layout, lines)
    base = _with_palette(Image.new("P", (round(sheet.width), round(sheet.height)), _flat(PAPER[0])))
    _paint(base, sheet.shapes, 1)
    on_base: dict[tuple[float, float], Cell] = {}
    for number, frame in enumerate(story.frames):
        progress("drawing", number, count)
        sheet = full_sheet(story, frame, layout, lines)
        # Most cells stay the same from frame to frame, so they are painted on the base and only changed ones again. Words,
        # marks and grids with blanks may cover less in the next frame, so they are painted on a copy.
        lasting = [cell for shapes in sheet.live.values() for cell in _without_blanks(shapes)]
        fresh = [cell for cell in lasting if on_base.get((cell.x, cell.y)) != cell]
        on_base |= {(cell.x, cell.y): cell for cell in fresh}
        _paint(base, fresh, 1)
        image, lasting_ids = base.copy(), set(map(id, lasting))
        _paint(image, (shape for shape in sheet.changing() if id(shape) not in lasting_ids), 1)
        yield image
    progress("writing", count, count)


def _without_blanks(shapes: Sequence[Shape]) -> list[Cell]:
    """Return the cells of a grid if they fill it, and an empty list if some are blank."""
    cells = [shape for shape in shapes if isinstance(shape, Cell)]
    return [] if any(cell.kind == "blank" for cell in cells) else cells


@cache
def _palette() -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the palette (colours, 3) of all frames: every cell, ink and line, and the shades at the edges of letters.

    It has at most 255 colours, since a GIF needs the last one to mark pixels that have not changed since the frame before.
    """
    pairs = [(PAPER[0], ink) for ink, _ in INKS.values()] + [kind.day for kind in KINDS.values()]
    flat = [ImageColor.getrgb(colour) for colour in (*chain.from_iterable(pairs), LINES[0], _MAP_PART)]
    blends = [
        tuple(round(a + (b - a) * shade / _SHADES) for a, b in zip(*map(ImageColor.getrgb, pair), strict=True))
        for pair in pairs
        for shade in range(1, _SHADES)
    ]
    return np.array(list(dict.fromkeys([*flat, *blends]))[:255], np.int64)


@cache
def _flat(colour: str) -> int:
    """Return the index of a colour in the palette."""
    return int((_palette() == ImageColor.getrgb(colour)).all(1).argmax())


def _paint(image: Image.Image, shapes: Iterable[Shape], scale: int) -> None:
    """Paint shapes on a picture, in full colour or, for mode "P", with the palette."""
    draw, palette = ImageDraw.Draw(image), image.mode == "P"
    # With a palette, Pillow draws by a colour's index; words and cells are prepared in the palette and pasted.
    ink: Callable[[str], Any] = _flat if palette else str
    for shape in shapes:
        if isinstance(shape, Cell):
            if shape.kind != "blank":
                size = (round(shape.width * scale), round(shape.height * scale), round(shape.size * scale))
                image.paste(_tile(shape.word, shape.kind, *size, palette), (round(shape.x * scale), round(shape.y * scale)))
        elif isinstance(shape, Rect):
            corners = [round(n * scale) for n in (shape.x, shape.y, shape.x + shape.width, shape.y + shape.height)]
            if shape.kind == "mark":
                draw.rectangle(corners, outline=ink(INKS["mark"][0]), width=3 * scale)
            else:
                draw.rectangle(corners, fill=ink(_MAP_PART) if shape.kind == "seen" else None, outline=ink(INKS["quiet"][0]))
        elif isinstance(shape, Arrow):
            draw.polygon([(x * scale, y * scale) for x, y in shape.points()], fill=ink(INKS["quiet"][0]))
        elif shape.text:
            words = _paint_words(shape.text, shape.kind, round(shape.size * scale), palette)
            x = shape.x * scale - (words.width / 2 if shape.middle else _EDGE)
            image.paste(words, (round(x), round(shape.y * scale - words.height / 2)))


@lru_cache(maxsize=8192)
def _tile(word: str, kind: str, width: int, height: int, size: int, palette: bool) -> Image.Image:
    """Return a picture of one cell, cached because frames repeat it. Its border is shared with its neighbours."""
    fill, colour = KINDS[kind].day
    tile = Image.new("RGB", (width + 1, height + 1), fill)
    draw = ImageDraw.Draw(tile)
    draw.rectangle((0, 0, width, height), outline=LINES[0])
    if word:
        font, words = font_of(word, max(size, 1))
        draw.text((width / 2, height / 2), words, colour, font, anchor="mm")
    return _in_palette(tile) if palette else tile


@lru_cache(maxsize=8192)
def _paint_words(text: str, kind: str, size: int, palette: bool) -> Image.Image:
    """Return a picture of words on the paper's colour."""
    font, words = font_of(text, size)
    image = Image.new("RGB", (ceil(font.getlength(words)) + 2 * _EDGE, ceil(1.3 * size)), PAPER[0])
    ImageDraw.Draw(image).text((_EDGE, image.height / 2), words, INKS[kind][0], font, anchor="lm")
    return _in_palette(image) if palette else image


def _in_palette(image: Image.Image) -> Image.Image:
    """Return a picture in the nearest colours of the palette; Pillow's own quantizer merges white and the paper's colour."""
    pixels = np.asarray(image, np.int64) @ (1 << 16, 1 << 8, 1)
    colours, positions = np.unique(pixels, return_inverse=True)
    parts = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], 1)
    nearest = np.square(parts[:, None] - _palette()).sum(2).argmin(1).astype(np.uint8)
    return _with_palette(Image.fromarray(nearest[positions].reshape(pixels.shape)))


def _with_palette(image: Image.Image) -> Image.Image:
    image.putpalette(_palette().flatten().tolist())
    return image
