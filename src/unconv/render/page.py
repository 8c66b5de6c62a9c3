"""Render pages: plain HTML with one small stylesheet, readable without JavaScript and straight from a file."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("unconv.render"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.filters["size"] = size
    environment.filters["count"] = "{:,}".format
    return environment


def page(template: str, **facts: Any) -> bytes:
    """Return the page that `template` gives with the values in `facts`."""
    return _templates().get_template(template).render(**facts).encode()


def stylesheet() -> bytes:
    """Return the stylesheet that all pages share."""
    return _source("style.css")


def keys() -> bytes:
    """Return the script that moves between units with the arrow keys; pages work without it."""
    return _source("keys.js")


def wall_script() -> bytes:
    """Return the script that sorts and filters a wall of units; pages work without it."""
    return _source("wall.js")


def live_script() -> bytes:
    """Return the script of the live page."""
    return _source("live.js")


def _source(name: str) -> bytes:
    source, _, _ = _templates().loader.get_source(_templates(), name)  # type: ignore[union-attr]
    return source.encode()


def number(value: float) -> str:
    """Return a number as text with three digits and no trailing zeros; very small and large ones have an exponent."""
    rounded = float(f"{value:.3g}")
    plain = 1e-4 <= abs(rounded) < 1e6 or not rounded
    return (f"{rounded:,.10g}" if plain else f"{value:.3g}").replace("-", "−")


def size(lengths: Any) -> str:
    """Return lengths as text, such as 14 × 14."""
    return " × ".join(str(n) for n in lengths) or "1"
