"""Going from page to page: by keys, from a list of contents, and where places have awkward names."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn

import unconv
from cases.browser import CHROMIUM
from unconv.report import Request, report


def body(first: str, second: str) -> unconv.Network:
    """A network whose rectifiers have these names."""
    torch.manual_seed(0)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["c"], layers[first], layers["d"], layers[second] = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU()
    return unconv.Network(nn.Sequential(layers).eval(), input_size=(3, 40, 56))


def write(network, folder, channels="top:2"):
    image = torch.rand(3, 40, 56, generator=torch.Generator().manual_seed(1))
    return report(network, image, folder, Request(channels=channels), lambda *_: None)


def test_places_whose_names_are_alike_as_files_both_have_pages(tmp_path):
    numbers = write(body("a/b", "a_b"), tmp_path)
    pages = [unit["page"] for layer in numbers["layers"] for unit in layer["units"]]
    assert [layer["place"] for layer in numbers["layers"]] == ["a/b", "a_b"]
    assert len(set(pages)) == 4
    for layer in numbers["layers"]:
        for unit in layer["units"]:
            assert f"<h1><code>{layer['place']}</code>" in (tmp_path / unit["page"]).read_text()


def test_markup_in_the_name_of_a_module_is_text_on_every_page(tmp_path):
    write(body("<img src=x onerror=alert(1)>", "<script>1</script>"), tmp_path)
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) == 5
    for page in pages:
        assert "<img src=x" not in page.read_text() and "<script>" not in page.read_text()
    assert "&lt;script&gt;1&lt;/script&gt;" in (tmp_path / "index.html").read_text()


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason="Debian's chromium is not installed")
def test_arrow_keys_lead_from_unit_to_unit_and_contents_to_their_layers(tmp_path):
    from playwright.sync_api import sync_playwright

    numbers = write(body("first", "second"), tmp_path, "all")
    units, last = numbers["layers"][0]["units"], numbers["layers"][1]
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.goto((tmp_path / units[0]["page"]).as_uri())
        for key, reached in (("ArrowRight", units[1]), ("ArrowLeft", units[0])):
            page.keyboard.press(key)
            page.wait_for_url((tmp_path / reached["page"]).as_uri())
        page.goto((tmp_path / "index.html").as_uri())
        page.locator(f'.layers a[href="#{last["anchor"]}"]').click()
        page.wait_for_load_state("networkidle")
        top = page.locator(f'[id="{last["anchor"]}"]').bounding_box()["y"]
        browser.close()
    assert 0 <= top < 200
