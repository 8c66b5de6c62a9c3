"""The explanations: that their steps are true, and that what is drawn, written and said is what they are."""

from __future__ import annotations

import io
import json
import re
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from PIL import Image

from cases.browser import CHROMIUM
from cases.ops import calls, exactly, law, randn
from unconv import NonFinite, NoSuchUnit, ShapeError, ops
from unconv.explain.story import KINDS


def counting(*shape):
    values = torch.arange(1.0, 1 + torch.tensor(shape).prod().item())
    return values.reshape(*shape)


def classic(**settings):
    """[[1, 2], [3, 4]] with a 3 × 3 kernel of 1 to 9."""
    arguments = {"output_shape": (1, 4, 4, 1), "strides": 2, "padding": "SAME"} | settings
    return ops.explain_conv2d_transpose(counting(1, 2, 2, 1), counting(3, 3, 1, 1), **arguments)


@pytest.mark.slow
@law
@given(calls(most=2), some.integers(1, 2), some.integers(1, 2))
def test_the_four_steps_lead_to_the_transposed_convolution(call, inside, out):
    layout, axes, size, padding = call
    if layout.axes == 1:
        return
    small = [axis.small(n) for axis, n in zip(axes, size, strict=True)]
    x, filters = layout.back(randn(2, inside, *small)), randn(*(axis.kernel for axis in axes), out, inside, seed=1)
    rest = (layout.shape(2, size, out), [axis.stride for axis in axes], padding, layout.name, [axis.dilation for axis in axes])
    explanation = ops.explain_conv2d_transpose(x, filters, *rest)
    exactly(explanation.output, ops.conv2d_transpose(x, filters, *rest))
    assert torch.equal(explanation.flipped_filters, filters.flip(0, 1).transpose(-1, -2))
    inserted = layout.channels_first(explanation.zero_inserted)
    exactly(inserted[..., :: axes[0].stride, :: axes[1].stride], layout.channels_first(x))
    assert inserted.count_nonzero() == x.count_nonzero()
    exactly(ops.conv2d(explanation.padded, explanation.flipped_filters, 1, "VALID", layout.name, rest[-1]), explanation.output)
    ones = ops.explain_conv2d_transpose(
        torch.ones_like(x[:1]),
        torch.ones_like(filters[..., :1, :]),
        layout.shape(1, size, 1),
        *rest[1:],
    )
    assert torch.equal(layout.channels_first(ones.output)[0, 0], explanation.hits.double() * inside)


@pytest.mark.parametrize(
    "kernel, stride, dilation, words",
    [
        (3, 2, 1, "2 and 1 in turn"),
        (4, 2, 1, None),
        (2, 3, 1, "1, 1 and 0 in turn"),
        (4, 2, 2, "Stride 2 and dilation 2 have a common divisor, so no kernel length avoids this"),
        (3, 2, 3, "With a kernel length that is a multiple of the stride, all receive the same number"),
        (3, 1, 1, None),
    ],
)
def test_a_checkerboard_is_warned_of_where_samples_are_reached_unevenly(kernel, stride, dilation, words):
    filters, size = torch.ones(kernel, kernel, 1, 1), 6 * stride
    explanation = ops.explain_conv2d_transpose(torch.ones(1, 6, 6, 1), filters, (1, size, size, 1), stride, dilations=dilation)
    middle = explanation.hits[stride * 2 : stride * 4, stride * 2 : stride * 4]
    assert (explanation.checkerboard is None) == (middle.unique().numel() == 1)
    assert words is None or words in explanation.checkerboard


def test_one_axis_alone_is_named_in_the_warning():
    explanation = ops.explain_conv2d_transpose(torch.ones(1, 3, 3, 1), torch.ones(4, 3, 1, 1), (1, 6, 6, 1), 2)
    assert "along the height the same number; along the width 2 and 1 in turn" in explanation.checkerboard


