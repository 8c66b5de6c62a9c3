"""The package's metadata: where it lives, and a README whose links lead there from a package index.

`UNCONV_URL=https://forge.example/unconv make wheel` writes them for the repository at that address. Without it the README
stays as it is, and no address is claimed.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

PAGES = {"Documentation": "docs/index.md", "Changelog": "CHANGELOG.md", "中文": "README.zh-CN.md"}


def absolute(readme: str, address: str, tag: str) -> str:
    """Return Markdown whose relative links lead to the files of a repository's tag, as GitHub, Gitee and Gitea lay them out."""

    def link(match: re.Match[str]) -> str:
        # A page that shows a file is no picture: those need the file's bytes.
        kind = "raw" if match[1] else "blob"
        return f"{match[1]}[{match[2]}]({address}/{kind}/{tag}/{match[3]})"

    return re.sub(r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)\s]+)\)", link, readme)


class Metadata(MetadataHookInterface):
    """Adds the README and, for a known repository, its addresses."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Write `readme` and `urls`."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        if address := os.environ.get("UNCONV_URL", "").rstrip("/"):
            tag = f"v{metadata['version']}"
            metadata["urls"] = {"Homepage": address} | {name: f"{address}/blob/{tag}/{page}" for name, page in PAGES.items()}
            text = absolute(text, address, tag)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
