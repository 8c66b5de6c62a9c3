"""Run the code of the page on captum and zennit: `pip install captum zennit`, then `python docs/write_peers.py`."""

from __future__ import annotations

from write_steps import DOCS, executed

PAGE = "peers.md"

if __name__ == "__main__":
    (DOCS / PAGE).write_text(executed(PAGE, DOCS))
