"""Run the code of the page on captum and zennit: `pip install captum zennit`, then `python docs/write_peers.py`.

The English page is run; the Chinese one gets the same blocks and outputs.
"""

from __future__ import annotations

from write_chinese import refresh
from write_steps import DOCS, executed

NAME = "peers"

if __name__ == "__main__":
    (DOCS / f"{NAME}.md").write_text(executed(f"{NAME}.md", DOCS))
    refresh(NAME)
