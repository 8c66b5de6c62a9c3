"""A report appears whole, whatever stops it, and touches only what an earlier one has listed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import unquote

import pytest
import torch
from PIL import Image
from torch import nn

import unconv
from report.test_report import Links, small
from unconv.report import Request, report, reports
from unconv.report.layer import Layer
from unconv.report.listing import listed

IMAGE = torch.rand(3, 40, 56, generator=torch.Generator().manual_seed(1))


def write(folder: Path, places=("1",), channels="top:3", image=IMAGE) -> None:
    report(small(), image, folder, Request(places, channels), lambda *_: None)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_whole(folder: Path) -> None:
    """Every link of every page leads to a file, and every file is listed."""
    for page in folder.rglob("*.html"):
        for link in Links(page).found:
            file = unquote(link.split("#")[0])
            assert link.startswith(("data:", "#")) or (page.parent / file).is_file(), f"{page.name}: {link}"
    assert set(contents(folder)) == listed(folder)


def test_a_report_lists_all_its_files_and_nothing_else_is_left(tmp_path):
    write(tmp_path / "out")
    assert_whole(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


USERS = {
    "notes.html": "<p>Made by unconv</p>",
    "units/mine_channel_1.html": "mine",
    "tiles/my_0001_channel_2_projection.png": "mine",
    "units/deep/1_0001_channel_3.html": "mine",
    "own/index.html": "Made by unconv",
}


def test_files_that_no_report_has_listed_stay(tmp_path):
    write(tmp_path)
    for name, text in USERS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    write(tmp_path, ("4",))
    assert {name: (tmp_path / name).read_text() for name in USERS} == USERS
    assert set(contents(tmp_path)) == listed(tmp_path) | set(USERS)
    assert "1" not in [layer["place"] for layer in json.loads((tmp_path / "numbers.json").read_text())["layers"]]


TEXTS = {
    "made by": "<p>Made by unconv</p>",
    "layers": '{"layers": []}',
    "a network": '{"version": "1", "network": "mine"}',
    "brackets": "[" * 99999,
}


@pytest.mark.parametrize("name", ["index.html", "picture.png", "style.css", "numbers.json"])
@pytest.mark.parametrize("words", TEXTS)
def test_a_page_of_the_user_s_is_refused_whatever_it_says_and_before_any_work(tmp_path, monkeypatch, name, words):
    text = TEXTS[words]
    (tmp_path / name).write_text(text)
    monkeypatch.setattr(unconv.Network, "record", None)  # which would fail if it were called
    with pytest.raises(unconv.WriteError, match=rf"{name} was not made by unconv and would be overwritten\. Choose another"):
        write(tmp_path)
    assert contents(tmp_path) == {name: text.encode()} and not (tmp_path.parent / f".{tmp_path.name}.unconv").exists()


def test_a_page_of_the_user_s_with_a_unit_s_name_is_refused_before_the_walk(tmp_path, monkeypatch):
    (tmp_path / "units").mkdir()
    (tmp_path / "units" / "1_0001_channel_3.html").write_text("mine")
    monkeypatch.setattr(Layer, "take", None)
    with pytest.raises(unconv.WriteError, match=r"1_0001_channel_3\.html was not made by unconv"):
        write(tmp_path, channels=[3])
    assert contents(tmp_path) == {"units/1_0001_channel_3.html": b"mine"}


@pytest.mark.parametrize(
    "name", ["../precious.html", "units/../../precious.html", "/precious.html", "units/a\0.html", "units", 3], ids=range(6)
)
def test_a_list_that_names_files_elsewhere_deletes_none_of_them(tmp_path, name):
    (tmp_path / "precious.html").write_text("mine")
    write(tmp_path / "out")
    numbers = json.loads((tmp_path / "out" / "numbers.json").read_text())
    numbers["layers"][0]["units"][0]["page"] = name
    (tmp_path / "out" / "numbers.json").write_text(json.dumps(numbers))
    assert str(name) not in listed(tmp_path / "out")
    (tmp_path / "out" / "units" / "1_0001_channel_3.html").unlink(missing_ok=True)
    write(tmp_path / "out", ("4",))
    assert (tmp_path / "precious.html").read_text() == "mine"


@pytest.mark.parametrize(
    "text",
    ["null", "[]", "3", '{"version": "1", "network": "n", "layers": [3, {"units": [4, {}]}]}', '{"layers": {}}'],
    ids=range(5),
)
def test_a_list_of_any_shape_is_read(tmp_path, text):
    (tmp_path / "numbers.json").write_text(text)
    assert listed(tmp_path) <= {"index.html", "numbers.json", "picture.png", "style.css"}


def test_a_stop_before_the_first_unit_leaves_the_old_report(tmp_path, monkeypatch):
    write(tmp_path)
    before = contents(tmp_path)

    def stop(layer, arrival):
        raise KeyboardInterrupt

    monkeypatch.setattr(Layer, "take", stop)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, ("4",))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("where", ["put", "publish"])
def test_a_full_disk_leaves_the_old_report_and_no_rest(tmp_path, monkeypatch, where):
    write(tmp_path / "out")
    before, calls = contents(tmp_path / "out"), []
    real = {"put": Path.write_bytes, "publish": os.rename}[where]

    def full(*arguments):
        calls.append(arguments)
        if len(calls) > 7 or where == "publish":
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr("unconv.files.folder.exchanged", lambda *_: False)
    monkeypatch.setattr(*((Path, "write_bytes", full) if where == "put" else (os, "rename", full)))
    with pytest.raises(unconv.WriteError, match=r"cannot write .*out: No space left on device\. Make room, or choose another"):
        write(tmp_path / "out", ("4",))
    monkeypatch.undo()
    assert contents(tmp_path / "out") == before and [path.name for path in tmp_path.iterdir()] == ["out"]


def test_pages_are_named_apart_whatever_the_layers_are_called(tmp_path):
    layers = [nn.Conv2d(3, 2, 1), nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)]
    names = ["a b", "a_b", "A_B", "é" * 400]

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            for name, layer in zip(names, layers, strict=True):
                self.add_module(name, layer)

        def forward(self, x):
            for layer in layers:
                x = layer(x)
            return x

    report(unconv.Network(Named().eval()), IMAGE, tmp_path, Request(names, "all"), lambda *_: None)
    assert_whole(tmp_path)
    assert len(list((tmp_path / "units").iterdir())) == 8


def test_several_pictures_of_one_name_have_each_a_folder_and_a_second_run_replaces_them(tmp_path):
    images = [tmp_path / folder / name for folder in "ab" for name in ("same.png", "index.html.png")]
    images.append(tmp_path / "a" / "a #1 %20.png")
    for shade, image in enumerate(images):
        image.parent.mkdir(exist_ok=True)
        Image.new("RGB", (56, 40), (50 * shade, 90, 30)).save(image)
    for _ in range(2):
        reports(small(), images, tmp_path / "out", Request(("1",), "top:1"), lambda *_: None)
        assert_whole(tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*/index.html"))) == 5
    (tmp_path / "out" / "same" / "mine.txt").write_text("mine")
    reports(small(), images[:1], tmp_path / "out", Request(("1",), "top:1"), lambda *_: None)
    assert (tmp_path / "out" / "same" / "mine.txt").read_text() == "mine"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["index.html", "numbers.json", "same", "style.css"]


RUN = """
import sys
from pathlib import Path
import torch
from report.test_report import small
from unconv.report import Request, report
torch.set_num_threads(1)
network = small()
image = torch.rand(3, 40, 56, generator=torch.Generator().manual_seed(int(sys.argv[1])))
while True:
    report(network, image, Path("out"), Request(channels="all"), lambda *_: None)
    print("whole", flush=True)
