"""The kinds of cells: the name of each, and its colours in a light and in a dark theme."""

from __future__ import annotations

from colorsys import hls_to_rgb
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of cell: its name, its sign in plain text, which has no colours, and its (fill, ink) by day and by night.

    A kind without a name is not in a legend.
    """

    words: str
    sign: str
    day: tuple[str, str]
    night: tuple[str, str]


TAPS = 16  # colours for the entries of a kernel; a larger kernel repeats them


def _tap(number: int) -> Kind:
    """Return the kind of the cells that one entry of the kernel fills: nine distant hues, for 3 × 3, then darker ones."""
    more = number >= 9
    hue = ((number - 9) * 3 % 7) / 7 + 0.06 if more else (number * 4 % 9) / 9
    day, night = (
        "#{:02x}{:02x}{:02x}".format(*(round(255 * part) for part in hls_to_rgb(hue, light, strong)))
        for light, strong in ((0.68 if more else 0.84, 0.45 if more else 0.75), (0.36 if more else 0.25, 0.3 if more else 0.5))
    )
    return Kind("", "", (day, "#1d1c1a"), (night, "#f4efe6"))


KINDS = {
    "value": Kind("a value", "", ("#f7d9c0", "#1d1c1a"), ("#6b3d1f", "#f6ece2")),
    "inserted": Kind("an inserted zero", "·", ("#ffffff", "#77716a"), ("#2a2825", "#a39c90")),
    "padding": Kind("padding", "□", ("#d6e6f5", "#3f5b77"), ("#22384d", "#a9c4dd")),
    "rest": Kind("more padding, for a larger output (r)", "■", ("#7d5fa6", "#ffffff"), ("#a487cf", "#161514")),
    "cropped": Kind("cropped", "×", ("#e4e0d7", "#857d70"), ("#1f1d1b", "#7d766b")),
    "kernel": Kind("the kernel", "", ("#d7ebd0", "#1d1c1a"), ("#2f4a28", "#e6f2e1")),
    "output": Kind("the output", "", ("#fdf0b8", "#1d1c1a"), ("#5a4d12", "#f7f0d6")),
    "overlap": Kind("an overlap: several stamps add up", "", ("#f3b27f", "#1d1c1a"), ("#8f4a18", "#fff3e8")),
    "part": Kind("a part of the sum", "", ("#fbe3dc", "#1d1c1a"), ("#573029", "#f8e9e4")),
    "largest": Kind("the largest of its window", "", ("#ffd34d", "#1d1c1a"), ("#8a7000", "#fff8dc")),
    "nothing": Kind("a zero that no value reached", "·", ("#ffffff", "#77716a"), ("#2a2825", "#a39c90")),
    "zero": Kind("a zero outside the window", "·", ("#ffffff", "#77716a"), ("#2a2825", "#a39c90")),
    "count": Kind("a count or an index", "", ("#f1efe9", "#1d1c1a"), ("#2e2b28", "#ebe7df")),
    "blank": Kind("", " ", ("#fcfbf8", "#fcfbf8"), ("#161514", "#161514")),
    **{f"tap{number}": _tap(number) for number in range(TAPS)},
}
