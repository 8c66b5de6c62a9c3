"""Formulas as MathML, which every browser draws itself: no script, no fonts, nothing from elsewhere."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert


def _inline(visitor: Any, node: nodes.Element) -> None:
    visitor.body.append(convert(node.astext()))
    raise nodes.SkipNode


def _block(visitor: Any, node: nodes.Element) -> None:
    visitor.body.append(f'<div class="formula">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Make "mathml" the way in which HTML shows formulas."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
