"""The command on several pictures and on whole layers, and the time that it says is left."""

from __future__ import annotations

import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from unconv import cli
from unconv.cli.progress import TimeLeft

FACTORY = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 7),
    )
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a tiny network with weights, two pictures and a file that is none."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.py").write_text(FACTORY)
    for shade, name in enumerate(("one.png", "two.png")):
        Image.new("RGB", (32, 24), (90 * shade, 120, 30)).save(tmp_path / name)
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return tmp_path


def project(*arguments: str):
    return CliRunner().invoke(cli.app, ["project", "tiny.py:make", *arguments, "--size", "24x32", "-o", "out"])


def test_channels_together_make_one_row_and_page_a_layer(here):
    done = project("one.png", "--channels", "together")
    assert done.exit_code == 0, done.output
    numbers = json.loads((here / "out" / "numbers.json").read_text())
    assert [[unit["channel"] for unit in layer["units"]] for layer in numbers["layers"]] == [[None], [None]]
    page = (here / "out" / "index.html").read_text()
    for layer in numbers["layers"]:
        unit = layer["units"][0]
        assert all((here / "out" / unit[file]).is_file() for file in ("map", "projection", "patch", "page"))
        assert unit["map"] in page


def test_several_pictures_get_a_page_that_leads_to_each(here):
    done = project("one.png", "two.png", "--channels", "top:1")
    assert done.exit_code == 0, done.output
    index = (here / "out" / "index.html").read_text()
    assert 'href="one/index.html"' in index and 'href="two/index.html"' in index
    assert (here / "out" / "one" / "index.html").is_file() and (here / "out" / "two" / "numbers.json").is_file()


def test_a_damaged_picture_ends_the_run_unless_it_is_skipped(here):
    assert project("one.png", "damaged.png", "two.png", "--channels", "top:1").exit_code == 1


def test_a_damaged_picture_that_is_skipped_is_named(here):
    done = project("one.png", "damaged.png", "two.png", "--channels", "top:1", "--skip-damaged")
    assert done.exit_code == 0, done.output
    assert "skipped damaged.png" in done.stderr
    numbers = json.loads((here / "out" / "numbers.json").read_text())
    assert numbers["pictures"] == ["one", "two"]
    assert [each["picture"] for each in numbers["damaged"]] == ["damaged.png"]
    assert "damaged.png" in (here / "out" / "index.html").read_text()


def test_where_no_picture_can_be_read_skipping_is_an_error_too(here):
    assert project("damaged.png", "damaged.png", "--skip-damaged").exit_code == 1
    assert not (here / "out" / "index.html").exists()


def told(*moments: tuple[float, float]) -> list[str]:
    """Return what a clock says at moments, each a time in seconds and the share that is done by then."""
    times = [0.0]
    clock = TimeLeft(lambda: times[-1])
    said = []
    for seconds, share in moments:
        times.append(seconds)
        said.append(clock.left(share))
    return said


def test_no_time_is_left_until_enough_is_known_nor_at_the_end():
    assert told((0, 0.0), (1, 0.5), (100, 0.001), (200, 1.0)) == ["", "", "", ""]


def test_the_time_left_is_by_what_was_done_since_the_first_report():
    assert told((60, 0.5), (70, 0.6), (70, 0.75)) == ["", "0:40 left", "0:10 left"]
    assert told((0, 0.0), (3600, 0.5)) == ["", "1:00:00 left"]


def test_a_time_beyond_a_day_is_not_counted():
    assert told((0, 0.0), (3600, 0.01)) == ["", "more than a day left"]
