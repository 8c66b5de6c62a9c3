"""The fonts of pictures: Pillow's own or, for Chinese, one that the system has. Pages use the reader's fonts."""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache

from PIL import ImageFont
from PIL.ImageFont import FreeTypeFont

from unconv.errors import ShapeError

# Pillow's own font lacks these characters.
_PLAIN = str.maketrans(
    {"×": "x", "−": "-", "→": ">", "←": "<", "≤": "<", "…": "...", "–": "-", "\u00a0": " ", "ᵀ": "T", "·": "·"}
)
# Fonts with Chinese characters, by the names of their files: Linux, macOS, Windows. Pillow looks in the system's folders.
_CHINESE = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "NotoSansSC-Regular.otf",
    "NotoSansSC-Regular.ttf",
    "SourceHanSansSC-Regular.otf",
    "SourceHanSansCN-Regular.otf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "DroidSansFallback.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "STHeiti Light.ttc",
    "msyh.ttc",
    "msyh.ttf",
    "simhei.ttf",
    "simsun.ttc",
    "Deng.ttf",
    "NotoSerifCJK-Regular.ttc",
    "uming.ttc",
)
_PIECES = re.compile(r"[\u2e80-\u9fff\uff00-\uffef][，。；：、）]*|[^ \u2e80-\u9fff\uff00-\uffef]+| ")  # \u00a0 breaks no line
_ABSENT = "\U0010fffd"  # a character that no font has: it is drawn as the box for missing characters


def font_of(words: str, size: int) -> tuple[FreeTypeFont, str]:
    """Return the font for some words, and the words with the characters that the font has.

    Raises:
        ShapeError: the words are Chinese, and no font on this system has their characters.
    """
    if not _is_chinese(words):
        return _own(size), words.translate(_PLAIN)
    path = _chinese_font()
    if path is None:
        raise ShapeError(
            "picture: no font with Chinese characters was found on this system, but a PNG, GIF or WebP needs one. Install one "
            "(fonts-noto-cjk or fonts-wqy-microhei on Debian and Ubuntu), or save a page or an SVG (.html, .svg), which use "
            "the reader's fonts."
        )
    return _opened(path, size), words.replace("\u00a0", " ")


@lru_cache(maxsize=8192)
def length_of(words: str, size: float, looseness: float = 1.08) -> float:
    """Return the estimated width of words in pixels; a Chinese character is as wide as it is high.

    `looseness` is how many times wider than Pillow's font other fonts may be.
    """
    wide = sum(_is_wide(letter) for letter in words)
    narrow = "".join(letter for letter in words if not _is_wide(letter)).translate(_PLAIN)
    return size * wide + (looseness * _own(round(size)).getlength(narrow) if narrow else 0.0)


def wrapped(words: str, size: float, width: float) -> list[str]:
    """Return words broken into lines: at spaces, and after any Chinese character, but never before punctuation."""
    lines, line = [], ""
    for piece in _PIECES.findall(words):
        if line and length_of(line + piece, size) > width:
            lines.append(line.rstrip())
            line = ""
        line += piece if line or piece.strip() else ""
    return [*lines, line.rstrip()] if line.strip() else lines


def _is_chinese(words: str) -> bool:
    return any(_is_wide(letter) for letter in words)


def _is_wide(letter: str) -> bool:
    return unicodedata.east_asian_width(letter) in "WF"


@cache
def _own(size: int) -> FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, FreeTypeFont):
        raise ShapeError("picture: this Pillow lacks FreeType, so it cannot draw text. Install Pillow's own wheel.")
    return font


@cache
def _opened(path: str, size: int) -> FreeTypeFont:
    return ImageFont.truetype(path, size)


@cache
def _chinese_font() -> str | None:
    """Return the first of the fonts that this system has and that has the characters, or None."""
    for name in _CHINESE:
        try:
            font = ImageFont.truetype(name, 20)
        except OSError:
            continue
        if bytes(font.getmask("卷")) != bytes(font.getmask(_ABSENT)):
            return name
    return None
