"""Numbers in text, one row a line: what stands between them, and whether decimals follow a point or a comma."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_FRACTION = re.compile(r"(?:^|,)\s*-?0\d+\s*(?:,|$)", re.MULTILINE)  # a whole number does not begin with a zero
_FEW = 6  # numbers in a row, of which every other one may be zero by chance


def read_text(path: Path) -> np.ndarray[Any, Any]:
    """Return the numbers in a text file, one row a line, float64.

    They stand apart by semicolons, tabs, commas or blanks, and may stand in quotes. A comma within numbers that stand apart
    by something else is a decimal one. What follows "#" is left out.

    Raises:
        ValueError: something is no number, is missing, or can be read in two ways.
    """
    content = path.read_bytes()
    text = content.decode("utf-16" if content.startswith(_UTF_16) else "utf-8-sig")
    lines = [line.split("#")[0].strip(" \r") for line in text.splitlines()]
    lines = [re.sub(r'"([^"]*)"', lambda cell: cell[1].replace(",", "."), line) for line in lines if line.strip()]
    said = re.fullmatch(r"sep=([;,\t])", lines[0], re.IGNORECASE) if lines else None  # Excel writes and reads it
    lines = lines[1:] if said else lines
    if not lines:
        raise ValueError("it holds no numbers")
    mark = said[1] if said else _between("\n".join(lines))
    if mark is not None and all(line.endswith(mark) for line in lines):
        lines = [line[:-1] for line in lines]
    if mark == ",":
        _refuse_decimal_commas(lines)
    else:
        lines = _with_points(lines)
    return np.loadtxt(lines, delimiter=mark, ndmin=2, comments=None)


def _between(text: str) -> str | None:
    """Tell what stands between the numbers: a semicolon, a tab, a comma, or None for blanks.

    Raises:
        ValueError: commas do, and blanks, too.
    """
    for mark in ";\t":
        if mark in text:
            return mark
    if "," not in text:
        return None
    if re.search(r"[^\s,] +[^\s,]", text) is None:
        return ","
    if re.search(r",\s|\s,|,[^,\s]*,", text) is None:  # each comma within one number, and no number has two
        return None
    raise ValueError("commas stand between its numbers, and blanks, too. Put semicolons between them")


def _refuse_decimal_commas(lines: list[str]) -> None:
    """Refuse rows in which decimals seem to begin behind commas, as those do that stand between the numbers.

    Raises:
        ValueError: they do.
    """
    rows = [line.split(",") for line in lines]
    whole, parts = ({cell.strip() for row in rows for cell in row[start::2]} for start in (0, 1))
    even = all(len(row) >= _FEW and len(row) % 2 == 0 for row in rows)
    if any(_FRACTION.search(line) for line in lines) or (even and whole <= {"0", "-0", "1"} and not parts <= {"0", "1"}):
        raise ValueError(
            "its decimals seem to follow commas, which stand between the numbers, too. Put semicolons between the numbers, or "
            "write decimals with points"
        )


def _with_points(lines: list[str]) -> list[str]:
    """Return decimal commas as points.

    Raises:
        ValueError: points are there, too.
    """
    text = "".join(lines)
    if "," in text and "." in text:
        raise ValueError("its numbers hold points and commas. Write decimals with points, and thousands without a mark")
    return [line.replace(",", ".") for line in lines]