def test_the_text_tells_everything():
    text = classic().text((2, 1))
    assert text.startswith("Transposed convolution, 2 × 2 to 4 × 4: kernel 3, stride 2, padding SAME\n")
    assert "1. Flip the kernel\n   9  8  7\n   6  5  4\n   3  2  1\n" in text
    assert "2. Insert zeros, 3 × 3\n   1  ·  2\n   ·  ·  ·\n   3  ·  4\n" in text
    assert "   □ [□][1][·] 2  □\n" in text
    assert "   10 [14] 36  24\n" in text
    assert "Output at row 2, column 1: 1 · 8 + 3 · 2 = 14.\n" in text
    assert "Possible output sizes: 3 or 4\n" in text
    assert "not its inverse" in text
    assert str(classic()) == classic().text()


def test_the_size_of_the_output_shows_in_r_and_in_the_padding():
    for size, residual, pads in ((4, 0, (1, 1)), (5, 1, (1, 2))):
        shape = (1, size, size, 1)
        explanation = ops.explain_conv2d_transpose(torch.ones(1, 2, 2, 1), torch.ones(2, 2, 1, 1), shape, 2, "VALID")
        assert (explanation.residual, explanation.transposed_padding) == ((residual,) * 2, (pads,) * 2)
        assert ("■" in explanation.text()) == bool(residual)


def test_negative_padding_cuts_off():
    padding = [[0, 0], [2, 1], [2, 1], [0, 0]]
    explanation = ops.explain_conv2d_transpose(counting(1, 4, 4, 1), torch.ones(2, 2, 1, 1), (1, 2, 2, 1), 1, padding)
    assert explanation.transposed_padding == ((-1, 0), (-1, 0))
    assert "    ×   ×   ×   ×\n    ×   6   7   8\n" in explanation.text()


def test_every_frame_adds_up_to_its_sample():
    generator = torch.Generator().manual_seed(3)
    x, filters = (torch.randint(-9, 10, shape, generator=generator).float() for shape in ((1, 3, 2, 1), (3, 2, 1, 1)))
    explanation = ops.explain_conv2d_transpose(x, filters, (1, 6, 4, 1), 2, dilations=(1, 2))
    for (row, column), frame in zip(product(range(6), range(4)), explanation.story().frames, strict=True):
        window, kernel, products = (torch.tensor([[float(n) for n in line] for line in card.cells]) for card in frame.cards)
        assert torch.equal(window * kernel, products)
        assert products.sum() == explanation.output[0, row, column, 0]
        said = re.search(r"row (\d+), column (\d+): (.*)\.", frame.caption.replace("\u00a0", " "))
        assert (int(said[1]), int(said[2])) == (row, column)
        if "=" in said[3]:
            terms, total = said[3].rsplit(" = ", 1)
            assert eval(terms.replace("·", "*")) == float(total)
        assert frame.marks[-1] == (5, row, column, 1, 1)


def test_other_channels_add_up_in_words():
    explanation = ops.explain_conv2d_transpose(counting(2, 2, 2, 3), torch.ones(2, 2, 2, 3), (2, 4, 4, 2), 2)
    chosen = explanation.select(image=1, input_channel=2, output_channel=1)
    assert "15 · 1 = 15 from input channel 2; the other input channels add 27: 42." in chosen.text((0, 0))
    with pytest.raises(NoSuchUnit, match=r"input_channel is 3, but the explanation has 3 input channels\. Pass 0 to 2\."):
        explanation.select(input_channel=3)


def test_maxima_go_back_to_where_they_came_from():
    image = torch.stack([counting(4, 1).expand(4, 4) - 1, counting(4, 1).expand(4, 4) + 3], -1)[None]
    explanation = ops.explain_unpool_max(image, 2, 2, "SAME")
    assert explanation.argmax[0].tolist() == [[[8, 9], [12, 13]], [[24, 25], [28, 29]]]
    text = explanation.select(channel=1).text((1, 0))
    assert (
        "the largest of 6, 6, 7, 7 is 7, the first of 2 equal ones, at row 3, column 0: index (3 · 4 + 0) · 2 + 1 = 25." in text
    )
    assert "Unpooled, 4 × 4\n   ·  ·  ·  ·\n   5  ·  5  ·\n   ·  ·  ·  ·\n  [7] ·  7  ·\n" in text


