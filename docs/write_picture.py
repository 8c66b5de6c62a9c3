"""Make docs/images/demo.png, the README's picture: four layers of a page, as a browser shows it.

Needs playwright and Debian's chromium: `python docs/write_picture.py`.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

import unconv
from unconv.box import demo_pictures
from unconv.report import Request, report

PLACES = ("features.3", "features.8", "features.13", "features.18")


def main() -> None:
    """Write the page to a temporary folder, photograph its layers."""
    picture = next(picture for picture in demo_pictures() if picture.stem == "cat")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        report(unconv.load("unconv:caltech"), picture, Path(folder), Request(PLACES, "top:4"), lambda *_: None)
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1240, "height": 900}, color_scheme="light")
        page.goto((Path(folder) / "index.html").as_uri())
        page.add_style_tag(content="body { padding: 0 1.5rem } nav, footer, .opening, .layers { display: none !important }")
        page.wait_for_load_state("networkidle")
        shot = Image.open(io.BytesIO(page.screenshot(full_page=True)))
        browser.close()
    out = Path(__file__).parent / "images" / "demo.png"
    out.parent.mkdir(exist_ok=True)
    shot.convert("RGB").save(out, optimize=True)


if __name__ == "__main__":
    main()
