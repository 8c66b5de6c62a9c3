"""Make the site, English and Chinese, in site/; warnings are errors, and so are links and anchors that lead nowhere.

Needs what requirements-docs.txt names; `make docs` installs it. Nothing is fetched, then or when a page is read.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[1]
SITE = ROOT / "site"
LANGUAGES = {"en": [], "zh-CN": ["-t", "chinese"]}

FRONT = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>unconv</title>
<script>location.replace((/^zh/.test(navigator.language) ? "zh-CN" : "en") + "/docs/index.html")</script>
<p><a href="en/docs/index.html">English</a> · <a href="zh-CN/docs/index.html" lang="zh-CN">中文</a></p></html>
"""


class Page(HTMLParser):
    """What a page links to, what it loads when it is opened, and where links may lead in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self.anchors: set[str] = {"", "top"}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of addresses and ids."""
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if "href" in values:
            (self.loads if tag == "link" and values.get("rel") != "alternate" else self.links).add(values["href"])
        if "src" in values:
            self.loads.add(values["src"])


def build(language: str, scratch: str) -> subprocess.Popen[bytes]:
    """Start Sphinx for one language; what it reads back itself goes into `scratch`."""
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q", "-E", "-c", "docs"]
    where = ["-d", str(Path(scratch) / language), ".", str(SITE / language)]
    return subprocess.Popen([*command, *LANGUAGES[language], *where], cwd=ROOT)


def faults(site: Path) -> list[str]:
    """List the links that lead nowhere, and whatever a page would load from elsewhere."""
    pages = {path.resolve(): Page(path) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        where = path.relative_to(site.resolve())
        found += [f"{where}: loads {address} from elsewhere" for address in page.loads if urlsplit(address).netloc]
        for address in sorted(page.links | page.loads):
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                found.append(f"{where}: {address} is not there")
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
                found.append(f"{where}: {address} has no such anchor")
    return found


def main() -> int:
    """Make both languages and check them; 0 if nothing was found."""
    shutil.rmtree(SITE, ignore_errors=True)
    SITE.mkdir()
    with tempfile.TemporaryDirectory() as scratch:
        failed = [process.wait() for process in [build(language, scratch) for language in LANGUAGES]]
    (SITE / "index.html").write_text(FRONT, encoding="utf-8")
    found = faults(SITE)
    print(*found, sep="\n", end="\n" if found else "")
    print(f"site/index.html: {len(list(SITE.rglob('*.html')))} pages, {len(found)} dead links")
    return int(any(failed) or bool(found))


if __name__ == "__main__":
    sys.exit(main())
