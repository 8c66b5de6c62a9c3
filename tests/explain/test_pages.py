"""The page of an explanation in a browser: on a projector, on a phone, by mouse and by keyboard."""

from __future__ import annotations

import json
import re

import pytest
import torch

from cases.browser import CHROMIUM
from unconv import explain, ops
from unconv.explain.layout import TALL, WIDE, plan

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Debian's chromium is not installed"),
]


def counting(*shape):
    values = torch.arange(1.0, 1 + torch.tensor(shape).prod().item())
    return values.reshape(*shape)


def conv(size, kernel=3, inside=1, **more):
    shape = (1, 2 * size, 2 * size, 1)
    return ops.explain_conv2d_transpose(counting(1, size, size, inside), counting(kernel, kernel, 1, inside), shape, 2, **more)


STORIES = {
    "classic": lambda: conv(2),
    "kernel of seven": lambda: conv(4, 7, language="zh"),
    "large": lambda: conv(14),
    "stamps": lambda: conv(4, view="scatter"),
    "matrices": lambda: conv(3, view="matrix"),
    "both ways": lambda: conv(3, view="forward"),
    "channels": lambda: conv(2, inside=3, view="channels"),
    "one axis": lambda: explain.explain_exercise("digits", view="scatter"),
    "unpool": lambda: explain.explain_exercise("unpool"),
}


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    for name, story in STORIES.items():
        story().save(folder / f"{name}.html")
    return folder


SCREENS = {"projector": (1280, 720, "light"), "phone": (390, 844, "dark")}


BOXES = """name => {
  const drawing = document.querySelector(`#story > svg.${name}`);
  const parts = [...document.querySelectorAll("#step, #play, #caption"), drawing, ...drawing.querySelectorAll(".cards .live")];
  parts.push(...[...drawing.querySelectorAll(".marks rect")].filter(mark => Number(mark.getAttribute("width"))));
  const letters = [...drawing.querySelectorAll("text")].filter(text => text.textContent);
  return [parts.map(part => part.getBoundingClientRect()).map(box => [box.left, box.top, box.right, box.bottom]),
    Math.min(...letters.map(text => text.getBoundingClientRect().height)), document.documentElement.scrollWidth];
}"""


@pytest.mark.parametrize("screen", SCREENS)
def test_slider_window_and_result_stand_on_one_screen(browser, pages, screen):
    width, height, scheme = SCREENS[screen]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    for name in STORIES:
        page.goto((pages / f"{name}.html").as_uri())
        boxes, letters, scrolled = page.evaluate(BOXES, "wide" if screen == "projector" else "tall")
        assert len(boxes) > 4
        assert all(0 <= left <= right <= width and 0 <= top <= bottom <= height for left, top, right, bottom in boxes), name
        assert scrolled <= width
        assert letters >= 8, name
    page.close()


def shown_by(page, drawing):
    """The words of the cells of cards and crops, and the boxes of the marks, as the page has them."""
    return page.evaluate(
        """name => [...document.querySelectorAll(`.${name} .live`)].map(group => [group.dataset.panel,
        [...group.querySelectorAll("text")].map(text => text.textContent)])""",
        drawing,
    )


@pytest.mark.parametrize("drawing, paper", [("wide", WIDE), ("tall", TALL)])
def test_each_step_shows_what_a_page_that_begins_there_shows(browser, pages, tmp_path, drawing, paper):
    explanation = STORIES["large"]()
    assert any(plan(explanation.story(), paper).cropped(n, panel) for n, panel in enumerate(explanation.story().panels))
    page, errors = browser.new_page(), []
    page.on("pageerror", lambda error: errors.append(error))
    page.goto((pages / "large.html").as_uri())
    page.locator("#step").fill("500")
    stepped = shown_by(page, drawing), page.locator(f".{drawing} .marks").inner_html()
    explanation.save(tmp_path / "there.html", divmod(500, 28))
    page.goto((tmp_path / "there.html").as_uri())
    assert shown_by(page, drawing) == stepped[0]
    box = re.compile(r'x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"')
    marks = [
        [tuple(map(float, numbers)) for numbers in box.findall(html)]
        for html in (stepped[1], page.locator(f".{drawing} .marks").inner_html())
    ]
    assert [mark for mark in marks[0] if mark[2]] == [mark for mark in marks[1] if mark[2]]
    assert not errors
    page.close()


def test_keys_lead_through_the_steps(browser, pages):
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    page.goto((pages / "stamps.html").as_uri())
    said = [frame.caption for frame in STORIES["stamps"]().story().frames]

    def press(key):
        page.keyboard.press(key)
        return page.locator("#caption").inner_text()

    assert page.locator("#caption").inner_text() == said[0]
    assert [press(key) for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "End", "ArrowRight", "Home")] == [
        said[number] for number in (1, 2, 1, 15, 15, 0)
    ]
    page.locator("#step").focus()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert [press(key) for key in ("ArrowDown", "ArrowRight", "ArrowUp")] == [said[4], said[5], said[1]]
    assert page.locator("#step").get_attribute("aria-valuetext") == "Step 2 of 16"
    page.keyboard.press("Space")
    assert page.locator("#play").inner_text() == "Pause"
    page.wait_for_function(f"document.getElementById('caption').textContent === {json.dumps(said[2])}")
    page.keyboard.press("Space")
    assert page.locator("#play").inner_text() == "Play"
    page.close()


def test_nothing_glides_where_motion_is_not_wanted(browser, pages):
    for preference, time in (("no-preference", "0.12s"), ("reduce", "0s")):
        page = browser.new_page(reduced_motion=preference)
        page.goto((pages / "classic.html").as_uri())
        style = page.evaluate("getComputedStyle(document.querySelector('.marks rect')).transitionDuration")
        assert style.split(",")[0] == time
        page.close()
