"""The views, languages and exercises, by name. The command line's help reads these tables without importing torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Language = Literal["en", "zh"]
View = Literal["steps", "scatter", "matrix", "forward", "channels"]

VIEW_WORDS: dict[View, str] = {
    "steps": "the four steps",
    "scatter": "each input sample stamps its kernel, and overlaps add up",
    "matrix": "the convolution's matrix, and its transpose times the input",
    "forward": "the forward convolution next to it, on the same windows",
    "channels": "the sum over input channels",
}


@dataclass(frozen=True)
class Exercise:
    """An exercise: a description, an operation, and the operation's arguments.

    Args:
        words: what the exercise shows.
        operation: "conv1d_transpose", "conv2d_transpose" or "unpool_max".
        input: rows of values, or of lists of channels.
        kernel: rows of values, or the size of a pool's window.
        strides, padding: as the operation takes them.
        size: (height, width) of the output; (width,) along one axis.
    """

    words: str
    operation: str
    input: Any
    kernel: Any
    strides: int
    padding: str
    size: tuple[int, ...] = ()


EXERCISES = {
    "ones": Exercise(
        "the tutorial's ones(4 × 4), convolved with [1, 0; -1, -2] and stride 2, then transposed",
        *("conv2d_transpose", [[-2, -2], [-2, -2]], [[1, 0], [-1, -2]], 2, "VALID", (4, 4)),
    ),
    "unpool": Exercise(
        "the tutorial's 4 × 4 picture of two channels: its maxima, their indices, and unpooling",
        *("unpool_max", [[[row, row + 4]] * 4 for row in range(4)], 2, 2, "SAME"),
    ),
    "odd": Exercise(
        "SAME with stride 2 from 3 × 3 back to an odd 5 × 5 (--output 6 shifts it, --padding VALID makes it larger)",
        *("conv2d_transpose", [[1, 2, 3], [4, 5, 6], [7, 8, 9]], [[1, 2, 1], [2, 4, 2], [1, 2, 1]], 2, "SAME", (5, 5)),
    ),
    "digits": Exercise(
        "[1, 2, 3] by [1, 10, 100] with stride 2, along one axis: each digit shows where it comes from",
        *("conv1d_transpose", [1, 2, 3], [1, 10, 100], 2, "SAME", (6,)),
    ),
}
