"""Give the pages in Chinese the blocks and the numbers of the English ones: `python docs/write_chinese.py [PAGE ...]`.

Sentences, headings and words in tables are written by hand; code, outputs and those cells of tables that hold no words are
the English page's. The scripts that run a page's code, or write its tables, call `refresh` when they have done so.
"""

from __future__ import annotations

import re
import sys
from itertools import groupby
from pathlib import Path

DOCS = Path(__file__).parent
# The code of the first has remarks, which are Chinese in the Chinese page; the others are short ones that lead to the English.
OTHERWISE = ("scan", "cli", "reference")
_BLOCK = re.compile(r"^```(\w*)\n.*?^```$", re.S | re.M)
_CODE = re.compile(r"`[^`]*`")
_WORD = re.compile(r"[^\W\d_]{2,}")
_UNITS = frozenset({"ms", "dB", "GB", "MB", "kB", "GiB"})


def refreshed(chinese: str, english: str) -> str:
    """The page in Chinese with the English page's blocks, and its cells that hold no words.

    Raises:
        ValueError: The pages have different numbers of blocks or tables, or two tables different numbers of rows.
    """
    blocks = [block[0] for block in _BLOCK.finditer(english)]
    given = iter(_same_number("blocks", blocks, _BLOCK.findall(chinese)))
    text = _BLOCK.sub(lambda _: next(given), chinese)
    lines = text.splitlines(keepends=True)
    for theirs, ours in _pairs(tables(english), tables(text)):
        for (_, source), (number, row) in zip(theirs, ours, strict=True):
            lines[number] = _row(row, source) + "\n"
    return "".join(lines)


def tables(text: str) -> list[list[tuple[int, str]]]:
    """The tables of a page outside its blocks, each as the numbers of its lines and the lines."""
    hidden = _BLOCK.sub(lambda block: "\n" * block[0].count("\n"), text)
    runs = groupby(enumerate(hidden.splitlines()), key=lambda line: line[1].startswith("|"))
    return [list(lines) for is_table, lines in runs if is_table]


def wordless(cell: str) -> bool:
    """Whether a cell is the same in every language: numbers, units and code."""
    return not set(_WORD.findall(_CODE.sub("", cell))) - _UNITS


def _pairs(english: list, chinese: list) -> list[tuple[list, list]]:
    _same_number("tables", english, chinese)
    for number, (theirs, ours) in enumerate(zip(english, chinese, strict=True), 1):
        _same_number(f"rows in table {number}", theirs, ours)
    return list(zip(english, chinese, strict=True))


def _same_number(what: str, english: list, chinese: list) -> list:
    if len(english) != len(chinese):
        raise ValueError(f"{what}: {len(english)} in English, but {len(chinese)} in Chinese. Add or take away in Chinese.")
    return english


def _row(chinese: str, english: str) -> str:
    theirs, ours = english.split("|"), chinese.split("|")
    _same_number(f"cells in {english!r}", theirs, ours)
    return "|".join(_cell(source) if wordless(source) else cell for source, cell in zip(theirs, ours, strict=True))


def _cell(english: str) -> str:
    return english.replace("`, `", "`、`")


def refresh(name: str, docs: Path = DOCS) -> None:
    """Write docs/NAME.zh-CN.md anew from docs/NAME.md."""
    path = docs / f"{name}.zh-CN.md"
    path.write_text(refreshed(path.read_text(), (docs / f"{name}.md").read_text()))


def names() -> list[str]:
    """The pages that exist in both languages and are the same but for their words."""
    found = sorted(path.name.removesuffix(".zh-CN.md") for path in DOCS.glob("*.zh-CN.md"))
    return [name for name in found if name not in OTHERWISE]


if __name__ == "__main__":
    for name in sys.argv[1:] or names():
        refresh(name)
