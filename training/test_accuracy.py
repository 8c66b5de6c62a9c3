"""Whether the network in the box knows pictures that it was not trained on: `pytest training`, some seconds."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

from cases.networks import DATA, needs_data
from unconv import box

ROOT = Path(__file__).parents[1]


@needs_data
def test_it_knows_pictures_it_was_not_trained_on():
    training = runpy.run_path(str(ROOT / "training" / "caltech.py"))
    pictures = training["Pictures"](DATA / "datasets" / "caltech101_s144_webp.npz")
    measured = training["accuracy"](box.WEIGHTS, pictures, every=4)
    assert measured["top1"] > 0.6
    stated = float(re.search(r"top-1: \*\*([\d.]+) %", (ROOT / "docs" / "network-in-the-box.md").read_text())[1])
    assert abs(100 * measured["top1"] - stated) < 6  # a quarter of the pictures: two standard errors
