"""Draw docs/images/demo.png, the README's picture, and docs/images/methods.png: `python docs/write_picture.py`.

The first shows four layers of a page in a browser. It needs playwright and Debian's chromium.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

import unconv
from unconv.box import demo_pictures
from unconv.pictures.boxes import cut
from unconv.pictures.draw import common_scale, grid, picture_of, signed_picture
from unconv.report import Request, report
from unconv.reverse.method_table import METHODS
from unconv.reverse.sheet import enlarged

IMAGES = Path(__file__).parent / "images"

PLACES = ("features.3", "features.8", "features.13", "features.18")


def methods() -> None:
    """Draw one row a unit: its projection by every method, each on its own scale, and then its patch."""
    picture = next(picture for picture in demo_pictures() if picture.stem == "cat")
    network = unconv.load("unconv:caltech")
    projections = [network.project(picture, "features.18", "top:3", method=method) for method in METHODS]
    tiles = []
    for unit in range(3):
        drawn = [signed_picture(one.windows[unit], common_scale([one.windows[unit]])) for one in projections]
        patch = picture_of(1 + cut(projections[0].shown - 1, projections[0].boxes[unit].tolist()))
        tiles += [enlarged(tile, 190) for tile in (*drawn, patch)]
    grid(tiles, len(METHODS) + 1, 6).save(IMAGES / "methods.png", optimize=True)


def demo() -> None:
    """Write the page to a temporary folder, and take a screenshot of its layers."""
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
    shot.convert("RGB").save(IMAGES / "demo.png", optimize=True)


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    methods()
    demo()
