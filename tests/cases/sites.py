"""Sites for tests: a small network over pictures with names that would be markup, and what links a site has."""

from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import numpy as np
import torch
from PIL import Image
from torch import nn

import unconv

STRANGE = "<b>\"a\"&'b' é"


def wide(seed=3):
    """A network whose deeper layer sees 18 of 24 pixels, with a dead channel and a place named like markup."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = {
            "stem": nn.Conv2d(3, 6, 3, padding=1),
            "act": nn.ReLU(),
            "pool": nn.MaxPool2d(2),
            "deep": nn.Conv2d(6, 5, 7, padding=3),
            "<i>last": nn.ReLU(),
            "flat": nn.Flatten(),
            "classes": nn.Linear(5 * 144, 4),
        }
        module = nn.Sequential()
        for name, layer in layers.items():
            module.add_module(name, layer)
        module.eval()
        with torch.no_grad():
            module.stem.weight[2], module.stem.bias[2] = 0, -1  # channel 2 is dead
    return unconv.Network(module, unconv.Preprocess((24, 24), mean=(0.5,) * 3, std=(0.25,) * 3), (3, 24, 24))


def save_strange(folder, count=24):
    """Write pictures whose names and classes hold what HTML and addresses treat specially."""
    rng = np.random.default_rng(7)
    for number in range(count):
        path = folder / ("plain", STRANGE)[number % 2] / f"{number:02d} 100% #{number}?.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize((30, 30), Image.Resampling.BICUBIC).save(path)


def scan_strange(folder):
    """Scan strange pictures into a folder; return the index, in `folder / "index"`."""
    save_strange(folder / "pictures")
    network = wide()
    return unconv.scan(network, folder / "pictures", folder / "index", keep=12, lowest=True)


class Page(HTMLParser):
    """The links, anchors, words and elements of a page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors, self.tags, self.words = [], set(), [], ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        known = dict(attrs)
        self.links += [known[name] for name in ("href", "src") if known.get(name) and known[name] != "data:,"]
        if known.get("property") == "og:image":
            self.links.append(known["content"])
        if "id" in known:
            self.anchors.add(known["id"])

    def handle_data(self, data):
        self.words += data


def broken_links(folder):
    """The links of a site that lead to no file, or to no part of a page."""
    pages = {path: Page(path) for path in folder.rglob("*.html")}
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = pages.get(target)
            if not target.is_file() or (parts.fragment and (known is None or parts.fragment not in known.anchors)):
                broken.append((path.name, link))
    return broken