"""


@pytest.mark.slow
def test_kill_9_at_any_time_leaves_a_whole_report(tmp_path):
    chance = random.Random(0)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    found = []
    for trial in range(5):
        command = [sys.executable, "-c", RUN, str(trial % 3)]
        with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE) as run:
            assert run.stdout.readline() == b"whole\n"
            time.sleep(chance.uniform(0, 0.6))
            run.send_signal(signal.SIGKILL)
        assert_whole(tmp_path / "out")
        found.append(len(list(tmp_path.iterdir())))
    assert set(found) <= {1, 2}  # beside the report at most the rest of one run


def test_a_list_that_is_none_of_ours_is_no_list_and_does_not_hold_us_up(tmp_path):
    ours = {"version": "1", "network": "n"}
    hostile = [
        {
            "layers": [
                {"units": 5},
                {"units": None},
                {"units": [{"page": "units/" + "x" * 300 + ".html"}, {"page": "units/a.html"}]},
            ]
        },
        {"pictures": [".", "..", "loop", "x" * 300, "\ud800", 3]},
        {"layers": 3},
    ]
    (tmp_path / "loop").symlink_to(tmp_path)
    for numbers in hostile:
        (tmp_path / "numbers.json").write_text(json.dumps({**ours, **numbers}))
        found = listed(tmp_path)
        assert all(len(part) <= 255 for name in found for part in name.split("/"))
        assert "units/a.html" in found or "units/a.html" not in str(numbers)
    (tmp_path / "numbers.json").unlink()
    os.mkfifo(tmp_path / "numbers.json")
    assert listed(tmp_path) == set()
