"""A site in a browser, from its files: it shows what it should with and without JavaScript, in both schemes, on any width."""

from __future__ import annotations

from pathlib import Path

import pytest

import unconv
from cases.browser import CHROMIUM
from cases.sites import scan_strange, wide
from unconv.web import write_site

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Debian's chromium is not installed"),
]
PAGES = (
    "index.html",
    "act/index.html",
    "act/1.html",
    "act/2.html",
    "classes/3.html",
    "pictures/index.html",
    "pictures/0000.html",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browsed")
    index = scan_strange(folder)
    write_site(index, folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-background-networking"])
        yield browser
        browser.close()


def opened(browser, path: Path, **options):
    """A page, and the list that its errors go into."""
    page = browser.new_context(**options).new_page()
    errors = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("requestfailed", lambda request: errors.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_load_state("networkidle")
    return page, errors


@pytest.mark.parametrize("javascript", [True, False])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_kind_of_page_fits_and_has_no_error(site, browser, javascript, scheme):
    for name in PAGES:
        page, errors = opened(browser, site / name, java_script_enabled=javascript, color_scheme=scheme)
        for width in (390, 768, 1920):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.locator("body").bounding_box()["width"] <= width
            # Nothing reaches over the right edge, or the page scrolls sideways.
            assert page.locator("html").bounding_box()["width"] <= width
        assert errors == []
        page.context.close()


def test_the_keyboard_leads_from_the_front_page_to_a_unit_and_back(site, browser):
    page, errors = opened(browser, site / "index.html")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**/act/index.html")
    page.locator("#wall a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/act/0.html")
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**/act/1.html")
    page.keyboard.press("ArrowLeft")
    page.wait_for_url("**/act/0.html")
    page.locator("nav a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/site/index.html")
    assert errors == []
    page.context.close()


def test_a_frame_may_show_a_unit_s_pictures_alone(site, browser):
    page, errors = opened(browser, site / "act" / "0.html")
    page.goto(f"{(site / 'act' / '0.html').as_uri()}?embed")
    assert page.locator(".figure2").is_visible() and page.locator("h1").is_visible()
    assert not any(page.locator(name).first.is_visible() for name in ("nav", "section", "footer"))
    assert errors == []
    page.context.close()


def test_a_wall_is_ordered_and_filtered(site, browser):
    index = unconv.Index(site.parent / "index", network=wide())
    units = [unit for unit in index.units() if unit.place == "act"]
    page, _ = opened(browser, site / "act" / "index.html")

    def shown():
        return [int(n) for n in page.eval_on_selector_all("#wall > li:not([hidden])", "all => all.map(u => u.dataset.channel)")]

    assert shown() == [unit.channel for unit in units]
    page.select_option("#order", "strongest")
    live = sorted((unit for unit in units if not unit.dead), key=lambda unit: -unit.largest)
    assert shown() == [unit.channel for unit in live] + [unit.channel for unit in units if unit.dead]
    page.fill("#filter", "dead")
    assert shown() == [2]
    page.fill("#filter", "0, 4")
    assert sorted(shown()) == [0, 4]
    assert page.text_content("#count") == "2 of 6"
    page.fill("#filter", "class:PLAIN")
    assert shown() == [unit.channel for unit in live]
    page.select_option("#order", "similarity")
    page.fill("#filter", "")
    assert sorted(shown()) == [unit.channel for unit in units]
    page.context.close()


def test_without_javascript_there_is_no_control_that_does_nothing(site, browser):
    page, _ = opened(browser, site / "act" / "index.html", java_script_enabled=False)
    assert not page.locator("#controls").is_visible()
    assert page.locator("#wall > li").count() == 6
    page.context.close()


def test_tiles_show_their_part_of_the_sheet(site, browser):
    page, _ = opened(browser, site / "act" / "1.html")
    positions = page.eval_on_selector_all(".nine .b", "all => all.map(tile => getComputedStyle(tile).backgroundPosition)")
    assert len(set(positions)) == len(positions) == 18
    sizes = page.eval_on_selector_all(".nine .b", "all => all.map(tile => tile.clientWidth / tile.clientHeight)")
    assert all(abs(ratio - 1) < 0.05 for ratio in sizes)
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing(site, browser, scheme, name):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page, _ = opened(browser, site / name, color_scheme=scheme)
    found = axe.Axe().run(page)
    assert [(each["id"], each["nodes"][0]["html"]) for each in found.response["violations"]] == []
    page.context.close()
