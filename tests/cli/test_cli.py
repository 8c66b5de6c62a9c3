"""The `unconv` command, outside in: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import unconv
from unconv import box, cli

TINY = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 7),
    )
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with a tiny network and a picture of an awkward name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.py").write_text(TINY)
    pixels = np.random.default_rng(0).integers(0, 256, (30, 44, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a <b> & 'c' #1?.png")
    return tmp_path


PICTURE = "a <b> & 'c' #1?.png"
PROJECT = ("project", "tiny.py:make", PICTURE, "--size", "24x32")


class Links(HTMLParser):
    """What a page points to, and the places in it that can be pointed to."""

    def __init__(self, path):
        super().__init__()
        self.targets, self.anchors = [], {""}
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        known = dict(attributes)
        self.targets += [known[name] for name in ("src", "href") if known.get(name)]
        self.anchors |= {known["id"]} if "id" in known else set()


def assert_all_links_resolve(folder, pages=()):
    """Every src and href of the pages, or of all, is a file below `folder`, and the part of it that is named exists."""
    pages = list(pages) or sorted(folder.rglob("*.html"))
    assert pages
    for page in pages:
        for target in Links(page).targets:
            url = urlsplit(target)
            if url.scheme == "data":
                continue
            assert (url.scheme, url.netloc) == ("", "")
            file = (page.parent / unquote(url.path)).resolve() if url.path else page
            assert file.is_file() and file.is_relative_to(folder.resolve()), f"{page}: {target}"
            assert not url.fragment or unquote(url.fragment) in Links(file).anchors, f"{page}: {target}"


def test_places_prints_only_json(here, unconv_command):
    status, out, err = unconv_command("places", "tiny.py:make", "--size", "24x32", "--json")
    expected = unconv.load("tiny.py:make", input_size=(3, 24, 32)).places()
    assert (status, err) == (0, "")
    assert json.loads(out) == json.loads(json.dumps([asdict(place) for place in expected]))


def test_places_prints_a_table_with_a_row_for_each_place(here):
    result = CliRunner().invoke(cli.app, ["places", "tiny.py:make", "--size", "24"])
    assert result.exit_code == 0
    rows = [line for line in result.output.splitlines() if line.startswith("│")]
    assert len(rows) == len(unconv.load("tiny.py:make", input_size=(3, 24, 24)).places())
    assert "conv" in rows[0]
    assert "24 × 24" in rows[0]


def test_project_writes_pages_whose_links_all_resolve(here, unconv_command):
    status, out, _ = unconv_command(*PROJECT, "-o", "pages")
    assert (status, out.splitlines()[0]) == (0, "wrote pages/index.html")
    assert_all_links_resolve(here / "pages")
    assert len(list((here / "pages" / "units").glob("*.html"))) == 4 + 5
    assert not list((here / "pages").rglob("*.partial"))


def test_a_pictures_name_is_no_markup(here, unconv_command):
    unconv_command(*PROJECT, "-o", "pages")
    for page in (here / "pages").rglob("*.html"):
        assert "<b>" not in page.read_text()
    assert "a &lt;b&gt; &amp; " in (here / "pages" / "index.html").read_text()


def test_project_prints_only_json_the_same_that_it_writes(here, unconv_command):
    status, out, err = unconv_command(*PROJECT, "--json", "--at", "4", "--channels", "top:2", "-o", "pages")
    numbers = json.loads(out)
    assert (status, err) == (0, "")
    assert numbers == json.loads((here / "pages" / "numbers.json").read_text())
    found = unconv.load("tiny.py:make", input_size=(3, 24, 32)).project(PICTURE, "4", "top:2")
    assert [(unit["channel"], *unit["position"]) for unit in numbers["layers"][0]["units"]] == found.units


@pytest.mark.parametrize(
    "options, units",
    [
        (["--channels", "3"], [(3,)]),
        (["--channels", "4, 0"], [(4,), (0,)]),
        (["--channels", "all", "--unit", "map"], [(channel, None, None) for channel in range(5)]),
        (["--channels", "1", "--unit", "2,3"], [(1, 2, 3)]),
        (["--channels", "1", "--unit", "2,3", "--method", "guided"], [(1, 2, 3)]),
    ],
)
def test_options_choose_the_units(here, unconv_command, options, units):
    status, out, _ = unconv_command(*PROJECT, "--json", "--at", "4", *options)
    found = [(unit["channel"], *unit["position"]) for unit in json.loads(out)["layers"][0]["units"]]
    assert (status, [unit[: len(wanted)] for unit, wanted in zip(found, units, strict=True)]) == (0, units)
    assert_all_links_resolve(here / "unconv-out")


@pytest.mark.slow
def test_a_place_without_maps_makes_pages_too(here, unconv_command):
    status, _, _ = unconv_command(*PROJECT, "--at", "7", "--at", "4", "-o", "pages")
    assert status == 0
    assert_all_links_resolve(here / "pages")


@pytest.mark.slow
def test_a_run_over_an_earlier_one_leaves_working_pages(here, unconv_command):
    unconv_command(*PROJECT, "-o", "pages")
    status, _, error = unconv_command(*PROJECT, "--at", "4", "--channels", "1", "-o", "pages")
    assert status == 0 and "replaced an earlier report in pages, " in error
    (layer,) = json.loads((here / "pages" / "numbers.json").read_text())["layers"]
    names = ["index.html", *(unit["page"] for unit in layer["units"])]
    assert len(names) == 2
    assert_all_links_resolve(here / "pages", [here / "pages" / name for name in names])


def test_options_change_the_preprocessing(here, unconv_command):
    options = ["--mean", "104,117,123", "--scale", "255", "--bgr", "--size", "8x12", "--resize", "12"]
    status, out, _ = unconv_command("project", "tiny.py:make", PICTURE, *options, "--json", "--at", "1", "--channels", "0")
    preprocess = unconv.Preprocess((8, 12), 12, (104.0, 117.0, 123.0), (1.0, 1.0, 1.0), 255, True)
    found = unconv.load("tiny.py:make", preprocess=preprocess).project(PICTURE, "1", 0)
    numbers = json.loads(out)
    assert (status, numbers["shown"]) == (0, [8, 12])
    assert numbers["layers"][0]["units"][0]["activation"] == pytest.approx(float(found.values[0]))


@pytest.mark.slow
def test_naming_a_networks_own_mean_changes_nothing(here, unconv_command):
    run = ("project", "torchvision:squeezenet1_1", PICTURE, "--at", "features.1", "--channels", "0")
    unconv_command(*run, "-o", "plain")
    unconv_command(*run, "-o", "named", "--mean", "0.485,0.456,0.406")
    assert (here / "plain" / "picture.png").read_bytes() == (here / "named" / "picture.png").read_bytes()


@pytest.mark.slow
def test_random_weights_are_said_to_be_random_but_not_into_the_json(here, unconv_command):
    run = ("project", "torchvision:squeezenet1_1", PICTURE, "--at", "features.1", "--channels", "0")
    assert "unconv: the weights are random, and so are the pictures" in unconv_command(*run)[2]
    status, out, err = unconv_command(*run, "--json")
    assert (status, err, json.loads(out)["weights"]) == (0, "", "random")


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((*PROJECT, "--at", "4", "--channels", "99"), "there is no channel 99; the place has 5"),
        ((*PROJECT, "--at", "4", "--channels", "top:0"), "'top:0' is not a choice"),
        ((*PROJECT, "--at", "4", "--unit", "99,0"), "(99, 0) is outside the map"),
        ((*PROJECT, "--method", "deconv"), "'deconv' is not a method"),
        ((*PROJECT, "--weights", "absent.pth"), "there is no weights file absent.pth"),
        (("project", "tiny.py:make", "absent.png"), "there is no file absent.png"),
        (("project", "tiny.py:make", "tiny.py"), "tiny.py is not a picture"),
        (("project", "tiny.py:make", PICTURE, "--size", "1"), "failed on an image of (1, 3, 1, 1)"),
        ((*PROJECT, "--mean", "0.5,0.5"), "--mean: got 2 values, but tiny.py:make takes 3 channels"),
        (("places", "tiny.py:maek"), "has no function 'maek'. Did you mean make"),
        (("places", "torchvision:vgg17"), "no model 'vgg17'. Did you mean vgg"),
        (("places", "vgg16"), "'vgg16' names no network. Pass unconv:caltech"),
        (("places", "vgg16"), "Did you mean torchvision:vgg16?"),
        (("places", "unconv:caltec"), "Did you mean unconv:caltech?"),
        (("places", "tiny.py"), "Name the function that returns the network, too: tiny.py:make"),
    ],
)
def test_what_is_refused_is_one_line_and_status_1(here, unconv_command, arguments, words):
    status, out, err = unconv_command(*arguments)
    assert (status, out) == (1, "")
    assert err.strip().startswith("unconv: ")
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_a_place_that_is_not_there_is_answered_with_three_that_are(here, unconv_command):
    status, _, err = unconv_command(*PROJECT, "--at", "features.4")
    assert (status, "the network has no place 'features.4'. Did you mean " in err) == (1, True)
    named = err.strip().removesuffix("?").rpartition("Did you mean ")[2].split(", ")
    assert len(set(named)) == 3
    assert set(named) <= {place.name for place in unconv.load("tiny.py:make").places()} | {"5", "6", "output"}


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("projekt",), "No such command 'projekt'"),
        (("project",), "Missing argument"),
        ((*PROJECT, "--colour"), "No such option"),
        ((*PROJECT, "--channels", "a"), "write all, top:9"),
        ((*PROJECT, "--unit", "a"), "write strongest, map"),
        ((*PROJECT, "--mean", "a"), "write numbers"),
        ((*PROJECT, "--resize", "a"), "--resize"),
        (("places", "tiny.py:make", "--size", "24x"), "is not a size; write 224 or 224x320"),
        (("places", "tiny.py:make", "--size", "0"), "is not a size"),
        (("places", "tiny.py:make", "--size", "8x8x8"), "is not a size"),
    ],
)
def test_wrong_usage_is_status_2(here, unconv_command, arguments, words):
    status, out, err = unconv_command(*arguments)
    assert (status, out) == (2, "")
    assert words in " ".join(err.replace("│", " ").split())
    assert not (here / "unconv-out").exists()


@pytest.mark.slow
def test_quiet_keeps_remarks_and_what_libraries_say_from_standard_error(here, unconv_command):
    (here / "chatty.py").write_text(
        TINY.replace("def make():", "import sys\n\ndef make():\n    print('loading', file=sys.stderr)")
    )
    for command in ("places", "check"):
        arguments = (command, "chatty.py:make", "--size", "24x32")
        assert unconv_command(*arguments)[2] == "loading\n"
        assert unconv_command(*arguments, "-q")[2] == ""
    options = ("project", "torchvision:squeezenet1_1", PICTURE, "--at", "features.1", "--channels", "0", "--dtype", "bfloat16")
    assert "weights are random" in (said := unconv_command(*options)[2]) and "bfloat16 differs" in said
    assert unconv_command(*options, "--quiet")[1:] == ("wrote unconv-out/index.html\n", "")
    assert "there is no channel 99" in unconv_command(*PROJECT, "-q", "--at", "4", "--channels", "99")[2]


@pytest.mark.parametrize(
    "option", [("--std", "0,0,0"), ("--resize", "-1"), ("--resize", "0"), ("--scale", "0"), ("--mean", "nan")]
)
def test_numbers_that_make_no_preprocessing_are_refused(here, unconv_command, option):
    status, out, err = unconv_command(*PROJECT, *option)
    assert (status in (1, 2), out) == (True, "")
    assert err.strip()


@pytest.mark.parametrize("out", ["tiny.py", "tiny.py/pages"])
def test_a_folder_that_cannot_be_made_is_refused_in_words(here, unconv_command, out):
    status, _, err = unconv_command(*PROJECT, "-o", out)
    assert (status in (1, 2), "tiny.py" in err) == (True, True)
    assert (here / "tiny.py").read_text() == TINY


def test_a_bug_is_not_taken_for_a_refusal(here, unconv_command):
    head = "from torch import nn\ndef make():\n    return Broken()\nclass Broken(nn.Module):\n"
    (here / "broken.py").write_text(f"{head}    def forward(self, x):\n        raise ZeroDivisionError('a bug')\n")
    with pytest.raises(ZeroDivisionError, match="a bug"):
        unconv_command("places", "broken.py:make")


def test_a_network_without_a_rectified_convolution_asks_for_places(here, unconv_command):
    (here / "linear.py").write_text("from torch import nn\ndef make():\n    return nn.Conv2d(3, 2, 3)\n")
    status, _, err = unconv_command("project", "linear.py:make", PICTURE, "--size", "24")
    assert (status, "has no rectified convolution. Name places" in err) == (1, True)


@pytest.mark.skipif(not box.WEIGHTS.is_file(), reason="the network in the box is not trained yet")
def test_half_precision_is_said_with_its_error_on_standard_error(here, unconv_command):
    status, _, said = unconv_command(*PROJECT, "-o", "out", "--dtype", "bfloat16")
    assert status == 0 and "bfloat16 differs from float32 by up to" in said
    assert json.loads((here / "out/numbers.json").read_text())["dtype"] == "bfloat16"


def test_a_run_stopped_from_the_keyboard_ends_with_130_and_whole_pages(here, unconv_command, monkeypatch):
    from unconv.report.layer import Layer

    take, calls = Layer.take, []

    def stop(layer, arrival):
        take(layer, arrival)
        calls.append(arrival)
        if len(calls) == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(Layer, "take", stop)
    status, _, said = unconv_command(*PROJECT, "-o", "out", "--channels", "all")
    assert status == 130 and "leads to the pages written" in said
    layers = json.loads((here / "out/numbers.json").read_text())["layers"]
    assert [len(layer["units"]) for layer in layers] == [4, 2]


@pytest.mark.slow
def test_bench_prints_a_table_with_a_row_for_each_place(here, unconv_command):
    status, words, _ = unconv_command("bench", "tiny.py:make", "--size", "24x32")
    assert status == 0
    assert all(word in words for word in ("units/s", "GFLOP/s", "share", "all", "in this run"))


@pytest.mark.slow
def test_bench_prints_only_json(here, unconv_command):
    options = ("--size", "24x32", "--dtype", "bfloat16", "--json")
    status, printed, _ = unconv_command("bench", "tiny.py:make", PICTURE, *options)
    numbers = json.loads(printed)
    assert status == 0 and [row["place"] for row in numbers["places"]] == ["1", "4"]
    assert numbers["convolution_rate"] > 0 and numbers["total"]["units"] == 9
    assert numbers["dtype"] == "bfloat16" and all(row["error"] is not None for row in numbers["places"])


@pytest.mark.slow
def test_demo_writes_a_page_for_each_photograph(here, unconv_command):
    status, out, err = unconv_command("demo", "--json", "-o", "pages")
    assert (status, err) == (0, "")
    names = {Path(numbers["picture"]).stem for numbers in json.loads(out)}
    assert names == {path.stem for path in box.demo_pictures()} - {"astronaut"}
    assert all((here / "pages" / name / "index.html").is_file() for name in names)
    assert_all_links_resolve(here / "pages")


@pytest.mark.parametrize("arguments", [["--help"], ["project", "--help"], ["places", "--help"], ["demo", "--help"]])
def test_help_is_printed(arguments):
    result = CliRunner().invoke(cli.app, arguments)
    assert (result.exit_code, "Usage: " in result.output) == (0, True)


def program(folder, *arguments):
    """The command in a process of its own."""
    code = "import sys\nfrom unconv.cli import main\nsys.argv[0] = 'unconv'\ntry:\n    main()\nfinally:\n"
    code += "    print('torch' in sys.modules, 'torchvision' in sys.modules, file=sys.stderr)\n"
    return subprocess.run([sys.executable, "-c", code, *arguments], cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.mark.slow
def test_help_and_wrong_usage_import_no_torch(tmp_path):
    for arguments, status in ((["--help"], 0), (["project", "--help"], 0), (["projekt"], 2)):
        ended = program(tmp_path, *arguments)
        assert ended.returncode == status
        assert ended.stderr.endswith("False False\n")


@pytest.mark.slow
def test_the_process_ends_with_status_1_and_one_line(here):
    ended = program(here, "places", "tiny.py:maek")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.splitlines()[0].startswith("unconv: load: tiny.py has no function 'maek'")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("quiet", [False, True])
def test_what_was_done_to_fit_weights_is_said_on_standard_error(here, unconv_command, quiet):
    model = runpy.run_path("tiny.py")["make"]()
    torch.save({"model": {f"module.{key}": value for key, value in model.state_dict().items()}}, "last.pth")
    status, out, err = unconv_command("places", "tiny.py:make", "--weights", "last.pth", *(["-q"] if quiet else []))
    assert (status, "weights last.pth (its model, without the prefix module.)" in " ".join(out.split())) == (0, True)
    assert err == ("" if quiet else "unconv: the prefix module. was removed from the names in last.pth.\n")