def test_overlapping_maxima_are_said_to_add_up():
    image = counting(1, 3, 3, 1)
    text = ops.explain_unpool_max(image, 2, 1, "SAME").text()
    assert "Overlapping windows: values that reach the same sample add up" in text
    assert "overwrite each other" in ops.explain_unpool_max(image, 2, 1, "SAME", "overwrite").text()


def test_averages_are_copied_over_their_windows():
    text = ops.explain_unpool_avg(counting(1, 4, 4, 1), 3, 3, "SAME").text((0, 1))
    assert "Window at row 0, column 1: the average of 3, 4, 7, 8, without padding, is 5.5." in text
    assert "3.5   3.5 [ 5.5][ 5.5]\n" in text


EXPLANATIONS = {
    "transposed": classic,
    "dilated": lambda: classic(output_shape=(1, 4, 3, 1), dilations=2),
    "more padding": lambda: classic(output_shape=(1, 6, 5, 1), padding="VALID"),
    "maxima": lambda: ops.explain_unpool_max(counting(1, 5, 4, 2), 3, 2, "SAME"),
    "averages": lambda: ops.explain_unpool_avg(counting(1, 5, 4, 1), 2, 3, "SAME"),
    "one row": lambda: ops.explain_conv2d_transpose(counting(1, 1, 3, 1), counting(1, 3, 1, 1), (1, 1, 6, 1), (1, 2)),
}
every = pytest.mark.parametrize("name", EXPLANATIONS)


@pytest.mark.slow
@every
def test_it_saves_itself_in_every_form(name, tmp_path):
    explanation = EXPLANATIONS[name]()
    for suffix in (".png", ".svg", ".gif", ".html", ".txt"):
        explanation.save(tmp_path / f"steps{suffix}")
    assert (tmp_path / "steps.txt").read_text() == explanation.text() + "\n"
    with Image.open(tmp_path / "steps.gif") as animation, Image.open(tmp_path / "steps.png") as picture:
        rows, columns = explanation.grid
        assert animation.n_frames == rows * columns
        assert abs(picture.width - 2 * animation.width) <= 2
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
@every
def test_colours_tell_the_cells_apart(name):
    explanation = EXPLANATIONS[name]()
    colours = {"#{:02x}{:02x}{:02x}".format(*colour) for _, colour in explanation.picture().getcolors(2**24)}
    kinds = {kind for panel in explanation.story().panels for row in panel.kinds for kind in row}
    assert {KINDS[kind].day[0] for kind in kinds} <= colours
    fills = [(kind.day[0], kind.words) for kind in KINDS.values()]
    assert len({fill for fill, _ in fills if fill != "#ffffff"}) == len(KINDS) - 3


def test_the_window_that_was_asked_for_is_marked():
    explanation = classic()
    here, there = (explanation.picture(at).tobytes() for at in ((0, 0), (3, 3)))
    assert here != there
    assert explanation.picture((0, 0)).tobytes() == here


def test_a_page_holds_its_frames_as_data_and_in_words():
    page = classic().page((1, 2)).decode()
    frames = json.loads(re.search(r"const frames = (.*);\n", page)[1])
    assert len(frames) == 16
    assert [frame["caption"] for frame in frames] == [frame.caption for frame in classic().story().frames]
    assert 'value="6"' in page
    assert page.count('<li class="small">') == 16
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")


