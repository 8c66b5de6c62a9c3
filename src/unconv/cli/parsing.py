"""Parse the values of options: sizes, rows of values, channels, units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import typer

from unconv.reverse.method_table import Activations, Method

if TYPE_CHECKING:
    from torch import Tensor

    from unconv.reverse.methods import Rules
    from unconv.reverse.seed import Unit


_MOST_DIGITS = 9  # of a length or a position: a larger tensor fits into no memory


def read_grid(option: str, text: str) -> Tensor:
    """Return rows of values, or for a size a grid filled with 1, 2, 3 and so on."""
    import torch

    if "," not in text and ";" not in text:
        size = read_lengths(option, text)
        height, width = size * 2 if len(size) == 1 else (size[0], size[-1])
        if len(size) > 2 or max(size) > 1000:
            raise typer.BadParameter(f"{option} {text!r}: write a height and a width of at most 1000: 2x3.")
        return torch.arange(1.0, height * width + 1).reshape(height, width)
    try:
        rows = [[float(n) for n in row.split(",")] for row in text.split(";")]
    except ValueError:
        raise typer.BadParameter(f"{option} {text!r}: write a size, 2x3, or rows of numbers, 1,2;3,4.") from None
    if len({len(row) for row in rows}) != 1:
        raise typer.BadParameter(f"{option} {text!r}: all rows must have the same number of values.")
    return torch.tensor(rows)


def read_lengths(option: str, text: str) -> tuple[int, ...]:
    """Return one length, or one for each axis: 3x5."""
    parts = text.lower().split("x")
    if not all(_is_length(part) for part in parts):
        hint = " To write a file, pass -o." if option == "--output" and "." in text else ""
        raise typer.BadParameter(f"{option} {text!r}: write a number, or one for each axis: 3x5, height first.{hint}")
    return tuple(int(part) for part in parts)


def read_paddings(text: str, axes: int) -> str | list[tuple[int, ...]]:
    """Return SAME, VALID, or a pair for each axis; a single pair is repeated for all axes."""
    if text.isalpha():
        return text.upper()
    pairs = [tuple(int(n) if _is_length(n.strip()) else -1 for n in pair.split(",")) for pair in text.split(";")]
    if any(len(pair) != 2 or min(pair) < 0 for pair in pairs):
        raise typer.BadParameter(
            f"--padding {text!r}: write SAME, VALID, before,after (1,1), or a pair for each axis (1,1;0,2)."
        )
    return pairs * axes if len(pairs) == 1 else pairs


def read_place(text: str) -> tuple[int, int]:
    """Return a row and a column: 1,2."""
    parts = text.split(",")
    if len(parts) != 2 or not all(_is_length(part.strip()) for part in parts):
        raise typer.BadParameter(f"--at {text!r}: write row,column.")
    return int(parts[0]), int(parts[1])


def read_size(text: str, axes: int | None = 2, option: str = "--size") -> tuple[int, ...]:
    """Return 224 or 224x320 as (height, width), or one length for each of `axes` axes; None allows any number of them."""
    numbers = [int(n) for n in text.lower().split("x") if _is_length(n) and int(n) > 0]
    if len(numbers) != len(text.lower().split("x")) or (axes is not None and len(numbers) not in (1, axes)):
        example = (
            "224 or 224x320 (height first)"
            if axes in (2, None)
            else "16000"
            if axes == 1
            else f"64 or {'x'.join(['64'] * axes)}"
        )
        raise typer.BadParameter(f"{option}: {text!r} is not a size; write {example}.")
    return tuple(numbers if axes is None or len(numbers) == axes else numbers * axes)


def read_floats(option: str, text: str | None) -> tuple[float, ...] | None:
    """Return numbers separated by commas; None if there is no text."""
    try:
        return None if text is None else tuple(float(n) for n in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{option} {text!r}: write numbers separated by commas, such as 0.485,0.456,0.406.") from None


def read_channels(text: str) -> str | list[int]:
    """Return all, together or top:9 as they are, or numbers separated by commas as a list."""
    if text in ("all", "together") or text.startswith("top:"):
        return text
    if all(_is_length(part.strip()) for part in text.split(",")):
        return [int(part) for part in text.split(",")]
    raise typer.BadParameter(f"--channels {text!r}: write all, top:9, together, or numbers separated by commas.")


def read_unit(text: str) -> Unit:
    """Return strongest or map as they are, or a position, such as 6,7, as a tuple."""
    if text in ("strongest", "map"):
        return cast("Unit", text)
    if all(_is_length(part.strip()) for part in text.split(",")):
        return tuple(int(part) for part in text.split(","))
    raise typer.BadParameter(f"--unit {text!r}: write strongest, map, or a position: 6,7.")


def read_rules(method: str, activations: str | None = None, gates: Sequence[str] | None = None) -> Rules:
    """Return the rules for a method, for rectifiers other than ReLU, and for gates; `Rules` refuses other names."""
    from unconv.reverse.methods import Rules

    return Rules(cast("Method", method), cast("Activations", activations), gates=gates)


def _is_length(text: str) -> bool:
    """Return whether this is a non-negative integer small enough to be the length of a tensor."""
    return text.isdecimal() and len(text) <= _MOST_DIGITS
