"""Write the table of image methods into both pages on deconvolution, from the program's own: `python docs/write_methods.py`.

The Chinese page says in its own words what a method does; those words stay. A new method comes with the English ones.
"""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path

from unconv.inverse.fields.image.table import METHODS
from unconv.inverse.operators.boundaries import BOUNDARIES

DOCS = Path(__file__).parent
WORDS = {
    "deconvolution.md": {
        "head": ("method", "what it does", "boundary", "axes of the PSF", "strength"),
        "any": "any",
        "or": " or ",
        "yes": "yes",
        "no": "no",
        "pictures": ", the default",
        "volumes": ", the default for volumes",
        "counts": ", the default for counts",
    },
    "deconvolution.zh-CN.md": {
        "head": ("方法", "做什么", "边界", "PSF 的轴数", "强度"),
        "any": "任意",
        "or": " 或 ",
        "yes": "可给",
        "no": "不可给",
        "pictures": "，默认",
        "volumes": "，三维数据的默认方法",
        "counts": "，计数数据的默认方法",
    },
}


def rows(page: str) -> list[list[str]]:
    """The cells of the table, one row a method."""
    words, told = WORDS[page], own_words(page)
    made = []
    for name, method in METHODS.items():
        named = f"`{name}`{words[method.default_for] if method.default_for else ''}"
        few = words["or"].join(f'"{boundary}"' for boundary in reversed(method.boundaries))
        boundary = words["any"] if set(method.boundaries) == set(BOUNDARIES) else few
        axes = words["any"] if method.axes == (2, 3) else words["or"].join(map(str, method.axes))
        strength = words["yes" if method.strength else "no"]
        made.append([named, told.get(name, method.help), boundary, axes, strength])
    return made


def own_words(page: str) -> dict[str, str]:
    """What the page in Chinese says of each method."""
    found = re.findall(r"^\| `([^`]+)`[^|]* \| ([^|]+) \|.*$", table(page), re.M)
    return dict(found) if "zh" in page else {}


def table(page: str) -> str:
    """The table that stands in the page."""
    head = "| " + " | ".join(WORDS[page]["head"]) + " |"
    lines = (DOCS / page).read_text().splitlines()
    first = lines.index(head)
    return "\n".join(takewhile(lambda line: line.startswith("|"), lines[first:]))


def rewritten(page: str) -> str:
    """The page with the table that the program has."""
    lines = [list(WORDS[page]["head"]), ["---"] * 5, *rows(page)]
    made = "\n".join("| " + " | ".join(cells) + " |" for cells in lines).replace(
        "| --- | --- | --- | --- | --- |", "|---|---|---|---|---|"
    )
    return (DOCS / page).read_text().replace(table(page), made)


if __name__ == "__main__":
    for name in WORDS:
        (DOCS / name).write_text(rewritten(name))
