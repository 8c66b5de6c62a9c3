"""The live page in a browser: a picture is handed over, a part of it asked for, a unit kept, a method changed."""

from __future__ import annotations

import pytest

from cases.browser import CHROMIUM
from cases.servers import TOKEN, Server, picture_bytes
from cases.sites import scan_strange
from unconv.web import Live, write_site

pytest.importorskip("uvicorn")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Debian's chromium is not installed"),
]


_CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")  # a film of Chromium's own


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("live")
    index = scan_strange(folder)
    write_site(index, folder / "site")
    made = Server(Live(index.network, index), folder / "site")
    yield made
    made.close()


@pytest.fixture
def page(server):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-background-networking", *_CAMERA]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 900}, permissions=["camera"])
        errors = []
        # A browser notes refusals, too: those are answers that were wanted.
        page.on("console", lambda note: errors.append(note.text) if note.type == "error" and "422" not in note.text else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"http://127.0.0.1:{server.port}/live?token={TOKEN}")
        page.wait_for_selector("#method option", state="attached")
        yield page
        assert errors == []
        browser.close()


def hand_over(page, name="one.png", seed=0):
    page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": picture_bytes(seed=seed)})
    page.wait_for_selector(f'#picture[alt="{name}"]')
    page.wait_for_selector("body[data-milliseconds]")


def asked(page, act):
    """What the unit's answer is, after something was done."""
    with page.expect_response(lambda answer: answer.url.split("?")[0].split("/")[-1].isdigit()) as waiting:
        act()
    return waiting.value


def test_a_picture_shows_its_units_and_a_click_its_projection(page):
    hand_over(page)
    assert page.locator("#places > li").count() == 3
    first = page.locator("#places button").first
    answer = asked(page, first.click)
    assert answer.ok and "token" not in page.url
    page.wait_for_function("() => document.getElementById('name').textContent.startsWith('act, channel')")
    assert page.locator("#nine .nine").count() == 2
    assert page.locator("#marks .sees").count() == 1
    page.locator("#down summary").click()
    page.wait_for_selector("#way li")


def test_a_unit_that_is_kept_is_shown_in_the_next_picture(page):
    hand_over(page)
    asked(page, page.locator("#places > li").nth(1).locator("button").last.click)
    name = page.text_content("#name")
    page.check("#freeze")
    before = page.get_attribute("#projection", "src")
    asked(page, lambda: hand_over(page, "two.png", 9))
    assert page.text_content("#name") == name
    page.wait_for_function("before => document.getElementById('projection').src !== before", arg=before)


def test_a_method_is_changed(page):
    hand_over(page)
    answer = asked(page, lambda: page.select_option("#method", "gradient"))
    assert answer.json()["method"] == "gradient"


def test_a_part_of_the_picture_is_asked_for_and_left_again(page):
    hand_over(page)
    frame = page.locator("#drop").bounding_box()
    x, y = frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    with page.expect_response(lambda answer: "region=" in answer.url) as waiting:
        page.mouse.move(x + 60, y + 40)
        page.mouse.up()
    y0, x0, y1, x1 = map(int, waiting.value.url.split("region=")[1].split(","))
    assert y0 < y1 and x0 < x1
    page.click("#whole")
    page.wait_for_selector("#marks .region", state="detached")


def test_a_part_of_the_picture_is_asked_for_with_the_keyboard(page):
    hand_over(page)
    page.focus("#drop")
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "+"):
        page.keyboard.press(key)
    height, width = (float(page.get_attribute("#marks .region", name)) for name in ("height", "width"))
    with page.expect_response(lambda answer: "region=" in answer.url) as waiting:
        page.keyboard.press("Enter")
    y0, x0, y1, x1 = map(int, waiting.value.url.split("region=")[1].split(","))
    assert (y1 - y0, x1 - x0) == (height, width)
    assert y0 + y1 < 24 < x0 + x1, "above the middle of 24 pixels, and right of it"
    for key in ("-", *("ArrowLeft",) * 40):
        page.keyboard.press(key)
    assert page.get_attribute("#marks .region", "x") == "0"
    page.keyboard.press("Escape")
    page.wait_for_selector("#marks .region", state="detached")


def test_trust_is_told_when_it_is_looked_at(page):
    hand_over(page)
    with page.expect_response(lambda answer: "/trust?" in answer.url) as waiting:
        page.click("#judged summary")
    page.wait_for_selector("#trust li")
    assert page.locator("#trust li").all_text_contents() == waiting.value.json()["words"]


def test_a_unit_is_kept_while_the_camera_runs(page):
    hand_over(page)
    asked(page, page.locator("#places > li").nth(1).locator("button").first.click)
    name = page.text_content("#name")
    page.check("#freeze")
    page.click("#camera")
    page.wait_for_selector('#picture[alt="camera"]')
    first = page.get_attribute("#picture", "src")
    page.wait_for_function("before => document.getElementById('picture').src !== before", arg=first)
    assert page.text_content("#name") == name and page.locator("#unit").is_visible()
    page.click("#camera")
    page.wait_for_function("() => document.getElementById('camera').textContent === 'Camera'")
    page.wait_for_function("() => document.getElementById('state').textContent === ''")


def test_without_keeping_a_unit_the_camera_shows_no_old_one(page):
    hand_over(page)
    page.click("#camera")
    page.wait_for_selector('#picture[alt="camera"]')
    page.wait_for_selector("#unit", state="hidden")
    page.click("#camera")
    page.wait_for_function("() => document.getElementById('camera').textContent === 'Camera'")


def test_what_is_no_picture_is_said(page):
    page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": b"none"})
    page.wait_for_function("() => document.getElementById('state').textContent.includes('not a picture')")


def test_a_unit_s_page_leads_to_it_in_a_picture_of_one_s_own(page, server):
    page.goto(f"http://127.0.0.1:{server.port}/act/1.html")
    page.click(".way-in a")
    page.wait_for_selector("#freeze:checked")
    hand_over(page)
    assert page.text_content("#name") == "act, channel 1"


@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_and_axe_finds_nothing(page, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    hand_over(page)
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    found = axe.Axe().run(page)
    assert [(each["id"], each["nodes"][0]["html"]) for each in found.response["violations"]] == []