def test_long_numbers_of_a_later_step_are_written_smaller():
    image, kernel = torch.zeros(1, 2, 2, 1), torch.ones(2, 2, 1, 1)
    image[0, 1, 1, 0] = -12345.6
    page = ops.explain_conv2d_transpose(image, kernel, (1, 4, 4, 1), 2).page((0, 0)).decode()
    frames = json.loads(re.search(r"const frames = (.*);\n", page)[1])
    words = {word for frame in frames for card in frame["cards"] for word in card["words"]}
    assert {"-12346", "0"} <= words
    last = ops.explain_conv2d_transpose(image, kernel, (1, 4, 4, 1), 2).page((3, 3)).decode()
    sizes = {word: float(size) for size, word in re.findall(r'font-size="([\d.]+)" text-anchor="middle"[^>]*>([^<]+)<', last)}
    assert sizes["-12346"] < sizes["0"]


@pytest.mark.parametrize("lost", [torch.nan, torch.inf])
def test_what_is_not_finite_is_not_explained(lost):
    image = torch.full((1, 2, 2, 1), lost)
    for call in (
        lambda: ops.explain_conv2d_transpose(image, torch.ones(2, 2, 1, 1), (1, 4, 4, 1), 2),
        lambda: ops.explain_unpool_max(image, 2, 2, "SAME"),
        lambda: ops.explain_unpool_avg(image, 2, 2, "SAME"),
    ):
        with pytest.raises(NonFinite, match="input has NaN or infinite values"):
            call()


def test_it_is_short_in_a_shell_and_a_large_one_is_no_error_in_a_notebook():
    assert repr(classic()) == "<Explanation: Transposed convolution, 2 × 2 to 4 × 4: kernel 3, stride 2, padding SAME>"
    large = ops.explain_unpool_max(torch.ones(1, 100, 100, 1), 2, 2, "SAME")
    assert repr(large) == "<PoolExplanation: Max pooling and back: kernel 2, stride 2, padding SAME>"
    assert large._repr_html_() is None and large._repr_png_() is not None


@pytest.mark.parametrize(
    "duplicates, words",
    [("sum", "4 windows meet: 9 + 9 + 9 + 9 = 36"), ("overwrite", "4 windows meet: the last of 9, 9, 9, 9 stays")],
)
def test_windows_that_meet_are_said_to(duplicates, words):
    image = counting(3, 3).reshape(1, 3, 3, 1)
    image[0, 1, 1, 0], image[0, 2, 2, 0] = 9, 5
    text = ops.explain_unpool_max(image, 2, 1, "VALID", duplicates).text((0, 0))
    assert f"At row 1, column 1, {words}." in text


def test_averages_that_meet_are_said_to():
    text = ops.explain_unpool_avg(counting(1, 1, 3, 1), (1, 2), 1, "VALID", "mean").text((0, 0))
    assert "At row 0, column 1, 2 windows meet: the mean of 1.5, 2.5 is 2." in text


@pytest.mark.slow
def test_a_notebook_shows_the_page_and_else_the_picture():
    html = classic()._repr_html_()
    assert html.startswith("<iframe srcdoc=") and "&lt;svg" in html
    with Image.open(io.BytesIO(__import__("base64").b64decode(classic()._repr_png_()))) as picture:
        assert picture.size == classic().picture().size


