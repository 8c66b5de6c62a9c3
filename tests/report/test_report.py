"""The pages: what they say, that they stand alone, and how they look in a browser."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

import unconv
from cases.browser import CHROMIUM
from unconv.box import demo_pictures
from unconv.render.page import number
from unconv.report import Request, report, reports
from unconv.report.layer import Layer


class Links(HTMLParser):
    """Every file that a page asks for, and its words."""

    def __init__(self, page: Path):
        super().__init__()
        self.found, self.words, self.tags = [], [], []
        self.feed(page.read_text())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.found += [value for name, value in attributes if name in ("src", "href") and value]

    def handle_data(self, data):
        self.words.append(data)


def small() -> unconv.Network:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 12, 3, padding=1), nn.ReLU()]
    return unconv.Network(nn.Sequential(*layers).eval(), input_size=(3, 40, 56))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    picture = folder / "a & <b>.png"
    pixels = torch.rand(60, 80, 3, generator=torch.Generator().manual_seed(1))
    Image.fromarray((pixels * 255).byte().numpy()).save(picture)
    numbers = report(small(), picture, folder / "out", Request(), lambda *_: None)
    return folder / "out", numbers


def pages(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.html"))


def test_there_is_a_page_for_every_unit_of_every_rectified_convolution(written):
    folder, numbers = written
    assert [layer["place"] for layer in numbers["layers"]] == ["1", "4"]
    assert [len(layer["units"]) for layer in numbers["layers"]] == [8, 9]
    assert len(list((folder / "units").glob("*.html"))) == 17


def test_every_link_leads_to_a_file_beside_it(written):
    folder, _ = written
    for page in pages(folder):
        for link in Links(page).found:
            if not link.startswith(("data:", "#")):
                assert (page.parent / link.split("#")[0]).is_file(), f"{page.name}: {link}"


def test_the_pages_need_neither_network_nor_javascript(written):
    folder, _ = written
    for page in [*pages(folder), folder / "style.css"]:
        assert "http" not in page.read_text()
        if page.suffix != ".css":  # the arrow keys of a unit's page are all that a script does
            links = Links(page)
            scripts = [link for link in links.found if link.endswith(".js")]
            assert scripts == (["../keys.js"] if page.parent.name == "units" else [])
            assert links.tags.count("script") == len(scripts)


def test_the_json_has_every_number_and_is_what_was_returned(written):
    folder, numbers = written
    assert json.loads((folder / "numbers.json").read_text()) == numbers
    unit = numbers["layers"][1]["units"][0]
    assert unit["signals"][0]["place"] == "4" and unit["signals"][-1]["place"] == "0"
    assert unit["signals"][0]["peak"] == pytest.approx(unit["activation"])
    assert unit["box"] == [unit["position"][0] * 2 - 3, unit["position"][1] * 2 - 3, *unit["box"][2:]]


def test_the_page_states_scale_activation_field_and_method(written):
    folder, numbers = written
    unit = numbers["layers"][1]["units"][0]
    words = " ".join(Links(folder / unit["page"]).words)
    assert f"channel {unit['channel']}" in words and "deconvnet" in words and "8 × 8 pixels" in words
    assert f"{unit['activation']:.3g}" in words and "mid-grey is 0" in words


def test_a_file_name_with_markup_is_shown_and_not_obeyed(written):
    folder, _ = written
    assert "a & <b>.png" in " ".join(Links(folder / "index.html").words)
    assert "<b>" not in (folder / "index.html").read_text()


def test_tiles_outside_the_picture_are_transparent(written):
    folder, numbers = written
    edge = next(u for u in numbers["layers"][0]["units"] if min(u["box"][:2]) < 0 or u["box"][2] > 40 or u["box"][3] > 56)
    tile = Image.open(folder / edge["patch"])
    assert tile.mode == "RGBA" and tile.getextrema()[3] == (0, 255)


def test_a_dead_layer_still_makes_a_page(tmp_path):
    network = small()
    with torch.no_grad():
        network.module[3].bias.fill_(-1e6)
    numbers = report(network, torch.rand(3, 40, 56), tmp_path, Request(channels="top:2"), lambda *_: None)
    assert numbers["layers"][1]["scale"] == 0.0
    tile = Image.open(tmp_path / numbers["layers"][1]["units"][0]["large"]).convert("L")
    assert {shade for _, shade in tile.getcolors()} <= {0, 128}


def test_maps_positions_and_vectors_make_pages_too(tmp_path):
    network = unconv.Network(nn.Sequential(*small().module, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5)).eval())
    image = torch.rand(3, 40, 56)
    report(network, image, tmp_path / "map", Request(("4",), "all", "map"), lambda *_: None)
    report(network, image, tmp_path / "one", Request(("4",), [3], (2, 3), "guided"), lambda *_: None)
    numbers = report(network, image, tmp_path / "class", Request(("7",), "top:2"), lambda *_: None)
    assert numbers["layers"][0]["units"][0]["box"] == [0, 0, 40, 56]


def test_several_pictures_share_an_index_that_leads_there_and_back(tmp_path):
    pictures = [tmp_path / "one.png", tmp_path / "two.png"]
    for shade, picture in enumerate(pictures):
        Image.new("RGB", (56, 40), (100 * shade, 90, 30)).save(picture)
    reports(small(), pictures, tmp_path / "out", Request(channels="top:1"), lambda *_: None)
    assert "two/index.html" in Links(tmp_path / "out" / "index.html").found
    assert "../index.html" in Links(tmp_path / "out" / "two" / "index.html").found


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason="Debian's chromium is not installed")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_without_javascript_shows_every_picture_and_fits_a_telephone(written, scheme):
    from playwright.sync_api import sync_playwright

    folder, numbers = written
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        context = browser.new_context(java_script_enabled=False, color_scheme=scheme, viewport={"width": 390, "height": 800})
        page = context.new_page()
        for path in (folder / "index.html", folder / numbers["layers"][1]["units"][0]["page"]):
            page.goto(path.as_uri())
            page.wait_for_load_state("networkidle")
            sizes = page.locator("body").bounding_box()
            assert sizes["width"] <= 390
        dark = page.screenshot()
        browser.close()
    corner = Image.open(__import__("io").BytesIO(dark)).convert("L").getpixel((2, 2))
    assert (corner < 60) == (scheme == "dark")


def test_the_stylesheet_has_both_schemes(written):
    folder, _ = written
    assert re.search(r"prefers-color-scheme: dark", (folder / "style.css").read_text())


@pytest.mark.parametrize(
    "value, text",
    [(1530.4, "1,530"), (0.01760, "0.0176"), (-3.0, "−3"), (0.0, "0"), (2.5e-7, "2.5e−07"), (14500, "14,500"), (1e9, "1e+09")],
)
def test_numbers_have_three_digits_and_few_exponents(value, text):
    assert number(value) == text


@pytest.mark.parametrize("name", ["index.html", "numbers.json", "picture.png", "style.css"])
def test_a_file_that_is_not_ours_is_not_written_over(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(unconv.UnconvError, match=f"{name} was not made by unconv"):
        report(small(), torch.rand(3, 40, 56), tmp_path, Request(), lambda *_: None)
    assert (tmp_path / name).read_text() == "mine"


def test_a_second_report_replaces_the_first_and_a_refused_one_leaves_it(tmp_path):
    image = torch.rand(3, 40, 56)
    report(small(), image, tmp_path, Request(("1",), [3]), lambda *_: None)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(unconv.NoSuchLayer):
        report(small(), image, tmp_path, Request(("nowhere",)), lambda *_: None)
    assert sorted(tmp_path.rglob("*")) == before
    report(small(), image, tmp_path, Request(("4",), [2]), lambda *_: None)
    assert [page.name for page in (tmp_path / "units").iterdir()] == ["4_0001_channel_2.html"]


def test_a_run_that_is_stopped_leaves_what_it_wrote_whole(tmp_path, monkeypatch):
    network, image = small(), torch.rand(3, 40, 56, generator=torch.Generator().manual_seed(1))
    calls = []

    def stop(what, done, total):
        calls.append(what)
        if calls.count("4") == 4:  # once before the layer's first unit
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        report(network, image, tmp_path, Request(), stop)
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert [(layer["place"], len(layer["units"])) for layer in numbers["layers"]] == [("1", 8), ("4", 3)]
    assert "ended before all" in (tmp_path / "index.html").read_text()
    for page in pages(tmp_path):
        for link in Links(page).found:
            if not link.startswith(("data:", "#")):
                assert (page.parent / link.split("#")[0]).is_file(), f"{page.name}: {link}"


def test_a_unit_that_fails_leaves_what_was_written_whole(tmp_path, monkeypatch):
    take, calls = Layer.take, []

    def fail(layer, arrival):
        calls.append(arrival)
        if len(calls) == 11:
            raise unconv.NonFinite("too large")
        take(layer, arrival)

    monkeypatch.setattr(Layer, "take", fail)
    image = torch.rand(3, 40, 56, generator=torch.Generator().manual_seed(1))
    with pytest.raises(unconv.NonFinite):
        report(small(), image, tmp_path, Request(), lambda *_: None)
    assert len(list(tmp_path.glob("tiles/*_projection.png"))) == 10
    for page in pages(tmp_path):
        for link in Links(page).found:
            assert link.startswith(("data:", "#")) or (page.parent / link.split("#")[0]).is_file()


@pytest.mark.slow
def test_several_pictures_that_are_stopped_have_their_page(tmp_path):
    for name in ("one", "two", "three"):
        Image.new("RGB", (56, 40), "red").save(tmp_path / f"{name}.png")

    def stop(what, done, total):
        if done > 1.5:
            raise KeyboardInterrupt

    images = [tmp_path / f"{name}.png" for name in ("one", "two", "three")]
    with pytest.raises(KeyboardInterrupt):
        reports(small(), images, tmp_path / "out", Request(), stop)
    links = [link for link in Links(tmp_path / "out" / "index.html").found if link.endswith("index.html")]
    assert links and all((tmp_path / "out" / link).is_file() for link in links)
    assert {Path(link).parts[0] for link in links} == {"one", "two"}


def test_half_precision_is_named_with_its_error(tmp_path):
    image = torch.rand(3, 40, 56, generator=torch.Generator().manual_seed(1))
    numbers = report(small(), image, tmp_path, Request(dtype="bfloat16"), lambda *_: None)
    assert numbers["dtype"] == "bfloat16" and all(0 < layer["error"] < 0.05 for layer in numbers["layers"])
    text = (tmp_path / "index.html").read_text()
    assert "way back in bfloat16" in text and "from float32" in text


def test_trust_of_maps_is_refused_before_anything_is_written(tmp_path):
    request = Request(("features.1",), "top:1", "map", trust=True)
    with pytest.raises(unconv.ShapeError, match="trust: a map, a region or all channels together came"):
        report(unconv.load("unconv:caltech"), demo_pictures()[0], tmp_path / "out", request, lambda *_: None)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_unit_s_page_tells_how_far_to_trust_it(tmp_path):
    request = Request(("features.6",), "top:2", trust=True)
    numbers = report(unconv.load("unconv:caltech"), demo_pictures()[0], tmp_path, request, lambda *_: None)
    for unit in numbers["layers"][0]["units"]:
        text = (tmp_path / unit["page"]).read_text()
        assert "How far to trust it" in text and unit["trust"]["words"][0].split(".")[0] in text
        assert text.count('class="map"') == 2
