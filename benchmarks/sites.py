"""What a site of a scan costs: time, bytes, files; how soon a wall is seen, and how soon a click is answered on the live page.

    python benchmarks/sites.py INDEX --threads 2
    python benchmarks/sites.py torchvision:vgg16 --picture ../shared/data/imagenet_sample/0000_n01440764.jpg

INDEX is the folder of a scan. The site is written into a folder that is thrown away, unless --site names one. Time is told
apart: for recording pictures and walking back (which a figure costs, too), and for cutting out patches, drawing and writing.
Then Chromium opens the largest wall from its file, several times, each with an empty cache. On the live page it hands a picture
over and clicks on units of all layers: from the click until both pictures are decoded. With a model in place of an index (its
weights random) only that is done.
"""

from __future__ import annotations

import argparse
import secrets
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import uvicorn
from playwright.sync_api import Browser, sync_playwright

import unconv
from unconv.web import Live, application, write_site

CHROMIUM = "/usr/bin/chromium"
_CLICKS = 60


class Clock:
    """Adds up how long each kind of work took."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._last, self._what = time.perf_counter(), "opening"

    def __call__(self, what: str, _done: float, _total: int) -> None:
        now = time.perf_counter()
        self.spent[self._what] = self.spent.get(self._what, 0.0) + now - self._last
        self._last, self._what = now, what


def written(index: unconv.Index, folder: Path) -> None:
    clock = Clock()
    write_site(index, folder, progress=clock)
    clock("", 0, 0)
    files = [path for path in folder.rglob("*") if path.is_file()]
    size, units = sum(path.stat().st_size for path in files), len(index.units())
    recording = clock.spent.get("recording pictures", 0.0)
    rest = sum(clock.spent.values()) - recording
    print(f"{index.run['network']}: {units:,} units, {len(files):,} files, {size / 1e6:.1f} MB")
    print(f"recording and walking back {recording:.0f} s; the rest {rest:.0f} s, {units / rest:.0f} units a second")


def painted(browser: Browser, folder: Path) -> None:
    walls = sorted(folder.glob("*/wall.webp"), key=lambda path: path.stat().st_size)
    wall, first, whole = walls[-1].parent / "index.html", list[float](), list[float]()
    for _ in range(7):
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(wall.as_uri())
        page.wait_for_function("() => performance.getEntriesByName('first-contentful-paint').length")
        page.wait_for_load_state("load")
        first.append(page.evaluate("() => performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        whole.append(page.evaluate("() => performance.getEntriesByType('navigation')[0].loadEventStart"))
        page.close()
    units = wall.read_text().count("<li")
    print(
        f"wall of {units} units, from its file: first contentful paint after {statistics.median(first):.0f} ms, with all its "
        f"pictures after {statistics.median(whole):.0f} ms (medians of {len(first)})"
    )


@contextmanager
def served(live: Live, folder: Path | None) -> Iterator[str]:
    token, listening = secrets.token_urlsafe(18), socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    app: Any = application(live, folder, token, {f"127.0.0.1:{port}"})
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{port}/live?token={token}"
    server.should_exit = True
    thread.join()


def clicked(browser: Browser, address: str, picture: Path) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(address)
    page.wait_for_selector("#method option", state="attached")
    begun = time.perf_counter()
    page.set_input_files("#file", picture)
    page.wait_for_selector("#places button")
    first = time.perf_counter() - begun
    page.wait_for_selector("body[data-milliseconds]")
    buttons, times = page.locator("#places button"), list[float]()
    count = buttons.count()
    for number in range(0, count, max(1, count // _CLICKS)):
        page.evaluate("() => { delete document.body.dataset.milliseconds }")
        buttons.nth(number).click()
        page.wait_for_selector("body[data-milliseconds]", state="attached")
        times.append(float(page.evaluate("() => document.body.dataset.milliseconds")))
    page.close()
    last = sorted(times)[round(0.9 * (len(times) - 1))]
    print(
        f"live: a picture's units after {1e3 * first:.0f} ms; from a click to the projection {statistics.median(times):.0f} ms "
        f"(median of {len(times)} units of all layers; nine in ten within {last:.0f} ms)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index")
    parser.add_argument("--site", type=Path, help="a site of it that is whole, or a folder to write")
    parser.add_argument("--picture", type=Path, help="the picture to hand over; by default the first of the scan")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as room, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"])
        folder, picture = None, arguments.picture
        if Path(arguments.index).is_dir():
            index, folder = unconv.Index(arguments.index), arguments.site or Path(room) / "site"
            written(index, folder)
            painted(browser, folder)
            live = Live(index.network, index)
            picture = picture or Path(next(picture for picture in index.pictures() if picture.read).source)
        else:
            live = Live(unconv.load(arguments.index))
        with served(live, folder) as address:
            clicked(browser, address, picture)
        browser.close()


if __name__ == "__main__":
    main()