@pytest.mark.parametrize(
    "act, error, words",
    [
        (
            lambda e, p: e.save(p / "steps.pdf"),
            ShapeError,
            r"steps\.pdf is not of a kind that can be written; pass NAME\.png, NAME\.svg",
        ),
        (lambda e, p: e.text((4, 0)), NoSuchUnit, r"at is \(4, 0\), but rows are 0 to 3 and columns 0 to 3"),
        (lambda e, p: e.picture((0, -1)), NoSuchUnit, r"at is \(0, -1\), but rows"),
    ],
)
def test_what_cannot_be_shown_is_refused(act, error, words, tmp_path):
    with pytest.raises(error, match=words):
        act(classic(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_too_many_frames_are_refused_but_each_is_drawn():
    explanation = ops.explain_conv2d_transpose(torch.ones(1, 30, 30, 1), torch.ones(3, 3, 1, 1), (1, 60, 60, 1), 2)
    assert explanation.output.shape == (1, 60, 60, 1)
    assert explanation.picture((59, 59)).width < 4000
    with pytest.raises(ShapeError, match="3600 frames are more than the 1600"):
        explanation.page()
    middling = ops.explain_conv2d_transpose(torch.ones(1, 15, 15, 1), torch.ones(3, 3, 1, 1), (1, 30, 30, 1), 2)
    with pytest.raises(ShapeError, match="900 frames are more than the 400"):
        middling.animation()


def test_an_empty_output_has_nothing_to_show():
    padding = [[0, 0], [2, 1], [0, 0], [0, 0]]
    explanation = ops.explain_conv2d_transpose(torch.ones(1, 3, 4, 1), torch.ones(1, 1, 1, 1), (1, 0, 4, 1), 1, padding)
    with pytest.raises(ShapeError, match="has no values"):
        explanation.text()


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason="Debian's chromium is not installed")
def test_the_slider_steps_through_the_page(tmp_path):
    from playwright.sync_api import sync_playwright

    explanation = classic()
    explanation.save(tmp_path / "steps.html", (0, 0))
    says = [frame.caption for frame in explanation.story().frames]
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        errors = []
        page.on("pageerror", lambda error: errors.append(error))
        page.goto((tmp_path / "steps.html").as_uri())
        assert page.locator("#caption").inner_text() == says[0]
        page.locator("#step").fill("9")
        assert page.locator("#caption").inner_text() == says[9]
        shown = page.locator(".cards text").all_text_contents()
        assert shown[:9] == [word for row in explanation.story().frames[9].cards[0].cells for word in row]
        assert page.locator("#number").inner_text() == "Step 10 of 16"
        page.locator("#step").press("ArrowRight")
        assert page.locator("#caption").inner_text() == says[10]
        x, y, width, height = (
            float(page.locator(".wide .marks rect").last.get_attribute(name)) for name in ("x", "y", "width", "height")
        )
        drawing = page.locator("#story > svg.wide")
        room = drawing.bounding_box()
        scale = min(room[side] / float(drawing.get_attribute(side)) for side in ("width", "height"))
        drawing.click(position={"x": scale * (x - width / 2), "y": scale * (y + height / 2)})
        assert page.locator("#caption").inner_text() == says[9]
        page.locator("#play").click()
        page.wait_for_function(f"document.getElementById('caption').textContent === {json.dumps(says[10])}")
        assert not errors
        plain = browser.new_context(java_script_enabled=False).new_page()
        plain.goto((tmp_path / "steps.html").as_uri())
        assert plain.locator("#caption").inner_text() == says[0]
        assert not plain.locator("#step").is_visible()
        browser.close()


def test_a_crop_may_be_longer_than_what_is_there():
    call = (torch.ones(1, 1, 1, 1), torch.ones(2, 1, 1, 1), (1, 1, 1, 1), (4, 1), [(3, 1), (0, 0)])
    explanation = ops.explain_conv2d_transpose(*call)
    assert torch.equal(explanation.output, ops.conv2d_transpose(*call))
    assert "crop 2 before, 3 after" in explanation.text()


def test_an_empty_batch_has_nothing_to_show():
    explanation = ops.explain_unpool_max(torch.zeros(0, 2, 2, 1), 2, 2, "SAME")
    assert explanation._repr_html_() is None
    with pytest.raises(ShapeError, match="has no values to show"):
        explanation.text()


def test_a_single_sample_makes_no_checkerboard():
    assert (
        ops.explain_conv2d_transpose(torch.ones(1, 1, 1, 1), torch.ones(3, 3, 1, 1), (1, 3, 3, 1), 2, "VALID").checkerboard
        is None
    )


def test_the_former_name_of_the_grid_works_and_warns():
    explanation = EXPLANATIONS[next(iter(EXPLANATIONS))]()
    with pytest.warns(DeprecationWarning, match="places is now called grid"):
        assert explanation.places == explanation.grid
