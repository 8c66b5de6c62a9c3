"""The menu is the list of pages that a reader of docs/index.md sees: a heading of it is a group, a link an entry."""

from __future__ import annotations

import posixpath
import re
from typing import Any


def menu(page: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """Split an index into groups: a heading of the second level, and (text, target) of each link in the list below it."""
    groups = [(part.partition("\n")[0].strip(), part) for part in re.split(r"^## ", page, flags=re.M)[1:]]
    return [(title, re.findall(r"^[-*] \[([^]]*)\]\(([^)#:]+\.md)\)", part, re.M)) for title, part in groups]


def _add_menu(app: Any, docname: str, source: list[str]) -> None:
    if docname != app.config.root_doc:
        return
    suffix = next(iter(app.config.source_suffix))
    for title, links in menu(source[0]):
        entries = [(text, posixpath.normpath(posixpath.join("/docs", link.removesuffix(suffix)))) for text, link in links]
        # A page that exists in the other language only is on the index and has no place in this menu.
        tree = "\n".join(f"{text} <{entry}>" for text, entry in entries if entry[1:] in app.env.found_docs)
        source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{tree}\n```\n"


def setup(app: Any) -> dict[str, bool]:
    """Add the menu to the index before other extensions change its links."""
    app.connect("source-read", _add_menu, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
