"""The commands on data sets, from outside."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from cases.scans import save_pictures

pytest.importorskip("pyarrow")


@pytest.fixture
def folder(tmp_path, unconv_command):
    save_pictures(tmp_path / "p", 12, side=100)
    status, out, _ = unconv_command("index", "unconv:caltech", tmp_path / "p", "-o", tmp_path / "i", "--at", "features.3", "-q")
    assert status == 0
    assert "32 units of 1 place, " in out and "over 12 of 12 pictures" in out
    return tmp_path / "i"


def test_random_weights_are_warned_of(tmp_path, unconv_command):
    save_pictures(tmp_path / "p", 2, side=64)
    status, _, err = unconv_command(
        "index", "torchvision:squeezenet1_1", tmp_path / "p", "-o", tmp_path / "i", "--at", "features.1"
    )
    assert status == 0 and "figure, site and serve cannot open this network again" in " ".join(err.split())


def test_what_was_scanned_is_listed_and_drawn(folder, unconv_command):
    status, out, _ = unconv_command("top", folder)
    assert status == 0 and "features.3" in out
    status, out, _ = unconv_command("top", folder, "--at", "features.3", "--channel", "4", "--json")
    assert [entry["rank"] for entry in json.loads(out)] == list(range(9))
    status, out, err = unconv_command("figure", folder, "--at", "features.3", "--channels", "random:2", "-o", folder / "f.png")
    assert status == 0 and "units drawn with seed 0: features.3" in err
    with Image.open(folder / "f.png") as picture:
        assert picture.width > 300


@pytest.mark.parametrize("name", ["f.pdf", "f.svg"])
def test_figures_are_written_for_papers(folder, unconv_command, name):
    pytest.importorskip("matplotlib")
    status, _, _ = unconv_command("figure", folder, "--at", "features.3", "--channels", "1,2", "-o", folder / name)
    assert status == 0
    assert (folder / name).stat().st_size > 1000


def test_units_stand_in_as_many_rows_as_asked_for(folder, unconv_command):
    sizes = {}
    for rows in (1, 2, 4):
        out = folder / f"{rows}.png"
        command = ("figure", folder, "--at", "features.3", "--channels", "1,2,3,4", "-n", "4", "-o", out)
        assert unconv_command(*command, "--rows", rows)[0] == 0
        with Image.open(out) as drawn:
            sizes[rows] = drawn.size
    (w1, h1), (w2, h2), (w4, h4) = sizes.values()
    assert w1 > 1.8 * w2 > 3.2 * w4 and h4 > 1.8 * h2 > 3.2 * h1


def test_a_scan_goes_on_with_or_without_being_asked(folder, unconv_command):
    made = (folder / "index.parquet").read_bytes()
    status, out, _ = unconv_command(
        "index", "unconv:caltech", folder.parent / "p", "-o", folder, "--at", "features.3", "--resume"
    )
    assert status == 0 and "over 12 of 12 pictures" in out
    assert (folder / "index.parquet").read_bytes() == made


def test_damaged_pictures_make_the_status_1_unless_they_may_be_skipped(tmp_path, unconv_command):
    files = save_pictures(tmp_path / "p", 6, side=100)
    files[2].write_bytes(files[2].read_bytes()[:200])
    command = ("index", "unconv:caltech", tmp_path / "p", "-o", tmp_path / "i", "--at", "features.3")
    status, out, err = unconv_command(*command)
    assert status == 1 and "over 5 of 6 pictures" in out and f"not read: class1/{files[2].name}" in err
    status, out, _ = unconv_command(*command, "--skip-damaged", "--json")
    assert status == 0
    assert [each["key"] for each in json.loads(out)["damaged"]] == [f"class1/{files[2].name}"]


def test_parts_say_that_they_are_not_all(tmp_path, unconv_command):
    save_pictures(tmp_path / "p", 3, side=100)
    command = ("index", "unconv:caltech", tmp_path / "p", "-o", tmp_path / "i", "--at", "features.3", "--part")
    status, _, err = unconv_command(*command, "2/2")
    assert status == 0 and "part 2/2 is done; the index is written when all parts are" in err
    status, out, _ = unconv_command(*command, "1/2")
    assert status == 0 and "wrote" in out


@pytest.mark.parametrize("channels", ["all", "3-5", ""])
def test_channels_that_name_none_are_refused(folder, unconv_command, channels):
    status, _, err = unconv_command("figure", folder, "--at", "features.3", "--channels", channels, "-o", folder / "f.png")
    assert status == 1 and "numbers such as 3,17" in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--devices", "tpu"), "devices: 'tpu' came, but there are cpu"),
        (("--cores", "0"), "cores: 0 came"),
        (("--ray", "local", "--devices", "cuda:1"), "on Ray a kind was needed"),
    ],
)
def test_devices_that_are_not_there_are_refused(tmp_path, unconv_command, options, said):
    save_pictures(tmp_path / "p", 3, side=100)
    status, _, err = unconv_command("index", "unconv:caltech", tmp_path / "p", "-o", tmp_path / "i", *options)
    assert status == 1 and said in err
    assert not (tmp_path / "i").exists()


def test_a_site_is_written_packed_and_refused_where_something_else_is(folder, tmp_path, unconv_command):
    status, out, err = unconv_command("site", folder, "-o", tmp_path / "site", "-n", "2", "--zip")
    assert status == 0, err
    assert "site/index.html" in out and (tmp_path / "site.zip").exists()
    assert (tmp_path / "site" / "features.3" / "0.html").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("mine")
    status, _, err = unconv_command("site", folder, "-o", tmp_path / "mine")
    assert status == 1 and "something other than a site of unconv" in err
