"""Read numbers from text, one row a line, with any usual separator, and decimal points or decimal commas."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_FRACTION = re.compile(r"(?:^|,)\s*-?0\d+\s*(?:,|$)", re.MULTILINE)  # an integer does not begin with a zero
_FEW = 6  # in rows of fewer numbers, every other one may be zero by chance


def read_text(path: Path) -> np.ndarray[Any, Any]:
    """Return the numbers in a text file, one row a line, float64.

    Semicolons, tabs, commas or blanks separate them, and quotes may enclose them. A comma in numbers with another separator is
    a decimal comma. Text after "#" is ignored.

    Raises:
        ValueError: a cell is empty or no number, or the text can be read in two ways.
    """
    content = path.read_bytes()
    text = content.decode("utf-16" if content.startswith(_UTF_16) else "utf-8-sig")
    lines = [line.split("#")[0].strip(" \r") for line in text.splitlines()]
    lines = [re.sub(r'"([^"]*)"', lambda cell: cell[1].replace(",", "."), line) for line in lines if line.strip()]
    header = re.fullmatch(r"sep=([;,\t])", lines[0], re.IGNORECASE) if lines else None  # Excel writes and reads it
    lines = lines[1:] if header else lines
    if not lines:
        raise ValueError("it holds no numbers")
    separator = header[1] if header else _separator("\n".join(lines))
    if separator is not None and all(line.endswith(separator) for line in lines):
        lines = [line[:-1] for line in lines]
    # A comma may separate numbers or begin decimals. Text where both readings are possible is refused rather than guessed.
    if separator == ",":
        _refuse_decimal_commas(lines)
    else:
        lines = _with_points(lines)
    return np.loadtxt(lines, delimiter=separator, ndmin=2, comments=None)


def _separator(text: str) -> str | None:
    """Return the separator of the numbers: a semicolon, a tab, a comma, or None for blanks.

    Raises:
        ValueError: both commas and blanks separate them.
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
    raise ValueError("both commas and blanks separate its numbers, but one separator was needed. Write semicolons")


def _refuse_decimal_commas(lines: list[str]) -> None:
    """Refuse rows separated by commas whose numbers seem to have decimal commas, too.

    Raises:
        ValueError: they seem to.
    """
    rows = [line.split(",") for line in lines]
    integers, decimals = ({cell.strip() for row in rows for cell in row[start::2]} for start in (0, 1))
    even = all(len(row) >= _FEW and len(row) % 2 == 0 for row in rows)
    if any(_FRACTION.search(line) for line in lines) or (even and integers <= {"0", "-0", "1"} and not decimals <= {"0", "1"}):
        raise ValueError(
            "commas seem to be both its separators and its decimal marks. Separate the numbers by semicolons, or write "
            "decimals with points"
        )


def _with_points(lines: list[str]) -> list[str]:
    """Replace decimal commas by points.

    Raises:
        ValueError: there are points, too.
    """
    text = "".join(lines)
    if "," in text and "." in text:
        raise ValueError(
            "its numbers contain both points and commas. Write decimals with points, and thousands without a separator"
        )
    return [line.replace(",", ".") for line in lines]
